"""Not a test: trains as it is told, for tests that need a process of its own, or several."""

import os
import pickle
from pathlib import Path

import scanpy_sct as sct

if __name__ == "__main__":
    sct.settings.progress = False
    call = pickle.loads(Path(os.environ["SCANPY_SCT_TEST_CALL"]).read_bytes())
    sct.train.pretrain(
        call["files"], call["config"], call["output"], vocabulary=call["genes"], device="cpu", **call["options"]
    )
