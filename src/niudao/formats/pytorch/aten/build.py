"""A program as a model: walk the calls, look each up in the table, and collect what cannot be expressed."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from niudao.errors import InvalidModel, NiudaoError, Refusal, Unsupported, UsageError, Where
from niudao.formats.pytorch.aten import promotion
from niudao.formats.pytorch.aten.layers import layer_names
from niudao.formats.pytorch.aten.liveness import living
from niudao.formats.pytorch.aten.lowering import Absent, Lowering, Refused, Scope
from niudao.formats.pytorch.aten.mutation import Views
from niudao.formats.pytorch.aten.sizes import Atom, OpenSize, Sym
from niudao.formats.pytorch.aten.table import find, in_place
from niudao.formats.pytorch.checkpoint.tensors import StoredTensor
from niudao.formats.pytorch.program.program import Arg, Call, Input, Program, Ref, Weight, refs
from niudao.ir import card
from niudao.ir.build import Builder

READER = "niudao's reader of PyTorch"
UNKNOWN = "this operator has no place here"
GARBAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, MemoryError, RecursionError)
"""What Python raises where a file's arguments are of another kind than any torch writes."""


def build(program: Program, *, shapes: Mapping[str, Sequence[int | None]] | None = None) -> ir.Model:
    """The model of a program.

    Args:
        program: The calls.
        shapes: Input name -> shape that fixes what the program leaves open.

    Raises:
        Unsupported: Calls that the table does not know or cannot express, all of them.
        UsageError: A shape that contradicts the program, or one that is needed and missing.
        InvalidModel: The program makes no sense.
    """
    return _Build(program, shapes or {}).model()


