"""Which calls an output depends on; checks and bookkeeping of training fall away by themselves."""

from __future__ import annotations

from niudao.formats.pytorch.aten.mutation import bases
from niudao.formats.pytorch.aten.table import in_place
from niudao.formats.pytorch.program.program import Program, refs


def living(program: Program) -> set[int]:
    """Places of the calls that the outputs need.

    A call that writes into its argument is needed where anything that shares memory with that argument is.
    """
    base = bases(program)
    wanted = {name for _, value in program.outputs for name in refs(value)}
    shared = {base.get(name, name) for name in wanted}
    live: set[int] = set()
    for i in range(len(program.calls) - 1, -1, -1):
        call = program.calls[i]
        needed = any(name in wanted for name in call.outputs)
        if not needed and in_place(call.target):
            needed = any(base.get(name, name) in shared for name in refs(call.args[:1] or call.kwargs)[:1])
        if needed:
            live.add(i)
            uses = (*refs(call.args), *refs(call.kwargs))
            wanted.update(uses)
            shared.update(base.get(name, name) for name in uses)
    return live
