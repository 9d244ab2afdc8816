"""What a file knows and ONNX has no field for: the input card, the class names, each value's source layout, source names.

All of it lives in `metadata_props` under the `niudao.` prefix, because those survive saving and `meta` does not.

    model   niudao.source      {"format": "keras", "version": "2.2.4", ...}
    model   niudao.card        {input name: InputCard}
    model   niudao.classes     ["tench", ...]
    model   niudao.notes       ["3 inputs with default values were read as weights", ...]
    value   niudao.layout      [0, 3, 1, 2]   graph inputs and outputs only; absent where the axes are the source's own
    node    niudao.layer       the layer's name in its source framework
    node    niudao.layer_type  the layer's kind in its source framework
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from math import isfinite
from typing import Any, Literal

import onnx_ir as ir

from niudao.errors import InvalidModel

SOURCE, CARD, CLASSES, NOTES = "niudao.source", "niudao.card", "niudao.classes", "niudao.notes"
LAYOUT, LAYER, LAYER_TYPE = "niudao.layout", "niudao.layer", "niudao.layer_type"


@dataclass(frozen=True)
class InputCard:
    """How a picture becomes this input: value = (pixel * scale - mean) / std, channel by channel.

    Attributes:
        layout: Axes as the source framework takes them ("NHWC", "NCHW"), if it is an image.
        order: Channel order, "RGB", "BGR" or "GREY".
        range: Smallest and largest value of a real input, after preprocessing.
        scale: Factor on pixels 0..255 before the mean is taken off.
        mean: One value, or one per channel in `order`.
        std: One value, or one per channel in `order`.
        resize: "stretch", "crop" (shorter side, then centre crop), "pad" (letterbox).
        guessed: Names of fields that were guessed rather than read.
    """

    layout: str | None = None
    order: Literal["RGB", "BGR", "GREY"] | None = None
    range: tuple[float, float] | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    resize: Literal["stretch", "crop", "pad"] | None = None
    guessed: tuple[str, ...] = ()

    def missing(self) -> tuple[str, ...]:
        """Fields that a picture needs and nobody has told us."""
        return tuple(f.name for f in fields(self) if f.name != "guessed" and getattr(self, f.name) is None)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> InputCard:
        """Raises InvalidModel for a field that no card has, or of another kind."""
        known = {f.name for f in fields(cls)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise InvalidModel(f"an input card has no field {unknown[0]!r}.", expected=", ".join(sorted(known)))
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        for name in ("range", "mean", "std"):
            value = values.get(name)
            if value is not None and not (isinstance(value, tuple) and all(isinstance(x, (int, float)) for x in value)):
                raise InvalidModel(f"the input card's {name} is no list of numbers.", got=repr(value)[:80])
        for name in ("range", "mean", "std", "scale"):
            held = values.get(name)
            numbers = held if isinstance(held, tuple) else (held,)
            if not all(usable(x) for x in numbers if isinstance(x, (int, float))):
                raise InvalidModel(f"the input card's {name} holds numbers that no picture has.", got=repr(held)[:80])
        return cls(**values)


def usable(number: float) -> bool:
    """Whether a number can be a mean, a scale or a bound of a picture: finite, and far from where float32 ends."""
    return isfinite(number) and abs(number) < 1e15


def get_json(props: Mapping[str, str], key: str) -> Any:
    """The JSON value filed under a key, or None; text that is not JSON counts as absent."""
    text = props.get(key)
    if text is None:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def get_cards(model: ir.Model) -> dict[str, InputCard]:
    """Input name -> card, for the inputs that have one."""
    data = get_json(model.metadata_props, CARD)
    if not isinstance(data, dict):
        return {}
    return {str(k): InputCard.from_dict(v) for k, v in data.items() if isinstance(v, dict)}


def set_cards(model: ir.Model, cards: Mapping[str, InputCard]) -> None:
    """File the cards in the model; an empty mapping removes them."""
    if cards:
        plain = {n: {k: v for k, v in asdict(c).items() if v not in (None, ())} for n, c in cards.items()}
        model.metadata_props[CARD] = json.dumps(plain)
    else:
        model.metadata_props.pop(CARD, None)


def get_classes(model: ir.Model) -> list[str]:
    """Class names in the order of the output's last axis, or an empty list."""
    data = get_json(model.metadata_props, CLASSES)
    return [str(x) for x in data] if isinstance(data, list) else []


def set_classes(model: ir.Model, names: Sequence[str]) -> None:
    """File the class names in the model; an empty list removes them."""
    if names:
        model.metadata_props[CLASSES] = json.dumps(list(names), ensure_ascii=False)
    else:
        model.metadata_props.pop(CLASSES, None)


def get_source(model: ir.Model) -> dict[str, Any]:
    """What wrote the file: at least `format`, where a reader of ours made the model."""
    data = get_json(model.metadata_props, SOURCE)
    return data if isinstance(data, dict) else {}


def set_source(model: ir.Model, format: str, **facts: object) -> None:
    """File the source format, its version and what else the reader wants remembered."""
    model.metadata_props[SOURCE] = json.dumps({"format": format} | facts)


def get_notes(model: ir.Model) -> tuple[str, ...]:
    """What a reader wants the user to know about the file."""
    found = (get_json(model.metadata_props, NOTES), get_source(model).get("notes"))
    return tuple(str(n) for notes in found if isinstance(notes, list) for n in notes)


def get_raised(model: ir.Model) -> tuple[str, ...]:
    """What the reader raised: chains of small operators that are one operator again, a sentence a kind."""
    found = get_source(model).get("raised")
    return tuple(str(n) for n in found) if isinstance(found, list) else ()


def get_layout(value: ir.Value) -> tuple[int, ...] | None:
    """The permutation that takes the source's array to ours, `ours = source.transpose(perm)`; None where they are the same."""
    data = get_json(value.metadata_props, LAYOUT)
    rank = len(value.shape) if value.shape is not None else None
    if not isinstance(data, list) or sorted(map(str, data)) != sorted(map(str, range(len(data)))) or rank not in (None, len(data)):
        return None
    perm = tuple(int(x) for x in data)
    return None if perm == tuple(range(len(perm))) else perm


def set_layout(value: ir.Value, perm: Sequence[int] | None) -> None:
    """Record `ours = source.transpose(perm)` on a graph input or output."""
    if perm is None or list(perm) == list(range(len(perm))):
        value.metadata_props.pop(LAYOUT, None)
    else:
        value.metadata_props[LAYOUT] = json.dumps([int(p) for p in perm])


def layer_of(node: ir.Node) -> str:
    """The source layer's name, else the node's own, else the name of what it computes."""
    return node.metadata_props.get(LAYER) or node.name or (node.outputs[0].name if node.outputs else None) or node.op_type


def invert(perm: Sequence[int]) -> tuple[int, ...]:
    """The permutation that undoes `perm`."""
    inverse = [0] * len(perm)
    for i, p in enumerate(perm):
        inverse[p] = i
    return tuple(inverse)
