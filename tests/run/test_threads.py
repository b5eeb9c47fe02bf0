from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from scanpy_sct.run.threads import in_threads


@pytest.fixture
def two_threads():
    """Let torch and NumPy use two threads, as on a machine with two cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with threadpool_limits(2, user_api="blas"):
        yield
    torch.set_num_threads(before)


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


@pytest.mark.parametrize("n_threads", [1, 3])
def test_results_come_in_the_order_of_the_items(n_threads):
    def late(number: int) -> int:
        time.sleep(0.002 * (5 - number % 5))
        return number**2

    assert list(in_threads(late, range(20), n_threads)) == [number**2 for number in range(20)]


def test_items_are_computed_at_the_same_time():
    both = threading.Barrier(2, timeout=5)
    list(in_threads(lambda _: both.wait(), range(2), 2))  # the barrier breaks if one waits for the other


def test_operations_inside_use_one_thread_and_others_as_many_as_before(two_threads):
    inside = list(in_threads(lambda _: (torch.get_num_threads(), blas_threads()), range(4)))
    assert all(found == (1, {1}) for found in inside)
    assert torch.get_num_threads() == 2
    assert blas_threads() == {2}
    seen = []
    other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert seen == [2]


def test_threads_are_as_before_after_an_error(two_threads):
    def fail(number: int) -> None:
        if number == 3:
            msg = "broken"
            raise KeyError(msg)

    with pytest.raises(KeyError, match="broken"):
        list(in_threads(fail, range(100)))
    assert torch.get_num_threads() == 2
    assert blas_threads() == {2}


def test_few_items_are_ahead_of_the_caller():
    taken = []

    def items():
        for number in range(50):
            taken.append(number)
            yield number

    found = in_threads(lambda number: number, items(), 2)
    assert next(found) == 0
    assert len(taken) <= 4
    found.close()
    assert len(taken) <= 4


def test_results_do_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(6, 50, 300)).astype(np.float32)
    one, two = (list(in_threads(lambda part: part @ part.T, parts, n_threads)) for n_threads in (1, 2))
    np.testing.assert_array_equal(one, two)
