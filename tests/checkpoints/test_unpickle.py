"""Only arrays are read from a pickle, and nothing in it is run."""

from __future__ import annotations

import os
import pickle
import sys

import joblib
import numpy as np
import pytest

from scanpy_sct.checkpoints.unpickle import read_arrays


class Calls:
    """Pickles as the call ``function(*arguments)``."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def dump(content, path, **options):
    joblib.dump(content, path, **options)
    return path


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for module, arrays in expected.items():
        assert found[module].keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[module][name], array, strict=True)


@pytest.mark.parametrize("case", ["a_basic", "c_noskip_head2", "f_spatial_scales"])
def test_joblib_arrays_are_those_of_joblib(golden_dir, case):
    path = golden_dir / case / "params.joblib"
    assert_same(read_arrays(path), joblib.load(path))


def test_jax_arrays_need_no_jax(golden_dir, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax", None)  # importing it would fail
    case = golden_dir / "f_spatial_scales"
    assert_same(read_arrays(case / "jax_arrays" / "jax_params.joblib"), read_arrays(case / "params.joblib"))


@pytest.mark.parametrize("case", ["a_basic", "c_noskip_head2"])
def test_jax_arrays_of_larger_cases(reference_dir, case):
    case = reference_dir / "golden" / case
    assert_same(read_arrays(case / "jax_arrays" / "jax_params.joblib"), read_arrays(case / "params.joblib"))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_all_orders_shapes_and_types(tmp_path, protocol):
    arrays = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "scalar": np.array(3.0, dtype=np.float32),
        "empty": np.zeros((0, 3), dtype=np.float16),
        "integers": np.arange(7, dtype=np.int64),
        "booleans": np.array([True, False]),
        "same name": np.arange(3, dtype=np.uint8),
    }
    content = {"first": arrays, "second": {"fortran": np.ones(2)}}
    found = read_arrays(dump(content, tmp_path / "x", protocol=protocol))
    assert_same(found, content)
    assert all(array.flags.writeable for array in found["first"].values())


def test_foreign_byte_order_becomes_native(tmp_path):
    found = read_arrays(dump({"m": {"w": np.arange(4, dtype=">f4")}}, tmp_path / "x"))["m"]["w"]
    np.testing.assert_array_equal(found, np.arange(4, dtype=np.float32), strict=True)


@pytest.mark.parametrize("compress", [3, ("gzip", 3), ("bz2", 3), ("xz", 1), ("lzma", 1)])
def test_compressed_files_are_refused_with_a_fix(tmp_path, compress):
    path = dump({"m": {"w": np.ones(3)}}, tmp_path / "x", compress=compress)
    with pytest.raises(ValueError, match=r"compressed.*compress=0"):
        read_arrays(path)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda marker: Calls(os.system, f"touch {marker}"), rf"{os.name}\.system"),
        (lambda marker: Calls(eval, f"open({str(marker)!r}, 'w')"), r"(builtins|__builtin__)\.eval"),
        (lambda marker: Calls(open, str(marker), "w"), r"\w+\.open"),
        (lambda marker: Calls(np.save, str(marker), 1), r"numpy\.save"),
        (lambda marker: Calls(np.memmap, str(marker), "f4", "w+", 0, 4), r"numpy\.memmap"),
        (lambda marker: Calls(np.dtype, [("x", "O")]), "instruction"),
        (lambda marker: Calls(joblib.load, str(marker)), r"joblib\.numpy_pickle\.load"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {"m": x}, lambda x: {"m": {"w": x, "v": np.ones(2)}}])
def test_malicious_pickles_are_refused_and_not_run(tmp_path, call, name, protocol, wrap):
    marker = tmp_path / "marker"
    path = dump(wrap(call(marker)), tmp_path / "x", protocol=protocol)
    with pytest.raises(ValueError, match=name):
        read_arrays(path)
    assert not marker.exists()


def test_a_name_is_refused_even_if_nothing_calls_it(tmp_path):
    with pytest.raises(ValueError, match=r"names '\w+\.system'"):
        read_arrays(dump({"m": {"w": os.system}}, tmp_path / "x"))


@pytest.mark.parametrize("protocol", [0, 1])
def test_old_protocols_are_refused_too(tmp_path, protocol):
    marker = tmp_path / "marker"
    path = dump({"m": Calls(os.system, f"touch {marker}")}, tmp_path / "x", protocol=protocol)
    with pytest.raises(ValueError, match=r"system|instruction"):
        read_arrays(path)
    assert not marker.exists()


def test_object_arrays_are_refused(tmp_path):
    marker = tmp_path / "marker"
    array = np.array([Calls(os.system, f"touch {marker}")], dtype=object)
    for content in ({"m": {"w": array}}, {"m": {"w": Calls(pickle.loads, pickle.dumps(array))}}):
        with pytest.raises(ValueError, match=r"numpy\.dtype 'O8'|_pickle\.loads"):
            read_arrays(dump(content, tmp_path / "x"))
    assert not marker.exists()


@pytest.mark.parametrize("dtype", ["U3", "S3", "M8[s]", "f4,i4", "c8"])
def test_other_types_are_refused(tmp_path, dtype):
    with pytest.raises(ValueError, match=r"numpy\.dtype"):
        read_arrays(dump({"m": {"w": np.zeros(2, dtype=dtype)}}, tmp_path / "x"))


def test_forged_dtype_state_is_refused(tmp_path):
    """A type that claims to be plain but carries fields would let a file choose memory addresses."""
    path = dump({"m": {"w": np.zeros(2, dtype="f4")}}, tmp_path / "x")
    raw = path.read_bytes()
    plain, forged = b"NNNJ\xff\xff\xff\xff", b"N\x88NJ\xff\xff\xff\xff"
    assert raw.count(plain) == 1
    path.write_bytes(raw.replace(plain, forged))
    with pytest.raises(ValueError, match="fields"):
        read_arrays(path)


@pytest.mark.parametrize(
    "content",
    [{}, [1, 2], {"m": np.ones(3)}, {"m": {"w": 1.0}}, {"m": {1: np.ones(3)}}, {1: {"w": np.ones(3)}}, "text"],
)
def test_anything_but_arrays_by_name_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="Cannot read the arrays"):
        read_arrays(dump(content, tmp_path / "x"))


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, fraction):
    path = dump({"m": {"w": np.ones((50, 20)), "b": np.ones(30)}, "n": {"w": np.ones(9)}}, tmp_path / "x")
    raw = path.read_bytes()
    path.write_bytes(raw[: int(fraction * len(raw))])
    with pytest.raises(ValueError, match="Cannot read the arrays"):
        read_arrays(path)


def test_a_huge_claimed_shape_takes_no_memory(tmp_path):
    path = dump({"m": {"w": np.zeros(77, dtype="f4")}}, tmp_path / "x")
    raw = path.read_bytes()
    assert raw.count(b"KM\x85") == 1  # the shape (77,)
    path.write_bytes(raw.replace(b"KM\x85", b"\x8a\x06" + (2**44).to_bytes(6, "little") + b"\x85"))
    with pytest.raises(ValueError, match="incomplete"):
        read_arrays(path)


def test_damage_anywhere_gives_a_value_error_or_other_numbers(tmp_path):
    path = dump({"m": {"w": np.ones(4, dtype="f4")}, "n": {"w": np.ones(3)}}, tmp_path / "x")
    raw = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for position in range(len(raw)):
        damaged = raw.copy()
        damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            read_arrays(path)
        except ValueError:
            continue
