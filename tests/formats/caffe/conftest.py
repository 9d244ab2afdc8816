"""Small Caffe networks made on the spot, and those that real Caffe ran."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from niudao.formats.caffe.read import read
from niudao.formats.caffe.schema import schema
from niudao.formats.protobuf import binary
from niudao.formats.protobuf.message import message
from niudao.ir.session import run

Net = Callable[..., ir.Model]


@pytest.fixture
def net(tmp_path: Path) -> Net:
    """`net("layer { ... }", ..., {"conv": [weight, bias]}, x=(2, 3, 8, 8))`: a network of these layers, inputs and perhaps blobs, read."""

    def make(*parts: str | Mapping[str, Sequence[Any]], **inputs: tuple[int, ...]) -> ir.Model:
        layers = "\n".join(p for p in parts if isinstance(p, str))
        blobs = next((p for p in parts if not isinstance(p, str)), None)
        text = ""
        for name, shape in inputs.items():
            dims = " ".join(f"dim: {d}" for d in shape)
            text += f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'
        (tmp_path / "net.prototxt").write_text(text + layers)
        (tmp_path / "net.caffemodel").unlink(missing_ok=True)
        if blobs is not None:
            stored = [
                message(schema(), "LayerParameter", name=name, blobs=[_blob(np.asarray(a, np.float32)) for a in arrays])
                for name, arrays in blobs.items()
            ]
            with open(tmp_path / "net.caffemodel", "wb") as f:
                binary.write(message(schema(), "NetParameter", layer=stored), f)
        return read(tmp_path / "net.prototxt")

    return make


def _blob(array: np.ndarray) -> Any:
    shape = message(schema(), "BlobShape", dim=[int(d) for d in array.shape])
    return message(schema(), "BlobProto", shape=shape).set("data", *(float(v) for v in array.ravel()))


@pytest.fixture
def as_caffe_ran(real_data: Path) -> Callable[[str], int]:
    """`as_caffe_ran("op_conv")`: read a network, run it on its saved inputs, compare every saved output; says how many there were."""

    def check(name: str) -> int:
        folder = real_data / "frameworks" / "caffe-1.0" / name
        if not folder.is_dir():
            pytest.skip(f"the network {name} of Caffe 1.0 is not at {folder.parent}")
        model = read(folder / "deploy.prototxt", weights=folder / "model.caffemodel")
        want = dict(np.load(folder / "output.npz"))
        got = run(model, dict(np.load(folder / "input.npz")))
        for key, value in want.items():
            np.testing.assert_allclose(got[key], value, rtol=1e-5, atol=1e-5)
        return len(want)

    return check
