"""Binding: which stored array is which weight of which layer.

HDF5 files of Keras 1 and 2 address weights by layer name; inside a nested network's group they lie flat, trainable ones first.
Archives address them by class: `layers/<class>[_k]/vars/<i>`. Either way a layer's function sees its own names ("kernel",
"forward/bias"), so positions are turned into names here, by class.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from niudao.errors import ReadError, Where
from niudao.formats.hdf5.survey import Dataset, names, text
from niudao.formats.keras.config import Layer, Network, is_network, network
from niudao.formats.keras.layers.call import Weight
from niudao.formats.keras.legacy import keras1, unflipped
from niudao.formats.keras.opening import ARCHIVE_ROOTS, Container

FROZEN = frozenset(("moving_mean", "moving_variance", "mean", "variance", "count"))
"""Weights that no gradient changes: in a nested network's group they come last."""

Named = dict[str, Weight]


def snake(name: str) -> str:
    """Keras's own way from a class name to a group's name."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _flag(config: Mapping[str, Any], *keys: str, default: bool = True) -> bool:
    return next((bool(config[k]) for k in keys if k in config), default)


def variable_names(class_name: str, config: Mapping[str, Any]) -> list[str]:
    """A layer's weights under its own names, in the order in which Keras makes them; empty for a class without or unknown ones."""
    if not isinstance(config, Mapping):
        return []
    bias = ["bias"] if _flag(config, "use_bias", "bias") else []
    if class_name in ("TimeDistributed", "Bidirectional") or isinstance(config.get("layer"), Mapping):
        inner = config.get("layer")
        if not isinstance(inner, Mapping) or is_network(inner):
            return []
        below = variable_names(str(inner.get("class_name")), inner.get("config") or {})
        return [f"{way}/{n}" for way in ("forward", "backward") for n in below] if class_name == "Bidirectional" else below
    if class_name == "RNN" and isinstance(config.get("cell"), Mapping):
        return variable_names(str(config["cell"].get("class_name")), config["cell"].get("config") or {})
    if re.fullmatch(r"(CuDNN)?(LSTM|GRU|SimpleRNN|ConvLSTM[123]D|ConvRNN2D)(V2)?(Cell)?", class_name):
        return ["kernel", "recurrent_kernel", *bias]
    if class_name == "MultiHeadAttention":
        return [f"{part}/{n}" for part in ("query", "key", "value", "attention_output") for n in ("kernel", *bias)]
    if class_name.startswith("DepthwiseConv"):
        return ["depthwise_kernel", *bias]
    if class_name.startswith("Separable"):
        return ["depthwise_kernel", "pointwise_kernel", *bias]
    if class_name == "Highway":  # Keras 1: W, W_carry, b, b_carry
        return ["kernel", "carry_kernel", *(["bias", "carry_bias"] if bias else [])]
    if class_name == "EinsumDense":
        return ["kernel", *(["bias"] if config.get("bias_axes") else [])]
    if class_name in ("Dense", "MaxoutDense", "TimeDistributedDense") or re.match(r"(AtrousConv|Conv|Deconv|LocallyConnected)", class_name):
        return ["kernel", *bias]
    if class_name in ("BatchNormalization", "BatchNormalizationV1", "SyncBatchNormalization"):
        mean = ["moving_mean", "moving_variance"]
        return [*(["gamma"] if _flag(config, "scale") else []), *(["beta"] if _flag(config, "center") else []), *mean]
    if class_name in ("LayerNormalization", "GroupNormalization", "InstanceNormalization"):
        center = _flag(config, "center") and not config.get("rms_scaling")
        return [*(["gamma"] if _flag(config, "scale") or config.get("rms_scaling") else []), *(["beta"] if center else [])]
    if class_name == "RMSNormalization":
        return ["scale"]
    if class_name == "Normalization":
        return [] if config.get("mean") is not None else ["mean", "variance", "count"]
    if class_name in ("Attention", "AdditiveAttention"):
        scale = _flag(config, "use_scale", default=class_name == "AdditiveAttention")
        return [*(["scale"] if scale else []), *(["concat_score_weight"] if config.get("score_mode") == "concat" else [])]
    return {"Embedding": ["embeddings"], "PReLU": ["alpha"], "ParametricSoftplus": ["alpha", "beta"]}.get(class_name, [])


