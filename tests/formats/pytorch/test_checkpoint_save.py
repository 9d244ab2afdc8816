"""Checkpoints against torch itself: what `torch.save` wrote, by either container, is what `torch.load(weights_only=True)` gives."""

from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from niudao.errors import ReadError
from niudao.formats.pytorch.checkpoint import describe, open_checkpoint
from niudao.formats.pytorch.checkpoint.tensors import DTYPES

BOTH = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
READ = [getattr(torch, n) for n in DTYPES]


def save(value: Any, path: Path, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def bits(tensor: torch.Tensor) -> bytes:
    """The elements in the order of C."""
    return (
        tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).numpy().tobytes()
        if tensor.numel()
        else b""
    )


def same(path: Path, loaded: dict[str, torch.Tensor]) -> None:
    checkpoint = open_checkpoint(path)
    assert list(checkpoint.tensors) == list(loaded)
    for name, stored in checkpoint.tensors.items():
        want = loaded[name]
        assert stored.shape == tuple(want.shape)
        assert stored.dtype == str(want.dtype).removeprefix("torch.")
        array, tensor = stored.array(), stored.tensor(name)
        assert array.shape == stored.shape
        assert np.ascontiguousarray(array).tobytes() == bits(want)
        assert tuple(tensor.shape) == stored.shape and tensor.name == name
        assert np.ascontiguousarray(tensor.numpy()).tobytes() == bits(want)


@st.composite
def views(draw: st.DrawFn, base: torch.Tensor) -> torch.Tensor:
    """Any view that torch can make of a run of elements: cut, strided, transposed, expanded."""
    rank = draw(st.integers(0, 4))
    shape = tuple(draw(st.integers(0, 4)) for _ in range(rank))
    strides = tuple(draw(st.integers(0, 5)) for _ in range(rank))
    last = sum((d - 1) * s for d, s in zip(shape, strides, strict=True)) if all(shape) else 0
    offset = draw(st.integers(0, max(0, base.numel() - 1 - last)))
    return base.as_strided(shape, strides, offset) if last + offset < base.numel() else base[:0]


