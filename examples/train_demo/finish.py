"""Step 4 of 4: check both networks' figures and write `accuracy.json` and the input cards.

    python finish.py           (needs niudao)

Reads what the other three steps left in `build/` and beside the networks.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from outcome import BUILD, DEMO
from prepare import SEED

from niudao.demo import data
from niudao.ir.card import InputCard

LEAST = 0.97
INPUTS = {"lenet": "conv1_input", "resnet": "image"}
"""The inputs' names, as Keras itself gives them."""

CARD_OF_BOTH = InputCard(layout="NHWC", order="GREY", range=(0.0, 1.0), scale=1 / 255, mean=(0.0,), std=(1.0,), resize="stretch")

SHIPPED_ENDINGS = (".h5", ".keras", ".npy", ".npz", ".png")


def write_json(name: str, content: Any) -> None:
    (DEMO / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    networks = {}
    for file in data.NETWORKS:
        stem = file.split(".")[0]
        facts = json.loads((BUILD / f"{stem}.json").read_text())
        reached = facts["accuracy"]["shipped"]["accuracy"]
        if reached < LEAST:
            raise SystemExit(f"{file} is right on {reached:.0%} of the shipped images; {LEAST:.0%} are asked for")
        networks[file] = facts
        card = {key: value for key, value in asdict(CARD_OF_BOTH).items() if value not in (None, ())}
        write_json(f"{stem}.card.json", {"card": {INPUTS[stem]: card}, "classes": list("0123456789")})

    counts = {part: numbers["images"] for part, numbers in networks["lenet.h5"]["accuracy"].items()}
    content = {
        "data": {
            "source": "scikit-learn load_digits: UCI Optical Recognition of Handwritten Digits, doi 10.24432/C50P49, CC BY 4.0",
            "split_seed": SEED,
            "images": counts,
            "note": "shipped is part of test; test and validation were never trained on; writers may appear in several parts",
        },
        "networks": networks,
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(DEMO.iterdir()) if p.suffix in SHIPPED_ENDINGS},
    }
    write_json("accuracy.json", content)


if __name__ == "__main__":
    main()
