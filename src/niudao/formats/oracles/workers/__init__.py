"""What runs on the other side, in a framework's own Python.

Each file is run by path and knows nothing of niudao. Python 3.6 and numpy must be enough to load it, hence no annotations from the
future here. `launch.py` sets the limits, hands the arrays over and takes the answers; the others hold `version()` and
`run(path, feeds, settings)`, which returns pairs of a name and an array in the network's order.
"""
