"""ONNX file -> model: any opset from 1 to 28, weights left in the file they lie in."""

from __future__ import annotations

import logging
import mmap
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.errors import InvalidModel, LimitError, NiudaoError, ReadError, UsageError, Where
from niudao.formats import files
from niudao.formats.onnx import checks, scan
from niudao.formats.onnx.constants import constants_to_weights, strings_as_objects
from niudao.formats.onnx.lift.drive import NEWEST, lift_model
from niudao.formats.onnx.metadata import tidy_metadata
from niudao.formats.onnx.windows import check_windows
from niudao.ir import IR_VERSION, OPSET, card
from niudao.ir.passes.infer_shapes import infer_shapes
from niudao.ir.wire import BIG

MAX_MESSAGE = (1 << 31) - 1
"""Protobuf's own limit on one message."""


def read(
    source: Path | bytes | onnx.ModelProto, *, weights: Path | None = None, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> ir.Model:
    """Read an ONNX model.

    Args:
        source: A path, the bytes of a file, or a message. Of a path, weights stay in the file until they are asked for.
        weights: ONNX files name their second file themselves; must be None.
        shapes: Input name -> shape, for what the file leaves open.

    Returns:
        The model at the opset in memory, in inference mode, shapes inferred.

    Raises:
        ReadError: The file is missing, broken or hostile.
        Unsupported: Operators that cannot be read, all of them.
    """
    if weights is not None:
        raise UsageError("an ONNX file names its data file itself.", got=str(weights))
    where = Where(file=str(source)) if isinstance(source, (str, Path)) else Where(file="model")
    try:
        proto, place = _message(source, where)
        return _model(proto, place, where, shapes or {})
    except InvalidModel as e:
        raise ReadError(e.message, where=Where(where.file, node=e.where.node), expected=e.expected, got=e.got, next=e.next) from e
    except NiudaoError as e:
        if e.where.file is None:
            e.where = Where(where.file, e.where.line, e.where.node, e.where.attribute)
        raise
    except ir.serde.SerdeError as e:
        raise ReadError("a node's attributes are not of the types they claim.", where=where, got=_cause(e)) from e
    except OSError as e:  # from mapping a data file that is there, but larger than the memory it may be mapped into
        raise ReadError(f"the weights cannot be reached: {e.strerror or e}.", where=where) from e
    except OverflowError as e:
        raise ReadError("a number that the network computes from its constants is no number of 64 bits.", where=where) from e
    except MemoryError as e:
        raise LimitError("reading the model needs more memory than there is.", where=where) from e
    except RecursionError as e:
        raise LimitError("the file nests deeper than any network does.", where=where) from e


@dataclass(frozen=True)
class _Source(checks.Place):
    """`checks.Place`, and the model file without links on the way to it."""

    file: Path | None = None


def _message(source: Path | bytes | onnx.ModelProto, where: Where) -> tuple[onnx.ModelProto, _Source]:
    """The model as a message, big weights pointing into their files, and the place those lie in."""
    if isinstance(source, onnx.ModelProto):
        proto = onnx.ModelProto()
        proto.CopyFrom(source)
        return proto, _Source()
    if isinstance(source, (bytes, bytearray, memoryview)):
        data = bytes(source)
        scan.find_cuts(data, where)
        return _parse(data, where), _Source()
    path = Path(source)
    itself = f"the model file {secrets.token_hex(8)}"  # no file can know it, so none can pretend to be cut
    with files.open_model(path) as f:
        if os.fstat(f.fileno()).st_size == 0:
            raise ReadError(f"{path.name} is empty.", where=where, expected="a model file", got="0 bytes")
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            if mapped[:64].lstrip()[:1] == b"<":
                raise ReadError(f"{path.name} is an HTML or XML page, no model; a download may have failed.", where=where)
            cuts = scan.find_cuts(mapped, where)
            data = scan.skeleton(mapped, cuts, itself)
    return _parse(data, where), _Source(path.absolute().parent, itself, path.resolve())


def _parse(data: bytes, where: Where) -> onnx.ModelProto:
    if len(data) > MAX_MESSAGE:
        raise LimitError(
            "the model is larger than one ONNX message can be.", where=where, expected="less than 2 GiB", got=f"{len(data)} bytes"
        )
    try:
        return onnx.ModelProto.FromString(data)
    except Exception as e:  # protobuf's DecodeError, of whichever implementation is installed
        raise ReadError("this is no ONNX model: protobuf cannot decode it.", where=where, got=str(e)[:120]) from e


def _version(proto: onnx.ModelProto, where: Where) -> int:
    """Opset of the default domain; files without one are older than the field (IR version 3), which means 1."""
    if not proto.opset_import and proto.ir_version >= 3:
        raise ReadError("the model does not say which opset it is of.", where=where, expected="an opset_import, as of IR version 3")
    versions = [o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")]
    version = max(versions, default=1)
    if not 1 <= version <= NEWEST:
        raise ReadError("the model is of an opset that niudao does not know.", where=where, expected=f"1 to {NEWEST}", got=str(version))
    return int(version)


def _model(proto: onnx.ModelProto, place: _Source, where: Where, shapes: Mapping[str, tuple[int, ...]]) -> ir.Model:
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ReadError("this is no ONNX model: it holds no network.", where=where, expected="a graph with nodes")
    version = _version(proto, where)
    checks.check_tensors(proto, where, place)
    _tidy(proto)
    checks.order(proto.graph, where)
    for function in proto.functions:
        checks.order(function, where)
    checks.check_functions(proto, where)
    model = _deserialize(proto, where)
    _map_weights(model, place)
    strings_as_objects(model)
    notes = _inputs(model, proto.ir_version, shapes)
    opsets = {id(f): f.opset_imports.get("", version) for f in model.functions.values()}
    for function_ in model.functions.values():
        for node in function_.all_nodes():
            node.version = opsets[id(function_)]
    _inline(model, where)
    _name_nodes(model)
    model.ir_version = IR_VERSION
    notes += lift_model(model, version, where)
    constants_to_weights(model)
    check_windows(model, where)
    _load_small(model)
    infer_shapes(model)
    _remember(model, proto, version, notes)
    model.producer_name = model.producer_name or "unknown"
    return model


def _tidy(proto: onnx.ModelProto) -> None:
    """Drop what no reader needs: training, quantisation hints, and texts that hold paths of the machine that wrote the file."""
    del proto.training_info[:]
    tidy_metadata(proto)
    for root in (proto.graph, *proto.functions):
        for graph in checks.graphs_of(root):
            if isinstance(graph, onnx.GraphProto):
                del graph.quantization_annotation[:]
            for node in graph.node:
                if node.doc_string:
                    node.doc_string = ""
                if node.domain == "ai.onnx":
                    node.domain = ""
                for attribute in node.attribute:
                    if attribute.type == onnx.AttributeProto.UNDEFINED and not attribute.ref_attr_name:
                        attribute.type = _type_of(attribute)
                kept = [(e.key, e.value) for e in node.metadata_props if "stack_trace" not in e.key]
                if len(kept) != len(node.metadata_props):
                    del node.metadata_props[:]
                    for key, value in kept:
                        node.metadata_props.add(key=key, value=value)
    merged = {o.domain.replace("ai.onnx", "") if o.domain == "ai.onnx" else o.domain: o.version for o in proto.opset_import}
    del proto.opset_import[:]
    for domain, number in merged.items():
        proto.opset_import.add(domain=domain, version=number)


_FIELDS = {"f": "FLOAT", "i": "INT", "s": "STRING", "t": "TENSOR", "g": "GRAPH"}
_LISTS = {"floats": "FLOATS", "ints": "INTS", "strings": "STRINGS", "tensors": "TENSORS", "graphs": "GRAPHS"}


def _type_of(attribute: onnx.AttributeProto) -> Any:
    """The type of an attribute that does not say it, as in files of IR version 1: which field holds something."""
    kind = next((k for f, k in _FIELDS.items() if attribute.HasField(f)), None)
    kind = kind or next((k for f, k in _LISTS.items() if len(getattr(attribute, f))), "UNDEFINED")
    return onnx.AttributeProto.AttributeType.Value(kind)


def _deserialize(proto: onnx.ModelProto, where: Where) -> ir.Model:
    log = logging.getLogger("onnx_ir")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        model: ir.Model = ir.serde.deserialize_model(proto)
        return model
    except Exception as e:  # onnx_ir's serde raises many kinds on messages that make no sense
        raise ReadError("the model's message makes no sense.", where=where, got=_cause(e)) from e
    finally:
        log.setLevel(level)


def _cause(e: BaseException) -> str:
    """The first line of what lies at the bottom of a chain of errors."""
    while e.__cause__ is not None:
        e = e.__cause__
    return (str(e).splitlines() or [type(e).__name__])[0][:200]


def _holders(model: ir.Model) -> Iterator[tuple[ir.Graph, ir.Value | ir.Node, str, ir.ExternalTensor]]:
    """Every external tensor with what holds it: a value, or a node and the attribute's name."""
    roots = [model.graph, *(f.graph for f in model.functions.values())]
    for graph in [*roots, *(g for r in roots for g in r.subgraphs())]:
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield graph, value, "", value.const_value
        for node in graph:
            for name, attribute in node.attributes.items():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    tensor = attribute.as_tensor()
                    if isinstance(tensor, ir.ExternalTensor):
                        yield graph, node, name, tensor


def _put(holder: ir.Value | ir.Node, name: str, tensor: ir.TensorProtocol) -> None:
    if isinstance(holder, ir.Value):
        holder.const_value = tensor
    else:
        holder.attributes[name] = ir.AttrTensor(name, tensor)


def _map_weights(model: ir.Model, place: _Source) -> None:
    """Point external tensors at the files they lie in: the model file itself, or one beside it."""
    for _, holder, name, tensor in list(_holders(model)):
        if tensor.location == place.itself and place.file is not None:
            # a file with a second name is the user's own doing here; onnx_ir would take it for an attack
            alone = place.file.stat().st_nlink == 1
            location, base = (place.file.name, place.file.parent) if alone else (str(place.file), "")
        else:
            location, base = str(tensor.location), place.folder or ""
        dims = ir.Shape([int(d) for d in tensor.shape])  # type: ignore[arg-type]
        mapped = ir.ExternalTensor(
            location, tensor.offset or 0, tensor.nbytes, tensor.dtype, shape=dims, name=tensor.name or "", base_dir=base
        )
        _put(holder, name, mapped)


def _load_small(model: ir.Model) -> None:
    """Only the big weights of the main graph stay in their files."""
    for graph, holder, name, tensor in list(_holders(model)):
        if graph is not model.graph or isinstance(holder, ir.Node) or tensor.nbytes < BIG:
            _put(holder, name, ir.Tensor(np.array(tensor.numpy()), dtype=tensor.dtype, name=tensor.name))


def _inputs(model: ir.Model, ir_version: int, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Weights that are listed as inputs are weights; open dimensions get names; `shapes` closes them."""
    graph = model.graph
    notes = []
    defaults = [v for v in graph.inputs if v.is_initializer()]
    if defaults:
        if ir_version >= 4:
            notes.append(f"{len(defaults)} inputs with default values were read as weights.")
        for value in defaults:
            graph.inputs.remove(value)
    names = {v.name: v for v in graph.inputs}
    unknown = [n for n in shapes if n not in names]
    if unknown:
        raise UsageError(f"no input is called {unknown[0]!r}.", expected=", ".join(map(str, names)))
    for value in graph.inputs:
        if value.type is None:
            raise ReadError(f"the input {value.name!r} has no type.", where=Where(node=value.name))
        if value.shape is None:
            dims: list[int | str] | None = None
        else:
            dims = [_dim(d, i, value.name or "", old=ir_version < 4) for i, d in enumerate(value.shape)]
        given = shapes.get(value.name or "")
        if given is not None:
            fits = dims is None or (len(dims) == len(given) and all(isinstance(d, str) or d == g for d, g in zip(dims, given, strict=True)))
            if not fits or any(int(g) < 0 for g in given):
                raise UsageError(f"the input {value.name!r} cannot have the shape {tuple(given)}.", expected=str(dims))
            dims = [int(g) for g in given]
        if dims is not None and len(dims) > checks.MAX_RANK:
            raise ReadError(f"the input {value.name!r} has more axes than any array can.", got=str(len(dims)))
        if dims is not None:
            value.shape = ir.Shape(dims)
    if shapes:
        for node in graph.all_nodes():
            for out in node.outputs:
                out.shape = None
    return notes


def _dim(dim: int | ir.SymbolicDim, i: int, name: str, *, old: bool) -> int | str:
    """A dimension as it is; old exporters wrote 0 or -1 for "any"."""
    if isinstance(dim, int) and (dim > 0 or (dim == 0 and not (old and i == 0))):
        return dim
    text = dim.value if isinstance(dim, ir.SymbolicDim) else None
    return text or ("batch" if i == 0 else f"{name}_{i}")


def _inline(model: ir.Model, where: Where) -> None:
    """Unfold the model's own functions, ours (domain `niudao`) excepted."""
    called = {n.op_identifier() for n in _all_nodes(model)}
    for key in [k for k in model.functions if k not in called]:
        del model.functions[key]
    if not any(not f.domain.startswith("niudao") for f in model.functions.values()):
        return
    from onnx_ir.passes.common import InlinePass

    for function in model.functions.values():  # nodes know their own opset, so that these may differ
        for domain in list(function.opset_imports):
            function.opset_imports[domain] = model.opset_imports.setdefault(domain, function.opset_imports[domain])
    try:
        InlinePass(criteria=lambda f: not f.domain.startswith("niudao"))(model)
    except Exception as e:  # the pass wraps whatever happens inside
        raise ReadError("the model's functions cannot be unfolded.", where=where, got=str(e.__cause__ or e)[:200]) from e
    domains = {n.domain for n in _all_nodes(model)}
    for domain in [d for d in model.opset_imports if d and d not in domains]:
        del model.opset_imports[domain]


def _all_nodes(model: ir.Model) -> list[ir.Node]:
    return [*model.graph.all_nodes(), *(n for f in model.functions.values() for n in f.all_nodes())]


def _name_nodes(model: ir.Model) -> None:
    """Every node gets a name: its own, else that of what it computes."""
    taken = {n.name for n in _all_nodes(model) if n.name}
    last: dict[str, int] = {}  # base -> the number given last: counting from 0 every time would take for ever
    for node in _all_nodes(model):
        if not node.name:
            base = next((v.name for v in node.outputs if v.name), None) or node.op_type
            name, k = base, last.get(base, 0)
            while name in taken:
                k += 1
                name = f"{base}_{k}"
            last[base] = k
            taken.add(name)
            node.name = name


def _remember(model: ir.Model, proto: onnx.ModelProto, version: int, notes: list[str]) -> None:
    """File where the model comes from; what an earlier reader filed stays below."""
    facts: dict[str, object] = {"version": version, "producer": f"{proto.producer_name} {proto.producer_version}".strip()}
    earlier = card.get_source(model)
    if earlier.get("format") == "onnx":
        earlier = earlier.get("from") if isinstance(earlier.get("from"), dict) else {}  # type: ignore[assignment]
    if earlier:
        facts["from"] = earlier
    if notes:
        facts["notes"] = notes
    model.opset_imports[""] = OPSET
    card.set_source(model, "onnx", **facts)
