"""A network as the Python file that a person would have written for it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from niudao.errors import Refusal, Unsupported
from niudao.formats.pytorch.source.blocks import HOLE, Block, Describer
from niudao.formats.pytorch.source.classes import RESERVED, find_classes
from niudao.formats.pytorch.source.constructors import construct, constructor_lines
from niudao.formats.pytorch.source.forward import Forward
from niudao.formats.pytorch.source.frame import examples, head, input_shapes, loader, main
from niudao.formats.pytorch.source.functions import Own
from niudao.formats.pytorch.source.joins import step_by_step
from niudao.formats.pytorch.source.keys import kept, keys_of, paths_of, ties_of, with_lines
from niudao.formats.pytorch.source.names import docstring, free, identifier
from niudao.formats.pytorch.source.parameters import MISSING, Slot, number
from niudao.formats.pytorch.source.regions import Member, Region, Wiring, build_tree, each
from niudao.formats.pytorch.source.repeats import fold
from niudao.formats.pytorch.source.wrap import narrow, wrap

MANY = 12
"""A block of more members than this is searched for stretches that return."""


@dataclass(frozen=True)
class Source:
    """A network as text.

    Attributes:
        text: The content of a Python file; it imports torch and the standard library only.
        keys: Key of the state dict of the text's class -> key of the network's own.
        class_name: The class that is the network.
    """

    text: str
    keys: dict[str, str]
    class_name: str


def write_source(
    network: fx.GraphModule, *, class_name: str, title: str, input_line: str = "", weights: str = "model.safetensors"
) -> Source:
    """Write a network as readable Python.

    Args:
        network: A network of `to_module(model, names="torch")`, or any graph module over torch's own layers and functions.
        class_name: Name for the network's class; made a Python name.
        title: What the network is, for the first line of the file.
        input_line: What the input must hold (range, channel order), if anybody knows.
        weights: Name of the file with the weights.

    Returns:
        The text, and which entry of its state dict is which of the network's.

    Raises:
        Unsupported: Layers or calls that cannot be written faithfully; all of them are named.
    """
    wiring = Wiring(step_by_step(network.graph))
    own = Own()
    describer = Describer(network, wiring, own)
    describer.layers = _layers(network)
    root = _tree(network, wiring, describer)
    taken = set(own.texts) | RESERVED | {n for line in own.imports for n in re.findall(r"\w+", line)}
    name = identifier(class_name, "Network")
    blocks = find_classes(root, describer, name[:1].upper() + name[1:], taken)
    taken |= {b.name for b in blocks}
    whole = blocks[-1].name
    paths = dict(paths_of(root, "", describer))
    classes = [_class(b, describer, wiring, taken, b is blocks[-1], title, paths) for b in blocks]
    body = "\n\n\n".join([*(narrow(t) for t in own.texts.values()), *classes])
    keys = dict(keys_of(root, "", describer))
    unused = [k for k in network.state_dict() if k not in keys.values()]
    body = with_lines(body, [*kept(unused, keys, network), *ties_of(root, describer)])
    shapes = input_shapes(network, wiring)
    parts = [head(network, whole, title, input_line, weights, shapes, body, own), body, loader(whole), examples(shapes), main(whole)]
    return Source("\n\n\n".join(parts) + "\n", keys, whole)


def _tree(network: fx.GraphModule, wiring: Wiring, describer: Describer) -> Region:
    """The network's blocks, those that names tell of and those that are found, with all members named."""
    root = build_tree(network, wiring, _types(network))
    each(root, describer.name_members)

    def hole(value: Any, slot: Slot) -> Any:
        return HOLE

    def token(member: Member) -> Any:
        if isinstance(member, Region):
            return describer.form(member, hole, named=not member.found)
        return describer.made(member, hole), describer.called(member, hole, lambda x: "value")

    def search(region: Region) -> None:
        if len(region.members) > MANY and not region.found:
            fold(region, wiring, token)

    each(root, search)
    describer.names.clear()
    describer.same.clear()
    each(root, describer.name_members)
    for leaf in root.leaves():
        token(leaf)
    if describer.refusals:
        raise Unsupported("a Python file for PyTorch", list(dict.fromkeys(describer.refusals)))
    return root


def _types(network: fx.GraphModule) -> dict[str, str]:
    """Name of a source's block -> its class, where the model knows which class made the calls between its layers."""
    model = getattr(network, "remembered", None)
    votes: dict[str, Counter[str]] = {}
    for node in model.graph if model is not None else ():
        layer, kind = node.metadata_props.get("niudao.layer", ""), node.metadata_props.get("niudao.layer_type", "")
        block, _, own = layer.rpartition(".")
        if block and own and kind.isidentifier() and not hasattr(nn, kind) and "/" not in layer:
            votes.setdefault(block, Counter())[kind] += 1
    return {block: count.most_common(1)[0][0] for block, count in votes.items()}


