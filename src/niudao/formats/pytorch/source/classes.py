"""The classes of a text: every block that is no plain chain, each structure once, named as its source names it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from itertools import pairwise
from typing import Any

from niudao.formats.pytorch.source.blocks import HOLE, Block, Describer, results, takes
from niudao.formats.pytorch.source.names import attribute, camel, common, free, identifier
from niudao.formats.pytorch.source.parameters import MISSING, Slot, solve
from niudao.formats.pytorch.source.regions import Leaf, Member, Region, each

OFTEN = 3
"""A chain of layers that the text would write so often becomes a class."""

RESERVED = frozenset(
    "self x nn torch F math json mmap OrderedDict load Tensor annotations path file model super bool int float tuple".split()
)


def find_classes(root: Region, describer: Describer, class_name: str, taken: set[str]) -> list[Block]:
    """The classes of a network, what needs another class behind it; the last one is the network itself.

    Args:
        root: The tree, its members named.
        describer: Of the same network; its `block_of` is filled.
        class_name: Name of the last class.
        taken: Names that no class may have.
    """
    regions: list[Region] = []
    each(root, regions.append)
    describer.place.update({r: i for i, r in enumerate(regions)})
    while True:
        describer.block_of.clear()
        blocks: list[Block] = []
        for regions in _by_height(root, describer):
            blocks += _group(regions, describer)
        whole = _block([root], describer)
        names = set(taken)
        whole.name = free(class_name, names)
        for block in blocks:
            block.name = _free(block.name, names)
        blocks.append(whole)
        describer.block_of[root] = whole
        chains = Counter(form for b in blocks for form in _chains(b.template, describer))
        often = {form for form, count in chains.items() if count >= OFTEN}
        if not often:
            return blocks
        describer.promoted |= often


def _free(name: str, taken: set[str]) -> str:
    candidate, k = name, 1
    while candidate in taken:
        k += 1
        candidate = f"{name}{k}"
    taken.add(candidate)
    return candidate


def _by_height(root: Region, describer: Describer) -> Iterator[list[Region]]:
    heights: dict[Region, int] = {}

    def height(region: Region) -> int:
        inner = max((height(m) for m in region.members if isinstance(m, Region)), default=0)
        if region is root or describer.is_sequential(region):
            return inner
        heights[region] = inner + 1
        return inner + 1

    top = height(root)
    for level in range(1, top + 1):
        yield [r for r, h in heights.items() if h == level]


def _chains(region: Region, describer: Describer) -> Iterator[Hashable]:
    """The forms of the chains of layers that stand in a class's text."""
    for member in region.members:
        if isinstance(member, Region) and member not in describer.block_of:
            blocks = [m for m in member.members if isinstance(m, Region)]
            if not blocks or (len(blocks) < len(member.members) and len(member.members) >= OFTEN):
                yield describer.chain_form(member)
            yield from _chains(member, describer)


def _group(regions: Sequence[Region], describer: Describer) -> list[Block]:
    groups: dict[Hashable, list[Region]] = {}
    for region in regions:
        groups.setdefault(describer.form(region, lambda v, s: HOLE), []).append(region)
    blocks = []
    left = sorted(groups.values(), key=lambda g: -len(g[0].members))
    while left:
        group = left.pop(0)
        optional: list[Member] = []
        lacking: list[Region] = []
        for other in left:
            member = _more_than(group[0], other[0], describer)
            if member is not None:
                optional, lacking = [member], other
                left.remove(other)
                if group[0].found:
                    _rename(group, other, group[0].members.index(member), describer)
                break
        blocks.append(_block(group, describer, optional, lacking))
    order = {r: i for i, r in enumerate(regions)}
    blocks.sort(key=lambda b: min(order[r] for r in b.rows))
    return blocks


def _more_than(a: Region, b: Region, describer: Describer) -> Member | None:
    """The one member that `a` has and `b` has not, where they are alike otherwise."""
    if len(a.members) != len(b.members) + 1 or a.found != b.found:
        return None
    wanted = describer.form(b, lambda v, s: HOLE, named=not a.found)
    reused = set(describer.same.values())
    for member in a.members:
        if isinstance(member, Leaf) and (not member.is_module or member in describer.same or member in reused):
            continue
        if (
            len(results(member)) == len(takes(member, describer.wiring)) == 1
            and describer.form(a, lambda v, s: HOLE, member, not a.found) == wanted
        ):
            return member
    return None


