"""Blocks of one structure become one class: what differs between them are its parameters."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from niudao.errors import Refusal
from niudao.formats.pytorch.source.functions import Own, class_spelling, spelling
from niudao.formats.pytorch.source.layers import Argument, CannotWrite, arguments
from niudao.formats.pytorch.source.names import attribute, free, printable
from niudao.formats.pytorch.source.parameters import MISSING, Parameter, Slot, Solution, kind_of, number
from niudao.formats.pytorch.source.regions import Leaf, Member, Region, Wiring

Take = Callable[[Any, Slot], Any]
Refer = Callable[[fx.Node], Hashable]
HOLE = ("hole",)


@dataclass(eq=False)
class Block:
    """A class of the text.

    Attributes:
        name: Its name.
        template: The repeat whose members are written.
        rows: For each repeat, its numbers.
        slots: Where the numbers stand.
        optional: Members that some repeats lack.
        solution: Its parameters.
    """

    name: str
    template: Region
    rows: dict[Region, list[Any]]
    slots: list[Slot]
    optional: list[Member] = field(default_factory=list)
    solution: Solution = field(default_factory=lambda: Solution((), ()))

    def arguments(self, region: Region) -> Iterator[tuple[Parameter, Any]]:
        """The arguments that make one repeat."""
        at = list(self.rows).index(region)
        for parameter in self.solution.parameters:
            yield parameter, parameter.values[at]


class Describer:
    """What every member of a network is, with its numbers handed to whoever asks."""

    def __init__(self, network: fx.GraphModule, wiring: Wiring, own: Own) -> None:
        self.network = network
        self.wiring = wiring
        self.own = own
        self.names: dict[Member, str] = {}
        self.same: dict[Leaf, Leaf] = {}
        self.block_of: dict[Region, Block] = {}
        self.promoted: set[Hashable] = set()
        self.refusals: list[Refusal] = []
        self.place: dict[Region, int] = {}
        self.layers: frozenset[str] | None = None
        self._arguments: dict[str, tuple[str, tuple[Argument, ...]]] = {}

    def layer(self, leaf: Leaf) -> nn.Module:
        """The layer that a leaf calls."""
        return self.network.get_submodule(str(leaf.node.target))

    def arguments(self, leaf: Leaf) -> tuple[str, tuple[Argument, ...]]:
        """Class and arguments of a leaf's layer."""
        key = str(leaf.node.target)
        if key not in self._arguments:
            try:
                self._arguments[key] = class_spelling(type(self.layer(leaf)), self.own), arguments(self.layer(leaf))
            except CannotWrite as e:
                self.refusals.append(Refusal(key, type(self.layer(leaf)).__name__, str(e)))
                self._arguments[key] = "nn.Identity", ()
        return self._arguments[key]

    def name_members(self, region: Region) -> None:
        """Give every layer and weight of a block its attribute; layers of one name without weights that do the same are one."""
        taken: set[str] = set()
        seen: dict[Any, Leaf] = {}
        for member in region.members:
            if isinstance(member, Region):
                self.names[member] = free(attribute(member.name, "block"), taken)
                continue
            if member.node.op == "get_attr":
                self.names[member] = free(attribute(member.name, "weight"), taken)
                continue
            if not member.is_module:
                continue
            target = str(member.node.target)
            layer = self.layer(member)
            keys: list[Any] = [("call", target)]
            if not layer.state_dict():
                text, given = self.arguments(member)
                made = text, tuple((a.name, constant(a.value)) for a in given if a.name != "inplace")
                again = self.layers is not None and target not in self.layers
                keys.append((made, re.sub(r"_\d+$", "", member.name) if again else member.name))
            first = next((seen[k] for k in keys if k in seen), None)
            if first is not None:
                self.same[member] = first
                continue
            self.names[member] = free(attribute(member.name, _short(layer)), taken)
            seen.update(dict.fromkeys(keys, member))

    # what members are

    def is_chain(self, region: Region) -> bool:
        """Whether a block hands one value from layer to layer."""
        if len(region.inputs) != 1 or len(region.outputs) != 1:
            return False
        value = region.inputs[0]
        for member in region.members:
            if isinstance(member, Region):
                if member.inputs != [value] or len(member.outputs) != 1:
                    return False
                value = member.outputs[0]
            else:
                node = member.node
                if not member.is_module or member in self.same or len(node.args) != 1 or node.args[0] is not value or node.kwargs:
                    return False
                value = node
        return region.outputs == [value]

    def is_sequential(self, region: Region) -> bool:
        """Whether a block is written as `nn.Sequential` where it stands."""
        return region not in self.block_of and self.is_chain(region) and self.chain_form(region) not in self.promoted

    def chain_form(self, region: Region) -> Hashable:
        """What two chains have in common if they differ in numbers only, whatever classes are found later."""
        parts: list[Hashable] = []
        for m in region.members:
            inner = self.chain_form(m) if isinstance(m, Region) else (self.made(m, _hole), self.called(m, _hole, lambda x: None))
            parts.append((self.names.get(m, ""), inner))
        return tuple(parts)

    def made(self, member: Member, take: Take, entry: bool = False) -> Any:
        """How a member is constructed, in tuples."""
        if isinstance(member, Region):
            if member in self.block_of:
                block = self.block_of[member]
                given = []
                for p, value in block.arguments(member):
                    text = HOLE if value is MISSING else take(value, Slot(p.kind, self.names[member], p.name, entry))
                    given.append((p.name, p.default is MISSING, None if p.default is MISSING else number(p.default), text))
                return ("new", block.name, tuple(given))
            entries = [True] + [False] * len(member.members)
            made = tuple((self.names.get(m, ""), self.made(m, take, entry and e)) for m, e in zip(member.members, entries, strict=False))
            return ("sequential", made)
        if member in self.same:
            return ("same", self.names.get(self.same[member], ""))
        if member.node.op == "get_attr":
            return self._weight(member, take)
        if not member.is_module:
            return None
        text, given_arguments = self.arguments(member)
        found = []
        for a in given_arguments:
            if a.name == "inplace":
                continue
            slot = Slot(kind_of(a.name), self.names[member], a.name, entry)
            found.append((a.name, a.first or a.required, None if a.required else constant(a.default), self._value(a.value, slot, take)))
        return ("new", text, tuple(found))

    def _value(self, value: Any, slot: Slot, take: Take) -> Any:
        if _numeric(value):
            return take(value, slot)
        return ("text", constant(value))

    def _weight(self, leaf: Leaf, take: Take) -> Any:
        tensor = attribute_of(self.network, str(leaf.node.target))
        kind = "parameter" if isinstance(tensor, nn.Parameter) else "buffer" if isinstance(tensor, torch.Tensor) else ""
        if not kind:
            self.refusals.append(Refusal(str(leaf.node.target), "get_attr", "it is no tensor"))
            return None
        dims = tuple(take(int(d), Slot("channels", self.names[leaf], "channels")) for d in tensor.shape)
        return (kind, str(tensor.dtype), bool(tensor.requires_grad), dims)

    def called(self, member: Member, take: Take, refer: Refer) -> Any:
        """How a member is called, in tuples."""
        if isinstance(member, Region):
            return ("layer", tuple(("value", refer(x)) for x in member.inputs), ())
        node = member.node
        if node.op == "get_attr":
            return ("weight",)
        args = tuple(self._argument(a, take, refer) for a in node.args)
        kwargs = tuple((k, self._argument(a, take, refer)) for k, a in node.kwargs.items())
        if node.op == "call_module":
            return ("layer", args, kwargs)
        if not all(n.isidentifier() for n in (*node.kwargs, *([str(node.target)] if node.op == "call_method" else []))):
            self.refusals.append(Refusal(member.source or node.name, "call", f"{printable(str(node.target))} is no name of a method"))
        if node.op == "call_method":
            return ("method", str(node.target), args, kwargs)
        try:
            return ("function", node.target, spelling(node.target, self.own), args, kwargs)
        except CannotWrite as e:
            self.refusals.append(Refusal(member.source or node.name, "call", str(e)))
            return ("function", node.target, "print", args, kwargs)

    def _argument(self, value: Any, take: Take, refer: Refer) -> Any:
        if isinstance(value, fx.Node):
            return ("value", refer(self.wiring.first.get(value, value)))
        if isinstance(value, list | tuple):
            return ("list" if isinstance(value, list) else "tuple", tuple(self._argument(v, take, refer) for v in value))
        if isinstance(value, slice):
            return ("slice", tuple(self._argument(v, take, refer) for v in (value.start, value.stop, value.step)))
        if isinstance(value, dict):
            return ("dict", tuple((str(k), self._argument(v, take, refer)) for k, v in value.items()))
        if _numeric(value):
            return take(value, Slot("number", "", "number"))
        try:
            return ("text", constant(value))
        except CannotWrite as e:
            self.refusals.append(Refusal("", "call", str(e)))
            return ("text", "None")

    def form(self, region: Region, take: Take, without: Member | None = None, named: bool = True) -> Hashable:
        """What two blocks have in common if they differ in numbers only; numbers are handed to `take` in the order of the text."""
        members = [m for m in region.members if m is not without]
        places: dict[fx.Node, Hashable] = {x: ("in", i) for i, x in enumerate(region.inputs)}
        for i, m in enumerate(members):
            for k, x in enumerate([m.node] if isinstance(m, Leaf) else m.outputs):
                places[x] = (i, k)
        if without is not None:
            (value,), (source,) = results(without), takes(without, self.wiring)
            places[value] = places[source]
        entry = region.inputs[0] if region.inputs else None
        made = tuple((self.names.get(m) if named else None, self.made(m, take, entry in takes(m, self.wiring))) for m in members)
        called = tuple(self.called(m, take, places.__getitem__) for m in members)
        return made, called, tuple(places[x] for x in region.outputs)


