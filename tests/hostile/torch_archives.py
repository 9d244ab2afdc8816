"""Zip archives of torch: of `torch.save`, TorchScript and .pt2, made without torch; their own traps, and zip's."""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

from bad_zip import archive, raw_zip
from badfile import BadFile, Verdict, from_bytes
from torch_pickles import SHAPES, SHELL, Raw, blob, call, glob, ops, pickled, pickles, state, storage, tensor
from zip_traps import _central, _end, _local

Members = dict[str, bytes | None]


def _member(word: str) -> str:
    """A member's name as a keyword: `data__1`, `constants_DOT_pkl`."""
    return word.replace("__", "/").replace("_DOT_", ".")


def save_members(data: bytes | None = None, **replaced: bytes | None) -> list[tuple[str, bytes]]:
    """What `torch.save` writes; a keyword replaces a member (`byteorder`, `version`), None leaves it out."""
    found: Members = {"data.pkl": pickled(state()) if data is None else data, "byteorder": b"little"}
    found |= {f"data/{i}": blob(i) for i in range(len(SHAPES))} | {"version": b"3\n", ".data/serialization_id": b"1" * 40}
    found |= {_member(k): v for k, v in replaced.items()}
    return [(f"net/{n}", d) for n, d in found.items() if d is not None]


def good_zip() -> bytes:
    """A file of `torch.save`."""
    return archive(save_members())


# TorchScript

CODE = b"""class Inner(Module):
  __parameters__ = ["bias", ]
  __buffers__ = []
  bias : Tensor
  training : bool
class Net(Module):
  __parameters__ = ["weight", ]
  __buffers__ = []
  training : bool
  weight : Tensor
  inner : __torch__.Inner
  def forward(self: __torch__.Net,
    x: Tensor) -> Tensor:
    weight = self.weight
    inner = self.inner
    bias = inner.bias
    return torch.conv2d(x, weight, bias, [1, 1], [0, 0], [1, 1], 1)
"""


def module(attributes: dict[str, Any], name: str = "Net") -> Raw:
    return Raw(glob("__torch__", name) + b")\x81" + ops(attributes) + b"b")


def script_members(data: bytes | None = None, **replaced: bytes | None) -> list[tuple[str, bytes]]:
    net = module(
        {"training": False, "weight": tensor("0", (4, 3, 3, 3)), "inner": module({"bias": tensor("1", (4,)), "training": False}, "Inner")}
    )
    found: Members = {"data.pkl": pickled(net) if data is None else data, "code/__torch__.py": CODE, "data/0": blob(0), "data/1": blob(1)}
    found |= {"constants.pkl": pickled(()), "version": b"3\n"} | {_member(k): v for k, v in replaced.items()}
    return [(f"net/{n}", d) for n, d in found.items() if d is not None]


def good_script() -> bytes:
    """A TorchScript archive of 1.4 or later, as far as its weights go."""
    return archive(script_members())


def old_document() -> dict[str, Any]:
    def entry(i: int, dims: list[str], strides: list[str]) -> dict[str, Any]:
        return {"dims": dims, "offset": "0", "strides": strides, "requiresGrad": True, "dataType": "FLOAT", "data": {"key": f"tensors/{i}"}}

    inner = {
        "name": "conv",
        "parameters": [{"isBuffer": False, "tensorId": "0", "name": "weight"}, {"isBuffer": True, "tensorId": "1", "name": "bias"}],
    }
    return {
        "protoVersion": "1",
        "mainModule": {"submodules": [inner], "name": "net"},
        "tensors": [entry(0, ["4", "3", "3", "3"], ["27", "9", "3", "1"]), entry(1, ["4"], ["1"])],
    }


def old_script(document: Any = None, text: bytes | None = None) -> bytes:
    body = json.dumps(old_document() if document is None else document).encode() if text is None else text
    return archive(
        [
            ("net/version", b"1\n"),
            ("net/code/net.py", b"pass\n"),
            ("net/tensors/0", blob(0)),
            ("net/tensors/1", blob(1)),
            ("net/model.json", body),
        ]
    )


# .pt2


def meta(shape: list[int], strides: list[int] | None = None, dtype: Any = 7, offset: Any = 0, layout: int = 7) -> dict[str, Any]:
    steps, need = [], 1
    for d in reversed(shape):
        steps.append(need)
        need *= d
    return {
        "dtype": dtype,
        "sizes": [{"as_int": d} for d in shape],
        "requires_grad": False,
        "device": {"type": "cpu", "index": None},
        "strides": [{"as_int": s} for s in (steps[::-1] if strides is None else strides)],
        "storage_offset": {"as_int": offset},
        "layout": layout,
    }


