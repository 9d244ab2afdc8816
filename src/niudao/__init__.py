"""niudao: convert, understand, shrink, train, search and track with vision networks.

    import niudao as nd
    model = nd.read("net.h5")
    nd.write(model, "net.onnx")

The verbs are imported when they are first used, so that `import niudao` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_VERBS = {
    "read": "niudao.formats",
    "write": "niudao.formats",
    "run": "niudao.ir.session",
    "compare": "niudao.formats.convert",
    "convert": "niudao.formats.convert",
    "inspect": "niudao.formats.inspect",
    "formats": "niudao",
    "extract": "niudao.formats.extract",
}

__all__ = ["NiudaoError", "__version__", *sorted(_VERBS)]

if TYPE_CHECKING:
    from niudao import formats as formats
    from niudao.errors import NiudaoError as NiudaoError
    from niudao.formats import read as read
    from niudao.formats import write as write
    from niudao.formats.convert import compare as compare
    from niudao.formats.convert import convert as convert
    from niudao.formats.extract import extract as extract
    from niudao.formats.inspect import inspect as inspect
    from niudao.ir.session import run as run


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "formats":
        value = import_module("niudao.formats")
    elif name in _VERBS:
        value = getattr(import_module(_VERBS[name]), name)
    elif name == "NiudaoError":
        value = import_module("niudao.errors").NiudaoError
    else:
        raise AttributeError(f"module 'niudao' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
