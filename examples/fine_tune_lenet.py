"""Teach the shipped Keras LeNet an eleventh class, the plus sign, in PyTorch, and give it back as the Keras file that it came as."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from PIL import Image, ImageDraw

import niudao as nd
from niudao.demo import data
from niudao.formats.pytorch import from_module, to_module
from niudao.ir import card
from niudao.ir.passes.infer_shapes import infer_shapes

generator = np.random.default_rng(0)
torch.manual_seed(0)


def plus_sign() -> np.ndarray:
    """One plus sign as the digits are: uint8 (8, 8), white on black, drawn large and made small so that it is soft."""
    picture = Image.new("L", (64, 64))
    x, y = generator.uniform(26, 38, 2)
    arm, width = generator.uniform(14, 24), int(generator.integers(7, 12))
    draw = ImageDraw.Draw(picture)
    draw.line((x - arm, y, x + arm, y), fill=255, width=width)
    draw.line((x, y - arm, x, y + arm), fill=255, width=width)
    turned = picture.rotate(generator.uniform(-12, 12), resample=Image.Resampling.BILINEAR)
    return np.asarray(turned.resize((8, 8), Image.Resampling.BOX))


def widened(model: ir.Model, name: str) -> None:
    """One more column in a weight of the last layer, which begins as the mean of the others."""
    value = model.graph.initializers[name]
    old = value.const_value.numpy()
    new = np.concatenate([old, old.mean(-1, keepdims=True)], axis=-1)
    value.const_value, value.shape = ir.tensor(new, name=name), ir.Shape(new.shape)


# the network, with room for another class
model = nd.read(data.path("lenet.h5"))
widened(model, "prob/kernel")
widened(model, "prob/bias")
for node in model.graph:
    if card.layer_of(node) == "prob":
        node.outputs[0].shape = None
infer_shapes(model)
card.set_classes(model, [*"0123456789", "+"])

# half of the pictures to learn from, half to look at afterwards
digits, labels = data.digits()
pictures = data.inputs(np.concatenate([digits, np.stack([plus_sign() for _ in range(100)])])).transpose(0, 3, 1, 2)
x, y = torch.from_numpy(np.ascontiguousarray(pictures)), torch.from_numpy(np.concatenate([labels, np.full(100, 10)]).astype(np.int64))
learn, look = torch.arange(200) % 2 == 0, torch.arange(200) % 2 == 1

network = to_module(model)
with torch.no_grad():
    before = network(x[look]).argmax(1) == y[look]
optimizer = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
network.train()
for _ in range(40):
    optimizer.zero_grad()
    torch.nn.functional.nll_loss(network(x[learn]).clamp_min(1e-9).log(), y[learn]).backward()
    optimizer.step()
network.eval()

# home again: the same names, the same layers, another class
with tempfile.TemporaryDirectory() as folder:
    target = Path(folder) / "lenet11.h5"
    nd.write(from_module(network), target)
    with torch.no_grad():
        want = network(x[look]).numpy()
    back = nd.read(target)
    got = nd.run(back, {"conv1_input": x[look].numpy()})["prob"]
    right = got.argmax(1) == y[look].numpy()
    print(f"digits and plus signs never seen: {int(before.sum())} of 100 right before, {int(right.sum())} of 100 after")
    print(f"largest difference between torch and {target.name}: {np.abs(got - want).max():.1e}")
    print(f"classes in the file: {', '.join(card.get_classes(back))}")
