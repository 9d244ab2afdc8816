"""What can be read and written, and which real frameworks are installed to check it."""

from __future__ import annotations

import argparse

from niudao.report import Report

EXAMPLES = ("niudao formats", "niudao formats --json")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="one format only")


def run(options: argparse.Namespace) -> Report | None:
    from dataclasses import replace

    from niudao.formats import FORMATS
    from niudao.formats.table import table

    report = table()
    if options.name:
        FORMATS[options.name]
        report = replace(report, formats=tuple(r for r in report.formats if r.name == options.name))
    return report
