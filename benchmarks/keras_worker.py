"""Runs files in real Keras: one JSON line in {"model", "feeds", "out"}, one JSON line out {"error"} per file.

    python keras_worker.py keras      Keras 3, whatever backend it finds
    python keras_worker.py tf.keras   Keras inside TensorFlow

Feeds and outputs are .npz in the framework's own layout; outputs are named by their position. Written to run on
Python 3.7 and later, because old frameworks need old Pythons.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    import numpy as np

    if sys.argv[1] == "tf.keras":
        import tensorflow as tf

        keras, kind = tf.keras, "tf.keras of TensorFlow " + tf.__version__
    else:
        import keras

        kind = "Keras {} ({})".format(keras.__version__, keras.backend.backend())  # noqa: UP032
    answers.write(json.dumps({"version": kind}) + "\n")
    answers.flush()
    for line in sys.stdin:
        request = json.loads(line)
        error = ""
        try:
            model = keras.models.load_model(request["model"], compile=False)
            feeds = np.load(request["feeds"])
            arrays = [feeds[k] for k in feeds.files]
            names = [t.name.split(":")[0] for t in model.inputs]
            if set(names) == set(feeds.files):
                arrays = [feeds[n] for n in names]
            out = model(arrays[0] if len(arrays) == 1 else arrays, training=False)
            if isinstance(out, dict):
                out = list(out.values())
            if not isinstance(out, (list, tuple)):
                out = [out]
            np.savez(
                request["out"],
                **{f"o{i}": keras.ops.convert_to_numpy(o) if hasattr(keras, "ops") else o.numpy() for i, o in enumerate(out)},
            )
        except Exception as e:
            error = f"{type(e).__name__}: {str(e)[:300]}"
        answers.write(json.dumps({"error": error}) + "\n")
        answers.flush()


main()
