"""The names that a pickle may use, and what each is described as: an allow-list, as every deny-list was found to have holes.

Whatever is not here and belongs to Python itself is refused by name. A class of somebody's own library becomes an `Instance`,
which is a name with attributes; functions of other libraries are refused as soon as the pickle wants one called.

Reference: `torch/_weights_only_unpickler.py`, `torch/_utils.py` (PyTorch 2.13).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from niudao.errors import ReadError
from niudao.formats.pytorch.checkpoint.described import Array, Dtype, Global, Instance, NumpyDtype, Storage, StorageKind, Tensor

Build = Callable[..., Any]

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "",
}
_ALIASES = {"double": "float64", "float": "float32", "half": "float16", "long": "int64", "int": "int32", "short": "int16"}
_ALIASES |= {"cfloat": "complex64", "cdouble": "complex128", "chalf": "complex32"}
_DTYPES = (
    "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 uint16 uint32 uint64 bool complex32 complex64 complex128 "
    "float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu float4_e2m1fn_x2 "
    "qint8 quint8 qint32 quint4x2 quint2x4 uint1 uint2 uint3 uint4 uint5 uint6 uint7 int1 int2 int3 int4 int5 int6 int7"
).split()
_WORDS = (  # values without content of their own
    "per_tensor_affine per_tensor_symmetric per_channel_affine per_channel_symmetric per_channel_affine_float_qparams "
    "strided sparse_coo sparse_csr sparse_csc sparse_bsr sparse_bsc _mkldnn jagged "
    "contiguous_format channels_last channels_last_3d preserve_format"
).split()


def _asks(name: str) -> ReadError:
    return ReadError(f"the pickle asks for {name} to be called; nothing was run.", expected="what torch itself writes", got=name)


def _refuse(fault: str, next: str | None = None) -> Build:
    def build(*args: Any) -> Any:
        raise ReadError(fault, next=next)

    return build


def _ints(values: Any) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or not all(type(v) is int and 0 <= v < 1 << 62 for v in values):
        raise ReadError("the pickle gives a tensor sizes or strides that are no numbers.")
    return tuple(values)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, trainable: Any = False, hooks: Any = None, metadata: Any = None) -> Tensor:
    if not isinstance(storage, Storage) or type(offset) is not int or not 0 <= offset < 1 << 62:
        raise ReadError("the pickle makes a tensor of something that is no storage.")
    if isinstance(metadata, dict) and any(metadata.get(k) for k in ("conj", "neg")):
        raise ReadError("the pickle holds a tensor whose conjugate or negative is meant, which only complex tensors have.")
    if len(_ints(shape)) != len(_ints(strides)) or len(shape) > 64:
        raise ReadError("the pickle gives a tensor as many strides as it has not axes.", got=f"{len(strides)} for {len(shape)}")
    return Tensor(storage, offset, _ints(shape), _ints(strides), "", bool(trainable))


def _tensor_v3(storage: Any, offset: Any, shape: Any, strides: Any, trainable: Any, hooks: Any, dtype: Any, metadata: Any = None) -> Tensor:
    plain = _tensor(storage, offset, shape, strides, trainable, hooks, metadata)
    if not isinstance(dtype, Dtype):
        raise ReadError("the pickle gives a tensor a type that is none.")
    return Tensor(plain.storage, plain.offset, plain.shape, plain.strides, dtype.name, plain.trainable)


def _quantized(storage: Any, offset: Any, shape: Any, strides: Any, how: Any, trainable: Any = False, hooks: Any = None) -> Tensor:
    plain = _tensor(storage, offset, shape, strides)
    words = [str(w)[:24] for w in how if isinstance(w, (str, int, float))] if isinstance(how, tuple) else []
    return Tensor(plain.storage, plain.offset, plain.shape, plain.strides, "", False, ", ".join(words) or "quantised")


def _parameter(data: Any, trainable: Any = True, hooks: Any = None, state: Any = None) -> Any:
    if not isinstance(data, Tensor):
        return data
    return Tensor(data.storage, data.offset, data.shape, data.strides, data.dtype, True, data.quantized)


def _from_type(function: Any, kind: Any, args: Any, state: Any = None) -> Any:
    """A tensor of a subclass, or with attributes: what its inner function makes, which must be one of ours."""
    if not isinstance(function, Global) or function.name not in _TENSORS or not isinstance(args, tuple):
        name = function.name if isinstance(function, Global) else "something that is no function"
        raise _asks(name)
    return build(function.name, args)


def _numpy(kind: Any = None, shape: Any = None, code: Any = None) -> Array:
    return Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any = "C") -> Array:
    if not isinstance(data, bytes) or not isinstance(dtype, NumpyDtype):
        raise ReadError("the pickle holds a damaged numpy array.")
    return Array(_ints(shape), dtype, data, order == "F")


def _scalar(dtype: Any, data: Any = b"") -> Any:
    if isinstance(dtype, NumpyDtype) and isinstance(data, str):
        data = data.encode("latin-1", "replace")
    if not isinstance(dtype, NumpyDtype) or not isinstance(data, bytes):
        raise ReadError("the pickle holds a damaged numpy scalar.")
    return Array((), dtype, data)


_CODES = {"f2": "float16", "f4": "float32", "f8": "float64", "b1": "bool", "c8": "complex64", "c16": "complex128"}
_CODES |= {f"{k}{n}": f"{word}{8 * n}" for k, word in (("i", "int"), ("u", "uint")) for n in (1, 2, 4, 8)}


def _numpy_dtype(code: Any, align: Any = False, copy: Any = False) -> NumpyDtype:
    name = code if isinstance(code, str) else ""
    plain = name.lstrip("<>=|")
    if plain not in _CODES and plain not in _CODES.values():
        return NumpyDtype("object")
    return NumpyDtype(_CODES.get(plain, plain), name.startswith(">"))


def _dict(pairs: Any = ()) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for pair in pairs.items() if isinstance(pairs, dict) else pairs if isinstance(pairs, (list, tuple)) else ():
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not isinstance(pair[0], (str, int, float, bytes)):
            raise ReadError("the pickle makes a dictionary of something that is no list of pairs.")
        found[pair[0]] = pair[1]
    return found


def _encode(text: Any, encoding: Any = "utf-8", errors: Any = None) -> bytes:
    """Bytes as Python 2 protocols spell them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "utf-8", "ascii"):
        raise ReadError("the pickle spells bytes in a way that nobody does.")
    return text.encode(encoding, "replace")


