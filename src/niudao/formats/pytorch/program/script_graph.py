"""A TorchScript network as a program: its methods are walked, what does not touch tensors is worked out, the rest is noted.

Conditions must come out the same at both choices of the free sizes; loops are unrolled. torch is asked for graphs and shapes only:
nothing of the archive's own code is run by its interpreter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from niudao.formats.pytorch.program.script_arguments import code_of
from niudao.formats.pytorch.program.script_plain import ARITHMETIC, STRUCTURE
from niudao.formats.pytorch.program.script_questions import QUESTIONS
from niudao.formats.pytorch.program.script_tensors import Tape
from niudao.formats.pytorch.program.script_values import Free, Function, Module, Refuse, Scalar, Tensor, Unfit, at, is_free

STEPS = 2_000_000
"""Operations of one walk."""
TURNS = 2_000
"""Of one loop."""
DEPTH = 200
"""Calls inside calls."""

_SAME = frozenset(
    """prim::unchecked_cast prim::unchecked_unwrap_optional aten::_unwrap_optional prim::profile aten::wait
    prim::data""".split()
)
_SILENT = frozenset(("aten::warn", "prim::Print", "prim::AddStatValue", "aten::manual_seed"))


Place = tuple[Any, ...]


def place(tensor: Any) -> Place:
    """Equal for tensors that are one."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride())


