"""Read Paddle's .pdparams files, which are pickles, without executing their content.

A pickle names functions to be called, so `pickle.load` on an untrusted file runs arbitrary code. Here, the few names
that arrays need map to classes of this module, any other name is an error, and arrays are built from plain bytes at the
end. The file cannot even reach numpy.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

# numpy's type codes of weights: floats, integers and booleans.
NUMERIC = {
    f"{kind}{size}" for kind, sizes in {"f": "248", "i": "1248", "u": "1248", "b": "1"}.items() for size in sizes
}
BYTE_ORDERS = {"<": "<", ">": ">", "|": "|", "=": "="}


class UnsafePickle(Exception):
    """The file is not a dictionary of numeric arrays, or tries to call other code."""


def read_pdparams(path: Path) -> dict[str, Array]:
    """Return the file's arrays by name, in the file's order, without Paddle's other entries.

    Raises UnsafePickle, pickle.UnpicklingError, and any error that `pickle` raises for a damaged file.
    """
    with path.open("rb") as file:
        content = _Reader(file, encoding="latin1").load()
    if not isinstance(content, dict):
        raise UnsafePickle(f"it contains a {type(content).__name__}, not tensors by name")
    return dict(_arrays(content))


def _arrays(content: dict[Any, Any]) -> Iterator[tuple[str, Array]]:
    for name, value in content.items():
        if isinstance(value, tuple) and len(value) == 2:
            value = value[1]  # a tensor is saved as a pair of its name and its array
        if isinstance(value, _Array):
            yield str(name), value.array()


class _Dtype:
    """Replaces numpy.dtype while unpickling."""

    def __init__(self, code: str, *_: object) -> None:
        if code not in NUMERIC:
            raise UnsafePickle(f"it contains an array of type {code!r}, which is not numeric")
        self.code, self.order = code, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in BYTE_ORDERS:
            raise UnsafePickle(f"it contains an array of unknown byte order {state[1]!r}")
        self.order = BYTE_ORDERS[state[1]]


class _Array:
    """Replaces numpy.ndarray while unpickling."""

    def __init__(self, *_: object) -> None:
        self.state: tuple[Any, ...] = ()

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def array(self) -> Array:
        try:
            _, shape, dtype, by_columns, data = self.state
            if not isinstance(dtype, _Dtype):
                raise UnsafePickle("it contains an array without a type")
            flat = np.frombuffer(_as_bytes(data), dtype=np.dtype(dtype.order + dtype.code))
            return flat.reshape(shape, order="F" if by_columns else "C")
        except (TypeError, ValueError) as error:
            raise UnsafePickle(f"it contains an incomplete array ({error})") from None


def _as_bytes(data: object) -> bytes:
    """Return an array's data as bytes; the oldest pickle protocols store bytes as text."""
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise UnsafePickle(f"it contains an array of {type(data).__name__}")
    return bytes(data)


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, _encoding: str = "latin1") -> bytes:
    return _as_bytes(text)


# The only names that a file may use: those of arrays in numpy 1 and 2, and of Paddle's tensors.
KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "tuple"): tuple,
    ("__builtin__", "tuple"): tuple,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return KNOWN[module, name]
        except KeyError:
            raise UnsafePickle(f"it tries to call {module}.{name}") from None
