"""Read what torch writes: .pt2, TorchScript, state dicts with their architecture, and live modules.

No file is unpickled, and torch is imported only to build the network that a state dict belongs to, or to run a live module's forward.
TorchScript is the exception: torch itself reads it, in a process of its own, after our reader has vetted every pickle in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir

from niudao.errors import ReadError, UsageError, Where
from niudao.formats import documents, files
from niudao.formats.pytorch import architecture, bare, extra
from niudao.formats.pytorch.aten.build import build
from niudao.formats.pytorch.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from niudao.formats.pytorch.checkpoint.hub import read_hub
from niudao.formats.pytorch.checkpoint.part import part_of
from niudao.formats.pytorch.checkpoint.sniff import sniff
from niudao.formats.pytorch.program import script_old
from niudao.formats.pytorch.program.program import Program, Weight
from niudao.ir import card
from niudao.ir.passes.raising import raise_all

Shapes = Mapping[str, tuple[int, ...]]

_HUB = ("model.", "model-", "pytorch_model", "diffusion_pytorch_model")
"""How model hubs call weights; a config.json beside anything else is another program's."""


def read(
    path: Path,
    *,
    weights: Path | None = None,
    shapes: Shapes | None = None,
    arch: str | None = None,
    trust: bool = False,
) -> ir.Model:
    """Read a file of torch's.

    Args:
        path: A `.pt2`, a TorchScript archive, a checkpoint, or source (`.py`) that niudao wrote, with its weights beside it.
        weights: The weights beside a `.py`.
        shapes: Input name -> shape, for what the file leaves open: TorchScript and the user's own architectures.
        arch: What a checkpoint belongs to: a name of the zoo, or `FILE.py:FACTORY`.
        trust: The file that `arch` names, or the `.py`, may be run.

    Raises:
        ReadError: The file is broken, hostile, or holds weights alone and nobody said of what.
        Unsupported: Operators that we cannot read, all of them.
    """
    path = Path(path)
    if path.suffix.lower() == ".py":
        return _state_dict(weights or path.with_suffix(".safetensors"), arch or str(path), shapes, trust)
    with files.open_model(path) as f:
        kind = sniff(path, f.read(4096))
    if kind in ("pt2", "torchscript") and arch is not None:
        raise UsageError(f"{path.name} holds its own network.", where=Where(file=str(path)), next="leave --arch out")
    if kind == "pt2":
        from niudao.formats.pytorch.program.pt2 import read_program

        return _finish(read_program(path), shapes, extra.facts_of(path))
    if kind == "torchscript":
        from niudao.formats.pytorch.program.script import program_of as read_script

        return _finish(read_script(path, shapes=shapes), shapes)
    if kind == "torchscript-old" and arch is None:
        raise script_old.refusal(path)
    beside = path.with_suffix(".py")
    if arch is None and trust and path.suffix.lower() == ".safetensors" and beside.is_file():
        arch = str(beside)
    return _state_dict(path, arch, shapes, trust)


def read_module(module: Any, example_inputs: Sequence[Any], *, batch: str = "free") -> ir.Model:
    """Read a live module.

    Args:
        module: A `torch.nn.Module`; left as it is, its mode included.
        example_inputs: Tensors that it is called with, each with at least the right number of axes.
        batch: "free", where the first axis of every input may be of any size, or "fixed".

    Returns:
        The model in inference mode; initializers are named as in `module.state_dict()`.

    Raises:
        UsageError: There are no example inputs.
        Unsupported: Operators that we cannot read, all of them.
    """
    if not example_inputs:
        name = type(module).__name__
        raise UsageError(f"how {name} is called is not known.", next="read(module, example_inputs=(torch.zeros(1, 3, 224, 224),))")
    from niudao.formats.pytorch.program.live import program_of

    return _finish(program_of(module, tuple(example_inputs), batch=batch), None)


