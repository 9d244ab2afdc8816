"""Which weight of the text is which of the network, where blocks stand in it, and what two layers share."""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import fx, nn

from niudao.formats.pytorch.source.blocks import Describer, attribute_of
from niudao.formats.pytorch.source.constructors import keys_of_chain
from niudao.formats.pytorch.source.names import attribute, free
from niudao.formats.pytorch.source.regions import Leaf, Region
from niudao.formats.pytorch.source.wrap import wrap


def _places(region: Region, prefix: str, describer: Describer) -> Iterator[tuple[Leaf, str]]:
    """Every leaf with weights, with the path it has in the text."""
    for member, name in zip(region.members, _names(region, prefix, describer), strict=True):
        if isinstance(member, Region):
            yield from _places(member, f"{prefix}{name}.", describer)
        elif name:
            yield member, prefix + name


def _names(region: Region, prefix: str, describer: Describer) -> list[str]:
    if prefix and describer.is_chain(region):
        return keys_of_chain(region, describer)
    return [describer.names.get(m, "") for m in region.members]


def keys_of(root: Region, prefix: str, describer: Describer) -> Iterator[tuple[str, str]]:
    """Key of the text's state dict and key of the network's, for every weight that a call takes."""
    for leaf, path in _places(root, prefix, describer):
        target = str(leaf.node.target)
        if leaf.node.op == "get_attr":
            yield path, target
        else:
            for key in describer.layer(leaf).state_dict():
                yield f"{path}.{key}", f"{target}.{key}"


def ties_of(root: Region, describer: Describer) -> Iterator[str]:
    """Statements for parameters that are one in the network and would be two in the text."""
    seen: dict[int, str] = {}
    for leaf, path in _places(root, "", describer):
        if leaf.node.op == "get_attr":
            own = [("", attribute_of(describer.network, str(leaf.node.target)))]
        else:
            own = list(describer.layer(leaf).named_parameters(remove_duplicate=False))
        for name, tensor in own:
            if not isinstance(tensor, nn.Parameter):
                continue
            whole = f"{path}.{name}" if name else path
            if id(tensor) in seen:
                yield f"self.{index_of(whole)} = self.{index_of(seen[id(tensor)])}  # one weight"
            seen.setdefault(id(tensor), whole)


def with_lines(body: str, statements: list[str]) -> str:
    """The text with more statements at the end of the last constructor."""
    at = body.rindex("\n\n    def forward(self")
    return body[:at] + "".join("\n" + "\n".join(wrap(f"        {s}")) for s in statements) + body[at:]


def kept(unused: list[str], keys: dict[str, str], network: fx.GraphModule) -> Iterator[str]:
    """Statements that hold what no call takes; `keys` grows by them."""
    taken = {k.split(".")[0] for k in keys}
    for old in unused:
        tensor = network.state_dict(keep_vars=True)[old]
        name = free(attribute(old, "weight"), taken)
        keys[name] = old
        made = f"torch.zeros({', '.join(map(str, tensor.shape)) or '()'}, dtype={tensor.dtype})"
        yield f"self.{name} = nn.Parameter({made})" if isinstance(tensor, nn.Parameter) else f'self.register_buffer("{name}", {made})'


def index_of(path: str) -> str:
    """A path of a state dict as Python reads it: numbers in brackets."""
    return re.sub(r"\.(\d+)(?=\.)", r"[\1]", path)


def paths_of(region: Region, prefix: str, describer: Describer) -> Iterator[tuple[Region, str]]:
    """Where each block stands in the network of the text."""
    for member, name in zip(region.members, _names(region, prefix, describer), strict=True):
        if isinstance(member, Region):
            yield member, prefix + name
            yield from paths_of(member, f"{prefix}{name}.", describer)
