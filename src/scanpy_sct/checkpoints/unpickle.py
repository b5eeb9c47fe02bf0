"""Read arrays from a joblib file without unpickling it.

A pickle is a program, and running one from an unknown source can do anything. Here its instructions are only *read*
(:func:`pickletools.genops`) and turned into dictionaries, strings, numbers and arrays. Nothing that the file names is
imported or called: only names, instructions and types that describe plain arrays are accepted, all others raise an
error.
"""

from __future__ import annotations

import math
import pickletools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from os import PathLike

DTYPE = "numpy.dtype"
NDARRAY = "numpy.ndarray"
JOBLIB_ARRAY = "joblib.numpy_pickle.NumpyArrayWrapper"
JAX_ARRAY = "jax._src.array._reconstruct_array"
NUMPY_ARRAYS = ("numpy._core.multiarray._reconstruct", "numpy.core.multiarray._reconstruct")  # numpy 2, numpy 1
ALLOWED_NAMES = frozenset({DTYPE, NDARRAY, JOBLIB_ARRAY, JAX_ARRAY, *NUMPY_ARRAYS})
ALLOWED_TYPES = frozenset({"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "b1"})

COMPRESSED_STARTS = (b"x", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"]\x00\x00", b"\x04\x22\x4d\x18")
"""First bytes of files compressed by zlib, gzip, bzip2, xz, lzma and lz4."""
MARK = object()
IGNORED = frozenset({"PROTO", "FRAME"})
VALUES = frozenset(
    "SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8 "
    "BININT BININT1 BININT2 LONG1 BINFLOAT".split()
)
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": (), "MARK": MARK}
TUPLE_SIZES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def read_arrays(path: str | PathLike[str]) -> dict[str, dict[str, np.ndarray]]:
    """Read ``{module path: {array name: array}}`` from a file written by ``joblib.dump(..., compress=0)``.

    NumPy arrays and JAX arrays are supported, without JAX. The returned arrays have native byte order.

    Raises
    ------
    ValueError
        The file is compressed, damaged, or has anything but nested dictionaries of plain numeric arrays; the message
        names the first unsupported item.
    """
    try:
        with open(path, "rb") as file:
            content = _PickleReader(file).read()
        return _as_arrays(content)
    except ValueError as error:
        msg = f"Cannot read the arrays of {str(path)!r}: {error} Use another copy, from a source that you trust."
        raise ValueError(msg) from error
    except (LookupError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError) as error:
        msg = (
            f"Cannot read the arrays of {str(path)!r}: the file is damaged ({type(error).__name__}: {error}). Copy or "
            "download it again."
        )
        raise ValueError(msg) from error


@dataclass(frozen=True)
class _Name:
    """A name of :data:`ALLOWED_NAMES` in the file; it is never resolved to an object."""

    name: str


@dataclass
class _Type:
    """A number type, such as ``f4``; the byte order is set by a later instruction."""

    code: str
    byte_order: str = "|"

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.byte_order + self.code)


@dataclass
class _Array:
    """An array whose values are set by a later instruction."""

    kind: str
    values: np.ndarray | None = None


class _PickleReader:
    """Build the content of a pickle from its instructions, with the stack and memo of the pickle format."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.n_bytes = file.seek(0, 2)
        file.seek(0)

    def read(self) -> object:
        """Return the content of the pickle."""
        if self.file.read(8).startswith(COMPRESSED_STARTS):
            msg = (
                "it is compressed, which is not supported. If you trust its source, load it with joblib and save it "
                "with joblib.dump(..., compress=0)."
            )
            raise ValueError(msg)
        self.file.seek(0)
        # genops reads one instruction at a time, so that joblib's raw array bytes between two instructions can be
        # read in between.
        for opcode, argument, _ in pickletools.genops(self.file):
            self._follow(opcode.name, argument)
        return self.stack.pop()

    def _follow(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in IGNORED:
            return
        if opcode in VALUES:
            stack.append(argument)
        elif opcode in CONSTANTS:
            stack.append(CONSTANTS[opcode])
        elif opcode in TUPLE_SIZES:
            stack.append(tuple(self._pop(TUPLE_SIZES[opcode])))
        else:
            self._follow_structure(opcode, argument)

    def _follow_structure(self, opcode: str, argument: Any) -> None:
        stack, memo = self.stack, self.memo
        match opcode:
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "SETITEM":
                self._set_items(self._pop(2))
            case "SETITEMS":
                self._set_items(self._pop_to_mark())
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_admit(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                stack.append(_admit(".".join(self._pop(2))))
            case "REDUCE" | "NEWOBJ":
                stack.append(_start_object(*self._pop(2)))
            case "BUILD":
                state = stack.pop()
                self._finish_object(stack[-1], state)
            case "STOP":
                pass
            case _:
                msg = f"it has the pickle instruction {opcode}, which plain arrays do not need."
                raise ValueError(msg)

    def _pop(self, n: int) -> list[Any]:
        if len(self.stack) < n:
            msg = "the pickle is damaged."
            raise ValueError(msg)
        items = self.stack[-n:]
        del self.stack[-n:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        start = len(self.stack) - 1
        while self.stack[start] is not MARK:
            start -= 1
        return self._pop(len(self.stack) - start)[1:]

    def _set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            msg = "it sets items of an object that is not a dictionary."
            raise ValueError(msg)
        # Nothing else is needed, and tuples within tuples could take for ever to hash.
        if not all(isinstance(name, str) for name in items[::2]):
            msg = "it must have the structure {module path: {array name: array}}."
            raise ValueError(msg)
        target.update(zip(items[::2], items[1::2], strict=True))

    def _finish_object(self, started: object, state: Any) -> None:
        if isinstance(started, _Type):
            started.byte_order = _plain_byte_order(state)
        elif isinstance(started, _Array) and started.values is None:
            started.values = self._values_behind(state) if started.kind == JOBLIB_ARRAY else _values_inside(state)
        else:
            msg = "it changes an object after creating it."
            raise ValueError(msg)

    def _values_behind(self, state: dict[str, Any]) -> np.ndarray:
        """Read the raw bytes that joblib writes after the description ``state`` of an array."""
        _check_plain(state["subclass"], NDARRAY)
        if state.get("numpy_array_alignment_bytes") is not None:
            self.file.seek(self.file.read(1)[0], 1)  # one byte says how many padding bytes follow
        dtype, shape = state["dtype"].dtype, _plain_shape(state["shape"])
        n_values = math.prod(shape)
        if n_values * dtype.itemsize > self.n_bytes - self.file.tell():
            msg = f"it ends within an array of shape {shape}; the file is incomplete."
            raise ValueError(msg)
        values = np.fromfile(self.file, dtype=dtype, count=n_values)
        return _in_order(values, shape, fortran=state["order"] == "F")


def _admit(name: str) -> _Name:
    if name not in ALLOWED_NAMES:
        msg = f"it names {name[:80]!r}, which plain arrays do not need; nothing was run."
        raise ValueError(msg)
    return _Name(name)


def _check_plain(name: object, expected: str) -> None:
    if name != _Name(expected):
        msg = f"it uses another object instead of {expected!r}."
        raise ValueError(msg)


def _start_object(name: object, arguments: tuple[Any, ...]) -> _Type | _Array:
    """Return a description of what unpickling would create by calling ``name``; nothing is called."""
    called = name.name if isinstance(name, _Name) else "an object that is not a name"
    if called == DTYPE:
        code = arguments[0]
        if not isinstance(code, str) or code not in ALLOWED_TYPES:
            found = repr(code) if isinstance(code, str) else "of a custom type"
            msg = f"it has an array with {DTYPE} {found}; only plain numbers are supported."
            raise ValueError(msg)
        return _Type(code)
    if called == JOBLIB_ARRAY:
        return _Array(called)
    if called in NUMPY_ARRAYS:
        _check_plain(arguments[0], NDARRAY)
        return _Array(called)
    if called == JAX_ARRAY:
        # JAX stores how to rebuild the numpy array, its state, and JAX types, which are not needed.
        rebuild, rebuild_arguments, state, _ = arguments
        array = _start_object(rebuild, rebuild_arguments)
        array.values = _values_inside(state)
        return array
    msg = f"it calls {called}; nothing was run."
    raise ValueError(msg)


def _plain_byte_order(state: tuple[Any, ...]) -> str:
    """Return the byte order in the state of a dtype; fields, shapes and metadata raise an error."""
    byte_order = state[1]
    if tuple(state[2:]) != (None, None, None, -1, -1, 0) or byte_order not in ("<", ">", "|", "="):
        msg = f"it has a {DTYPE} with fields or metadata; only plain numbers are supported."
        raise ValueError(msg)
    return byte_order


def _plain_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(shape, tuple) or not all(type(size) is int and size >= 0 for size in shape):
        msg = "it has an array whose shape is not a tuple of sizes; the file is damaged."
        raise ValueError(msg)
    return shape


def _values_inside(state: tuple[Any, ...]) -> np.ndarray:
    """Return the array of a numpy state: (version, shape, dtype, Fortran order, raw bytes)."""
    _, shape, stored_type, fortran, raw = state
    values = np.frombuffer(raw, dtype=stored_type.dtype).copy()  # a copy is writeable, the bytes are not
    return _in_order(values, _plain_shape(shape), fortran=bool(fortran))


def _in_order(values: np.ndarray, shape: tuple[int, ...], *, fortran: bool) -> np.ndarray:
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _as_arrays(content: object) -> dict[str, dict[str, np.ndarray]]:
    """Check that ``content`` is a dictionary of dictionaries of complete arrays, and unwrap these."""
    modules = content if isinstance(content, dict) else {}
    pairs = [(module, name, array) for module, arrays in modules.items() for name, array in dict(arrays).items()]
    if not pairs or not all(
        isinstance(module, str) and isinstance(name, str) and isinstance(array, _Array) and array.values is not None
        for module, name, array in pairs
    ):
        msg = "it must have the structure {module path: {array name: array}}."
        raise ValueError(msg)
    return {module: {name: array.values for name, array in arrays.items()} for module, arrays in modules.items()}
