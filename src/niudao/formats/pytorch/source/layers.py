"""How an `nn.Module` of a network is written: its class and the arguments that make one like it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

OURS = "niudao.formats.pytorch.modules."
_NEVER = ("device", "dtype", "generator", "_weight", "_freeze")
_MISSING = object()


class CannotWrite(Exception):
    """A layer or call that has no faithful spelling; the message says why."""


@dataclass(frozen=True)
class Argument:
    """One argument of a constructor: its name, its value, the default (or `inspect.Parameter.empty`), whether it is the first."""

    name: str
    value: Any
    default: Any
    first: bool

    @property
    def required(self) -> bool:
        """Whether the constructor has no default for it."""
        return self.default is inspect.Parameter.empty


def arguments(module: nn.Module) -> tuple[Argument, ...]:
    """Every argument of the constructor of `module`, read back from its attributes and proved by making a twin.

    Raises:
        CannotWrite: The class is neither torch's nor a layer of ours, or the twin differs.
    """
    cls = type(module)
    theirs = cls.__module__.startswith("torch.nn.modules.")
    if not theirs and not cls.__module__.startswith(OURS):
        raise CannotWrite(f"its class {cls.__qualname__} is neither of torch.nn nor a layer of niudao")
    found: list[Argument] = []
    for parameter in _parameters(cls):
        if parameter.name in _NEVER or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        value = getattr(module, parameter.name, _MISSING)
        if value is _MISSING:
            continue
        if parameter.name == "bias" and (value is None or isinstance(value, torch.Tensor)):
            value = value is not None
        elif isinstance(value, torch.Tensor | nn.Module):
            continue
        if isinstance(value, torch.Size | list):
            value = tuple(value)
        default = parameter.default
        if theirs and isinstance(value, tuple) and value and all(v == value[0] for v in value) and not isinstance(default, tuple):
            value = value[0]
        if default is None and parameter.name == "stride":
            default = getattr(module, "kernel_size", None)
            default = default[0] if isinstance(default, tuple) and len(set(default)) == 1 else default
        found.append(Argument(parameter.name, value, default, not found))
    kind = next((t.dtype for t in module.parameters() if t.is_floating_point()), torch.float32)
    if kind != torch.float32:
        if "dtype" not in inspect.signature(cls).parameters:
            raise CannotWrite(f"{cls.__name__} takes no dtype, and its weights are {kind}")
        found.append(Argument("dtype", kind, None, False))
    _prove(module, found)
    return tuple(found)


def _parameters(cls: type[nn.Module]) -> list[inspect.Parameter]:
    """The arguments of a constructor; recurrent layers hand theirs on to the class they share."""
    own = list(inspect.signature(cls).parameters.values())
    if not issubclass(cls, nn.RNNBase) or all(p.kind is not p.VAR_POSITIONAL for p in own):
        return own
    unknown = ("mode",) if issubclass(cls, nn.LSTM) else ("mode", "proj_size")
    shared = [p for p in inspect.signature(nn.RNNBase).parameters.values() if p.name not in unknown]
    if issubclass(cls, nn.RNN):
        shared.append(inspect.Parameter("nonlinearity", inspect.Parameter.KEYWORD_ONLY, default="tanh"))
    return shared


def _prove(module: nn.Module, found: list[Argument]) -> None:
    cls = type(module)
    try:
        with torch.device("meta"):
            twin = cls(**{a.name: a.value for a in found})
    except Exception as error:
        raise CannotWrite(f"no {cls.__name__} can be made from its attributes ({error})") from None
    for key, value in vars(module).items():
        if key.startswith("_") or key == "training":
            continue
        other = vars(twin).get(key, _MISSING)
        if isinstance(value, nn.Module | torch.Tensor) or _plain(value) == _plain(other):
            continue
        raise CannotWrite(f"the attribute {key} of {cls.__name__} is {value!r}, which its constructor does not give")
    mine = {k: (tuple(t.shape), t.dtype) for k, t in module.state_dict().items()}
    its = {k: (tuple(t.shape), t.dtype) for k, t in twin.state_dict().items()}
    if mine != its:
        different = sorted(k for k in mine.keys() | its.keys() if mine.get(k) != its.get(k))
        raise CannotWrite(f"the weights {', '.join(different)} of {cls.__name__} are not those that its constructor gives")


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        value = tuple(value)
        return value[0] if value and all(v == value[0] for v in value) else value
    return value
