"""Convert a network to another format and prove that it is the same network. Nothing is written that was not proven."""

from __future__ import annotations

import argparse
from pathlib import Path

from niudao.cli import common
from niudao.cli.progress import Progress
from niudao.errors import UsageError
from niudao.report import Report

ISOLATED = True
EXAMPLES = (
    "niudao convert net.h5 net.onnx",
    "niudao convert net.json net.weights.h5 net.keras",
    "niudao convert deploy.prototxt net.caffemodel net.onnx",
    "niudao convert net.onnx net.prototxt",
    "niudao convert resnet20.th net.keras --arch resnet20_cifar",
    "niudao convert net.caffemodel net.safetensors",
    "niudao convert net.onnx net.keras --dry-run",
    "niudao convert net.onnx half.onnx --dtype float16 --report proof.html",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    paths = parser.add_argument("paths", nargs="+", metavar="SRC [WEIGHTS] DST", help="source, its second file if it has one, target")
    paths.complete = common.FILE  # type: ignore[attr-defined]
    common.reading_flags(parser)
    group = parser.add_argument_group("converting")
    group.add_argument("--to", metavar="FORMAT", help="the target's format (default: by its ending)")
    group.add_argument("--batch", metavar="N|dynamic", help="fix or free the batch")
    group.add_argument("--inputs", metavar="A,B", help="start at these values or layers")
    group.add_argument("--outputs", metavar="A,B", help="end at these values or layers")
    group.add_argument("--dtype", choices=("float32", "float16"), help="type of the weights")
    group.add_argument("--opset", type=int, metavar="N", help="ONNX opset to write (default: the oldest from 13 on that means the same)")
    group.add_argument("--external-data", action="store_true", default=None, help="ONNX: weights in a file of their own")
    group.add_argument("--fork", metavar="A,B", help="Caffe: layers that your Caffe has beyond BVLC's 1.0 (Permute,Interp)")
    group.add_argument("--dry-run", action="store_true", help="name every node that the target cannot express; write nothing")
    proof = parser.add_argument_group("proving")
    proof.add_argument("--no-proof", action="store_true", help="write without comparing")
    proof.add_argument(
        "--with", dest="feeds", action="append", default=[], metavar="FILE", help="prove on this image, .npy or .npz as well"
    )
    proof.add_argument("--samples", type=int, default=4, metavar="N", help="batch of the proof (default 4; a second run takes one)")
    proof.add_argument("--rtol", type=float, metavar="X", help="largest difference allowed, relative to the largest value (default 1e-4)")
    proof.add_argument("--save", metavar="FILE.npz", help="keep a failing comparison, so that somebody else can run it")


def run(options: argparse.Namespace) -> Report | None:
    paths = [*options.paths, *([options.output] if options.output else [])]
    if len(paths) == 1 and options.to:
        paths.append(str(Path(paths[0]).with_suffix(_ending(options.to))))
        if paths[0] == paths[1]:
            raise UsageError("the target would be the source itself.", got=paths[1], next="name a target")
    if len(paths) not in (2, 3):
        raise UsageError("convert takes a source and a target.", got=" ".join(paths), next="niudao convert net.h5 net.onnx")
    options.source = paths[0]
    from niudao.formats.convert import convert

    common.load_plugins(options.plugin)
    extra = {
        k: v for k, v in {"opset": options.opset, "external_data": options.external_data, "fork": options.fork}.items() if v is not None
    }
    with Progress(options, total=6) as progress:
        report = convert(
            paths[0],
            paths[-1],
            **common.reading(options, paths[1] if len(paths) == 3 else None),
            to=options.to,
            batch=options.batch,
            inputs=common.words(options.inputs),
            outputs=common.words(options.outputs),
            dtype=options.dtype,
            proof=not options.no_proof,
            force=options.force,
            dry_run=options.dry_run,
            feeds=_feeds(options, paths) if options.feeds else None,
            layers=bool(options.report),
            samples=options.samples,
            seed=options.seed,
            rtol=options.rtol,
            progress=progress,
            **extra,
        )
    if options.save and report.proof is not None and not report.proof.same:
        from niudao.ir.compare import save_repro

        save_repro(options.save, report.proof)
    return report


def _ending(name: str) -> str:
    from niudao.formats import FORMATS

    return FORMATS[name].extensions[0]


def _feeds(options: argparse.Namespace, paths: list[str]) -> dict[str, object]:
    from niudao.cli.feeds import load_feeds
    from niudao.formats import read

    model = read(paths[0], **common.reading(options, paths[1] if len(paths) == 3 else None))
    return dict(load_feeds(model, options.feeds))
