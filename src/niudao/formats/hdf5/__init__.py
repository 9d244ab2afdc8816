"""Strangers' HDF5 files, for every format that lies in one: found without following a link, measured before a byte of data is read.

survey.py   what a file holds, and arrays where they lie in it
heaps.py    variable-length texts, checked before the library reads them
chunks.py   compressed arrays, measured before they are unpacked
"""
