"""What is written into a view of a tensor, written into the tensor itself: the inverse of each view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from niudao.formats.pytorch.program.script_values import Name, Refuse, Tensor

if TYPE_CHECKING:
    from niudao.formats.pytorch.program.script_tensors import Tape

_LIKE_VIEW = frozenset("view reshape flatten unflatten view_as reshape_as _unsafe_view squeeze unsqueeze ravel _reshape_alias".split())
_LIKE_SELF = frozenset("detach contiguous alias dropout feature_dropout alpha_dropout lift_fresh data expand_as expand".split())


def inverse(tape: Tape, base: str, made: Tensor, source: Tensor, positional: Sequence[Any]) -> Callable[[str], str]:
    """Writes a view's new content into what it is a view of; `base` is the operator that made the view."""

    def spread(new: str) -> str:
        value = Name(new)
        if base == "slice":
            return tape.note("aten.slice_scatter.default", [source, value, *positional[1:]])[0]
        if base == "select":
            return tape.note("aten.select_scatter.default", [source, value, *positional[1:]])[0]
        if base == "narrow":
            dim, start, length = positional[1:]
            return tape.note("aten.slice_scatter.default", [source, value, dim, start, start + length])[0]
        if base in ("transpose", "swapaxes", "swapdims"):
            return tape.note("aten.transpose.int", [value, *positional[1:]])[0]
        if base == "t":
            return tape.note("aten.t.default", [value])[0]
        if base == "permute":
            dims = [d % len(positional[1]) for d in positional[1]]
            return tape.note("aten.permute.default", [value, [dims.index(i) for i in range(len(dims))]])[0]
        if made.probes[0].numel() == source.probes[0].numel() and base in _LIKE_VIEW | _LIKE_SELF:
            return tape.note("aten.view_as.default", [value, source])[0]
        raise Refuse(f"something is written into what {base} gives of a tensor, which cannot be followed", base)

    return spread


def patch(tape: Tape, source: Tensor, part: Tensor, before: Sequence[Tensor], dim: Any) -> Callable[[str], str] | None:
    """Writes a part's new content into what it is a part of."""
    if not isinstance(dim, int):
        return None
    kept = source.probes[0].dim() == part.probes[0].dim()
    starts = {sum(p.probes[i].shape[dim] if kept else 1 for p in before) for i in range(2)}
    lengths = {p.shape[dim] if kept else 1 for p in part.probes}
    if len(starts) > 1 or len(lengths) > 1:
        return None
    start, length = starts.pop(), lengths.pop()

    def spread(new: str) -> str:
        if kept:
            return tape.note("aten.slice_scatter.default", [source, Name(new), dim, start, start + length])[0]
        return tape.note("aten.select_scatter.default", [source, Name(new), dim, start])[0]

    return spread
