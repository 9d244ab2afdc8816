"""From what a file holds to a state dict: the wrapper opened, the prefix taken off, whole modules walked, shared tensors found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from niudao.errors import LimitError, ReadError, Where
from niudao.formats.pytorch.checkpoint.described import Array, Instance, Tensor, kind_of
from niudao.formats.pytorch.checkpoint.tensors import StoredTensor

WRAPPERS = (
    "state_dict state_dict_ema model_state_dict model_state model ema_state_dict ema model_ema net network net_state_dict module "
    "params params_ema weights backbone encoder generator netG teacher student"
).split()
"""Where training programs put the network, the likeliest first."""
PREFIXES = ("module.", "_orig_mod.", "model.")
_NOT_THE_NETWORK = ("optim", "sched", "scaler", "loss", "hist", "meter", "rng")
_AVERAGED = "n_averaged"
_LEVELS = 5
_DEPTH, _NAMES = 100, 200_000


@dataclass(frozen=True)
class State:
    """What was found.

    Attributes:
        tensors: Name -> description, in the file's order, prefixes taken off.
        wrapper: The key under which they lay, "" if none; dots between several.
        prefix: What was taken off every name.
        others: What else the file holds, for people.
        classes: Classes of a whole pickled module.
    """

    tensors: dict[str, Tensor | Array]
    wrapper: str
    prefix: str
    others: tuple[str, ...]
    classes: tuple[str, ...]


def find_state(value: Any, where: Where) -> State:
    """The state dict in whatever was saved.

    Args:
        value: What the pickle is described as.
        where: The file, for messages.

    Raises:
        ReadError: There are no tensors in it.
        LimitError: Modules are nested without end.
    """
    found = _candidates(value, where)
    if not found:
        if isinstance(value, dict) and not value:
            return State({}, "", "", (), ())
        raise ReadError(
            "the file holds no network's weights.",
            where=where,
            expected="a dictionary of tensors, as state_dict() gives it",
            got=kind_of(value),
        )
    wrapper, tensors, classes = max(found, key=lambda f: (_likely(f[0]), len(f[1]), -_rank(f[0])))
    beside = {n: f"{n}: {len(t)} tensors as well" for n, t, _ in found if n != wrapper}
    others = tuple(o for o in _others(value, wrapper) if o.partition(":")[0] not in beside) + tuple(beside.values())
    prefix = ""
    if len(tensors) > 1 and all(k == _AVERAGED or k.startswith("module.") for k in tensors):  # of torch.optim.swa_utils.AveragedModel
        tensors.pop(_AVERAGED, None)
    while taken := next((p for p in PREFIXES if tensors and all(k.startswith(p) and k != p for k in tensors)), ""):
        prefix += taken
        tensors = {k.removeprefix(taken): v for k, v in tensors.items()}
    return State(tensors, wrapper, prefix, others[:40], classes)


def _likely(wrapper: str) -> bool:
    return not any(word in wrapper.lower() for word in _NOT_THE_NETWORK)


def _rank(wrapper: str) -> int:
    """Of equal ones the likeliest name, none at all before any."""
    last = wrapper.rsplit(".", 1)[-1]
    return WRAPPERS.index(last) + 1 if last in WRAPPERS else 0 if not wrapper else len(WRAPPERS) + 1


def _candidates(value: Any, where: Where) -> list[tuple[str, dict[str, Tensor | Array], tuple[str, ...]]]:
    """Every dictionary of tensors and every whole module, five levels down: its path, tensors and classes."""
    found: list[tuple[str, dict[str, Tensor | Array], tuple[str, ...]]] = []
    level: list[tuple[str, Any]] = [("", value)]
    seen: set[int] = set()
    for _ in range(_LEVELS):
        below: list[tuple[str, Any]] = []
        for path, each in level:
            if id(each) in seen or len(found) > 1000:
                continue
            seen.add(id(each))
            if isinstance(each, Instance) and is_module(each):
                tensors, classes = module_state(each, where)
                if tensors:
                    found.append((path, tensors, classes))
                continue
            mapping = as_mapping(each)
            if "param_groups" in mapping and "state" in mapping:  # an optimizer, whatever it is called
                continue
            tensors = {k: v for k, v in mapping.items() if isinstance(k, str) and isinstance(v, (Tensor, Array))}
            tensors = {k: v for k, v in tensors.items() if not (isinstance(v, Array) and (v.shape == () or v.dtype.name == "object"))}
            if tensors:
                found.append((path, tensors, ()))
            within = enumerate(each[:100]) if isinstance(each, (list, tuple)) else mapping.items()
            below += [(f"{path}.{k}" if path else str(k), v) for k, v in within if _step(k)]
        level = [(p, v) for p, v in below if isinstance(v, (dict, list, tuple, Instance))]
    return found


def as_mapping(value: Any) -> Mapping[Any, Any]:
    """The items of a dictionary, of an instance of a dictionary's subclass, or the attributes of another object."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Instance):
        return value.items or (value.state if isinstance(value.state, dict) else {})
    return {}


