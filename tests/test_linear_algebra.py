from __future__ import annotations

from threadpoolctl import threadpool_info, threadpool_limits

from scanpy_sct.linear_algebra import single_threaded_products


def numbers() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_products_use_one_thread_inside():
    for before in (2, 1):
        with threadpool_limits(before, user_api="blas"):
            with single_threaded_products():
                assert numbers() == {1}
                with single_threaded_products():
                    assert numbers() == {1}
                assert numbers() == {1}
            assert numbers() == {before}
