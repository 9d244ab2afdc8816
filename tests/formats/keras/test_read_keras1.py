"""Files that real Keras 1.2.2 wrote (keras1/make.py), against its own answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import niudao as nd

FILES = sorted((Path(__file__).parent / "keras1").glob("*.h5"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_a_file_of_keras_1_computes_what_keras_1_did(path: Path) -> None:
    with np.load(path.with_suffix(".npz")) as saved:
        x, want = saved["x"], saved["y"]
    (got,) = nd.run(nd.read(path), x, layout="source").values()
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=1e-5 * float(np.abs(want).max()))


def test_there_are_files() -> None:
    assert len(FILES) == 17
