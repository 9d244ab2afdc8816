"""Blocks in networks whose names are flat: branches that meet again, and stretches of the graph that return with other numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from torch import fx, nn

from niudao.formats.pytorch.source.names import TOKEN, common, prefixes
from niudao.formats.pytorch.source.regions import Leaf, Member, Region, Wiring, arrange, bound, members_of

LONGEST = 60
SMALLEST = 3
MOST_INPUTS = 3
MEETING = ("add", "cat", "concat")

Token = Callable[[Member], Hashable]


def fold(region: Region, wiring: Wiring, token: Token) -> None:
    """Find the blocks among the members of a block whose names tell of none, and put them in their members' place.

    Args:
        region: The block; its members must be in running order.
        wiring: Of the whole graph.
        token: What two members have in common if they differ in numbers only.
    """
    if all(m.name.isdigit() for m in region.members if m.name):
        return
    _fold_shortcuts(region, wiring)
    kinds: dict[Member, Hashable] = {}
    groups = [[region], *_fold_meetings(region, wiring, token, kinds)]
    for round_ in range(50):
        best = _best(groups, wiring, token, kinds)
        if best is None:
            return
        blocks, holders = [], []
        for group, starts in zip(groups, best.starts, strict=True):
            for place in reversed(starts):
                for holder in group:
                    block = Region("", members=holder.members[place : place + best.size], found=True)
                    bound(block, wiring)
                    kinds[block] = ("repeat", round_)
                    holder.members[place : place + best.size] = [block]
                    blocks.append(block)
                    holders.append(holder)
        name_alike(blocks, holders)


# branches that meet again


def _fold_shortcuts(region: Region, wiring: Wiring) -> None:
    """Make one member of the layers of a residual block's shorter branch: they are there in some repeats only."""
    holder = {m.node: m for m in region.members if isinstance(m, Leaf)}
    for leaf in list(region.members):
        if not isinstance(leaf, Leaf) or not _meets(leaf, ("add",)) or len(wiring.inputs(leaf.node)) != 2:
            continue
        (long, start), (short, other) = sorted((_chain(x, holder, wiring) for x in wiring.inputs(leaf.node)), key=lambda b: -len(b[0]))
        if start is not other or not 2 <= len(short) < len(long):
            continue
        block = Region("shortcut", members=list(short), found=True)
        region.members[region.members.index(short[0])] = block
        region.members = [m for m in region.members if m not in short]
    arrange(region, wiring)


def _meets(member: Member, names: Sequence[str]) -> bool:
    return isinstance(member, Leaf) and not member.is_module and getattr(member.node.target, "__name__", "") in names


def _chain(value: fx.Node, holder: dict[fx.Node, Leaf], wiring: Wiring) -> tuple[list[Leaf], fx.Node]:
    """The layers behind one another that give a value alone, and what the first of them takes."""
    chain: list[Leaf] = []
    while value in holder and holder[value].is_module and len(wiring.users[value]) == 1 and len(wiring.inputs(value)) == 1:
        chain.insert(0, holder[value])
        value = wiring.inputs(value)[0]
    return chain, value


def _fold_meetings(region: Region, wiring: Wiring, token: Token, kinds: dict[Member, Hashable]) -> list[list[Region]]:
    """Make blocks of branches that start at one value and meet again, where a network has several of one kind."""
    holder = {x: m for m in region.members for x in ([m.node] if isinstance(m, Leaf) else m.outputs)}
    taken: set[Member] = set()
    found: dict[Hashable, list[Region]] = {}
    for member in reversed(region.members):
        if member in taken or not _meets(member, MEETING):
            continue
        inside = _diamond(member, holder, wiring)
        if inside is None or inside & taken or len(inside) < SMALLEST:
            continue
        after = wiring.users[member.node]  # type: ignore[union-attr]
        if len(after) == 1 and after[0] in holder and _is_activation(holder[after[0]]) and holder[after[0]] not in taken:
            inside.add(holder[after[0]])
        block = Region("", members=[m for m in region.members if m in inside], found=True)
        bound(block, wiring)
        if len(block.inputs) != 1 or len(block.outputs) != 1:
            continue
        taken |= inside
        arrange(block, wiring)
        places: dict[fx.Node, Hashable] = {block.inputs[0]: "in"}
        signature = []
        for i, m in enumerate(block.members):
            kinds.setdefault(m, token(m))
            signature.append((kinds[m], tuple(places[x] for x in _takes(m, wiring))))
            places.update({x: (i, k) for k, x in enumerate([m.node] if isinstance(m, Leaf) else m.outputs)})
        found.setdefault(tuple(signature), []).append(block)
    groups = [list(reversed(g)) for g in found.values() if len(g) > 1]
    for number, group in enumerate(groups):
        for block in group:
            kinds[block] = ("meeting", number)
            first = region.members.index(next(m for m in region.members if m in block.members))
            region.members[first] = block
            inside = set(block.members)
            region.members = [m for m in region.members if m not in inside]
        name_alike(group, [region] * len(group))
    for block in [m for m in region.members if isinstance(m, Region) and m.found and m.name == "shortcut"]:
        at = region.members.index(block)
        region.members[at : at + 1] = block.members
    arrange(region, wiring)
    for group in groups:
        for block in group:
            arrange(block, wiring)
    return groups


