"""The lazily permuted tensor: a Keras value whose axes may lie in another order in ours.

Keras images are channels-last, ours are channels-first. Instead of a Transpose around every convolution, each value carries the
permutation between the two orders; a node is emitted only where a layer needs the source's own order.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from niudao.ir.build import Builder
from niudao.ir.card import invert

Dims = tuple[int | str | None, ...]


@dataclass(frozen=True)
class Tensor:
    """A Keras value.

    Attributes:
        value: Our value.
        perm: `ours = source.transpose(perm)`: our axis i is the source's axis `perm[i]`.
        masked: Whether a Masking or Embedding layer's mask reaches this value.
    """

    value: ir.Value
    perm: tuple[int, ...]
    masked: bool = False

    @classmethod
    def plain(cls, value: ir.Value) -> Tensor:
        """A value whose axes are the source's own."""
        return cls(value, tuple(range(rank(value))))

    @property
    def rank(self) -> int:
        return len(self.perm)

    @property
    def shape(self) -> Dims:
        """Dimensions in the source's order."""
        ours = self.our_shape
        return tuple(ours[i] for i in invert(self.perm))

    @property
    def our_shape(self) -> Dims:
        """Dimensions in our order: a number, a symbol, or None."""
        return tuple(d if isinstance(d, int) else d.value for d in self.value.shape or ())

    def axis(self, source_axis: int) -> int:
        """Our axis for one of the source's (negative ones count from the end).

        Raises:
            IndexError: The tensor has no such axis.
        """
        if not -self.rank <= source_axis < self.rank:
            raise IndexError(f"axis {source_axis} of a tensor of {self.rank} axes")
        return self.perm.index(source_axis % self.rank)

    def like(self, value: ir.Value) -> Tensor:
        """Another value with the same axes."""
        return Tensor(value, self.perm, self.masked)

    def order(self, b: Builder, perm: tuple[int, ...]) -> Tensor:
        """The same tensor with our axes in another order; a Transpose only if they are not already so."""
        if perm == self.perm:
            return self
        move = [self.perm.index(p) for p in perm]
        return Tensor(b.op("Transpose", self.value, perm=move), perm, self.masked)

    def source_order(self, b: Builder) -> Tensor:
        """The same tensor with the source's own axes."""
        return self.order(b, tuple(range(self.rank)))

    def channels_first(self, b: Builder, channel_axis: int = -1) -> Tensor:
        """The same tensor as batch, channels, then the rest in order: what Conv and pooling want."""
        channel = channel_axis % self.rank
        rest = [i for i in range(1, self.rank) if i != channel]
        return self.order(b, (0, channel, *rest))


def rank(value: ir.Value) -> int:
    """Number of axes."""
    return len(value.shape) if value.shape is not None else 0
