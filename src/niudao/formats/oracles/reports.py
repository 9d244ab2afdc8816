"""What `niudao oracle` answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from niudao.errors import RunError
from niudao.formats.oracles import place
from niudao.formats.oracles.check import check
from niudao.formats.oracles.table import ORACLES, Recipe
from niudao.report import Block, Column, Facts, Report, Table, Text, Verdict, figures


@dataclass(frozen=True)
class OracleRow:
    """One oracle.

    Attributes:
        name: The word users type.
        title: What people call the framework.
        state: "ready", "absent", "unfinished" (a set-up was interrupted) or "outdated" (made from other pins).
        version: What the framework says of itself; "" where it is not ready.
        python: The full version of its Python, or the one it needs.
        path: Where it is, or would be.
        bytes: What it takes on disk, or about what it would.
        formats: Formats whose files it runs.
        proves: What it is good for.
        checked: Whether its tiny network was run just now.
        fault: Why that failed.
    """

    name: str
    title: str
    state: str
    version: str
    python: str
    path: str
    bytes: int
    formats: tuple[str, ...]
    proves: str
    checked: bool = False
    fault: str = ""


def row(recipe: Recipe, *, fault: str = "", checked: bool = False) -> OracleRow:
    """What is there, without starting anything."""
    folder = place.folder_of(recipe.name)
    noted = place.marker(folder)
    ready = place.find(recipe.name) is not None
    state = "ready" if ready else "outdated" if noted else "unfinished" if (folder / place.PARTIAL).exists() else "absent"
    noted = noted or {}
    return OracleRow(
        name=recipe.name,
        title=recipe.title,
        state=state,
        version=str(noted.get("version", "")) if ready else "",
        python=str(noted.get("python", recipe.python)),
        path=str(folder),
        bytes=int(noted.get("bytes", recipe.megabytes << 20)),
        formats=recipe.formats,
        proves=recipe.proves,
        checked=checked,
        fault=fault,
    )


@dataclass(frozen=True, kw_only=True)
class OraclesReport(Report):
    """All oracles, and where they were checked, how that went."""

    schema: ClassVar[str] = "niudao.oracles/1"
    folder: str
    oracles: tuple[OracleRow, ...]

    def title(self) -> str:
        return "oracles"

    def blocks(self) -> list[Block]:
        ready = [o for o in self.oracles if o.state == "ready"]
        blocks: list[Block] = []
        if any(o.checked for o in self.oracles):
            broken = [o.name for o in self.oracles if o.fault]
            text = f"broken: {', '.join(broken)}" if broken else f"{len(ready)} of {len(ready)} give the numbers that are known"
            blocks.append(Verdict(self.ok, text))
        columns = ("oracle", "ready", "framework", "Python", "on disk", "what it proves")
        rows = tuple((o.name, _state(o), o.version or o.title, o.python, _size(o), o.proves) for o in self.oracles)
        marks = tuple(i for i, o in enumerate(self.oracles) if o.fault)
        blocks.append(Table(tuple(Column(c, "right" if c == "on disk" else "left") for c in columns), rows, marks=marks))
        blocks += [
            Text(f"{o.name}: {o.fault} To make it anew: niudao oracle setup {o.name} --force", "warning") for o in self.oracles if o.fault
        ]
        blocks.append(Text(f"Each has a folder of its name in {self.folder}.", level="note"))
        absent = next((o.name for o in self.oracles if o.state != "ready"), None)
        if absent:
            blocks.append(Text(f"To get one: niudao oracle setup {absent}", level="note"))
        return blocks


def _state(oracle: OracleRow) -> str:
    if oracle.fault:
        return "BROKEN"
    if oracle.state == "ready":
        return "yes, checked" if oracle.checked else "yes"
    return "no" if oracle.state == "absent" else f"no, {oracle.state}"


def _size(oracle: OracleRow) -> str:
    return figures.size(oracle.bytes) if oracle.state == "ready" else f"about {figures.size(oracle.bytes)}"


@dataclass(frozen=True, kw_only=True)
class OracleReport(Report):
    """What was done to one oracle.

    Attributes:
        action: "set up", "ready" (it was already, and was checked) or "removed".
        oracle: What is there now.
        packages: What is installed in it, as `name==version`.
    """

    schema: ClassVar[str] = "niudao.oracle/1"
    action: str
    oracle: OracleRow
    packages: tuple[str, ...] = ()

    def title(self) -> str:
        return f"oracle {self.oracle.name}"

    def blocks(self) -> list[Block]:
        o = self.oracle
        if self.action == "removed":
            return [Verdict(True, f"{o.title} was removed", o.path)]
        if not self.ok:
            return [Verdict(False, f"{o.title} is set up and broken: {o.fault}", f"niudao oracle setup {o.name} --force makes it anew")]
        text = f"{o.title} is ready" if self.action == "set up" else f"{o.title} was ready already, and works"
        facts = (
            ("framework", o.version),
            ("Python", o.python),
            ("where", o.path),
            ("on disk", figures.size(o.bytes)),
            ("proves", o.proves),
            ("installed", ", ".join(self.packages)),
        )
        return [Verdict(True, text, "its tiny network gives the numbers that are known"), Facts(facts)]


def table() -> OraclesReport:
    """All oracles and their state."""
    return OraclesReport(folder=str(place.root()), oracles=tuple(row(recipe) for _, recipe in ORACLES.items()))


def only(report: OraclesReport, name: str) -> OraclesReport:
    """One row of it."""
    return replace(report, oracles=tuple(o for o in report.oracles if o.name == name))


def checked(name: str | None = None) -> OraclesReport:
    """Run the tiny network of every oracle that is ready, or of one.

    Raises:
        UnknownName: No oracle has this name.
        RunError: The one that was named is not set up.
    """
    if name is not None and place.find(name) is None:
        raise RunError(f"the oracle {name} is not set up.", where=place.folder_of(name), next=f"niudao oracle setup {name}")
    rows = []
    for key, recipe in ORACLES.items():
        oracle = place.find(key)
        if name is not None and key != name:
            continue
        found = row(recipe)
        if oracle is not None:
            try:
                check(oracle, recipe)
                found = replace(found, checked=True)
            except RunError as e:
                found = replace(found, checked=True, fault=e.message)
        rows.append(found)
    return OraclesReport(ok=not any(r.fault for r in rows), folder=str(place.root()), oracles=tuple(rows))
