"""ONNX files of every year.

scan.py    the wire format, walked within bounds: where big weights lie, so that they are mapped and never copied
checks.py  what a message claims against what it holds: tensors, names, order
read.py    file -> model
repair.py  what exporters got wrong
lift/      every operator of opset 1 to 28 said in the words of the opset in memory
infer.py   types and shapes of every value
lower.py   the way back: the oldest opset that says the same
write.py   model -> file
"""
