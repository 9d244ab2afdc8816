"""Names from model files are hostile text: one function makes any string safe to show, and one measures how wide it is.

A terminal obeys control characters, and a reader is fooled by characters that reorder or hide their neighbours
(Unicode Technical Report 36; CVE-2021-42574). Both are shown as escapes instead of being sent on.
"""

from __future__ import annotations

import re
import unicodedata

_SAFE = re.compile(r"[ -~]*")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0\ufe0e\ufe0f\u034f")  # letters and marks without ink


def visible(text: object) -> str:
    r"""The text on one line, with control, bidi, invisible and undecodable characters written as escapes.

    Args:
        text: Anything; what is no string is turned into one. Bytes that could not be decoded are expected as lone
            surrogates, the way `os.fsdecode` leaves them.

    Example:
        >>> visible("conv\x1b[31m\u202e1")
        'conv\\x1b[31m\\u202e1'
    """
    string = text if type(text) is str else str(text)
    if _SAFE.fullmatch(string):
        return string
    return "".join(_escaped(c) for c in string)


def lines(text: object) -> list[str]:
    """The lines of a paragraph, each one safe; only a plain line feed ends a line."""
    return [visible(line) for line in str(text).split("\n")]


def encodable(text: str) -> str:
    """The text with lone surrogates written as escapes, so that it can be encoded; all else is left alone."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return "".join(_escaped(c) if "\ud800" <= c <= "\udfff" else c for c in text)
    return text


def _escaped(c: str) -> str:
    if " " <= c <= "~":
        return c
    if c in _SHORT:
        return _SHORT[c]
    code = ord(c)
    if unicodedata.category(c) not in _HIDDEN and c not in _BLANK and code & 0xFFFE != 0xFFFE and not 0xFDD0 <= code <= 0xFDEF:
        return c
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def width(text: str) -> int:
    """How many columns of a terminal a safe text fills: East Asian wide characters two, combining marks none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def shorten(text: str, room: int) -> str:
    """The text cut in its middle to `room` columns: the end of a layer's name tells as much as its beginning."""
    if width(text) <= room:
        return text
    if room <= 3:
        return "." * max(room, 0)
    tail = (room - 3) // 2
    return _fit(text, room - 3 - tail) + "..." + _fit(text[::-1], tail)[::-1]


def _fit(text: str, room: int) -> str:
    end = used = 0
    for c in text:
        used += width(c)
        if used > room:
            break
        end += 1
    return text[:end]