def _short(layer: nn.Module) -> str:
    name = type(layer).__name__.lower()
    return "bn" if name.startswith("batchnorm") else name.removesuffix("1d").removesuffix("2d").removesuffix("3d") or "layer"


def _numeric(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and all(_numeric(v) for v in value)
    return type(value) in (int, float)


def constant(value: Any) -> str:
    """A setting that is no number, as Python reads it."""
    if value is None or isinstance(value, bool | int | float):
        return number(value)
    if isinstance(value, str):
        text = ascii(value)
        return text if '"' in text or "\\" in text else f'"{text[1:-1]}"'
    if isinstance(value, torch.dtype | torch.memory_format | torch.layout):
        return str(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    if value is Ellipsis:
        return "..."
    if isinstance(value, tuple):
        return "(" + ", ".join(constant(v) for v in value) + ("," if len(value) == 1 else "") + ")"
    raise CannotWrite(f"a {type(value).__name__} has no spelling")


def _hole(value: Any, slot: Slot) -> Any:
    return HOLE


def attribute_of(network: nn.Module, path: str) -> Any:
    """What stands at a dotted path."""
    *inner, last = path.split(".")
    holder: Any = network
    for name in inner:
        holder = getattr(holder, name)
    return getattr(holder, last)


def results(member: Member) -> list[fx.Node]:
    """The values that a member gives."""
    return [member.node] if isinstance(member, Leaf) else member.outputs


def takes(member: Member, wiring: Wiring) -> list[fx.Node]:
    """The values that a member takes."""
    return wiring.inputs(member.node) if isinstance(member, Leaf) else member.inputs
