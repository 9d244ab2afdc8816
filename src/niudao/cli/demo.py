"""Convert two shipped networks, prove each, and show that all of them read the same handwritten digits. Needs no network."""

from __future__ import annotations

import argparse
from pathlib import Path

from niudao.cli.progress import Progress
from niudao.report import Report

EXAMPLES = ("niudao demo", "niudao demo -o somewhere --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> Report | None:
    from niudao.demo.tour import tour

    folder = Path(options.output or "runs/demo")
    with Progress(options, total=9) as progress:
        report = tour(folder, seed=options.seed, progress=progress)
    report.to_html(folder / "report.html")
    return report
