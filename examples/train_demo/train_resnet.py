"""Step 3 of 4: train a small ResNet with real Keras 3 and save it as `resnet.keras`.

    python train_resnet.py     (Python 3.11, keras==3.15.1, tensorflow-cpu==2.21.0)

Reference: K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016, section 4.2:
the network for small images, with one block per stage (n = 1, 8 layers) and projection shortcuts where the size changes.
"""

from __future__ import annotations

import os
import time

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import numpy as np
import tensorflow as tf
from augment import shifted
from keras import layers
from outcome import BUILD, DEMO, note

SEED = 2016
EPOCHS = 24
BATCH = 32
FILTERS = (16, 32, 64)


def _norm(name: str) -> keras.Layer:
    # 40 steps an epoch: the default momentum of 0.99 would average over two epochs
    return layers.BatchNormalization(momentum=0.9, name=name)


def _block(x: keras.KerasTensor, filters: int, stage: str, stride: int) -> keras.KerasTensor:
    shortcut = x
    y = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=f"{stage}_conv1")(x)
    y = layers.ReLU(name=f"{stage}_relu1")(_norm(f"{stage}_bn1")(y))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=f"{stage}_conv2")(y)
    y = _norm(f"{stage}_bn2")(y)
    if stride > 1:
        shortcut = layers.Conv2D(filters, 1, strides=stride, use_bias=False, name=f"{stage}_project")(x)
        shortcut = _norm(f"{stage}_project_bn")(shortcut)
    y = layers.Add(name=f"{stage}_add")([y, shortcut])
    return layers.ReLU(name=f"{stage}_relu2")(y)


def build() -> keras.Model:
    """Input (N, 28, 28, 1) in [0, 1], output probabilities (N, 10)."""
    image = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(FILTERS[0], 3, padding="same", use_bias=False, name="conv1")(image)
    x = layers.ReLU(name="relu1")(_norm("bn1")(x))
    for i, filters in enumerate(FILTERS):
        x = _block(x, filters, f"stage{i + 1}", stride=1 if i == 0 else 2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    prob = layers.Dense(10, activation="softmax", name="prob")(x)
    return keras.Model(image, prob, name="resnet")


def main() -> None:
    keras.utils.set_random_seed(SEED)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()

    data = np.load(BUILD / "data.npz")
    x, y = data["train_x"], data["train_y"]
    rng = np.random.RandomState(SEED)
    model = build()
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy")
    started = time.time()
    for epoch in range(EPOCHS):
        model.optimizer.learning_rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS))
        order = rng.permutation(len(x))
        model.fit(shifted(x[order], rng), y[order], batch_size=BATCH, shuffle=False, verbose=0)
    seconds = time.time() - started

    bare = build()  # never compiled, so that the file holds no optimizer
    bare.set_weights(model.get_weights())
    path = DEMO / "resnet.keras"
    bare.save(path)
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__, "h5py": h5py.__version__, "numpy": np.__version__}
    note("resnet", keras.models.load_model(path, compile=False), data, seconds, {"seed": SEED, "epochs": EPOCHS, "batch": BATCH}, versions)


if __name__ == "__main__":
    main()
