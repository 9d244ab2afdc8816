"""Run a network on images, a folder of images, or arrays. With class names in its card it prints the five best classes."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from niudao.cli import common
from niudao.cli.progress import Progress
from niudao.errors import ReadError, UsageError
from niudao.report import Report

ISOLATED = True
EXAMPLES = (
    "niudao run net.keras cat.jpg",
    "niudao run net.onnx photos/ --top 3 -o answers.jsonl",
    "niudao run net.onnx x.npy -o y.npz",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.model_argument(parser)
    inputs = parser.add_argument(
        "inputs", nargs="+", metavar="IMAGE", help="images, folders, @list.txt, or .npy/.npz arrays in the source's axes"
    )
    inputs.complete = common.FILE  # type: ignore[attr-defined]
    common.reading_flags(parser)
    parser.add_argument("--top", type=int, default=5, metavar="N", help="classes to print (default 5)")
    parser.add_argument("--fetch", metavar="A,B", help="inner values or layers to give as well (arrays only)")
    parser.add_argument("--strict", action="store_true", help="stop at the first damaged image")


def run(options: argparse.Namespace) -> Report | None:
    from niudao.formats import read

    common.load_plugins(options.plugin)
    with Progress(options, total=1) as progress:
        progress("reading")
        model = read(options.model, **common.reading(options))
        if Path(options.inputs[0]).suffix in (".npy", ".npz"):
            return _arrays(options, model)
        return _images(options, model)


def _arrays(options: argparse.Namespace, model: Any) -> Report:
    import numpy as np

    from niudao.cli.feeds import load_feeds
    from niudao.formats.extract import find
    from niudao.formats.files import whole
    from niudao.ir.answers import ArrayAnswer, RunReport
    from niudao.ir.session import run as run_model
    from niudao.ir.session import to_source

    start = time.perf_counter()
    fetch = [find(model, name).name or "" for name in common.words(options.fetch)]
    out = to_source(model, run_model(model, load_feeds(model, options.inputs), fetch=fetch))
    milliseconds = (time.perf_counter() - start) * 1000
    if options.output:
        if not options.output.endswith(".npz"):
            raise UsageError(f"arrays are written as .npz, not {options.output!r}.")
        with whole(options.output) as draft, draft.open("wb") as f:
            np.savez(f, **{str(k): v for k, v in out.items()})  # type: ignore[arg-type]
    answers = tuple(ArrayAnswer.of(name, array) for name, array in out.items())
    return RunReport(model=options.model, arrays=answers, milliseconds=milliseconds, written=options.output or "")


def _images(options: argparse.Namespace, model: Any) -> Report:
    import json
    from dataclasses import asdict

    from niudao.formats.files import whole
    from niudao.ir import pixels
    from niudao.ir.answers import RunReport, classify

    paths = common.expand(options.inputs, pixels.ENDINGS)
    answers, failed = [], []
    start = time.perf_counter()
    for answer in classify(model, paths, top=options.top):
        if isinstance(answer, ReadError):
            if options.strict or len(paths) == 1:
                raise answer
            failed.append((str(answer.where), answer.message))
        else:
            answers.append(answer)
    report = RunReport(
        model=options.model,
        images=tuple(answers),
        failed=tuple(failed),
        milliseconds=(time.perf_counter() - start) * 1000,
        written=options.output or "",
    )
    if options.output:
        with whole(options.output) as draft, draft.open("w", encoding="utf-8") as f:
            for one in answers:
                f.write(json.dumps(asdict(one)) + "\n")
    return report
