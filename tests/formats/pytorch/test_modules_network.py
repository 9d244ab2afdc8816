"""Networks of `to_module` as torch sees them: names, training, gradients, hooks, export, the way back."""

from __future__ import annotations

import copy
import pickle
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import niudao as nd
from niudao.errors import InvalidModel, Unsupported
from niudao.formats.pytorch import from_module, to_module
from niudao.formats.pytorch.modules.table import CONVERTERS
from niudao.ir.build import Builder

sys.path.insert(0, str(Path(__file__).parents[2]))
from randomgraphs import graphs

Array = np.ndarray[Any, Any]


class Hand(nn.Module):
    """What somebody would have written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6, eps=1e-3)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(6, 4, 3, stride=2, padding=1, groups=2)
        self.act = nn.PReLU(4)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.fc(torch.flatten(self.pool(y), 1))


def hand() -> Hand:
    torch.manual_seed(0)
    made = Hand()
    made.bn1.running_mean.normal_()
    made.bn1.running_var.uniform_(0.5, 2)
    nn.init.normal_(made.bn1.weight)
    return made.eval()


def model_of(net: Hand, *, keras: bool = False) -> ir.Model:
    """The same network as a model, with torch's names or with Keras's."""
    state = {k: v.detach().numpy().copy() for k, v in net.state_dict().items()}
    b = Builder("hand")

    def weight(layer: str, own: str, array: Array) -> ir.Value:
        other = {"weight": "kernel", "bias": "bias", "running_mean": "moving_mean", "running_var": "moving_variance"}
        if layer == "bn1" and keras:
            other |= {"weight": "gamma", "bias": "beta"}
        return b.weight(array, f"{layer}/{other[own]}" if keras else f"{layer}.{own}")

    def of(layer: str, *owns: str) -> list[ir.Value]:
        return [weight(layer, own, state[f"{layer}.{own}"]) for own in owns]

    y = b.op("Conv", b.input("x", (None, 3, 8, 8)), *of("conv1", "weight", "bias"), layer="conv1", pads=[1] * 4)
    y = b.op("BatchNormalization", y, *of("bn1", "weight", "bias", "running_mean", "running_var"), layer="bn1", epsilon=1e-3)
    y = b.op("Relu", y, layer="relu")
    y = b.op("Conv", y, *of("conv2", "weight", "bias"), layer="conv2", pads=[1] * 4, strides=[2, 2], group=2)
    y = b.op("PRelu", y, weight("act", "weight", state["act.weight"].reshape(4, 1, 1)), layer="act")
    y = b.op("GlobalAveragePool", y, layer="pool")
    y = b.op("Flatten", y, layer="flatten")
    dense = np.ascontiguousarray(state["fc.weight"].T) if keras else state["fc.weight"]
    y = b.op("Gemm", y, weight("fc", "weight", dense), *of("fc", "bias"), layer="fc", transB=int(not keras))
    b.output(y, "y")
    return b.model()


PICTURES = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("keras", [False, True])
@pytest.mark.parametrize("names", ["source", "torch"])
def test_a_step_of_training_is_the_step_of_the_network_written_by_hand(keras: bool, names: Any) -> None:
    by_hand, labels = hand(), torch.tensor([0, 1, 2, 3, 4, 0])
    model = model_of(by_hand, keras=keras)
    network = to_module(model, names=names)
    with torch.no_grad():
        assert torch.allclose(network(PICTURES), by_hand(PICTURES), atol=1e-6)
    for module in (by_hand, network):
        module.train()
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(PICTURES), labels).backward()
            optimizer.step()
        module.eval()
    with torch.no_grad():
        want = by_hand(PICTURES)
        assert torch.allclose(network(PICTURES), want, atol=1e-6)
    # the statistics moved as torch moves them, and all of it is back in the model
    returned = from_module(network)
    assert returned is model
    assert np.allclose(nd.run(model, {"x": PICTURES.numpy()})["y"], want.numpy(), atol=1e-5)
    mean = model.graph.initializers["bn1/moving_mean" if keras else "bn1.running_mean"].const_value.numpy()
    assert np.allclose(mean, by_hand.bn1.running_mean.numpy(), atol=1e-6)


def test_state_dict_has_the_names_of_the_initializers() -> None:
    for keras in (False, True):
        model = model_of(hand(), keras=keras)
        network = to_module(model)
        assert set(network.state_dict()) == set(model.graph.initializers)
        assert network.initializers == {k: k for k in model.graph.initializers}
        statistics = {k for k in model.graph.initializers if "mean" in k or "var" in k}
        assert {k for k, _ in network.named_buffers()} == statistics
        assert all(p.requires_grad for p in network.parameters())
        for key, tensor in network.state_dict().items():
            assert np.array_equal(tensor.numpy(), model.graph.initializers[key].const_value.numpy())


def test_torch_names_are_those_of_the_network_written_by_hand() -> None:
    by_hand = hand()
    for keras in (False, True):
        network = to_module(model_of(by_hand, keras=keras), names="torch")
        state, want = network.state_dict(), by_hand.state_dict()
        assert {k: v.shape for k, v in state.items()} == {k: v.shape for k, v in want.items()}
        assert all(torch.equal(state[k], want[k]) for k in want if "num_batches" not in k)
        assert set(network.initializers) == {k for k in want if "num_batches" not in k}
        network.load_state_dict(want)
        assert isinstance(network.conv1, nn.Conv2d) and isinstance(network.fc, nn.Linear) and isinstance(network.act, nn.PReLU)
        assert type(network.bn1) is nn.BatchNorm2d


def test_state_loads_without_the_counter_of_batches() -> None:
    network = to_module(model_of(hand()))
    plain = {k: v.clone() for k, v in network.state_dict().items()}  # no metadata, as from a .safetensors file
    assert not any("num_batches" in k for k in plain)
    network.load_state_dict(plain)
    assert isinstance(network.bn1, nn.BatchNorm2d)


def test_hooks_fire_at_the_layers_names() -> None:
    for keras in (False, True):
        network, seen = to_module(model_of(hand(), keras=keras)), {}
        for name in ("conv1", "bn1", "relu", "conv2", "act", "pool", "fc"):
            network.get_submodule(name).register_forward_hook(
                lambda _m, _i, out, name=name, seen=seen: seen.update({name: out.detach().clone()})
            )
        network(PICTURES)
        assert list(seen) == ["conv1", "bn1", "relu", "conv2", "act", "pool", "fc"]
        with torch.no_grad():
            by_hand = hand()
            assert torch.allclose(seen["bn1"], by_hand.bn1(by_hand.conv1(PICTURES)), atol=1e-6)  # nothing writes over it


def test_dropout_drops_only_in_training() -> None:
    b = Builder("net")
    y = b.op("Dropout", b.input("x", (None, 50)), b.const(0.25), layer="drop")
    b.output(y, "y")
    network, x = to_module(b.model()), torch.ones(40, 50)
    assert torch.equal(network(x), x)
    torch.manual_seed(0)
    dropped = network.train()(x)
    assert 0.2 < (dropped == 0).float().mean() < 0.3 and torch.allclose(dropped.max(), torch.tensor(4 / 3))


def test_export_with_a_free_batch_and_compile() -> None:
    network = to_module(model_of(hand(), keras=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(network, (PICTURES,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=True)
        with torch.no_grad():
            assert torch.equal(program.module()(PICTURES[:2]), network(PICTURES[:2]))
            assert torch.equal(compiled(PICTURES[:3]), network(PICTURES[:3]))


def test_shapes_stay_out_of_tensors() -> None:
    b = Builder("net")
    x = b.input("x", (None, 3, 4, 4))
    batch = b.op("Gather", b.op("Shape", x), b.const(0), axis=0)
    shape = b.op("Concat", b.op("Unsqueeze", batch, b.const([0])), b.const([-1]), axis=0)
    b.output(b.op("Reshape", x, shape), "y")
    network = to_module(b.model())
    assert [n.target for n in network.graph.nodes if n.op.startswith("call")] == ["size", torch.reshape]
    assert network(torch.zeros(5, 3, 4, 4)).shape == (5, 48)


def test_gradients_of_random_networks_are_those_of_finite_differences() -> None:
    checked = 0
    for case in graphs(20, seed=3):
        network = to_module(nd.read(case.model)).double()
        draw = torch.Generator().manual_seed(case.seed)
        inputs = [torch.from_numpy(case.feeds[i.name]).double().requires_grad_() for i in case.model.graph.input]
        leaves = [*inputs, *network.parameters()]
        weights: dict[int, torch.Tensor] = {}

        def loss(network: Any = network, inputs: Any = inputs, weights: Any = weights, draw: Any = draw) -> torch.Tensor:
            out = network(*inputs)
            out = out if isinstance(out, tuple) else (out,)
            for i, o in enumerate(out):
                weights.setdefault(i, torch.randn(o.shape, generator=draw, dtype=torch.float64))
            return torch.stack([(o * weights[i]).sum() for i, o in enumerate(out)]).sum()

        gradients = torch.autograd.grad(loss(), leaves, allow_unused=True)
        steps = [torch.randn(x.shape, generator=draw, dtype=torch.float64) for x in leaves]

        def at(h: float, leaves: Any = leaves, steps: Any = steps, loss: Any = loss) -> float:
            with torch.no_grad():
                for x, s in zip(leaves, steps, strict=True):
                    x.add_(s, alpha=h)
                value = float(loss())
                for x, s in zip(leaves, steps, strict=True):
                    x.sub_(s, alpha=h)
            return value

        slope = sum(float((g * s).sum()) for g, s in zip(gradients, steps, strict=True) if g is not None)
        away = min(abs((at(h) - at(-h)) / (2 * h) - slope) for h in (1e-6, 1e-7))
        assert away <= 1e-4 * (1 + abs(slope)), case.seed
        checked += 1
    assert checked == 20


def test_random_networks_give_the_agreed_outputs_on_every_device() -> None:
    refused = 0
    for case in graphs(20, seed=21):
        model = nd.read(case.model)
        try:
            made = [to_module(model, names="source"), to_module(model, names="torch")]
        except Unsupported:
            refused += 1
            continue
        inputs = [torch.from_numpy(case.feeds[v.name or ""]) for v in model.graph.inputs]
        for network in made:
            with torch.no_grad():
                out = network(*inputs)
                apart = network.to("meta")(*(x.to("meta") for x in inputs))  # fails where a tensor is made on another device
            out, apart = (o if isinstance(o, tuple) else (o,) for o in (out, apart))
            for got, shape, want in zip(out, apart, case.expected.values(), strict=True):
                assert got.shape == want.shape == shape.shape and shape.is_meta
                assert np.abs(got.numpy() - want).max() <= 1e-5 * max(1, np.abs(want).max()), case.seed
    assert refused <= 1


def test_functions_of_the_model_are_built_from_their_bodies() -> None:
    body = helper.make_function(
        "niudao",
        "Scaled",
        ["a", "b"],
        ["y"],
        [helper.make_node("Mul", ["a", "b"], ["t"]), helper.make_node("LeakyRelu", ["t"], ["y"])],
        [helper.make_opsetid("", 20)],
        ["alpha"],
    )
    body.node[1].attribute.append(onnx.AttributeProto(name="alpha", ref_attr_name="alpha", type=onnx.AttributeProto.FLOAT))
    nodes = [
        helper.make_node("Scaled", ["x", "w"], ["u"], domain="niudao", alpha=0.3, name="first"),
        helper.make_node("Scaled", ["u", "w"], ["z"], domain="niudao", alpha=0.5, name="second"),
    ]
    of = {name: helper.make_tensor_value_info(name, 1, ["N", 3]) for name in "xz"}
    weight = numpy_helper.from_array(np.array([1, -2, 3], np.float32), "w")
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("niudao", 1)]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", [of["x"]], [of["z"]], [weight]), opset_imports=imports, functions=[body], ir_version=10
    )
    model = nd.read(proto)
    x = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    network = to_module(model)
    assert np.allclose(network(torch.from_numpy(x)).detach().numpy(), nd.run(model, {"x": x})["z"], atol=1e-6)
    assert {"first", "second"} <= {name for name, _ in network.named_modules()}


def test_copies_and_pickles_are_networks() -> None:
    network = to_module(model_of(hand(), keras=True), names="torch")
    twin = copy.deepcopy(network)
    assert twin.initializers == network.initializers and twin.model is network.model and twin.names == "torch"
    again = pickle.loads(pickle.dumps(network))
    with torch.no_grad():
        assert torch.equal(twin(PICTURES), network(PICTURES)) and torch.equal(again(PICTURES), network(PICTURES))
        twin.fc.weight.zero_()
    assert network.fc.weight.abs().sum() > 0


def test_a_layer_called_twice_and_tied_weights() -> None:
    b = Builder("net")
    x = b.input("x", (None, 4))
    weight = b.weight(np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32), "fc.weight")
    y = b.op("Gemm", b.op("Gemm", x, weight, layer="fc", transB=1), weight, layer="fc", transB=1)
    y = b.op("MatMul", y, weight, layer="back")
    b.output(y, "y")
    model = b.model()
    given = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    want = nd.run(model, {"x": given})["y"]
    for names in ("source", "torch"):
        network = to_module(model, names=names)  # type: ignore[arg-type]
        assert np.allclose(network(torch.from_numpy(given)).detach().numpy(), want, atol=1e-5)
        assert list(network.state_dict()) == ["fc.weight"]
        assert sum(isinstance(m, nn.Linear) for m in network.modules()) == 1


def test_names_that_would_break_a_path_or_the_code() -> None:
    names = [
        "a..b",
        ".w",
        "x.",
        "class.weight",
        'q"]); raise SystemExit(1)  #',
        "line\nbreak",
        "training",
        "forward",
        "w",
        "w.v",
        "{x}",
        "a/b:0",
    ]
    b = Builder("net")
    y = b.input('x"; import os', (None, 3))
    for i, name in enumerate(names):
        y = b.op("Add", y, b.weight(np.full(3, i + 1, np.float32), name), layer=name)
        y = b.op("Relu", y, layer=name)
    b.output(y, "y")
    model = b.model()
    for how in ("source", "torch"):
        network = to_module(model, names=how)  # type: ignore[arg-type]
        assert float(network(torch.zeros(1, 3))[0, 0].detach()) == sum(range(1, len(names) + 1))
        assert sorted(network.initializers.values()) == sorted(names)
        assert len(network.state_dict()) == len(names)
        from_module(network)


def test_every_refused_node_is_named_in_one_error() -> None:
    b = Builder("net")
    x = b.input("x", (None, 3))
    y = b.op("Bernoulli", x, layer="coin")
    b.output(b.op("Multinomial", b.op("Relu", y, layer="relu"), layer="dice", sample_size=2), "y")
    assert not {"Bernoulli", "Multinomial"} & set(CONVERTERS)
    with pytest.raises(Unsupported) as error:
        to_module(b.model())
    assert [r.node for r in error.value.refusals] == ["coin", "dice"]


def test_a_network_that_was_changed_in_shape_is_refused() -> None:
    network = to_module(model_of(hand()))
    network.fc = nn.Linear(4, 7)
    with pytest.raises(InvalidModel, match="has another shape"):
        from_module(network)
    del network.fc
    with pytest.raises(InvalidModel, match="has lost its entry"):
        from_module(network)
    with pytest.raises(InvalidModel, match="not made by to_module"):
        from_module(nn.Linear(1, 1))


def test_half_and_double() -> None:
    model = model_of(hand(), keras=True)
    want = to_module(model)(PICTURES).detach()
    assert torch.allclose(to_module(model).double()(PICTURES.double()).float(), want, atol=1e-6)
    network = to_module(model).to(torch.bfloat16)
    assert torch.allclose(network(PICTURES.bfloat16()).float(), want, atol=0.1)
    assert from_module(network).graph.initializers["fc/bias"].const_value.dtype == ir.DataType.FLOAT
