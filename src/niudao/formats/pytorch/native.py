"""Run a network in torch itself: a file that we wrote in a process of its own, a live module here."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import MissingExtra, RunError
from niudao.formats import oracles
from niudao.formats.oracles import Oracle
from niudao.formats.pytorch.extra import names_of
from niudao.ir.runner import ModelRunner

Array = np.ndarray[Any, Any]

_MEMORY = 16 << 30
"""Address space of a run, in bytes: torch maps its libraries whole."""


def available(path: str | os.PathLike[str] | None = None) -> str | None:
    """The torch that would run, as "torch 2.13.0"; None without one, or for a file that torch cannot run."""
    if path is not None:
        path = Path(path)
        ending = path.suffix.lower()
        if ending not in (".pt2", ".py", ".safetensors") or (ending != ".pt2" and not path.with_suffix(".py").is_file()):
            return None
    here = _installed()
    return here.version if here is not None else None


def run(path: str | os.PathLike[str], feeds: Mapping[str, Any], *, seconds: float = 300) -> dict[str, Array]:
    """Run what our writer wrote; source is executed.

    Args:
        path: A .pt2, or source or its weights, the other one beside it.
        feeds: Input name -> array, in the order in which the network takes them.
        seconds: Wall-clock limit.

    Returns:
        "output_0", "output_1", ... -> array.

    Raises:
        MissingExtra: torch is not installed.
        OverBudget: It takes too long, or more memory than it may have.
        RunError: torch refuses the file or the arrays.
    """
    here = _installed()
    if here is None:
        raise MissingExtra("running PyTorch networks", "torch", "torch")
    path = Path(path)
    if path.suffix.lower() == ".pt2":
        return oracles.run(here, "pytorch", path, feeds, seconds=seconds, memory=_MEMORY, names=names_of(path) or list(feeds))
    structure = path if path.suffix.lower() == ".py" else path.with_suffix(".py")
    stored = path if path.suffix.lower() == ".safetensors" else path.with_suffix(".safetensors")
    return oracles.run(here, "pytorch", structure, feeds, seconds=seconds, memory=_MEMORY, names=list(feeds), weights=str(stored))


def _installed() -> Oracle | None:
    from importlib.metadata import PackageNotFoundError, version

    if importlib.util.find_spec("torch") is None:
        return None
    try:
        installed = version("torch")
    except PackageNotFoundError:
        return None
    return Oracle("torch", "PyTorch", f"torch {installed}", Path(sys.executable), paths=tuple(p for p in sys.path if p))


class ModuleRunner:
    """A live module in torch, in eval mode for the time of each run.

    Args:
        module: The `torch.nn.Module`.
        model: What we read in it, for names and shapes.
    """

    def __init__(self, module: Any, model: ir.Model) -> None:
        import torch

        self.name = f"torch {torch.__version__}"
        self.model: ir.Model | None = model
        self.inputs = ModelRunner(model).inputs
        self._module = module
        self._outputs = [v.name or "" for v in model.graph.outputs]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, in the network's order."""
        import torch

        modes = {m: m.training for m in self._module.modules()}
        self._module.eval()
        try:
            device = next((t.device for t in (*self._module.parameters(), *self._module.buffers())), torch.device("cpu"))
            with torch.no_grad():
                got = self._module(*(torch.from_numpy(np.ascontiguousarray(feeds[n])).to(device) for n in self.inputs))
        finally:
            for module, training in modes.items():
                module.training = training
        flat = list(flatten(got))
        if len(flat) != len(self._outputs):
            raise RunError(
                "the module gives another number of outputs.",
                where=type(self._module).__name__,
                expected=", ".join(self._outputs),
                got=str(len(flat)),
            )
        return {name: t.detach().cpu().numpy() for name, t in zip(self._outputs, flat, strict=True)}


def flatten(value: Any) -> Any:
    """The tensors in what a module returned, in order: tuples, lists and dictionaries are looked through."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from flatten(item)
    elif value is not None:
        yield value
