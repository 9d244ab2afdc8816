"""Layers that torch lacks, each self-contained: it imports only torch and math, and its `repr` is the call that makes it."""
