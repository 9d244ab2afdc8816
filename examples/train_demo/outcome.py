"""What both trainings leave behind for `finish.py`; runs on Python 3.7 too."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
DEMO = HERE.parents[1] / "src" / "niudao" / "demo"


def note(name: str, model: Any, data: Any, seconds: float, training: dict[str, int], versions: dict[str, str]) -> None:
    """Run the network as read back from its file, save its probabilities for the shipped images, and note its accuracy.

    Args:
        name: Stem of the network's file.
        model: The Keras model, loaded from that file.
        data: The arrays of `prepare.py`.
        seconds: Wall time of the training.
        training: Seed, epochs and batch size.
        versions: Package versions.
    """
    correct = {}
    for part in ("train", "validation", "test", "shipped"):
        probabilities = model.predict(data[part + "_x"], batch_size=100, verbose=0)
        right = int((probabilities.argmax(1) == data[part + "_y"]).sum())
        correct[part] = {"correct": right, "images": len(probabilities), "accuracy": round(right / len(probabilities), 4)}
    np.save(DEMO / (name + ".expected.npy"), np.asarray(probabilities, np.float32))  # the last part is `shipped`

    weights = hashlib.sha256()
    for array in model.get_weights():
        weights.update(np.ascontiguousarray(array, "<f4").tobytes())
    facts = {
        "accuracy": correct,
        "parameters": int(model.count_params()),
        "training": training,
        "versions": dict(versions, python=platform.python_version()),
        "weights_sha256": weights.hexdigest(),
    }
    (BUILD / (name + ".json")).write_text(json.dumps(facts))
    print(name, f"{seconds:.0f} s", correct)
