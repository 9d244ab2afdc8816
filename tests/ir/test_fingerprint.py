"""Fingerprints see what a network is, not how its file is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from niudao.ir.build import Builder
from niudao.ir.fingerprint import fingerprint, node_fingerprints


def net(
    *, names: str = "", seed: int = 0, swap: bool = False, order: bool = False, stride: int | None = None, kernel: bool = False
) -> ir.Model:
    rng = np.random.default_rng(seed)
    b = Builder()
    x = b.input(f"x{names}", (None, 3, 8, 8))
    weights = [rng.normal(size=(4, 3, 3, 3)).astype(np.float32) for _ in range(2)]
    held = [b.weight(w, f"w{names}{i}") for i, w in enumerate(weights)]
    extra = {"strides": [stride, stride]} if stride is not None else {}
    extra |= {"kernel_shape": [3, 3], "pads": [0, 0, 0, 0], "group": 1} if kernel else {}
    pair: list[ir.Value] = []
    for i in (1, 0) if order else (0, 1):
        pair.insert(0 if order else len(pair), b.op("Conv", x, held[i], layer=f"{names}conv{i}", **extra))
    if swap:
        pair.reverse()
    b.output(b.op("Add", *pair), f"y{names}")
    return b.model()


def test_names_order_and_written_out_defaults_do_not_count() -> None:
    want = fingerprint(net())
    assert len(want.topology) == len(want.weights) == 64
    for other in (net(names="other_"), net(swap=True), net(order=True), net(kernel=True), net(stride=1)):
        assert fingerprint(other) == want


def test_saving_does_not_count(tmp_path: Path) -> None:
    model = net()
    ir.save(model, tmp_path / "a.onnx")
    assert fingerprint(ir.load(tmp_path / "a.onnx")) == fingerprint(model)
    ir.save(model.clone(), tmp_path / "b.onnx", external_data="b.data")
    assert fingerprint(ir.load(tmp_path / "b.onnx")) == fingerprint(model)


def test_weights_and_topology_are_told_apart() -> None:
    a, b, c = fingerprint(net()), fingerprint(net(seed=1)), fingerprint(net(stride=2))
    assert a.topology == b.topology and a.weights != b.weights
    assert a.topology != c.topology and a.weights != c.weights


def test_an_identity_and_a_dead_node_do_not_count() -> None:
    def make(extra: bool) -> ir.Model:
        b = Builder()
        x = b.input("x", (None, 4))
        if extra:
            b.op("Tanh", x)
            x = b.op("Dropout", b.op("Identity", x))
        b.output(b.op("Relu", x), "y")
        return b.model()

    assert fingerprint(make(True)) == fingerprint(make(False))


def test_operand_order_counts_where_it_matters() -> None:
    def make(op: str, swap: bool) -> str:
        b = Builder()
        x = b.input("x", (None, 4))
        pair = [b.op("Relu", x), b.op("Tanh", x)]
        b.output(b.op(op, *(pair[::-1] if swap else pair)), "y")
        return fingerprint(b.model()).topology

    assert make("Mul", False) == make("Mul", True)
    assert make("Sub", False) != make("Sub", True)


def test_nodes_are_matched_across_files() -> None:
    a, b = node_fingerprints(net()), node_fingerprints(net(names="other_", order=True))
    assert sorted(a.values()) == sorted(b.values())
    by_hash = {h: n for n, h in node_fingerprints(net(), weights=True).items()}
    other = node_fingerprints(net(names="o_", order=True), weights=True)
    assert by_hash[other["o_conv0"]] == "conv0" and by_hash[other["o_conv1"]] == "conv1"


def test_small_numbers_are_topology() -> None:
    def make(limit: float) -> str:
        b = Builder()
        b.output(b.op("Clip", b.input("x", (None, 4)), b.const(0.0), b.const(limit)), "y")
        return fingerprint(b.model()).topology

    assert make(6.0) != make(1.0)
