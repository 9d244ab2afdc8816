"""Convert the shipped LeNet to ONNX from Python, look at the proof, then plant a fault and see it found."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx_ir as ir

import niudao as nd
from niudao.demo import data

with tempfile.TemporaryDirectory() as folder:
    target = Path(folder) / "lenet.onnx"
    report = nd.convert(data.path("lenet.h5"), target)
    print(report.to_text(width=100))

    model = nd.read(target)
    kernel = model.graph.initializers["conv2/kernel"]
    kernel.const_value = ir.tensor(kernel.const_value.numpy() * np.float32(1.01), name="conv2/kernel")
    fault = nd.compare(target, model)
    print(f"after scaling one kernel by 1.01: same = {fault.same}, first divergence at {fault.first_divergence.source_layer}")
