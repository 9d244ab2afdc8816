"""Conversions to Caffe, with their proofs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import niudao as nd
from niudao.errors import UsageError
from niudao.ir.build import Builder


@pytest.fixture
def uneven() -> ir.Model:
    """A convolution that pads on one side only, its normalization, and a bounded activation."""
    rng = np.random.default_rng(0)
    b = Builder("uneven")
    x = b.input("x", (None, 3, 8, 8))
    y = b.op("Conv", x, b.weight(rng.standard_normal((4, 3, 3, 3)).astype("f4"), "c"), layer="conv", pads=[0, 0, 1, 1], strides=[2, 2])
    stats = [b.weight(rng.random(4).astype("f4") + 0.5, name) for name in ("gamma", "beta", "mean", "variance")]
    y = b.op("BatchNormalization", y, *stats, layer="bn")
    b.output(b.op("Clip", y, b.const(0.0), b.const(6.0), layer="relu6"), "y")
    return b.model()


def test_the_listed_layers_agree_where_the_target_makes_more_and_cuts_it(uneven: ir.Model, tmp_path: Path) -> None:
    report = nd.convert(uneven, tmp_path / "net.prototxt", layers=True)
    assert report.ok and report.proof is not None
    assert {"bn"} <= {x.layer for x in report.proof.layers}
    assert all(x.error < 1e-5 for x in report.proof.layers)
    assert any("larger one" in r for r in report.rewrites) and any("upper bound" in r for r in report.rewrites)


def test_a_dry_run_names_everything_and_writes_nothing(tmp_path: Path) -> None:
    b = Builder("n")
    x = b.input("x", (None, 3, 4, 4))
    b.output(b.op("Erf", b.op("Sin", x, layer="first"), layer="second"), "y")
    report = nd.convert(b.model(), tmp_path / "net.prototxt", dry_run=True)
    assert [r.node for r in report.refused] == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_layers_of_a_fork_are_written_only_where_they_are_named(tmp_path: Path) -> None:
    b = Builder("n")
    b.output(b.op("Transpose", b.input("x", (None, 3, 4, 5)), perm=[0, 2, 3, 1], layer="t"), "y")
    model = b.model()
    nd.write(model, tmp_path / "plain.prototxt")
    assert "Permute" not in (tmp_path / "plain.prototxt").read_text()
    nd.write(model, tmp_path / "fork.prototxt", fork="permute")
    assert 'type: "Permute"' in (tmp_path / "fork.prototxt").read_text()
    x = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    for name in ("plain", "fork"):
        np.testing.assert_array_equal(nd.run(nd.read(tmp_path / f"{name}.prototxt"), {"x": x})["y"], x.transpose(0, 2, 3, 1))
    with pytest.raises(UsageError, match="Frob"):
        nd.write(model, tmp_path / "no.prototxt", fork="Frob")
