"""Plant one fault in a network of 500 nodes, compare it with the sound one, and see whether the layer is found.

    python benchmarks/planted_faults.py [--seed 0] [--faults 20]

Prints one line per fault and `found 20 of 20`; writes planted_faults.csv beside this file. Every fault keeps all shapes, so
that nothing but numbers can give it away, and is planted in a random layer; where it leaves the outputs within the limit
(a dead unit, a far too small change) another layer is drawn. Each fault is searched twice: with the layer names of the
source, and in a copy whose nodes and values all have other names. `memory` is what the search adds to the process at most, over
the bytes of the model's weights.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.ir import card, wire
from niudao.ir.build import Builder
from niudao.ir.compare import ModelRunner, compare

NODES = 500
Array = np.ndarray[Any, Any]


class Network:
    """Residual, depthwise and inception blocks, drawn from a seed, of exactly `NODES` nodes."""

    def __init__(self, seed: int, channels: int = 128) -> None:
        self.random = np.random.default_rng(seed)
        self.b = Builder("planted")
        self.c = channels
        x = self.bn(self.conv(self.b.input("image", (None, 3, 8, 8)), "stem", 3, channels))
        block = 0
        while len(self.b.nodes) < NODES - 15:
            block += 1
            x = (self.residual, self.depthwise, self.inception)[int(self.random.integers(3))](x, f"block{block}")
            if block in (8, 24):
                x = self.bn(self.conv(x, f"down{block}", channels, channels, stride=2))
        while len(self.b.nodes) < NODES - 4:
            x = self.op("LeakyRelu", x, f"tail{len(self.b.nodes)}", alpha=0.3)
        x = self.op("GlobalAveragePool", x, "pool")
        x = self.op("Flatten", x, "flat")
        w = self.b.weight(self.normal(channels, channels), "fc/kernel")
        x = self.op("Gemm", x, "fc", w, self.b.weight(self.normal(channels) * 0.1, "fc/bias"))
        self.b.output(self.op("Softmax", x, "prob", axis=-1), "prob")

    def normal(self, *shape: int) -> Array:
        return self.random.standard_normal(shape).astype(np.float32)

    def op(self, kind: str, x: ir.Value, name: str, *more: ir.Value, **attributes: Any) -> ir.Value:
        return self.b.op(kind, x, *more, layer=name, **attributes)

    def conv(self, x: ir.Value, name: str, n: int, m: int, k: int = 3, stride: int = 1, group: int = 1) -> ir.Value:
        self.last = name
        w = self.normal(m, n // group, k, k) / np.float32(np.sqrt(n // group * k * k))
        bias = self.b.weight(self.normal(m) * np.float32(0.1), f"{name}/bias")
        return self.op("Conv", x, name, self.b.weight(w, f"{name}/kernel"), bias, pads=[k // 2] * 4, strides=[stride] * 2, group=group)

    def bn(self, x: ir.Value, gain: float = 1.0) -> ir.Value:
        name, n = f"{self.last}_bn", self.c
        r = self.random
        draws = {"gamma": gain * r.uniform(0.8, 1.2, n), "beta": r.normal(0, 0.1, n), "mean": r.normal(0, 0.1, n)}
        draws["var"] = r.uniform(0.5, 1.5, n)
        parts = [self.b.weight(a.astype(np.float32), f"{name}/{part}") for part, a in draws.items()]
        return self.op("BatchNormalization", x, name, *parts, epsilon=1e-3)

    def residual(self, x: ir.Value, name: str) -> ir.Value:
        y = self.op("Relu", self.bn(self.conv(x, f"{name}/a", self.c, self.c)), f"{name}/relu")
        y = self.bn(self.conv(y, f"{name}/b", self.c, self.c), 0.4)
        return self.op("Relu", self.op("Add", x, f"{name}/add", y), f"{name}/out")

    def depthwise(self, x: ir.Value, name: str) -> ir.Value:
        y = self.op("LeakyRelu", self.bn(self.conv(x, f"{name}/a", self.c, self.c, 1)), f"{name}/leaky", alpha=0.1)
        y = self.op("LeakyRelu", self.bn(self.conv(y, f"{name}/dw", self.c, self.c, group=self.c)), f"{name}/leaky2", alpha=0.2)
        return self.op("Add", x, f"{name}/add", self.bn(self.conv(y, f"{name}/b", self.c, self.c, 1), 0.4))

    def inception(self, x: ir.Value, name: str) -> ir.Value:
        window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
        parts = [self.op("MaxPool", x, f"{name}/max", **window), self.op("AveragePool", x, f"{name}/mean", **window)]
        parts.append(self.op("Relu", self.conv(x, f"{name}/a", self.c, self.c), f"{name}/relu"))
        y = self.op("Concat", parts[0], f"{name}/cat", *parts[1:], axis=1)
        return self.op("Relu", self.bn(self.conv(y, f"{name}/b", 3 * self.c, self.c, 1)), f"{name}/out")


def weight(i: int, change: Callable[[Array], Array]) -> Callable[[ir.Node], None]:
    """A fault in the content of input `i`."""

    def plant(node: ir.Node) -> None:
        value = node.inputs[i]
        assert value is not None and value.const_value is not None
        value.const_value = ir.tensor(np.ascontiguousarray(change(value.const_value.numpy().copy())), name=value.name)

    return plant


def attributes(**wanted: Any) -> Callable[[ir.Node], None]:
    """A fault in attributes."""

    def plant(node: ir.Node) -> None:
        for name, value in wanted.items():
            node.attributes[name] = ir.convenience.convert_attribute(name, value)

    return plant


def swap(i: int, j: int) -> Callable[[ir.Node], None]:
    """A fault in the order of inputs."""

    def plant(node: ir.Node) -> None:
        x, y = node.inputs[i], node.inputs[j]
        node.replace_input_with(i, y)
        node.replace_input_with(j, x)

    return plant


def one_weight(w: Array) -> Array:
    w.reshape(-1)[w.size // 2] += 0.5
    return w


def one_filter(w: Array) -> Array:
    w[len(w) // 2] *= -1
    return w


def kernel(node: ir.Node) -> tuple[int, ...]:
    value = node.inputs[1]
    return tuple(int(d) for d in value.shape) if value is not None and value.shape is not None else ()  # type: ignore[arg-type]


def conv3(node: ir.Node) -> bool:
    return node.op_type == "Conv" and kernel(node)[2] == 3 and node.attributes["strides"].as_ints()[0] == 1


def is_a(op: str) -> Callable[[ir.Node], bool]:
    return lambda node: node.op_type == op


FAULTS: dict[str, tuple[Callable[[ir.Node], bool], Callable[[ir.Node], None]]] = {
    "one weight changed": (is_a("Conv"), weight(1, one_weight)),
    "one filter negated": (is_a("Conv"), weight(1, one_filter)),
    "kernel transposed": (conv3, weight(1, lambda w: w.swapaxes(2, 3))),
    "kernel flipped": (conv3, weight(1, lambda w: w[:, :, ::-1, ::-1])),
    "filters in another order": (is_a("Conv"), weight(1, lambda w: w[::-1])),
    "inputs in another order": (lambda n: is_a("Conv")(n) and kernel(n)[1] > 1, weight(1, lambda w: w[:, ::-1])),
    "bias left out": (is_a("Conv"), weight(2, np.zeros_like)),
    "padding shifted": (conv3, attributes(pads=[0, 0, 2, 2])),
    "stride for dilation": (lambda n: is_a("Conv")(n) and not conv3(n) and kernel(n)[2] == 3, None),  # type: ignore[dict-item]
    "mean and variance swapped": (is_a("BatchNormalization"), swap(3, 4)),
    "gamma and beta swapped": (is_a("BatchNormalization"), swap(1, 2)),
    "epsilon 1e-5 for 1e-3": (is_a("BatchNormalization"), attributes(epsilon=1e-5)),
    "variance taken as deviation": (is_a("BatchNormalization"), weight(4, lambda v: v * v)),
    "alpha 0.3 for 0.1": (lambda n: is_a("LeakyRelu")(n) and n.attributes["alpha"].as_float() < 0.15, attributes(alpha=0.3)),
    "padding counted in the mean": (is_a("AveragePool"), attributes(count_include_pad=1)),
    "pooling window shifted": (is_a("MaxPool"), attributes(pads=[0, 0, 2, 2])),
    "concat in another order": (is_a("Concat"), swap(0, 1)),
    "matrix transposed": (is_a("Gemm"), weight(1, lambda w: w.T)),
    "shortcut taken after the layer": (is_a("Add"), None),  # type: ignore[dict-item]
    "softmax twice as sharp": (is_a("Gemm"), attributes(alpha=2.0)),
}


def stride_for_dilation(node: ir.Node) -> None:
    """As many outputs from other places: stride 1, and windows so wide that no padding is left."""
    x = node.inputs[0]
    assert x is not None and x.shape is not None and isinstance(x.shape[2], int)
    d = x.shape[2] // 4
    attributes(strides=[1, 1], dilations=[d, d], pads=[0, 0, 0, 0])(node)


def wrong_shortcut(node: ir.Node) -> None:
    """Both operands are the branch."""
    node.replace_input_with(0, node.inputs[1])


FAULTS["stride for dilation"] = (FAULTS["stride for dilation"][0], stride_for_dilation)
FAULTS["shortcut taken after the layer"] = (FAULTS["shortcut taken after the layer"][0], wrong_shortcut)


def rename(model: ir.Model) -> None:
    """Other names everywhere, and no layer names: only structure is left to match by."""
    for i, node in enumerate(model.graph):
        node.name = f"n{i}"
        node.metadata_props.pop(card.LAYER, None)
        for value in node.outputs:
            value.name = f"v{i}" if not value.is_graph_output() else "scores"


def resident(field: str) -> int:
    """Bytes of this process in memory, now (VmRSS) or at most since `forget` (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    return 0


def forget() -> int:
    """Give freed memory back to the system and start the high-water mark anew; bytes in memory now."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=int, default=len(FAULTS))
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    sound = Network(options.seed).b.model()
    size = wire.size(sound)
    compare(ModelRunner(sound), ModelRunner(sound))  # what is loaded once is no memory of a search
    rows: list[dict[str, Any]] = []
    found = 0
    say = sys.stdout.write
    say(f"{len(list(sound.graph))} nodes, {size / 1e6:.1f} MB of weights\n")
    for name in list(FAULTS)[: options.faults]:
        fits, plant = FAULTS[name]
        for drawn in range(1, 20):  # noqa: B007  told below
            broken = Network(options.seed).b.model()
            nodes = [n for n in broken.graph if fits(n)]
            node = nodes[int(random.integers(len(nodes)))]
            layer = card.layer_of(node)
            plant(node)
            before = forget()
            report = compare(ModelRunner(sound), ModelRunner(broken), seed=options.seed)
            memory = max(0, resident("VmHWM") - before) / size
            if not report.same:
                break
        first = report.first_divergence
        rename(broken)
        blind = compare(ModelRunner(sound), ModelRunner(broken), seed=options.seed).first_divergence
        hit = first is not None and first.source_layer == layer and first.runs <= first.runs_allowed
        blind_hit = blind is not None and blind.source_layer == layer and blind.runs <= blind.runs_allowed
        found += hit and blind_hit
        row = {
            "fault": name,
            "layer": layer,
            "drawn": drawn,
            "output_error": f"{report.outputs[0].max_rel:.2e}",
            "found": first.source_layer if first else "",
            "found_without_names": blind.source_layer if blind else "",
            "runs": first.runs if first else "",
            "runs_without_names": blind.runs if blind else "",
            "allowed": first.runs_allowed if first else "",
            "memory": f"{memory:.2f}",
        }
        rows.append(row)
        say(f"{'ok  ' if hit and blind_hit else 'MISS'} " + "  ".join(f"{k} {v}" for k, v in row.items()) + "\n")
        sys.stdout.flush()
    with open(Path(__file__).with_suffix(".csv"), "w", newline="", encoding="utf-8") as f:
        writer = csv.DictWriter(f, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    worst = max(float(r["memory"]) for r in rows)
    runs, allowed = (max(r[k] for r in rows) for k in ("runs", "allowed"))
    say(f"most runs {runs} of {allowed}, most memory {worst:.2f} x the model (2 are allowed)\n")
    say(f"found {found} of {len(rows)}\n")
    return 0 if found == len(rows) and worst <= 2 else 3


if __name__ == "__main__":
    sys.exit(main())
