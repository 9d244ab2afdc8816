"""TorchScript archives as networks: control flow, memory that is written into, shapes that nobody stated, and what is refused."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lowering import Fn, agrees, drawn, ops, tensors
from scripting import script_judged, trace_judged, traced, walked
from torch import nn

import niudao as nd
from niudao.errors import ReadError, Unsupported, UsageError
from niudao.formats.pytorch.aten.build import build
from niudao.formats.pytorch.program import script, script_graph, script_worker

IMAGE = (2, 3, 16, 12)


class Block(nn.Module):
    """Residual, with everything done in place."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        y += x
        return self.act(y)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.ReLU())
        self.blocks = nn.ModuleList([Block(6), Block(6)])
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(6, 5)
        self.steps: int = 2

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> dict[str, torch.Tensor]:
        if x.dim() != 4:
            raise ValueError("pictures have four axes")
        y = self.stem(x)
        for block in self.blocks:
            y = block(y)
        for i in range(self.steps):
            if i % 2 == 0:
                y = y * scale
                y = y + float(i)
            else:
                y = F.interpolate(y, scale_factor=2.0, mode="bilinear", align_corners=False)
        z = self.drop(F.adaptive_avg_pool2d(y, 1).flatten(1))
        return {"features": y, "logits": self.head(z)}


def test_a_scripted_network() -> None:
    model = script_judged(Net(), {"x": (None, 3, 16, 12)}, IMAGE)
    assert [v.name for v in model.graph.outputs] == ["features", "logits"]
    assert set(model.graph.initializers) >= {"stem.0.weight", "blocks.1.norm.running_mean", "head.bias"}
    layers = {n.metadata_props["niudao.layer"]: n.metadata_props["niudao.layer_type"] for n in model.graph if n.op_type == "Conv"}
    assert layers == {"stem.0": "Conv2d", "blocks.0.conv": "Conv2d", "blocks.1.conv": "Conv2d"}


def test_shapes_that_nobody_stated() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = walked(torch.jit.script(drawn(Net())))
    assert [(i.name, i.shape) for i in program.inputs] == [("x", ("batch", 3, "height", "width"))]
    assert "fits" in program.notes[0]
    agrees(build(program), drawn(Net()), tensors([IMAGE]))


class Flat(nn.Module):
    """Takes pictures of one size only, and does not say which."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(2, 4, 3, 2), nn.Linear(4 * 15 * 15, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).view(x.size(0), -1))


def test_the_one_size_that_fits_is_found() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = walked(torch.jit.script(drawn(Flat())))
    assert program.inputs[0].shape == ("batch", 2, 32, 32)
    agrees(build(program), drawn(Flat()), tensors([(2, 2, 32, 32)]))


@pytest.mark.parametrize(
    "layer", [nn.LSTM(4, 5, batch_first=True), nn.GRU(4, 5, 2, batch_first=True, bidirectional=True)], ids=lambda m: type(m).__name__
)
def test_scripted_recurrent_layers(layer: nn.Module) -> None:
    model = script_judged(layer, {"input": (None, 6, 4)}, (2, 6, 4))
    assert ops(model).count(type(layer).__name__) in (1, 2)


def test_traced_shapes_are_in_the_file() -> None:
    program = traced(drawn(Net()), tensors([IMAGE]))
    assert program.inputs[0].shape == ("batch", *IMAGE[1:])
    assert program.kind == "torchscript"
    assert program.version == torch.__version__.partition("+")[0]


def views(x: torch.Tensor) -> Any:
    y = x.clone()
    y.view(x.size(0), -1)[:, 3:5] = 1.0
    y.transpose(1, 2)[:, 0] *= 2
    a, b = y.chunk(2, 3)
    a += b
    row = y[:, 1, 0]
    y.relu_()
    y.permute(0, 2, 3, 1).unsqueeze(1)[..., 2].fill_(-3.0)
    return y, row, a.sum(3)


def test_memory_that_is_written_into() -> None:
    trace_judged(Fn(views), IMAGE)


def on_sizes(x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(n, c * 4, h // 2, w // 2)


def test_frozen_networks() -> None:
    """Their weights are constants, and they do not say whether they are being trained."""
    net = drawn(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = walked(torch.jit.freeze(torch.jit.script(net)))
    assert program.inputs[0].shape == ("batch", 3, "height", "width")
    agrees(build(program), net, tensors([IMAGE]), 1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_inputs_are_of_the_weights_type(dtype: torch.dtype) -> None:
    net = drawn(nn.Linear(4, 3)).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        programs = walked(torch.jit.script(net)), walked(torch.jit.script(net), {"input": [2, 4]})
    for program in programs:
        assert program.inputs[0].dtype == str(dtype).removeprefix("torch.")
        agrees(build(program), net, (torch.randn(2, 4, dtype=dtype),), 1e-2)


class Filled(nn.Module):
    """Writes into memory that it made without saying where."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.zeros([x.shape[0], x.shape[1]])
        for i, plane in enumerate(x.unbind(1)):
            y[:, i] = plane.amax([1, 2])
        return y


