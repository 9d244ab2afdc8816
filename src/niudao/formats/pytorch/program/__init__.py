"""Networks of PyTorch as Programs: from .pt2 files, live modules and TorchScript."""
