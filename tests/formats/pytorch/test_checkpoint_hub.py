"""The JSON of a hub's folder, against the arithmetic of the image processors that it configures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from niudao.errors import ReadError
from niudao.formats.pytorch.checkpoint.hub import read_hub

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def folder(path: Path, config: Any = None, processor: Any = None) -> Path:
    for name, document in (("config.json", config), ("preprocessor_config.json", processor)):
        if document is not None:
            (path / name).write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def test_an_empty_folder_says_nothing(tmp_path: Path) -> None:
    assert read_hub(tmp_path) is None


def test_resnet_of_transformers(tmp_path: Path) -> None:
    config = {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": 3,
        "id2label": {"1": "shark", "0": "tench"},
    }
    processor = {
        "do_resize": True,
        "do_normalize": True,
        "image_mean": MEAN,
        "image_std": STD,
        "size": 224,
        "resample": 3,
        "crop_pct": 0.875,
    }
    facts = read_hub(folder(tmp_path, config, processor))
    assert facts is not None and facts.card is not None
    assert facts.classes == ("tench", "shark") and facts.shape == (3, 224, 224)
    assert (facts.architecture, facts.model_type) == ("ResNetForImageClassification", "resnet")
    assert (facts.card.layout, facts.card.order, facts.card.scale) == ("NCHW", "RGB", 1 / 255)
    assert facts.card.mean == tuple(MEAN) and facts.card.std == tuple(STD)
    assert facts.card.range == pytest.approx((-0.485 / 0.229, (1 - 0.406) / 0.225))


def test_vit_of_transformers(tmp_path: Path) -> None:
    processor = {
        "do_rescale": True,
        "rescale_factor": 0.00392156862745098,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": {"height": 224, "width": 192},
    }
    facts = read_hub(folder(tmp_path, {}, processor))
    assert facts is not None and facts.card is not None
    assert facts.shape == (3, 224, 192) and facts.card.resize == "stretch"
    assert facts.card.range == pytest.approx((-1, 1))


def test_clip_crops_from_the_middle(tmp_path: Path) -> None:
    processor = {
        "do_center_crop": True,
        "crop_size": {"height": 224, "width": 224},
        "size": {"shortest_edge": 256},
        "do_normalize": False,
        "do_rescale": False,
    }
    facts = read_hub(folder(tmp_path, None, processor))
    assert facts is not None and facts.card is not None
    assert facts.card.resize == "crop" and facts.shape == (3, 224, 224)
    assert (facts.card.scale, facts.card.mean, facts.card.std, facts.card.range) == (1.0, (0.0,), (1.0,), (0.0, 255.0))


def test_timm(tmp_path: Path) -> None:
    cfg = {"input_size": [3, 160, 160], "mean": MEAN, "std": STD, "crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic"}
    facts = read_hub(folder(tmp_path, {"architecture": "resnet18", "num_classes": 2, "label_names": ["a", "b"], "pretrained_cfg": cfg}))
    assert facts is not None and facts.card is not None
    assert facts.shape == (3, 160, 160) and facts.classes == ("a", "b") and facts.architecture == "resnet18" and facts.card.resize == "crop"


def test_default_labels_are_no_names(tmp_path: Path) -> None:
    facts = read_hub(folder(tmp_path, {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "image_size": 32, "num_channels": 1}))
    assert facts is not None and facts.classes == () and facts.card is None and facts.shape == (1, 32, 32)


@pytest.mark.parametrize(
    ("config", "processor", "says"),
    [
        ("[1]", None, "no JSON object"),
        ("{", None, "no JSON"),
        ("[" * 100000, None, "JSON|deep"),
        ('{"a":' * 500 + "1" + "}" * 500, None, "deep"),
        ({"id2label": {"0": 1}}, None, "class names"),
        ({"id2label": {"0": "a", "7": "b"}}, None, "number"),
        ({"id2label": 3}, None, "class names"),
        ({"image_size": -1}, None, "size"),
        ({"image_size": 1 << 40}, None, "size"),
        ({"image_size": [1, 2, 3]}, None, "size"),
        (None, {"image_mean": [0.5, "x"]}, "image_mean"),
        (None, '{"image_mean": [NaN]}', "image_mean"),
        (None, '{"image_std": [1e999]}', "image_std"),
        (None, {"image_std": [0, 1, 1]}, "zero"),
        (None, {"image_mean": [0.1, 0.2], "image_std": [0.1, 0.2, 0.3]}, "lengths"),
        (None, {"rescale_factor": "x"}, "rescale_factor"),
        (None, {"size": {"height": "x", "width": 3}}, "size"),
        (None, {"size": True}, "size"),
        ({"pretrained_cfg": {"mean": {}}}, None, "mean"),
    ],
)
def test_nonsense_is_refused(config: Any, processor: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=says):
        read_hub(folder(tmp_path, config, processor))