def _diamond(meeting: Member, holder: dict[fx.Node, Member], wiring: Wiring) -> set[Member] | None:
    """What stands between a value and where all its branches meet, the meeting included."""
    stems = [_stem(x, holder, wiring, 0) for x in _takes(meeting, wiring)]
    if len(stems) < 2 or any(s is None for s in stems):
        return None
    entries = {s[1] for s in stems if s is not None}
    inside = {meeting}.union(*(s[0] for s in stems if s is not None))
    return inside if len(entries) == 1 and _users(entries.pop(), holder, wiring) <= inside else None


def _stem(value: fx.Node, holder: dict[fx.Node, Member], wiring: Wiring, depth: int) -> tuple[set[Member], fx.Node] | None:
    """What gives a value alone, back to a value that others use too."""
    inside: set[Member] = set()
    while value in holder and len(_users(value, holder, wiring)) == 1:
        member = holder[value]
        inputs = _takes(member, wiring)
        if isinstance(member, Region) and len(member.outputs) != 1:
            return None
        if len(inputs) == 1:
            inside.add(member)
            value = inputs[0]
            continue
        if not inputs or depth > 8:
            return None
        stems = [_stem(x, holder, wiring, depth + 1) for x in inputs if x.op != "get_attr"]
        weights = {holder[x] for x in inputs if x.op == "get_attr" and x in holder}
        if any(s is None for s in stems):
            return None
        entries = {s[1] for s in stems if s is not None}
        inside |= weights | {member}.union(*(s[0] for s in stems if s is not None))
        if len(entries) != 1:
            return None
        value = entries.pop()
        if not _users(value, holder, wiring) <= inside:
            return inside, value
        if value not in holder or len(_takes(holder[value], wiring)) != 1:
            return inside, value
        inside.add(holder[value])
        value = _takes(holder[value], wiring)[0]
    return inside, value


def _users(value: fx.Node, holder: dict[fx.Node, Member], wiring: Wiring) -> set[Member]:
    inner = {leaf.node: m for m in set(holder.values()) if isinstance(m, Region) for leaf in m.leaves()}
    return {holder.get(u) or inner.get(u) or Leaf(u, "", "") for u in wiring.users[value]}


def _is_activation(member: Member) -> bool:
    if not isinstance(member, Leaf) or not member.is_module:
        return False
    layer = member.node.graph.owning_module.get_submodule(str(member.node.target))
    return type(layer).__module__ == "torch.nn.modules.activation"


# stretches that return


@dataclass(frozen=True)
class _Stretch:
    """Where a stretch starts in each sequence, and how many members it has."""

    starts: list[list[int]]
    size: int


def _best(groups: Sequence[Sequence[Region]], wiring: Wiring, token: Token, kinds: dict[Member, Hashable]) -> _Stretch | None:
    """The stretch whose folding spares the most lines; each group of equal blocks is written once, so counts once."""
    found: dict[tuple[int, int, int], list[list[int]]] = {}
    for g, group in enumerate(groups):
        for member in (m for holder in group for m in holder.members):
            if member not in kinds:
                kinds[member] = token(member)
        for key, start in _stretches(group[0].members, wiring, kinds):
            found.setdefault(key, [[] for _ in groups])[g].append(start)
    best, most = None, 0
    for (_, size, inputs), starts in found.items():
        apart = [_apart(s, size) for s in starts]
        count = sum(len(s) for s in apart)
        if count < 2:
            continue
        spared = 2 * count * size - (2 * count + 2 * size + 6) - 4 * count * (inputs - 1)
        if spared > most:
            best, most = _Stretch(apart, size), spared
    return best


