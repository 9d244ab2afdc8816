"""Where layers and weights stand in a network: dotted paths that torch accepts and no hostile name can break."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

from torch import nn

from niudao.ir.values import claim

_RESERVED = frozenset(dir(nn.Module())) | {""}
_OF_THE_NETWORK = {"graph", "code", "initializers", "remembered", "names", "stored", "meta"}


def part(name: str) -> str:
    """One element of a path: what would end a string or a line, or read as another word in Python's eyes, becomes `_`."""
    name = "".join(c if c.isprintable() and c not in "\"'\\{}[];," else "_" for c in name)[:200]
    if keyword.iskeyword(name) or unicodedata.normalize("NFKC", name) != name:
        name = unicodedata.normalize("NFKC", name) + "_"
    return f"{name}_" if name in _RESERVED else name


def path_of(name: str) -> str:
    """A dotted path for a source's name; empty elements (`a..b`, `.a`) become `_`."""
    path = ".".join(part(p) for p in name.split(".")) if name else "_"
    first, dot, rest = path.partition(".")
    return f"{first}_{dot}{rest}" if first in _OF_THE_NETWORK else path


def identifier(name: str, otherwise: str = "x") -> str:
    """A Python identifier that looks like the name."""
    text = re.sub(r"[^0-9A-Za-z_]", "_", name)[:100]
    if not re.search(r"[0-9A-Za-z]", text):
        return otherwise
    return f"{text}_" if keyword.iskeyword(text) else f"_{text}" if text[0].isdigit() else text


def prefixes(name: str) -> list[str]:
    """`a.b.c` -> `a`, `a.b`."""
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


class Paths:
    """Hands out paths, each once; a layer never lies inside another layer.

    Args:
        wanted: Every path that some layer will ask for, so that a repeated name does not take a later layer's.
    """

    def __init__(self, wanted: Iterable[str]) -> None:
        wanted = set(wanted)
        self._inner = {p for w in wanted for p in prefixes(w)}  # paths that hold layers, so that no layer may stand there
        self._leaves: set[str] = set()
        self._known = wanted | self._inner

    def free(self, path: str) -> bool:
        """Whether a layer may stand exactly here."""
        return path not in self._inner and path not in self._leaves and not any(p in self._leaves for p in prefixes(path))

    def take(self, path: str) -> str:
        """This path, which must be free, is now a layer."""
        self._leaves.add(path)
        self._inner.update(prefixes(path))
        self._known.update(prefixes(path), (path,))
        return path

    def layer(self, path: str, kind: str) -> str:
        """A path for a layer: the one it asks for, inside it as `kind` where it is a block, else with `_1`, `_2`, ... behind it."""
        if path in self._inner:
            path = f"{path}.{kind}"
        if any(p in self._leaves for p in prefixes(path)):
            path = path.replace(".", "_")
        self._known.add(path)
        return self.take(path if self.free(path) else claim(path, self._known))