def weights_table() -> dict[str, Any]:
    def entry(i: int, shape: list[int]) -> dict[str, Any]:
        return {"path_name": f"weight_{i}", "is_param": True, "use_pickle": False, "tensor_meta": meta(shape)}

    return {"config": {"conv.weight": entry(0, [4, 3, 3, 3]), "conv.bias": entry(1, [4])}}


def named(name: str, key: str = "as_tensor") -> dict[str, Any]:
    return {key: {"name": name}}


def graph_document() -> dict[str, Any]:
    """A convolution and a ReLU, as torch 2.13 writes them."""

    def given(name: str, value: str) -> dict[str, Any]:
        return {"name": name, "arg": named(value), "kind": 1}

    def node(op: str, inputs: list[dict[str, Any]], name: str, stack: str) -> dict[str, Any]:
        return {
            "target": f"torch.ops.aten.{op}.default",
            "inputs": inputs,
            "outputs": [named(name)],
            "metadata": {"nn_module_stack": stack},
            "is_hop_single_tensor_return": None,
            "name": name,
        }

    conv = [given("input", "x"), given("weight", "p_conv_weight"), given("bias", "p_conv_bias")]
    values = {"p_conv_weight": [4, 3, 3, 3], "p_conv_bias": [4], "x": [1, 3, 9, 9], "conv2d": [1, 4, 7, 7], "relu": [1, 4, 7, 7]}
    leaf = '{"type": null, "context": null, "children_spec": []}'
    nothing = '{"type": "builtins.dict", "context": "[]", "children_spec": []}'
    args = f'{{"type": "builtins.tuple", "context": "null", "children_spec": [{leaf}]}}'
    spec = f'[1, {{"type": "builtins.tuple", "context": "null", "children_spec": [{args}, {nothing}]}}]'
    signature = {"inputs": [], "outputs": [], "in_spec": spec, "out_spec": f"[1, {leaf}]", "forward_arg_names": ["x"]}
    return {
        "graph_module": {
            "graph": {
                "inputs": [named("p_conv_weight"), named("p_conv_bias"), named("x")],
                "outputs": [named("relu")],
                "nodes": [
                    node("conv2d", conv, "conv2d", "L__self__,,net.Net;L__self__conv,conv,torch.nn.modules.conv.Conv2d"),
                    node("relu", [given("self", "conv2d")], "relu", "L__self__,,net.Net"),
                ],
                "tensor_values": {k: meta(v) for k, v in values.items()},
                "sym_int_values": {},
                "sym_bool_values": {},
                "is_single_tensor_return": False,
                "custom_obj_values": {},
                "sym_float_values": {},
            },
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_conv_weight"}, "parameter_name": "conv.weight"}},
                    {"parameter": {"arg": {"name": "p_conv_bias"}, "parameter_name": "conv.bias"}},
                    {"user_input": {"arg": named("x")}},
                ],
                "output_specs": [{"user_output": {"arg": named("relu")}}],
            },
            "module_call_graph": [{"fqn": "", "signature": signature}, {"fqn": "conv", "signature": None}],
            "metadata": {},
            "treespec_namedtuple_fields": {},
        },
        "opset_version": {"aten": 10},
        "range_constraints": {},
        "schema_version": {"major": 8, "minor": 20},
        "verifiers": ["TRAINING"],
        "torch_version": "2.13.0",
        "guards_code": [],
    }


def pt2(table: Any = None, graph: Any = None, **replaced: bytes | None) -> bytes:
    found: Members = {
        "data/weights/weight_0": blob(0),
        "data/weights/weight_1": blob(1),
        "data/weights/model_weights_config.json": json.dumps(weights_table() if table is None else table).encode(),
        "data/constants/model_constants_config.json": b'{"config": {}}',
        "models/model.json": json.dumps(graph_document() if graph is None else graph).encode(),
        "data/sample_inputs/model.pt": archive([("archive/data.pkl", pickled(((), {})))]),
        "archive_format": b"pt2",
        "archive_version": b"0",
        "byteorder": b"little",
    }
    found |= {_member(k): v for k, v in replaced.items()}
    return archive([(f"net/{n}", d) for n, d in found.items() if d is not None])


def good_pt2() -> bytes:
    """A .pt2 with a convolution."""
    return pt2()


