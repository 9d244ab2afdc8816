"""Pickles of checkpoints, assembled opcode by opcode: good ones, poisoned ones, broken ones, and ones that never end."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from badfile import Verdict
from keras_config import CANARY

SHELL = f"touch {CANARY}"


@dataclass(frozen=True)
class Raw:
    """Opcodes that leave one value on the stack."""

    code: bytes


def text(value: str) -> bytes:
    data = value.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(data)) + data


def glob(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def ops(value: Any) -> bytes:
    """Opcodes for a plain value, protocol 2."""
    if isinstance(value, Raw):
        return value.code
    if value is None or isinstance(value, bool):
        return {None: b"N", True: b"\x88", False: b"\x89"}[value]
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    if isinstance(value, int):
        size = value.bit_length() // 8 + 1
        return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(ops, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(ops, value)) + b"e"
    return b"}(" + b"".join(ops(k) + ops(v) for k, v in value.items()) + b"u"


def pickled(value: Any, protocol: int = 2) -> bytes:
    return b"\x80" + bytes([protocol]) + ops(value) + b"."


def call(module: str, name: str, *args: Any) -> Raw:
    return Raw(glob(module, name) + ops(args) + b"R")


def storage(key: Any, count: Any, kind: str = "FloatStorage", view: Any = ()) -> Raw:
    return Raw(ops(("storage", Raw(glob("torch", kind)), key, "cpu", count, *view)) + b"Q")


def tensor(
    key: Any, shape: Any, strides: Any = None, offset: Any = 0, count: int | None = None, kind: str = "FloatStorage", view: Any = ()
) -> Raw:
    """A tensor of torch: of the whole storage unless something else is said."""
    need, steps = 1, []
    for d in reversed(shape if isinstance(shape, tuple) else ()):
        steps.append(need)
        need *= d
    steps = tuple(reversed(steps)) if strides is None else strides
    hooks = call("collections", "OrderedDict")
    return call(
        "torch._utils", "_rebuild_tensor_v2", storage(key, need if count is None else count, kind, view), offset, shape, steps, False, hooks
    )


SHAPES: dict[str, tuple[int, ...]] = {
    "conv.weight": (4, 3, 3, 3),
    "conv.bias": (4,),
    "bn.running_mean": (4,),
    "fc.weight": (5, 4),
    "fc.bias": (5,),
}


def state(**changed: Any) -> dict[str, Any]:
    """The state dict of the good files; storage keys are "0", "1", ..."""
    found: dict[str, Any] = {n: tensor(str(i), s) for i, (n, s) in enumerate(SHAPES.items())}
    return found | {k.replace("_", ".", 1): v for k, v in changed.items()}


def blob(i: int) -> bytes:
    """Bytes of the i-th storage."""
    count = 1
    for d in list(SHAPES.values())[i]:
        count *= d
    return struct.pack(f"<{count}f", *(0.1 * (j % 7) for j in range(count)))


CALLS = [
    line.rsplit(".", 1)
    for line in """os.system posix.system nt.system subprocess.Popen subprocess.call subprocess.check_output builtins.eval builtins.exec
    builtins.compile builtins.open builtins.__import__ builtins.setattr builtins.print builtins.globals builtins.breakpoint builtins.map
    builtins.type __builtin__.eval __builtin__.execfile importlib.import_module importlib._bootstrap._load runpy.run_path runpy._run_code
    sys.exit sys.settrace pty.spawn shutil.rmtree shutil.copyfile socket.socket socket.create_connection webbrowser.open ctypes.CDLL
    pickle.loads _pickle.loads marshal.loads code.interact codeop.compile_command timeit.timeit pdb.run bdb.Bdb cProfile.run profile.run
    trace.Trace doctest.debug_script operator.attrgetter operator.methodcaller _operator.methodcaller functools.reduce itertools.starmap
    types.CodeType types.FunctionType inspect.getsource pydoc.locate pydoc.pipepager linecache.getline tempfile.mkdtemp venv.create
    ensurepip._run_pip idlelib.pyshell.ModifiedInterpreter idlelib.run.Executive asyncio.create_subprocess_shell multiprocessing.Process
    multiprocessing.util.spawnv_passfds concurrent.futures.ProcessPoolExecutor urllib.request.urlopen http.client.HTTPSConnection
    smtplib.SMTP ftplib.FTP xmlrpc.client.ServerProxy logging.config.fileConfig sqlite3.connect zipfile.ZipFile tarfile.open
    distutils.spawn.spawn site.execsitecustomize signal.alarm threading.Thread _thread.start_new_thread gc.get_objects atexit.register
    commands.getoutput platform.popen os.execv os._exit posix.execve posix.kill mmap.mmap fileinput.FileInput glob.glob json.load
    torch.load torch.hub.load torch.jit.load torch.ops.load_library torch.storage._load_from_bytes torch.utils.cpp_extension.load_inline
    torch.serialization.load torch.package.PackageImporter torch.distributed.rpc.rpc_sync torch.utils.collect_env.run torch.nn.Linear
    torch._dynamo.guards.GuardBuilder.get torch.fx.experimental.symbolic_shapes.ShapeEnv.evaluate_guards_expression
    torch.multiprocessing.spawn
    numpy.load numpy.fromfile numpy.testing._private.utils.runstring numpy.f2py.crackfortran.getlincoef
    numpy.distutils.exec_command.exec_command
    pip.main pip._internal.main setuptools.sandbox.run_setup joblib.load pandas.eval pandas.read_pickle cloudpickle.loads dill.loads
    sklearn.externals.joblib.load tensorflow.io.read_file keras.models.load_model IPython.start_ipython""".split()
]
"""Functions that real attacks, or somebody's next one, have called."""


