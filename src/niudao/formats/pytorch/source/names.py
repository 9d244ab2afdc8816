"""Names and texts of strangers made safe to stand in Python source: identifiers, comments, docstrings."""

from __future__ import annotations

import keyword
import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from torch import nn

LONGEST = 60
TOKEN = re.compile(r"[A-Za-z]+|[0-9]+|[^A-Za-z0-9]+")


def identifier(text: str, otherwise: str = "layer") -> str:
    """A lower-risk spelling of `text` that Python takes as a name: ASCII letters, digits and single underscores.

    A number in front moves to the end ("1_conv" becomes "conv1"); nothing left gives `otherwise`.
    """
    name = re.sub(r"[^0-9A-Za-z_]+", "_", text[: 4 * LONGEST]).strip("_")
    name = re.sub(r"^(\d+)_([A-Za-z]\w*)$", lambda m: m[2] + ("_" if m[2][-1].isdigit() else "") + m[1], name)
    if not name:
        name = otherwise
    elif name[0].isdigit():
        name = f"{otherwise}_{name}"
    name = name[:LONGEST].rstrip("_")
    return name + "_" if keyword.iskeyword(name) or name in ("self", "super") else name


def attribute(text: str, otherwise: str = "layer") -> str:
    """An identifier that is no member of `torch.nn.Module`."""
    name = identifier(text, otherwise)
    return name + "_" if hasattr(nn.Module, name) or name in ("training", "forward", "call_super_init") else name


def free(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`, `name_2`, ... whichever is free; it is taken afterwards."""
    candidate, k = name, 0
    while candidate in taken:
        k += 1
        candidate = f"{name.rstrip('_')}_{k}"
    taken.add(candidate)
    return candidate


def camel(text: str) -> str:
    """A class's name from words: "inception_" becomes "Inception"."""
    return "".join(w[:1].upper() + w[1:] for w in re.findall(r"[A-Za-z]+\d*|\d+", text)).lstrip("0123456789")[:LONGEST]


def printable(text: str, longest: int = 100) -> str:
    """Text on one line in printable ASCII; everything else is escaped, so that nothing can hide or break out of a comment."""
    safe = "".join(c if " " <= c <= "~" else ascii(c)[1:-1] for c in text[: 2 * longest])
    return safe if len(safe) <= longest else safe[: longest - 3] + "..."


def docstring(text: str, longest: int = 108) -> str:
    """Text for one line of a docstring: no quote and no backslash can end it."""
    return printable(text, longest).replace("\\", "\\\\").replace('"', "'")


def common(names: Sequence[str]) -> str:
    """What several names share, word by word and in order: "res2a_branch2a" and "res3b_branch2a" give "res_branch2a"."""
    shared = TOKEN.findall(names[0])
    for name in names[1:]:
        if len(shared) * len(name) > 10_000:
            return ""
        other = TOKEN.findall(name)
        blocks = SequenceMatcher(None, shared, other, autojunk=False).get_matching_blocks()
        shared = [t for b in blocks for t in shared[b.a : b.a + b.size]]
    text = "".join(shared)
    return re.sub(r"([^A-Za-z0-9])[^A-Za-z0-9]+", r"\1", text).strip("_./-: ")


def prefixes(name: str) -> list[str]:
    """The beginnings of a name that end with a word, shortest first, without separators at their ends."""
    tokens = TOKEN.findall(name)
    found = ["".join(tokens[: i + 1]) for i, t in enumerate(tokens) if t[0].isalnum()]
    return [p for p in found if p]
