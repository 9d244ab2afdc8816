"""Files of torch.export: read without torch, equal to the module in memory; damaged and strange ones."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from niudao.errors import NiudaoError, ReadError, Unsupported, UsageError
from niudao.formats.pytorch.aten.build import build
from niudao.formats.pytorch.program.pt2 import read_program
from niudao.ir.session import run

sys.path.insert(0, str(Path(__file__).parent))
from layers import LAYERS
from lowering import Fn, agrees, drawn, tensors

SHAPE = (2, 3, 8, 6)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.tail = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 5)
        self.register_buffer("scale", torch.rand(4, 1, 1), persistent=False)

    def forward(self, picture: torch.Tensor) -> dict[str, Any]:
        y = self.block(picture)
        y = torch.relu(self.tail(y)) * self.scale + y
        with torch.no_grad():
            pooled = y.mean((2, 3))
        return {"features": y, "scores": (self.head(pooled.view(pooled.shape[0], -1)), pooled)}


def saved(module: nn.Module, path: Path, inputs: Any, free: bool = True) -> Path:
    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in inputs) if free else None
    torch.export.save(torch.export.export(module, tuple(inputs), dynamic_shapes=shapes), path)
    return path


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    module = drawn(Net())
    return module, saved(module, tmp_path_factory.mktemp("pt2") / "net.pt2", tensors([SHAPE]))


def test_network(net: tuple[nn.Module, Path]) -> None:
    module, path = net
    program = read_program(path)
    assert (program.kind, program.version) == ("export", torch.__version__.split("+")[0])
    model = build(program)
    assert [v.name for v in model.graph.inputs] == ["picture"]
    assert [v.name for v in model.graph.outputs] == ["features", "scores.0", "scores.1"]
    assert str(model.graph.inputs[0].shape) == "[batch,3,8,6]"
    assert set(model.graph.initializers) >= {"block.0.weight", "block.1.running_mean", "tail.bias", "head.weight", "scale"}
    agrees(model, module, tensors([SHAPE]))
    agrees(model, module, tensors([SHAPE], 5))


def test_names_of_layers(net: tuple[nn.Module, Path]) -> None:
    model = build(read_program(net[1]))
    found = {node.metadata_props["niudao.layer"]: node.metadata_props.get("niudao.layer_type") for node in model.graph}
    assert found["block.0"] == "Conv2d"
    assert found["block.1"] == "BatchNorm2d"
    assert found["head"] == "Linear"
    assert {"relu", "mul", "add", "mean"} <= set(found)
    assert not any("/" in v for node in model.graph for v in node.metadata_props.values())


def test_a_given_shape(net: tuple[nn.Module, Path]) -> None:
    program = read_program(net[1])
    model = build(program, shapes={"picture": (4, 3, 8, 6)})
    assert str(model.graph.outputs[0].shape) == "[4,4,8,6]"
    with pytest.raises(UsageError, match="contradicts"):
        build(program, shapes={"picture": (4, 3, 9, 6)})
    with pytest.raises(UsageError, match="no input is called"):
        build(program, shapes={"x": (4, 3, 9, 6)})


@pytest.mark.parametrize("name", ["conv_same_even", "max_pool_indices", "adaptive_others", "batch_norm_of_batch", "prelu_channels", "glu"])
def test_layer(name: str, tmp_path: Path) -> None:
    make, shapes, _ = LAYERS[name]
    module, example = drawn(make()), tensors(shapes)
    model = build(read_program(saved(module, tmp_path / "layer.pt2", example)))
    agrees(model, module, example)
    agrees(model, module, tensors(shapes, 3))


def test_lists_of_tensors(tmp_path: Path) -> None:
    module = Fn(lambda x: [torch.cat(list(x.split([1, 2], 1))[::-1], 1), *x.unbind(2)[:2], x.chunk(2, 3)[1]])
    model = build(read_program(saved(module, tmp_path / "lists.pt2", tensors([SHAPE]))))
    assert [v.name for v in model.graph.outputs] == ["output", "output_1", "output_2", "output_3"]
    agrees(model, module, tensors([SHAPE], 3))


def test_core_aten(net: tuple[nn.Module, Path], tmp_path: Path) -> None:
    exported = torch.export.export(net[0], tuple(tensors([SHAPE])), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own use of itself
        torch.export.save(exported.run_decompositions(), tmp_path / "core.pt2")
    agrees(build(read_program(tmp_path / "core.pt2")), net[0], tensors([SHAPE], 3))


def test_tied_and_strided_weights(tmp_path: Path) -> None:
    a, b = nn.Linear(6, 6), nn.Linear(6, 6)
    b.weight = a.weight
    a.bias = nn.Parameter(torch.rand(6, 2)[:, 1])
    module = nn.Sequential(a, nn.Tanh(), b).eval()
    model = build(read_program(saved(module, tmp_path / "tied.pt2", [torch.rand(2, 6)])))
    assert len(model.graph.initializers) == 3
    agrees(model, module, [torch.rand(3, 6)])


def test_no_torch_is_imported(net: tuple[nn.Module, Path]) -> None:
    code = (
        "import sys; from niudao.formats.pytorch.program.pt2 import read_program; from niudao.formats.pytorch.aten.build import build; "
        f"build(read_program({str(net[1])!r})); print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"


def rewritten(path: Path, out: Path, change: Any) -> Path:
    """A copy whose graph is another."""
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("models/model.json"):
                document = json.loads(data)
                data = json.dumps(change(document) or document).encode()
            new.writestr(name, data)
    return out


def test_unknown_operators_are_all_named(net: tuple[nn.Module, Path], tmp_path: Path) -> None:
    def change(document: Any) -> None:
        for node in document["graph_module"]["graph"]["nodes"]:
            node["target"] = node["target"].replace("aten.conv2d", "mine.conv").replace("aten.linear", "mine.linear")

    with pytest.raises(Unsupported) as e:
        build(read_program(rewritten(net[1], tmp_path / "x.pt2", change)))
    assert {r.op for r in e.value.refusals} == {"mine.conv.default", "mine.linear.default"}
    assert {r.node for r in e.value.refusals} == {"block.0", "tail", "head"}


def _drop(*keys: str) -> Any:
    def change(document: Any) -> None:
        inner = document
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]

    return change


def _node(**fields: Any) -> Any:
    return lambda document: document["graph_module"]["graph"]["nodes"][0].update(fields)


@pytest.mark.parametrize(
    "change",
    [
        _drop("graph_module"),
        _drop("graph_module", "graph", "nodes"),
        _drop("graph_module", "signature"),
        _drop("graph_module", "graph", "tensor_values"),
        _node(inputs=[]),
        _node(inputs=[{"name": "input", "arg": {"as_tensor": {"name": "nothing"}}, "kind": 1}]),
        _node(inputs=[{"name": "input", "arg": {"as_int": 3}, "kind": 1}] * 3),
        _node(inputs=[{"name": "input", "arg": {"as_custom_obj": {"name": "x", "class_fqn": "y"}}, "kind": 1}]),
        _node(outputs=[]),
        _node(target=3),
        _node(inputs=3),
        lambda d: d["graph_module"]["graph"].update(nodes=[3]),
        lambda d: d["graph_module"]["signature"].update(output_specs=[]),
        lambda d: d["graph_module"]["signature"]["input_specs"][0]["parameter"].update(parameter_name="other"),
        lambda d: {"graph_module": None},
    ],
)
def test_strange_graphs_are_one_sentence(net: tuple[nn.Module, Path], tmp_path: Path, change: Any) -> None:
    path = rewritten(net[1], tmp_path / "x.pt2", change)
    with pytest.raises(NiudaoError):
        build(read_program(path))


def test_no_graph(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.pt2", "w") as f:
        f.writestr("x/archive_format", "pt2")
        f.writestr("x/data/aotinductor/model/x.so", "")
    with pytest.raises(ReadError, match="no graph"):
        read_program(tmp_path / "x.pt2")


def test_files_of_older_layouts(net: tuple[nn.Module, Path], tmp_path: Path) -> None:
    """torch 2.1 to 2.6 and 2.7: the same graph, without kinds of arguments, beside dictionaries that torch.save wrote."""

    def plain(document: Any) -> None:
        for node in document["graph_module"]["graph"]["nodes"]:
            for held in node["inputs"]:
                held.pop("kind", None)

    state = dict(net[0].state_dict())
    torch.save(state, tmp_path / "state.pt")
    torch.save({"scale": net[0].scale}, tmp_path / "constants.pt")
    for layout in (
        {"serialized_exported_program.json": None, "serialized_state_dict.pt": "state.pt", "serialized_constants.pt": "constants.pt"},
        {"m/models/model.json": None, "m/data/weights/model.pt": "state.pt", "m/data/constants/model.pt": "constants.pt"},
    ):
        whole = rewritten(net[1], tmp_path / "plain.pt2", plain)
        with zipfile.ZipFile(whole) as old, zipfile.ZipFile(tmp_path / "old.pt2", "w") as new:
            graph = old.read(next(n for n in old.namelist() if n.endswith("model.json")))
            for name, source in layout.items():
                new.writestr(name, graph if source is None else (tmp_path / source).read_bytes())
        agrees(build(read_program(tmp_path / "old.pt2")), net[0], tensors([SHAPE], 3))


def test_fixtures_of_real_networks(real_data: Path) -> None:
    folders = [f.parent for f in sorted((real_data / "frameworks" / "pytorch-2.13").glob("*/exported.pt2"))]
    if not folders:
        pytest.skip("no exported.pt2 below frameworks/pytorch-2.13")
    for folder in folders:
        model = build(read_program(folder / "exported.pt2"))
        with np.load(folder / "input.npz") as x, np.load(folder / "output.npz") as y:
            feeds = dict(zip((v.name for v in model.graph.inputs), x.values(), strict=True))
            for got, want in zip(run(model, feeds).values(), y.values(), strict=True):
                assert np.allclose(got, want, atol=1e-4 * max(1, np.abs(want).max())), folder.name
        batch = model.graph.inputs[0].shape
        assert batch is not None and isinstance(batch[0], ir.SymbolicDim), folder.name


def test_saved_while_it_trained(tmp_path: Path) -> None:
    """The statistics of the batch normalise, as they do when torch runs that file; the running ones are not written into."""
    module = drawn(nn.Sequential(nn.BatchNorm2d(3))).train()
    model = build(read_program(saved(module, tmp_path / "train.pt2", tensors([SHAPE]))))
    assert "while it trained" in model.metadata_props["niudao.notes"]
    agrees(model, module, tensors([SHAPE], 3))
