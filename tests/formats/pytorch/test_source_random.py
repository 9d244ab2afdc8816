"""Random networks of many operators as text: the text's class gives what the module gave."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

import niudao as nd
from niudao.formats.pytorch import to_module
from niudao.formats.pytorch.source import write_source

sys.path.insert(0, str(Path(__file__).parents[2]))
from randomgraphs import graphs


def test_random_networks() -> None:
    for case in graphs(12, seed=5):
        network = to_module(nd.read(case.model), names="torch")
        assert isinstance(network.model, ir.Model)
        source = write_source(network, class_name="Random", title=f"Random network {case.seed}")
        assert max(map(len, source.text.splitlines())) <= 120
        made: dict[str, Any] = {"__name__": "text"}
        exec(source.text, made)
        twin = made[source.class_name]().eval()
        state = network.state_dict()
        assert set(source.keys.values()) == set(state)
        twin.load_state_dict({key: state[old] for key, old in source.keys.items()})
        feeds = [torch.from_numpy(array) for array in case.feeds.values()]
        with torch.inference_mode():
            got, want = twin(*feeds), network(*feeds)
        pairs = zip(*(v if isinstance(v, tuple) else (v,) for v in (got, want)), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs), case.seed
