"""The lines of an `__init__`: layers with their arguments, chains of layers, weights of their own, and the source's names beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from niudao.formats.pytorch.source.blocks import Block, Describer
from niudao.formats.pytorch.source.names import printable
from niudao.formats.pytorch.source.regions import Leaf, Member, Region
from niudao.formats.pytorch.source.wrap import WIDTH, commented, wrap


def constructor_lines(block: Block, describer: Describer, made: Mapping[Member, Any], root: bool) -> list[str]:
    """The statements that make a class's members.

    Args:
        block: The class.
        describer: Of the network.
        made: For each member, how it is made, with the numbers' texts in it.
        root: Whether this is the network itself, whose attributes are the source's names.
    """
    lines: list[str] = []
    flags = {describer.names[m] for m in block.optional}
    for member in block.template.members:
        if member not in describer.names or made[member] is None:
            continue
        name = describer.names[member]
        kind = made[member][0]
        if kind == "parameter":
            _, dtype, trainable, dims = made[member]
            given = "" if dtype == "torch.float32" else f", dtype={dtype}"
            off = "" if trainable else ", requires_grad=False"
            text = f"self.{name} = nn.Parameter(torch.zeros({_shape(dims)}{given}){off})"
        elif kind == "buffer":
            _, dtype, _, dims = made[member]
            given = "" if dtype == "torch.float32" else f", dtype={dtype}"
            text = f'self.register_buffer("{name}", torch.zeros({_shape(dims)}{given}))'
        else:
            optional = name in flags
            built = construct(made[member], member, describer, 12 if optional else 8, f"self.{name} = ", root)
            built = commented(wrap(built[0]) if len(built) == 1 else built, _comment(member, describer))
            if optional:
                flag = next(p.name for p in block.solution.parameters if p.kind == "flag")
                lines += [f"        self.{name} = None", f"        if {flag}:"]
            lines += built
            continue
        lines += commented(wrap(" " * 8 + text), _comment(member, describer))
    return lines


def construct(made: Any, member: Member, describer: Describer, indent: int, before: str = "", root: bool = False) -> list[str]:
    """The lines that make a layer, a block or a chain."""
    if made[0] == "new":
        return [" " * indent + before + f"{made[1]}({', '.join(arguments(made[2]))})"]
    assert isinstance(member, Region)
    entries = list(zip(made[1], member.members, strict=True))
    plain = all(m.name.isdigit() for m in member.members)
    lines = [" " * indent + before + "nn.Sequential("]
    if not plain:
        lines = [" " * indent + before + "nn.Sequential(", " " * (indent + 4) + "OrderedDict("]
    deeper = indent + (4 if plain else 8)
    for i, ((name, inner), part) in enumerate(entries):
        built = construct(inner, part, describer, deeper, "" if plain else f"{name}=", root)
        built[-1] += ","
        note = _note(part, str(i) if plain else name) if root else ""
        lines += commented(wrap(built[0]) if len(built) == 1 else built, note)
    if not plain:
        lines.append(" " * (indent + 4) + ")")
    lines.append(" " * indent + ")")
    flat = " " * indent + before + "nn.Sequential(" + ", ".join(x.strip().rstrip(",") for x in lines[1:-1]) + ")"
    if plain and len(entries) <= 2 and len(flat) <= WIDTH and "#" not in flat and all(isinstance(m, Leaf) for m in member.members):
        return [flat]
    return lines


def keys_of_chain(member: Region, describer: Describer) -> list[str]:
    """The names that a chain's layers have in its state dict."""
    plain = all(m.name.isdigit() for m in member.members)
    return [str(i) if plain else describer.names[m] for i, m in enumerate(member.members)]


def arguments(given: Sequence[tuple[str, bool, str | None, Any]]) -> list[str]:
    """The arguments of a constructor as text; those that equal their defaults are left out."""
    texts = []
    positional = True
    for name, by_place, default, value in given:
        text = "None" if value == ("hole",) else str(value[1])
        if default is not None and text == default:
            positional = False
            continue
        if by_place and positional:
            texts.append(text)
        else:
            positional = False
            texts.append(f"{name}={text}")
    return texts


def _shape(dims: Sequence[Any]) -> str:
    return ", ".join(str(d[1]) for d in dims) if dims else "()"


def _comment(member: Member, describer: Describer) -> str:
    """The source's name where the attribute is another."""
    return "" if isinstance(member, Region) and member.found else _note(member, describer.names[member])


def _note(member: Member, name: str) -> str:
    last = member.source.replace("/", ".").rsplit(".", 1)[-1]
    return "" if last == name or not member.source else printable(member.source, 60)
