"""Run a model with ONNX Runtime: any batch size, inner values by name, the source's layout, limits on memory and time."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from niudao.errors import LimitError, RunError
from niudao.ir import card, wire
from niudao.ir.lower import lowered

Array = np.ndarray[Any, Any]

_NO_KERNEL = frozenset(("RoiAlign", "MaxRoiPool", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial"))
"""Operators that ONNX Runtime 1.32 runs up to opset 21 only, although nothing but types was added at 22."""


class Session:
    """A model made ready to run.

    Weights of more than 64 KiB are mapped from a file, never copied: either the file they came from or a temporary one.

    Args:
        model: The model.
        fetch: Names of inner values to return besides the graph's outputs.
        optimize: Let ONNX Runtime fuse nodes. Proofs run without, so that inner values exist and broken nodes show.
        threads: Threads inside one operator; 1 makes figures repeat.
        seconds: Wall-clock limit of one call; None for no limit.

    Raises:
        RunError: ONNX Runtime refuses the model.
    """

    def __init__(
        self, model: ir.Model, *, fetch: Sequence[str] = (), optimize: bool = True, threads: int = 1, seconds: float | None = None
    ) -> None:
        import onnxruntime as ort

        if any(node.op_type in _NO_KERNEL for node in model.graph):
            model = lowered(model, 21)
        self._seconds = seconds
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.names = [v.name or "" for v in model.graph.outputs]
        self._fetch = [f for f in dict.fromkeys(fetch) if f not in self.names]
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = 4
        if not optimize:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        big = wire.size(model) > 64 << 20
        if big:  # a packed copy of every matrix would double the memory
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            proto, folder = self._message(model)
            self._add_outputs(proto, model)
            options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
            self._session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except OSError as e:
            self.close()
            said = f"the weights cannot be laid down for ONNX Runtime: {e.strerror or e}."
            raise RunError(said, next="set TMPDIR to a folder with room") from e
        except Exception as e:  # onnxruntime's exceptions share no base class
            self.close()
            raise RunError(f"ONNX Runtime refuses the network: {_reason(e)}") from e

    def _message(self, model: ir.Model) -> tuple[onnx.ModelProto, Path]:
        mapped = wire.mapped_skeleton(model)
        if mapped is not None:
            return mapped
        self._folder = tempfile.TemporaryDirectory(prefix="niudao-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name).resolve()
        with open(folder / "weights", "wb") as data:
            return wire.skeleton(model, data, "weights"), folder

    def _add_outputs(self, proto: onnx.ModelProto, model: ir.Model) -> None:
        wanted = set(self._fetch)
        for node in model.graph:
            for value in node.outputs:
                if value.name in wanted:
                    entry = proto.graph.output.add(name=value.name)
                    if value.dtype is not None:
                        entry.type.tensor_type.elem_type = int(value.dtype)
                    wanted.discard(value.name)
        if wanted:
            raise RunError(f"the network has no value called {sorted(wanted)[0]!r}.")

    def __call__(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """Run once. Feeds are in our layout (channels first) and of the input's type; returns outputs in graph order, then `fetch`."""
        import onnxruntime as ort

        options = ort.RunOptions()
        options.log_severity_level = 4
        timer = None
        if self._seconds is not None:
            timer = threading.Timer(self._seconds, lambda: setattr(options, "terminate", True))
            timer.daemon = True
            timer.start()
        names = self.names + self._fetch
        try:
            results = self._session.run(names, dict(feeds), options)
        except Exception as e:  # as above
            if options.terminate:
                raise LimitError(f"running the network took more than {self._seconds:g} s.", next="a higher time limit") from e
            raise RunError(f"the network cannot run on these inputs: {_reason(e)}") from e
        finally:
            if timer is not None:
                timer.cancel()
        return dict(zip(names, results, strict=True))

    def close(self) -> None:
        """Give back the memory and the temporary file."""
        self.__dict__.pop("_session", None)
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _reason(e: Exception) -> str:
    """ONNX Runtime's message without its prefix, on one line."""
    text = " ".join(str(e).split())
    return text.split(" : ", 3)[-1][:400] if text.startswith("[ONNXRuntimeError]") else text[:400]


