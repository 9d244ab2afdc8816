"""What can be asked of any model and done to any model. A model is an `onnx_ir.Model`."""

OPSET = 27
"""The one opset of every model in memory: the newest that ONNX Runtime 1.32 runs whole. Files are lifted to it, never lowered."""

IR_VERSION = 10
"""The ONNX IR version of models in memory; old enough for every runtime that knows the opsets we write."""
