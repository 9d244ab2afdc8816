"""Networks as text: the text's class gives what the network gave, and reads like what a person would have written."""

from __future__ import annotations

import ast
import operator
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from niudao.errors import Unsupported
from niudao.formats.pytorch.source import Source, write_source
from niudao.formats.pytorch.stored import write_safetensors

STANDARD = {"__future__", "json", "math", "mmap", "collections", "torch", "typing", "dataclasses", "functools", "itertools"}


class Basic(nn.Module):
    def __init__(self, i: int, o: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.bn2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)) if stride != 1 or i != o else None

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.layer1 = nn.Sequential(Basic(8, 8), Basic(8, 8))
        self.layer2 = nn.Sequential(Basic(8, 16, 2), Basic(16, 16))
        self.layer3 = nn.Sequential(Basic(16, 24, 2), Basic(24, 24))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(24, 5)

    def forward(self, x: Any) -> Any:
        x = self.layer3(self.layer2(self.layer1(self.relu(self.bn1(self.conv1(x))))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Fire(nn.Module):
    def __init__(self, i: int, s: int, e: int) -> None:
        super().__init__()
        self.squeeze, self.expand1x1, self.expand3x3 = nn.Conv2d(i, s, 1), nn.Conv2d(s, e, 1), nn.Conv2d(s, e, 3, padding=1)
        self.act1, self.act2, self.act3 = nn.ReLU(), nn.ReLU(), nn.ReLU()

    def forward(self, x: Any) -> Any:
        x = self.act1(self.squeeze(x))
        return torch.cat([self.act2(self.expand1x1(x)), self.act3(self.expand3x3(x))], 1)


class SqueezeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), Fire(8, 2, 6), Fire(12, 3, 8), Fire(16, 4, 8))
        self.classifier = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d((1, 1)))

    def forward(self, x: Any) -> Any:
        return torch.flatten(self.classifier(self.features(x)), 1)


class ConvNorm(nn.Module):
    def __init__(self, i: int, o: int, kernel: Any, padding: Any = 0) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(i, o, kernel, padding=padding, bias=False), nn.BatchNorm2d(o, eps=1e-3), nn.ReLU()

    def forward(self, x: Any) -> Any:
        return self.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    def __init__(self, i: int, pool: int) -> None:
        super().__init__()
        self.branch1x1 = ConvNorm(i, 6, 1)
        self.branch7x7_1, self.branch7x7_2 = ConvNorm(i, 4, (1, 7), (0, 3)), ConvNorm(4, 6, (7, 1), (3, 0))
        self.branch_pool = ConvNorm(i, pool, 1)

    def forward(self, x: Any) -> Any:
        pooled = F.avg_pool2d(x, 3, stride=1, padding=1)
        return torch.cat([self.branch1x1(x), self.branch7x7_2(self.branch7x7_1(x)), self.branch_pool(pooled)], 1)


class Inception(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 8, 3)
        self.mixed_a, self.mixed_b = Mixed(8, 4), Mixed(16, 5)
        self.fc = nn.Linear(17, 3)

    def forward(self, x: Any) -> Any:
        return self.fc(self.mixed_b(self.mixed_a(self.stem(x))).mean((2, 3)))


class Inverted(nn.Module):
    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.residual = stride == 1 and i == o
        self.conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(i, 2 * i, 1, bias=False), nn.BatchNorm2d(2 * i), nn.ReLU6()),
            nn.Sequential(nn.Conv2d(2 * i, 2 * i, 3, stride, 1, groups=2 * i, bias=False), nn.BatchNorm2d(2 * i), nn.ReLU6()),
            nn.Conv2d(2 * i, o, 1, bias=False),
            nn.BatchNorm2d(o),
        )

    def forward(self, x: Any) -> Any:
        return x + self.conv(x) if self.residual else self.conv(x)


class MobileNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1, bias=False), nn.BatchNorm2d(4), nn.ReLU6())
        self.features = nn.Sequential(stem, Inverted(4, 4, 1), Inverted(4, 6, 2), Inverted(6, 6, 1), Inverted(6, 8, 2))
        self.classifier = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.features(x).mean([2, 3]))


class Vgg(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for i, o in ((3, 4), (4, 4), (4, 8)):
            layers += [nn.Conv2d(i, o, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(8 * 4 * 3, 6), nn.ReLU(), nn.Linear(6, 3))

    def forward(self, x: Any) -> Any:
        return self.classifier(torch.flatten(self.features(x), 1))


class DenseLayer(nn.Module):
    def __init__(self, i: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.relu1, self.conv1 = nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, 2 * growth, 1, bias=False)
        self.norm2, self.relu2, self.conv2 = nn.BatchNorm2d(2 * growth), nn.ReLU(), nn.Conv2d(2 * growth, growth, 3, padding=1)

    def forward(self, xs: Any) -> Any:
        x = torch.cat(xs, 1)
        return self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))


class DenseBlock(nn.Module):
    def __init__(self, count: int, i: int, growth: int) -> None:
        super().__init__()
        for k in range(count):
            self.add_module(f"denselayer{k + 1}", DenseLayer(i + k * growth, growth))

    def forward(self, x: Any) -> Any:
        xs = [x]
        for layer in self.children():
            xs.append(layer(list(xs)))
        return torch.cat(xs, 1)


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv0, self.denseblock1, self.denseblock2 = nn.Conv2d(3, 4, 3), DenseBlock(3, 4, 2), DenseBlock(4, 10, 2)
        self.classifier = nn.Linear(18, 3)

    def forward(self, x: Any) -> Any:
        return self.classifier(self.denseblock2(self.denseblock1(self.conv0(x))).mean((2, 3)))


class Odd(nn.Module):
    """Shared and tied layers, weights of its own, several inputs and outputs, numbers from shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.other.weight = self.conv.weight
        self.scale = nn.Parameter(torch.rand(3, 1, 1))
        self.register_buffer("offset", torch.rand(3, 1, 1, dtype=torch.float64))
        self.register_buffer("order", torch.tensor([2, 0, 1]))

    def forward(self, left: Any, right: Any) -> Any:
        a, b = self.conv(left), self.other(self.conv(right))
        batch, height = a.shape[0], a.size(2)
        c = (a - b) * self.scale + self.offset
        parts = torch.chunk(c.index_select(1, self.order), 3, 1)
        return c.reshape(batch, -1, height).transpose(1, 2), parts[0] * 2.0 - parts[2], b


def run(source: Source, network: nn.Module, inputs: Sequence[torch.Tensor]) -> tuple[Any, Any]:
    """What the text's class gives, and what the network gives."""
    made: dict[str, Any] = {"__name__": "text"}
    exec(compile(source.text, "text", "exec"), made)
    twin = made[source.class_name]()
    state = network.state_dict()
    assert set(source.keys.values()) == set(state)
    twin.load_state_dict({key: state[old] for key, old in source.keys.items()})
    with torch.inference_mode():
        return twin.eval()(*inputs), network.eval()(*inputs)


def check_text(source: Source) -> None:
    """Valid, narrow, and importing nothing but torch and the standard library."""
    assert max(map(len, source.text.splitlines())) <= 120
    for node in ast.walk(ast.parse(source.text)):
        if isinstance(node, ast.Import):
            assert all(a.name.split(".")[0] in STANDARD for a in node.names)
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] in STANDARD


def randomised(network: nn.Module) -> fx.GraphModule:
    for name, buffer in network.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    traced = fx.symbolic_trace(network.eval())
    for node in traced.graph.nodes:
        if node.op == "call_function" and node.meta.get("nn_module_stack"):
            node.meta["niudao.layer"] = f"{list(node.meta['nn_module_stack'])[-1]}.{node.name}".lstrip(".")
    return traced


