"""How each operator becomes layers: one file a family; `network.py` drives them, `fuse.py` and `naming.py` make the result readable."""
