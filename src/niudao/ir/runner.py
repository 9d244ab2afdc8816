"""What compare takes: something that can be run and says what it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir

from niudao.ir.probe import Dim
from niudao.ir.session import Session, in_pieces, prepare

Array = np.ndarray[Any, Any]


class Runner(Protocol):
    """A network that can be run. Arrays are in our layout: images channels first."""

    @property
    def name(self) -> str:
        """What runs it, as the report says it ("keras 3.15.1")."""

    @property
    def inputs(self) -> Mapping[str, tuple[np.dtype[Any], tuple[Dim, ...]]]:
        """Input name -> type and shape; a free axis is None or a symbol."""

    @property
    def model(self) -> ir.Model | None:
        """The network as a model, where there is one: only then can a difference be traced to a layer."""

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, in the network's order."""


class ModelRunner:
    """A model in ONNX Runtime, without graph optimisations and with one thread, so that figures repeat.

    Args:
        model: The model.
        name: What to call it in reports.
        seconds: Wall-clock limit of one run.
    """

    def __init__(self, model: ir.Model, *, name: str = "ONNX Runtime", seconds: float | None = None) -> None:
        self.name = name
        self.model: ir.Model | None = model
        self._model = model
        self._seconds = seconds
        self._session: Session | None = None
        self.inputs: dict[str, tuple[np.dtype[Any], tuple[Dim, ...]]] = {}
        for value in model.graph.inputs:
            dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
            dims = tuple(d if isinstance(d, int) else d.value for d in value.shape) if value.shape is not None else (None,)
            self.inputs[value.name or ""] = (np.dtype(dtype), dims)

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; the session is kept until `close`."""
        arrays = prepare(self._model, feeds)
        if self._session is None:
            self._session = Session(self._model, optimize=False, seconds=self._seconds)
        return in_pieces(self._session, self._model, arrays)

    def close(self) -> None:
        """Give back the session's memory; the next `run` makes a new one."""
        if self._session is not None:
            self._session.close()
            self._session = None
