"""Cut a named part out of a network and write it as a network of its own."""

from __future__ import annotations

import argparse

from niudao.cli import common
from niudao.cli.progress import Progress
from niudao.errors import UsageError
from niudao.report import Report

ISOLATED = True
EXAMPLES = (
    "niudao extract net.keras features.onnx --outputs conv5",
    "niudao extract net.onnx head.onnx --inputs pool5 --outputs prob",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.model_argument(parser)
    common.model_argument(parser, "target", "where the part goes")
    common.reading_flags(parser)
    parser.add_argument("--inputs", metavar="A,B", help="values or layers to start from (default: the network's inputs)")
    parser.add_argument("--outputs", metavar="A,B", help="values or layers to end with (default: the network's outputs)")


def run(options: argparse.Namespace) -> Report | None:
    if not options.inputs and not options.outputs:
        raise UsageError("extract needs --inputs, --outputs or both.", next="niudao inspect MODEL lists the layers")
    from niudao.formats.convert import convert

    common.load_plugins(options.plugin)
    with Progress(options, total=6) as progress:
        return convert(
            options.model,
            options.target,
            **common.reading(options),
            inputs=common.words(options.inputs),
            outputs=common.words(options.outputs),
            seed=options.seed,
            force=options.force,
            progress=progress,
        )
