"""The table of oracles. A new framework is one entry here and one worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from niudao.registry import Registry


@dataclass(frozen=True)
class Probe:
    """A tiny network whose answers are known on paper.

    Attributes:
        file: Name of the file to write; its ending says what it is.
        text: The network, its weights being constants.
        input: Name of the input.
        shape: Shape of the input; its values are 0, 1/8, 2/8, ...
        answers: Output name -> all its values, in order. They are exact in float32.
        settings: For the worker.
    """

    file: str
    text: str
    input: str
    shape: tuple[int, ...]
    answers: dict[str, tuple[float, ...]]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How an oracle is made.

    Attributes:
        name: The word users type.
        title: What people call the framework.
        python: The Python it needs, "3.7".
        pins: Exact requirements for pip; with these the framework was seen to work.
        formats: Names of the formats whose files it runs.
        proves: What it is good for, in a few words.
        worker: Module in `workers/` that runs files in it.
        megabytes: About what it takes on disk, Python's own files included.
        probe: The network that tells whether it works.
    """

    name: str
    title: str
    python: str
    pins: tuple[str, ...]
    formats: tuple[str, ...]
    proves: str
    worker: str
    megabytes: int
    probe: Probe


ORACLES: Registry[Recipe] = Registry("oracle", entry_points="niudao.oracles")


def _add(recipe: Recipe) -> Recipe:
    return ORACLES.register(recipe.name)(recipe)


_CAFFE = """name: "tiny"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 5 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 3 kernel_size: 3 pad: 1
    weight_filler { type: "constant" value: 0.25 } bias_filler { type: "constant" value: -2.5 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }
layer { name: "dense" type: "InnerProduct" bottom: "pool" top: "dense"
  inner_product_param { num_output: 2 weight_filler { type: "constant" value: 0.125 } bias_filler { type: "constant" value: 1 } } }
"""

CAFFE = _add(
    Recipe(
        name="caffe",
        title="Caffe 1.0",
        python="3.7",
        pins=("kendryte-caffe==1.0.0.20210829", "protobuf==3.20.3", "numpy==1.21.6", "opencv-python-headless==4.10.0.84"),
        formats=("caffe",),
        proves="Caffe files, by Caffe itself and by OpenCV 4.10",
        worker="caffe",
        megabytes=470,
        probe=Probe(
            "tiny.prototxt",
            _CAFFE,
            "data",
            (1, 2, 5, 4),
            # the third row of the pool is there only where the pool rounds up, as Caffe does
            {"pool": (5.9375, 6.5, 10.4375, 11.0, 6.875, 7.25) * 3, "dense": (19.0, 19.0)},
            {"outputs": ["pool", "dense"]},
        ),
    )
)

_KERAS = """{"class_name": "Sequential", "config": [
  {"class_name": "Conv2D", "config": {"name": "conv", "batch_input_shape": [null, 5, 4, 2], "dtype": "float32", "filters": 3,
    "kernel_size": [2, 2], "strides": [1, 1], "padding": "valid", "data_format": "channels_last", "activation": "relu", "use_bias": true,
    "kernel_initializer": {"class_name": "Constant", "config": {"value": 0.25}},
    "bias_initializer": {"class_name": "Constant", "config": {"value": -2.5}}}},
  {"class_name": "MaxPooling2D", "config": {"name": "pool", "pool_size": [2, 2], "strides": [2, 2], "padding": "same",
    "data_format": "channels_last"}},
  {"class_name": "Flatten", "config": {"name": "flatten", "data_format": "channels_last"}},
  {"class_name": "Dense", "config": {"name": "dense", "units": 2, "activation": "linear", "use_bias": true,
    "kernel_initializer": {"class_name": "Constant", "config": {"value": 0.125}},
    "bias_initializer": {"class_name": "Constant", "config": {"value": 1.0}}}}],
 "keras_version": "2.2.4", "backend": "tensorflow"}
"""
_KERAS_PROBE = Probe("tiny.json", _KERAS, "conv_input", (1, 5, 4, 2), {"dense": (6.4375, 6.4375)}, {})

KERAS_2 = _add(
    Recipe(
        name="keras2",
        title="Keras 2.2.4",
        python="3.7",
        pins=(
            "tensorflow==1.15.5",
            "keras==2.2.4",
            "h5py==2.10.0",
            "numpy==1.18.5",
            "protobuf==3.20.3",
            "scipy<1.8",
            "keras-applications==1.0.8",
        ),
        formats=("keras",),
        proves="Keras 2 files of stand-alone Keras (.h5)",
        worker="keras2",
        megabytes=750,
        probe=_KERAS_PROBE,
    )
)

TF_2 = _add(
    Recipe(
        name="tf2",
        title="TensorFlow 2.13",
        python="3.8",
        pins=("tensorflow-cpu==2.13.0",),
        formats=("keras",),
        proves="Keras 2 files of tf.keras (.h5, .keras)",
        worker="keras2",
        megabytes=1250,
        probe=_KERAS_PROBE,
    )
)
