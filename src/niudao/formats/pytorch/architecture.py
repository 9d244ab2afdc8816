"""The network that a state dict belongs to: one of the zoo, or what the user's own file makes, which is run only with consent."""

from __future__ import annotations

import ast
import contextlib
import inspect
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, TypeVar

from niudao.errors import MissingExtra, ReadError, UnknownName, UsageError, Where
from niudao.formats.pytorch.checkpoint.part import part_of

Shapes = Mapping[str, tuple[int, ...]]
T = TypeVar("T")


@dataclass(frozen=True)
class Built:
    """A network without its weights.

    Attributes:
        name: How the user named it.
        module: The `nn.Module`; what its tensors hold means nothing.
        inputs: Example inputs.
    """

    name: str
    module: Any
    inputs: tuple[Any, ...]


def build(arch: str, tensors: Shapes, *, shapes: Shapes | None, trust: bool) -> Built:
    """Make the network that `arch` names.

    Args:
        arch: A name of the zoo, or `FILE.py:FACTORY`.
        tensors: Name -> shape of what the file holds: a zoo network gets as many classes as its last layer has.
        shapes: Input name -> shape; a factory of the user's own needs them, unless its file has `example_inputs`, a tensor, a tuple of
            them, or a function that gives them.
        trust: The user's file may be run.

    Raises:
        UsageError: No such architecture; or a file is named without consent, or without the shape of its input.
        MissingExtra: torch is not installed.
    """
    path, _, factory = arch.rpartition(":") if ".py:" in arch else (arch, "", "")
    if not path.endswith(".py"):
        return _of_zoo(arch, tensors, shapes)
    if not Path(path).is_file():
        raise ReadError(f"the file {path} does not exist.", where=path, expected="--arch FILE.py:FACTORY, or a name of the zoo")
    if not trust:
        raise UsageError(
            f"{path} would be run to build the network.", where=Where(file=path), next=f"add --trust if you know what {path} does"
        )
    _need_torch()
    return _of_file(Path(path), factory, shapes)


def _need_torch() -> None:
    if find_spec("torch") is None:
        raise MissingExtra("building the network that a state dict belongs to", "torch", "torch")


def _of_zoo(arch: str, tensors: Shapes, shapes: Shapes | None) -> Built:
    from niudao import zoo

    try:
        entry = zoo.ARCHITECTURES[zoo.plain(arch)]
    except UnknownName as e:
        e.next = e.next or "niudao zoo list, or FILE.py:FACTORY with --trust"
        raise
    _need_torch()
    import torch

    with torch.device("meta"):
        own = part_of(tensors, entry.build().state_dict()).tensors
        classes = zoo.classes_in(entry.name, own)
        module = entry.build(classes=classes)
    device = "meta"
    if _holds_more(module):  # what no file holds must be computed
        module, device = entry.build(classes=classes), "cpu"
    if shapes and len(shapes) > 1:
        raise UsageError(f"{entry.name} has one input.", expected="one --shape", got=", ".join(shapes))
    size = tuple(next(iter(shapes.values())))[1:] if shapes else entry.input
    if len(size) != 3 or size[0] != entry.input[0]:
        given = "x".join(map(str, next(iter((shapes or {}).values()))))
        raise UsageError(f"{entry.name} does not take this shape.", expected=f"1x{entry.input[0]}xHxW", got=given)
    return Built(arch, module.eval(), (torch.zeros(2, *size, device=device),))


def _holds_more(module: Any) -> bool:
    """Whether a network has tensors that its state dict leaves out."""
    import torch

    saved = set(module.state_dict())
    loose = any(isinstance(v, torch.Tensor) for m in module.modules() for v in vars(m).values())
    return loose or any(name not in saved for name, _ in module.named_buffers())


def _of_file(path: Path, factory: str, shapes: Shapes | None) -> Built:
    import torch

    factory = factory or _only_class(path)
    where = Where(file=str(path))
    with _running(path) as source:
        make = getattr(source, factory, None)
        if not callable(make):
            raise UsageError(f"{path.name} has no {factory}.", where=where, expected="a function or class without arguments")
        if not isinstance(make, torch.nn.Module):
            _without_arguments(make, factory, path)
        module = make if isinstance(make, torch.nn.Module) else make()
        examples = getattr(source, "example_inputs", ())
        examples = examples() if callable(examples) else examples
    if not isinstance(module, torch.nn.Module):
        raise UsageError(
            f"{factory} of {path.name} makes no network.", where=where, expected="a torch.nn.Module", got=type(module).__name__
        )
    given = _of_shapes(module, shapes) if shapes else (examples,) if isinstance(examples, torch.Tensor) else tuple(examples)
    if not given:
        first = next(iter(inspect.signature(module.forward).parameters), "x")
        raise UsageError(
            f"the shape of what {factory} takes is not known.",
            where=where,
            next=f"--shape {first}=1x3x224x224, or example_inputs = (torch.zeros(1, 3, 224, 224),) in the file",
        )
    _materialise(module.eval(), given, path)
    return Built(f"{path.name}:{factory}", module, given)


def _materialise(module: Any, given: tuple[Any, ...], path: Path) -> None:
    """Lazy layers learn their sizes from the first inputs that they see."""
    import torch

    if any(torch.nn.parameter.is_lazy(t) for t in (*module.parameters(), *module.buffers())):
        try:
            with torch.no_grad():
                module(*given)
        except Exception as e:
            reason = " ".join(str(e).split())[:200]
            raise UsageError(f"the network of {path.name} does not run on these inputs: {reason}", where=Where(file=str(path))) from e


