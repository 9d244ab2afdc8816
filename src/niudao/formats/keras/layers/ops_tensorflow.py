"""TensorFlow functions that tf.keras 2 recorded between layers (TFOpLambda), said as operations of Keras 3."""

from __future__ import annotations

from niudao.formats.keras.layers import reads
from niudao.formats.keras.layers.activations import SIMPLE, activate
from niudao.formats.keras.layers.call import Call
from niudao.formats.keras.tensor import Tensor

TF = {
    "math.add": "Add",
    "__operators__.add": "Add",
    "math.subtract": "Subtract",
    "math.multiply": "Multiply",
    "math.truediv": "Divide",
    "math.divide": "Divide",
    "math.pow": "Power",
    "math.maximum": "Maximum",
    "math.minimum": "Minimum",
    "math.reduce_mean": "Mean",
    "math.reduce_sum": "Sum",
    "math.reduce_max": "Max",
    "math.reduce_min": "Min",
    "math.exp": "Exp",
    "math.log": "Log",
    "math.sqrt": "Sqrt",
    "math.abs": "Abs",
    "math.negative": "Negative",
    "math.erf": "Erf",
    "math.square": "Square",
    "math.rsqrt": "Rsqrt",
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "math.sigmoid": "sigmoid",
    "math.tanh": "tanh",
    "nn.swish": "swish",
    "nn.silu": "swish",
    "nn.softplus": "softplus",
    "math.softplus": "softplus",
    "nn.softmax": "Softmax",
    "reshape": "Reshape",
    "transpose": "Transpose",
    "concat": "Concatenate",
    "expand_dims": "ExpandDims",
    "squeeze": "Squeeze",
    "cast": "Cast",
    "clip_by_value": "Clip",
    "linalg.matmul": "Matmul",
    "identity": "Identity",
    "stop_gradient": "Identity",
}


@reads("TFOpLambda")
def tf_operation(call: Call, *xs: Tensor) -> Tensor:
    """A TensorFlow function that tf.keras 2 recorded between layers; only its name and numbers are read."""
    from niudao.formats.keras.layers import LAYERS

    name = str(call.get("function"))
    kind = TF.get(name)
    if kind is None:
        raise call.refuse(
            f"the TensorFlow function {name!r} is not read", attribute="function", rewrite="use the Keras layer that does the same"
        )
    if kind in SIMPLE:
        return activate(call, xs[0], kind)
    settings = {k: v for k, v in call.kwargs.items() if k != "name"}
    inner = Call(call.b, call.name, f"ops.{kind}", {}, {}, call.generation, call.tf_keras, settings, call.args, file=call.file)
    result: Tensor = LAYERS[f"ops.{kind}"](inner, *xs)
    return result
