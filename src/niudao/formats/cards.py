"""The input card as a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import onnx_ir as ir

from niudao.formats.conversion import cards_of
from niudao.ir import card
from niudao.report import Block, Facts, Report, Text, Verdict


@dataclass(frozen=True, kw_only=True)
class CardReport(Report):
    """How pictures become this network's inputs, and its class names."""

    schema: ClassVar[str] = "niudao.card/1"
    path: str
    card: dict[str, dict[str, Any]]
    classes: tuple[str, ...]
    missing: dict[str, tuple[str, ...]]
    written: str = ""

    @classmethod
    def of(cls, model: ir.Model, path: str, written: str) -> CardReport:
        """The card of a model read from `path`."""
        cards = card.get_cards(model)
        missing = {v.name or "": cards.get(v.name or "", card.InputCard()).missing() for v in model.graph.inputs}
        return cls(path=path, card=cards_of(model), classes=tuple(card.get_classes(model)), missing=missing, written=written)

    def title(self) -> str:
        return f"card of {Path(self.written or self.path).name}"

    def blocks(self) -> list[Block]:
        blocks: list[Block] = [Verdict(None, self.title())]
        for name, fields in self.card.items():
            blocks.append(Facts(tuple((k, _text(v)) for k, v in fields.items()), title=f"input {name}"))
            if self.missing[name]:
                hint = f"not known: {', '.join(self.missing[name])}. Set it: niudao card {self.path} --set {self.missing[name][0]}=..."
                blocks.append(Text(hint, level="note"))
        if self.classes:
            blocks.append(
                Facts((("classes", f"{len(self.classes)}: {', '.join(self.classes[:10])}{', ...' if len(self.classes) > 10 else ''}"),))
            )
        if self.written:
            blocks.append(Text(f"wrote {self.written}"))
        return blocks


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