def is_module(value: Instance) -> bool:
    """Whether an object is a `torch.nn.Module`."""
    return isinstance(value.state, dict) and isinstance(value.state.get("_modules"), dict) and "_parameters" in value.state


def module_state(root: Instance, where: Where) -> tuple[dict[str, Tensor | Array], tuple[str, ...]]:
    """What `state_dict()` of a pickled module would give, and the classes of its modules.

    Raises:
        LimitError: Modules are nested without end.
    """
    tensors: dict[str, Tensor | Array] = {}
    classes: dict[str, None] = {}
    visited = 0

    def visit(module: Instance, prefix: str, depth: int) -> None:
        nonlocal visited
        visited += 1
        if max(depth, len(prefix) >> 6) > _DEPTH or max(visited, len(tensors)) > _NAMES:
            raise LimitError("the modules of the file are nested too deeply or are too many.", where=where)
        classes[module.name] = None
        state = module.state
        left_out = state.get("_non_persistent_buffers_set")
        for key in ("_parameters", "_buffers"):
            held = state.get(key)
            for name, value in held.items() if isinstance(held, dict) else ():
                if (
                    isinstance(value, (Tensor, Array))
                    and _short(name)
                    and not (key == "_buffers" and isinstance(left_out, set) and name in left_out)
                ):
                    tensors[f"{prefix}{name}"] = value
        for name, inner in state["_modules"].items():
            if isinstance(inner, Instance) and is_module(inner) and _short(name):
                visit(inner, f"{prefix}{name}.", depth + 1)

    visit(root, "", 0)
    return tensors, tuple(classes)


def _step(key: Any) -> bool:
    """Whether what lies under a key is looked into: numbers are places in a list."""
    return (isinstance(key, str) and len(key) < 200) or (type(key) is int and 0 <= key < 1000)


def _short(name: Any) -> bool:
    return isinstance(name, str) and len(name) <= 1000


def _others(value: Any, wrapper: str) -> tuple[str, ...]:
    """What lies beside the state dict, in a few words each; small plain values are told."""
    first = wrapper.split(".", 1)[0]
    told: list[str] = []
    for key, each in list(as_mapping(value).items())[:200] if wrapper or not isinstance(value, Instance) else ():
        if (wrapper and str(key) == first) or isinstance(each, (Tensor, Array)):
            continue
        plain = isinstance(each, (int, float, bool)) or (isinstance(each, str) and len(each) <= 60)
        small = plain and not (isinstance(each, int) and abs(each) >= 1 << 63)
        name = str(key)[:60] if isinstance(key, (str, int)) else kind_of(key)[:60]
        told.append(f"{name}: {each!r}" if small else f"{name}: {kind_of(each)[:80]}")
    return tuple(told)


def bind_all(tensors: Mapping[str, Tensor | Array], bind: Callable[[Tensor | Array, str], StoredTensor]) -> dict[str, StoredTensor]:
    """Every tensor with its bytes found."""
    return {name: bind(tensor, name[:80]) for name, tensor in tensors.items()}


def aliases(tensors: Mapping[str, StoredTensor]) -> dict[str, str]:
    """Name -> the first name of the same elements: tied weights."""
    first: dict[tuple[object, ...], str] = {}
    found: dict[str, str] = {}
    for name, tensor in tensors.items():
        if tensor.size == 0:
            continue
        other = first.setdefault(tensor.place, name)
        if other != name:
            found[name] = other
    return found