def test_memory_that_the_network_makes() -> None:
    script_judged(Filled(), {"x": [None, 3, 16, 12]}, IMAGE)


def test_an_encoder_that_asks_where_it_runs() -> None:
    net = drawn(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = walked(torch.jit.script(net), {"src": [2, 5, 8]})
    agrees(build(program), net, (torch.randn(2, 5, 8),), 1e-4)


def test_arithmetic_of_sizes() -> None:
    assert ops(trace_judged(Fn(on_sizes), IMAGE)) == ["Reshape", "Transpose", "Reshape"]


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 3, 192) * 2


def test_a_batch_that_is_fixed_is_noted() -> None:
    program = traced(Fixed().eval(), tensors([IMAGE]))
    assert program.inputs[0].shape == IMAGE
    assert program.notes == ("the batch is fixed to 2, as it was traced",)
    agrees(build(program), Fixed(), tensors([IMAGE]))


class OnContent(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if bool(x.sum() > 0) else x


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return x * self.seen


class Endless(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        while x.dim() == 2:
            x = x + 1
        return x


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, 0.5, True)


@pytest.mark.parametrize(
    ("module", "reason"),
    [(OnContent(), "content"), (Counts(), "own weight 'seen'"), (Endless(), "turns"), (Random(), "random")],
    ids=lambda v: type(v).__name__,
)
def test_what_no_program_can_say_is_refused_by_name(module: nn.Module, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script_graph, "TURNS", 20)
    with pytest.raises(Unsupported, match=reason):
        build(walked(torch.jit.script(module), {"x": [None, 3]}))


def test_shapes_that_do_not_fit() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        archive = torch.jit.script(Net())
    with pytest.raises(UsageError, match="four axes"):
        walked(archive, {"x": [None, 3, 8]})


class Reader(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/dev/zero", size=3)


def test_a_network_reads_no_files() -> None:
    with pytest.raises(Unsupported, match="from_file"):
        walked(torch.jit.script(Reader()), {"x": [None, 3]})


def test_the_whole_way(tmp_path: Path) -> None:
    """Vetting, a process of its own, weights mapped from the archive."""
    net = drawn(nn.Sequential(nn.Conv2d(3, 80, 3), nn.ReLU(), nn.Conv2d(80, 40, 3), nn.BatchNorm2d(40)))
    x = tensors([IMAGE])[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, x).save(str(tmp_path / "net.pt"))
    model = nd.read(str(tmp_path / "net.pt"))
    agrees(model, net, [x], 1e-4)
    assert type(model.graph.initializers["2.weight"].const_value).__name__ == "ExternalTensor"


def test_poison_is_found_before_torch_sees_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zipfile

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(Fixed()).save(str(tmp_path / "good.pt"))
    with zipfile.ZipFile(tmp_path / "good.pt") as good, zipfile.ZipFile(tmp_path / "bad.pt", "w") as bad:
        for name in good.namelist():
            data = good.read(name)
            bad.writestr(name, b"cposix\nsystem\n(S'true'\ntR." if name.endswith("data.pkl") else data)
    monkeypatch.setattr(script.oracles, "run", lambda *a, **k: pytest.fail("torch was started"))
    with pytest.raises(ReadError, match=r"posix\.system"):
        script.program_of(tmp_path / "bad.pt")


def test_reading_imports_no_torch() -> None:
    code = "import sys; import niudao.formats.pytorch.program.script; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_archives_of_torch_1_0(real_data: Path) -> None:
    with pytest.raises(ReadError, match=r"1\.0 to 1\.3"):
        script.program_of(real_data / "frameworks/pytorch-1.0.1/misc/traced.pt")


@pytest.mark.parametrize("name", ["misc/traced.pt", "zoo_lstm_proj/traced.pt", "zoo_weight_norm/traced.pt", "zoo_resize/traced.pt"])
def test_files_of_torch(real_data: Path, name: str) -> None:
    """Written by torch 2.13, answers by itself. The process that loads them is this one, for speed."""
    path = real_data / "frameworks/pytorch-2.13" / name
    settings = {"shapes": {}, "traced": script.traced_inputs(path), "state": sorted(script.script_state(path)), "free": True}
    found = dict(script_worker.run(str(path), {}, settings))
    model = build(script._program(script._document(found, path), found, script.script_state(path), path))
    with np.load(path.parent / "input.npz") as held, np.load(path.parent / "output.npz") as wanted:
        got = nd.run(model, dict(zip([v.name for v in model.graph.inputs], held.values(), strict=True)))
        for g, w in zip(got.values(), wanted.values(), strict=True):
            np.testing.assert_allclose(g, w, rtol=0, atol=1e-5 * max(1, np.abs(w).max()))
