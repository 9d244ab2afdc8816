"""Caffe: prototxt and caffemodel, of every generation from 2013 to 1.0 and of common forks.

caffe.proto    what a file may hold: field names, numbers, defaults
schema.py      the same as a value
sniff.py       what a file is, by its first bytes
net.py         a network as a list of layers with blobs, of whatever generation the file was
upgrade.py     2013 (V0) and 2014 (V1) files turned into today's layers; training nets into deploy nets
opening.py     which file is which, its partner, mean file and labels beside it
hdf5.py        weights in HDF5           compressed.py  weights as "Deep Compression" stored them
read.py        layers -> model           layers/  one function a layer type
write.py       model -> layers -> files  emit/    one function an operator
native.py      run a file in real Caffe, in an environment of its own
"""