def zip_cases() -> Iterator[BadFile]:
    """Of `torch.save`: every pickle of `torch_pickles`, and the archive spoilt."""

    def case(name: str, data: bytes | Callable[[], bytes], says: str = "", verdict: Verdict = "refuse") -> BadFile:
        return from_bytes(name, data, ".pth", says, verdict)

    for name, data, says, verdict in pickles():
        yield case(name, lambda d=data: archive(save_members(d)), says, verdict)  # type: ignore[misc]
    members = save_members()
    yield case("control-no-byteorder", archive(save_members(byteorder=None)), verdict="open")
    yield case("control-big", archive(save_members(byteorder=b"big")), verdict="open")
    yield case("control-other-root", archive([(n.replace("net/", "a b/"), d) for n, d in members]), verdict="open")
    yield case("byteorder-middle", archive(save_members(byteorder=b"middle")), "order of bytes")
    yield case("byteorder-long", archive(save_members(byteorder=b"little" * 10000)), "long")
    yield case("version-long", archive(save_members(version=b"3" * 10000)), "long")
    yield case("version-text", archive(save_members(version=b"\x1b[31m")), verdict="either")
    yield case("no-pickle", archive(save_members(b"")[1:]), "data.pkl|nothing|without|no checkpoint")
    yield case("no-root", archive([(n.removeprefix("net/"), d) for n, d in members]), verdict="either")
    yield case("two-roots", archive([*members, ("other/data.pkl", pickled(state()))]), "data.pkl")
    yield case("storage-lost", archive([m for m in members if m[0] != "net/data/1"]), "data/1")
    yield case("storage-short", archive(save_members(data__1=blob(1)[:-4])), "size")
    yield case("storage-long", archive(save_members(data__1=blob(1) + b"\0")), "size")
    yield case("storage-empty", archive(save_members(data__1=b"")), "size")
    yield case("packed", archive(members, zipfile.ZIP_DEFLATED), "compressed")
    plain = [(n.encode(), d, 0, len(d), 0) for n, d in members]
    yield case("twice-pickle", archive([*members, members[0]]), "twice")
    yield case("twice-storage", archive([*members, ("net/data/0", blob(0))]), "twice")
    yield case("name-up", archive([*members, ("net/../../evil", b"x")]), "outside")
    yield case("name-absolute", archive([*members, ("/tmp/evil", b"x")]), "outside")
    yield case("name-backslash", raw_zip([*plain, (b"net\\..\\evil", b"x", 0, 1, 0)]), "outside")
    yield case("name-drive", archive([*members, ("C:/evil", b"x")]), "outside")
    yield case("name-nul", raw_zip([*plain, (b"net/a\0b", b"x", 0, 1, 0)]))
    yield case("name-long", raw_zip([*plain, (b"net/" + b"n" * 60000, b"x", 0, 1, 0)]), verdict="either")
    yield case("encrypted", raw_zip([(n, d, m, s, 1) for n, d, m, s, _ in plain]), "encrypt")
    yield case("size-lies-more", raw_zip([(n, d, m, s + 4, f) for n, d, m, s, f in plain]))
    yield case("size-lies-huge", raw_zip([(n, d, m, 2**32 - 2, f) for n, d, m, s, f in plain]))
    yield case("size-zero", raw_zip([(n, d, m, 0, f) for n, d, m, s, f in plain]))
    for method in (1, 9, 12, 14, 93, 95, 99):
        yield case(f"method-{method}", raw_zip([(n, d, method, s, f) for n, d, _, s, f in plain]), "compressed|damaged|not supported")
    yield case("checksum-wrong", good_zip().replace(struct.pack("<I", zlib.crc32(members[0][1])), b"\x01\x02\x03\x04"), "checksum")
    yield case("checksum-of-storage", good_zip().replace(struct.pack("<I", zlib.crc32(blob(0))), b"\x01\x02\x03\x04"), "checksum")
    yield case("control-no-checksum", good_zip().replace(struct.pack("<I", zlib.crc32(blob(0))), bytes(4)), verdict="open")
    yield case("names-disagree", good_zip().replace(b"net/data/0", b"net/data/9", 1), "disagree")
    yield case("prefix-64k", b"\x7fELF" + bytes(65536) + good_zip())
    yield case("comment-64k", good_zip()[:-2] + struct.pack("<H", 65535) + b"c" * 65535, verdict="either")
    yield case("comment-fake-end", good_zip()[:-2] + struct.pack("<H", 22) + b"PK\x05\x06" + bytes(18))
    yield case("overlapping", _overlapping(), "over each other|disagree")
    yield case("all-storages-one-place", _shared(), "over each other|disagree")
    yield case("members-many", lambda: archive([*members, *((f"net/data/x{i}", b"") for i in range(60_000))]), verdict="either")
    yield case("directory-huge", _directory(300_000), "too long|damaged|cut short")
    yield case("pickle-huge", lambda: archive(save_members(pickled({"a": b"\0" * (70 << 20)}))), "too long")
    yield case("bomb-deflated", lambda: archive([*save_members(bytes(200 << 20))], zipfile.ZIP_DEFLATED))
    yield case(
        "bomb-packed-code",
        lambda: archive([*script_members(), ("net/code/a.py", bytes(80 << 20))], zipfile.ZIP_DEFLATED),
        "unpacks|compressed",
    )
    yield case("link", _link(), "link")
    yield case("directory-member", archive([*members, ("net/data/", b"")]), verdict="open")
    yield case("directory-as-storage", archive([m for m in members if m[0] != "net/data/1"] + [("net/data/1/", b"")]), "data/1")
    yield case("executable-inside", archive([*members, ("net/run.sh", SHELL.encode()), ("net/lib.so", b"\x7fELF")]), verdict="open")


