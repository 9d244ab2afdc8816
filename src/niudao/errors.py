"""Every error a caller may catch.

    NiudaoError                 one sentence, and up to four facts: where, expected, got, next
    +-- UsageError              the caller asked for something that does not exist (exit 2)
    |   +-- UnknownName         a name that no registry holds; says the nearest ones
    +-- ReadError               a file is broken, mislabelled or hostile
    |   +-- LimitError          reading it would spend more memory, time or depth than allowed
    +-- InvalidModel            a model breaks a rule of the intermediate representation
    +-- Unsupported             a network holds what a target cannot express; lists every refusal
    +-- RunError                a network could not be run on these inputs
    +-- WriteError              a file could not be written; the old one is untouched
    +-- MissingExtra            an optional package is absent; says the pip line

The command line turns any of them into one sentence and exit code 1 (2 for `UsageError`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path


@dataclass(frozen=True)
class Where:
    """The place an error is about. Every field may be unknown."""

    file: str | None = None
    line: int | None = None
    node: str | None = None
    attribute: str | None = None

    def __str__(self) -> str:
        place = self.file or ""
        if self.line is not None:
            place += f":{self.line}"
        parts = [place] if place else []
        if self.node:
            parts.append(f"node {self.node!r}")
        if self.attribute:
            parts.append(f"attribute {self.attribute}")
        return brief(", ".join(parts))


LONGEST = 600


def brief(text: str) -> str:
    """A text cut in its middle where it is longer than anybody reads: names in hostile files may have megabytes."""
    if len(text) <= LONGEST:
        return text
    half = LONGEST // 2
    return f"{text[:half]} ... {text[-half:]}"


class NiudaoError(Exception):
    """One sentence for a person, with the facts a program may want beside it.

    Args:
        message: One sentence that names the fault.
        where: File, line, node or attribute.
        expected: What a right input would have held.
        got: What was found.
        next: What to do, best of all a command that can be pasted.
    """

    code = "error"

    def __init__(
        self,
        message: str,
        *,
        where: Where | str | Path | None = None,
        expected: str | None = None,
        got: str | None = None,
        next: str | None = None,
    ) -> None:
        self.message = brief(message)
        super().__init__(self.message)
        self.where = where if isinstance(where, Where) else Where(file=str(where)) if where is not None else Where()
        self.expected = brief(expected) if expected else expected
        self.got = brief(got) if got else got
        self.next = brief(next) if next else next

    def facts(self) -> list[tuple[str, str]]:
        """The aligned lines below the sentence, in reading order, without the empty ones."""
        lines = [("where", str(self.where)), ("expected", self.expected), ("got", self.got), ("next", self.next)]
        return [(name, text) for name, text in lines if text]

    def to_dict(self) -> dict[str, object]:
        """The `error` member of the JSON document `niudao.error/1`."""
        return {
            "code": self.code,
            "message": self.message,
            "where": asdict(self.where),
            "expected": self.expected,
            "got": self.got,
            "next": self.next,
        }


class UsageError(NiudaoError):
    """The caller asked for something that does not exist."""

    code = "usage"


class UnknownName(UsageError):
    """A name that nobody registered.

    Args:
        kind: What was looked up, in the singular ("format", "operator").
        name: The name that was asked for.
        known: The names that exist.
    """

    code = "unknown-name"

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(repr(c) for c in close)}?" if close else None
        expected = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
        super().__init__(f"unknown {kind} {name!r}.", expected=f"one of {expected}" if known else None, next=hint)


class ReadError(NiudaoError):
    """A file is broken, mislabelled or hostile."""

    code = "read"


class LimitError(ReadError):
    """Reading or running would spend more than the stated budget."""

    code = "limit"


class InvalidModel(NiudaoError):
    """A model breaks a rule of the intermediate representation."""

    code = "invalid-model"


class RunError(NiudaoError):
    """A network could not be run on these inputs."""

    code = "run"


class WriteError(NiudaoError):
    """A file could not be written; what was there before is untouched."""

    code = "write"


@dataclass(frozen=True)
class Refusal:
    """One node that a target cannot express.

    Attributes:
        node: Name of the node, as the source file calls its layer where that is known.
        op: Operator, with its domain where that is not ONNX's own.
        reason: Why, in a few words that name the attribute.
        attribute: The attribute at fault, if one is.
        targets: Formats that can express it.
        rewrite: What change to the network would help.
    """

    node: str
    op: str
    reason: str
    attribute: str | None = None
    targets: tuple[str, ...] = ()
    rewrite: str | None = None

    def __str__(self) -> str:
        text = f"{self.node} ({self.op}): {self.reason}"
        if self.targets:
            text += f"; {', '.join(self.targets)} can"
        if self.rewrite:
            text += f"; {self.rewrite}"
        return text


class Unsupported(NiudaoError):
    """A network holds what a reader or a target does not know: every such node, found in one pass."""

    code = "unsupported"

    def __init__(self, what: str, refusals: Sequence[Refusal], *, where: Where | str | Path | None = None, next: str | None = None) -> None:
        self.refusals = tuple(refusals)
        shown = "; ".join(str(r) for r in self.refusals[:8])
        more = f" (and {len(self.refusals) - 8} more)" if len(self.refusals) > 8 else ""
        count = len(self.refusals)
        super().__init__(
            f"{what} cannot express {count} node{'s' if count != 1 else ''} of this network: {shown}{more}.",
            where=where,
            next=next,
        )

    def to_dict(self) -> dict[str, object]:
        return super().to_dict() | {"refusals": [asdict(r) for r in self.refusals]}


class MissingExtra(NiudaoError):
    """An optional package is absent.

    Args:
        purpose: What needs it ("running Keras itself").
        package: The package that could not be imported.
        extra: The extra of niudao that brings it.
    """

    code = "missing-extra"

    def __init__(self, purpose: str, package: str, extra: str) -> None:
        super().__init__(f"{purpose} needs {package}, which is not installed.", next=f"pip install 'niudao[{extra}]'")
