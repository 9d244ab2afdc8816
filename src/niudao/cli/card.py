"""Show or set the input card: how a picture becomes the network's input, and what its classes are called."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from niudao.cli import common
from niudao.errors import ReadError, UnknownName, UsageError
from niudao.report import Report

ISOLATED = True
EXAMPLES = (
    "niudao card net.onnx",
    "niudao card net.onnx --set order=BGR --set mean=104,117,123 -o net.onnx",
    "niudao card net.keras --classes labels.txt -o named.keras",
)


def arguments(parser: argparse.ArgumentParser) -> None:
    common.model_argument(parser)
    common.reading_flags(parser)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="layout, order, range, scale, mean, std or resize; empty removes it"
    )
    parser.add_argument("--input", metavar="NAME", help="which input (default: the first)")
    parser.add_argument("--classes", metavar="FILE", help="class names, one a line, in the order of the output")


def run(options: argparse.Namespace) -> Report | None:
    from niudao.formats import read, write
    from niudao.formats.cards import CardReport

    common.load_plugins(options.plugin)
    model = read(options.model, **common.reading(options))
    changed = _change(model, options)
    written = ""
    if changed:
        written = options.output or options.model
        if written == options.model and not options.force and not options.output:
            raise UsageError("the card was not written.", next=f"add -o NEW, or -f to rewrite {options.model}")
        write(model, written)
    return CardReport.of(model, options.model, written)


def _change(model: Any, options: argparse.Namespace) -> bool:
    from dataclasses import asdict

    from niudao.ir import card

    cards = card.get_cards(model)
    names = [v.name or "" for v in model.graph.inputs]
    name = options.input or names[0]
    if name not in names:
        raise UsageError(f"the network has no input {name!r}.", expected=", ".join(names))
    fields: dict[str, Any] = asdict(cards.get(name, card.InputCard()))
    for pair in options.set:
        key, _, text = pair.partition("=")
        fields[key] = _value(key, text)
    if options.set:
        fields["guessed"] = ()
        cards[name] = card.InputCard.from_dict(fields)
        card.set_cards(model, cards)
    if options.classes:
        try:
            lines = Path(options.classes).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as e:
            raise ReadError("the class names cannot be read.", where=options.classes, expected="a UTF-8 text, one name a line") from e
        card.set_classes(model, [line.strip() for line in lines if line.strip()])
    return bool(options.set or options.classes)


def _value(key: str, text: str) -> Any:
    choices = {"order": ("RGB", "BGR", "GREY"), "resize": ("stretch", "crop", "pad"), "layout": ("NHWC", "NCHW")}
    known = ("layout", "order", "range", "scale", "mean", "std", "resize")
    if key not in known:
        raise UnknownName("field of the input card", key, known)
    if text == "":
        return None
    if key in choices:
        if text not in choices[key]:
            raise UsageError(f"{key} cannot be {text!r}.", expected=", ".join(choices[key]))
        return text
    try:
        numbers = tuple(float(x) for x in text.replace("..", ",").split(","))
    except ValueError as e:
        raise UsageError(f"{key} cannot be {text!r}.", expected="numbers, separated by commas") from e
    if key == "scale":
        return numbers[0]
    if key == "range" and len(numbers) != 2:
        raise UsageError(f"range cannot be {text!r}.", expected="LOW..HIGH")
    return numbers
