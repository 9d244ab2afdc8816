"""The three generations of Keras's configuration as one small description: layers, and their calls.

Keras 1 and 2 write `inbound_nodes` as lists `[layer, node, tensor, kwargs]`, Keras 3 as calls with `__keras_tensor__`
arguments; a Sequential writes none. All become `Network`s of `Layer`s with `Inbound` calls whose arguments hold `Ref`s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from niudao.errors import LimitError, ReadError, Where

NETWORKS = frozenset(("Sequential", "Functional", "Model", "Graph", "Container"))
MAX_LAYERS, MAX_FEEDS = 20_000, 4096
"""Calls of layers in a network, those inside networks that it calls counted at every call; and tensors that one call takes."""


@dataclass(frozen=True)
class Ref:
    """One output of one call of a layer."""

    layer: str
    call: int
    tensor: int


@dataclass(frozen=True)
class Inbound:
    """One call of a layer: arguments as the file gives them, `Ref`s in the place of tensors."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    direct: bool = True
    """Whether the file lists this call; a Sequential lists none."""

    def refs(self) -> Iterator[Ref]:
        yield from refs_of([*self.args, *self.kwargs.values()])


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer: a leaf with a class of its own, or a whole network."""

    name: str
    class_name: str
    config: Mapping[str, Any]
    calls: tuple[Inbound, ...]
    network: Network | None = None
    operation: bool = False


@dataclass(frozen=True, eq=False)
class Network:
    """Layers, and which of their outputs go in and out. `channels_first` is a guess for inputs that no layer of the network claims."""

    name: str
    class_name: str
    layers: tuple[Layer, ...]
    inputs: tuple[Ref, ...]
    outputs: tuple[Ref, ...]

    def find(self, name: str) -> Layer | None:
        for layer in self.layers:
            if layer.name == name:
                return layer
        return None


def refs_of(tree: Any) -> Iterator[Ref]:
    """Every `Ref` in nested lists and mappings, in order."""
    if isinstance(tree, Ref):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for item in tree:
            yield from refs_of(item)
    elif isinstance(tree, Mapping):
        for item in tree.values():
            yield from refs_of(item)


def is_network(entry: Mapping[str, Any]) -> bool:
    """Whether a configuration is a network rather than a layer (a subclassed model of another name counts if it lists its layers)."""
    config = entry.get("config")
    if str(entry.get("class_name")) in NETWORKS:
        return True
    return isinstance(config, Mapping) and isinstance(config.get("layers"), list) and "output_layers" in config


def network(entry: Mapping[str, Any], generation: int, file: str) -> Network:
    """The description of a network.

    Args:
        entry: `{"class_name": ..., "config": ...}`.
        generation: 1, 2 or 3.
        file: For messages.

    Raises:
        ReadError: The configuration is none of Keras's.
    """
    if not isinstance(entry.get("class_name"), str):
        got, expected = repr(entry.get("class_name"))[:60], '"class_name": "Functional" or the like'
        raise ReadError("the configuration names no class.", where=Where(file=file), expected=expected, got=got)
    if not is_network(entry):
        raise ReadError(
            f"the file's model is a {str(entry.get('class_name'))[:60]!r}, which Keras itself can only rebuild from Python code.",
            where=Where(file=file),
            expected="a Sequential or functional network",
            next="rebuild it as a functional model and save that",
        )
    config = entry.get("config")
    if entry.get("class_name") == "Sequential" or not (isinstance(config, Mapping) and "output_layers" in config):
        made = _Parser(generation, file).sequential(entry)
    else:
        made = _Parser(generation, file).functional(entry)
    if _unfolded(made) > MAX_LAYERS:
        fault, expected = "the network unfolds into more layers than any network has.", f"at most {MAX_LAYERS:,}"
        raise LimitError(fault, where=Where(file=file, node=made.name), expected=expected)
    return made


def _unfolded(network: Network) -> int:
    """Calls of leaf layers; networks inside were held to the limit when they were made, so that the sum stays small."""
    return sum(max(1, len(x.calls)) * (_unfolded(x.network) if x.network is not None else 1) for x in network.layers)


class _Parser:
    def __init__(self, generation: int, file: str) -> None:
        self.generation, self.file = generation, file

    def fault(self, message: str, layer: str = "", **facts: str) -> ReadError:
        return ReadError(message, where=Where(file=self.file, node=layer or None), **facts)

    def entries(self, layers: Any, owner: str) -> list[Mapping[str, Any]]:
        if not isinstance(layers, list) or not all(isinstance(x, Mapping) and isinstance(x.get("class_name"), str) for x in layers):
            raise self.fault("the configuration lists no layers.", owner, expected='"layers": [{"class_name": ..., "config": ...}, ...]')
        if len(layers) > MAX_LAYERS:
            raise self.fault("the configuration lists too many layers.", owner, got=str(len(layers)))
        return layers

    def identity(self, entry: Mapping[str, Any], position: int) -> tuple[str, str]:
        """Class and name of a layer; what lies below it is not looked at, for a chain of first layers may be long."""
        class_name = str(entry["class_name"]).split(">")[-1]
        config = entry.get("config")
        name = entry.get("name") or (config.get("name") if isinstance(config, Mapping) else None) or f"{class_name.lower()}_{position}"
        if not isinstance(name, str):
            raise self.fault("a layer's name is no text.", got=repr(name)[:60])
        return class_name, name

    def layer(self, entry: Mapping[str, Any], calls: tuple[Inbound, ...], position: int) -> Layer:
        class_name, name = self.identity(entry, position)
        config = entry.get("config")
        if is_network(entry):
            return Layer(name, class_name, config if isinstance(config, Mapping) else {}, calls, network(entry, self.generation, self.file))
        if not isinstance(config, Mapping):
            raise self.fault(f"layer {name!r} has no configuration.", name, got=type(config).__name__)
        module = entry.get("module")
        # HDF5 files of Keras 3 name no module; there only layers say whether they are trainable
        bare = module is None and self.generation == 3 and bool(calls) and calls[0].direct and "trainable" not in config
        return Layer(name, class_name, config, calls, operation=bare or ".ops." in f".{module}.")

    def sequential(self, entry: Mapping[str, Any]) -> Network:
        config = entry.get("config")
        listed = config if isinstance(config, list) else config.get("layers") if isinstance(config, Mapping) else None
        name = str(config.get("name", "")) if isinstance(config, Mapping) else ""
        entries = self.entries(listed, name)
        layers: list[Layer] = []
        if entries and entries[0]["class_name"] != "InputLayer":
            shape = self._first_shape(entries[0]) or (config.get("build_input_shape") if isinstance(config, Mapping) else None)
            shape = shape or _build_shape(entry)
            given: dict[str, Any] = {"batch_input_shape": shape} if isinstance(shape, list) else {}
            class_name, own = self.identity(entries[0], 0)
            below = entries[0].get("config")
            if class_name == "Embedding":
                given["dtype"] = "int32"
            elif isinstance(below, Mapping) and "input_dtype" in below:
                given["dtype"] = below["input_dtype"]
            layers.append(Layer(f"{own}_input", "InputLayer", given | {"name": f"{own}_input"}, ()))
        for k, item in enumerate(entries):
            calls = (Inbound((Ref(layers[-1].name, 0, 0),), {}, direct=False),) if layers else ()
            layers.append(self.layer(item, calls, k))
        if len(layers) < 2 and not entries:
            raise self.fault("a Sequential has no layers.", name)
        self._distinct(layers)
        return Network(name or "sequential", "Sequential", tuple(layers), (Ref(layers[0].name, 0, 0),), (Ref(layers[-1].name, 0, 0),))

    def _first_shape(self, entry: Mapping[str, Any]) -> Any:
        config = entry.get("config")
        if is_network(entry):
            listed = config if isinstance(config, list) else config.get("layers") if isinstance(config, Mapping) else None
            return self._first_shape(listed[0]) if isinstance(listed, list) and listed and isinstance(listed[0], Mapping) else None
        if not isinstance(config, Mapping):
            return None
        shape = config.get("batch_input_shape") or config.get("batch_shape")
        if shape is None and isinstance(config.get("layer"), Mapping) and entry.get("class_name") != "TimeDistributed":
            shape = self._first_shape(config["layer"])  # a wrapper around the layer that knows
        if shape is None and isinstance(config.get("input_shape"), list):
            shape = [None, *config["input_shape"]]
        if shape is None and isinstance(config.get("input_dim"), int) and entry.get("class_name") != "Embedding":
            shape = [None, config["input_dim"]]
        return shape

    def functional(self, entry: Mapping[str, Any]) -> Network:
        config = entry["config"]
        name = str(config.get("name") or entry.get("name") or "model")
        entries = self.entries(config.get("layers"), name)
        known = {str(e.get("name") or (e["config"].get("name") if isinstance(e.get("config"), Mapping) else "")): e for e in entries}
        nested = {n for n, e in known.items() if is_network(e)}
        raw = [self._calls(e, known) for e in entries]
        inputs = list(refs_of(_tree(config.get("input_layers"), known)))
        outputs = list(refs_of(_tree(config.get("output_layers"), known)))
        hidden: dict[str, int] = {}
        if self.generation < 3:
            # in Keras 1 and 2 a nested network has a node of its own, number 0, which is not listed: references begin at 1
            for ref in [r for calls in raw for c in calls for r in c.refs()] + outputs:
                if ref.layer in nested:
                    hidden[ref.layer] = min(hidden.get(ref.layer, 1), ref.call)

        def shift(tree: Any) -> Any:
            if isinstance(tree, Ref):
                return Ref(tree.layer, tree.call - hidden.get(tree.layer, 0), tree.tensor)
            if isinstance(tree, (list, tuple)):
                return type(tree)(shift(x) for x in tree)
            return {k: shift(v) for k, v in tree.items()} if isinstance(tree, dict) else tree

        moved = [tuple(Inbound(shift(c.args), shift(dict(c.kwargs))) for c in calls) for calls in raw]
        layers = [self.layer(e, calls, k) for k, (e, calls) in enumerate(zip(entries, moved, strict=True))]
        self._distinct(layers)
        if not inputs or not outputs:
            raise self.fault("the network names no inputs or no outputs.", name)
        return Network(name, str(entry.get("class_name")), tuple(layers), tuple(inputs), tuple(shift(r) for r in outputs))

    def _distinct(self, layers: list[Layer]) -> None:
        seen: set[str] = set()
        for layer in layers:
            if layer.name in seen:
                raise self.fault(f"two layers are called {layer.name!r}.", layer.name)
            seen.add(layer.name)

    def _calls(self, entry: Mapping[str, Any], known: Mapping[str, Any]) -> list[Inbound]:
        listed = entry.get("inbound_nodes", [])
        if isinstance(listed, Mapping):
            listed = [listed]
        if not isinstance(listed, list):
            raise self.fault("a layer's inbound_nodes are no list.", str(entry.get("name")))
        calls = []
        for item in listed:
            if isinstance(item, Mapping) and ("args" in item or "kwargs" in item):
                args, kwargs = _keras3(item.get("args", [])), _keras3(item.get("kwargs", {}))
                if not isinstance(args, list) or not isinstance(kwargs, dict):
                    raise self.fault("a call of a layer is malformed.", str(entry.get("name")))
                calls.append(Inbound(tuple(args), kwargs))
            else:
                calls.append(_keras2(item, known))
            if sum(1 for _ in calls[-1].refs()) > MAX_FEEDS:
                raise self.fault("a layer takes more tensors than any layer does.", str(entry.get("name")), expected=f"at most {MAX_FEEDS}")
        return calls


def _build_shape(entry: Mapping[str, Any]) -> Any:
    built = entry.get("build_config")
    return built.get("input_shape") if isinstance(built, Mapping) else None


def _is_ref(item: Any, known: Mapping[str, Any] | None) -> bool:
    return (
        isinstance(item, list)
        and 3 <= len(item) <= 4
        and isinstance(item[0], str)
        and (known is None or item[0] in known)
        and type(item[1]) is int
        and type(item[2]) is int
        and item[1] >= 0
        and item[2] >= 0
    )


def _tree(item: Any, known: Mapping[str, Any] | None) -> Any:
    """Nested lists with `[layer, node, tensor]` turned into `Ref`s; None takes every such list, those of unknown layers too."""
    if _is_ref(item, known) and (len(item) == 3 or isinstance(item[3], Mapping)):
        return Ref(item[0], item[1], item[2])
    if isinstance(item, list):
        if len(item) == 4 and item[0] == "_CONSTANT_VALUE":
            return item[2]
        return [_tree(x, known) for x in item]
    return {k: _tree(v, known) for k, v in item.items()} if isinstance(item, dict) else item


def _keras2(item: Any, known: Mapping[str, Any]) -> Inbound:
    """One call of Keras 1 or 2: a list of `[layer, node, tensor, kwargs]`, or one such alone."""
    kwargs: dict[str, Any] = {}

    def collect(x: Any) -> None:
        if isinstance(x, list) and len(x) == 4 and isinstance(x[0], str) and isinstance(x[3], Mapping):
            for key, value in x[3].items():
                kwargs.setdefault(key, _tree(value, known))
        elif isinstance(x, list):
            for y in x:
                collect(y)

    collect(item)
    tree = _tree(item, None)
    single = isinstance(item, list) and bool(item) and isinstance(item[0], str)
    return Inbound((tree,) if single or not isinstance(tree, list) else tuple(tree), kwargs)


def _keras3(item: Any) -> Any:
    """Arguments of a Keras 3 call with its special objects in their place."""
    if isinstance(item, list):
        return [_keras3(x) for x in item]
    if not isinstance(item, Mapping):
        return item
    kind, config = item.get("class_name"), item.get("config")
    if kind == "__keras_tensor__" and isinstance(config, Mapping):
        history = config.get("keras_history")
        if isinstance(history, list) and len(history) == 3 and isinstance(history[0], str) and all(type(x) is int for x in history[1:]):
            return Ref(*history)
        return None
    if kind in ("__tensor__", "__numpy__") and isinstance(config, Mapping):
        return config.get("value")
    if kind == "__tuple__":
        inner = config if isinstance(config, list) else item.get("items", config.get("items", []) if isinstance(config, Mapping) else [])
        return [_keras3(x) for x in inner] if isinstance(inner, list) else []
    if kind == "__slice__" and isinstance(config, Mapping):
        return slice(config.get("start"), config.get("stop"), config.get("step"))
    if kind == "__ellipsis__":
        return Ellipsis
    return {k: _keras3(v) for k, v in item.items()}
