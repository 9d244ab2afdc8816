"""Is everything installed, and which real frameworks can check our work? Exit code 3 if something that niudao needs is missing."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import ClassVar

from niudao.report import Block, Column, Report, Table, Verdict

EXAMPLES = ("niudao doctor", "niudao doctor --json")


@dataclass(frozen=True)
class Package:
    """An installed or missing package; `extra` is empty for those that niudao cannot do without."""

    name: str
    version: str | None
    extra: str
    use: str


@dataclass(frozen=True)
class Framework:
    """An oracle: a real framework in an environment of its own. `version` is None where it is not set up."""

    name: str
    title: str
    version: str | None
    use: str


@dataclass(frozen=True, kw_only=True)
class DoctorReport(Report):
    """What is installed."""

    schema: ClassVar[str] = "niudao.doctor/1"
    python: str
    packages: tuple[Package, ...]
    oracles: tuple[Framework, ...] = ()

    def title(self) -> str:
        return "doctor"

    def blocks(self) -> list[Block]:
        text = "everything niudao needs is installed" if self.ok else "something niudao needs is missing"
        columns = (Column("package"), Column("version"), Column("for"), Column("to install"))
        rows = tuple(
            (p.name, p.version, p.use, f"pip install 'niudao[{p.extra}]'" if p.extra and not p.version else None) for p in self.packages
        )
        blocks: list[Block] = [Verdict(self.ok, text, f"Python {self.python}"), Table(columns, rows)]
        if self.oracles:
            heads = (Column("oracle"), Column("version"), Column("for"), Column("to install"))
            found = tuple((o.title, o.version, o.use, None if o.version else f"niudao oracle setup {o.name}") for o in self.oracles)
            blocks.append(Table(heads, found, title="Real frameworks in environments of their own"))
        return blocks


OPTIONAL = (
    ("keras", "keras", "running Keras files in Keras itself"),
    ("tensorflow-cpu", "tensorflow", "Keras on TensorFlow"),
    ("torch", "torch", "networks of PyTorch: --arch, TorchScript, writing, tuning; Keras on PyTorch"),
)


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> Report | None:
    from niudao.formats.oracles.reports import table

    needed = [r for r in requires("niudao") or [] if "extra ==" not in r]
    packages = [Package(_name(r), _version(_name(r)), "", "niudao itself") for r in needed]
    ok = all(p.version for p in packages)
    packages += [Package(name, _version(name), extra, use) for name, extra, use in OPTIONAL]
    oracles = tuple(Framework(o.name, o.title, o.version or None, o.proves) for o in table().oracles)
    return DoctorReport(ok=ok, python=sys.version.split()[0], packages=tuple(packages), oracles=oracles)


def _name(requirement: str) -> str:
    end = next((i for i, c in enumerate(requirement) if not (c.isalnum() or c in "-_.")), len(requirement))
    return requirement[:end]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