@pytest.mark.parametrize(
    ("network", "classes", "lines"),
    [(ResNet, 2, 110), (SqueezeNet, 2, 95), (Inception, 3, 110), (MobileNet, 4, 115), (Vgg, 1, 80), (Dense, 4, 120)],
    ids=lambda v: v.__name__ if isinstance(v, type) else None,
)
def test_same_numbers_and_short(network: type[nn.Module], classes: int, lines: int) -> None:
    torch.manual_seed(0)
    traced = randomised(network())
    source = write_source(traced, class_name=network.__name__, title="A small network")
    check_text(source)
    for batch in (1, 3):
        got, want = run(source, traced, [torch.rand(batch, 3, 32, 24)])
        assert torch.equal(got, want)
    assert source.text.count("\nclass ") == classes
    assert source.text.count("\n") <= lines
    assert source.text == write_source(traced, class_name=network.__name__, title="A small network").text


def test_block_with_other_numbers_is_one_class_with_parameters() -> None:
    source = write_source(randomised(ResNet()), class_name="ResNet", title="ResNet")
    assert "(16, 24, stride=2, downsample=True)," in source.text
    assert "nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)" in source.text
    assert "        y = self.relu(self.bn1(self.conv1(x)))\n" in source.text
    assert "        if self.downsample is not None:\n            x = self.downsample(x)\n" in source.text


def test_shared_tied_lone_weights_and_several_values() -> None:
    torch.manual_seed(0)
    traced = fx.symbolic_trace(Odd().eval())
    source = write_source(traced, class_name="Odd", title="Odd")
    check_text(source)
    for batch in (1, 2):
        got, want = run(source, traced, [torch.rand(batch, 3, 5, 7), torch.rand(batch, 3, 5, 7)])
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    made: dict[str, Any] = {"__name__": "text"}
    exec(source.text, made)
    network = made["Odd"]()
    assert network.other.weight is network.conv.weight
    assert isinstance(network.scale, nn.Parameter)
    assert network.offset.dtype == torch.float64
    assert network.order.dtype == torch.int64


def test_flat_names_get_blocks() -> None:
    torch.manual_seed(0)
    graph, root = fx.Graph(), nn.Module()

    def layer(name: str, module: nn.Module, x: fx.Node) -> fx.Node:
        root.add_module(name, module)
        return graph.call_module(name, (x,))

    x = graph.placeholder("data")
    x = layer("conv1", nn.Conv2d(3, 8, 3, padding=1), x)
    for stage, (i, o) in enumerate(((8, 16), (16, 16), (16, 24), (24, 24)), 2):
        y = layer(f"res{stage}a_branch2a", nn.Conv2d(i, o, 1), x)
        y = layer(f"bn{stage}a_branch2a", nn.BatchNorm2d(o), y)
        y = layer(f"res{stage}a_branch2b", nn.Conv2d(o, o, 3, padding=1), y)
        if i != o:
            x = layer(f"res{stage}a_branch1", nn.Conv2d(i, o, 1), x)
            x = layer(f"bn{stage}a_branch1", nn.BatchNorm2d(o), x)
        x = layer(f"res{stage}a_relu", nn.ReLU(), graph.call_function(operator.add, (x, y)))
    graph.output(x)
    network = randomised(fx.GraphModule(root, graph))
    source = write_source(network, class_name="flat", title="Flat")
    check_text(source)
    got, want = run(source, network, [torch.rand(2, 3, 8, 6)])
    assert torch.equal(got, want)
    assert "self.res2 = ResidualBlock(8, 16, shortcut=True)" in source.text
    assert "self.res3 = ResidualBlock(16, 16)" in source.text
    assert "# res2a_branch2a" in source.text


