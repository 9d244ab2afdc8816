"""The nodes of a torch.export graph, as its JSON holds them, as calls; graphs within graphs are laid out flat."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from niudao.errors import Refusal
from niudao.formats.pytorch.program.program import Arg, Call, Ref

_ABSENT = ("as_none", "as_memory_format", "as_layout", "as_device")
_PLAIN = ("as_int", "as_float", "as_bool", "as_string", "as_ints", "as_floats", "as_bools", "as_strings", "as_int_lists", "as_float_lists")
_NAMED = ("as_sym_int", "as_sym_float", "as_sym_bool", "as_optional_tensor")
_NAMED_LISTS = ("as_sym_ints", "as_sym_floats", "as_sym_bools", "as_optional_tensors", "as_tensors")
_TWICE = re.compile(r"@\d+")
MAX_CALLS = 500_000


class Calls:
    """Collects the calls of a graph.

    Args:
        dtypes: Numbers that the schema gives to types of elements -> numpy names.

    Attributes:
        made: The calls so far.
        refusals: Nodes that no call can stand for.
    """

    def __init__(self, dtypes: Mapping[int, str]) -> None:
        self._dtypes = dtypes
        self._names: dict[str, Arg] = {}
        self._prefix = ""
        self.made: list[Call] = []
        self.refusals: list[Refusal] = []

    def graph(self, graph: Mapping[str, Any]) -> None:
        """Append the calls of a graph."""
        for node in graph["nodes"]:
            self._node(node)

    def arg(self, arg: Mapping[str, Any]) -> Arg:
        """An argument as a Program has it."""
        ((kind, held),) = arg.items()
        if kind in _ABSENT:
            return None
        if kind == "as_tensor":
            return self._ref(held["name"])
        if kind in _PLAIN:
            return _plain(held)
        if kind in _NAMED:
            return self._named(held)
        if kind in _NAMED_LISTS:
            return [self._named(item) for item in held]
        if kind == "as_scalar_type":
            return self._dtypes.get(held, f"type {held}")
        raise _Strange(f"its argument of kind {kind[3:]} has no place here")

    def _ref(self, name: str) -> Arg:
        return self._names.get(self._prefix + name, Ref(self._prefix + name))

    def _named(self, item: Mapping[str, Any]) -> Arg:
        if "name" in item:
            return self._ref(item["name"])
        ((kind, held),) = item.items()
        if kind == "as_name":
            return self._ref(held)
        return self._ref(held["name"]) if kind == "as_tensor" else None if kind == "as_none" else _plain(held)

    def _node(self, node: Mapping[str, Any]) -> None:
        target = _target(node["target"])
        layer, layer_type = _layer(node.get("metadata") or {})
        names, parts = self._outputs(node["outputs"])
        if len(self.made) > MAX_CALLS:
            raise ValueError(f"more than {MAX_CALLS:,} calls")
        try:
            if target in ("higher_order.wrap_with_set_grad_enabled", "higher_order.wrap_with_autocast"):
                self._inlined(node, target, names, layer, layer_type)
            else:
                args: list[Arg] = []
                kwargs: dict[str, Arg] = {}
                operator = node["target"].startswith("torch.ops.") and "aten.sym_" not in node["target"]
                for held in node["inputs"]:
                    kind = held.get("kind")
                    by_place = kind == 1 or not held["name"] or (kind is None and not operator)
                    if by_place and not kwargs:
                        args.append(self.arg(held["arg"]))
                    else:
                        kwargs[held["name"]] = self.arg(held["arg"])
                self.made.append(Call(target, tuple(args), kwargs, names, layer, layer_type))
        except _Strange as e:
            self.refusals.append(Refusal(layer or node.get("name") or target, target, str(e)))
        for whole, i, name in parts:
            self.made.append(Call("getitem", (Ref(whole), i), {}, (name,), layer, layer_type))

    def _outputs(self, outputs: list[Mapping[str, Any]]) -> tuple[tuple[str, ...], list[tuple[str, int, str]]]:
        """Names of the results, and what is to be taken out of those that are lists."""
        names: list[str] = []
        parts: list[tuple[str, int, str]] = []
        for output in outputs:
            ((kind, held),) = output.items()
            if kind in ("as_tensors", "as_optional_tensors"):
                items = [i.get("as_tensor", i) if kind == "as_optional_tensors" else i for i in held]
                whole = f"{self._prefix}{next((i['name'] for i in items if 'name' in i), 'none')}:all"
                names.append(whole)
                parts += [(whole, i, self._prefix + item["name"]) for i, item in enumerate(items) if "name" in item]
            elif kind in ("as_tensor", "as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
                inner = held.get("as_tensor", held)
                names.append(self._prefix + str(inner.get("name") or inner.get("as_name") or f"none:{len(self.made)}:{len(names)}"))
            else:
                names.append(f"{self._prefix}none:{len(self.made)}:{len(names)}")
        return tuple(names), parts

    def _inlined(self, node: Mapping[str, Any], target: str, names: tuple[str, ...], layer: str, layer_type: str) -> None:
        """A graph that is called once, without gradients or in another precision, becomes part of the one around it."""
        given = [held["arg"] for held in node["inputs"]]
        place = next(i for i, g in enumerate(given) if "as_graph" in g)
        inner = given[place]["as_graph"]["graph"]
        if target.endswith("autocast") and given[2].get("as_bool") is not False:
            raise _Strange("autocast computes in other types of elements")
        operands = [self.arg(g) for g in given[place + 1 :]]
        outer, self._prefix = self._prefix, f"{self._prefix}{names[0] if names else len(self.made)}/"
        for entry, operand in zip(inner["inputs"], operands, strict=True):
            self._names[self._prefix + entry["as_tensor"]["name"]] = operand
        self.graph(inner)
        results = [self.arg(o) for o in inner["outputs"]]
        self._prefix = outer
        if len(names) == 1 and len(node["outputs"]) == 1 and "as_tensors" in node["outputs"][0]:
            self.made.append(Call("identity", (results,), {}, names, layer, layer_type))
        else:
            for name, result in zip(names, results, strict=True):
                self.made.append(Call("identity", (result,), {}, (name,), layer, layer_type))


class _Strange(Exception):
    """An argument that no Program can hold."""


def _plain(held: Any) -> Arg:
    if isinstance(held, list):
        return [_plain(item) for item in held]
    if isinstance(held, str) and held in ("Infinity", "-Infinity", "NaN"):
        return float(held)
    if held is None or isinstance(held, (bool, int, float, str)):
        return held
    raise _Strange("an argument of it has no place here")


def _target(target: str) -> str:
    return target.removeprefix("torch.ops.").removeprefix("_")


def _layer(metadata: Mapping[str, str]) -> tuple[str, str]:
    """Path and class of the innermost module of a node's `nn_module_stack`; everything else in there stays unread."""
    stack = metadata.get("nn_module_stack") or ""
    if stack.startswith("_empty_nn_module_stack"):
        return "", ""
    last = stack.rpartition(";")[2].split(",", 2)
    if len(last) != 3:
        return "", ""
    return module_path(last[1]), last[2].rpartition(".")[2]


def module_path(path: str) -> str:
    """The path of a module as its state dict has it."""
    return _TWICE.sub("", path).removeprefix("L['self']").lstrip(".")
