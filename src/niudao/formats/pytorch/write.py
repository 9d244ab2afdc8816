"""Write a model as PyTorch: a .pt2, or readable source with its weights in a .safetensors file beside it.

net.pt2           torch.export's archive: `torch.export.load("net.pt2").module()(x)`
net.py            the network as a person would have written it; imports only torch
net.safetensors   its weights, by the names of the source; names, input card and class names among its metadata
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import onnx_ir as ir

from niudao.errors import MissingExtra, Refusal, Unsupported, UsageError, Where
from niudao.formats import WriteReport, files
from niudao.formats.pytorch import extra
from niudao.formats.pytorch.stored import write_safetensors
from niudao.ir import card


def write(model: ir.Model, path: Path, *, weights: Path | None = None) -> WriteReport:
    """Write a model as PyTorch.

    Args:
        model: The model; left as it is.
        path: Target: a `.pt2`, a `.py`, or the `.safetensors` beside which the `.py` lies.
        weights: Name of the weights beside a `.py`; the same stem if left out.

    Raises:
        MissingExtra: torch is not installed.
        Unsupported: Nodes that torch cannot express, all of them; nothing was written.
        WriteError: The target cannot be written; what was there is untouched.
    """
    path = Path(path)
    if path.suffix.lower() == ".pt2":
        return _write_pt2(model, path)
    return _write_source(model, path, Path(weights) if weights is not None else None)


def refusals(model: ir.Model) -> list[Refusal]:
    """Every node that no operator of torch computes."""
    try:
        _network(model, names="torch")
    except Unsupported as e:
        return list(e.refusals)
    return []


def _network(model: ir.Model, names: Literal["source", "torch"]) -> Any:
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise MissingExtra("writing PyTorch networks", "torch", "torch")
    from niudao.formats.pytorch.modules import to_module

    return to_module(model, names=names).eval()


def _write_pt2(model: ir.Model, path: Path) -> WriteReport:
    network = _network(model, names="torch")
    from niudao.formats.pytorch.export import save

    with files.whole(path) as draft:
        notes = save(model, network, draft, path)
    return WriteReport(files=(str(path),), rewrites=tuple(notes))


def _write_source(model: ir.Model, path: Path, weights: Path | None) -> WriteReport:
    structure = path if path.suffix.lower() == ".py" else path.with_suffix(".py")
    stored = path if path.suffix.lower() == ".safetensors" else weights or path.with_suffix(".safetensors")
    if weights is not None and stored != weights and weights != structure:
        raise UsageError("the weights of a PyTorch network lie in one file.", where=Where(file=str(weights)), expected=str(stored))
    if stored.parent.resolve() != structure.parent.resolve() or stored.suffix.lower() != ".safetensors":
        raise UsageError("the weights lie beside the source.", where=stored, expected=f"a .safetensors file in {structure.parent}")
    network = _network(model, names="torch")
    from niudao.formats.pytorch.source import write_source

    source = write_source(
        network,
        class_name=class_name(structure.stem),
        title=f"{structure.stem}, as a network of PyTorch.",
        input_line=_takes(model),
        weights=stored.name,
    )
    state = network.state_dict()
    named = [str(path), str(stored if path == structure else structure)]
    with files.whole(path) as draft:
        draft.with_name(structure.name).write_text(source.text, encoding="utf-8")
        tensors = {key: state[old] for key, old in source.keys.items()}
        write_safetensors(draft.with_name(stored.name), tensors, {extra.KEY: extra.text_of(model)})
    return WriteReport(files=tuple(named))


def _takes(model: ir.Model) -> str:
    """What the card says of the first input, in a line."""
    cards = card.get_cards(model)
    facts = cards.get(model.graph.inputs[0].name or "") if model.graph.inputs else None
    if facts is None:
        return ""
    said = [facts.order or "", f"scale {facts.scale:g}" if facts.scale is not None else ""]
    said += [f"{n} {' '.join(f'{x:g}' for x in v)}" for n, v in (("mean", facts.mean), ("std", facts.std), ("range", facts.range)) if v]
    return ", ".join(s for s in said if s)


def class_name(stem: str) -> str:
    """A class name for a file: `resnet-50_v1` becomes `Resnet50V1`."""
    words = re.findall(r"[A-Za-z0-9]+", stem)
    name = "".join(w[:1].upper() + w[1:] for w in words) or "Network"
    return name if name[0].isalpha() else f"Net{name}"