def _set(values: Any = ()) -> set[Any]:
    if not isinstance(values, (list, tuple)) or not all(isinstance(v, (str, int, float, bytes)) for v in values):
        raise ReadError("the pickle makes a set of something that is no list of plain values.")
    return set(values)


def _plain(*args: Any) -> Any:
    """The value itself: a container made from another one."""
    return args[0] if args else ()


def _reconstruct(kind: Any, base: Any = None, state: Any = None) -> Any:
    """`copyreg._reconstructor`: an object without its attributes, in protocols 0 and 1."""
    return new(kind, ())


def _attribute(owner: Any = None, name: Any = None, *default: Any) -> Any:
    """A member of somebody's enumeration, as Python 3.11 pickles those."""
    if not isinstance(owner, Global) or not foreign(owner.name) or not isinstance(name, str) or not name.isidentifier() or name[0] == "_":
        raise _asks("builtins.getattr")
    return Instance(owner.name, (name,))


def _named(name: str) -> Build:
    return lambda *args: Instance(name, args)


_SPARSE = "the pickle holds a sparse tensor, which has no dense values to read."
_NO_VALUES = "the pickle holds a tensor of a kind that has no values in the file."
_TENSORS: dict[str, Build] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
    "torch._utils._rebuild_qtensor": _quantized,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_sparse_tensor": _refuse(_SPARSE, "call to_dense() on it before saving"),
    "torch._utils._rebuild_sparse_csr_tensor": _refuse(_SPARSE, "call to_dense() on it before saving"),
    "torch._utils._rebuild_nested_tensor": _refuse("the pickle holds a nested tensor, which networks here do not have."),
    "torch._utils._rebuild_meta_tensor_no_storage": _refuse(_NO_VALUES),
    "torch._utils._rebuild_wrapper_subclass": _refuse(_NO_VALUES),
}
BUILDS: dict[str, Build] = _TENSORS | {
    "torch._tensor._rebuild_from_type": _from_type,
    "torch._tensor._rebuild_from_type_v2": _from_type,
    "torch._utils._rebuild_device_tensor_from_numpy": lambda data, *rest: data,
    "torch._utils._rebuild_xla_tensor": lambda data, *rest: data,
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": lambda data, *rest: data,
    "torch.nn.parameter.Parameter": _parameter,
    "torch.nn.parameter.Buffer": _parameter,
    "torch.autograd.variable.Variable": _parameter,
    "torch.Tensor": _refuse("the pickle makes a tensor in a way that torch does not."),
    "torch.Size": _plain,
    "torch.device": lambda *args: Instance("torch.device", args),
    "torch.Generator": _named("torch.Generator"),
    "torch.nn.backends.thnn._get_thnn_function_backend": _named("torch.nn.backends.thnn.THNNFunctionBackend"),
    "torch.serialization._get_layout": lambda name: str(name)[:40],
    "torch.storage._load_from_bytes": _refuse("the pickle holds another pickle in a storage; nested pickles are not opened."),
    "torch.jit._pickle.build_intlist": _plain,
    "torch.jit._pickle.build_doublelist": _plain,
    "torch.jit._pickle.build_boollist": _plain,
    "torch.jit._pickle.build_tensorlist": _plain,
    "torch.jit._pickle.restore_type_tag": _plain,
    "numpy.core.multiarray._reconstruct": _numpy,
    "numpy._core.multiarray._reconstruct": _numpy,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
    "numpy.dtype": _numpy_dtype,
    "numpy.random.__RandomState_ctor": _named("numpy.random.RandomState"),
    "numpy.random._pickle.__randomstate_ctor": _named("numpy.random.RandomState"),
    "numpy.random._pickle.__bit_generator_ctor": _named("numpy.random.BitGenerator"),
    "numpy.random._pickle.__generator_ctor": _named("numpy.random.Generator"),
    "collections.OrderedDict": _dict,
    "collections.Counter": _dict,
    "collections.defaultdict": lambda *args: {},
    "collections.deque": lambda values=(), most=None: list(values) if isinstance(values, (list, tuple)) else [],
    "builtins.set": _set,
    "builtins.frozenset": _set,
    "builtins.list": _plain,
    "builtins.tuple": _plain,
    "builtins.dict": _dict,
    "builtins.bytearray": lambda data=b"", *rest: (
        _encode(data, *rest) if isinstance(data, str) else bytes(data) if isinstance(data, bytes) else b""
    ),
    "builtins.bytes": lambda data=b"", *rest: _encode(data, *rest) if isinstance(data, str) else b"",
    "builtins.complex": _named("complex"),
    "builtins.slice": _named("slice"),
    "builtins.range": _named("range"),
    "builtins.getattr": _attribute,
    "_codecs.encode": _encode,
    "copyreg._reconstructor": _reconstruct,
    "functools.partial": _named("functools.partial"),
    "pathlib.PosixPath": _named("pathlib.Path"),
    "pathlib.WindowsPath": _named("pathlib.Path"),
    "pathlib._local.PosixPath": _named("pathlib.Path"),
    "pathlib._local.WindowsPath": _named("pathlib.Path"),
    "pathlib.PurePosixPath": _named("pathlib.Path"),
    "pathlib.PureWindowsPath": _named("pathlib.Path"),
    "datetime.datetime": _named("datetime.datetime"),
    "datetime.date": _named("datetime.date"),
    "datetime.timezone": _named("datetime.timezone"),
    "datetime.timedelta": _named("datetime.timedelta"),
    "decimal.Decimal": _named("decimal.Decimal"),
    "fractions.Fraction": _named("fractions.Fraction"),
    "uuid.UUID": _named("uuid.UUID"),
    "argparse.Namespace": _named("argparse.Namespace"),
    "types.SimpleNamespace": _named("types.SimpleNamespace"),
}
"""Full name -> what a call of it is described as."""

