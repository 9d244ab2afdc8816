"""Are two files the same network? If not: the first layer that diverges. Exit code 3 when they differ."""

from __future__ import annotations

import argparse

from niudao.cli import common
from niudao.cli.progress import Progress
from niudao.report import Report

ISOLATED = True
EXAMPLES = (
    "niudao compare net.h5 net.onnx",
    "niudao compare a.onnx b.onnx --report diff.html",
    "niudao compare a.onnx b.keras --with cat.png --save repro.npz",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.model_argument(parser, "a", "one network")
    common.model_argument(parser, "b", "the other")
    parser.add_argument("--weights", metavar="FILE", help="second file of A")
    parser.add_argument("--weights-b", metavar="FILE", help="second file of B")
    parser.add_argument("--arch", metavar="NAME", help="whose weights A holds, where it is a PyTorch state dict (as in convert)")
    parser.add_argument("--arch-b", metavar="NAME", help="whose weights B holds")
    parser.add_argument("--trust", action="store_true", help="run the FILE.py that --arch names, or the .py beside a .safetensors")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE.py", help="your own layers: a Python file that registers them; it is run"
    )
    parser.add_argument("--with", dest="feeds", action="append", default=[], metavar="FILE", help="compare on this image, .npy or .npz")
    parser.add_argument("--samples", type=int, default=4, metavar="N", help="batch of the first run (default 4; a second run takes one)")
    parser.add_argument(
        "--rtol", type=float, default=1e-4, metavar="X", help="largest difference allowed, relative to the largest value (default 1e-4)"
    )
    parser.add_argument("--save", metavar="FILE.npz", help="keep a failing comparison, so that somebody else can run it")


def run(options: argparse.Namespace) -> Report | None:
    from niudao.formats import read
    from niudao.formats.convert import compare

    common.load_plugins(options.plugin)
    options.source = options.a
    with Progress(options, total=3) as progress:
        progress("reading")
        a = read(options.a, weights=options.weights, arch=options.arch, trust=options.trust)
        b = read(options.b, weights=options.weights_b, arch=options.arch_b, trust=options.trust)
        feeds = None
        if options.feeds:
            from niudao.cli.feeds import load_feeds

            feeds = load_feeds(a, options.feeds)
        progress("comparing")
        report = compare(a, b, feeds, samples=options.samples, seed=options.seed, rtol=options.rtol, names=(options.a, options.b))
    if options.save and not report.same:
        from niudao.ir.compare import save_repro

        save_repro(options.save, report)
    return report
