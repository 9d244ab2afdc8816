"""What a pickle of torch speaks of, described: nothing here can be called, and nothing was made by calling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, eq=False)
class Global:
    """A class or function that the pickle names and that nobody looked up: `torch.nn.modules.conv.Conv2d`."""

    name: str


@dataclass(frozen=True)
class Dtype:
    """An element type of torch: a numpy name, or one of torch's own ("bfloat16", "qint8")."""

    name: str


@dataclass(eq=False)
class NumpyDtype:
    """An element type of numpy; its state, which follows it, says the order of its bytes."""

    name: str
    big_endian: bool = False


@dataclass(frozen=True)
class StorageKind:
    """A storage class such as `torch.FloatStorage`; `dtype` is "" for bytes whose type the tensor says."""

    dtype: str


@dataclass(frozen=True, eq=False)
class Storage:
    """A run of elements that lies outside the pickle.

    Attributes:
        key: Its name in the container.
        dtype: Type of the elements; "" where it is bytes.
        count: Elements (bytes, if `dtype` is "").
        view: In old files: key of the storage that holds it, first element, number of elements.
    """

    key: str
    dtype: str
    count: int
    view: tuple[str, int, int] | None = None


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor: where it lies in its storage, in elements.

    Attributes:
        dtype: Type of the elements, or "" for the storage's own.
        trainable: Whether it was a parameter.
        quantized: How its integers stand for numbers, in words; "" where they are the numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str = ""
    trainable: bool = False
    quantized: str = ""


@dataclass(eq=False)
class Array:
    """A numpy array or scalar whose bytes lie in the pickle itself; filled in by its state."""

    shape: tuple[int, ...] = (0,)
    dtype: NumpyDtype = field(default_factory=lambda: NumpyDtype("uint8"))
    data: bytes = b""
    fortran: bool = False


@dataclass(eq=False)
class Instance:
    """An object of a class that was not imported.

    Attributes:
        name: The class's full name.
        args: What it was made from.
        state: Its attributes, if it has any; most often a dictionary.
        items: What it holds, if it is a dictionary; `values` if it is a list.
    """

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)
    values: list[Any] = field(default_factory=list)


def kind_of(value: Any) -> str:
    """A description's class in the words of the file, for people."""
    if isinstance(value, (Instance, Global)):
        return value.name
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return f"{type(value).__name__} of {len(value)}"
    return {"Tensor": "tensor", "Array": "numpy array", "NoneType": "None"}.get(type(value).__name__, type(value).__name__)