class _Build:
    def __init__(self, program: Program, shapes: Mapping[str, Sequence[int | None]]) -> None:
        self.program, self.shapes = program, shapes
        self.b = Builder("main")
        self.scope = Scope()
        self.values: dict[str, Any] = {}
        self.views = Views(program, lambda name: self._resolved(Ref(name)), lambda call: self._result(-1, call))
        self.refusals: list[Refusal] = []
        self.notes = list(program.notes)
        self._shared: dict[Any, ir.Value] = {}

    def model(self) -> ir.Model:
        for name in self.shapes:
            if not any(i.name == name for i in self.program.inputs):
                known = ", ".join(i.name for i in self.program.inputs)
                raise UsageError(f"no input is called {name!r}.", expected=known, got=name)
        for entry in self.program.inputs:
            self.values[entry.name] = self._input(entry)
        live = living(self.program)
        self._count(live)
        names = layer_names(self.program, live)
        for i, call in enumerate(self.program.calls):
            if i in live:
                self._call(i, call, names[i])
        if self.refusals:
            raise Unsupported(READER, self.refusals)
        for name, value in self.program.outputs:
            self._output(name, value)
        if not self.b.outputs:
            raise InvalidModel("the network gives no tensor.", expected="at least one output that depends on the network")
        self._prune()
        model = self.b.model()
        self.notes += self.scope.notes
        if self.notes:
            import json

            model.metadata_props[card.NOTES] = json.dumps(list(dict.fromkeys(self.notes)))
        return model

    def _input(self, entry: Input) -> ir.Value:
        shape = self._shape(entry)
        dims: list[int | str | None] = []
        for i, d in enumerate(shape):
            if isinstance(d, str):
                dims.append(self._shared_name(d, entry, i))
            else:
                dims.append(d)
        value = self.b.input(entry.name, dims, promotion.named(entry.dtype))
        for i, held in enumerate(value.shape or ()):
            if isinstance(held, ir.SymbolicDim) and held.value and held.value not in self.scope.symbols:
                self.scope.symbols[held.value] = Sym.of(Atom(held.value, value, i))
        return value

    def _shape(self, entry: Input) -> tuple[int | str | None, ...]:
        given = self.shapes.get(entry.name)
        if given is None:
            if entry.shape is None:
                where = Where(node=entry.name)
                hint = f"--shape {entry.name}=1x3x224x224 with the numbers of this network"
                raise UsageError(f"the file does not say the shape of the input {entry.name!r}.", where=where, next=hint)
            return entry.shape
        wanted = tuple(given)
        if entry.shape is not None:
            fits = len(wanted) == len(entry.shape) and all(
                w in (None, d) or isinstance(d, str) for w, d in zip(wanted, entry.shape, strict=True)
            )
            if not fits:
                raise UsageError(f"the shape given for {entry.name!r} contradicts the file.", expected=str(entry.shape), got=str(wanted))
            return tuple(d if w is None else w for w, d in zip(wanted, entry.shape, strict=True))
        return wanted

    def _shared_name(self, symbol: str, entry: Input, axis: int) -> str:
        """One name for one free size: `batch` for the first axis of the first input, the file's symbol for others."""
        first = next(
            ((e, i) for e in self.program.inputs for i, d in enumerate(e.shape or ()) if d == symbol),
            (entry, axis),
        )
        if first[1] != 0:
            return symbol
        leading = list(dict.fromkeys(e.shape[0] for e in self.program.inputs if e.shape and isinstance(e.shape[0], str)))
        place = leading.index(symbol) if symbol in leading else 0
        return f"batch_{place}" if place else "batch"

    def _count(self, live: set[int]) -> None:
        """Note which weights have one user, and which parts of results have any."""
        counts: dict[str, int] = {}
        for i in live:
            call = self.program.calls[i]
            if call.target == "getitem" and isinstance(call.args[0], Ref) and isinstance(call.args[1], int):
                self.scope.used.add((call.args[0].name, call.args[1]))
            for name in (*refs(call.args), *refs(call.kwargs)):
                counts[name] = counts.get(name, 0) + 1
        for _, value in self.program.outputs:
            for name in refs(value):
                counts[name] = counts.get(name, 0) + 2
        self.scope.used |= {(name, -1) for name in counts}
        users: dict[Any, int] = {}
        for name, weight in self.program.weights.items():
            users[_same(weight)] = users.get(_same(weight), 0) + counts.get(name, 0)
        self.scope.single = {w.fqn for w in self.program.weights.values() if users[_same(w)] == 1}

    def _weight(self, weight: Weight) -> ir.Value:
        key = _same(weight)
        if key not in self._shared:
            tensor = weight.tensor
            made = tensor.tensor(weight.fqn) if isinstance(tensor, StoredTensor) else tensor
            self._shared[key] = self.b.weight(made, weight.fqn)
        return self._shared[key]

    def _resolved(self, arg: Arg) -> Any:
        if isinstance(arg, Ref):
            if arg.name not in self.values:
                weight = self.program.weights.get(arg.name)
                if weight is None:
                    raise InvalidModel(f"a call uses {arg.name[:80]!r}, which nothing gives.")
                self.values[arg.name] = self._weight(weight)
            return self.values[arg.name]
        return [self._resolved(a) for a in arg] if isinstance(arg, list) else arg

    def _call(self, place: int, call: Call, layer: str) -> None:
        self.b.layer, self.b.layer_type = layer, call.layer_type
        try:
            result = self._result(place, call)
        except (Refused, OpenSize) as e:
            reason = str(e)
            rewrite = e.rewrite if isinstance(e, Refused) else "give the input's shape"
            self.refusals.append(Refusal(layer, call.target, reason, getattr(e, "attribute", None), rewrite=rewrite))
            result = Absent()
        except InvalidModel as e:
            raise InvalidModel(f"{call.target} of {layer!r}: {e.message}", where=Where(node=layer), got=e.got) from e
        except NiudaoError:
            raise
        except GARBAGE as e:
            reason = f"{type(e).__name__}: {e}"[:200]
            raise InvalidModel(f"{call.target} of {layer!r} has arguments that do not fit: {reason}.", where=Where(node=layer)) from e
        finally:
            self.b.layer, self.b.layer_type = "", ""
        self._bind(call, result)

    def _result(self, place: int, call: Call) -> Any:
        args, kwargs = [self._resolved(a) for a in call.args], {k: self._resolved(v) for k, v in call.kwargs.items()}
        if call.target == "identity":
            return args[0]
        if call.target != "getitem":
            for absent in _absent([*args, *kwargs.values()]):
                if absent.reason or find(call.target) is None:
                    raise Refused(absent.reason or UNKNOWN)
                return Absent()
        else:
            held = args[0] if isinstance(args[0], (list, tuple, Absent)) else [args[0]]
            return held if isinstance(held, Absent) else held[args[1]]
        lower = find(call.target)
        if lower is None:
            raise Refused(UNKNOWN)
        c = Lowering(self.b, call, self.scope)
        try:
            inspect.signature(lower).bind(c, *args, **kwargs)
        except TypeError as e:
            raise Refused(f"its arguments are others than expected: {e}") from e
        result = lower(c, *args, **kwargs)
        if in_place(call.target):
            result = self._written(place, call, result, c)
        return result

    def _written(self, place: int, call: Call, result: Any, c: Lowering) -> Any:
        """An operator wrote into its first argument: whatever is read under that name from now on is the result."""
        target = call.args[0] if call.args else next(iter(call.kwargs.values()), None)
        if isinstance(target, Ref) and isinstance(result, ir.Value):
            old = self.values[target.name]
            if isinstance(old, ir.Value) and old.dtype is not None:
                result = c.cast(result, old.dtype)
            self.views.write(place, target.name, result, self.values, c)
        return result

    def _bind(self, call: Call, result: Any) -> None:
        names = call.outputs
        if len(names) == 1:
            self.values[names[0]] = result
        elif isinstance(result, (tuple, list)) and len(result) >= len(names):
            self.values.update(zip(names, result, strict=False))
        elif names:
            self.values.update(
                dict.fromkeys(names, result if isinstance(result, Absent) else Absent("it uses a result that is not computed"))
            )

    def _prune(self) -> None:
        """Leave out nodes that nobody needs: transpositions that became a flag of Gemm."""
        needed = {id(v) for v in self.b.outputs}
        kept = []
        for node in reversed(self.b.nodes):
            if any(id(v) in needed for v in node.outputs):
                kept.append(node)
                needed |= {id(v) for v in node.inputs if v is not None}
            else:
                for i in range(len(node.inputs)):
                    node.replace_input_with(i, None)
        self.b.nodes = kept[::-1]

    def _output(self, name: str, arg: Arg) -> None:
        value = self._resolved(arg)
        if isinstance(value, ir.Value):
            self.b.output(value, name)
        elif isinstance(value, list):
            for i, item in enumerate(value):
                if isinstance(item, ir.Value):
                    self.b.output(item, f"{name}_{i}" if i else name)
        elif isinstance(value, Absent):
            raise Unsupported(READER, [Refusal(name, "output", value.reason)])
        elif value is not None:
            self.notes.append(f"output {name} is the number {value} whatever the input, and is left out")


def _same(weight: Weight) -> Any:
    """Equal for weights that are one under two names: tied ones."""
    return weight.tensor.place if isinstance(weight.tensor, StoredTensor) else weight.fqn


def _absent(args: list[Any]) -> list[Absent]:
    found = []
    for arg in args:
        if isinstance(arg, Absent):
            found.append(arg)
        elif isinstance(arg, list):
            found += _absent(arg)
    return found
