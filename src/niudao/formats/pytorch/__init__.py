"""PyTorch: any network as an `nn.Module`, and everything that torch writes as a network.

read.py         .pt2, TorchScript, state dicts, live modules -> model
write.py        .pt2, and readable source with its .safetensors
native.py       run what was written in torch itself
architecture.py the network that a state dict belongs to: of the zoo, or of the user's own file
checkpoint/     what lies in torch's files, described; nothing is unpickled and torch is not imported
program/        .pt2, live modules and TorchScript as one kind of program
aten/           a program as a model: the table of torch's operators
modules/        a model as an `nn.Module`: the table of ONNX's operators
source/         such a module as text that a person would have written
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["from_module", "read_module", "to_module"]

if TYPE_CHECKING:
    from niudao.formats.pytorch.modules import from_module as from_module
    from niudao.formats.pytorch.modules import to_module as to_module
    from niudao.formats.pytorch.read import read_module as read_module

_FROM = {"to_module": "modules", "from_module": "modules", "read_module": "read"}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in _FROM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FROM[name]}"), name)
