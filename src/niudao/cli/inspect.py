"""What is in a model file and what it costs: layers, parameters, MACs, memory, receptive field, input card."""

from __future__ import annotations

import argparse

from niudao.cli import common
from niudao.cli.progress import Progress
from niudao.report import Report

ISOLATED = True
EXAMPLES = (
    "niudao inspect net.onnx",
    "niudao inspect net.keras --all --report cost.html",
    "niudao inspect weights.h5 --json",
    "niudao inspect resnet.pth",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.model_argument(parser)
    parser.add_argument("second", nargs="?", metavar="WEIGHTS", help="second file, as --weights")
    common.reading_flags(parser)
    parser.add_argument("--top", type=int, default=20, metavar="N", help="layers shown on a terminal (default 20)")
    parser.add_argument("--all", action="store_true", help="show every layer")


def run(options: argparse.Namespace) -> Report | None:
    from niudao.formats.inspect import inspect

    common.load_plugins(options.plugin)
    with Progress(options, total=1) as progress:
        progress("reading")
        return inspect(
            options.model,
            **common.reading(options, options.second),
            top=None if options.all else options.top,
        )
