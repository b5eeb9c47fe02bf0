"""Run training in separate processes, for tests that kill them or need several.

A server process imports what is needed once, and every process is a fork of it.
"""

import multiprocessing
import os
import signal
import socket

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["scanpy_sct.train", "lightning_fabric", "sklearn.decomposition", "sklearn.metrics"])
TIMEOUT = 60


def run_in_processes(calls, n_processes=1, killed_at=None):
    """Call `pretrain` with the arguments ``calls`` in all processes; return the exit status of each process.

    ``killed_at`` is a step before which the operating system kills the process.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        CONTEXT.Process(target=_train, args=(calls, rank, n_processes, port, killed_at)) for rank in range(n_processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(TIMEOUT)
        process.kill()
        process.join()
    return [process.exitcode for process in processes]


def _train(calls, rank, n_processes, port, killed_at):
    import torch

    import scanpy_sct as sct

    sct.settings.progress = False
    torch.set_num_threads(1)
    if n_processes > 1:
        # As `torchrun` describes a process.
        names = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": n_processes, "MASTER_PORT": port}
        names |= {"LOCAL_WORLD_SIZE": n_processes, "MASTER_ADDR": "localhost", "TORCHELASTIC_RUN_ID": "test"}
        os.environ.update({name: str(value) for name, value in names.items()})
    if killed_at is not None:
        _kill_before(killed_at)
    for call in calls:
        sct.train.pretrain(**call)


def _kill_before(step):
    from scanpy_sct.train import loop

    real = loop.Pretraining._step

    def counted(self, bags, progress):
        if progress.step == step:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, bags, progress)

    loop.Pretraining._step = counted