def poisons() -> Iterator[tuple[str, bytes, str, Verdict]]:
    """Name, pickle, what the answer says, verdict."""
    for module, name in CALLS:
        word = rf"{name}|nested pickle" if (module, name) != ("__builtin__", "eval") else "eval"
        yield f"poison-{module}.{name}", pickled(state() | {"x": call(module, name, SHELL)}), word, "refuse"
    evil = glob("posix", "system")
    says = r"posix\.system"
    arg = ops((SHELL,))
    other: dict[str, bytes] = {
        "alone": b"\x80\x02" + evil + arg + b"R.",
        "protocol-0": b"cposix\nsystem\n(S'" + SHELL.encode() + b"'\ntR.",
        "stack-global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + arg + b"R.",
        "inst": b"\x80\x02(" + text(SHELL) + b"iposix\nsystem\n.",
        "obj": b"\x80\x02(" + evil + text(SHELL) + b"o.",
        "newobj": b"\x80\x02" + evil + arg + b"\x81.",
        "newobj-ex": b"\x80\x04" + evil + arg + b"}\x92.",
        "build": b"\x80\x02" + evil + b"}b.",
        "memo": b"\x80\x02" + evil + b"q\x000" + b"h\x00" + arg + b"R.",
        "popped": b"\x80\x02" + evil + arg + b"R0" + ops(state()) + b".",
        "as-a-key": b"\x80\x02}" + evil + arg + b"RK\x01s.",
        "in-a-list": pickled({"a": [1, Raw(evil + arg + b"R")], **state()}),
        "in-optimizer": pickled({"state_dict": state(), "optimizer": {"state": {0: call("posix", "system", SHELL)}}}),
        "as-hooks": pickled(
            state(x=call("torch._utils", "_rebuild_parameter", tensor("0", (4, 3, 3, 3)), True, call("posix", "system", SHELL)))
        ),
        "as-shape": pickled(state(x=call("torch._utils", "_rebuild_tensor", storage("0", 108), 0, call("posix", "system", SHELL), (1,)))),
        "as-storage-class": pickled(state(x=Raw(ops(("storage", Raw(evil), "0", "cpu", 4)) + b"Q"))),
        "as-module-token": pickled(state(x=Raw(ops(("module", Raw(evil), "a.py", "")) + b"Q" + arg + b"R"))),
        "as-default-factory": pickled(state(x=call("collections", "defaultdict", Raw(evil)))),
        "partial": pickled(state(x=call("functools", "partial", Raw(evil), SHELL))),
        "reconstructor": pickled(state(x=call("copy_reg", "_reconstructor", Raw(evil), Raw(glob("__builtin__", "object")), None))),
        "from-type": pickled(
            state(x=call("torch._tensor", "_rebuild_from_type_v2", Raw(evil), Raw(glob("torch", "Tensor")), (SHELL,), {}))
        ),
        "second-pickle": pickled(state()) + b"\x80\x02" + evil + arg + b"R.",
    }
    for name, data in other.items():
        yield f"poison-by-{name}", data, says if name != "second-pickle" else "posix|followed|mismatch|protocol|storages", "refuse"
    words = {
        "dotted-torch": ("torch", "serialization.os.system"),
        "dotted-foreign": ("somelib", "subprocess.Popen"),
        "dotted-deep": ("PIL.Image", "os.system"),
        "empty-module": ("", "system"),
        "empty-name": ("os", ""),
        "space": ("os ", "system"),
        "newline": ("os\nx", "system"),
        "escape": ("\x1b[31mos", "system"),
        "bidi": ("os\u202e", "system"),
        "dunder": ("torch", "__builtins__.eval"),
        "class-attribute": ("collections", "OrderedDict.__init__.__globals__"),
        "very-long": ("a" * 3000, "B"),
        "path": ("../../os", "system"),
    }
    for name, (module, leaf) in words.items():
        yield f"name-{name}", b"\x80\x04" + text(module) + text(leaf) + b"\x93" + arg + b"R.", "", "refuse"
    yield (
        "getattr-of-a-module",
        pickled(state(x=call("builtins", "getattr", Raw(glob("torch", "serialization")), "os"))),
        "getattr",
        "refuse",
    )
    yield "getattr-dunder", pickled(state(x=call("builtins", "getattr", Raw(glob("my.lib", "Mode")), "__class__"))), "getattr", "refuse"
    yield (
        "from-type-of-user",
        pickled(state(x=call("torch._tensor", "_rebuild_from_type_v2", Raw(glob("my.lib", "f")), None, (), {}))),
        "f to be called",
        "refuse",
    )
    yield "call-of-a-string", pickled(state(x=Raw(text("os.system") + arg + b"R"))), "no function", "refuse"
    yield (
        "call-of-a-result",
        pickled(state(x=Raw(call("builtins", "getattr", Raw(glob("my.lib", "Mode")), "train").code + arg + b"R"))),
        "no function",
        "refuse",
    )
    yield "call-of-a-storage", pickled(state(x=Raw(glob("torch", "FloatStorage") + b"(K\x09tR"))), "storage", "refuse"
    yield "global-not-called", pickled(state(x=Raw(evil))), says, "refuse"


