"""Reports to draw: one as a comparison tells it, and random ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import strategies as st

from niudao.report import Block, Column, Facts, Picture, Plot, Report, Series, Table, Text, Verdict

HOSTILE = "conv<script>alert(1)</script>\x1b[31m\u202egpj.exe\udcff|`*\"'&\r\nwrote x"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000a49444154789c63000100000500010d0a2db40000000049454e44ae426082"
)


@dataclass(frozen=True, kw_only=True)
class Sample(Report):
    """Any blocks, and a field of any kind."""

    schema: ClassVar[str] = "niudao.sample/1"
    story: tuple[Block, ...] = ()
    extra: Any = field(default=None)
    name: str = "sample"

    def title(self) -> str:
        return self.name

    def blocks(self) -> list[Block]:
        return list(self.story)


def comparison(rows: int = 60, name: str = "conv1") -> Sample:
    """A failed comparison of two networks of `rows` layers, the first one called `name`."""
    names = [name, *(f"stage{i // 12}/block{i // 4 % 3}/conv{i}" for i in range(1, rows))]
    errors = [1e-7 * (i + 1) ** 0.5 if i < rows * 2 // 3 else 0.02 for i in range(rows)]
    x = tuple(range(rows))
    return Sample(
        ok=False,
        name="a.h5 and b.onnx",
        notes=("Dropout does nothing in inference.",),
        story=(
            Facts((("source", "a.h5"), ("target", "b.onnx"))),
            Verdict(False, "the networks differ in 1 of 2 outputs", f"first layer that diverges: {name}"),
            Table(
                (Column("output"), Column("max |diff|", "right"), Column("verdict")),
                (("prob", 1.2e-7, "same"), (name, 0.83, "DIFFERENT"), ("aux", float("nan"), None)),
                title="Outputs",
                marks=(1,),
            ),
            Plot(
                "Error by depth", (Series("error", x, errors, names),), "layer", "error", True, (1e-4, "limit"), (x, [2e-7] * rows, "noise")
            ),
            Table(
                (Column("layer"), Column("MACs", "right", bar=True, share=True), Column("size", "right", bar=True, unit="B")),
                tuple((n, 1000 * i * i, 10**i % 10**9) for i, n in enumerate(names)),
                title="Layers",
                top=6,
            ),
            Text("the card misses its channel order", level="warning"),
            Picture(PNG, "a dot"),
        ),
    )


words = st.text(st.characters(exclude_categories=()), max_size=24) | st.just(HOSTILE) | st.sampled_from(["a", "conv1", "层", "e\u0301", ""])
numbers = st.floats() | st.integers(-(10**400), 10**400) | st.just(10**5000) | st.integers(-1000, 10**7) | st.floats(1e-9, 1e3)
small = st.lists(numbers, max_size=9)
cells = st.none() | words | numbers | st.booleans()
columns = st.builds(Column, words, st.sampled_from(["left", "right"]), st.booleans(), words, st.booleans())
tables = st.lists(columns, min_size=1, max_size=4).flatmap(
    lambda cs: st.builds(
        Table,
        st.just(tuple(cs)),
        st.lists(st.tuples(*[cells for _ in cs]), max_size=30).map(tuple),
        words,
        words,
        st.none() | st.integers(0, 12),
        st.lists(st.integers(0, 40), max_size=3).map(tuple),
    )
)
series = st.builds(Series, words, small, small, st.lists(words, max_size=9), st.sampled_from(["dots", "line", "bars"]))
plots = st.builds(
    Plot,
    words,
    st.lists(series, max_size=6).map(tuple),
    words,
    words,
    st.booleans(),
    st.none() | st.tuples(numbers, words),
    st.none() | st.tuples(small, small, words),
)
blocks = st.one_of(
    st.builds(Verdict, st.none() | st.booleans(), words, words),
    st.builds(Text, words, st.sampled_from(["plain", "note", "warning"]), words),
    st.builds(Facts, st.lists(st.tuples(words, words), max_size=5).map(tuple), words),
    tables,
    plots,
    st.builds(Picture, st.binary(max_size=20) | st.just(PNG) | words | st.just("<svg viewBox='0 0 1 1'/>"), words, st.integers(-5, 900)),
)
reports = st.builds(
    Sample,
    ok=st.booleans(),
    notes=st.lists(words, max_size=2).map(tuple),
    story=st.lists(blocks, max_size=5).map(tuple),
    name=words,
    extra=cells,
)
