"""A folder stands for the network in it, where there is one."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

import niudao as nd
from niudao.errors import ReadError
from niudao.formats.folder import network_in


@pytest.mark.parametrize("ending", [".onnx", ".keras", ".h5", ".json", ".prototxt"])
def test_one_network(small_net: ir.Model, tmp_path: Path, ending: str) -> None:
    nd.write(small_net, tmp_path / f"net{ending}")
    assert network_in(tmp_path) == tmp_path / f"net{ending}"
    assert [v.name for v in nd.read(tmp_path).graph.inputs] == ["image"]


def test_two_networks_or_none_are_one_sentence(small_net: ir.Model, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="no network"):
        nd.read(tmp_path)
    nd.write(small_net, tmp_path / "a.onnx")
    nd.write(small_net, tmp_path / "b.keras")
    with pytest.raises(ReadError, match="several") as e:
        nd.read(tmp_path)
    assert "a.onnx" in (e.value.got or "") and "b.keras" in (e.value.got or "")


def test_the_usual_name_comes_first(tmp_path: Path) -> None:
    for name in ("train_val.prototxt", "solver.prototxt", "deploy.prototxt"):
        (tmp_path / name).write_text("")
    assert network_in(tmp_path).name == "deploy.prototxt"
