"""Layers with random settings, read by us and run by real Caffe: one network that holds as many of them as our reader accepts."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from niudao.errors import NiudaoError
from niudao.formats import oracles
from niudao.formats.caffe.read import read
from niudao.ir.session import run

INPUTS = {"x": (2, 6, 9, 7), "v": (3, 2, 4, 6), "s": (4, 3, 5), "cont": (4, 3), "words": (2, 3)}
FILL = 'weight_filler { type: "gaussian" std: 0.4 } bias_filler { type: "gaussian" std: 0.4 }'


def said(**settings) -> str:
    """Settings as text; None is left out, a list is said once for each."""
    listed = {k: v if isinstance(v, list) else [v] for k, v in settings.items() if v is not None}
    return " ".join(f"{k}: {str(x).lower() if isinstance(x, bool) else x}" for k, v in listed.items() for x in v)


def convolution(r: random.Random) -> str:
    pairs = {
        k: r.choice([None, [r.randint(low, 3)], [r.randint(low, 3), r.randint(low, 3)]])
        for k, low in (("stride", 1), ("pad", 0), ("dilation", 1))
    }
    kernel = [r.randint(1, 4) for _ in range(r.randint(1, 2))]
    return (
        said(
            kernel_size=kernel, num_output=r.choice([2, 6, 12]), group=r.choice([None, 2, 3, 6]), bias_term=r.choice([None, False]), **pairs
        )
        + FILL
    )


def pooling(r: random.Random) -> str:
    settings = {
        k: r.randint(low, high) for k, low, high in (("kernel_h", 1, 5), ("kernel_w", 1, 5), ("stride_h", 1, 5), ("stride_w", 1, 5))
    }
    return said(pool=r.choice(["MAX", "AVE"]), round_mode=r.choice([None, None, "FLOOR"]), pad=r.choice([None, 1, 2]), **settings)


def layer(r: random.Random, name: str) -> str:
    """One layer of a random kind; some settings are impossible."""
    yes = lambda: r.choice([None, True, False])  # noqa: E731
    n, region = r.randint(1, 7), r.choice([None, "WITHIN_CHANNEL"])
    spread = said(axis=r.choice([None, 0, 1, 2, -1]), num_axes=r.choice([None, -1, 0, 1, 2])) + ' filler { type: "gaussian" std: 1 }'
    kind, bottoms, body = r.choice(
        [
            ("Convolution", "x", f"convolution_param {{ {convolution(r)} }}"),
            ("Deconvolution", "x", f"convolution_param {{ {convolution(r)} }}"),
            ("Im2col", "x", f"convolution_param {{ {said(kernel_size=r.randint(1, 4), stride=r.randint(1, 3), pad=r.randint(0, 2))} }}"),
            ("Pooling", "x", f"pooling_param {{ {pooling(r)} }}"),
            ("Pooling", "x", f"pooling_param {{ {pooling(r)} }}"),
            ("SPP", "x", f"spp_param {{ {said(pyramid_height=r.randint(1, 3), pool=r.choice(['MAX', 'AVE']))} }}"),
            (
                "InnerProduct",
                "v",
                f"inner_product_param {{ {said(num_output=n, axis=r.randint(-4, 3), transpose=yes(), bias_term=yes())} {FILL} }}",
            ),
            ("Embed", "words", f"embed_param {{ {said(num_output=n, input_dim=9, bias_term=yes())} {FILL} }}"),
            ("Scale", "v", f"scale_param {{ {spread} {said(bias_term=yes())} bias_filler {{ type: 'gaussian' std: 1 }} }}"),
            ("Bias", "v", f"bias_param {{ {spread} }}"),
            (
                "LRN",
                "x",
                f"lrn_param {{ {said(local_size=n, alpha=r.random(), k=r.choice([None, 2]), norm_region=region)} }}",
            ),
            ("MVN", "v", f"mvn_param {{ {said(normalize_variance=yes(), across_channels=yes(), eps=r.choice([None, 0.1]))} }}"),
            (r.choice(["LSTM", "RNN"]), "s cont", f"recurrent_param {{ {said(num_output=n)} {FILL} }}"),
        ]
    )
    named = " ".join(f'bottom: "{b}"' for b in bottoms.split())
    return f'layer {{ name: "{name}" type: "{kind}" {named} top: "{name}" {body} }}\n'


def accepted(folder: Path, text: str) -> bool:
    (folder / "one.prototxt").write_text(text)
    try:
        read(folder / "one.prototxt")
    except NiudaoError:
        return False
    return True


@pytest.mark.parametrize("seed", [0, 1])
def test_random_layers_are_what_caffe_computes(tmp_path: Path, seed: int) -> None:
    oracle = oracles.find("caffe")
    if oracle is None:
        pytest.skip("real Caffe is not set up (niudao oracle setup caffe)")
    r, rng = random.Random(seed), np.random.default_rng(seed)
    shapes = {k: " ".join(f"dim: {d}" for d in v) for k, v in INPUTS.items()}
    head = "".join(f'layer {{ name: "{k}" type: "Input" top: "{k}" input_param {{ shape {{ {v} }} }} }}\n' for k, v in shapes.items())
    layers = [x for x in (layer(r, f"y{i}") for i in range(60)) if accepted(tmp_path, head + x)]
    (tmp_path / "net.prototxt").write_text(head + "".join(layers))
    feeds = {k: rng.standard_normal(v).astype(np.float32) for k, v in INPUTS.items()}
    feeds |= {"cont": (feeds["cont"] > -0.5).astype(np.float32), "words": rng.integers(0, 9, INPUTS["words"]).astype(np.float32)}
    save = str(tmp_path / "net.caffemodel")
    want = oracles.run(oracle, "caffe", tmp_path / "net.prototxt", feeds, save=save)
    model = read(tmp_path / "net.prototxt")
    got = run(model, {v.name: feeds[v.name] for v in model.graph.inputs})
    assert len(layers) > 30
    for name in (k for k in want if k not in INPUTS):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5, err_msg=next(x for x in layers if f'top: "{name}"' in x))
