"""The folder of a model hub: which pictures a network takes, and what its classes are called, from the JSON beside its weights.

Reference: `transformers` image processors (`preprocessor_config.json`) and `timm`'s `pretrained_cfg` in `config.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from niudao.errors import ReadError, Where
from niudao.formats import documents, files
from niudao.ir.card import InputCard, usable

_MAX_JSON, _MAX_CLASSES, _MAX_SIDE = 8 << 20, 100_000, 1 << 16


@dataclass(frozen=True)
class HubFacts:
    """What a folder says about its network.

    Attributes:
        card: How pictures become inputs; None if nothing says so.
        classes: Names in the order of the outputs, () if there are none.
        shape: Channels, height and width of the input, None where it is not said.
        architecture: The class or variant ("ResNetForImageClassification", "resnet18"), or "".
        model_type: The family ("resnet"), or "".
    """

    card: InputCard | None
    classes: tuple[str, ...]
    shape: tuple[int, int, int] | None
    architecture: str
    model_type: str


def read_hub(folder: Path) -> HubFacts | None:
    """Read `config.json` and `preprocessor_config.json` of a folder.

    Returns:
        What they say; None where there is neither.

    Raises:
        ReadError: One is damaged or hostile, or holds numbers that no picture has.
    """
    config, processor = (_document(folder / n) for n in ("config.json", "preprocessor_config.json"))
    if config is None and processor is None:
        return None
    where = Where(file=str(folder / "config.json"))
    config = config or {}
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else config.get("architecture", "")
    timm = config.get("pretrained_cfg")
    facts = timm if isinstance(timm, dict) else config
    card, shape = (
        _processor_card(processor, config, Where(file=str(folder / "preprocessor_config.json")))
        if processor is not None
        else _timm_card(timm, where)
        if isinstance(timm, dict)
        else (None, _shape(config.get("image_size"), config.get("num_channels", 3), where))
    )
    labels = config.get("label_names", facts.get("label_names"))
    return HubFacts(card, _classes(config.get("id2label"), labels, where), shape, _word(named), _word(config.get("model_type", "")))


def _document(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    with files.open_model(path) as f:
        return documents.parse(f.read(_MAX_JSON), Where(file=str(path)))


def _word(value: Any) -> str:
    return value[:80] if isinstance(value, str) else ""


def _classes(id2label: Any, labels: Any, where: Where) -> tuple[str, ...]:
    if isinstance(labels, list) and id2label is None:
        id2label = {str(i): name for i, name in enumerate(labels)}
    if id2label is None:
        return ()
    if not isinstance(id2label, dict) or len(id2label) > _MAX_CLASSES or not all(isinstance(v, str) for v in id2label.values()):
        raise ReadError("id2label is no table of class names.", where=where)
    names = [id2label.get(str(i)) for i in range(len(id2label))]
    if None in names:
        raise ReadError("id2label does not number its classes from 0 on.", where=where, got=", ".join(list(id2label)[:4])[:80])
    if all(name == f"LABEL_{i}" for i, name in enumerate(names)):  # what transformers writes where nobody named them
        return ()
    return tuple(str(n) for n in names)


def _numbers(value: Any, name: str, where: Where) -> tuple[float, ...] | None:
    if value is None:
        return None
    held = value if isinstance(value, list) else [value]
    if not 1 <= len(held) <= 16 or not all(type(v) in (int, float) and usable(v) for v in held):
        raise ReadError(f"{name} is no list of numbers that pictures have.", where=where, got=repr(held)[:80])
    return tuple(float(v) for v in held)


def _side(value: Any, where: Where) -> int:
    if type(value) is not int or not 0 < value <= _MAX_SIDE:
        raise ReadError("the size of the pictures is none.", where=where, got=repr(value)[:40])
    return value


def _shape(size: Any, channels: Any, where: Where) -> tuple[int, int, int] | None:
    """A size as one number, two, or a table; None for what leaves a side open."""
    if isinstance(size, dict):
        size = [size["height"], size["width"]] if {"height", "width"} <= set(size) else None
    if size is None or channels is None:
        return None
    pair = size if isinstance(size, list) else [size, size]
    if len(pair) != 2:
        raise ReadError("the size of the pictures is none.", where=where, got=repr(size)[:40])
    return (_side(channels, where), _side(pair[0], where), _side(pair[1], where))


def _card(scale: float, mean: tuple[float, ...], std: tuple[float, ...], resize: Any, channels: int, where: Where) -> InputCard:
    if not all(std):
        raise ReadError("image_std holds a zero, by which no picture can be divided.", where=where)
    if not usable(scale) or len({len(mean), len(std)} - {1}) > 1:
        raise ReadError("the mean and the deviation of the pictures have different lengths.", where=where)
    longest = max(len(mean), len(std))
    pairs = list(zip(mean * (longest // len(mean)), std * (longest // len(std)), strict=True))
    ends = [e for m, s in pairs for e in ((0 - m) / s, (255 * scale - m) / s)]
    order: Literal["GREY", "RGB"] = "GREY" if channels == 1 else "RGB"
    return InputCard("NCHW", order, (min(ends), max(ends)), scale, mean, std, resize)


def _processor_card(processor: Mapping[str, Any], config: Mapping[str, Any], where: Where) -> tuple[InputCard, tuple[int, int, int] | None]:
    """The card of an image processor of transformers: rescaled, then normalised, each if it says so."""
    factor = _numbers(processor.get("rescale_factor", 1 / 255), "rescale_factor", where)
    scale = factor[0] if factor is not None and processor.get("do_rescale", True) else 1.0
    normal = processor.get("do_normalize", True)
    mean, std = (_numbers(processor.get(f"image_{n}"), f"image_{n}", where) if normal else None for n in ("mean", "std"))
    crop = processor.get("do_center_crop", False) is True
    size, cropped = processor.get("size"), processor.get("crop_size")
    shortest = isinstance(size, dict) and "shortest_edge" in size
    resize = "pad" if processor.get("do_pad") is True else "crop" if crop or shortest else "stretch"
    final = cropped if crop and cropped is not None else size
    if shortest and final is size:
        final = size["shortest_edge"] if isinstance(size, dict) else None
    channels = config.get("num_channels", 3)
    shape = _shape(final, channels, where) or _shape(config.get("image_size"), channels, where)
    return _card(scale, mean or (0.0,), std or (1.0,), resize, channels, where), shape


def _timm_card(facts: Mapping[str, Any], where: Where) -> tuple[InputCard, tuple[int, int, int] | None]:
    """The card of timm: pixels over 255, normalised, cropped from the middle."""
    mean = _numbers(facts.get("mean"), "mean", where) or (0.0,)
    std = _numbers(facts.get("std"), "std", where) or (1.0,)
    size = facts.get("input_size")
    shape = _shape(size[1:], size[0], where) if isinstance(size, list) and len(size) == 3 else None
    resize = {"squash": "stretch", "border": "pad"}.get(str(facts.get("crop_mode", "center")), "crop")
    return _card(1 / 255, mean, std, resize, shape[0] if shape else 3, where), shape