def test_a_fresh_process_with_nothing_but_torch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = randomised(SqueezeNet())
    source = write_source(network, class_name="SqueezeNet", title="SqueezeNet")
    (tmp_path / "model.py").write_text(source.text, encoding="utf-8")
    state = network.state_dict()
    write_safetensors(tmp_path / "model.safetensors", {key: state[old] for key, old in source.keys.items()}, {"a": "b"})
    x = torch.rand(2, 3, 32, 24)
    torch.save(x, tmp_path / "x.pt")
    program = (
        "import sys, torch, model\n"
        "with torch.inference_mode(): torch.save(model.load('model.safetensors')(torch.load('x.pt')), 'y.pt')\n"
        "assert not any(name.split('.')[0] in ('niudao', 'onnx', 'onnx_ir') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], cwd=tmp_path, check=True, timeout=120)
    with torch.inference_mode():
        assert torch.equal(torch.load(tmp_path / "y.pt"), network(x))


def test_what_cannot_be_written_is_named() -> None:
    class Mine(nn.Module):
        def forward(self, x: Any) -> Any:
            return x

    def strange(x: Any) -> Any:
        return x

    graph, root = fx.Graph(), nn.Module()
    root.add_module("mine", Mine())
    x = graph.call_module("mine", (graph.placeholder("x"),))
    graph.output(graph.call_function(strange, (x,)))
    with pytest.raises(Unsupported) as caught:
        write_source(fx.GraphModule(root, graph), class_name="N", title="n")
    assert {r.op for r in caught.value.refusals} == {"Mine", "call"}
    assert "neither" in str(caught.value)


def test_a_layer_that_its_constructor_would_not_give_is_refused() -> None:
    network = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 4, 3)))
    network.get_submodule("0").weight = nn.Parameter(torch.zeros(4, 3, 5, 5))
    with pytest.raises(Unsupported, match="are not those that its constructor gives"):
        write_source(network, class_name="N", title="n")


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True),
        nn.GRU(3, 4, bias=False),
        nn.RNN(3, 4, nonlinearity="relu"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_recurrent_layers(layer: nn.Module) -> None:
    graph, root = fx.Graph(), nn.Module()
    root.add_module("rnn", layer)
    both = graph.call_module("rnn", (graph.placeholder("x"),))
    graph.output(graph.call_function(operator.getitem, (both, 0)))
    network = fx.GraphModule(root, graph)
    source = write_source(network, class_name="Rnn", title="Rnn")
    check_text(source)
    got, want = run(source, network, [torch.rand(2, 5, 3)])
    assert torch.equal(got, want)


def test_weights_that_nothing_uses_are_kept() -> None:
    network = fx.symbolic_trace(nn.Sequential(nn.Linear(2, 3)))
    network.register_parameter("spare", nn.Parameter(torch.ones(3)))
    network.register_buffer("counter", torch.tensor(7))
    source = write_source(network, class_name="Spare", title="Spare")
    got, want = run(source, network, [torch.rand(1, 2)])
    assert torch.equal(got, want)
    assert source.keys["spare"] == "spare" and source.keys["counter"] == "counter"


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (lambda a, b: (a + b) * a, "(x + y) * x"),
        (lambda a, b: a - (b - a), "x - (y - x)"),
        (lambda a, b: a - b - a, "x - y - x"),
        (lambda a, b: -((a * 2.0) ** 2), "-(x * 2.0) ** 2"),
        (lambda a, b: (-a) ** 2, "(-x) ** 2"),
        (lambda a, b: (a + b)[:, 0:1].abs(), "(x + y)[:, 0:1].abs()"),
        (lambda a, b: a @ b.transpose(0, 1) + 1.0, "x @ y.transpose(0, 1) + 1.0"),
    ],
)
def test_parentheses_where_they_are_needed(write: Any, text: str) -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("y")
    graph.output(write(fx.Proxy(x), fx.Proxy(y)).node)
    network = fx.GraphModule({}, graph)
    source = write_source(network, class_name="Sum", title="Sum")
    a, b = torch.rand(3, 3), torch.rand(3, 3)
    got, want = run(source, network, [a, b])
    assert torch.equal(got, want)
    assert torch.equal(eval(text, {"x": a, "y": b}), want)
