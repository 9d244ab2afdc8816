"""The graph of an exported program in memory as a Program: the same calls that a .pt2 file would hold."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import onnx_ir as ir
import torch  # noqa: TID253 - program/live.py alone imports this

from niudao.errors import Refusal, Unsupported
from niudao.formats.pytorch.program.graphs import module_path
from niudao.formats.pytorch.program.program import Arg, Call, Input, Program, Ref, Weight
from niudao.formats.pytorch.program.treespec import named


class Reader:
    """Reads one exported program.

    Args:
        exported: What torch.export gave.
        notes: What to say besides.
    """

    def __init__(self, exported: Any, notes: Sequence[str] = ()) -> None:
        self._exported = exported
        self._notes = notes
        self._calls: list[Call] = []
        self._names: dict[Any, Arg] = {}
        self._refusals: list[Refusal] = []

    def program(self) -> Program:
        """The calls.

        Raises:
            Unsupported: The graph holds what no Program can.
        """
        exported = self._exported
        kinds = {spec.arg.name: spec for spec in exported.graph_signature.input_specs if hasattr(spec.arg, "name")}
        inputs: list[Input] = []
        weights: dict[str, Weight] = {}
        tensors: dict[int, tuple[str, ir.TensorProtocol]] = {}
        results: tuple[Any, ...] = ()
        for node in exported.graph.nodes:
            if node.op == "placeholder":
                spec = kinds[node.name]
                if spec.kind.name == "USER_INPUT":
                    if isinstance(node.meta.get("val"), torch.Tensor):
                        inputs.append(_input(node))
                elif spec.target is not None:
                    weights[node.name] = self._weight(spec, tensors)
            elif node.op == "call_function":
                self._call(node, "")
            elif node.op == "output":
                results = node.args[0]
        if self._refusals:
            raise Unsupported("niudao's reader of modules", self._refusals)
        specs = exported.graph_signature.output_specs
        args = [self._arg(r) for s, r in zip(specs, results, strict=True) if s.kind.name == "USER_OUTPUT"]
        outputs = tuple((n, a) for n, a in zip(self._output_names(len(args)), args, strict=True) if a is not None)
        version = torch.__version__.split("+")[0]
        return Program(tuple(inputs), weights, tuple(self._calls), outputs, version=version, notes=tuple(self._notes))

    def _weight(self, spec: Any, tensors: dict[int, tuple[str, ir.TensorProtocol]]) -> Weight:
        state, constants = self._exported.state_dict, self._exported.constants
        tensor = state[spec.target] if spec.target in state else constants[spec.target]
        if not isinstance(tensor, torch.Tensor):
            raise Unsupported("niudao's reader of modules", [Refusal(spec.target, type(tensor).__name__, "no tensor")])
        if id(tensor) not in tensors:  # a weight under two names is one
            tensors[id(tensor)] = spec.target, stored(tensor, spec.target)
        fqn, held = tensors[id(tensor)]
        return Weight(fqn, held, isinstance(tensor, torch.nn.Parameter))

    def _output_names(self, count: int) -> list[str]:
        from torch.utils import _pytree as pytree

        spec = self._exported.call_spec.out_spec
        leaves = pytree.tree_unflatten(list(range(spec.num_leaves)), spec)
        paths = [tuple(_key(k) for k in path) for path, _ in pytree.tree_flatten_with_path(leaves)[0]]
        return named(paths if len(paths) == count else [(i,) for i in range(count)])

    def _call(self, node: Any, prefix: str) -> None:
        layer, layer_type = _layer(node)
        name = prefix + node.name
        if "higher_order" in type(node.target).__module__ or isinstance(node.target, torch._ops.HigherOrderOperator):
            self._inlined(node, name, layer, layer_type)
            return
        try:
            args = tuple(self._arg(a) for a in node.args)
            kwargs = {k: self._arg(v) for k, v in node.kwargs.items()}
        except TypeError as e:
            self._refusals.append(Refusal(layer or name, _target(node.target), str(e)))
            return
        if node.target is operator.getitem:
            self._calls.append(Call("getitem", args, {}, (name,), layer, layer_type))
        else:
            self._calls.append(Call(_target(node.target), args, kwargs, (name,), layer, layer_type))
        self._names[node] = Ref(name)

    def _inlined(self, node: Any, name: str, layer: str, layer_type: str) -> None:
        """A graph that is called once, without gradients, becomes part of the one around it."""
        kind = str(node.target)
        place = next((i for i, a in enumerate(node.args) if getattr(a, "op", "") == "get_attr"), None)
        quiet = "wrap_with_set_grad_enabled" in kind or ("wrap_with_autocast" in kind and node.args[2] is False)
        if place is None or not quiet:
            self._refusals.append(Refusal(layer or name, kind, "a graph within the graph has no place here"))
            return
        inner = getattr(self._exported.graph_module, node.args[place].target)
        operands = iter(node.args[place + 1 :])
        for item in inner.graph.nodes:
            if item.op == "placeholder":
                self._names[item] = self._arg(next(operands))
            elif item.op == "call_function":
                self._call(item, f"{name}/")
            elif item.op == "output":
                self._calls.append(Call("identity", (self._arg(item.args[0]),), {}, (name,), layer, layer_type))
        self._names[node] = Ref(name)

    def _arg(self, value: Any) -> Arg:
        if isinstance(value, torch.fx.Node):
            return self._names.get(value, Ref(value.name))
        if isinstance(value, (list, tuple)):
            return [self._arg(v) for v in value]
        if isinstance(value, torch.dtype):
            return str(value).removeprefix("torch.")
        if value is None or isinstance(value, (torch.device, torch.layout, torch.memory_format)):
            return None
        if isinstance(value, (bool, int, float, str)):
            return value
        raise TypeError(f"its argument {str(value)[:60]} has no place here")


def stored(tensor: torch.Tensor, name: str) -> ir.TensorProtocol:
    """A tensor of torch, not copied before somebody asks for its bytes. One without content (on "meta") has its shape and type alone."""
    from onnx_ir.tensor_adapters import TorchTensor

    held = tensor.detach()
    lies_well = held.is_meta or (held.device.type == "cpu" and held.is_contiguous())
    return TorchTensor(held if lies_well else held.cpu().contiguous(), name=name)


def _input(node: Any) -> Input:
    held = node.meta["val"]
    shape = tuple(int(d) if isinstance(d, int) else str(d) for d in held.shape)
    return Input(node.name, shape, str(held.dtype).removeprefix("torch."))


def _target(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    module = str(getattr(target, "__module__", "") or "").removeprefix("_")
    return f"{module.split('.')[0]}.{getattr(target, '__name__', target)}"


def _layer(node: Any) -> tuple[str, str]:
    stack = node.meta.get("nn_module_stack")
    if not stack:
        return "", ""
    path, kind = list(stack.values())[-1]
    return module_path(path), (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]


def _key(key: Any) -> str | int:
    for name in ("key", "idx", "name"):
        held = getattr(key, name, None)
        if isinstance(held, (str, int)):
            return held
    return str(key)