def broken() -> Iterator[tuple[str, bytes, str, Verdict]]:
    """Damaged pickles, and values where others belong."""
    good = pickled(state())
    raw: dict[str, bytes] = {
        "empty": b"",
        "stop-alone": b".",
        "no-stop": good[:-1],
        "two-values": b"\x80\x02}}.",
        "mark-left": b"\x80\x02(}.",
        "underflow-tuple": b"\x80\x02\x86.",
        "underflow-reduce": b"\x80\x02R.",
        "underflow-setitems": b"\x80\x02u.",
        "underflow-build": b"\x80\x02}b.",
        "no-mark": b"\x80\x02}K\x01K\x02u.",
        "memo-absent": b"\x80\x02h\x07.",
        "long-memo-absent": b"\x80\x02j\xff\xff\xff\xff.",
        "unknown-opcode": b"\x80\x02\xff.",
        "protocol-9": b"\x80\x09}.",
        "protocol-twice": b"\x80\x02\x80\x02}.",
        "text-too-long": b"\x80\x02X\xff\xff\xff\xffabc.",
        "text-8-too-long": b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        "bytes-8-too-long": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xffabc.",
        "bytearray-too-long": b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\x00\x00abc.",
        "frame-too-long": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
        "not-utf8": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
        "long-negative-length": b"\x80\x02\x8b\xff\xff\xff\xff.",
        "long-of-a-megabyte": b"\x80\x02\x8b\x00\x00\x10\x00" + b"\x7f" * (1 << 20) + b".",
        "int-of-many-digits": b"I" + b"9" * 3000 + b"\n.",
        "int-of-letters": b"Iseven\n.",
        "float-of-letters": b"Fseven\n.",
        "line-without-end": b"c" + b"a" * 100000,
        "string-without-quotes": b"Sabc\n.",
        "extension": b"\x80\x02\x82\x01.",
        "buffer": b"\x80\x05\x97.",
        "readonly-buffer": b"\x80\x05\x98.",
        "list-filled-as-dict": b"\x80\x02](K\x01K\x02u.",
        "dict-filled-as-list": b"\x80\x02}(K\x01e.",
        "odd-items": b"\x80\x02}(K\x01u.",
        "unhashable-key": b"\x80\x02}]K\x01s.",
        "dict-key-dict": b"\x80\x02}}K\x01s.",
        "set-of-lists": b"\x80\x04\x8f(]\x90.",
        "build-of-a-number": b"\x80\x02K\x01}b.",
        "newobj-of-text": b"\x80\x02" + text("torch.nn.Linear") + b")\x81.",
        "persid-text": b"Pstorage\n.",
        "html": b"<!DOCTYPE html><html></html>",
    }
    for name, data in raw.items():
        yield f"broken-{name}", data, "", "refuse"
    bad: dict[str, Any] = {
        "storage-absent": tensor("77", (4,)),
        "storage-path": tensor("../../etc/passwd", (4,)),
        "storage-newline": tensor("a\nb", (4,)),
        "storage-key-none": tensor(None, (4,)),
        "storage-key-list": tensor([0], (4,)),
        "storage-count-short": tensor("1", (2,)),
        "storage-count-long": tensor("1", (4,), count=400),
        "storage-count-negative": tensor("1", (4,), count=-4),
        "storage-count-huge": tensor("1", (4,), count=2**61),
        "storage-count-text": Raw(ops(("storage", Raw(glob("torch", "FloatStorage")), "1", "cpu", "4")) + b"Q"),
        "storage-wrong-type": tensor("1", (4,), kind="DoubleStorage"),
        "storage-two-types": call("torch._utils", "_rebuild_tensor", storage("0", 216, "HalfStorage"), 0, (2,), (1,)),
        "storage-no-class": Raw(ops(("storage", "FloatStorage", "1", "cpu", 4)) + b"Q"),
        "storage-user-class": Raw(ops(("storage", Raw(glob("my.lib", "Storage")), "1", "cpu", 4)) + b"Q"),
        "token-short": Raw(ops(("storage", 1)) + b"Q"),
        "token-text": Raw(ops("storage") + b"Q"),
        "token-other": Raw(ops(("file", "/etc/passwd", "1", "cpu", 4)) + b"Q"),
        "shape-huge": tensor("1", (2**40, 2**40), count=4),
        "shape-too-big": tensor("1", (5,), count=4),
        "shape-negative": tensor("1", (-4,), count=4),
        "shape-text": tensor("1", ("4",), (1,), count=4),
        "shape-bool": tensor("1", (True,), (1,), count=4),
        "shape-float": tensor("1", (4.0,), (1,), count=4),
        "shape-none": tensor("1", None, (1,), count=4),
        "shape-of-70-axes": tensor("1", (1,) * 70, count=4),
        "strides-short": tensor("1", (2, 2), (1,), count=4),
        "strides-long": tensor("1", (2, 2), (2, 2), count=4),
        "strides-negative": tensor("1", (4,), (-1,), count=4),
        "strides-huge": tensor("1", (2,), (2**61,), count=4),
        "offset-beyond": tensor("1", (4,), offset=1, count=4),
        "offset-negative": tensor("1", (4,), offset=-1, count=4),
        "offset-huge": tensor("1", (4,), offset=2**61, count=4),
        "offset-text": tensor("1", (4,), offset="0", count=4),
        "sparse": call("torch._utils", "_rebuild_sparse_tensor", "sparse_coo", (1, 2, 3)),
        "nested": call("torch._utils", "_rebuild_nested_tensor", 1, 2, 3, 4),
        "meta": call("torch._utils", "_rebuild_meta_tensor_no_storage", 1, (2,), (1,), False),
        "conjugate": call("torch._utils", "_rebuild_tensor_v2", storage("1", 4), 0, (4,), (1,), False, None, {"conj": True}),
        "v3-no-type": call("torch._utils", "_rebuild_tensor_v3", storage("1", 4), 0, (4,), (1,), False, None, "float32"),
        "few-arguments": call("torch._utils", "_rebuild_tensor_v2", storage("1", 4)),
        "many-arguments": call("torch._utils", "_rebuild_tensor_v2", *[1] * 30),
        "of-a-number": call("torch._utils", "_rebuild_tensor_v2", 4, 0, (4,), (1,), False, None),
        "numpy-short": Raw(
            call("numpy.core.multiarray", "_reconstruct", Raw(glob("numpy", "ndarray")), (0,), b"b").code
            + ops((1, (4,), call("numpy", "dtype", "f4", False, True), False, b"1234"))
            + b"b"
        ),
        "numpy-bad-state": Raw(
            call("numpy.core.multiarray", "_reconstruct", Raw(glob("numpy", "ndarray")), (0,), b"b").code + ops((1, 2)) + b"b"
        ),
        "view-in-a-zip": tensor("1", (4,), view=(("9", 100, 4),)),
    }
    for name, value in bad.items():
        yield f"tensor-{name}", pickled(state(conv_bias=value)), "", "refuse"
    for name, value in {
        "list": [1, 2],
        "number": 7,
        "text": "state",
        "none": None,
        "tensor": tensor("0", (4, 3, 3, 3)),
        "storage": storage("0", 108),
        "numbers": {"a": 1, "b": 2.0},
        "lists": {"a": [1.0, 2.0]},
        "namespace": call("argparse", "Namespace"),
        "user-object": Raw(glob("my.lib", "Net") + b")\x81"),
    }.items():
        yield f"value-{name}", pickled(value), "tensors|weights|dictionary", "refuse"