def _overlapping() -> bytes:
    """Two entries of the directory for one member."""
    out, directory = b"", b""
    for name, data in save_members():
        here = len(out)
        out += _local(name.encode(), data)
        directory += _central(name.encode(), len(data), len(data), here, zlib.crc32(data))
        if name == "net/data/0":
            directory += _central(b"net/data/7", len(data), len(data), here, zlib.crc32(data))
    return out + directory + _end(len(save_members()) + 1, len(directory), len(out))


def _shared() -> bytes:
    """Members inside a member: the second begins in the middle of the first."""
    inner = _local(b"net/data/7", blob(1))
    outer = _local(b"net/blob", inner)
    body = b"".join(_local(n.encode(), d) for n, d in save_members())
    at, directory = 0, b""
    for name, data in save_members():
        directory += _central(name.encode(), len(data), len(data), at, zlib.crc32(data))
        at += len(_local(name.encode(), data))
    directory += _central(b"net/blob", len(inner), len(inner), at, zlib.crc32(inner))
    directory += _central(b"net/data/7", len(blob(1)), len(blob(1)), at + len(outer) - len(inner), zlib.crc32(blob(1)))
    return body + outer + directory + _end(len(save_members()) + 2, len(directory), at + len(outer))


def _directory(count: int) -> Callable[[], bytes]:
    """A list of very many members, none of which is there."""

    def make() -> bytes:
        directory = b"".join(_central(b"net/%d" % i, 0, 0, 0, 0) for i in range(count))
        return b"PK\x03\x04" + bytes(26) + directory + _end(count & 0xFFFF, len(directory), 30)

    return make


def _link() -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in save_members():
            z.writestr(zipfile.ZipInfo(name), data)
        info = zipfile.ZipInfo("net/data/9")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        z.writestr(info, "/etc/passwd")
    return out.getvalue()


