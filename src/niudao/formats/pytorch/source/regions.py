"""The graph of a network as a tree: layers inside blocks inside blocks, by the names that the source gave them.

A block must be something that one call can do: everything it needs is there before it starts, and what it gives is used
after it ends. Blocks for which that does not hold are opened into the block around them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from niudao.formats.pytorch.source.joins import JOINS

LAYER = "niudao.layer"

Path = tuple[str, ...]


@dataclass(eq=False)
class Leaf:
    """One call, or one weight that a call takes."""

    node: fx.Node
    name: str
    source: str

    @property
    def is_module(self) -> bool:
        """Whether a layer is called."""
        return bool(self.node.op == "call_module")


@dataclass(eq=False)
class Region:
    """A block: members in the order they run, what comes in, what goes out; `found` where no name told of it."""

    name: str
    source: str = ""
    type: str = ""
    members: list[Member] = field(default_factory=list)
    inputs: list[fx.Node] = field(default_factory=list)
    outputs: list[fx.Node] = field(default_factory=list)
    found: bool = False

    def leaves(self) -> Iterator[Leaf]:
        """All calls inside, in order."""
        for member in self.members:
            if isinstance(member, Leaf):
                yield member
            else:
                yield from member.leaves()

    def height(self) -> int:
        """How many blocks stand inside one another in it."""
        return 1 + max((m.height() for m in self.members if isinstance(m, Region)), default=0)


Member = Leaf | Region


class Wiring:
    """Who uses what, with every use of one weight seen as one value."""

    def __init__(self, graph: fx.Graph) -> None:
        live: set[fx.Node] = set()
        order = list(graph.nodes)
        for node in reversed(order):
            if node.op in ("output", "placeholder") or node in live:
                live.add(node)
                live.update(node.all_input_nodes)
        self.first: dict[fx.Node, fx.Node] = {}
        weights: dict[Any, fx.Node] = {}
        for node in order:
            if node.op == "get_attr":
                self.first[node] = weights.setdefault(node.target, node)
        self.nodes = [n for n in order if n in live and n.op not in ("placeholder", "output") and self.first.get(n, n) is n]
        self.placeholders = [n for n in order if n.op == "placeholder"]
        self.output = next(n for n in order if n.op == "output")
        self.users: dict[fx.Node, list[fx.Node]] = {n: [] for n in (*self.placeholders, *self.nodes)}
        for node in (*self.nodes, self.output):
            for x in self.inputs(node):
                self.users[x].append(node)

    def inputs(self, node: fx.Node) -> list[fx.Node]:
        """The values that a call takes, each once, in the order it names them."""
        return list(dict.fromkeys(self.first.get(x, x) for x in node.all_input_nodes))


def build_tree(network: fx.GraphModule, wiring: Wiring, types: Mapping[str, str]) -> Region:
    """The tree of a network's calls, arranged.

    Args:
        network: The network.
        wiring: Of its graph.
        types: Name of a source's block -> its class there.
    """
    scopes = _scopes(network, wiring)
    root = Region("")
    made: dict[Path, Region] = {(): root}

    def region(path: Path) -> Region:
        if path not in made:
            made[path] = Region(path[-1], ".".join(path))
            region(path[:-1]).members.append(made[path])
        return made[path]

    for node in wiring.nodes:
        path, name = scopes[node]
        source = str(node.target if node.op in ("call_module", "get_attr") else node.meta.get(LAYER, ""))
        region(path).members.append(Leaf(node, name, source))
    for layer, kind in types.items():
        if layer and _split(layer) in made:
            made[_split(layer)].type = kind
    _drop_single(root)
    arrange(root, wiring)
    return root


def _split(name: str) -> Path:
    return tuple(p for p in re.split(r"[./]", name) if p)


def _scopes(network: fx.GraphModule, wiring: Wiring) -> dict[fx.Node, tuple[Path, str]]:
    """Where each call belongs, and its own name there."""
    names: dict[fx.Node, Path] = {}
    for node in wiring.nodes:
        if node.op == "call_module":
            names[node] = _split(str(node.target))
        elif node.op != "get_attr" and node.meta.get(LAYER):
            names[node] = _split(str(node.meta[LAYER]))
    inner = {p[:i] for n, p in names.items() for i in range(1, len(p)) if n.op == "call_module"}
    found: dict[fx.Node, tuple[Path, str]] = {}
    for node, path in names.items():
        if path in inner:
            found[node] = path, type(network.get_submodule(str(node.target))).__name__.lower() if node.op == "call_module" else ""
        elif path:
            found[node] = path[:-1], path[-1]
    for node in wiring.nodes:
        if node not in found and node.op != "get_attr":
            found[node] = _between(node, wiring, found), ""
    for node in reversed(wiring.nodes):
        if node.op == "get_attr":
            own = _split(str(node.target))
            found[node] = _shared([found[u][0] for u in wiring.users[node] if u.op != "output"]), own[-1] if own else "weight"
    return found


def _between(node: fx.Node, wiring: Wiring, found: dict[fx.Node, tuple[Path, str]]) -> Path:
    """The deepest block that a nameless call can stand in: that of its inputs, or of its users and one of its inputs."""
    inputs = [found[x][0] for x in wiring.inputs(node) if x in found]
    users = [found[u][0] for u in wiring.users[node] if u in found]
    choices = [_shared(inputs)] if len(inputs) > 1 else []
    choices += [_shared([*users, x]) for x in inputs] if users else []
    return max(choices, key=len, default=_shared(users) if users else ())


def _shared(paths: list[Path]) -> Path:
    if not paths:
        return ()
    shortest = min(paths, key=len)
    for i, part in enumerate(shortest):
        if any(p[i] != part for p in paths):
            return shortest[:i]
    return shortest


def _drop_single(region: Region) -> None:
    """A block around one call is no block; nor is one around one layer and some functions, where the source says nothing of a class."""
    members: list[Member] = []
    for member in region.members:
        if isinstance(member, Region):
            _drop_single(member)
            named = [m for m in member.members if isinstance(m, Region) or m.is_module]
            if len(member.members) > 1 and len(named) == 1 and isinstance(named[0], Leaf) and not member.type:
                named[0].name = f"{member.name}_{named[0].name}"
                members += member.members
                continue
            if len(member.members) == 1:
                only = member.members[0]
                if only.name:
                    only.name = member.name if only.name.isdigit() or member.name.isdigit() else f"{member.name}_{only.name}"
                members.append(only)
                continue
        members.append(member)
    region.members = members


def arrange(region: Region, wiring: Wiring) -> None:
    """Sort the members of a block and of the blocks inside, one branch after the other; open blocks that no single call can be.

    Args:
        region: The block; its members, inputs and outputs are set anew.
        wiring: Of the whole graph.
    """
    _take_joins(region, wiring)
    while True:
        order, circle = _sorted(region, wiring)
        if not circle:
            break
        _open(region, min(circle, key=lambda m: len(m.members)))
    region.members = order
    bound(region, wiring)
    for member in region.members:
        if isinstance(member, Region):
            arrange(member, wiring)


def _take_joins(region: Region, wiring: Wiring) -> None:
    """Concatenations that take nothing from the block they stand in are done before it is called."""
    members: list[Member] = []
    for block in region.members:
        if isinstance(block, Region):
            inside = {leaf.node for leaf in block.leaves()}
            for m in list(block.members):
                if isinstance(m, Leaf) and m.node.target in JOINS and not inside.intersection(wiring.inputs(m.node)):
                    block.members.remove(m)
                    members.append(m)
        members.append(block)
    region.members = [m for m in members if not isinstance(m, Region) or m.members]


def bound(region: Region, wiring: Wiring) -> None:
    """Set what comes into a block and what goes out of it."""
    inside = {leaf.node for leaf in region.leaves()}
    taken = [x for leaf in region.leaves() for x in wiring.inputs(leaf.node)]
    region.inputs = [x for x in dict.fromkeys(taken) if x not in inside]
    region.outputs = [leaf.node for leaf in region.leaves() if any(u not in inside for u in wiring.users[leaf.node])]


def members_of(member: Member) -> Iterator[Leaf]:
    """The calls of a member, itself if it is one."""
    if isinstance(member, Leaf):
        yield member
    else:
        yield from member.leaves()


def _sorted(region: Region, wiring: Wiring) -> tuple[list[Member], list[Region]]:
    """Members with what they need before them; or else the blocks of a circle."""
    holder = {leaf.node: m for m in region.members for leaf in members_of(m)}
    needs: dict[Member, list[Member]] = {}
    ends = []
    for member in region.members:
        taken = [holder[x] for leaf in members_of(member) for x in wiring.inputs(leaf.node) if x in holder]
        needs[member] = [m for m in dict.fromkeys(taken) if m is not member]
        if any(u not in holder for leaf in members_of(member) for u in wiring.users[leaf.node]):
            ends.append(member)
    order: list[Member] = []
    state: dict[Member, str] = {}
    for end in ends:
        if end in state:
            continue
        state[end] = "open"
        stack = [(end, iter(needs[end]))]
        while stack:
            member, rest = stack[-1]
            following = next(rest, None)
            if following is None:
                stack.pop()
                state[member] = "done"
                order.append(member)
            elif following not in state:
                state[following] = "open"
                stack.append((following, iter(needs[following])))
            elif state[following] == "open":
                circle = [m for m, _ in stack]
                return [], [m for m in circle[circle.index(following) :] if isinstance(m, Region)]
    return order, []


def _open(region: Region, block: Region) -> None:
    at = region.members.index(block)
    for member in block.members:
        if member.name:
            member.name = f"{block.name}_{member.name}"
    region.members[at : at + 1] = block.members


def each(region: Region, visit: Callable[[Region], None]) -> None:
    """Visit every block, the innermost ones first."""
    for member in region.members:
        if isinstance(member, Region):
            each(member, visit)
    visit(region)


def layer_of(network: fx.GraphModule, leaf: Leaf) -> nn.Module:
    """The layer that a leaf calls."""
    return network.get_submodule(str(leaf.node.target))