def _state_dict(path: Path, arch: str | None, shapes: Shapes | None, trust: bool) -> ir.Model:
    checkpoint = open_checkpoint(path)
    if arch is None:
        raise _weights_alone(path, checkpoint)
    tensors = dict(checkpoint.tensors)
    built = architecture.build(arch, {name: t.shape for name, t in tensors.items()}, shapes=shapes, trust=trust)
    own = set(architecture.own_tensors(built.module))
    if checkpoint.prefix and not own & set(tensors):  # it was no wrapper's, but the name of a part of this network
        tensors = {checkpoint.prefix + name: t for name, t in tensors.items()}
    part = part_of(tensors, own)
    tensors = architecture.tied(built.module, part.tensors)
    architecture.check(built, {name: t.shape for name, t in tensors.items()}, path)
    from niudao.formats.pytorch.program.live import program_of

    told = checkpoint.metadata.get(extra.KEY)
    facts = documents.parse(told.encode(), Where(file=str(path))) if told is not None else {}
    program = _filled(program_of(built.module, built.inputs, free=extra.free_axes(facts)), tensors)
    opened = [f"the tensors lay under {checkpoint.wrapper!r}"] if checkpoint.wrapper else []
    opened += [f"{checkpoint.prefix!r} was taken off their names"] if checkpoint.prefix else []
    program = replace(program, notes=(*program.notes, *opened, *part.notes))
    model = _finish(program, None)
    origin = {**card.get_source(model), "version": "", "container": checkpoint.kind, "arch": built.name}
    origin.pop("format")
    card.set_source(model, "pytorch", **origin)
    if path.name.startswith(_HUB):
        _apply_hub(model, path)
    extra.apply(model, facts)  # what the file itself says has precedence
    return model


def _weights_alone(path: Path, checkpoint: Checkpoint) -> ReadError:
    found = bare.describe(path, checkpoint)
    return ReadError(
        f"{path.name} holds weights alone: {len(checkpoint.tensors)} tensors, and no network.",
        where=path,
        expected="--arch: the network that they belong to",
        got=found.notes[0] if found.notes else None,
        next=bare.suggestion(path, found.fits),
    )


def _apply_hub(model: ir.Model, path: Path) -> None:
    """The input card and class names of the folder that the weights came in; what is said there of another network is left, with a note."""
    try:
        facts = read_hub(path.parent)
    except ReadError as e:  # any program's config.json may lie there
        _note(model, f"what lies beside {path.name} tells nothing of its pictures: {e.message}")
        return
    if facts is None:
        return
    shape = model.graph.inputs[0].shape
    channels = shape[1] if shape is not None and len(shape) == 4 else None
    if facts.card is not None:
        if isinstance(channels, int) and not {len(facts.card.mean or ()), len(facts.card.std or ())} <= {0, 1, channels}:
            _note(model, f"the pictures that the folder of {path.name} tells of do not have the {channels} channels of its network")
        else:
            card.set_cards(model, {model.graph.inputs[0].name or "": facts.card})
    if facts.classes:
        ends = model.graph.outputs[0].shape
        if ends is not None and len(ends) >= 2 and facts.classes and len(facts.classes) not in (ends[1], ends[-1]):
            told = f"the folder of {path.name} names {len(facts.classes)} classes, and the network has {ends[-1]}"
            _note(model, f"{told}; the names are left out")
        else:
            card.set_classes(model, facts.classes)


def _note(model: ir.Model, text: str) -> None:
    """One more note for people; they stand in the model as JSON."""
    notes = card.get_json(model.metadata_props, card.NOTES)
    model.metadata_props[card.NOTES] = json.dumps([*(notes if isinstance(notes, list) else []), text])


def _filled(program: Program, tensors: Mapping[str, StoredTensor]) -> Program:
    """The program with a checkpoint's tensors as its weights, in the network's types of numbers, as `load_state_dict` does it.

    What only the network knows (buffers that are not saved) stays.
    """
    weights: dict[str, Weight] = {}
    casts: dict[tuple[object, ...], StoredTensor] = {}
    types: dict[tuple[str, str], None] = {}
    for name, weight in program.weights.items():
        stored = tensors.get(weight.fqn)
        if stored is not None and weight.tensor.dtype is not None:
            wanted = weight.tensor.dtype if isinstance(weight.tensor.dtype, str) else weight.tensor.dtype.numpy().name
            if stored.dtype != wanted:
                types[stored.dtype, wanted] = None
                key = (*stored.place, wanted)  # a weight under two names stays one
                stored = casts[key] = casts.get(key) or stored.cast(wanted)
        weights[name] = weight if stored is None else replace(weight, tensor=stored)
    notes = tuple(f"weights that the file holds as {held} are {wanted} in the network" for held, wanted in types)
    return replace(program, weights=weights, notes=(*program.notes, *notes))


def _finish(program: Program, shapes: Shapes | None, facts: Mapping[str, Any] | None = None) -> ir.Model:
    """The model of a program, its idioms raised, with what a file of ours says beside it."""
    model = build(program, shapes=shapes)
    changes = raise_all(model).changes
    raised = [c for c in changes if c.startswith("raised ")]
    told = {"notes": [*program.notes, *(c for c in changes if c.startswith("left "))], "raised": raised}
    card.set_source(model, "pytorch", version=program.version, container=program.kind, **{k: v for k, v in told.items() if v})
    if facts:
        extra.apply(model, dict(facts))
    return model
