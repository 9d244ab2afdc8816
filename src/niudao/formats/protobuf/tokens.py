"""The words of protobuf's text format, each with the place where it stands.

Reference: protobuf.dev, "Text Format Language Specification".
"""

from __future__ import annotations

import re

from niudao.errors import ReadError, Where

# Every quantifier is possessive: a text is read in one pass, whatever it holds.
_TOKEN = re.compile(
    r"""(?:[ \t\n\v\f]++|\#[^\n]*+)*+(?:
      (?P<name>[A-Za-z_][A-Za-z0-9_]*+)
    | (?P<number>\.?[0-9](?:[eE][+-]|[0-9A-Za-z_.])*+)
    | (?P<text>"(?:[^"\\\n]++|\\[^\n])*+"|'(?:[^'\\\n]++|\\[^\n])*+')
    | (?P<sign>[{}<>\[\],;:\-/.])
    | (?P<end>\Z)
    | (?P<strange>.))""",
    re.X | re.S,
)

# A run of \\u escapes is one match, because two of them may make one character.
_ESCAPE = re.compile(rb"((?:\\u[0-9a-fA-F]{4}|\\U[0-9a-fA-F]{8})++)|\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.S)
_UNIT = re.compile(rb"\\[uU]([0-9a-fA-F]++)")
_SIMPLE = dict(zip(b"abfnrtv\\'\"?", b"\a\b\f\n\r\t\v\\'\"?", strict=True))


class Tokens:
    """A text, and the word that is next in it.

    Attributes:
        kind: "name", "number", "text" (still in quotes), "sign" or "end".
        value: The word.
        at: Where it begins.
    """

    def __init__(self, data: bytes, file: str) -> None:
        """Begin at the first word.

        Raises:
            ReadError: The bytes are UTF-16, or do not begin with a word.
        """
        self.file = file
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise ReadError("the text is UTF-16.", where=file, expected="UTF-8", next="save it again as UTF-8")
        # What is no UTF-8 is kept, for it may stand in a comment.
        text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        self.text = text.replace("\r\n", "\n").replace("\r", "\n")
        self.kind = self.value = ""
        self.at = self.stop = 0
        self._seen, self._line, self._start = 0, 1, 0
        self.advance()

    def advance(self) -> None:
        """Go to the next word."""
        found = _TOKEN.match(self.text, self.stop)
        assert found is not None and found.lastgroup is not None  # the last alternatives match anything
        self.kind = found.lastgroup
        self.value = found[self.kind]
        self.stop = found.end()
        self.at = self.stop - len(self.value)
        if self.kind == "strange":
            if self.value in "\"'":
                raise self.error(self.at, "a text in quotes does not end on its line")
            raise self.error(self.at, f"{shown(self.value)} has no meaning here")

    def place(self, at: int) -> tuple[int, int]:
        """Line and column of a place, both from 1. Places are asked for in order, so that all together take one pass."""
        if at < self._seen:
            return self.text.count("\n", 0, at) + 1, at - self.text.rfind("\n", 0, at)
        breaks = self.text.count("\n", self._seen, at)
        if breaks:
            self._line += breaks
            self._start = self.text.rfind("\n", self._seen, at) + 1
        self._seen = at
        return self._line, at - self._start + 1

    def error(self, at: int, what: str, *, next: str | None = None, expected: str | None = None) -> ReadError:
        """The error for something that stands at `at`."""
        line, column = self.place(at)
        return ReadError(
            f"line {line}, column {column}: {what}{'' if what.endswith('?') else '.'}",
            where=Where(file=self.file, line=line),
            expected=expected,
            next=next,
        )

    def found(self) -> str:
        """The word at hand, for an error."""
        return "the end of the text" if self.kind == "end" else shown(self.value)

    def take_text(self) -> bytes:
        """The bytes of the text in quotes at hand, joined with those that follow it directly."""
        parts = []
        while self.kind == "text":
            inner = self.value[1:-1].encode("utf-8", "surrogateescape")
            parts.append(self._unescaped(inner) if b"\\" in inner else inner)
            self.advance()
        return b"".join(parts)

    def _unescaped(self, inner: bytes) -> bytes:
        return _ESCAPE.sub(self._escape, inner)

    def _escape(self, found: re.Match[bytes]) -> bytes:
        characters, octal, hexadecimal, simple = found.groups()
        if characters is not None:
            return self._characters(characters)
        if hexadecimal is not None:
            return bytes([int(hexadecimal, 16)])
        if octal is not None:
            code = int(octal, 8)
            if code > 0xFF:
                raise self.error(self.at, f"the escape \\{octal.decode()} is no byte")
            return bytes([code])
        if simple[0] not in _SIMPLE:
            raise self.error(self.at, f"the escape {shown(chr(92) + simple.decode('utf-8', 'replace'))} has no meaning")
        return bytes([_SIMPLE[simple[0]]])

    def _characters(self, run: bytes) -> bytes:
        codes = [int(digits, 16) for digits in _UNIT.findall(run)]
        try:
            return "".join(map(chr, codes)).encode("utf-16-le", "surrogatepass").decode("utf-16-le").encode("utf-8")
        except (ValueError, OverflowError) as e:
            raise self.error(self.at, "an escape names no character") from e


def shown(word: str) -> str:
    """A word of a stranger's file as an error shows it."""
    return repr(word if len(word) <= 60 else word[:57] + "...")
