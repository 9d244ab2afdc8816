"""A network's files find each other; a mistake in a prototxt is named where it stands."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import niudao as nd
from niudao.errors import NiudaoError, ReadError, Unsupported
from niudao.ir import card

TEXT = """name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 6 } } }
layer {
  name: "conv1"
  type: "Convolution"
  bottom: "data"
  top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 }
}
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
"""


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A prototxt with its caffemodel beside it, written by us."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "net.prototxt").write_text(TEXT)
    nd.write(nd.read(tmp_path / "source" / "net.prototxt"), tmp_path / "net.prototxt")
    return tmp_path / "net.prototxt"


def weights(model: ir.Model) -> dict[str, np.ndarray]:
    return {n: v.const_value.numpy() for n, v in model.graph.initializers.items() if v.const_value is not None and "/" in n}


def same(a: ir.Model, b: ir.Model) -> bool:
    x, y = weights(a), weights(b)
    return x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x)


def test_either_file_is_enough(pair: Path) -> None:
    whole = nd.read(pair)
    assert set(weights(whole)) == {"conv1/weight", "conv1/bias"}
    assert same(whole, nd.read(pair.with_suffix(".caffemodel")))
    assert same(whole, nd.read(pair, weights=pair.with_suffix(".caffemodel")))
    assert same(whole, nd.read(pair.with_suffix(".caffemodel"), weights=pair))


def test_weights_alone_hold_the_topology(pair: Path) -> None:
    whole = nd.read(pair)
    pair.unlink()
    assert same(whole, nd.read(pair.with_suffix(".caffemodel")))


def test_a_topology_alone_gets_random_weights_and_says_so(pair: Path) -> None:
    pair.with_suffix(".caffemodel").unlink()
    model = nd.read(pair)
    assert any("no weights" in note for note in card.get_notes(model))
    assert float(np.abs(weights(model)["conv1/weight"]).max()) > 0


def test_hdf5_weights_are_the_same_weights(pair: Path, tmp_path: Path) -> None:
    whole = nd.read(pair)
    (tmp_path / "h5").mkdir()
    nd.write(whole, tmp_path / "h5" / "net.prototxt", weights=tmp_path / "h5" / "net.caffemodel.h5")
    assert same(whole, nd.read(tmp_path / "h5" / "net.prototxt"))
    assert same(whole, nd.read(tmp_path / "h5" / "net.caffemodel.h5"))


def test_the_only_weights_in_the_folder_are_taken(pair: Path) -> None:
    whole = nd.read(pair)
    pair.with_suffix(".caffemodel").rename(pair.with_name("net_iter_10000.caffemodel"))
    assert same(whole, nd.read(pair))
    shutil.copy(pair.with_name("net_iter_10000.caffemodel"), pair.with_name("other.caffemodel"))
    assert any("no weights" in note for note in card.get_notes(nd.read(pair)))


def test_labels_and_mean_reach_the_card(pair: Path) -> None:
    pair.with_name("synset_words.txt").write_text(
        "n01440764 tench, Tinca tinca\nn01443537 goldfish\nn01484850 shark\nn01491361 tiger shark\n"
    )
    assert card.get_classes(nd.read(pair)) == ["tench, Tinca tinca", "goldfish", "shark", "tiger shark"]
    pair.with_name("synset_words.txt").write_text("one\ntwo\n")
    assert card.get_classes(nd.read(pair)) == []


def test_what_caffe_has_no_place_for_lies_beside_the_pair(small_net: ir.Model, tmp_path: Path) -> None:
    mine = card.InputCard(layout="NCHW", order="BGR", scale=0.5, mean=(52.0, 58.5, 61.5), std=(1.0,), resize="crop")
    card.set_cards(small_net, {"image": mine})
    card.set_classes(small_net, ["a", "b", "c", "猫", "e"])
    report = nd.write(small_net, tmp_path / "net.prototxt")
    assert [Path(f).name for f in report.files] == ["net.prototxt", "net.caffemodel", "net.card.json", "net.binaryproto", "net.labels.txt"]
    assert card.get_cards(nd.read(tmp_path / "net.prototxt"))["image"] == mine
    (tmp_path / "net.card.json").unlink()  # as other programs see it: (pixel - mean) * scale
    model = nd.read(tmp_path / "net.prototxt")
    found = card.get_cards(model)["image"]
    assert (found.mean, found.order) == ((104.0, 117.0, 123.0), "BGR")
    assert card.get_classes(model) == ["a", "b", "c", "猫", "e"]


def test_the_training_network_gives_its_transform_to_the_card(tmp_path: Path) -> None:
    (tmp_path / "train_val.prototxt").write_text(
        'layer { name: "d" type: "Data" top: "data" top: "label" '
        "transform_param { scale: 0.5 mean_value: 104 mean_value: 117 mean_value: 123 crop_size: 8 } }\n"
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }\n'
    )
    model = nd.read(tmp_path / "train_val.prototxt")
    found = card.get_cards(model)["data"]
    assert (found.order, found.scale, found.mean, found.resize) == ("BGR", 0.5, (52.0, 58.5, 61.5), "crop")
    assert [d if isinstance(d, int) else None for d in model.graph.inputs[0].shape or ()] == [None, 3, 8, 8]


def test_sizes_come_from_the_user_where_the_file_has_none(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "d" type: "Data" top: "data" top: "label" }\n'
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }\n'
    )
    with pytest.raises(ReadError, match="shape of the input 'data' is not in the file"):
        nd.read(path)
    model = nd.read(path, shapes={"data": (1, 3, 10, 9)})
    assert list(model.graph.outputs[0].shape or ()) == [1, 4, 8, 7]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("kernel_size: 3", "kernal_size: 3", r"line 8.*column 37.*did you mean kernel_size"),
        ('top: "conv1"\n', 'tops: "conv1"\n', r"line 7.*did you mean top"),
        ("num_output: 4", "num_output: four", r"line 8.*number"),
        ("num_output: 4", "num_output: -4", r"line 8"),
        (
            'name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }',
            'name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1"',
            r"line 10",
        ),
        ('type: "Input"', 'type: "Input', r"line 2"),
    ],
)
def test_a_syntax_error_is_named_by_line_and_column(tmp_path: Path, old: str, new: str, says: str) -> None:
    path = tmp_path / "net.prototxt"
    assert old in TEXT
    path.write_text(TEXT.replace(old, new))
    with pytest.raises(ReadError) as e:
        nd.read(path)
    assert re.search(says, f"{e.value.message} {e.value.where} {e.value.next}", re.S | re.I), (e.value.message, e.value.facts())


def test_fields_of_unknown_forks_are_skipped_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(TEXT.replace('type: "ReLU"', 'type: "ReLU" zebra_param { stripes: 7 inner { a: [1, 2] } }'))
    assert any("zebra_param" in note and "relu1" in note for note in card.get_notes(nd.read(path)))


def test_unknown_layers_are_named_in_one_pass(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        TEXT + 'layer { name: "x" type: "Frobnicate" bottom: "conv1" top: "x" }\n'
        'layer { name: "y" type: "Python" bottom: "x" top: "y" python_param { module: "os" layer: "system" } }\n'
    )
    with pytest.raises(Unsupported) as e:
        nd.read(path)
    assert {"x", "y"} == {r.node for r in e.value.refusals}


def test_weights_of_another_network_are_named(pair: Path) -> None:
    pair.write_text(TEXT.replace("num_output: 4", "num_output: 5"))
    with pytest.raises(ReadError, match="conv1") as e:
        nd.read(pair)
    assert "another shape" in e.value.message
    pair.write_text(TEXT.replace('"conv1"', '"conv9"'))
    with pytest.raises(ReadError, match="conv9"):
        nd.read(pair)


@pytest.mark.parametrize("settings", ["mean_value: nan", "mean_value: 1 scale: inf", "mean_value: 3e38 scale: 1e38", "mean_value: 1e30"])
def test_numbers_of_no_picture_do_not_reach_the_card(tmp_path: Path, settings: str) -> None:
    """They would be drawn as inputs of the proof, which then fails for a reason that nobody sees."""
    path = tmp_path / "net.prototxt"
    transform = f"transform_param {{ crop_size: 8 {settings} }}"
    path.write_text(
        f'layer {{ name: "d" type: "Data" top: "data" {transform} }}\n'
        'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 } }\n'
    )
    model = nd.read(path)
    assert card.get_cards(model)["data"].mean is None
    assert any("no numbers of a picture" in note for note in card.get_notes(model))
    assert nd.convert(path, tmp_path / "net.onnx").ok


def test_a_card_of_such_numbers_is_refused_by_name(pair: Path) -> None:
    pair.with_name("net.card.json").write_text('{"card": {"data": {"mean": [NaN]}}, "classes": []}')
    with pytest.raises(NiudaoError, match="mean holds numbers that no picture has"):
        nd.read(pair)
