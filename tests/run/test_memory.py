from __future__ import annotations

import sys

import pytest

from scanpy_sct.run import memory


def test_memory_can_be_released_on_every_system(monkeypatch):
    memory.release_memory()
    called = []
    monkeypatch.setattr(memory, "_trim", lambda: called.append)
    memory.release_memory()
    assert called == [0]
    monkeypatch.setattr(memory, "_trim", lambda: None)
    memory.release_memory()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library of Linux")
def test_the_function_of_the_c_library_is_found():
    assert memory._trim() is None or memory._trim()(0) in (0, 1)
