"""Step 1 of 4: split the digits, scale them up, and ship 100 test images.

    python prepare.py          (needs niudao and scikit-learn)

The 1,797 images of `sklearn.datasets.load_digits` are 8x8 with 17 grey levels. A grey level g becomes the pixel
round(g * 255 / 16), and the networks' inputs are those pixels stretched to 28x28 by Pillow's bilinear filter, divided by 255:
what happens to any picture that is run through the demo networks.
"""

from __future__ import annotations

import numpy as np
from outcome import BUILD, DEMO
from PIL import Image

from niudao.demo.data import inputs

SEED = 20
SHIPPED, TEST, VALIDATION = 10, 36, 18
"""Images per class: shipped (they are part of the test set), held out for testing, held out for validation; the rest is for training."""


def split(labels: np.ndarray) -> dict[str, np.ndarray]:
    """Indices of each part, drawn class by class; `shipped` is a subset of `test`, everything else is disjoint."""
    rng = np.random.RandomState(SEED)  # its streams are frozen by numpy's compatibility policy
    parts: dict[str, list[int]] = {"shipped": [], "test": [], "validation": [], "train": []}
    for digit in range(10):
        mine = rng.permutation(np.flatnonzero(labels == digit))
        parts["shipped"] += mine[:SHIPPED].tolist()
        parts["test"] += mine[:TEST].tolist()
        parts["validation"] += mine[TEST : TEST + VALIDATION].tolist()
        parts["train"] += mine[TEST + VALIDATION :].tolist()
    return {name: rng.permutation(indices) for name, indices in parts.items()}


def main() -> None:
    from sklearn.datasets import load_digits  # here, so that finish.py can import this file without scikit-learn

    data = load_digits()
    images = np.rint(data.images * 255 / 16).astype(np.uint8)
    labels = data.target.astype(np.uint8)
    parts = split(labels)

    BUILD.mkdir(exist_ok=True)
    arrays = {f"{name}_x": inputs(images[index]) for name, index in parts.items()}
    arrays |= {f"{name}_y": labels[index] for name, index in parts.items()}
    np.savez(BUILD / "data.npz", **arrays)

    shipped = parts["shipped"]
    np.savez_compressed(DEMO / "digits.npz", images=images[shipped], labels=labels[shipped], index=shipped.astype(np.uint16))
    for digit in range(10):
        first = shipped[labels[shipped] == digit][0]
        Image.fromarray(images[first]).save(DEMO / f"digit-{digit}.png", optimize=True)
    print({name: len(index) for name, index in parts.items()})


if __name__ == "__main__":
    main()
