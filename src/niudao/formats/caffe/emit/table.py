"""The table of operators: ONNX name -> function that appends Caffe layers for one node."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from niudao.formats.caffe.emit.graph import Net
from niudao.registry import Registry

Emitter = Callable[[Net, ir.Node], None]

EMITTERS: Registry[Emitter] = Registry("Caffe emitter", entry_points="niudao.caffe.emitters")
"""A plug-in registers an emitter under `domain.Op` (`Op` alone for ONNX's own operators)."""


def emits(*operators: str) -> Callable[[Emitter], Emitter]:
    """File an emitter under the operators it writes."""
    return EMITTERS.register(*operators)
