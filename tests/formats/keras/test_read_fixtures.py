"""Networks that real Keras 2.2.4, tf.keras 2.13 and Keras 3 saved, against the outputs that those frameworks computed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import niudao
from niudao.ir import card

DATA = Path(os.environ.get("NIUDAO_TEST_DATA", Path(__file__).parents[4] / "shared" / "data")) / "frameworks"
TOLERANCE = 1e-5  # of the largest output


def _cases() -> list[tuple[str, Path, Path | None]]:
    found = []
    for framework in ("keras-2.2.4", "tf-2.13", "keras-3"):
        for folder in sorted((DATA / framework).glob("*")):
            names = ((n, folder / n, None) for n in ("model.h5", "model.keras"))
            found += [(f"{framework}/{folder.name}/{n}", p, w) for n, p, w in names if p.is_file()]
            if (folder / "weights.h5").is_file() and (folder / "model.json").is_file():
                found.append((f"{framework}/{folder.name}/json", folder / "model.json", folder / "weights.h5"))
    return found


CASES = _cases()


@pytest.mark.skipif(not CASES, reason="real Keras files are not there (set NIUDAO_TEST_DATA)")
@pytest.mark.parametrize(("path", "weights"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_gives_what_the_real_framework_gave(path: Path, weights: Path | None) -> None:
    model = niudao.read(path, weights=weights)
    saved = dict(np.load(path.parent / "input.npz"))
    names = [v.name or "" for v in model.graph.inputs]
    feeds = saved if set(saved) == set(names) else dict(zip(names, saved.values(), strict=True))
    got = niudao.run(model, feeds, layout="source")
    wanted = {k: v for k, v in np.load(path.parent / "output.npz").items() if not k.startswith("output_tflite") and k != "logits"}
    order = [k for k in json.loads((path.parent / "meta.json").read_text()).get("output_order") or [] if k in wanted]
    order += [k for k in wanted if k not in order]
    chosen = got if set(order) <= set(got) else dict(zip(order, got.values(), strict=False))
    for name in order:
        assert chosen[name].shape == wanted[name].shape
        scale = float(np.abs(wanted[name]).max())
        np.testing.assert_allclose(chosen[name], wanted[name], atol=TOLERANCE * scale, rtol=0)


@pytest.mark.skipif(not CASES, reason="real Keras files are not there (set NIUDAO_TEST_DATA)")
def test_shared_towers_stay_in_order() -> None:
    """A nested network of Keras 2 counts its calls from 1, one of Keras 3 from 0; off by one swaps the branches in silence."""
    for framework, name in (("keras-2.2.4", "model.h5"), ("tf-2.13", "model.h5"), ("tf-2.13", "model.keras"), ("keras-3", "model.keras")):
        folder = DATA / framework / "siamese"
        model = niudao.read(folder / name)
        feeds = dict(np.load(folder / "input.npz"))
        swapped = dict(zip(feeds, reversed(list(feeds.values())), strict=True))
        wanted = next(iter(np.load(folder / "output.npz").values()))
        got, other = (next(iter(niudao.run(model, f, layout="source").values())) for f in (feeds, swapped))
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        assert np.abs(other - wanted).max() > 1e-4
        kernels = [n for n in model.graph.initializers if n.startswith("s1/kernel")]
        assert len(kernels) == 1, "a shared layer's weights are stored once"


@pytest.mark.skipif(not CASES, reason="real Keras files are not there (set NIUDAO_TEST_DATA)")
def test_images_lie_channels_first_without_transposes() -> None:
    model = niudao.read(DATA / "keras-2.2.4" / "resnet50" / "model.h5")
    assert card.get_layout(model.graph.inputs[0]) == (0, 3, 1, 2)
    assert card.get_cards(model)[model.graph.inputs[0].name or ""].layout == "NHWC"
    assert not [n for n in model.graph if n.op_type == "Transpose"]
    assert card.get_source(model)["version"] == "2.2.4"
    assert all(n.metadata_props.get(card.LAYER) for n in model.graph)
