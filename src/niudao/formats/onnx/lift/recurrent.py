"""RNN, LSTM and GRU."""

from __future__ import annotations

import onnx_ir as ir

from niudao.formats.onnx.lift import Lift, until


@until(7, "RNN", "LSTM", "GRU")
def no_output_sequence(lift: Lift, node: ir.Node) -> None:
    """`output_sequence` said whether the first output is wanted; whether anything reads it says the same."""
    node.attributes.pop("output_sequence", None)