VALUES: dict[str, Any] = {
    **{f"torch.{n}": StorageKind(d) for n, d in _STORAGES.items()},
    **{f"torch.cuda.{n}": StorageKind(d) for n, d in _STORAGES.items()},
    "torch.storage.UntypedStorage": StorageKind(""),
    **{f"torch.{n}": Dtype(n) for n in _DTYPES},
    **{f"torch.{n}": Dtype(d) for n, d in _ALIASES.items()},
    **{f"torch.{w}": w for w in _WORDS},
}
"""Full name -> what the name itself stands for."""

_MENTIONED = frozenset(
    "builtins.object builtins.int builtins.float builtins.bool builtins.str builtins.type typing.Any typing.Union typing.Dict typing.List "
    "typing.Optional typing.Tuple collections.abc.Callable enum.Enum enum.IntEnum logging.Logger threading.Lock abc.ABC".split()
)
"""Names of Python itself that a pickle may hold, though never call."""
_CALLERS = frozenset(
    "torch numpy pip setuptools os posix nt sys subprocess shutil socket builtins importlib runpy pty ctypes pickle".split()
)
"""Where names lie that only an attack wants called, through whichever library they are reached."""
_OLD = {"__builtin__": "builtins", "copy_reg": "copyreg", "UserDict": "collections", "__builtins__": "builtins"}
"""What Python 2 called its modules."""