def _rename(group: Sequence[Region], lacking: Sequence[Region], without: int, describer: Describer) -> None:
    """Give members of blocks that become one class what their names share."""
    taken: set[str] = set()
    for i in range(len(group[0].members)):
        members = [r.members[i] for r in group] + [r.members[i if i < without else i - 1] for r in lacking if i != without]
        if members[0] in describer.names:
            wish = common(list(dict.fromkeys(describer.names[m] for m in members))) or describer.names[members[0]]
            name = free(attribute(wish), taken)
            describer.names.update(dict.fromkeys(members, name))


def _block(group: Sequence[Region], describer: Describer, optional: Sequence[Member] = (), lacking: Sequence[Region] = ()) -> Block:
    template = group[0]
    rows: dict[Region, list[Any]] = {}
    slots: list[Slot] = []
    for region in (*group, *lacking):
        found: list[tuple[Any, Slot]] = []

        def take(value: Any, slot: Slot, found: list[tuple[Any, Slot]] = found) -> Any:
            found.append((value, slot))
            return HOLE

        describer.form(region, take)
        rows[region] = [v for v, _ in found]
        slots = slots or [s for _, s in found]
    if optional:
        member = optional[0]
        at = template.members.index(member)
        before, own = (sum(_count(m, describer) for m in part) for part in (template.members[:at], [member]))
        for region in lacking:
            rows[region][before:before] = [MISSING] * own
        slots = [*slots, Slot("flag", "", describer.names[member])]
        for region, row in rows.items():
            row.append(region in group)
    order = sorted([*group, *lacking], key=lambda r: describer.place[r])
    rows = {r: rows[r] for r in order}
    block = Block(_class_name(order, describer), template, rows, slots, list(optional))
    held = {describer.names[m] for m in template.members if m in describer.names and m not in optional}
    block.solution = solve(slots, list(rows.values()), held | RESERVED, _last(template, describer))
    describer.block_of.update(dict.fromkeys(order, block))
    return block


def _last(region: Region, describer: Describer) -> str:
    """The layer whose channels are those of the block's result: the last one with weights, where branches are not put together."""
    for member in reversed(region.members):
        if isinstance(member, Region):
            return describer.names[member]
        if not member.is_module:
            if "cat" in getattr(member.node.target, "__name__", ""):
                return ""
            continue
        if hasattr(describer.layer(member), "out_channels") or hasattr(describer.layer(member), "out_features"):
            return describer.names.get(member, "")
    return ""


def _count(member: Member, describer: Describer) -> int:
    found: list[Any] = []
    describer.made(member, lambda v, s: found.append(v))
    return len(found)


def _class_name(regions: Sequence[Region], describer: Describer) -> str:
    """The source's class where it is known, else what the names of the blocks share, else what the block is made of."""
    types = Counter(r.type for r in regions if r.type)
    if types:
        return _proper(types.most_common(1)[0][0].rsplit(".", 1)[-1])
    template = regions[0]
    kinds = [k for k in (_kind(m, describer) for m in template.members) if k]
    if describer.is_chain(template) and len(kinds) == len(template.members) <= 4 and template.height() == 1:
        name = "".join(kinds)
        return _proper(name.replace("ConvConv", "SepConv") if _is_separable(template, describer) else name)
    if template.found and any(isinstance(m, Leaf) and getattr(m.node.target, "__name__", "") == "add" for m in template.members):
        return "ResidualBlock"
    shared = camel(common(list(dict.fromkeys(r.name for r in regions)))) if len({r.name for r in regions}) > 1 else ""
    words = camel("".join(c for c in shared if not c.isdigit()))
    if len(words) >= 4:
        return _proper(words)
    adds = any(isinstance(m, Leaf) and getattr(m.node.target, "__name__", "") == "add" for m in template.members)
    return "ResidualBlock" if adds else _proper(words + "Block")


def _is_separable(region: Region, describer: Describer) -> bool:
    layers = [describer.layer(m) for m in region.members if isinstance(m, Leaf) and m.is_module]
    return any(getattr(a, "groups", 1) > 1 and getattr(b, "kernel_size", ()) == (1, 1) for a, b in pairwise(layers))


def _proper(name: str) -> str:
    name = identifier(name, "Block")
    return name[:1].upper() + name[1:]


def _kind(member: Member, describer: Describer) -> str:
    if isinstance(member, Region):
        return describer.block_of[member].name if member in describer.block_of else ""
    if not member.is_module:
        return ""
    name = type(describer.layer(member)).__name__.rstrip("123").removesuffix("d") if member.is_module else ""
    short = {"Conv": "Conv", "BatchNorm": "Bn", "ReLU": "Relu", "LayerNorm": "Norm", "Linear": "Linear"}
    name = type(describer.layer(member)).__name__
    for long, word in short.items():
        if name.startswith(long) and name[len(long) :] in ("", "1d", "2d", "3d"):
            return word
    return camel(name)
