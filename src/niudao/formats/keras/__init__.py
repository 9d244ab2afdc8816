"""Keras: HDF5 files of Keras 1, 2 and tf.keras, JSON with HDF5 weights, and the archives of Keras 3."""
