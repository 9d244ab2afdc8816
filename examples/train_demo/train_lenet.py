"""Step 2 of 4: train the LeNet with real Keras 2.2.4 and save it as `lenet.h5`.

    python train_lenet.py      (Python 3.7, keras==2.2.4, tensorflow==1.15.5, h5py<3)

Reference: Y. LeCun, L. Bottou, Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition",
Proc. IEEE 86(11), 1998: the layer sizes of LeNet-5, with ReLU, max pooling and softmax in the place of its
scaled tanh, trained averages and radial basis functions.
"""

from __future__ import annotations

import os
import random
import time
from typing import Any

os.environ["CUDA_VISIBLE_DEVICES"] = ""
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import numpy as np
import tensorflow as tf
from augment import shifted
from keras import backend
from keras.layers import Conv2D, Dense, Flatten, MaxPooling2D
from keras.models import Sequential, load_model
from keras.optimizers import SGD
from outcome import BUILD, DEMO, note

SEED = 1998
EPOCHS = 40
BATCH = 32
RATE = 0.02


class OrderedSGD(SGD):
    """SGD whose updates wait until every gradient is there.

    In graph mode of TensorFlow 1 an update of a kernel may otherwise overtake the gradient that still has to read it, and no
    two runs are alike. (Keras's Adam races a second time, with its own step counter.)
    """

    def get_gradients(self, loss: Any, params: list[Any]) -> list[Any]:
        gradients = super().get_gradients(loss, params)
        with tf.control_dependencies(gradients):
            return [tf.identity(g) for g in gradients]


def build() -> Sequential:
    """Input (N, 28, 28, 1) in [0, 1], output probabilities (N, 10)."""
    return Sequential(
        [
            Conv2D(6, 5, padding="same", activation="relu", input_shape=(28, 28, 1), name="conv1"),
            MaxPooling2D(2, name="pool1"),
            Conv2D(16, 5, activation="relu", name="conv2"),
            MaxPooling2D(2, name="pool2"),
            Flatten(name="flatten"),
            Dense(120, activation="relu", name="fc1"),
            Dense(84, activation="relu", name="fc2"),
            Dense(10, activation="softmax", name="prob"),
        ],
        name="lenet",
    )


def main() -> None:
    random.seed(SEED)
    np.random.seed(SEED)
    tf.set_random_seed(SEED)
    # one thread: sums of floats in a fixed order
    backend.set_session(tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)))

    data = np.load(BUILD / "data.npz")
    x, y = data["train_x"], data["train_y"]
    rng = np.random.RandomState(SEED)
    model = build()
    model.compile(OrderedSGD(momentum=0.9), "sparse_categorical_crossentropy")
    started = time.time()
    for epoch in range(EPOCHS):
        backend.set_value(model.optimizer.lr, RATE * 0.5 * (1 + np.cos(np.pi * epoch / EPOCHS)))
        order = rng.permutation(len(x))
        model.fit(shifted(x[order], rng), y[order], batch_size=BATCH, shuffle=False, verbose=0)
    seconds = time.time() - started

    path = DEMO / "lenet.h5"
    model.save(str(path), include_optimizer=False)
    versions = {"keras": keras.__version__, "tensorflow": tf.__version__, "h5py": h5py.__version__, "numpy": np.__version__}
    note("lenet", load_model(str(path), compile=False), data, seconds, {"seed": SEED, "epochs": EPOCHS, "batch": BATCH}, versions)


if __name__ == "__main__":
    main()
