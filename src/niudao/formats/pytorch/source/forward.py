"""The lines of a `forward`: which calls stand inside one another, and what the values between the lines are called."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from niudao.formats.pytorch.source.blocks import Block, Describer, results
from niudao.formats.pytorch.source.classes import RESERVED
from niudao.formats.pytorch.source.expressions import call_text
from niudao.formats.pytorch.source.functions import INFIX, PREFIX
from niudao.formats.pytorch.source.names import free, identifier
from niudao.formats.pytorch.source.regions import Leaf, Member, Region

DEEPEST = 3
"""So many calls may stand inside one another."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.PReLU)


@dataclass(eq=False)
class Step:
    """What one member does: the values it gives, its call, how deep its text is, whether it holds a layer of weight."""

    member: Member
    values: list[fx.Node]
    call: Any
    depth: int = 0
    heavy: bool = False
    size: bool = False
    inside: dict[fx.Node, Step] = field(default_factory=dict)


class Forward:
    """Writes the `forward` of one class.

    Args:
        block: The class.
        describer: Of the network.
        calls: For each member, how it is called, with the numbers' texts in it.
        inputs: Names of the block's inputs.
        taken: Names that stand for something else in the file.
    """

    def __init__(self, block: Block, describer: Describer, calls: Mapping[Member, Any], inputs: Sequence[str], taken: set[str]) -> None:
        self.block = block
        self.describer = describer
        self.region = block.template
        self.inputs = list(inputs)
        self.taken = taken | (RESERVED - {"x", "path", "file", "model"})
        self.steps = [Step(m, results(m), calls[m]) for m in self.region.members]
        self.uses: dict[fx.Node, int] = {}
        for step in self.steps:
            for value in _values(step.call):
                self.uses[value] = self.uses.get(value, 0) + 1

    def lines(self, outputs: Sequence[fx.Node], single: bool) -> list[str]:
        """The body's lines, the `return` last.

        Args:
            outputs: The values to give, in order; a value may come twice.
            single: Whether one value is given as it is, not in a tuple.
        """
        for value in outputs:
            self.uses[value] = self.uses.get(value, 0) + 1
        statements = self._statements(outputs)
        return self._write(statements, outputs, single)

    # which calls stand inside one another

    def _statements(self, outputs: Sequence[fx.Node]) -> list[Step]:
        waiting: dict[fx.Node, Step] = {}
        statements: list[Step] = []
        for step in self.steps:
            step.heavy = self._is_heavy(step.member)
            step.size = self._is_size(step, waiting)
            lists = [len(v) for v in _lists(step.call)]
            for value in dict.fromkeys(_values(step.call)):
                inner = waiting.get(value)
                if inner is None:
                    continue
                if self._fits(inner, step, max(lists, default=0)):
                    step.inside[value] = waiting.pop(value)
                    step.depth = max(step.depth, inner.depth)
                    step.heavy = step.heavy or inner.heavy
            step.depth += 0 if step.size or _is(step, operator.getitem) or step.call[0] == "weight" else 1
            if len(step.values) == 1 and self.uses.get(step.values[0], 0) == 1 and step.member not in self.block.optional:
                waiting[step.values[0]] = step
            statements.append(step)
        last = waiting.get(outputs[0]) if len(outputs) == 1 else None
        absorbed = {id(s) for step in self.steps for s in step.inside.values()}
        if last is not None:
            absorbed.add(id(last))
        weights = {id(s) for s in self.steps if s.call[0] == "weight"}
        return [s for s in statements if id(s) not in absorbed and id(s) not in weights]

    def _fits(self, inner: Step, outer: Step, listed: int) -> bool:
        if inner.size or inner.call[0] == "weight":
            return True
        if outer.member in self.block.optional or outer.size:
            return False
        if _is(outer, operator.getitem):
            return False
        kind = outer.call[0]
        if kind == "layer":
            if isinstance(outer.member, Region) or len(outer.call[1]) != 1 or inner.depth >= DEEPEST:
                return False
            if inner.call[0] != "layer":
                return inner.depth < 2
            if isinstance(inner.member, Region) or self._is_pool(inner.member):
                return not self._is_heavy(outer.member) and not self._is_pool(outer.member)
            return not (self._is_heavy(outer.member) and inner.heavy)
        if kind == "function" and outer.call[1] in INFIX:
            return inner.depth <= 1
        if listed:
            return inner.depth <= 2 and listed <= 2
        return inner.depth < 2

    def _is_heavy(self, member: Member) -> bool:
        if isinstance(member, Region):
            return True
        if not member.is_module:
            return False
        layer = self.describer.layer(member)
        return any(True for _ in layer.parameters()) and not isinstance(layer, _NORMS)

    def _is_pool(self, member: Member) -> bool:
        return isinstance(member, Leaf) and member.is_module and "Pool" in type(self.describer.layer(member)).__name__

    def _is_size(self, step: Step, waiting: Mapping[fx.Node, Step]) -> bool:
        """Whether a step gives a size of a tensor, or a number made from sizes."""
        if step.call[0] == "method":
            return bool(step.call[1] == "size")
        if step.call[0] != "function":
            return False
        target = step.call[1]
        if target is getattr:
            return True
        values = list(_values(step.call))
        known = bool(values) and all(v in waiting and waiting[v].size for v in values)
        return known and (target in INFIX or target in PREFIX or target is operator.getitem)

    # names of values

    def _write(self, statements: Sequence[Step], outputs: Sequence[fx.Node], single: bool) -> list[str]:
        taken = [list(dict.fromkeys(self._leaves(s))) for s in statements]
        last: dict[fx.Node, int] = {v: i for i, values in enumerate(taken) for v in values}
        by_value = {v: s for s in self.steps for v in s.values}
        named = {v for s in statements for v in s.values}
        end = len(statements)
        finals = []
        for value in outputs:
            if value in named or value in self.region.inputs:
                last[value] = end
            else:
                for leaf in self._leaves(by_value[value]):
                    last[leaf] = end
            finals.append(value)
        names: dict[fx.Node, str] = dict(zip(self.region.inputs, self.inputs, strict=True))
        fan = {v for s in self.steps for items in _lists(s.call) if len(items) > 2 for v in _values(items)}
        lines: list[str] = []
        for i, step in enumerate(statements):
            live = {names[v] for v in names if last.get(v, -1) > i}
            dying = [names[v] for v in taken[i] if last[v] == i]
            text = self._text(step, names)
            targets: list[str] = []
            for value in step.values:
                name = self._choose(step, live | set(targets), dying, value in fan)
                targets.append(name)
            if step.member in self.block.optional:
                lines += self._optional(step, targets[0], names)
            elif last.get(step.values[0], -1) < 0 and not any(v in last for v in step.values):
                lines.append(text)
            else:
                lines.append(f"{', '.join(targets)} = {text}")
            names.update(zip(step.values, targets, strict=True))
        given = [names[v] if v in names else self._text(by_value[v], names) for v in finals]
        lines.append("return " + (given[0] if single else "(" + ", ".join(given) + ("," if len(given) == 1 else "") + ")"))
        if not single and len(given) > 1:
            lines[-1] = "return " + ", ".join(given)
        return lines

    def _optional(self, step: Step, target: str, names: Mapping[fx.Node, str]) -> list[str]:
        layer = f"self.{self._attribute(step.member)}"
        (value,) = list(_values(step.call))
        source = names[value]
        if source == target:
            return [f"if {layer} is not None:", f"    {target} = {layer}({source})"]
        return [f"{target} = {source} if {layer} is None else {layer}({source})"]

    def _choose(self, step: Step, live: set[str], dying: Sequence[str], branch: bool) -> str:
        usable = [n for n in dying if n not in live and n not in self.inputs[1:] and (n not in self.inputs or n == "x")]
        if step.member in self.block.optional and "x" not in usable:
            return free(self._hint(step), live | self.taken)
        if branch and self._hint(step):
            return free(self._hint(step), live | self.taken)
        for name in ("x", *usable):
            if name in usable or (name == "x" and name not in live):
                return name
        for name in ("y", self._hint(step) or "z", "z"):
            if name not in live and name not in self.taken:
                return name
        return free(self._hint(step) or "y", live | self.taken)

    def _hint(self, step: Step) -> str:
        member = step.member
        for inner in step.inside.values():
            if inner.heavy and not self._is_heavy(member):
                return self._hint(inner)
        if isinstance(member, Leaf) and not member.is_module:
            return next((h for h in map(self._hint, step.inside.values()) if h), "")
        return identifier(re.sub(r"_\d+$", "", self._attribute(member)), "y").lower()

    def _attribute(self, member: Member) -> str:
        if isinstance(member, Leaf) and member in self.describer.same:
            member = self.describer.same[member]
        return self.describer.names[member]

    def _leaves(self, step: Step) -> Iterator[fx.Node]:
        """The values that a statement takes from outside it."""
        for value in _values(step.call):
            if value in step.inside:
                yield from self._leaves(step.inside[value])
            elif not self._is_weight(value):
                yield value

    def _is_weight(self, value: fx.Node) -> bool:
        return value.op == "get_attr" and any(value is v for s in self.steps if s.call[0] == "weight" for v in s.values)

    def _text(self, step: Step, names: Mapping[fx.Node, str]) -> str:
        def value(x: fx.Node, level: int) -> str:
            if self._is_weight(x):
                return f"self.{self._attribute(next(s.member for s in self.steps if x in s.values))}"
            if x in step.inside:
                return expression(step.inside[x], level)
            return names[x]

        def expression(inner: Step, level: int) -> str:
            nonlocal step
            outer, step = step, inner
            try:
                layer = "" if inner.call[0] != "layer" else self._attribute(inner.member)
                return call_text(inner.call, layer, value, level)
            finally:
                step = outer

        return expression(step, 0)


def _is(step: Step, target: Any) -> bool:
    return bool(step.call[0] == "function" and step.call[1] is target)


def _values(call: Any) -> Iterator[fx.Node]:
    """The values in a call, as often as it names them."""
    if isinstance(call, fx.Node):
        yield call
    elif isinstance(call, tuple):
        for part in call:
            yield from _values(part)


def _lists(call: Any) -> Iterator[Any]:
    """The lists of several values in a call."""
    if isinstance(call, tuple):
        if len(call) == 2 and call[0] in ("list", "tuple") and sum(v[0] == "value" for v in call[1]) > 1:
            yield call[1]
        for part in call:
            yield from _lists(part)
