"""Operators on tensors in TorchScript: run without content to learn shapes, noted as calls, writing into memory made plain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch  # noqa: TID253 - imported by the worker alone

from niudao.formats.pytorch.program.script_arguments import CODES, content, dtype_name, noted, tensors
from niudao.formats.pytorch.program.script_memory import inverse, patch
from niudao.formats.pytorch.program.script_values import Free, Name, Refuse, Scalar, Tensor, Unfit, is_free

_SMALL = 4096
"""Elements of a constant whose content is worked out on the way."""
_FORBIDDEN = frozenset(("from_file", "save", "load", "wait", "fork", "is_pinned", "set_data"))
_RESHAPED_IN_PLACE = frozenset("squeeze_ unsqueeze_ t_ transpose_ swapaxes_ swapdims_ as_strided_ resize_ set_ resize_as_".split())
_AS_NUMBERS = frozenset(
    """add sub rsub mul div true_divide divide multiply subtract pow remainder fmod floor_divide eq ne lt le gt ge where masked_fill fill
    copy maximum minimum clamp clamp_min clamp_max""".split()
)
"""Operators that take a number where a tensor without axes stands."""
_NUMERIC = {
    "add": "operator.add",
    "sub": "operator.sub",
    "mul": "operator.mul",
    "div": "operator.truediv",
    "floor_divide": "operator.floordiv",
    "remainder": "operator.mod",
    "pow": "operator.pow",
    "neg": "operator.neg",
    "floor": "math.floor",
    "ceil": "math.ceil",
    "round": "builtins.round",
    "trunc": "math.trunc",
    "clone": "",
    "detach": "",
    "contiguous": "",
    "lift_fresh": "",
}


class Tape:
    """Calls as they are made."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.constants: dict[str, Any] = {}
        self.layer: tuple[str, str] = ("", "")
        self.written: set[str] = set()
        self.decided = False
        self._names = 0
        self._epochs: dict[int, int] = {}
        self._schemas: dict[str, Any] = {}

    # notes

    def fresh(self, stem: str = "v") -> str:
        self._names += 1
        return f"{stem}:{self._names}"

    def note(self, target: str, args: Sequence[Any], kwargs: dict[str, Any] | None = None, outputs: int = 1) -> list[str]:
        """One call; arguments as they are on the walk."""
        names = [self.fresh() for _ in range(outputs)]
        plain = [self.plain(a) for a in args]
        named = {k: self.plain(v) for k, v in (kwargs or {}).items()}
        self.calls.append({"target": target, "args": plain, "kwargs": named, "outputs": names, "layer": list(self.layer)})
        return names

    def plain(self, value: Any) -> Any:
        """An argument as JSON has it; a tensor under its name of now."""
        if isinstance(value, Tensor):
            return {"ref": self.ref(value)}
        if isinstance(value, (Free, Name)):
            return {"ref": value.name}
        if isinstance(value, Scalar):
            return self.plain(value.number)
        if isinstance(value, (list, tuple)):
            return [self.plain(v) for v in value]
        if isinstance(value, (torch.device, torch.memory_format, torch.layout)):
            return None
        if isinstance(value, torch.dtype):
            return dtype_name(value)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        raise Refuse(f"an argument that is a {type(value).__name__}")

    def number(self, target: str, args: Sequence[Any], values: tuple[Any, ...], op: str = "") -> Any:
        """The result of an operation on numbers."""
        if all(v == values[0] and type(v) is type(values[0]) for v in values):
            return values[0]
        if not target:
            raise Unfit("it computes with a free size in a way that no program has a word for", op)
        return Free(values, self.note(target, args)[0])

    # tensors

    def ref(self, t: Tensor) -> str:
        """The name of a tensor's value, made anew where its memory was written into through another view."""
        now = self._epochs.get(id(t.root), 0)
        if t.base is not None and t.epoch != now:
            if t.remake is None:
                raise Refuse("something is written into memory that a tensor shares in a way that cannot be followed")
            t.name = t.remake()
            t.epoch = now
        return t.name

    def constant(self, value: Any) -> Scalar | Tensor:
        """A tensor of the archive's constants."""
        if value.layout != torch.strided or value.is_quantized or value.is_complex():
            raise Refuse(f"a constant that is {'quantised' if value.is_quantized else 'complex or sparse'}")
        if value.dim() == 0:
            return Scalar(value.item(), value.dtype)
        name = f"constant_{len(self.constants)}"
        self.constants[name] = value.detach()
        return self.held(value, name)

    def held(self, value: Any, name: str, choices: int = 2) -> Tensor:
        """A weight or a constant."""
        probe = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        return Tensor(name, (probe,) * choices, value.detach() if value.numel() <= _SMALL else None, weight=name)

    def tensor(self, value: Scalar | Tensor) -> Tensor:
        """A number without axes as a tensor."""
        if isinstance(value, Tensor):
            return value
        name = self.note("aten.scalar_tensor.default", [value.number], {"dtype": value.dtype})[0]
        numbers = value.number.values if isinstance(value.number, Free) else (value.number,) * 2
        probes = tuple(torch.empty((), dtype=value.dtype, device="meta") for _ in numbers)
        return Tensor(name, probes, None if is_free(value.number) else torch.tensor(value.number, dtype=value.dtype))

    def size(self, t: Tensor | Scalar, dim: int) -> Any:
        """A size: a number, or one that is free."""
        if isinstance(t, Scalar):
            raise Unfit("it asks a tensor without axes for a size")
        sizes = tuple(p.shape[dim] for p in t.probes)
        return self.number("aten.sym_size.int", [t, dim], sizes)

    def sizes(self, t: Tensor | Scalar) -> list[Any]:
        rank = self.rank(t)
        return [self.size(t, i) for i in range(rank)]

    def rank(self, t: Tensor | Scalar) -> int:
        if isinstance(t, Scalar):
            return 0
        ranks = {p.dim() for p in t.probes}
        if len(ranks) > 1:
            raise Unfit("the number of axes depends on free sizes")
        return int(ranks.pop())

    def type_of(self, code: Any) -> Any:
        """A type of torch's by its number in TorchScript."""
        if isinstance(code, int) and code not in CODES:
            raise Refuse("complex or quantised numbers have no place here")
        return CODES[code] if isinstance(code, int) else code

    # operators

    def schema(self, text: str) -> Any:
        if text not in self._schemas:
            self._schemas[text] = torch._C.parse_schema(text)
        return self._schemas[text]

    def call(self, text: str, args: list[Any]) -> Any:
        """One operator on tensors.

        Args:
            text: Its schema.
            args: All arguments, in the order of the schema.
        """
        schema = self.schema(text)
        space, _, base = schema.name.partition("::")
        if space != "aten" or base in _FORBIDDEN:
            raise Refuse(
                "this operator is none of torch's own" if space != "aten" else "this operator has no place in a network", schema.name
            )
        if base == "to" or base in ("cpu", "cuda", "type_as"):
            return self._to(schema, base, args)
        flat = [a for arg in args for a in (arg if isinstance(arg, (list, tuple)) else [arg])]
        if not any(isinstance(a, Tensor) for a in flat) and any(isinstance(a, Scalar) for a in flat) and base in _NUMERIC:
            return self._scalar(schema, base, args)
        in_place = schema.arguments and schema.arguments[0].alias_info is not None and schema.arguments[0].alias_info.is_write
        if any(a.alias_info is not None and a.alias_info.is_write for a in schema.arguments[1:]):
            raise Refuse("it writes into an argument that it is given for its result", schema.name)
        twin = base[:-1] if in_place and base.endswith("_") else base
        args = [self._operand(a, twin, schema, i) for i, a in enumerate(args)]
        results = self._probe(schema, base, args)
        if in_place:
            return self._write(schema, base, args)
        target = f"aten.{base}.{schema.overload_name or 'default'}"
        return self._noted(schema, target, args, results)

    def _operand(self, value: Any, base: str, schema: Any, place: int) -> Any:
        """Numbers without axes stay numbers where the operator takes such, and become tensors elsewhere."""
        if isinstance(value, Scalar):
            if "Tensor" not in str(schema.arguments[place].real_type):
                return value.number
            if base in _AS_NUMBERS and place and value.dtype != torch.float64:
                return value
            if base in _AS_NUMBERS and place and value.dtype == torch.float64:
                return Scalar(value.number, torch.float32)
            return self.tensor(value)
        if isinstance(value, (list, tuple)) and any(isinstance(v, Scalar) for v in value):
            tensors = "Tensor" in str(schema.arguments[place].real_type)
            return [(self.tensor(v) if tensors else v.number) if isinstance(v, Scalar) else v for v in value]
        return value

    def _split(self, schema: Any, args: Sequence[Any], change: Callable[[Any, Any], Any]) -> tuple[list[Any], dict[str, Any]]:
        """Arguments by position and by name."""
        positional, named = [], {}
        for argument, value in zip(schema.arguments, args, strict=True):
            changed = change(argument, value)
            if argument.kwarg_only:
                named[argument.name] = changed
            else:
                positional.append(changed)
        return positional, named

    def _probe(self, schema: Any, base: str, args: Sequence[Any]) -> list[Any]:
        """The operator on tensors without content, at each choice of the free sizes."""
        packet = getattr(torch.ops.aten, base, None)
        op = getattr(packet, schema.overload_name or "default", None)
        if op is None:
            raise Refuse("this operator is unknown to the torch that is installed", schema.name)
        results = []
        choices = max((len(t.probes) for t in tensors(args)), default=2)
        for i in range(choices):
            positional, named = self._split(schema, args, partial(content, i))
            try:
                with torch.no_grad():
                    results.append(op(*positional, **named))
            except NotImplementedError as e:
                raise Refuse("the shape of its result depends on content", schema.name) from e
            except Exception as e:  # operators raise several classes where shapes do not fit
                lines = str(e).strip().splitlines() or [type(e).__name__]
                raise Unfit(lines[0][:200], schema.name) from e
        return results

    def _noted(self, schema: Any, target: str, args: list[Any], results: list[Any]) -> Any:
        first = results[0]
        positional, named = self._split(schema, args, noted)
        if isinstance(first, torch.Tensor):
            name = self.note(target, positional, named)[0]
            made = Tensor(name, tuple(results), self._real(schema, args, results))
            self._relate(made, target, args, positional, named)
            return made
        if isinstance(first, list):
            if len({len(r) for r in results}) > 1:
                raise Unfit("the number of its results depends on a free size", schema.name)
            return self._parts(schema, target, args, positional, named, results)
        if isinstance(first, tuple):
            names = self.note(target, positional, named, outputs=len(first))
            return tuple(
                Tensor(name, tuple(r[k] for r in results)) if isinstance(first[k], torch.Tensor) else first[k]
                for k, name in enumerate(names)
            )
        return self.number(target, [*positional], tuple(results), schema.name)

    def _real(self, schema: Any, args: Sequence[Any], results: list[Any]) -> Any:
        """The content of a small result that depends on no input."""
        if any(t.real is None for t in tensors(args)) or any(is_free(a) for a in args) or results[0].numel() > _SMALL:
            return None
        if any(r.shape != results[0].shape for r in results) or "Generator" in str(schema):
            return None
        positional, named = self._split(schema, args, partial(content, -1))
        op = getattr(getattr(torch.ops.aten, schema.name.partition("::")[2]), schema.overload_name or "default")
        try:
            with torch.no_grad():
                found = op(*positional, **named)
            return found if isinstance(found, torch.Tensor) else None
        except Exception:  # then the content stays unknown
            return None

    def _parts(
        self, schema: Any, target: str, args: list[Any], positional: list[Any], named: dict[str, Any], results: list[Any]
    ) -> list[Tensor]:
        """A list of tensors; each is a part of the first argument, if it is a view."""
        whole = self.note(target, positional, named)[0]
        dim = next((v for a, v in zip(schema.arguments, args, strict=True) if a.name == "dim"), None)
        made: list[Tensor] = []
        for k in range(len(results[0])):
            self.calls.append(
                {"target": "getitem", "args": [{"ref": whole}, k], "kwargs": {}, "outputs": [self.fresh()], "layer": list(self.layer)}
            )
            part = Tensor(self.calls[-1]["outputs"][0], tuple(r[k] for r in results))
            source = args[0]
            if isinstance(source, Tensor) and _shares(part, source):
                part.base, part.epoch = source, self._epochs.get(id(source.root), 0)

                def remake(k: int = k) -> str:
                    again = self.note(target, positional, named)[0]
                    return self.note("getitem", [Name(again), k])[0]

                part.remake = remake
                part.spread = patch(self, source, part, made, dim)
            made.append(part)
        return made

    def _relate(self, made: Tensor, target: str, args: list[Any], positional: list[Any], named: dict[str, Any]) -> None:
        """Note what a view is a view of, and how something written into it reaches the rest."""
        source = next((a for a in args if isinstance(a, Tensor)), None)
        if source is None or not _shares(made, source):
            return
        made.base, made.epoch = source, self._epochs.get(id(source.root), 0)
        made.remake = lambda: self.note(target, positional, named)[0]
        base, _, _ = target.removeprefix("aten.").partition(".")

        made.spread = inverse(self, base, made, source, positional)

    def _write(self, schema: Any, base: str, args: list[Any]) -> Any:
        """An operator that writes into its first argument: the same operator elsewhere, and new names for what shares the memory."""
        x = args[0]
        if not isinstance(x, Tensor):
            raise Refuse("it writes into what is no tensor", schema.name)
        positional, named = self._split(schema, args, noted)
        twin = {"_index_put_impl_": "index_put"}.get(base, base.removesuffix("_"))
        chain = [x]
        while chain[-1].base is not None:
            chain.append(chain[-1].base)
        for t in chain:
            self.ref(t)
        name = self.note(f"aten.{twin}.{schema.overload_name or 'default'}", positional, named)[0]
        others = [t for t in tensors(args[1:]) if t.probes[0].dim()]
        kinds = [t.probes[0].dtype for t in others if t.probes[0].dtype != x.probes[0].dtype]
        if kinds and twin in ("add", "sub", "mul", "div", "pow", "clamp", "remainder"):
            name = self.note("aten.to.dtype", [Name(name), x.probes[0].dtype])[0]
        if base in _RESHAPED_IN_PLACE:
            if x.base is not None or base in ("as_strided_", "resize_", "set_", "resize_as_"):
                raise Refuse("it changes the shape of memory that others share", schema.name)
            x.name, x.real = name, None
            self._epochs[id(x)] = self._epochs.get(id(x), 0) + 1
            return x
        root = x.root
        if root.weight:
            self.written.add(root.weight)
        epoch = self._epochs[id(root)] = self._epochs.get(id(root), 0) + 1
        for t in chain:
            t.name, t.real, t.epoch = name, None, epoch
            if t.base is not None:
                if t.spread is None:
                    raise Refuse("something is written into a part of a tensor, which cannot be followed", schema.name)
                # the base still goes by its old name here
                t.base.epoch = epoch
                name = t.spread(name)
        return x

    def _to(self, schema: Any, base: str, args: list[Any]) -> Any:
        """Another type; devices and orders in memory do not matter."""
        x = args[0]
        given = dict(zip([a.name for a in schema.arguments], args, strict=True))
        dtype = given.get("dtype")
        other = given.get("other")
        if other is not None:
            dtype = other.dtype if isinstance(other, Scalar) else other.probes[0].dtype
        dtype = CODES.get(dtype) if isinstance(dtype, int) else dtype
        if isinstance(x, Scalar):
            if dtype is None or dtype == x.dtype:
                return Scalar(x.number, dtype or x.dtype)
            if not dtype.is_floating_point and isinstance(x.number, float):
                return Scalar(int(x.number), dtype)
            return Scalar(x.number if isinstance(x.number, Free) or not dtype.is_floating_point else float(x.number), dtype)
        wanted = dtype or x.probes[0].dtype
        if wanted.is_complex:
            raise Refuse("complex numbers have no place here", schema.name)
        if wanted == x.probes[0].dtype and not given.get("copy"):
            return x
        name = self.note("aten.to.dtype", [x, wanted])[0]
        return Tensor(name, tuple(p.to(wanted, copy=True) for p in x.probes), None if x.real is None else x.real.to(wanted))

    def _scalar(self, schema: Any, base: str, args: list[Any]) -> Any:
        """Numbers without axes among themselves."""
        results = []
        op = getattr(getattr(torch.ops.aten, base), schema.overload_name or "default")
        for i in range(2):
            positional, named = self._split(schema, args, partial(content, i))
            try:
                results.append(op(*positional, **named))
            except Exception as e:  # as in _probe
                raise Unfit(str(e).strip().splitlines()[0][:200], schema.name) from e
        numbers = tuple(r.item() for r in results)
        given = dict(zip([a.name for a in schema.arguments], args, strict=True))
        operands = [v.number if isinstance(v, Scalar) else v for v in args[: len(args) if base not in ("add", "sub") else 2]]
        target = _NUMERIC[base]
        if base == "div" and given.get("rounding_mode"):
            target = "operator.floordiv"
        if base == "div":
            operands = operands[:2]
        if given.get("alpha", 1) != 1:
            target = ""
        if _NUMERIC[base] == "":
            return Scalar(args[0].number, results[0].dtype)
        return Scalar(self.number(target, operands, numbers, schema.name), results[0].dtype)


def _shares(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors lie in the same memory."""
    return bool(a.probes[0].untyped_storage()._cdata == b.probes[0].untyped_storage()._cdata)
