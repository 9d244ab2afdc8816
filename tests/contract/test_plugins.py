"""A user's own layer: refused by name without its plug-in, converted with it, by a file or by an installed package."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

import niudao as nd
from niudao.formats.keras.layers import LAYERS
from niudao.ir.build import Builder
from niudao.registry import Registry

PLUGIN = '''
from niudao.formats.keras.layers import Call, reads
from niudao.formats.keras.tensor import Tensor


@reads("Scale2")
def scale_2(call: Call, x: Tensor) -> Tensor:
    """Twice its input."""
    call.known("negative_slope", "max_value", "threshold")
    return x.like(call.b.op("Mul", x.value, call.b.const(2.0)))
'''

X = np.random.default_rng(5).standard_normal((3, 2, 5, 4)).astype(np.float32)
"""Channels first; the files themselves are channels last."""


def command(*args: object) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NIUDAO_")}
    words = [sys.executable, "-m", "niudao", *map(str, args)]
    return subprocess.run(words, capture_output=True, text=True, env=clean, timeout=120)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Conv2D and a ReLU written as .keras, then the ReLU made a class of the user's own."""
    b = Builder("net")
    weight = np.random.default_rng(0).standard_normal((3, 2, 3, 3)).astype(np.float32)
    y = b.op("Conv", b.input("x", (None, 2, 5, 4)), b.weight(weight, "kernel"), layer="conv")
    y = b.op("LeakyRelu", y, layer="mine", alpha=0.25)
    b.output(b.op("GlobalAveragePool", y, layer="mean"), "mean", (0, 3, 1, 2))
    nd.write(b.model(), tmp_path / "plain.keras")
    path = tmp_path / "net.keras"
    with zipfile.ZipFile(tmp_path / "plain.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                (layer,) = [x for x in config["config"]["layers"] if x["class_name"] == "LeakyReLU"]
                layer |= {"class_name": "Scale2", "module": "my_package", "registered_name": "my_package>Scale2"}
                data = json.dumps(config).encode()
            new.writestr(name, data)
    return path


def expected() -> np.ndarray:
    """The same network by hand: ONNX Runtime's convolution of the same weights, doubled and averaged."""
    b = Builder("net")
    weight = np.random.default_rng(0).standard_normal((3, 2, 3, 3)).astype(np.float32)
    b.output(b.op("Conv", b.input("x", (None, 2, 5, 4)), b.weight(weight, "kernel")), "y")
    session = ort.InferenceSession(ir.to_proto(b.model()).SerializeToString(), providers=["CPUExecutionProvider"])
    return 2 * session.run(None, {"x": X})[0].mean(axis=(2, 3), keepdims=True)


def test_without_the_plugin_the_class_is_refused_by_name(file: Path) -> None:
    said = command("convert", file, file.with_name("net.onnx"))
    assert said.returncode == 1 and said.stdout == ""
    assert "mine (Scale2)" in said.stderr and "--plugin" in said.stderr
    assert "Traceback" not in said.stderr
    assert not file.with_name("net.onnx").exists()


def test_with_the_plugin_it_is_converted(file: Path, tmp_path: Path) -> None:
    plugin = tmp_path / "my_layer.py"
    plugin.write_text(PLUGIN, encoding="utf-8")
    said = command("convert", file, tmp_path / "net.onnx", "--plugin", plugin)
    assert said.returncode == 0, said.stderr
    session = ort.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    (got,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(got.reshape(3, 3), expected().reshape(3, 3), atol=1e-5)
    seen = command("inspect", file, "--plugin", plugin)
    assert seen.returncode == 0, seen.stderr
    assert "mine" in seen.stdout


def test_a_plugin_that_is_missing_is_one_sentence(file: Path, tmp_path: Path) -> None:
    said = command("inspect", file, "--plugin", tmp_path / "nowhere.py")
    assert said.returncode == 2
    assert "nowhere.py" in said.stderr and "Traceback" not in said.stderr


class Point:
    """An entry point of a package that is installed only in this test."""

    def __init__(self, code: str) -> None:
        self.code, self.loaded = code, 0

    def load(self) -> None:
        self.loaded += 1
        exec(compile(self.code, "my_package.py", "exec"), {})


def test_an_installed_package_is_found_by_its_entry_point(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = Point(PLUGIN)

    def entry_points(*, group: str) -> list[Point]:
        return [point] if group == "niudao.keras.layers" else []

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)
    monkeypatch.setattr(LAYERS, "_entries", dict(LAYERS._entries))
    monkeypatch.setattr(LAYERS, "_entry_points", "niudao.keras.layers")
    model = nd.read(file)
    got = nd.run(model, {"x": X})["mean"]
    np.testing.assert_allclose(got.reshape(3, 3), expected().reshape(3, 3), atol=1e-5)
    nd.read(file)
    assert point.loaded == 1


def test_entry_points_are_loaded_once_and_only_when_a_name_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    things: Registry[str] = Registry("thing", entry_points="my.things")
    calls: list[str] = []

    class Late:
        def load(self) -> None:
            calls.append("load")
            things.register("late")("from a package")

    monkeypatch.setattr(importlib.metadata, "entry_points", lambda *, group: [Late()] if group == "my.things" else [])
    things.register("early")("from here")
    assert things["early"] == "from here" and not calls
    assert things["late"] == "from a package"
    with pytest.raises(nd.NiudaoError, match="unknown thing 'nowhere'"):
        things["nowhere"]
    assert list(things) == ["early", "late"] and calls == ["load"]
