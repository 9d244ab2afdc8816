"""The table of operators: ONNX name -> function that says one node in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from niudao.registry import Registry

if TYPE_CHECKING:
    from niudao.formats.pytorch.modules.call import Call

Converter = Callable[["Call"], Any]
"""`(call) -> fx.Node | Numbers | tuple of these, one per output | None for an output that is not there`"""

CONVERTERS: Registry[Converter] = Registry("PyTorch converter", entry_points="niudao.pytorch.converters")
"""A plug-in registers a converter under `domain::Op` (`Op` alone for ONNX's own operators)."""

converts = CONVERTERS.register
"""`@converts("Conv", ...)` files a converter under the operators it says; stackable."""


def load_all() -> None:
    """Import every family, so that the table is full."""
    from importlib import import_module
    from pkgutil import iter_modules

    from niudao.formats.pytorch import modules

    for module in iter_modules(modules.__path__):
        if not module.ispkg:
            import_module(f"{modules.__name__}.{module.name}")
