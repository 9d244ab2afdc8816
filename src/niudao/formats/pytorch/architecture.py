"""The network that a state dict belongs to: one of the zoo, or what the user's own file makes, which is run only with consent."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

from niudao.errors import MissingExtra, ReadError, UnknownName, UsageError, Where

Shapes = Mapping[str, tuple[int, ...]]


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
        tensors: Name -> shape of what the state dict holds: a zoo network gets as many classes as its last layer has.
        shapes: Input name -> shape; a factory of the user's own needs them, unless its file has `example_inputs`, a tuple of tensors
            or a function that gives one.
        trust: The user's file may be run.

    Raises:
        UsageError: No such architecture; or a file is named without consent, or without the shape of its input.
        MissingExtra: torch is not installed.
    """
    path, _, factory = arch.rpartition(":") if ".py:" in arch else (arch, "", "")
    if not path.endswith(".py"):
        return _of_zoo(arch, tensors, shapes)
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
        module = entry.build(classes=zoo.classes_in(entry.name, tensors))
    size = tuple(next(iter(shapes.values())))[1:] if shapes else entry.input
    return Built(arch, module.eval(), (torch.zeros(2, *size, device="meta"),))


def _of_file(path: Path, factory: str, shapes: Shapes | None) -> Built:
    import torch

    if not path.is_file():
        raise ReadError(f"the file {path} does not exist.", where=path)
    factory = factory or _only_class(path)
    loader = SourceFileLoader(f"niudao_arch_{path.stem}", str(path))
    spec = spec_from_loader(loader.name, loader)
    if spec is None:
        raise ReadError(f"{path.name} is no Python file.", where=path)
    source = module_from_spec(spec)
    try:
        loader.exec_module(source)
        make = getattr(source, factory, None)
        if not callable(make):
            raise UsageError(
                f"{path.name} has no {factory}.", where=Where(file=str(path)), expected="a function or class without arguments"
            )
        module = make()
    except (UsageError, MemoryError):
        raise
    except Exception as e:
        raise ReadError(f"{path.name} fails: {type(e).__name__}: {str(e)[:200]}", where=path) from e
    if not isinstance(module, torch.nn.Module):
        raise UsageError(f"{factory} of {path.name} makes no network.", expected="a torch.nn.Module", got=type(module).__name__)
    examples = getattr(source, "example_inputs", ())
    given = tuple(torch.zeros(*size) for size in shapes.values()) if shapes else tuple(examples() if callable(examples) else examples)
    if not given:
        raise UsageError(
            f"the shape of what {factory} takes is not known.",
            where=Where(file=str(path)),
            next="--shape x=1x3x224x224, or example_inputs = (torch.zeros(1, 3, 224, 224),) in the file",
        )
    return Built(f"{path.name}:{factory}", module.eval(), given)


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
        own = {k: tuple(v.shape) for k, v in built.module.state_dict().items()}
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