class Binder:
    """The weights of every leaf layer of a network.

    Args:
        box: The opened files.
        generation: 1, 2 or 3.
        file: For messages.
    """

    def __init__(self, box: Container, generation: int, file: str) -> None:
        self.box, self.generation, self.file = box, generation, file
        self.arrays: Mapping[str, Dataset] = box.contents.datasets if box.contents is not None else {}
        self.groups: Mapping[str, Mapping[str, Any]] = box.contents.groups if box.contents is not None else {}
        self.bound: set[str] = set()
        self._inside: dict[str, list[str]] = {}  # group -> the arrays that lie directly in it
        self._holding: set[str] = set()  # every group with an array somewhere below
        for path in self.arrays:
            above = path.rpartition("/")[0]
            self._inside.setdefault(above, []).append(path)
            while above and above not in self._holding:
                self._holding.add(above)
                above = above.rpartition("/")[0]

    def bind(self, network: Network) -> dict[Layer, Any]:
        """Leaf layer -> its weights by own name; for a network inside a wrapper the weights carry layer names in front."""
        result: dict[Layer, Named] = {}
        if self.box.by_class:
            self._by_class(network, self.box.root, result)
        else:
            self._by_name(network, result)
        return result

    def left_over(self) -> list[str]:
        """Stored arrays that no layer was given, without optimizers and random states."""
        root = f"{self.box.root}/" if self.box.root else ""
        skipped = ("optimizer", "optimizer_weights", "vars_optimizer")
        rest = [p for p in self.arrays if p not in self.bound and p.split("/")[0] not in skipped and "seed_generator" not in p]
        return [p.removeprefix(root) for p in rest if "top_level_model_weights" not in p and "seed_gen" not in p]

    def _weight(self, path: str, name: str) -> Weight:
        data = self.arrays[path]
        self.bound.add(path)
        mapped = data.mapped()
        return Weight(name, data.shape, data.load, None if mapped is None else lambda: mapped)

    # by layer name

    def _by_name(self, network: Network, result: dict[Layer, Named]) -> None:
        root = self.box.root
        listed = names(dict(self.groups.get(root, {})), "layer_names")
        if listed is None:
            if self.arrays:
                where = Where(file=self.file)
                raise ReadError("the weights file lists no layers.", where=where, expected="an attribute layer_names, or groups of Keras 3")
            listed = []
        known = {layer.name for layer in network.layers}
        mapping = {n: n for n in listed}
        weighted = [layer for layer in network.layers if _has_weights(layer)]
        if not {x.name for x in weighted} <= set(listed):
            # weights saved from a model whose layers had other names: Keras itself then goes by order
            stored = [n for n in listed if self._stored(n)]
            if len(stored) == len(weighted) and not (set(stored) & known):
                mapping = {layer.name: n for layer, n in zip(weighted, stored, strict=True)}
        for layer in network.layers:
            group = mapping.get(layer.name)
            stored_here = self._stored(group) if group is not None else []
            self._assign(layer, stored_here, result)

    def _stored(self, layer: str) -> list[tuple[str, str]]:
        """Weight name and path of every array of a layer's group, in the layer's order."""
        group = f"{self.box.root}/{layer}".strip("/")
        listed = names(dict(self.groups.get(group, {})), "weight_names")
        found = []
        for name in listed or []:
            path = f"{group}/{name}"
            if path not in self.arrays:
                where = Where(file=self.file, node=layer)
                raise ReadError(f"the weights file lists {name!r} of layer {layer!r} but does not hold it.", where=where)
            found.append((name, path))
        return found

    def _assign(self, layer: Layer, stored: list[tuple[str, str]], result: dict[Layer, Named]) -> None:
        if layer.network is None:
            result[layer] = self._own(layer.name, layer.class_name, layer.config, stored)
            return
        for leaf, mine in self._divide(layer.network, stored).items():
            result[leaf] = self._own(leaf.name, leaf.class_name, leaf.config, mine)

    def _divide(self, network: Network, stored: list[tuple[str, str]]) -> dict[Layer, list[tuple[str, str]]]:
        """Split the flat weights of a nested network among its leaves: by name, else by Keras's order."""
        leaves = list(leaves_of(network))
        by_name = {leaf.name: leaf for leaf in leaves}
        shares: dict[Layer, list[tuple[str, str]]] = {leaf: [] for leaf in leaves}
        clear = len(by_name) == len(leaves)
        for name, path in stored:
            owner = next((by_name[p] for p in name.split("/")[:-1] if p in by_name), None)
            if owner is None:
                clear = False
                break
            shares[owner].append((name, path))
        counts = {leaf: len(variable_names(leaf.class_name, leaf.config)) for leaf in leaves}
        if clear and all(len(shares[x]) == n or not n for x, n in counts.items()):
            return shares
        order = [(leaf, n) for leaf in leaves for n in variable_names(leaf.class_name, leaf.config)]
        first = [(x, n) for x, n in order if n.split("/")[-1] not in FROZEN and x.config.get("trainable", True)]
        order = first + [entry for entry in order if entry not in first]
        if len(order) != len(stored):
            if clear:
                return shares
            raise ReadError(
                f"the weights of the nested network {network.name!r} cannot be told apart.",
                where=Where(file=self.file, node=network.name),
                expected=f"{len(order)} arrays",
                got=f"{len(stored)}",
            )
        positions: dict[Layer, dict[str, tuple[str, str]]] = {leaf: {} for leaf in leaves}
        for (leaf, own), entry in zip(order, stored, strict=True):
            positions[leaf][own] = entry
        return {leaf: [positions[leaf][n] for n in variable_names(leaf.class_name, leaf.config)] for leaf in leaves}

    def _own(self, name: str, class_name: str, config: Mapping[str, Any], stored: list[tuple[str, str]]) -> Named:
        """A leaf's weights under its own names."""
        expected = variable_names(class_name, config)
        label = name
        inner = config.get("layer")
        if class_name == "Bidirectional":
            own = [_direction(n) for n, _ in stored]
        elif class_name == "MultiHeadAttention":
            own = ["/".join(_clean(n).split("/")[-2:]) for n, _ in stored]
        elif isinstance(inner, Mapping) and is_network(inner):
            shares = self._divide(network(inner, self.generation, self.file), stored)
            parts = {leaf: self._own(leaf.name, leaf.class_name, leaf.config, mine) for leaf, mine in shares.items()}
            return {f"{leaf.name}/{n}": w for leaf, part in parts.items() for n, w in part.items()}
        else:
            own = [_clean(n).split("/")[-1] for n, _ in stored]
        if self.generation == 1 or len(expected) != len(stored):
            arrays = [self._weight(p, f"{label}/{_clean(n).split('/')[-1]}") for n, p in stored]
            if old := keras1(class_name, config, arrays, label):
                return self._turned(class_name, config, old)
        if expected and set(own) != set(expected) and len(expected) == len(stored):
            own = expected
        if len(set(own)) != len(own):
            own = [f"{n}_{k}" if own.index(n) != k else n for k, n in enumerate(own)]
        return self._turned(class_name, config, {n: self._weight(p, f"{label}/{n}") for n, (_, p) in zip(own, stored, strict=True)})

    def _turned(self, class_name: str, config: Mapping[str, Any], found: Named) -> Named:
        return unflipped(class_name, config, found) if self.box.backend == "theano" else found

    # by class

    def _by_class(self, network: Network, prefix: str, result: dict[Layer, Named]) -> None:
        for layer, group in self._groups_of(network, prefix):
            if layer.network is not None:
                if group is not None:
                    self._by_class(layer.network, group, result)
            else:
                result[layer] = self._collect(layer.name, layer.class_name, layer.config, group) if group is not None else {}

    def _groups_of(self, network: Network, prefix: str) -> Iterable[tuple[Layer, str | None]]:
        """Every layer with its group: by the name the group records, else by class and number."""
        root = next((r for a in ARCHIVE_ROOTS if (r := f"{prefix}/{a}".strip("/")) in self.groups), None)
        layers = [x for x in network.layers if not x.operation]
        if root is None:
            return [(x, None) for x in layers]
        doubled = root.endswith(ARCHIVE_ROOTS[1])
        below = [g for g in self.groups if g.startswith(f"{root}/") and "/" not in g[len(root) + 1 :]]
        titled: dict[str, str] = {}
        for each in below:
            title = self.groups.get(f"{each}/vars", {}).get("name")
            if title is not None:
                titled.setdefault(text(title), each)
        holding = [g for g in below if g in self._holding]
        counts: dict[str, int] = {}
        found: list[tuple[Layer, str | None]] = []
        for layer in layers:
            kind = snake(layer.class_name)
            group: str | None
            if doubled:
                # every layer is counted more than once there, so numbers have gaps: go by order among the groups that hold something
                if not _has_weights(layer):
                    found.append((layer, titled.get(layer.name)))
                    continue
                numbered = {n: g for g in holding if (n := _base(g[len(root) + 1 :], kind)) is not None}
                k = counts.get(kind, 0)
                group = numbered[sorted(numbered)[k]] if k < len(numbered) else None
            else:
                k = counts.get(kind, 0)
                group = f"{root}/{kind}_{k}" if k else f"{root}/{kind}"
            counts[kind] = k + 1
            chosen = titled.get(layer.name, group)
            found.append((layer, chosen if chosen in self.groups else None))
        return found

    def _collect(self, label: str, class_name: str, config: Mapping[str, Any], group: str) -> Named:
        """A leaf's arrays from its group, which Keras divides by the attributes that hold them."""
        inner = config.get("layer")
        if class_name == "Bidirectional" and isinstance(inner, Mapping):
            found: Named = {}
            for way in ("forward", "backward"):
                below = self._collect(f"{label}/{way}", str(inner.get("class_name")), inner.get("config") or {}, f"{group}/{way}_layer")
                found |= {f"{way}/{n}": w for n, w in below.items()}
            return found
        if isinstance(inner, Mapping) and f"{group}/layer" in self.groups:
            if is_network(inner):
                scoped: dict[Layer, Named] = {}
                self._by_class(network(inner, self.generation, self.file), f"{group}/layer", scoped)
                return {f"{leaf.name}/{n}": w for leaf, part in scoped.items() for n, w in part.items()}
            return self._collect(label, str(inner.get("class_name")), inner.get("config") or {}, f"{group}/layer")
        if class_name == "MultiHeadAttention":
            found = {}
            for part, own in (("query", "query"), ("key", "key"), ("value", "value"), ("output", "attention_output")):
                for place in (f"{group}/{part}_dense", f"{group}/_{part}_dense"):
                    arrays = self._numbered(f"{label}/{own}", place, ["kernel", "bias"])
                    found |= {f"{own}/{n}": w for n, w in arrays.items()}
            return found
        expected = variable_names(class_name, config)
        for place in (group, f"{group}/cell"):
            if arrays := self._numbered(label, place, expected):
                return arrays
        return {}

    def _numbered(self, label: str, group: str, expected: list[str]) -> Named:
        prefix = f"{group}/vars/"
        paths = sorted(self._inside.get(f"{group}/vars", ()), key=lambda p: (len(p), p))
        found = {}
        for k, path in enumerate(paths):
            own = expected[k] if k < len(expected) else path[len(prefix) :]
            found[own] = self._weight(path, f"{label}/{own}")
        return found


def _base(name: str, kind: str) -> int | None:
    """The number of a group called `kind` (0) or `kind_<number>`; None for others."""
    if name == kind:
        return 0
    tail = name.removeprefix(f"{kind}_")
    return int(tail) if tail != name and tail.isdigit() and len(tail) < 9 else None


def _clean(name: str) -> str:
    """A stored name without TensorFlow's `:0`."""
    return re.sub(r":\d+$", "", name)


def _direction(name: str) -> str:
    parts = _clean(name).split("/")
    way = "backward" if any(p.startswith("backward") for p in parts[:-1]) else "forward"
    return f"{way}/{parts[-1]}"


def leaves_of(network: Network) -> Iterable[Layer]:
    """Every leaf of a network and of the networks in it, in order."""
    for layer in network.layers:
        if layer.network is not None:
            yield from leaves_of(layer.network)
        else:
            yield layer


def _has_weights(layer: Layer) -> bool:
    for leaf in leaves_of(layer.network) if layer.network is not None else (layer,):
        inner = leaf.config.get("layer")
        if variable_names(leaf.class_name, leaf.config) or (isinstance(inner, Mapping) and is_network(inner)):
            return True
    return False
