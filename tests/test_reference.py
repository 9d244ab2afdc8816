"""The generated pages say what the program says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("NIUDAO_")} | {"COLUMNS": "110", "NO_COLOR": "1"}
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120, check=False)


def test_generated_pages_are_fresh() -> None:
    done = _run("docs/generate_reference.py", "--check")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python docs/generate_reference.py"


def test_every_verb_and_flag_of_the_help_is_in_the_reference() -> None:
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    verbs = re.findall(r"^  niudao (\w+)", _run("-m", "niudao", "--help").stdout, flags=re.MULTILINE)
    assert {"convert", "compare", "inspect", "run", "extract", "card"} <= set(verbs)
    for verb in verbs:
        section = page.partition(f"\n## {verb}\n")[2].partition("\n## ")[0]
        assert section, verb
        shown = _run("-m", "niudao", verb, "--help").stdout
        shared = page.partition("\n## convert\n")[0]
        for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", shown.partition("examples:")[0])) - {"--help"}:
            assert f"`{flag}" in section + shared, (verb, flag)


PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        goal = (page.parent / path).resolve() if path else page
        assert goal.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", goal.read_text(encoding="utf-8"), flags=re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in anchors, f"{page.name}: {target}"


def test_pages_name_only_verbs_that_exist() -> None:
    from niudao.cli.main import VERBS

    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for verb in re.findall(r"(?:`|\$ |/bin/)niudao ([a-z]+)", text):
            assert verb in VERBS, f"{page.name}: niudao {verb}"
