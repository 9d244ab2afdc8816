"""Runs a file in the Keras of its environment: Keras 2.2.4, tf.keras 2.x or Keras 3.

A .h5 or .keras file is loaded; a .json is a topology whose weights are what its initializers give; a .py is source that niudao
wrote, whose `load()` gives the model.
"""

from importlib import import_module
from typing import Any, Dict, List, Tuple


def keras() -> Any:
    """Stand-alone Keras where it is installed (with TensorFlow 2 it is the same as tf.keras), else tf.keras."""
    try:
        return import_module("keras")
    except ImportError:
        return import_module("tensorflow").keras


def version() -> str:
    """What runs, and on what."""
    module = keras()
    text = "keras " + str(module.__version__)
    try:
        name = module.backend.backend()
    except AttributeError:
        name = "tensorflow"
    return text + " on " + str(name) + " " + str(import_module(name).__version__)


def run(path: str, feeds: Dict[str, Any], settings: Dict[str, Any]) -> List[Tuple[str, Any]]:
    """The outputs in the model's order, each named after its layer; repeated ones get _1, _2, ... ."""
    module = keras()
    if path.endswith(".py"):
        import runpy

        model = runpy.run_path(path)["load"]()
    elif path.endswith(".json"):
        with open(path, encoding="utf-8") as file:
            model = module.models.model_from_json(file.read())
    else:
        model = module.models.load_model(path, compile=False)
    wanted = [tensor.name.split(":")[0] for tensor in model.inputs]
    missing = [name for name in wanted if name not in feeds]
    if missing:
        raise ValueError("the input " + repr(missing[0]) + " is missing; given: " + ", ".join(feeds))
    values = [feeds[name] for name in wanted]
    out = model.predict(values if len(values) > 1 else values[0], verbose=0)
    if isinstance(out, dict):
        out = list(out.values())
    elif not isinstance(out, (list, tuple)):
        out = [out]
    return list(zip(names(model), out))


def names(model: Any) -> List[str]:
    """What to call the outputs."""
    found = []  # type: List[str]
    for number, tensor in enumerate(model.outputs):
        history = getattr(tensor, "_keras_history", None)
        wish = history[0].name if history is not None else "output_" + str(number)
        name, count = wish, 0
        while name in found:
            count += 1
            name = wish + "_" + str(count)
        found.append(name)
    return found