def bombs() -> Iterator[tuple[str, bytes, str, Verdict]]:
    """Few bytes, much work; each is made of what a pickle may hold."""
    yield "bomb-key-of-tuples", b"\x80\x02})q\x00" + b"0h\x00h\x00\x86q\x00" * 60 + b"K\x01s.", "", "refuse"
    yield "bomb-set-of-tuples", b"\x80\x04\x8f()q\x00" + b"0h\x00h\x00\x86q\x00" * 60 + b"\x90.", "", "refuse"
    yield "bomb-lists-in-lists", pickled(state() | {"x": Raw(b"]" * 400_000 + b"a" * 399_999)}), "", "either"
    yield "bomb-tuples-in-tuples", pickled(state() | {"x": Raw(b")" + b"\x85" * 400_000)}), "", "either"
    yield "bomb-marks", b"\x80\x02" + b"(" * 3_000_000, "", "refuse"
    yield "bomb-dicts", b"\x80\x02(" + b"}" * 4_000_000 + b"t.", "", "refuse"
    yield "bomb-sets", b"\x80\x04(" + b"\x8f" * 4_000_000 + b"t.", "", "refuse"
    yield "bomb-dicts-of-one", b"\x80\x02(" + b"}K\x01K\x02s" * 1_000_000 + b"t.", "", "refuse"
    yield "bomb-memo", b"\x80\x04}" + b"\x94" * 5_000_000 + b".", "", "refuse"
    yield "bomb-dup", b"\x80\x02(N" + b"2" * 6_000_000 + b"t.", "", "refuse"
    yield "bomb-floats", pickled(state() | {"x": Raw(b"(" + b"G\x3f\xb9\x99\x99\x99\x99\x99\x9a" * 4_000_000 + b"t")}), "", "refuse"
    yield "bomb-tensors", b"\x80\x02(" + tensor("0", (4, 3, 3, 3)).code.replace(b"R", b"R", 1) * 20_000 + b"t.", "", "refuse"
    again = glob("torch._utils", "_rebuild_tensor") + b"q\x00" + ops((storage("0", 108), 0, (108,), (1,))) + b"q\x01"
    yield "bomb-tensors-by-memo", b"\x80\x02(" + again + b"h\x00h\x01R" * 900_000 + b"t.", "", "refuse"
    yield "bomb-strings", pickled(state() | {"x": Raw(b"(" + b"\x8c\x02ab" * 2_900_000 + b"t")}), "", "either"
    yield (
        "bomb-laughs",
        pickled(state() | {"x": Raw(b"](K\x01e" + b"q\x00](h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00h\x00e" * 200 + b"q\x01")}),
        "",
        "refuse",
    )
    yield "bomb-laughs-kept", pickled(state() | {"x": Raw(b"]q\x00" + b"0](h\x00h\x00h\x00h\x00h\x00h\x00eq\x00" * 200)}), "", "open"
    yield "bomb-itself", pickled(state() | {"x": Raw(b"]q\x00h\x00a")}), "", "open"
    yield "bomb-dict-in-itself", b"\x80\x02}q\x00" + text("state_dict") + b"h\x00s.", "", "refuse"
    yield "bomb-expanded", pickled(state(conv_bias=tensor("1", (2**20, 2**20), (0, 0), count=4))), "memory", "refuse"
    yield "bomb-expanded-many", pickled({f"w{i}": tensor("1", (2**20, 4 + i), (0, 0), count=4) for i in range(200)}), "memory", "refuse"
    yield "bomb-expanded-huge", pickled(state(conv_bias=tensor("1", (2**61,), (0,), count=4))), "memory", "refuse"
    yield "bomb-long-keys", pickled({("k" * 100_000) + str(i): 1 for i in range(60)} | state()), "", "either"
    inner = b"ctorch.nn.modules.container\nSequential\n)\x81q\x02}(" + text("_parameters") + b"}" + text("_buffers") + b"}"
    turn = inner + text("_modules") + b"}(" + b"".join(text(str(i)) + b"h\x00" for i in range(8)) + b"uubq\x00"
    leaf = inner + text("_modules") + b"}ubq\x00"
    yield "bomb-modules", b"\x80\x02" + leaf + (b"0" + turn) * 40 + b".", "", "refuse"
    yield "bomb-module-in-itself", b"\x80\x02" + inner + text("_modules") + b"}" + text("0") + b"h\x02sub.", "", "refuse"


