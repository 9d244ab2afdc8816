"""Runs every code block of the README and the docs: Python as it stands, `$ niudao ...` against the output shown below it.

In a console block, `...` on a line of its own stands for any lines, and inside a line for any text; figures that differ from machine
to machine are written that way. Blocks of one page share a folder that holds the demo's files.
"""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).parent


def _pattern(shown: str) -> re.Pattern[str]:
    lines = [
        r"(?:.*\n)*?" if line.strip() == "..." else re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"[ \t]*\n"
        for line in shown.splitlines()
    ]
    return re.compile("".join(lines) + r"\s*\Z")


def _console(example: Example) -> None:
    steps = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]
    for step in steps:
        command, _, shown = step.partition("\n")
        words = shlex.split(command, comments=True)
        if words[0] not in ("niudao", "ls", "cat", "cp"):
            raise ValueError(f"a console block may not run {words[0]!r}")
        argv = [sys.executable, "-m", "niudao", *words[1:]] if words[0] == "niudao" else words
        got = _on_a_terminal(argv)
        if shown.strip() and not _pattern(shown.strip("\n") + "\n").match(got.strip("\n") + "\n"):
            raise AssertionError(f"$ {command}\nshown:\n{shown}\ngot:\n{got}")


def _on_a_terminal(argv: list[str]) -> str:
    """What a command prints where people look at it, colours off."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": "110", "NO_COLOR": "1"}
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    parts = []
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        parts.append(part)
    os.close(ours)
    process.wait(timeout=300)
    text = b"".join(parts).decode().replace("\r\n", "\n")
    text = re.sub(r"\r\x1b\[K[^\r\n]*(?=\r\x1b\[K)", "", text)  # the progress line, each state wiped by the next
    return text.replace("\r\x1b[K", "")


class ConsoleParser(CodeBlockParser):
    language = "console"

    def evaluate(self, example: Example) -> None:
        _console(example)


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the shipped networks and digits, as a reader of the docs would have."""
    import shutil

    folder = tmp_path_factory.mktemp("docs")
    for path in (ROOT / "src" / "niudao" / "demo").iterdir():
        if path.suffix in (".h5", ".keras", ".png", ".json", ".npz"):
            shutil.copy(path, folder)
    before = Path.cwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), ConsoleParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md", "CONTRIBUTING.md"],
    path=str(ROOT),
    fixtures=["demo_folder"],
).pytest()