def _layers(network: fx.GraphModule) -> frozenset[str] | None:
    """The names of the source's layers: a layer with another name is one of these, called again."""
    model = getattr(network, "remembered", None)
    return None if model is None else frozenset(node.metadata_props.get("niudao.layer") or node.name or "" for node in model.graph)


# classes


def _class(block: Block, describer: Describer, wiring: Wiring, taken: set[str], root: bool, title: str, paths: Mapping[Region, str]) -> str:
    region = block.template
    texts = iter(block.solution.texts)

    def take(value: Any, slot: Any) -> Any:
        return ("number", next(texts))

    made: dict[Member, Any] = {m: describer.made(m, take) for m in region.members}
    names = {p.name for p in block.solution.parameters}
    kept: dict[str, None] = {}

    def take_in_call(value: Any, slot: Any) -> Any:
        def own(match: re.Match[str]) -> str:
            if match[0] in names:
                kept[match[0]] = None
                return f"self.{match[0]}"
            return match[0]

        return ("number", re.sub(r"[A-Za-z_]\w*", own, next(texts)))

    calls = {m: describer.called(m, take_in_call, lambda x: x) for m in region.members}
    chain = describer.is_chain(region) and not root and all(m.name.isdigit() for m in region.members)
    lines = [f"class {block.name}({'nn.Sequential' if chain else 'nn.Module'}):"]
    lines += wrap(f'    """{_says(block, root, title, paths)}"""')
    signature = "".join(
        f", {p.name}: {_hint(p.values)}" + ("" if p.default is MISSING else f" = {number(p.default)}") for p in block.solution.parameters
    )
    lines += ["", *wrap(f"    def __init__(self{signature}) -> None:")]
    if chain:
        lines.append("        super().__init__(")
        for m in region.members:
            built = construct(made[m], m, describer, 12)
            built[-1] += ","
            lines += [x for b in built for x in wrap(b)] if len(built) == 1 else built
        return "\n".join([*lines, "        )"])
    lines.append("        super().__init__()")
    lines += [f"        self.{name} = {name}" for name in kept]
    lines += constructor_lines(block, describer, made, root)
    inputs = _input_names(region, wiring, root, taken)
    forward = Forward(block, describer, calls, inputs, taken)
    args = ", ".join(f"{n}: torch.Tensor" for n in inputs)
    if root:
        outputs, single = _outputs(wiring)
    else:
        outputs, single = region.outputs, len(region.outputs) == 1
    result = "torch.Tensor" if single else "tuple[torch.Tensor, ...]"
    lines += ["", *wrap(f"    def forward(self{', ' if args else ''}{args}) -> {result}:")]
    for line in forward.lines(outputs, single):
        lines += wrap(" " * 8 + line)
    return "\n".join(lines)


def _says(block: Block, root: bool, title: str, paths: Mapping[Region, str]) -> str:
    if root:
        return docstring(title, 100).rstrip(".") + "."
    places = [paths[r] for r in block.rows if r in paths]
    shown = places if len(", ".join(places)) <= 90 else [places[0], "...", places[-1]]
    return docstring("At " + ", ".join(shown), 100) + "."


def _hint(values: tuple[Any, ...]) -> str:
    kinds = {type(v) for v in values if v is not MISSING}
    if kinds <= {int, float, bool} and len(kinds) == 1:
        return str(next(iter(kinds)).__name__)
    if kinds == {int, float}:
        return "float"
    sizes = {len(v) for v in values if isinstance(v, tuple)}
    inner = "tuple[int, ...]" if len(sizes) != 1 else f"tuple[{', '.join(['int'] * sizes.pop())}]"
    return inner if kinds == {tuple} else f"int | {inner}"


def _input_names(region: Region, wiring: Wiring, root: bool, taken: set[str]) -> list[str]:
    if root:
        used = set(taken) - {"x"}
        region.inputs = list(wiring.placeholders)
        if len(wiring.placeholders) == 1:
            return ["x"]
        return [free(identifier(str(p.target), "x"), used) for p in wiring.placeholders]
    names = ["x", "y", "z", "u", "v", "w"]
    return [names[i] if i < len(names) else f"x{i}" for i in range(len(region.inputs))]


def _outputs(wiring: Wiring) -> tuple[list[fx.Node], bool]:
    given = wiring.output.args[0]
    if isinstance(given, fx.Node):
        return [wiring.first.get(given, given)], True
    if not isinstance(given, list | tuple) or not all(isinstance(v, fx.Node) for v in given):
        raise Unsupported("a Python file for PyTorch", [Refusal("output", "output", "it is neither a tensor nor a tuple of tensors")])
    return [wiring.first.get(v, v) for v in given if isinstance(v, fx.Node)], False


__all__ = ["Source", "write_source"]