def script_cases() -> Iterator[BadFile]:
    """Of TorchScript, both layouts; a third of the poisons in each of its pickles."""

    def case(name: str, data: bytes | Callable[[], bytes], says: str = "", verdict: Verdict = "refuse") -> BadFile:
        return from_bytes(f"script-{name}", data, ".pt", says, verdict)

    yield case("control", good_script(), verdict="open")
    yield case("control-packed-code", _packed_code(), verdict="open")
    for i, (name, data, says, verdict) in enumerate(pickles()):
        if verdict == "refuse" and i % 3 == 0 and not name.startswith(("tensor", "value", "bomb-module", "bomb-expanded")):
            yield case(f"constants-{name}", lambda d=data: archive(script_members(constants_DOT_pkl=d)), says)  # type: ignore[misc]
        if name.startswith("poison") and i % 3 == 1:
            yield case(f"data-{name}", archive(script_members(data)), says)
    evil = call("posix", "system", SHELL)
    yield case("evil-attribute", archive(script_members(pickled(module({"a": evil})))), r"posix\.system")
    yield case("evil-extra", archive([*script_members(), ("net/extra/more.pkl", pickled(evil))]), r"posix\.system")
    yield case("evil-debug", archive([*script_members(), ("net/code/a.py.debug_pkl", pickled(evil))]), r"posix\.system")
    yield case("data-a-dict", archive(script_members(pickled(state()))), "module")
    yield case("data-absent", archive([m for m in script_members() if m[0] != "net/data.pkl"]), "data.pkl")
    yield case("storage-lost", archive([m for m in script_members() if m[0] != "net/data/0"]), "data/0")
    yield case("constants-number", archive([(n, pickled(7) if n.endswith("constants.pkl") else d) for n, d in script_members()]), "list")
    constant = [(n, pickled((tensor("0", (4,)),)) if n.endswith("constants.pkl") else d) for n, d in script_members()]
    yield case("constant-lost", archive(constant), "constants/0")
    yield case("constant-there", archive([*constant, ("net/constants/0", blob(1))]), verdict="open")
    yield case(
        "module-in-itself",
        archive(script_members(b"\x80\x02" + glob("__torch__", "N") + b")\x81q\x00}" + ops("a") + b"h\x00sb.")),
        "nested|deep",
    )
    deep = b"".join(glob("__torch__", "N") + b")\x81}" + ops("a") for _ in range(300)) + b"N" + b"sb" * 300
    yield case("modules-deep", archive(script_members(b"\x80\x02" + deep + b".")), "nested|deep")
    yield case("no-root", archive([(n.removeprefix("net/"), d) for n, d in script_members()]), "folder")
    yield case("storage-user", archive(script_members(pickled(module({"w": storage("0", 108)})))), verdict="either")
    yield case("case-twins", archive([*script_members(), ("net/DATA.PKL", pickled(evil))]), "case")
    yield case("comment", good_script()[:-2] + struct.pack("<H", 5) + b"hello", "end")
    yield case("comment-second-list", good_script()[:-2] + struct.pack("<H", 22) + good_script()[-22:], "end|cut short|damaged")
    yield case("something-between", good_script()[:-22] + bytes(9) + good_script()[-22:], "end|cut short|damaged|disagree")
    yield case("old-control", old_script(), verdict="open")
    good = old_document()
    spoils: dict[str, Any] = {
        "no-tensors": good | {"tensors": None},
        "tensors-number": good | {"tensors": [7]},
        "no-module": good | {"mainModule": []},
        "id-beyond": good | {"tensors": good["tensors"][:1]},
        "parameters-text": good | {"mainModule": {"parameters": "x"}},
        "id-negative": good | {"mainModule": {"parameters": [{"name": "a", "tensorId": "-1"}]}},
        "id-text": good | {"mainModule": {"parameters": [{"name": "a", "tensorId": "one"}]}},
        "id-digits": good | {"mainModule": {"parameters": [{"name": "a", "tensorId": "\u0661"}]}},
        "name-none": good | {"mainModule": {"parameters": [{"tensorId": "0"}]}},
        "submodules-number": good | {"mainModule": {"submodules": [1]}},
    }
    for key, value in {
        "dims": ["400"],
        "strides": ["1", "1"],
        "offset": "2",
        "data": {"key": "tensors/9"},
        "dataType": "COMPLEX",
        "requiresGrad": "x",
    }.items():
        spoils[f"tensor-{key}"] = good | {"tensors": [good["tensors"][0], good["tensors"][1] | {key: value}]}
    for name, document in spoils.items():
        yield case(f"old-{name}", old_script(document), verdict="either" if name == "tensor-requiresGrad" else "refuse")
    yield case(
        "old-key-outside", old_script(good | {"tensors": [good["tensors"][0] | {"data": {"key": "../../etc/passwd"}}] * 2}), "holds no"
    )
    yield case("old-json-deep", old_script(text=b'{"a":' * 5000 + b"1" + b"}" * 5000), "deep")
    yield case("old-json-broken", old_script(text=b"{"), "JSON")
    yield case("old-json-list", old_script(text=b"[]"), "object")


def _packed_code() -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, data in script_members():
            z.writestr(name, data, zipfile.ZIP_DEFLATED if "/code/" in name else zipfile.ZIP_STORED)
    return out.getvalue()


