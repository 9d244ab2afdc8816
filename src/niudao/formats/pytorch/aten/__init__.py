"""Programs of PyTorch as models: the table of ATen operators, one file a family, and what walks it.

from niudao.formats.pytorch.aten.lowering import Lowering
from niudao.formats.pytorch.aten.table import aten

@aten("aten.relu")
def relu(c: Lowering, self: ir.Value) -> ir.Value:
    return c.op("Relu", self)
"""
