"""The table of Caffe layers: one function a layer type, one file a family.

A layer's function takes the call's context and its input values and returns one value per top. A user's own layer is such a function too:

    from niudao.formats.caffe.layers import Call, reads

    @reads("Swish")
    def swish(call: Call, x: ir.Value) -> ir.Value:
        beta = call.param("swish_param").get("beta")
        return call.b.op("Mul", x, call.b.op("Sigmoid", call.b.op("Mul", x, call.b.const(beta))))
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from niudao.formats.caffe.layers.call import Call as Call
from niudao.registry import Registry

LayerReader = Callable[..., Any]
"""`(call, *inputs) -> Value | tuple[Value, ...]`"""

LAYERS: Registry[LayerReader] = Registry("Caffe layer", entry_points="niudao.caffe.layers")


def reads(*types: str) -> Callable[[LayerReader], LayerReader]:
    """Decorator: this function builds layers of these types."""
    return LAYERS.register(*types)


def load_all() -> None:
    """Import every family, so that the table is full."""
    from importlib import import_module
    from pkgutil import iter_modules

    for module in iter_modules(__path__):
        if module.name != "call":
            import_module(f"{__name__}.{module.name}")