def pt2_cases() -> Iterator[BadFile]:
    """Of .pt2: its table of weights, its pickles, its members; the graph is its reader's."""

    def case(name: str, data: bytes | Callable[[], bytes], says: str = "", verdict: Verdict = "refuse") -> BadFile:
        return from_bytes(f"pt2-{name}", data, ".pt2", says, verdict)

    yield case("control", good_pt2(), verdict="open")
    entry = weights_table()["config"]["conv.bias"]

    def with_bias(**changed: Any) -> bytes:
        table = weights_table()
        table["config"]["conv.bias"] = entry | changed
        return pt2(table)

    spoils: dict[str, dict[str, Any]] = {
        "path-lost": {"path_name": "weight_9"},
        "path-up": {"path_name": "../../../etc/passwd"},
        "path-absolute": {"path_name": "/etc/passwd"},
        "path-number": {"path_name": 7},
        "meta-none": {"tensor_meta": None},
        "meta-empty": {"tensor_meta": {}},
        "pickle-of-raw": {"use_pickle": True},
        "shape-long": {"tensor_meta": meta([400])},
        "shape-huge": {"tensor_meta": meta([2**40, 2**40])},
        "shape-negative": {"tensor_meta": meta([-4])},
        "shape-symbol": {"tensor_meta": meta([4]) | {"sizes": [{"as_expr": {"expr_str": "s0"}}]}},
        "shape-float": {"tensor_meta": meta([4]) | {"sizes": [{"as_int": 4.0}]}},
        "shape-text": {"tensor_meta": meta([4]) | {"sizes": "4"}},
        "strides-many": {"tensor_meta": meta([4], [1, 1])},
        "strides-negative": {"tensor_meta": meta([4], [-1])},
        "strides-huge": {"tensor_meta": meta([4], [2**61])},
        "offset-beyond": {"tensor_meta": meta([4], offset=1)},
        "offset-negative": {"tensor_meta": meta([4], offset=-1)},
        "type-unknown": {"tensor_meta": meta([4], dtype=99)},
        "type-text": {"tensor_meta": meta([4], dtype="float")},
        "type-wider": {"tensor_meta": meta([4], dtype=8)},
        "layout-sparse": {"tensor_meta": meta([4], layout=1)},
        "expanded": {"tensor_meta": meta([2**20, 2**20], [0, 0])},
    }
    for name, changed in spoils.items():
        yield case(name, with_bias(**changed))
    for name, table in {"list": [], "config-list": {"config": []}, "config-none": {}, "entry-number": {"config": {"a": 7}}}.items():
        yield case(f"table-{name}", pt2(table))
    yield case("table-broken", pt2(data__weights__model_weights_config_DOT_json=b"{"), "JSON")
    yield case("table-deep", pt2(data__weights__model_weights_config_DOT_json=b'{"config":' * 3000 + b"1" + b"}" * 3000), "deep")
    inner = [("archive/byteorder", b"little"), ("archive/data/0", blob(1))]
    for name, value, says, verdict in (
        ("good", tensor("0", (4,)), "", "open"),
        ("evil", call("posix", "system", SHELL), r"posix\.system", "refuse"),
        ("nested", call("torch.storage", "_load_from_bytes", b"abc"), "nested", "refuse"),
        ("lost", tensor("7", (4,)), "data/7", "refuse"),
        ("long", tensor("0", (40,)), "size", "refuse"),
    ):
        data = archive([("archive/data.pkl", pickled(value)), *inner])
        table = weights_table()
        table["config"]["conv.bias"] = entry | {"use_pickle": True}
        yield case(f"pickled-{name}", pt2(table, data__weights__weight_1=data), says, verdict)  # type: ignore[arg-type]
    evil = archive([("archive/data.pkl", pickled(call("posix", "system", SHELL)))])
    yield case("sample-evil", pt2(data__sample_inputs__model_DOT_pt=evil), r"posix\.system")
    yield case("sample-raw-pickle", pt2(data__sample_inputs__model_DOT_pt=pickled(call("posix", "system", SHELL))), verdict="either")
    yield case("no-graph", pt2(models__model_DOT_json=None), "nothing|without|no graph|no checkpoint")
    yield case("compiled-only", archive([("net/archive_format", b"pt2"), ("net/data/aotinductor/model/a.so", b"\x7fELF")]))
    old: Members = {"serialized_exported_program.json": b"{}", "version": b"5.1"}
    saved = archive(save_members())
    for name, data, says, verdict in (
        ("control", saved, "", "open"),
        ("evil", evil, r"posix\.system", "refuse"),
        ("cut", saved[:-30], "damaged|cut short", "refuse"),
        ("text", b"hello", "damaged|cut short", "refuse"),
        ("list", archive(save_members(pickled([1]))), "dictionary", "refuse"),
        ("zip-in-zip", archive([("a/data.pkl", saved)]), "", "refuse"),
    ):
        held = [*old.items(), ("serialized_state_dict.pt", data)]
        yield case(f"old-{name}", archive([(n, d) for n, d in held if d is not None]), says, verdict)  # type: ignore[arg-type]
