"""What the pickle machine's instructions do to descriptions: calls looked up in the list, containers filled, attributes given."""

from __future__ import annotations

from typing import Any

from niudao.errors import ReadError
from niudao.formats.pytorch.checkpoint import allowed
from niudao.formats.pytorch.checkpoint.described import Array, Dtype, Global, Instance, NumpyDtype, Storage, StorageKind, Tensor

_KEYS = (str, int, float, bool, bytes, type(None), Global, Dtype, Tensor, Instance)


def arguments(args: Any) -> tuple[Any, ...]:
    if not isinstance(args, tuple):
        raise ReadError("the pickle makes an object of arguments that are no tuple.")
    return args


def reduce(target: Any, args: Any) -> Any:
    """What a call would give: only names on the list, and whole classes of other libraries, are described."""
    if isinstance(target, Global):
        return allowed.build(target.name, arguments(args))
    if isinstance(target, StorageKind):
        raise ReadError("the pickle makes a storage by a call, which torch does not.")
    raise ReadError("the pickle calls something that is no function.", got=type(target).__name__)


def persistent(token: Any, storages: dict[str, Storage] | None) -> Any:
    """A storage, by torch's token ('storage', class, key, device, elements[, view])."""
    if storages is None:
        raise ReadError("the pickle speaks of storages where there are none.")
    if isinstance(token, tuple) and len(token) == 4 and token[0] == "module" and isinstance(token[1], Global):
        return token[1]  # the class of a whole module, with its source text beside it
    if not isinstance(token, tuple) or len(token) not in (5, 6) or token[0] != "storage":
        raise ReadError("the pickle speaks of something outside itself that is no storage.")
    _, kind, key, _, count, *rest = token
    view = rest[0] if rest else None
    if isinstance(key, int) and not isinstance(key, bool) and abs(key) < 1 << 64:
        key = str(key)
    if not isinstance(kind, StorageKind) or not isinstance(key, str) or type(count) is not int or not 0 <= count < 1 << 62:
        raise ReadError("the pickle speaks of a storage in a way that torch does not.")
    if view is not None:
        if not isinstance(view, tuple) or len(view) != 3 or not all(type(v) is int and 0 <= v < 1 << 62 for v in view[1:]):
            raise ReadError("the pickle speaks of a part of a storage in a way that torch does not.")
        view = (str(view[0])[:80], view[1], view[2])
    found = Storage(key, kind.dtype, count, view)
    first = storages.setdefault(key, found)
    if (first.dtype, first.count) != (kind.dtype, count):
        raise ReadError(f"the pickle gives storage {key[:40]!r} two types or sizes.")
    return first if first.view == view else found


def _is_key(key: Any) -> bool:
    """Keys that are cheap to hash: a tuple of tuples of tuples, each twice in the next, never ends."""
    if isinstance(key, tuple):
        return len(key) <= 64 and all(isinstance(k, _KEYS) for k in key)
    return isinstance(key, _KEYS)


def set_items(target: Any, items: list[Any]) -> None:
    if isinstance(target, Instance):
        target = target.items
    if not isinstance(target, dict) or len(items) % 2:
        raise ReadError("the pickle fills something that is no dictionary.")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not _is_key(key):
            raise ReadError("the pickle has a dictionary whose keys are no plain values.", got=type(key).__name__)
        target[key] = value


def append(target: Any, items: list[Any]) -> None:
    if isinstance(target, Instance):
        target = target.values
    if isinstance(target, list):
        target.extend(items)
    elif isinstance(target, set):
        if not all(_is_key(k) for k in items):
            raise ReadError("the pickle has a set of things that are no plain values.")
        target.update(items)
    else:
        raise ReadError("the pickle fills something that is no list.", got=type(target).__name__)


def build(target: Any, state: Any) -> None:
    """An object's attributes."""
    if isinstance(target, Instance):
        target.state = state
    elif isinstance(target, Array):
        _fill(target, state)
    elif isinstance(target, NumpyDtype):
        target.big_endian = isinstance(state, tuple) and len(state) > 1 and state[1] == ">"
    elif not isinstance(target, (dict, list, set, Tensor)):  # those keep what they hold; torch's `_metadata` is of no use to us
        raise ReadError("the pickle gives attributes to something that has none.", got=type(target).__name__)


def _fill(array: Array, state: Any) -> None:
    """numpy's own state: version, shape, type, order, bytes; older ones have no version."""
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise ReadError("the pickle holds a damaged numpy array.")
    shape, dtype, fortran, data = state[-4:]
    if not isinstance(dtype, NumpyDtype) or not isinstance(shape, tuple) or not all(type(d) is int and 0 <= d < 1 << 62 for d in shape):
        raise ReadError("the pickle holds a damaged numpy array.")
    if isinstance(data, str):
        data = data.encode("latin-1", "replace")
    if not isinstance(data, bytes):  # a list of objects, which is no array of numbers
        dtype, data = NumpyDtype("object"), b""
    array.shape, array.dtype, array.fortran, array.data = tuple(shape), dtype, bool(fortran), data
