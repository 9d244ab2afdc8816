"""Build the graph: walk from the outputs back to the inputs, then call every needed layer once per call of it.

Layers may be shared, networks may lie in each other and be shared too; only what the outputs need is built. The walk keeps its
own stack, so that a deep network or a hostile one cannot exhaust Python's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from niudao.errors import LimitError, NiudaoError, ReadError, Where
from niudao.formats.keras import config as description
from niudao.formats.keras.config import Inbound, Layer, Network, Ref
from niudao.formats.keras.layers import LAYERS
from niudao.formats.keras.layers.call import Call, Weight
from niudao.formats.keras.layers.core import TAKE_FLAT, settle
from niudao.formats.keras.tensor import Tensor
from niudao.ir.build import Builder

MAX_CALLS = 200_000
_INTEGERS = frozenset(
    """Embedding CategoryEncoding IntegerLookup TFOpLambda SlicingOpLambda TensorFlowOpLayer Flatten Reshape Permute RepeatVector
    Concatenate TimeDistributed Dropout ZeroPadding1D ZeroPadding2D""".split()
)
"""Classes that take integers as they are; Keras casts them to float for every other layer."""
_MASKS = frozenset(("mask", "attention_mask", "query_mask", "value_mask", "key_mask", "training"))
GARBAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, MemoryError, RecursionError)
"""What Python raises where a configuration holds something of another kind than any Keras writes."""

Key = tuple[str, int]


class Runner:
    """Calls layers.

    Args:
        b: The graph under construction.
        weights: Leaf layer -> its weights by own name.
        generation: 1, 2 or 3.
        tf_keras: Whether a Keras 2 is TensorFlow's own.
        file: For messages.
    """

    def __init__(self, b: Builder, weights: Mapping[Layer, dict[str, Weight]], generation: int, tf_keras: bool, file: str) -> None:
        self.b, self.weights, self.generation, self.tf_keras, self.file = b, dict(weights), generation, tf_keras, file
        self._shared: dict[Any, dict[str, ir.Value]] = {}
        self._used: dict[str, bool] = {}
        self._casts: dict[int, Tensor] = {}
        self._networks: dict[Any, Network] = {}
        self._calls = 0

    def notes(self) -> list[str]:
        """Stored weights that a layer was given and did not use."""
        return [f"stored but not used by its layer: {name}" for name, used in self._used.items() if not used]

    def network(self, network: Network, inputs: Sequence[Tensor]) -> list[Tensor]:
        """The outputs of a network for these inputs."""
        if len(inputs) != len(network.inputs):
            raise self._fault(network.name, f"the network {network.name!r} takes {len(network.inputs)} inputs and is given {len(inputs)}.")
        by_name = {layer.name: layer for layer in network.layers}
        done: dict[Key, tuple[Tensor, ...]] = {(ref.layer, ref.call): (t,) for ref, t in zip(network.inputs, inputs, strict=True)}
        under_way: set[Key] = set()
        stack: list[Key] = [(r.layer, r.call) for r in reversed(network.outputs)]
        while stack:
            key = stack[-1]
            if key in done:
                stack.pop()
                continue
            layer, inbound = self._lookup(by_name, key)
            missing = [k for r in inbound.refs() if (k := (r.layer, r.call)) not in done]
            if not missing:
                done[key] = self.call(layer, inbound, done)
                under_way.discard(key)
                stack.pop()
                continue
            if key in under_way:
                raise self._fault(layer.name, f"layer {layer.name!r} feeds itself.")
            under_way.add(key)
            loop = next((k for k in missing if k in under_way), None)
            if loop is not None:
                raise self._fault(loop[0], f"layer {loop[0]!r} feeds itself.")
            stack.extend(dict.fromkeys(reversed(missing)))
        return [self._pick(r, done, network.name) for r in network.outputs]

    def _lookup(self, by_name: Mapping[str, Layer], key: Key) -> tuple[Layer, Inbound]:
        name, call = key
        layer = by_name.get(name)
        if layer is None:
            raise self._fault(name, f"the network refers to a layer {name!r} that it does not hold.")
        if call < 0 or call >= len(layer.calls):
            count = f"{len(layer.calls)} calls"
            raise self._fault(name, f"the network refers to call {call} of layer {name!r}, which is not there.", got=count)
        return layer, layer.calls[call]

    def _pick(self, ref: Ref, done: Mapping[Key, tuple[Tensor, ...]], user: str) -> Tensor:
        outputs = done[ref.layer, ref.call]
        if ref.tensor >= len(outputs):
            raise self._fault(user, f"{user!r} wants output {ref.tensor} of layer {ref.layer!r}.", got=f"{len(outputs)} outputs")
        return outputs[ref.tensor]

    def call(self, layer: Layer, inbound: Inbound, done: Mapping[Key, tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """One call of a layer."""

        def filled(tree: Any) -> Any:
            if isinstance(tree, Ref):
                return self._pick(tree, done, layer.name)
            if isinstance(tree, (list, tuple)):
                return [filled(x) for x in tree]
            return {k: filled(v) for k, v in tree.items()} if isinstance(tree, dict) else tree

        args = filled(inbound.args)
        kwargs: dict[str, Any] = filled(dict(inbound.kwargs))
        tensors = list(_tensors([args, [v for k, v in kwargs.items() if k not in _MASKS]]))
        if layer.network is not None:
            return tuple(self.network(layer.network, tensors))
        plain = layer.operation or layer.class_name in ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer")
        mine = self.weights.get(layer, {})
        given = tuple(args) if plain else ()
        return self._leaf(layer.name, layer.class_name, layer.config, mine, tensors, kwargs, layer, layer.operation, given)

    def _leaf(
        self,
        name: str,
        class_name: str,
        config: Mapping[str, Any],
        weights: dict[str, Weight],
        tensors: Sequence[Tensor],
        kwargs: Mapping[str, Any],
        identity: Any,
        operation: bool = False,
        args: tuple[Any, ...] = (),
    ) -> tuple[Tensor, ...]:
        self._calls += 1
        if self._calls > MAX_CALLS:
            where = Where(file=self.file, node=name)
            raise LimitError("the network calls its layers too often.", where=where, expected=f"at most {MAX_CALLS:,} calls")
        build = (LAYERS.get(f"ops.{class_name}") if operation else None) or LAYERS.get(class_name)
        if build is None:
            raise self._fault(name, f"layer {name!r} is a {class_name}, which has no place here.")
        if not operation and class_name not in _INTEGERS:
            tensors = [self._float(t) for t in tensors]
        if class_name not in TAKE_FLAT:
            tensors = [settle(self.b, t) for t in tensors]
        shared = self._shared.setdefault(identity, {})

        def nested(inner: Mapping[str, Any], given: dict[str, Weight], *xs: Tensor, tag: str = "") -> Any:
            return self._nested(call, (identity, tag), inner, given, xs)

        call = Call(
            self.b,
            name,
            class_name,
            config,
            weights,
            self.generation,
            self.tf_keras,
            kwargs=kwargs,
            args=args,
            shared=shared,
            nested=nested,
            file=self.file,
        )
        before = self.b.layer, self.b.layer_type
        self.b.layer, self.b.layer_type = name, class_name
        try:
            made = build(call, *tensors)
        except NiudaoError:
            raise
        except GARBAGE as e:
            reason = f"{type(e).__name__}: {e}"[:160]
            raise self._fault(name, f"layer {name!r} ({class_name}) has settings or inputs that do not fit: {reason}.") from e
        finally:
            self.b.layer, self.b.layer_type = before
        for own, weight in weights.items():
            if own != "count":
                self._used[weight.name] = self._used.get(weight.name, False) or own in call.used
        outputs = tuple(made) if isinstance(made, (tuple, list)) else (made,)
        for tensor in outputs:
            if any(isinstance(d, int) and d < 0 for d in tensor.our_shape):
                raise self._fault(name, f"layer {name!r} ({class_name}) takes more from its input than there is.", got=str(tensor.shape))
        return outputs

    def _nested(self, outer: Call, identity: Any, inner: Mapping[str, Any], given: dict[str, Weight], xs: Sequence[Tensor]) -> Any:
        """A layer, or a whole network, that another layer wraps."""
        outer.used.update(k for k, w in outer.weights.items() if any(w is g for g in given.values()))
        settings = inner.get("config")
        if description.is_network(inner):
            network = self._shared_network(identity, inner)
            for leaf in network.layers:
                mine = {k.removeprefix(f"{leaf.name}/"): w for k, w in given.items() if k.startswith(f"{leaf.name}/")}
                self.weights[leaf] = mine
            made = tuple(self.network(network, xs))
        else:
            if not isinstance(settings, Mapping):
                raise self._fault(outer.name, f"layer {outer.name!r} wraps a layer without configuration.")
            name = f"{outer.name}/{settings.get('name', 'layer')}"
            made = self._leaf(name, str(inner.get("class_name")).split(">")[-1], settings, given, xs, {}, identity)
        return made[0] if len(made) == 1 else made

    def _shared_network(self, identity: Any, inner: Mapping[str, Any]) -> Network:
        if identity not in self._networks:
            self._networks[identity] = description.network(inner, self.generation, self.file)
        return self._networks[identity]

    def _float(self, t: Tensor) -> Tensor:
        if t.value.dtype is None or t.value.dtype in (ir.DataType.FLOAT, ir.DataType.BOOL, ir.DataType.STRING):
            return t
        if id(t.value) not in self._casts:
            self._casts[id(t.value)] = t.like(self.b.op("Cast", t.value, to=int(ir.DataType.FLOAT)))
        return self._casts[id(t.value)]

    def _fault(self, node: str, message: str, got: str | None = None) -> ReadError:
        return ReadError(message, where=Where(file=self.file, node=node), got=got)


def _tensors(tree: Any) -> list[Tensor]:
    if isinstance(tree, Tensor):
        return [tree]
    if isinstance(tree, (list, tuple)):
        return [t for x in tree for t in _tensors(x)]
    return [t for x in tree.values() for t in _tensors(x)] if isinstance(tree, dict) else []
