"""Real frameworks in environments of their own, which run what we wrote: set one up, list, check or remove them.

Without a word it lists them. `check` runs a tiny network in each that is ready and exits with 3 if one gives other numbers than are known.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from niudao.errors import UsageError
from niudao.report import Report

EXAMPLES = (
    "niudao oracle",
    "niudao oracle setup caffe",
    "niudao oracle setup tf2 --python ~/.pyenv/versions/3.8.18/bin/python",
    "niudao oracle check",
    "niudao oracle remove caffe",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "setup", "check", "remove"), default="list", help="what to do (default list)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which one: caffe, keras2, tf2")
    parser.add_argument("--python", metavar="PATH", help="setup: the interpreter to make it with (default: found)")


def run(options: argparse.Namespace) -> Report | None:
    from niudao.formats.oracles import ORACLES, reports, setup

    if options.name is not None:
        _ = ORACLES[options.name]
    elif options.action in ("setup", "remove"):
        raise UsageError(f"{options.action} which oracle?", expected=", ".join(ORACLES), next=f"niudao oracle {options.action} caffe")
    if options.python and options.action != "setup":
        raise UsageError("--python goes with setup.", next="niudao oracle setup NAME --python PATH")
    if options.action == "list":
        report = reports.table()
        return report if options.name is None else reports.only(report, options.name)
    if options.action == "remove":
        return setup.remove(options.name)
    if options.action == "setup":
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a half-made environment is taken away here as well
    with _progress(options) as say:
        if options.action == "check":
            say("checking")
            return reports.checked(options.name)
        return setup.setup(options.name, python=options.python, force=options.force, say=say)


@contextmanager
def _progress(options: argparse.Namespace) -> Iterator[Callable[[str], None]]:
    """On a terminal one line that changes; elsewhere the stages, and pip's lines with --verbose."""
    if options.quiet or options.json:
        yield lambda stage: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.markup import escape

        console = Console(stderr=True)
        with console.status("") as status:

            def show(stage: str) -> None:
                status.update(escape(stage[: max(console.width - 4, 20)]))
                if " takes about " in stage:
                    console.print(escape(stage), highlight=False)

            yield show
    else:
        stages = ("making", "installing", "checking")

        def write(stage: str) -> None:
            if options.verbose or stage.startswith(stages) or " takes about " in stage:
                sys.stderr.write(stage + "\n")

        yield write
