"""`<stem>.card.json` beside a model: the input card and class names of a file whose format has no place for them.

{"card": {"image": {"layout": "NHWC", "order": "GREY", "scale": 0.00392, "range": [0, 1]}}, "classes": ["0", "1", ...]}
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx_ir as ir

from niudao.errors import ReadError
from niudao.formats import files
from niudao.ir import card

MAX_BYTES = 16 << 20


def path_for(model: Path) -> Path:
    """Where the card of a model file lies."""
    return model.with_name(f"{model.stem.removesuffix('.caffemodel')}.card.json")  # net.caffemodel.h5 is one ending


def write(model: ir.Model, path: Path) -> Path | None:
    """Write the card of a model that is written at `path`, where it holds more than every reader knows.

    Returns:
        The card's path, None where there was nothing to say.
    """
    cards, classes = card.get_cards(model), card.get_classes(model)
    if not classes and not any(_says_much(c) for c in cards.values()):
        return None
    plain = {n: {k: v for k, v in asdict(c).items() if v not in (None, ())} for n, c in cards.items()}
    target = path_for(path)
    target.write_text(json.dumps({"card": plain, "classes": classes}, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return target


def apply(model: ir.Model, path: Path) -> None:
    """Put the card beside `path`, if there is one, into the model; what the file itself says has precedence.

    Raises:
        ReadError: The card is no JSON of this form.
    """
    beside = path_for(path)
    try:
        if not beside.is_file():
            return
    except OSError:  # a name with this ending would be too long for a file
        return
    with files.open_model(beside) as f:
        text = f.read(MAX_BYTES + 1)
    try:
        data: Any = json.loads(text) if len(text) <= MAX_BYTES else None
    except (ValueError, RecursionError) as e:
        raise ReadError(f"{beside.name} is no JSON.", where=beside) from e
    if not isinstance(data, dict) or not isinstance(data.get("card", {}), dict) or not isinstance(data.get("classes", []), list):
        raise ReadError(f"{beside.name} is no input card.", where=beside, expected='{"card": {input: {...}}, "classes": [...]}')
    known = card.get_cards(model)
    names = {v.name for v in model.graph.inputs}
    for name, fields in data.get("card", {}).items():
        if name in names and isinstance(fields, dict):
            mine = known.get(name)
            fresh = card.InputCard.from_dict(fields)
            known[name] = fresh if mine is None or not _says_much(mine) else mine
    card.set_cards(model, known)
    if not card.get_classes(model):
        card.set_classes(model, [str(c) for c in data.get("classes", [])])


def _says_much(mine: card.InputCard) -> bool:
    """Whether a card holds more than the layout, which every reader knows."""
    return set(mine.missing()) != {"order", "range", "scale", "mean", "std", "resize"}
