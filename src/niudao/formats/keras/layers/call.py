"""One call of one layer: its configuration, its weights, the graph under construction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import InvalidModel, Refusal, Unsupported, Where
from niudao.formats.keras.layers.settings import HIGHEST, REQUIRED, finite, shown, whole
from niudao.formats.keras.tensor import Tensor
from niudao.ir.build import Builder

Array = np.ndarray[Any, Any]

IGNORED = frozenset(
    """
    name trainable dtype batch_input_shape batch_shape input_shape input_dim input_length input_dtype build_config ragged sparse
    kernel_initializer bias_initializer kernel_regularizer bias_regularizer activity_regularizer kernel_constraint bias_constraint
    depthwise_initializer depthwise_regularizer depthwise_constraint pointwise_initializer pointwise_regularizer
    pointwise_constraint beta_initializer gamma_initializer moving_mean_initializer moving_variance_initializer beta_regularizer
    gamma_regularizer beta_constraint gamma_constraint recurrent_initializer recurrent_regularizer recurrent_constraint
    embeddings_initializer embeddings_regularizer embeddings_constraint alpha_initializer alpha_regularizer alpha_constraint
    unit_forget_bias momentum implementation seed noise_shape dropout recurrent_dropout unroll init W_regularizer b_regularizer
    W_constraint b_constraint synchronized renorm virtual_batch_size fused adjustment registered_name module shared_object_id
    autocast quantization_config supports_masking lora_rank lora_alpha optional weights
    """.split()
)
"""Keys that say how a layer was trained or made, not what it computes."""


@dataclass
class Weight:
    """One stored array of a layer, not yet loaded.

    Attributes:
        name: As the source calls it, layer name in front ("conv1/kernel").
        shape: Its shape in the file.
        load: Reads it from the file, float32 in the file's own shape.
        mapped: The same as a tensor that lies in the file as it is, if it does; used where no transposition is needed.
    """

    name: str
    shape: tuple[int, ...]
    load: Callable[[], Array]
    mapped: Callable[[], ir.TensorProtocol] | None = None


@dataclass
class Call:
    """What a layer's function is given.

    Attributes:
        b: The graph under construction; `b.layer` is already set.
        name: The layer's name; `class_name` its kind.
        config: Its configuration.
        weights: Weight's own name without the layer ("kernel", "bias", "gamma", "forward/kernel", ...) -> weight, in stored order.
        generation: 1, 2 or 3: stand-alone Keras 1, any Keras 2, Keras 3.
        tf_keras: Whether a Keras 2 is TensorFlow's own (tf.keras 2.x), whose defaults differ from stand-alone Keras 2.
        kwargs: Keyword arguments of the call itself.
        args: Its positional arguments as they were written, tensors in place of references; what operations need, since
            numbers and slices may stand among them.
        shared: Initializers already made for this layer by an earlier call, by key: shared layers share them.
        nested: Builds a layer that this one wraps: `nested(layer_config, weights, *tensors)`.
        file: For messages.
    """

    b: Builder
    name: str
    class_name: str
    config: Mapping[str, Any]
    weights: dict[str, Weight]
    generation: int
    tf_keras: bool
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    args: tuple[Any, ...] = ()
    shared: dict[str, ir.Value] = field(default_factory=dict)
    nested: Callable[..., Any] | None = None
    file: str = ""
    used: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)

    def get(self, *keys: str, default: Any = None) -> Any:
        """The first of these configuration keys that is there (a layer was called `nb_filter`, then `filters`)."""
        self.read.update(keys)
        for key in keys:
            if key in self.config:
                return self.config[key]
        return default

    def known(self, *harmless: str) -> None:
        """Refuse configuration keys that nobody read: what we do not know may change the meaning."""
        rest = [k for k in self.config if k not in self.read and k not in IGNORED and k not in harmless and not k.endswith("_initializer")]
        rest = [k for k in rest if self.config[k] not in (None, False)]
        if rest:
            raise self.refuse(f"its setting {rest[0][:80]}={shown(self.config[rest[0]])} is unknown", attribute=rest[0][:80])

    def bad(self, key: str, expected: str) -> InvalidModel:
        """The error for a setting that holds what no Keras writes there."""
        return InvalidModel(
            f"layer {self.name!r} ({self.class_name}) has an unusable {key}.",
            where=self.where(key),
            expected=expected,
            got=shown(self.config[key]) if key in self.config else "nothing",
        )

    def given(self, keys: Sequence[str], default: Any = REQUIRED) -> tuple[str, Any]:
        """The first of these keys that is there, and its value; the default's key is the first one's.

        Raises:
            InvalidModel: None is there, and there is no default.
        """
        self.read.update(keys)
        for key in keys:
            if key in self.config:
                return key, self.config[key]
        if default is REQUIRED:
            raise self.bad(keys[0], "a value")
        return keys[0], default

    def integer(self, *keys: str, default: Any = REQUIRED, low: int = 1, high: int = HIGHEST) -> int:
        """A whole number in [low, high]."""
        key, value = self.given(keys, default)
        number = whole(value, low, high)
        if number is None:
            raise self.bad(key, f"a whole number, {low} or more")
        return number

    def ints(self, *keys: str, n: int, default: Any = REQUIRED, low: int = 1) -> list[int]:
        """n whole numbers, or one for all of them."""
        key, value = self.given(keys, default)
        return self.whole_list(key, value, n, low)

    def whole_list(self, key: str, value: Any, n: int | None, low: int, high: int = HIGHEST) -> list[int]:
        """A value already read as n whole numbers (one number: n times that); any count where n is None."""
        items = value if isinstance(value, (list, tuple)) else [value] * (n or 1)
        found = [i for i in (whole(item, low, high) for item in items) if i is not None]
        if len(found) != len(items) or (n is not None and len(found) != n):
            count = "a list of whole numbers" if n is None else "a whole number" if n == 1 else f"{n} whole numbers"
            raise self.bad(key, f"{count}, {low} or more")
        return found

    def number(self, *keys: str, default: Any = REQUIRED) -> float:
        """A finite number."""
        key, value = self.given(keys, default)
        number = finite(value)
        if number is None:
            raise self.bad(key, "a finite number")
        return number

    def flag(self, *keys: str, default: Any = REQUIRED) -> bool:
        """True or false; null is false, as in Python."""
        key, value = self.given(keys, default)
        if value is not None and not isinstance(value, bool) and value not in (0, 1):
            raise self.bad(key, "true or false")
        return bool(value)

    def choice(self, *keys: str, options: Sequence[str | None], default: Any = REQUIRED) -> str | None:
        """One of a few words, in small letters."""
        key, value = self.given(keys, default)
        word = value.lower() if isinstance(value, str) else value
        if not (word is None or isinstance(word, str)) or word not in options:
            raise self.bad(key, ", ".join(o for o in options if o is not None))
        return word

    def axis(self, *keys: str, rank: int, default: Any = -1) -> int:
        """One axis of a tensor of this rank, counted from the front."""
        axes = self.axes(*keys, rank=rank, default=default)
        if len(axes) != 1:
            raise self.bad(keys[0], "one axis")
        return axes[0]

    def axes(self, *keys: str, rank: int, default: Any = -1) -> list[int]:
        """One axis or several of a tensor of this rank, counted from the front, in the order of the file."""
        key, value = self.given(keys, default)
        found = [a % rank for a in self.whole_list(key, value, None, -rank, rank - 1)] if rank else []
        if not found or len(set(found)) != len(found):
            raise self.bad(key, f"different axes of an input of {rank} axes")
        return found

    def refuse(self, reason: str, *, attribute: str | None = None, rewrite: str | None = None) -> Unsupported:
        """The error that names this layer."""
        return Unsupported(
            "niudao's Keras reader", [Refusal(self.name, self.class_name, reason, attribute, rewrite=rewrite)], where=self.where()
        )

    def where(self, attribute: str | None = None) -> Where:
        return Where(file=self.file or None, node=self.name, attribute=attribute)

    def has(self, key: str) -> bool:
        return key in self.weights

    def weight(
        self, key: str, shape: Sequence[int] | None = None, change: Callable[[Array], Array] | None = None, tag: str = ""
    ) -> ir.Value:
        """An initializer from a stored array, loaded when it is needed.

        Args:
            key: The weight's own name.
            shape: The shape that it must have in the file; None to take it as it is.
            change: Turns the file's array into ours (a transposition); shape and content stay lazy.
            tag: Distinguishes several initializers made of one array.

        Raises:
            InvalidModel: It is missing or has another shape.
        """
        stored = self.stored(key, shape)
        label = f"{key}#{tag}" if tag else key
        if label not in self.shared:
            name = f"{stored.name}_{tag}" if tag else stored.name
            if change is None:
                tensor = stored.mapped() if stored.mapped is not None else None
                self.shared[label] = self.b.weight(tensor, name) if tensor is not None else self.b.lazy(stored.load, stored.shape, name)
            else:
                # a view of zeros of the right shape costs nothing and tells the shape after the change
                shape_after = change(np.broadcast_to(np.float32(0), stored.shape)).shape
                self.shared[label] = self.b.lazy(lambda: change(stored.load()), shape_after, name)
        return self.shared[label]

    def stored(self, key: str, shape: Sequence[int] | None = None) -> Weight:
        """A stored array, its shape checked, marked as used."""
        if key not in self.weights:
            raise InvalidModel(
                f"layer {self.name!r} ({self.class_name}) has no stored {key}.",
                where=self.where(key),
                got=", ".join(self.weights) or "no weights",
            )
        stored = self.weights[key]
        self.used.add(key)
        if shape is not None and tuple(shape) != stored.shape:
            raise InvalidModel(
                f"the {key} of layer {self.name!r} ({self.class_name}) has another shape than the layer.",
                where=self.where(key),
                expected=str(tuple(shape)),
                got=str(stored.shape),
            )
        return stored

    def array(self, key: str, shape: Sequence[int] | None = None) -> Array:
        """A stored array, loaded now; for small ones that are computed with."""
        return self.stored(key, shape).load()

    def channel_axis(self, rank: int) -> int:
        """The source's channel axis by `data_format` (Keras 1: `dim_ordering`), for a tensor of this rank."""
        options = ("channels_first", "channels_last", "th", "tf", "default", None)
        layout = self.choice("data_format", "dim_ordering", options=options, default=None)
        return 1 if layout in ("channels_first", "th") else rank - 1

    def activate(self, x: Tensor, key: str = "activation") -> Tensor:
        """Apply the activation that the configuration names under `key`."""
        from niudao.formats.keras.layers.activations import activate

        return activate(self, x, self.get(key))
