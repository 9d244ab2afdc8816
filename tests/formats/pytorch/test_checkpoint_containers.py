"""The other containers: safetensors, TorchScript, .pt2 of both layouts, and files that real frameworks wrote."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from niudao.errors import NiudaoError, ReadError
from niudao.formats.pytorch.checkpoint import open_checkpoint, script_state, vet
from niudao.formats.pytorch.checkpoint.archive import open_archive
from niudao.formats.pytorch.checkpoint.script import constants
from niudao.formats.pytorch.checkpoint.sniff import sniff


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]], metadata: dict[str, str] | None = None) -> bytes:
    """A file by the format's description: length, header, bytes."""
    header: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values())


def saved(value: Any) -> bytes:
    out = io.BytesIO()
    torch.save(value, out)
    return out.getvalue()


class Branch(torch.nn.Module):
    """Parameters, buffers, a plain tensor attribute, a shared submodule, a constant in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 4, 3)
        self.again = self.conv
        self.norm = torch.nn.BatchNorm2d(4)
        self.register_buffer("scale", torch.arange(4.0).reshape(4, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.again(self.conv(x)[:, :3])) * self.scale + torch.arange(40000.0).reshape(200, 200)[:1, :1]


def test_safetensors(tmp_path: Path) -> None:
    values = {
        "F32": "f4",
        "F64": "f8",
        "F16": "f2",
        "I64": "i8",
        "I32": "i4",
        "I16": "i2",
        "I8": "i1",
        "U8": "u1",
        "U16": "u2",
        "U32": "u4",
        "BOOL": "?",
    }
    arrays = {f"l.{k}": np.arange(6).reshape(2, 3).astype(v) for k, v in values.items()}
    tensors = {n: (n[2:], [2, 3], a.tobytes()) for n, a in arrays.items()}
    tensors |= {"none": ("F32", [0, 3], b""), "one": ("F32", [], b"\0\0\x80?"), "brain": ("BF16", [2], b"\x80?\0@")}
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors(tensors, {"format": "pt"}))
    checkpoint = open_checkpoint(path)
    assert (checkpoint.kind, checkpoint.version, dict(checkpoint.metadata)) == ("safetensors", "pt", {"format": "pt"})
    assert set(checkpoint.tensors) == set(tensors)
    for name, array in arrays.items():
        assert np.array_equal(checkpoint.tensors[name].array(), array) and checkpoint.tensors[name].array().dtype == array.dtype
    assert checkpoint.tensors["brain"].array().astype(float).tolist() == [1, 2]
    assert checkpoint.tensors["none"].array().shape == (0, 3) and checkpoint.tensors["one"].array() == 1


def test_sharded_safetensors(tmp_path: Path) -> None:
    one = np.ones(3, "f4").tobytes()
    (tmp_path / "model-1.safetensors").write_bytes(safetensors({"a": ("F32", [3], one)}))
    (tmp_path / "model-2.safetensors").write_bytes(safetensors({"b": ("F32", [3], one)}))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": {"b": "model-2.safetensors", "a": "model-1.safetensors"}}))
    assert list(open_checkpoint(index).tensors) == ["b", "a"]
    for name, says in (("../model-1.safetensors", "beside"), ("model-3.safetensors", "missing"), ("model-2.safetensors", "another file")):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ReadError, match=says):
            open_checkpoint(index)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("make", ["script", "trace"])
def test_torchscript(make: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Branch().eval()
    net.conv = net.again = torch.nn.Conv2d(3, 3, 3)
    net.norm = torch.nn.BatchNorm2d(3).eval()
    net.scale = torch.ones(3, 1, 1)
    made = torch.jit.script(net) if make == "script" else torch.jit.trace(net, torch.zeros(1, 3, 9, 9))
    path = tmp_path / "net.pt"
    made.save(str(path))
    assert vet(path) == "torchscript"
    state, want = script_state(path), made.state_dict()
    assert set(state) == set(want)
    assert all(np.array_equal(state[k].array(), v.numpy()) for k, v in want.items())
    held = [c for c in constants(open_archive(path)) if hasattr(c, "array")]
    assert make == "script" or all(isinstance(c.array(), np.ndarray) for c in held)


def test_pt2(tmp_path: Path) -> None:
    net = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 6)).eval()
    net[2].weight = net[0].weight
    program = torch.export.export(net, (torch.ones(2, 6),))
    path = tmp_path / "net.pt2"
    torch.export.save(program, path)
    assert vet(path) == "pt2"
    checkpoint = open_checkpoint(path)
    assert checkpoint.aliases == {"2.weight": "0.weight"}
    want = program.state_dict
    assert set(checkpoint.tensors) == set(want)
    assert all(np.array_equal(checkpoint.tensors[k].array(), v.detach().numpy()) for k, v in want.items())
    assert checkpoint.tensors["0.bias"].trainable and not checkpoint.tensors["1.running_mean"].trainable


@pytest.mark.parametrize("ending", ["pt", "json"], ids=["2.3", "2.1"])
def test_pt2_of_old_torch(ending: str, tmp_path: Path) -> None:
    """Four members at the top, written by `zipfile`; state dict and constants are files of `torch.save`."""
    path = tmp_path / "net.pt2"
    state = {"w": torch.nn.Parameter(torch.ones(3, 2)), "b": torch.arange(3.0)}
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("serialized_exported_program.json", "{}")
        z.writestr(f"serialized_state_dict.{ending}", saved(state))
        z.writestr(f"serialized_constants.{ending}", saved({"lifted_tensor_0": torch.tensor(4)}))
        z.writestr("version", "5.1")
    checkpoint = open_checkpoint(path)
    assert vet(path) == checkpoint.kind == "pt2"
    assert {k: t.array().tolist() for k, t in checkpoint.tensors.items()} == {"w": [[1, 1]] * 3, "b": [0, 1, 2], "lifted_tensor_0": 4}


def test_pt2_with_poisoned_sample_inputs(tmp_path: Path) -> None:
    """They are never read for a network, and vetted before torch sees the file."""
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return eval, ("1",)

    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as z:
        z.writestr("archive/data.pkl", pickle.dumps(Evil(), 2))
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("net/models/model.json", "{}")
        z.writestr("net/data/sample_inputs/model.pt", inner.getvalue())
    assert open_checkpoint(path).tensors == {}
    with pytest.raises(ReadError, match=r"builtins\.eval|__builtin__\.eval"):
        vet(path)


def test_sniff_knows_others_zips(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.ones(3))
    with zipfile.ZipFile(tmp_path / "a.keras", "w") as z:
        z.writestr("config.json", "{}")
    for name in ("a.npz", "a.keras"):
        assert sniff(tmp_path / name, (tmp_path / name).read_bytes()[:4096]) is None
    for value, zipped, kind in (({}, True, "zip"), ({"a": torch.ones(1)}, False, "legacy")):
        path = tmp_path / "weights.bin"
        torch.save(value, path, _use_new_zipfile_serialization=zipped)
        assert sniff(path, path.read_bytes()[:4096]) == kind


def test_tar_is_refused_by_a_sentence(tmp_path: Path) -> None:
    import tarfile

    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT):
        path = tmp_path / "old.pth"
        with tarfile.open(path, "w", format=form) as t:
            t.addfile(tarfile.TarInfo("storages"), io.BytesIO())
        with pytest.raises(ReadError, match=r"tar archive"):
            open_checkpoint(path)


REAL = ("*.pth", "*.pt", "*.pt2", "*.th", "*.tar", "*.safetensors")


def test_real_files_open(real_data: Path) -> None:
    found = [p for pattern in REAL for p in real_data.rglob(pattern) if p.is_file()]
    assert found
    for path in found:
        checkpoint = open_checkpoint(path)
        if checkpoint.kind not in ("legacy", "safetensors"):
            assert vet(path) == checkpoint.kind
        for name, tensor in checkpoint.tensors.items():
            assert tuple(tensor.tensor(name).shape) == tensor.shape


def test_real_files_hold_what_torch_loads(real_data: Path) -> None:
    """Every file that torch 2.13 itself can load."""
    loaded = 0
    for path in [
        *real_data.rglob("state_dict.pt*"),
        *real_data.rglob("checkpoint.pth*"),
        *real_data.rglob("*.th"),
        *real_data.rglob("torch/*.pt"),
    ]:
        checkpoint, whole = open_checkpoint(path), torch.load(path, weights_only=True, map_location="cpu")
        for key in checkpoint.wrapper.split(".") if checkpoint.wrapper else ():
            whole = whole[key]
        for name, stored in checkpoint.tensors.items():
            assert np.array_equal(stored.array(), whole[checkpoint.prefix + name].detach().numpy())
        loaded += 1
    assert loaded


def test_real_torchscript_holds_what_torch_loads(real_data: Path) -> None:
    """Archives of 1.0.1, which torch no longer loads, against the state dict saved beside them."""
    for path in real_data.rglob("traced.pt"):
        state, beside = script_state(path), path.with_name("state_dict.pth")
        if beside.is_file():
            want = torch.load(beside, weights_only=True)
            assert {k for k in want if not k.endswith("num_batches_tracked")} == {k for k in state if not k.endswith("num_batches_tracked")}
            assert all(np.array_equal(state[k].array(), want[k].numpy()) for k in state if k in want)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NiudaoError, match="does not exist"):
        open_checkpoint(tmp_path / "none.pt")
