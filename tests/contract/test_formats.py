"""One contract over every registered format: what goes in comes out, with its names, its card and its class names."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import niudao as nd
from niudao.errors import NiudaoError, ReadError, Unsupported, WriteError
from niudao.formats import FORMATS, refusals
from niudao.ir import card
from niudao.ir.build import Builder

ENDINGS = [
    (name, ending)
    for name, f in FORMATS.items()
    for ending in f.targets or f.extensions
    if f.can_write and ending not in (".py", ".json", ".hdf5")
]


def read(path: Path) -> ir.Model:
    """Source that we wrote beside weights is ours to run."""
    return nd.read(path, trust=path.suffix == ".safetensors")


@pytest.mark.parametrize(("name", "ending"), ENDINGS)
def test_a_network_survives_the_way_there_and_back(small_net: ir.Model, tmp_path: Path, name: str, ending: str) -> None:
    x = np.random.default_rng(0).random((3, 3, 9, 7), np.float32)
    before = nd.run(small_net, {"image": x})
    report = nd.write(small_net, tmp_path / f"net{ending}")
    assert report.files and all(Path(f).exists() for f in report.files)
    back = read(tmp_path / f"net{ending}")
    assert [v.name for v in back.graph.inputs] == ["image"]
    assert [v.name for v in back.graph.outputs] == ["prob"]
    np.testing.assert_allclose(nd.run(back, {"image": x})["prob"], before["prob"], atol=1e-6)
    assert {"conv", "bn"} <= {card.layer_of(n) for n in back.graph}


@pytest.mark.parametrize(("name", "ending"), ENDINGS)
def test_the_card_and_the_class_names_travel(small_net: ir.Model, tmp_path: Path, name: str, ending: str) -> None:
    mine = card.InputCard(layout="NHWC", order="BGR", range=(-128.0, 151.0), scale=1.0, mean=(104.0, 117.0, 123.0), resize="crop")
    card.set_cards(small_net, {"image": mine})
    card.set_classes(small_net, ["a", "b", "c", "猫", "e"])
    nd.write(small_net, tmp_path / f"net{ending}")
    back = read(tmp_path / f"net{ending}")
    assert card.get_cards(back)["image"] == mine
    assert card.get_classes(back) == ["a", "b", "c", "猫", "e"]


@pytest.mark.parametrize(("name", "ending"), ENDINGS)
def test_writing_leaves_the_model_as_it_was(small_net: ir.Model, tmp_path: Path, name: str, ending: str) -> None:
    before = ir.to_proto(small_net).SerializeToString(deterministic=True)
    nd.write(small_net, tmp_path / f"net{ending}")
    assert ir.to_proto(small_net).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", list(FORMATS))
def test_what_cannot_be_expressed_is_named_in_one_pass_and_nothing_is_written(tmp_path: Path, name: str) -> None:
    b = Builder()
    x = b.input("x", (None, 4, 4))
    y = b.op("Det", x, layer="first")
    z = b.op("Det", b.op("Mul", x, b.const(2.0)), layer="second")
    b.output(b.op("Add", y, z), "y")
    model = b.model()
    refused = {r.node for r in refusals(model, name)}
    if not refused:
        return  # ONNX itself can express every operator of the intermediate representation
    assert refused == {"first", "second"}
    with pytest.raises(Unsupported):
        nd.write(model, tmp_path / f"net{FORMATS[name].extensions[0]}")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("name", "ending"), ENDINGS)
def test_a_missing_folder_is_one_sentence(small_net: ir.Model, tmp_path: Path, name: str, ending: str) -> None:
    with pytest.raises(WriteError):
        nd.write(small_net, tmp_path / "missing" / f"net{ending}")


@pytest.mark.parametrize(("name", "ending"), ENDINGS)
def test_damaged_files_are_errors_of_ours(small_net: ir.Model, tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"net{ending}"
    nd.write(small_net, path)
    whole = path.read_bytes()
    for keep in (1, 9, len(whole) // 3, len(whole) - 7):
        path.write_bytes(whole[:keep])
        with pytest.raises(NiudaoError):
            read(path)
    path.write_bytes(b"")
    with pytest.raises(ReadError, match="empty"):
        read(path)