def _of_shapes(module: Any, shapes: Shapes) -> tuple[Any, ...]:
    """Example inputs of these shapes in the order of forward's arguments; of one input the name does not matter."""
    import torch

    names = list(inspect.signature(module.forward).parameters)
    if len(shapes) > 1 and not set(shapes) <= set(names):
        wrong = next(n for n in shapes if n not in names)
        raise UsageError(f"forward of the network takes no {wrong!r}.", expected=f"--shape with {', '.join(names)}", got=wrong)
    dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
    return tuple(torch.zeros(*shapes[n], dtype=dtype) for n in sorted(shapes, key=lambda n: names.index(n) if n in names else 0))


def _without_arguments(make: Any, factory: str, path: Path) -> None:
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # a callable of C, which says nothing of its arguments
        return
    needed = [p.name for p in signature.parameters.values() if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed:
        raise UsageError(
            f"{factory} of {path.name} cannot be called without arguments.",
            where=Where(file=str(path)),
            expected="a function or class without arguments",
            got=f"{factory}({', '.join(needed)})",
            next=f"add to the file a function that gives {factory}(...) with the numbers of this network",
        )


@contextlib.contextmanager
def _running(path: Path) -> Iterator[Any]:
    """The user's file as a module, run as Python would run it: what lies beside it can be imported, what it prints goes to stderr."""
    loader = SourceFileLoader(f"niudao_arch_{path.stem}", str(path))
    spec = spec_from_loader(loader.name, loader)
    if spec is None:
        raise ReadError(f"{path.name} is no Python file.", where=path)
    source = module_from_spec(spec)
    folder = path.resolve().parent
    before, search = set(sys.modules), list(sys.path)
    sys.modules[loader.name] = source  # dataclasses look there for the annotations of their classes
    sys.path.insert(0, str(folder))
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loader.exec_module(source)
            yield source
    except (UsageError, ReadError, MemoryError):
        raise
    except (Exception, SystemExit) as e:
        reason = " ".join(str(e).split())[:200]
        raise ReadError(f"{path.name} fails: {type(e).__name__}: {reason}", where=path, next=f"python {path.name} shows where") from e
    finally:
        sys.path[:] = search
        for name in set(sys.modules) - before - {loader.name}:  # another file's neighbours may have the same names
            file = getattr(sys.modules[name], "__file__", None)
            if file and folder in Path(file).parents and "site-packages" not in file:
                del sys.modules[name]


def own_tensors(module: Any) -> dict[str, Any]:
    """Name -> tensor of a network's state dict; what a module of the user's own keeps there besides is of no use to anyone else."""
    import torch

    return {k: v for k, v in module.state_dict(keep_vars=True).items() if isinstance(v, torch.Tensor)}


def tied(module: Any, held: Mapping[str, T]) -> dict[str, T]:
    """What a file holds for a network, with every name of a weight that has several: some files keep one of them.

    Of several in the file that differ the last counts, as in `load_state_dict`.
    """
    names: dict[int, list[str]] = {}
    for name, tensor in own_tensors(module).items():
        names.setdefault(id(tensor), []).append(name)
    found = dict(held)
    for group in names.values():
        kept = [n for n in group if n in held]
        if len(group) > 1 and kept:
            found |= dict.fromkeys(group, held[kept[-1]])
    return found


def check(built: Built, held: Shapes, path: Path) -> None:
    """Whether a state dict is that of a network: every name, every shape.

    Args:
        built: The network.
        held: Name -> shape of what the state dict holds.
        path: Where it lies.

    Raises:
        ReadError: It is not; says which names are missing, too many or of another shape, and the nearest architectures.
    """
    from niudao.zoo import ARCHITECTURES
    from niudao.zoo.signatures import Mismatch, mismatch

    name = built.name.lower().replace("-", "_")
    if name in ARCHITECTURES:
        found = mismatch(name, held)
    else:
        own = {k: tuple(v.shape) for k, v in own_tensors(built.module).items()}
        missing = tuple(k for k in own if k not in held and not k.endswith("num_batches_tracked"))
        other = {k: (own[k], held[k]) for k in own if k in held and own[k] != held[k]}
        found = Mismatch(built.name, missing, tuple(k for k in held if k not in own), other, ())
    if found.missing or found.extra or found.other:
        near = ", ".join(f"{n} ({share:.0%})" for n, share in found.nearest if n != name)
        raise ReadError(
            f"{path.name} is no state dict of {built.name}: it {found}.",
            where=path,
            expected=f"the names and shapes of {built.name}",
            got=f"{len(found.missing)} missing, {len(found.extra)} too many, {len(found.other)} of another shape",
            next=f"nearest architectures: {near}" if near else None,
        )


def _only_class(path: Path) -> str:
    """The first name in the file's `__all__`: source that niudao wrote needs no factory named."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError) as e:
        raise ReadError(f"{path.name} is no Python file.", where=path, got=str(e)[:120]) from e
    for node in tree.body:
        named = isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
        value = node.value if named and isinstance(node, ast.Assign) else None
        if isinstance(value, (ast.List, ast.Tuple)) and value.elts and isinstance(value.elts[0], ast.Constant):
            return str(value.elts[0].value)
    classes = ", ".join(n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef)))
    raise UsageError(
        f"which of {path.name} makes the network?", where=Where(file=str(path)), expected=f"FILE.py:NAME, of {classes or 'none'}"
    )