class Walk:
    """One walk through a network.

    Args:
        unit: The compilation unit that the archive's functions were loaded into.
        module: The network.
        names: `place` of a weight -> its name in the state dict.
    """

    def __init__(self, unit: Any, module: Any, names: Mapping[Place, str]) -> None:
        self.unit, self.root, self.names = unit, Module(module, "", _class_of(module)), names
        self.tape = Tape()
        self.steps = self.depth = 0
        self.modules: dict[str, Module] = {"": self.root}
        self.weights: dict[Place, Tensor] = {}
        self.state: dict[str, Any] = {}

    def run(self, inputs: Sequence[Any]) -> Any:
        """Walk `forward` on these values."""
        return self.method(self.root, forward_of(self.root.held), list(inputs))

    # modules and functions

    def method(self, module: Module, name: str, args: list[Any]) -> Any:
        held = self.tape.layer
        self.tape.layer = (module.path, module.kind)
        graph = module.held._get_method(name).graph
        try:
            return self._graph(graph, [module, *args])
        except Refuse as e:
            e.layer = e.layer or module.path
            raise
        finally:
            self.tape.layer = held

    def _graph(self, graph: Any, args: list[Any]) -> Any:
        self.depth += 1
        if self.depth > DEPTH:
            raise Refuse("its functions call one another without end")
        names = [v.debugName() for v in graph.inputs()]
        if len(names) != len(args):
            raise Refuse(f"a function of {len(names)} arguments is given {len(args)}")
        env = dict(zip(names, args, strict=True))
        results = self._block(graph, env)
        self.depth -= 1
        return results[0] if len(results) == 1 else tuple(results)

    def attribute(self, module: Module, name: str) -> Any:
        """What a module holds: another module, a weight, a plain value."""
        if name in module.written:
            return module.written[name]
        module.read.add(name)
        path = f"{module.path}.{name}" if module.path else name
        value = module.held.getattr(name)
        if name == "training" and isinstance(value, bool):
            return False  # every network is read at rest
        return self._held(value, path)

    def _held(self, value: Any, path: str) -> Any:
        if isinstance(value, torch._C.ScriptModule):
            if path not in self.modules:
                self.modules[path] = Module(value, path, _class_of(value))
            return self.modules[path]
        if isinstance(value, torch.Tensor):
            if value.layout != torch.strided or value.is_quantized or value.is_complex():
                raise Refuse("a weight that is quantised, complex or sparse")
            key = place(value)
            if key not in self.weights:
                name = self.names.get(key, path)
                self.weights[key] = self.tape.held(value, name)
                self.state[name] = value
            return self.weights[key]
        if isinstance(value, (list, tuple)):
            return type(value)(self._held(v, f"{path}.{i}") for i, v in enumerate(value))
        if isinstance(value, dict):
            return {k: self._held(v, f"{path}.{k}") for k, v in value.items()}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, torch.device):
            return str(value)
        raise Refuse(f"its attribute {path.rpartition('.')[2]!r} is an object of {type(value).__name__}, which is not read")

    # blocks and nodes

    def _block(self, block: Any, env: dict[str, Any]) -> list[Any]:
        for node in block.nodes():
            self.steps += 1
            if self.steps > STEPS:
                raise Refuse(f"it takes more than {STEPS:,} steps")
            kind = node.kind()
            try:
                results = self._node(node, kind, env)
            except Refuse as e:
                e.op = e.op or kind
                raise
            except (TypeError, ValueError, KeyError, IndexError, AttributeError, ArithmeticError) as e:
                raise Unfit(f"{type(e).__name__}: {e}"[:200], kind) from e
            for value, result in zip(node.outputs(), results, strict=False):
                env[value.debugName()] = result
        return [self._get(v, env) for v in block.outputs()] if hasattr(block, "outputs") else []

    def _get(self, value: Any, env: dict[str, Any]) -> Any:
        return env[value.debugName()]

    def _node(self, node: Any, kind: str, env: dict[str, Any]) -> list[Any]:
        own = getattr(self, "_" + kind.replace("::", "_").lower(), None)
        if own is not None and kind.startswith("prim::"):
            return own(node, env)  # type: ignore[no-any-return]
        args = [self._get(v, env) for v in node.inputs()]
        if kind in _SAME:
            return args[:1]
        if kind in _SILENT:
            return []
        result = self.operator(node, kind, args)
        count = node.outputsSize()
        return [result] if count == 1 else list(result) if count else []

    def operator(self, node: Any, kind: str, args: list[Any]) -> Any:
        """A call that is neither control flow nor a module's."""
        if kind in QUESTIONS:
            found = QUESTIONS[kind](self, node, args)
            if found is not NotImplemented:
                return found
        holds = any(isinstance(a, (Tensor, Scalar)) for a in _flat(args))
        gives = any("Tensor" in str(v.type()) for v in node.outputs())
        container = bool(args) and isinstance(args[0], (list, dict, tuple, str))
        if kind in STRUCTURE and (container or not holds):
            index = [at(a, 0) if isinstance(a, Free) and a.values[0] == a.values[-1] else a for a in args[1:]]
            if kind in ("aten::__getitem__", "aten::slice", "aten::index", "aten::__contains__") and is_free(index):
                raise Unfit("it indexes a list by a free size")
            return STRUCTURE[kind](args[0], *index)
        if not holds and not gives:
            return self.arithmetic(kind, args)
        return self.tape.call(node.schema(), args)

    def arithmetic(self, kind: str, args: list[Any]) -> Any:
        """An operation on numbers, at both choices of the free sizes."""
        if kind not in ARITHMETIC:
            raise Refuse("this operation is unknown", kind)
        function, target = ARITHMETIC[kind]
        if kind == "aten::add" and args and isinstance(args[0], list):
            return [*args[0], *args[1]]
        if not is_free(args):
            return function(*args)
        values = tuple(function(*(at(a, i) for a in args)) for i in range(2))
        if all(isinstance(v, bool) for v in values):
            self.tape.decided = True
        return self.tape.number(target, args, values, kind)

    # control flow

    def _prim_if(self, node: Any, env: dict[str, Any]) -> list[Any]:
        condition = self._get(next(iter(node.inputs())), env)
        chosen = list(node.blocks())[0 if self.truth(condition) else 1]
        return self._block(chosen, env)

    def _prim_loop(self, node: Any, env: dict[str, Any]) -> list[Any]:
        trips, going, *carried = [self._get(v, env) for v in node.inputs()]
        block = next(iter(node.blocks()))
        names = [v.debugName() for v in block.inputs()]
        if isinstance(trips, Free):
            raise Unfit("the number of a loop's turns depends on a free size")
        turn = 0
        while turn < trips and self.truth(going):
            if turn >= TURNS:
                raise Refuse(f"a loop of more than {TURNS:,} turns")
            env.update(zip(names, [turn, *carried], strict=True))
            going, *carried = self._block(block, env)
            turn += 1
        return carried

    def truth(self, value: Any) -> bool:
        """A condition, which must be known."""
        if isinstance(value, Tensor):
            value = self.content(value)
        if isinstance(value, Scalar):
            value = value.number
        if isinstance(value, Free):
            if bool(value.values[0]) != bool(value.values[1]):
                raise Unfit("which branch it takes depends on a free size")
            self.tape.decided = True
            return bool(value.values[0])
        return bool(value)

    def content(self, t: Tensor) -> Any:
        """The number in a tensor of one element."""
        self.tape.ref(t)
        if t.real is None:
            raise Refuse("what it does depends on the content of a tensor")
        return t.real.item()

    def _prim_raiseexception(self, node: Any, env: dict[str, Any]) -> list[Any]:
        message = self._get(next(iter(node.inputs())), env)
        raise Unfit(f"the network itself says: {str(message)[:200]}")

    def _prim_fork(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return [self._graph(node.g("Subgraph"), [self._get(v, env) for v in node.inputs()])]

    # calls and values

    def _prim_constant(self, node: Any, env: dict[str, Any]) -> list[Any]:
        output = node.output()
        if node.hasAttribute("name") and not node.hasAttribute("value"):
            return [Function(str(output.type()))]
        value = output.toIValue()
        return [self.plain(value)]

    def plain(self, value: Any) -> Any:
        """A constant as the walk has it."""
        if isinstance(value, torch.Tensor):
            return self.tape.constant(value)
        if isinstance(value, (list, tuple)):
            return type(value)(self.plain(v) for v in value)
        if isinstance(value, dict):
            return {k: self.plain(v) for k, v in value.items()}
        if isinstance(value, torch.device):
            return str(value)
        if isinstance(value, torch.dtype):
            return code_of(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, torch._C.Generator):
            return None
        raise Refuse(f"a constant of type {type(value).__name__}")

    def _prim_getattr(self, node: Any, env: dict[str, Any]) -> list[Any]:
        owner = self._get(next(iter(node.inputs())), env)
        if not isinstance(owner, Module):
            raise Refuse("it reads an attribute of what is no module")
        return [self.attribute(owner, node.s("name"))]

    def _prim_setattr(self, node: Any, env: dict[str, Any]) -> list[Any]:
        owner, value = (self._get(v, env) for v in node.inputs())
        name = node.s("name")
        if not isinstance(owner, Module):
            raise Refuse("it sets an attribute of what is no module")
        if name in owner.read and value is self.attribute(owner, name):
            return []  # written into in place, and put back
        if name in owner.read and name not in owner.written:
            raise Refuse(f"it remembers something between two runs ({name!r})")
        owner.written[name] = value
        return []

    def _prim_callmethod(self, node: Any, env: dict[str, Any]) -> list[Any]:
        owner, *args = [self._get(v, env) for v in node.inputs()]
        if not isinstance(owner, Module):
            raise Refuse("it calls a method of what is no module")
        return self._several(node, self.method(owner, node.s("name"), args))

    def _prim_callfunction(self, node: Any, env: dict[str, Any]) -> list[Any]:
        function, *args = [self._get(v, env) for v in node.inputs()]
        if not isinstance(function, Function):
            raise Refuse("it calls what is no function")
        found = self.unit.find_function(function.name)
        if found is None:
            raise Refuse(f"it calls a function that the archive does not hold ({function.name[:80]})")
        return self._several(node, self._graph(found.graph, args))

    def _several(self, node: Any, result: Any) -> list[Any]:
        return [result] if node.outputsSize() == 1 else list(result) if node.outputsSize() else []

    def _prim_listconstruct(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return [[self._get(v, env) for v in node.inputs()]]

    def _prim_tupleconstruct(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return [tuple(self._get(v, env) for v in node.inputs())]

    def _prim_dictconstruct(self, node: Any, env: dict[str, Any]) -> list[Any]:
        held = [self._get(v, env) for v in node.inputs()]
        return [dict(zip(held[::2], held[1::2], strict=True))]

    def _prim_listunpack(self, node: Any, env: dict[str, Any]) -> list[Any]:
        held = self._get(next(iter(node.inputs())), env)
        if len(held) != node.outputsSize():
            raise Unfit(f"a list of {len(held)} where {node.outputsSize()} are taken apart")
        return list(held)

    _prim_tupleunpack = _prim_listunpack

    def _prim_tupleindex(self, node: Any, env: dict[str, Any]) -> list[Any]:
        held, index = (self._get(v, env) for v in node.inputs())
        return [held[index]]

    def _prim_tupleslice(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return [self._get(next(iter(node.inputs())), env)[node.i("beg") : node.i("end")]]

    def _prim_uninitialized(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return [None]

    def _prim_numtotensor(self, node: Any, env: dict[str, Any]) -> list[Any]:
        number = self._get(next(iter(node.inputs())), env)
        value = at(number, 0)
        dtype = torch.bool if isinstance(value, bool) else torch.int64 if isinstance(value, int) else torch.float64
        return [Scalar(number, dtype)]

    def _prim_isinstance(self, node: Any, env: dict[str, Any]) -> list[Any]:
        value = self._get(next(iter(node.inputs())), env)
        names = [str(t) for t in node.tys("types")]
        kinds: dict[str, Any] = {"Tensor": (Tensor, Scalar), "int": int, "float": float, "bool": bool, "str": str, "NoneType": type(None)}
        for name in names:
            if name in kinds and isinstance(at(value, 0), kinds[name]) and (name != "int" or not isinstance(value, bool)):
                return [True]
            if (name.endswith("[]") or name.startswith("List")) and isinstance(value, list):
                return [True]
            if name.startswith(("(", "Tuple")) and isinstance(value, tuple):
                return [True]
        return [False]

    def _prim_dtype(self, node: Any, env: dict[str, Any]) -> list[Any]:
        x = self._get(next(iter(node.inputs())), env)
        return [code_of(x.dtype if isinstance(x, Scalar) else x.probes[0].dtype)]

    def _prim_device(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return ["cpu"]

    def _prim_type(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return ["cpu"]  # of a device

    def _prim_layout(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return [0]

    def _prim_no(self, node: Any, env: dict[str, Any]) -> list[Any]:
        return [False]

    _prim_is_cuda = _prim_is_quantized = _prim_is_sparse = _prim_is_mkldnn = _prim_is_meta = _prim_is_nested = _prim_no
    _prim_requires_grad = _prim_is_xpu = _prim_is_mps = _prim_is_ipu = _prim_is_vulkan = _prim_no


def _class_of(module: Any) -> str:
    return str(module._type().qualified_name()).rpartition(".")[2]


def _flat(args: Any) -> list[Any]:
    if isinstance(args, (list, tuple)):
        return [v for a in args for v in _flat(a)]
    return [v for a in args.values() for v in _flat(a)] if isinstance(args, dict) else [args]


def forward_of(module: Any) -> str:
    """What the archive calls `forward`; overloaded ones (of a bare LSTM) have a number."""
    for name in ("forward", "forward__0"):
        if module._has_method(name):
            return name
    raise Refuse("the archive has no forward", "forward")


def argument_names(module: Any) -> list[tuple[str, str, Any]]:
    """(name, type, default) of what `forward` takes; the default is an ellipsis where there is none."""
    schema = module._get_method(forward_of(module)).schema
    found: list[tuple[str, str, Any]] = []
    for argument in schema.arguments[1:]:
        name = re.sub(r"\.\d+$", "", argument.name) or "input"
        default = argument.default_value if argument.has_default_value() else ...
        taken = [n for n, _, _ in found]
        while name in taken:
            name += "_"
        found.append((name, str(argument.type), default))
    return found