@st.composite
def dictionaries(draw: st.DrawFn) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for i in range(draw(st.integers(1, 4))):
        dtype = draw(st.sampled_from(READ))
        count = draw(st.integers(1, 60))
        base = torch.arange(count, dtype=torch.float32).remainder(7).to(dtype)
        for j in range(draw(st.integers(1, 3))):
            found[f"layer{i}.{j}"] = draw(views(base))
    return found


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=dictionaries(), zipped=st.booleans(), protocol=st.sampled_from([2, 2, 3, 4, 5]))
def test_any_tensors(value: dict[str, torch.Tensor], zipped: bool, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(value, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    same(path, value)


@BOTH
def test_state_dict_of_a_module(zipped: bool, tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 130, 7), torch.nn.BatchNorm2d(130), torch.nn.LSTM(8, 4), torch.nn.PReLU())
    path = save(net.state_dict(), tmp_path / "net.pth", zipped)
    same(path, torch.load(path, weights_only=True))
    rows = describe(open_checkpoint(path))
    assert rows[0] == ("0.weight", (130, 3, 7, 7), "float32")


@BOTH
@pytest.mark.parametrize("dtype", READ, ids=str)
def test_large_ones_are_mapped(zipped: bool, dtype: torch.dtype, tmp_path: Path) -> None:
    value = {"a": torch.arange(1 << 17).remainder(5).to(dtype).reshape(256, 512), "b": torch.ones(3)}
    value["turned"] = value["a"].t()
    same(save(value, tmp_path / "net.pth", zipped), value)


@BOTH
def test_wrapped_checkpoint(zipped: bool, tmp_path: Path) -> None:
    net = torch.nn.Linear(4, 3)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    value = {
        "epoch": 7,
        "best": np.float64(0.5),
        "args": {"lr": 0.1},
        "state_dict": OrderedDict((f"module.{k}", v) for k, v in net.state_dict().items()),
        "optimizer": optimizer.state_dict(),
    }
    checkpoint = open_checkpoint(save(value, tmp_path / "net.pth.tar", zipped))
    assert (checkpoint.wrapper, checkpoint.prefix) == ("state_dict", "module.")
    assert list(checkpoint.tensors) == ["weight", "bias"]
    assert checkpoint.others[0] == "epoch: 7" and "optimizer: dict of 2" in checkpoint.others
    assert np.array_equal(checkpoint.tensors["weight"].array(), net.weight.detach().numpy())


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net", "ema", "model_ema", "module", "params", "odd"])
def test_wrappers(wrapper: str, tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 2).state_dict()
    checkpoint = open_checkpoint(
        save({wrapper: state, "optimizer": {"a": torch.ones(1), "b": torch.ones(1), "c": torch.ones(1)}}, tmp_path / "a.pt", True)
    )
    assert checkpoint.wrapper == wrapper
    assert list(checkpoint.tensors) == ["weight", "bias"]


def test_the_largest_of_several_is_taken(tmp_path: Path) -> None:
    small, large = torch.nn.Linear(2, 2).state_dict(), torch.nn.LSTM(2, 2).state_dict()
    checkpoint = open_checkpoint(save({"netD": small, "netG": large}, tmp_path / "a.pt", True))
    assert checkpoint.wrapper == "netG"
    assert "netD: 2 tensors as well" in checkpoint.others


def test_compiled_data_parallel(tmp_path: Path) -> None:
    state = {f"_orig_mod.module.{k}": v for k, v in torch.nn.Linear(2, 2).state_dict().items()}
    checkpoint = open_checkpoint(save(state, tmp_path / "a.pt", True))
    assert checkpoint.prefix == "_orig_mod.module."
    assert list(checkpoint.tensors) == ["weight", "bias"]


@BOTH
def test_tied_weights(zipped: bool, tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
    net[1].weight = net[0].weight
    checkpoint = open_checkpoint(save(net.state_dict(), tmp_path / "a.pt", zipped))
    assert checkpoint.aliases == {"1.weight": "0.weight"}


@BOTH
def test_weight_norm_keeps_its_names(zipped: bool, tmp_path: Path) -> None:
    new = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 3))
    names = list(open_checkpoint(save(new.state_dict(), tmp_path / "a.pt", zipped)).tensors)
    assert names == ["bias", "parametrizations.weight.original0", "parametrizations.weight.original1"]
    old = {"bias": torch.ones(3), "weight_g": torch.ones(3, 1), "weight_v": torch.ones(3, 3)}
    assert list(open_checkpoint(save(old, tmp_path / "a.pt", zipped)).tensors) == list(old)


@BOTH
def test_parameters_and_numpy(zipped: bool, tmp_path: Path) -> None:
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    parameter.note = "kept beside the values"
    value = {"p": parameter, "n": np.asfortranarray(np.arange(6.0).reshape(2, 3)), "b": np.arange(3, dtype=">i4")}
    found = open_checkpoint(save(value, tmp_path / "a.pt", zipped)).tensors
    assert found["p"].trainable
    assert np.array_equal(found["p"].array(), value["p"].detach().numpy())
    assert np.array_equal(found["n"].array(), value["n"])
    assert found["b"].array().tolist() == [0, 1, 2]


@BOTH
def test_a_whole_module(zipped: bool, tmp_path: Path) -> None:
    """Its classes are told, its weights read; a buffer that state_dict() leaves out is left out."""
    net = torch.nn.Sequential(
        OrderedDict(conv=torch.nn.Conv2d(1, 2, 3), block=torch.nn.Sequential(torch.nn.BatchNorm2d(2), torch.nn.ReLU()))
    )
    net.register_buffer("passing", torch.ones(2), persistent=False)
    checkpoint = open_checkpoint(save(net, tmp_path / "a.pt", zipped))
    want = net.state_dict()
    assert sorted(checkpoint.tensors) == sorted(want)
    assert all(np.array_equal(t.array(), want[k].numpy()) for k, t in checkpoint.tensors.items())
    assert "torch.nn.modules.conv.Conv2d" in checkpoint.classes
    wrapped = open_checkpoint(save({"epoch": 1, "model": net}, tmp_path / "b.pt", zipped))
    assert wrapped.wrapper == "model" and sorted(wrapped.tensors) == sorted(want)


