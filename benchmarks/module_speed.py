"""Forward and backward of `to_module` against the hand-written module that the network came from, interleaved in one process.

    python benchmarks/module_speed.py [--nets resnet50_v1,mobilenet_v1_1.0_224] [--runs 7] [--batch 4] [--device cpu]

Both hold the same weights, train on the same batch, with one thread on a CPU. The ratio is the median over pairs of neighbouring runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from measure import table, write_csv

import niudao as nd
from niudao import zoo
from niudao.formats.pytorch import to_module


def step(module: torch.nn.Module, x: torch.Tensor) -> float:
    """Seconds of one forward and backward in training mode."""
    module.zero_grad(set_to_none=True)
    if x.is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    module(x).square().mean().backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", default="resnet50_v1,mobilenet_v1_1.0_224")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in options.nets.split(","):
        hand = zoo.build(name, seed=0)
        x = torch.randn(options.batch, *zoo.ARCHITECTURES[name].input, generator=torch.Generator().manual_seed(0))
        ours = to_module(nd.read(hand, example_inputs=(x,)))
        hand, ours, x = hand.to(options.device).train(), ours.to(options.device).train(), x.to(options.device)
        step(hand, x), step(ours, x)
        pairs = [(step(hand, x), step(ours, x)) for _ in range(options.runs)]
        ratio = statistics.median(b / a for a, b in pairs)
        mine, theirs = (statistics.median(p[i] for p in pairs) for i in (1, 0))
        rows.append(
            {
                "net": name,
                "batch": options.batch,
                "device": options.device,
                "hand s": f"{theirs:.3f}",
                "ours s": f"{mine:.3f}",
                "ratio": f"{ratio:.3f}",
            }
        )
    print(table(rows))
    write_csv(options.csv, rows, packages=("torch", "onnx"))
    return 0 if all(float(r["ratio"]) <= 1.1 for r in rows) else 3


if __name__ == "__main__":
    sys.exit(main())