def find(module: str, name: str) -> Any:
    """What a pickle's global is described as.

    Raises:
        ReadError: A part of Python itself that no checkpoint needs.
    """
    full = f"{_OLD.get(module, module)}.{name}"
    if full in VALUES:
        return VALUES[full]
    if full in BUILDS or full in _MENTIONED or full == "numpy.ndarray":
        return Global(full)
    top = full.split(".", 1)[0]
    if top in sys.stdlib_module_names or not _is_name(full):
        shown = f"{module}.{name}"[:120]
        shown = shown if shown.isprintable() else repr(shown)
        raise ReadError(f"the pickle asks for {shown}; nothing was run.", expected="what torch itself writes", got=shown)
    return Global(full)


def _is_name(full: str) -> bool:
    return len(full) < 400 and all(part.isidentifier() or part == "<locals>" for part in full.split("."))


def build(name: str, args: tuple[Any, ...]) -> Any:
    """What calling a name would give, described; nothing is called but our own describing functions.

    Raises:
        ReadError: The name is on no list.
    """
    describe = BUILDS.get(name)
    if describe is not None:
        try:
            return describe(*args)
        except TypeError as e:
            raise ReadError(f"the pickle gives {name} arguments that it does not take.", got=f"{len(args)} arguments") from e
    if foreign(name):
        return Instance(name, args)
    raise _asks(name)


def foreign(name: str) -> bool:
    """Whether a name is a class of somebody's library: written like one, and of neither Python nor torch nor numpy."""
    parts = name.split(".")
    return parts[-1][:1].isupper() and parts[0] not in sys.stdlib_module_names and _CALLERS.isdisjoint(parts)


def new(kind: Any, args: tuple[Any, ...]) -> Any:
    """An object that its class makes without a call of its own (`object.__new__`), described."""
    if not isinstance(kind, Global):
        raise ReadError("the pickle makes an object of something that is no class.")
    if kind.name in BUILDS:
        return build(kind.name, args)
    if kind.name.split(".", 1)[0] in sys.stdlib_module_names:
        if kind.name == "builtins.object":
            return Instance(kind.name)
        raise _asks(kind.name)
    return Instance(kind.name, args)