def per_tensor() -> torch.Tensor:
    return torch.quantize_per_tensor(torch.ones(2), 0.5, 3, torch.qint8)


def per_channel() -> torch.Tensor:
    return torch.quantize_per_channel(torch.ones(2, 2), torch.ones(2), torch.zeros(2), 0, torch.quint8)


@BOTH
@pytest.mark.filterwarnings("ignore::UserWarning")  # torch wants its quantised tensors forgotten; files of them exist
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "says"), [(lambda: torch.ones(2, dtype=torch.complex64), "complex64"), (per_tensor, "quantised"), (per_channel, "quantised")]
)
def test_described_and_not_read(zipped: bool, make: Callable[[], torch.Tensor], says: str, tmp_path: Path) -> None:
    tensor = make()
    stored = open_checkpoint(save({"a": tensor, "b": torch.ones(1)}, tmp_path / "a.pt", zipped)).tensors["a"]
    assert stored.shape == tuple(tensor.shape)
    for read in (stored.array, lambda: stored.tensor("a")):
        with pytest.raises(ReadError, match=says):
            read()


@BOTH
def test_sparse_is_refused(zipped: bool, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="sparse"):
        open_checkpoint(save({"a": torch.eye(3).to_sparse()}, tmp_path / "a.pt", zipped))


def test_big_endian(tmp_path: Path) -> None:
    """torch turns the bytes round by the storage's type; so do we."""
    import zipfile

    value = {
        "f": torch.arange(5.0),
        "h": torch.arange(4).half(),
        "b": torch.arange(4).bfloat16(),
        "l": torch.arange(3),
        "u": torch.ones(3, dtype=torch.uint8),
    }
    plain, turned = save(value, tmp_path / "net.pt", True), tmp_path / "turned.pt"
    widths = {"0": 4, "1": 2, "2": 2, "3": 8, "4": 1}
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(turned, "w") as new:
        for info in old.infolist():
            data, leaf = old.read(info), info.filename.rsplit("/", 1)[-1]
            if "/data/" in info.filename:
                data = np.frombuffer(data, f"V{widths[leaf]}").view(np.uint8).reshape(-1, widths[leaf])[:, ::-1].tobytes()
            new.writestr(info.filename, b"big" if leaf == "byteorder" else data)
    loaded = torch.load(turned, weights_only=True)
    assert all(torch.equal(loaded[k], v) for k, v in value.items())
    same(turned, loaded)


def test_damaged_weights_are_noticed(tmp_path: Path) -> None:
    """torch keeps a checksum of every storage and reads past it."""
    path = save({"a": torch.zeros(100), "b": torch.ones(40000)}, tmp_path / "a.pt", True)
    data = bytearray(path.read_bytes())
    at = data.index(torch.ones(50).numpy().tobytes()) + 1003
    data[at] ^= 0x80
    path.write_bytes(data)
    assert torch.load(path, weights_only=True)["b"].sum() != 40000
    found = open_checkpoint(path).tensors
    assert not found["a"].array().any()
    with pytest.raises(ReadError, match="checksum"):
        found["b"].tensor("b")


def test_no_checksums_are_no_fault(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        path = save({"a": torch.ones(3)}, tmp_path / "a.pt", True)
    finally:
        torch.serialization.set_crc32_options(before)
    same(path, {"a": torch.ones(3)})


def test_views_that_grow_without_end_are_refused(tmp_path: Path) -> None:
    fair = save({"a": torch.ones(1).expand(1000, 1000)}, tmp_path / "a.pt", True)
    assert open_checkpoint(fair).tensors["a"].array().sum() == 1e6
    with pytest.raises(ReadError, match="more memory"):
        open_checkpoint(save({"a": torch.ones(1).expand(1 << 20, 1 << 20)}, tmp_path / "b.pt", True))


def test_torch_is_not_imported(tmp_path: Path) -> None:
    save({"a": torch.ones(3)}, tmp_path / "a.pt", True)
    save({"a": torch.ones(3)}, tmp_path / "b.pt", False)
    program = (
        "import sys\nfrom niudao.formats.pytorch.checkpoint import open_checkpoint\n"
        f"for name in ('a', 'b'): open_checkpoint(r'{tmp_path}/' + name + '.pt').tensors['a'].array()\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