def _stretches(members: Sequence[Member], wiring: Wiring, kinds: dict[Member, Hashable]) -> list[tuple[tuple[int, int, int], int]]:
    """Signature, size and inputs of every stretch with one result, and where it starts."""
    place = {leaf.node: i for i, m in enumerate(members) for leaf in members_of(m)}
    last = []
    for i, m in enumerate(members):
        last.append(max((place.get(u, len(members)) for leaf in members_of(m) for u in wiring.users[leaf.node]), default=i))
    takes = [_takes(m, wiring) for m in members]
    found = []
    for i in range(len(members)):
        signature, reach, layers, loose = 0, -1, False, 0
        chain, norm, blocks = True, False, False
        outside: dict[fx.Node, int] = {}
        for j in range(i, min(i + LONGEST, len(members))):
            wires = []
            for x in takes[j]:
                at = place.get(x, -1)
                wires.append((0, at - i, _result(members[at], x)) if at >= i else (1, outside.setdefault(x, len(outside)), 0))
            if len(outside) > MOST_INPUTS:
                break
            signature = hash((signature, kinds[members[j]], tuple(wires)))
            layers = layers or isinstance(members[j], Region) or members[j].is_module  # type: ignore[union-attr]
            if _ends_residual(members[j]):
                break
            loose += isinstance(members[j], Leaf)
            chain = chain and (j == i or takes[j] == results_of(members[j - 1]))
            norm = norm or _is_norm(members[j])
            blocks = blocks or isinstance(members[j], Region)
            if j > i:
                reach = max(reach, last[j - 1])
            if (
                SMALLEST <= j - i + 1 < len(members)
                and reach <= j
                and layers
                and 2 * loose >= j - i + 1
                and (not chain or (norm and not blocks))
            ):
                found.append(((signature, j - i + 1, len(outside)), i))
    return found


def _ends_residual(member: Member) -> bool:
    return isinstance(member, Region) and member.found and any(_meets(m, ("add",)) for m in member.members)


def _is_norm(member: Member) -> bool:
    if isinstance(member, Region) or not member.is_module:
        return False
    layer = member.node.graph.owning_module.get_submodule(str(member.node.target))
    return isinstance(layer, nn.modules.batchnorm._NormBase | nn.LayerNorm | nn.GroupNorm)


def results_of(member: Member) -> list[fx.Node]:
    """The values that a member gives."""
    return [member.node] if isinstance(member, Leaf) else member.outputs


def _apart(starts: Sequence[int], size: int) -> list[int]:
    """Those starts whose stretches do not overlap."""
    apart: list[int] = []
    for s in starts:
        if not apart or s >= apart[-1] + size:
            apart.append(s)
    return apart


def _takes(member: Member, wiring: Wiring) -> list[fx.Node]:
    return wiring.inputs(member.node) if isinstance(member, Leaf) else member.inputs


def _result(member: Member, value: fx.Node) -> int:
    return 0 if isinstance(member, Leaf) else member.outputs.index(value)


# names


def name_alike(blocks: Sequence[Region], holders: Sequence[Region]) -> None:
    """Name repeats of one block, and their members alike in all of them.

    Args:
        blocks: The repeats.
        holders: The block that each of them stands in; names need differ only there.
    """
    originals = [[m.name for m in b.members] for b in blocks]
    counts = [Counter(p for name in names for p in dict.fromkeys(prefixes(name))) for names in originals]
    held = {holder: Counter[str]() for holder in holders}
    for holder, count in zip(holders, counts, strict=True):
        held[holder].update(count.keys())
    for block, holder, names, count in zip(blocks, holders, originals, counts, strict=True):
        own = [p for p in count if held[holder][p] == 1]
        order = {p: i for i, p in reversed(list(enumerate(q for name in names for q in reversed(prefixes(name)))))}
        first = [p for p in own if order[p] == min(order[q] for q in own)] if own else []
        most = max((count[p] for p in own), default=0)
        block.name = min((p for p in own if count[p] == most), key=len) if most > 1 else first[0] if first else "block"
    _unify(blocks)


def _unify(blocks: Sequence[Region]) -> None:
    """Give each member what its names in all blocks share, without what all members of a block share."""
    shared = [common(list(dict.fromkeys(b.members[i].name for b in blocks))) for i in range(len(blocks[0].members))]
    words = [TOKEN.findall(s) for s in shared if s]
    while len(words) > 1 and len({w[0] for w in words}) == 1:
        rest = [w[2:] if len(w) > 2 and not w[1][0].isalnum() else w[1:] for w in words]
        if not all(w and w[0][0].isalpha() for w in rest):
            break
        words = rest
    cut = iter("".join(w).strip("_./-: ") for w in words)
    for i, name in enumerate(shared):
        short = re.sub(r"[_./\- ]+", "_", next(cut)) if name else ""
        members = [b.members[i] for b in blocks]
        for member in members:
            if short or not isinstance(member, Leaf) or member.is_module:
                member.name = short or ("block" if isinstance(member, Region) else "")
        inner = [m for m in members if isinstance(m, Region) and m.found]
        if inner and len(inner) == len(members):
            _unify(inner)