def controls() -> Iterator[tuple[str, bytes, str, Verdict]]:
    """What real programs write."""
    plain = state()
    good: dict[str, Any] = {
        "plain": plain,
        "wrapped": {"epoch": 3, "state_dict": plain, "best": 0.5},
        "parallel": {f"module.{k}": v for k, v in plain.items()},
        "ordered": Raw(
            call("collections", "OrderedDict").code
            + b"("
            + b"".join(ops(k) + ops(v) for k, v in plain.items())
            + b"u}"
            + text("_metadata")
            + call("collections", "OrderedDict").code
            + b"sb"
        ),
        "old-ordered": call("collections", "OrderedDict", [[k, v] for k, v in plain.items()]),
        "v1-tensors": plain | {"conv.bias": call("torch._utils", "_rebuild_tensor", storage("1", 4), 0, (4,), (1,))},
        "parameters": plain
        | {"conv.bias": call("torch._utils", "_rebuild_parameter", tensor("1", (4,)), True, call("collections", "OrderedDict"))},
        "strided": plain | {"conv.weight": tensor("0", (3, 4, 3, 3), (9, 27, 3, 1), count=108)},
        "part-of-a-storage": plain | {"conv.weight": tensor("0", (10,), (2,), 5, count=108)},
        "expanded": plain | {"conv.bias": tensor("1", (100, 4), (0, 1), count=4)},
        "tied": plain | {"again": tensor("0", (4, 3, 3, 3))},
        "zero-size": plain | {"none": tensor("1", (0, 5), (5, 1), count=4)},
        "scalar": plain | {"one": tensor("1", (), (), 2, count=4)},
        "cuda": plain | {"x": Raw(ops(("storage", Raw(glob("torch.cuda", "FloatStorage")), "1", "cuda:0", 4)) + b"Q")},
        "namespace": {"args": Raw(call("argparse", "Namespace").code + ops({"lr": 0.1}) + b"b"), "model": plain},
        "path": {"save_dir": call("pathlib", "PosixPath", "runs", "exp"), "model": plain},
        "date": {"when": call("datetime", "datetime", b"\x07\xe8\x01\x01\x00\x00\x00\x00\x00\x00"), "model": plain},
        "numpy-scalar": {
            "best": call("numpy.core.multiarray", "scalar", call("numpy", "dtype", "f8", False, True), b"\0" * 8),
            "model": plain,
        },
        "bytes-of-python-2": {"raw": call("_codecs", "encode", "abc", "latin1"), "model": plain},
        "defaultdict": {"log": call("collections", "defaultdict", Raw(glob("__builtin__", "list"))), "model": plain},
        "set": {"seen": call("__builtin__", "set", [1, 2]), "model": plain},
        "enumeration": {"mode": call("my.lib", "Mode", 3), "model": plain},
        "enumeration-3.11": {"mode": call("builtins", "getattr", Raw(glob("my.lib", "Mode")), "train"), "model": plain},
        "user-object": {"config": Raw(glob("mmcv.utils.config", "ConfigDict") + b")\x81" + ops({"a": 1}) + b"b"), "model": plain},
        "user-dict": {"config": Raw(glob("easydict", "EasyDict") + b")\x81(" + text("a") + b"K\x01u"), "model": plain},
        "device": {"device": call("torch", "device", "cuda", 0), "model": plain},
        "size": {"size": call("torch", "Size", (1, 2)), "model": plain},
        "type": {"type": Raw(glob("torch", "float32")), "model": plain},
        "names-odd": plain | {"\x1b[31m": tensor("1", (4,)), "\u202ename": tensor("1", (4,)), "a\nb": tensor("1", (4,))},
        "empty": {},
    }
    for name, value in good.items():
        yield f"control-{name}", pickled(value), "", "open"


def pickles() -> Iterator[tuple[str, bytes, str, Verdict]]:
    """Every one: name, bytes, what a refusal says, verdict."""
    yield from controls()
    yield from poisons()
    yield from broken()
    yield from bombs()
