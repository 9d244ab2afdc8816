"""OpenCV reads what we write, and gives the same answers: a second reader of Caffe files that nobody here wrote.

It is no judge of everything: it ignores LRN's k, the dilation of a Deconvolution and `transpose` of an InnerProduct, puts MVN's
eps inside the root, and lacks Bias, Threshold, Reduction, Embed and LSTM. Real Caffe judges those (see `test_write_*`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import niudao as nd
from niudao.formats.caffe.opening import open_net

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed (pip install 'niudao[test]')")

NETWORKS = [
    "caffe-1.0/alexnet/deploy.prototxt",
    "caffe-1.0/googlenet/deploy.prototxt",
    "caffe-1.0/mobilenet_v2/deploy.prototxt",
    "caffe-1.0/op_eltwise/deploy.prototxt",
    "caffe-1.0/op_softmax/deploy.prototxt",
    "caffe-1.0/v0_lenet/deploy.prototxt",
    "keras-2.2.4/mobilenet_v2/model.h5",
    "keras-2.2.4/senet/model.h5",
    "keras-2.2.4/siamese/model.h5",
    "keras-2.2.4/xception/model.h5",
    "keras-3/alexnet/model.keras",
    "keras-3/resnet50/model.keras",
    "tf-2.13/squeezenet/model.h5",
    "pytorch-1.0.1/mobilenet_v1/model.onnx",
    "mxnet-1.9.1/gluon_resnet50_v1_narrow/model.onnx",
]


def in_opencv(path: Path, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs, which OpenCV knows by the layers that make them."""
    net = cv2.dnn.readNetFromCaffe(str(path), str(path.with_suffix(".caffemodel")))
    for name, x in feeds.items():
        net.setInput(x, name)
    stored = open_net(path).net
    made = {top: layer.name for layer in stored.layers for top in layer.tops}
    return list(net.forward([made[b] for b in stored.outputs()]))


def check(model: ir.Model, path: Path) -> None:
    nd.write(model, path)
    rng = np.random.default_rng(0)
    sizes = {v.name or "": [d if isinstance(d, int) else 1 for d in v.shape or ()] for v in model.graph.inputs}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in sizes.items()}
    want = nd.run(model, feeds)
    for name, got in zip(want, in_opencv(path, feeds), strict=True):
        np.testing.assert_allclose(got.reshape(want[name].shape), want[name], rtol=0, atol=1e-4 * np.abs(want[name]).max())


def test_a_small_network(small_net: ir.Model, tmp_path: Path) -> None:
    check(small_net, tmp_path / "net.prototxt")


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_every_framework(real_data: Path, tmp_path: Path, name: str) -> None:
    check(nd.read(real_data / "frameworks" / name), tmp_path / "net.prototxt")