def run(
    model: ir.Model,
    feeds: Mapping[str, Any] | Any,
    *,
    layout: str = "ir",
    fetch: Sequence[str] = (),
    optimize: bool = True,
    threads: int = 1,
    seconds: float | None = None,
    memory: int | None = None,
) -> dict[str, Array]:
    """Run a model on arrays.

    Args:
        model: The model.
        feeds: Input name -> array; a bare array where the network has one input. Any batch size: where the file fixes the
            batch, the arrays are run in pieces and joined.
        layout: "ir" (channels first) or "source" (each input and output as the source framework had it).
        fetch: Names of inner values to return as well; these are always in our layout.
        optimize: Let ONNX Runtime fuse nodes.
        threads: Threads inside one operator.
        seconds: Wall-clock limit.
        memory: Bytes that activations may take at once; checked before anything runs, from the shapes.

    Returns:
        Output name -> array, in the graph's order.

    Raises:
        LimitError: It takes longer, or would need more, than allowed.
        RunError: A missing, unknown or ill-shaped input, or ONNX Runtime refuses.
    """
    if layout not in ("ir", "source"):
        raise RunError(f"layout is {layout!r}.", expected="'ir' or 'source'")
    arrays = prepare(model, feeds, source=layout == "source")
    if memory is not None:
        _check_memory(model, arrays, memory)
    with Session(model, fetch=fetch, optimize=optimize, threads=threads, seconds=seconds) as session:
        out = in_pieces(session, model, arrays)
    return to_source(model, out) if layout == "source" else out


def _check_memory(model: ir.Model, arrays: Mapping[str, Array], memory: int) -> None:
    from niudao.ir.cost import cost  # a costly question that most runs do not ask

    batch = max((len(a) for a in arrays.values() if a.ndim), default=1)
    need = cost(model, batch=batch).peak_bytes
    if need > memory:
        raise LimitError(
            f"running a batch of {batch} needs about {need >> 20} MB for activations.",
            expected=f"at most {memory >> 20} MB",
            next="a smaller batch, or a higher limit",
        )


def prepare(model: ir.Model, feeds: Mapping[str, Any] | Any, *, source: bool = False) -> dict[str, Array]:
    """Check feeds against the graph's inputs, cast them, and turn them from the source's layout to ours if asked."""
    inputs = {v.name or "": v for v in model.graph.inputs}
    if not isinstance(feeds, Mapping):
        if len(inputs) != 1:
            raise RunError(f"the network has {len(inputs)} inputs: give a mapping.", expected=", ".join(inputs))
        feeds = {next(iter(inputs)): feeds}
    unknown = [k for k in feeds if k not in inputs]
    missing = [k for k in inputs if k not in feeds]
    if unknown or missing:
        fault = f"no input is called {unknown[0]!r}" if unknown else f"input {missing[0]!r} is missing"
        raise RunError(f"{fault}.", expected=", ".join(inputs), got=", ".join(map(str, feeds)) or "nothing")
    arrays = {}
    for name, value in inputs.items():
        array = np.asarray(feeds[name])
        perm = card.get_layout(value) if source else None
        if perm is not None and array.ndim == len(perm):
            array = array.transpose(perm)
        if value.dtype is not None and array.dtype != value.dtype.numpy():
            if array.dtype.kind not in "fiub" or value.dtype == ir.DataType.STRING:
                raise RunError(f"input {name!r} holds {array.dtype}.", expected=str(value.dtype.numpy()))
            array = array.astype(value.dtype.numpy())
        _check_shape(name, array, value)
        arrays[name] = np.ascontiguousarray(array)
    return arrays


def _check_shape(name: str, array: Array, value: ir.Value) -> None:
    if value.shape is None:
        return
    want = [d if isinstance(d, int) else None for d in value.shape]
    wrong = len(want) != array.ndim or any(w is not None and w != g for w, g in zip(want[1:], array.shape[1:], strict=True))
    if wrong:
        raise RunError(f"input {name!r} has another shape.", expected=str(value.shape), got=str(list(array.shape)))


def in_pieces(session: Session, model: ir.Model, arrays: dict[str, Array]) -> dict[str, Array]:
    """One call, or several where the file fixes the batch and the arrays hold a multiple of it (the last one padded)."""
    fixed = {v.shape[0] for v in model.graph.inputs if v.shape is not None and len(v.shape) and isinstance(v.shape[0], int)}
    sizes = {a.shape[0] for a in arrays.values() if a.ndim}
    if len(fixed) != 1 or len(sizes) != 1 or fixed == sizes:
        return session(arrays)
    step, count = int(next(iter(fixed))), next(iter(sizes))
    if step == 0 or count == 0:
        raise RunError("the batch is empty.", expected=f"a batch of {step}", got=str(count))
    parts = []
    for start in range(0, count, step):
        piece = {k: a[start : start + step] for k, a in arrays.items()}
        short = step - len(next(iter(piece.values())))
        if short:
            piece = {k: np.concatenate([a, np.repeat(a[-1:], short, axis=0)]) for k, a in piece.items()}
        parts.append({k: v[: step - short] if short and v.shape[:1] == (step,) else v for k, v in session(piece).items()})
    return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}


def to_source(model: ir.Model, out: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs as the source framework would give them."""
    perms = {v.name: card.get_layout(v) for v in model.graph.outputs}
    result = {}
    for name, array in out.items():
        perm = perms.get(name)
        result[name] = array.transpose(card.invert(perm)) if perm is not None and array.ndim == len(perm) else array
    return result
