"""Operators that write into their argument: what shares memory with it is read anew.

A graph of torch.export or TorchScript may hold `y = x[:, 1:]; y.add_(1)`, after which x is another tensor too. ONNX's values never
change, so the changed part is put back into what it was cut from, and other parts of that are cut again. Where it depends on
strides whether memory is shared, the write is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.table import find, in_place, split
from niudao.formats.pytorch.program.program import Call, Program, refs

_LAYOUTS = frozenset("view unflatten view_as unsqueeze squeeze _unsafe_view _reshape_alias alias detach lift_fresh".split())
"""Always the same memory, in the same order."""
_UNLESS_MOVED = frozenset("reshape flatten reshape_as contiguous".split())
"""The same memory where it lies in order; a copy else."""
_UNLESS_CHANGED = frozenset("to dropout feature_dropout alpha_dropout feature_alpha_dropout type_as float double half bfloat16 cpu".split())
"""The tensor itself where there is nothing to do."""
_ORDERS = frozenset("permute transpose t swapaxes swapdims numpy_T".split())
_CUTS = {"select": "aten.select_scatter", "slice": "aten.slice_scatter"}
_LISTS = {"split": 2, "split_with_sizes": 2, "chunk": 2, "unbind": 1}
"""Operators that give parts, and the place of their argument `dim`."""
_OTHERS = frozenset("narrow expand expand_as broadcast_to tensor_split diagonal unfold movedim as_strided".split())
VIEWS = _LAYOUTS | _UNLESS_MOVED | _UNLESS_CHANGED | _ORDERS | set(_CUTS) | set(_LISTS) | _OTHERS
MOST = 2000
"""Views of one tensor, some of which are written into and others read."""


def _name(call: Call) -> str:
    return split(call.target)[0].removeprefix("aten.")


def _source(call: Call) -> str | None:
    """The tensor that a call looks into or writes into: its first argument."""
    return next(iter(refs(call.args[:1] or call.kwargs)), None)


def bases(program: Program) -> dict[str, str]:
    """Name of a value -> name of the value whose memory it may share."""
    found: dict[str, str] = {}
    for call in program.calls:
        source = _source(call)
        if source is not None and (_name(call) in VIEWS or call.target in ("getitem", "identity") or in_place(call.target)):
            found.update(dict.fromkeys(call.outputs, found.get(source, source)))
    return found


class Views:
    """Who shares memory with whom in a program.

    Args:
        program: The program.
        get: Gives the value that a name stands for now.
        again: Makes a call anew, with what its arguments stand for now.
    """

    def __init__(self, program: Program, get: Callable[[str], Any], again: Callable[[Call], Any]) -> None:
        self._get, self._again = get, again
        self._base = bases(program)
        self._twins: dict[str, str] = {}
        self._makers: dict[str, Call] = {}
        self._last: dict[str, int] = {}
        self._groups: dict[str, dict[str, int]] = {}
        for i, call in enumerate(program.calls):
            source = _source(call)
            if source is not None and in_place(call.target):  # y = x.relu_() is x itself
                self._twins.update(dict.fromkeys(call.outputs, self._twins.get(source, source)))
            elif source is not None:
                self._makers.update(dict.fromkeys((n for n in call.outputs if n in self._base), call))
            self._last.update(dict.fromkeys((*refs(call.args), *refs(call.kwargs)), i))
            for name in call.outputs:
                if name in self._base:
                    self._groups.setdefault(self._base[name], {})[name] = i
        self._last.update({name: len(program.calls) for _, value in program.outputs for name in refs(value)})

    def _itself(self, name: str) -> str:
        return self._twins.get(name, name)

    def write(self, place: int, name: str, result: ir.Value, values: dict[str, Any], c: Lowering) -> None:
        """Let `name`, and all that shares memory with it, stand for what the call at `place` left in it."""
        itself, base = self._itself(name), self._base.get(name, name)
        values[itself] = values[name] = result
        group = self._groups.get(base, {})
        if len(group) > MOST:
            c.refuse(f"it writes into one of {len(group):,} parts of {base!r}")
        known = [n for n, made in group.items() if made < place and n in values]
        for other in known:
            if self._itself(other) == itself:
                values[other] = result
        # a name that is read later, or that something is cut from later
        alive = [n for n in (base, *known) if self._last.get(n, -1) > place and self._itself(n) != itself]
        if not alive:
            return
        path = {itself}
        while itself in self._makers:
            call = self._makers[itself]
            source = _source(call)
            if source is None or self._copied(call, values):
                break
            whole = self._put_back(call, self._get(source), values[itself], name, c)
            itself = self._itself(source)
            path.add(itself)
            values[source] = values[itself] = whole
        for other in known:
            own = self._itself(other)
            if own in path:
                values[other] = values[own]
            elif own != other:
                values[other] = self._get(own)
            elif not self._copied(self._makers[other], values):
                self._settled(self._makers[other], name, c)
                values[other] = self._again(self._makers[other])

    def _copied(self, call: Call, values: dict[str, Any]) -> bool:
        """Whether a change of type or place had something to do."""
        if _name(call) not in _UNLESS_CHANGED:
            return False
        before, after = values.get(_source(call) or ""), values.get(call.outputs[0])
        same = isinstance(before, ir.Value) and isinstance(after, ir.Value) and before.dtype == after.dtype
        return not same or any(held is True for held in (*call.args[1:], *call.kwargs.values()) if "dropout" not in call.target)

    def _settled(self, call: Call, name: str, c: Lowering) -> None:
        """Refuse where nobody can tell from the graph whether a view shares memory."""
        kind, source = _name(call), _source(call)
        if kind in _UNLESS_MOVED:
            while source in self._makers:
                made = self._makers[source]
                if _name(made) in _ORDERS or _name(made) in _CUTS or _name(made) in _OTHERS:
                    c.refuse(f"it writes into {name!r}, and whether {kind} copied it depends on strides", rewrite="clone it first")
                source = _source(made)
        if kind in _OTHERS:
            c.refuse(f"it writes into {name!r}, which shares memory through {kind}", rewrite="clone it first")

    def _put_back(self, call: Call, whole: Any, part: Any, name: str, c: Lowering) -> Any:
        """What a call looked into, after what it gave was changed to `part`."""
        self._settled(call, name, c)
        kind = _name(call)
        if call.target == "getitem":
            return [part if i == call.args[1] else item for i, item in enumerate(whole)]
        if call.target == "identity" or kind in _UNLESS_CHANGED:
            return c.cast(part, c.dtype(whole))
        if kind in _LAYOUTS or kind in _UNLESS_MOVED:
            return c.reshape(part, c.shape(whole))
        if kind in _CUTS:
            lower = find(_CUTS[kind])
            if lower is not None:
                return lower(c, whole, part, *call.args[1:], **{k: v for k, v in call.kwargs.items() if k != "self"})
        if kind in _ORDERS:
            order = [int(p) for p in self._order(call, c.rank(whole), c)]
            return c.op("Transpose", part, perm=[order.index(i) for i in range(len(order))])
        if kind in _LISTS:
            dim = call.args[_LISTS[kind]] if len(call.args) > _LISTS[kind] else call.kwargs.get("dim", 0)
            axis = c.axis(whole, dim)
            parts = [c.op("Unsqueeze", p, c.const([axis])) for p in part] if kind == "unbind" else part
            return c.shaped(c.op("Concat", *parts, axis=axis), c.shape(whole))
        return c.refuse(f"it writes into {name!r}, which shares memory through {kind}", rewrite="clone it first")

    def _order(self, call: Call, rank: int, c: Lowering) -> list[int]:
        """The permutation of a call that reorders axes."""
        kind = _name(call)
        if kind == "permute":
            dims = call.args[1] if len(call.args) > 1 else call.kwargs["dims"]
            return [c.axis(rank, d) for d in dims] if isinstance(dims, list) else []
        order = list(range(rank))
        if kind in ("t", "numpy_T"):
            return order[::-1]
        held = [*call.args[1:], *(v for k, v in call.kwargs.items() if k != "self")]
        a, b = (c.axis(rank, d) for d in held)
        order[a], order[b] = order[b], order[a]
        return order
