"""Bad company: what lies beside a prototxt, what a network names, and pairs of files that do not belong together."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import bad_caffemodel
import bad_prototxt as base
from bad_caffemodel import number, weights_of
from bad_prototxt import CONV, HEAD, REST
from badfile import HTML, PICKLE, BadFile, Verdict
from caffe_wire import old, v0, v1
from onnx_traps import field_bytes

SHAPES = {"conv": [(4, 3, 3, 3), (4,)], "fc": [(2, 36), (2,)]}
SECRET = "secret.txt"
"""Lies above the folder of the case, where nothing may look."""


def mean(*dims: int, data: bytes | None = None) -> bytes:
    """A mean file: 1 num, 2 channels, 3 height, 4 width, 5 data."""
    count = 1
    for d in dims:
        count *= d
    return b"".join(number(i + 1, d) for i, d in enumerate(dims)) + field_bytes(5, bytes(4 * count) if data is None else data)


def pictures(transform: str) -> str:
    """A training network whose data layer says how pictures become its input."""
    head = 'layer { name: "d" type: "ImageData" top: "data" top: "label" transform_param { crop_size: 8 ' + transform + " } }\n"
    return head + CONV + REST


def case(
    name: str,
    verdict: Verdict = "refuse",
    says: str = "",
    *,
    text: str | bytes = HEAD + CONV + REST,
    open: str = "net.prototxt",
    **files: object,
) -> BadFile:
    """A folder of files; a name's last `_` stands for its dot. A file is bytes, or a function that makes it."""

    def make(folder: Path) -> Path:
        (folder.parent / SECRET).write_text("one\ntwo\n")
        if text:
            (folder / "net.prototxt").write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))
        for key, what in files.items():
            path = folder / key.replace("__", "/").replace("_dot_", ".")
            if callable(what):
                what(path)
            else:
                assert isinstance(what, bytes)
                path.write_bytes(what)
        return folder / open

    return BadFile(f"pair-{name}", make, says, verdict)


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def sparse(size: int, head: bytes = b"") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.write_bytes(head)
        os.truncate(path, size)

    return make


def weights() -> Iterator[BadFile]:
    """The other file of the pair."""
    fit = weights_of(SHAPES)
    yield case("control", "open", net_dot_caffemodel=fit)
    yield case("control-only-one", "open", other_iter_100_dot_caffemodel=fit)
    yield case("control-by-weights", "open", open="net.caffemodel", net_dot_caffemodel=fit)
    yield case("control-link", "open", net_dot_caffemodel=link("data/w"), data=lambda p: p.mkdir(), data__w=fit)
    shapes_v1 = {"conv": [(2, 3, 3, 3), (2,)]}
    small = base.V1.replace("num_output: 4", "num_output: 2").replace("input_dim: 8", "input_dim: 6")
    yield case("control-v1-of-v2", "open", text=small, net_dot_caffemodel=weights_of(shapes_v1))
    yield case("control-v2-of-v1", "open", text=HEAD + CONV.replace("num_output: 4", "num_output: 2"), net_dot_caffemodel=old(v1()))
    yield case("control-v2-of-v0", "open", text=HEAD + CONV.replace("num_output: 4", "num_output: 2"), net_dot_caffemodel=old(v0()))
    yield case("same-file-twice", net_dot_caffemodel=(HEAD + CONV + REST).encode())
    yield case("swapped", open="net.caffemodel", text=fit, net_dot_caffemodel=(HEAD + CONV + REST).encode())
    yield case("text-called-caffemodel", "either", text="", open="net.caffemodel", net_dot_caffemodel=(HEAD + CONV).encode())
    yield case("prototxt-is-a-link-to-the-weights", text="", net_dot_caffemodel=fit, net_dot_prototxt=link("net.caffemodel"))
    yield case(
        "prototxt-is-a-folder",
        "either",
        text="",
        open="net.caffemodel",
        net_dot_caffemodel=bad_caffemodel.good(),
        net_dot_prototxt=lambda p: p.mkdir(),
    )
    yield case("weights-is-a-folder", "open", net_dot_caffemodel=lambda p: p.mkdir())
    yield case("weights-link-to-a-device", "open", net_dot_caffemodel=link("/dev/zero"))
    yield case("weights-link-to-a-text", net_dot_caffemodel=link("../" + SECRET))
    yield case("two-candidates", "open", a_dot_caffemodel=fit, b_dot_caffemodel=b"nonsense")
    yield case("two-prototxt", open="w.caffemodel", w_dot_caffemodel=fit, second_dot_prototxt=base.V1.encode())
    yield case(
        "deploy-beside",
        "open",
        text="",
        open="w.caffemodel",
        w_dot_caffemodel=fit,
        deploy_dot_prototxt=(HEAD + CONV + REST).encode(),
        solver_dot_prototxt=b'net: "x"',
    )
    yield case(
        "deploy-is-a-solver",
        text="",
        open="w.caffemodel",
        w_dot_caffemodel=fit,
        deploy_dot_prototxt=b'net: "x"\nbase_lr: 1\n',
        says="solver",
    )
    yield case("folder-of-many", "open", **{f"a{i}_dot_prototxt": b"x" for i in range(3000)}, net_dot_caffemodel=fit)
    for name, data in {"pickle": PICKLE, "html": HTML, "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "zip": b"PK\3\4" + bytes(60), "onnx": b"\x08\x07\x12\x07pytorch:\x05graph",
                       "mean": mean(1, 3, 4, 4), "cut": fit[:-1], "behind": fit + b"\0", "zeros": bytes(4096),
                       "hdf5-cut": b"\x89HDF\r\n\x1a\n", "no-layers": field_bytes(1, b"net"),
                       "one-mean-less": weights_of({**SHAPES, "conv": [(4, 3, 3, 3), (3,)]}),
                       "other-kernel": weights_of({**SHAPES, "conv": [(4, 3, 9), (4,)]}),
                       "other-names": weights_of({f"{k}_1": v for k, v in SHAPES.items()}),
                       "flat": weights_of({**SHAPES, "conv": [(108,), (4,)]})}.items():  # fmt: skip
        yield case(f"weights-{name}", net_dot_caffemodel=data)
    yield case("weights-more-layers", "open", net_dot_caffemodel=weights_of({**SHAPES, **{f"x\x1b[2J{i}": [(1,)] for i in range(3000)}}))
    yield case("weights-empty-name", "either", net_dot_caffemodel=weights_of({**SHAPES, "": [(1,)]}))
    yield case("weights-sparse-1-gb", "either", net_dot_caffemodel=sparse(1 << 30, fit))
    yield case(
        "name-as-long-as-can-be", "open", text="", open="x" * 246 + ".prototxt", **{"x" * 246 + "_dot_prototxt": (HEAD + CONV).encode()}
    )
    yield case(
        "name-control", "either", text="", open="\x1b[31m\n\u202e.prototxt", **{"\x1b[31m\n\u202e_dot_prototxt": (HEAD + CONV).encode()}
    )
    yield case("name-not-utf8", "either", text="", open="\udcff.prototxt", **{"\udcff_dot_prototxt": (HEAD + CONV).encode()})


def means() -> Iterator[BadFile]:
    """Mean files and what names them."""
    net = pictures('mean_file: "m.binaryproto"')
    yield case("control-mean", "open", text=net, m_dot_binaryproto=mean(1, 3, 8, 8))
    yield case(
        "control-mean-double",
        "open",
        text=net,
        m_dot_binaryproto=number(1, 1) + number(2, 3) + number(3, 1) + number(4, 1) + field_bytes(8, bytes(24)),
    )
    yield case("control-mean-missing", "open", text=net)
    words = {"parent": f"../{SECRET}", "absolute": "/etc/passwd", "nul": "a\\000b", "device": "/dev/zero", "dot": ".", "dots": "..",
        "slash": "/", "empty": "", "long": "x" * 5000, "itself": "net.prototxt",
             "url": "http://localhost:1/m.binaryproto", "home": "~/.ssh/id_rsa", "variable": "$HOME/x", "backslash": "..\\\\..\\\\x",
             "bidi": "\u202em\x1b[31m", "not-utf8": "\\377"}  # fmt: skip
    for name, word in words.items():
        yield case(f"mean-names-{name}", "refuse" if name == "itself" else "open", text=pictures(f'mean_file: "{word}"'))
    yield case("mean-link-outside", "open", text=net, m_dot_binaryproto=link("../" + SECRET))
    yield case("mean-link-inside", "open", text=net, m_dot_binaryproto=link("other"), other=mean(1, 3, 8, 8))
    yield case("mean-link-loop", "open", text=net, m_dot_binaryproto=link("m.binaryproto"))
    yield case("mean-link-device", "open", text=net, m_dot_binaryproto=link("/dev/zero"))
    yield case("mean-fifo", "open", text=net, m_dot_binaryproto=os.mkfifo)
    yield case("mean-folder", "open", text=net, m_dot_binaryproto=lambda p: p.mkdir())
    for name, data in {"empty": b"", "text": b"104 117 123\n", "npy": b"\x93NUMPY\1\0v\0{'descr': '<f4'",
        "short": mean(1, 3, 8, 8, data=bytes(9)), "channels-2": mean(1, 2, 8, 8), "dims-zero": mean(1, 3, 0, 8),
                       "dims-negative": number(1, 1) + number(2, -3) + number(3, 8) + number(4, 8) + field_bytes(5, bytes(768)),
                       "dims-huge": mean(1, 3, 2**31 - 1, 2**31 - 1, data=bytes(8)), "rank-1": field_bytes(5, bytes(12)),
                       "caffemodel": bad_caffemodel.good()}.items():  # fmt: skip
        yield case(f"mean-{name}", text=net, m_dot_binaryproto=data, verdict="refuse")
    yield case("mean-nan", "either", text=net, m_dot_binaryproto=mean(1, 3, 1, 1, data=b"\xff" * 12))
    yield case("mean-200-mb", text=net, m_dot_binaryproto=lambda p: p.write_bytes(mean(1, 3, 4096, 4096)))
    yield case("mean-sparse-4-gb", text=net, m_dot_binaryproto=sparse(1 << 32))
    for name, word in {"values-nan": "mean_value: nan", "values-huge": "mean_value: 1e400 scale: 1e38",
        "values-two": "mean_value: 1 mean_value: 2", "scale-nan": "scale: nan", "scale-zero": "scale: 0",
        "both": 'mean_value: 1 mean_file: "m"', "crop-huge": "", "crop-more": ""}.items():  # fmt: skip
        net_ = pictures(word).replace(
            "crop_size: 8", {"crop-huge": "crop_size: 4294967295", "crop-more": "crop_size: 2147483647"}.get(name, "crop_size: 8")
        )
        yield case(f"transform-{name}", "either", text=net_)


def sources() -> Iterator[BadFile]:
    """Data layers that name where pictures lie: nothing of it is opened."""
    kinds = {
        "Data": "data_param",
        "ImageData": "image_data_param",
        "HDF5Data": "hdf5_data_param",
        "WindowData": "window_data_param",
        "HDF5Output": "hdf5_output_param",
    }
    for kind, part in kinds.items():
        key = "file_name" if kind == "HDF5Output" else "source"
        for name, word in (("parent", f"../{SECRET}"), ("device", "/dev/zero"), ("fifo", "pipe")):
            named = f'{part} {{ {key}: "{word}" }} transform_param {{ crop_size: 8 }}'
            text = f'layer {{ name: "d" type: "{kind}" top: "data" top: "label" {named} }}\n'
            text = text.replace(' top: "data" top: "label"', ' bottom: "fc"') if kind == "HDF5Output" else text
            yield case(
                f"source-{kind}-{name}",
                "open",
                text=(HEAD + CONV + REST + text) if kind == "HDF5Output" else text + CONV + REST,
                pipe=os.mkfifo,
            )


def labels() -> Iterator[BadFile]:
    """Class names and the card."""
    yield case("control-labels", "open", labels_dot_txt=b"one\ntwo\n")
    yield case("labels-link-outside", "open", labels_dot_txt=link("../" + SECRET))
    yield case("labels-link-loop", "open", labels_dot_txt=link("labels.txt"))
    yield case("labels-link-device", "open", synset_words_dot_txt=link("/dev/zero"))
    yield case("labels-folder", "open", labels_dot_txt=lambda p: p.mkdir())
    yield case("labels-1-gb", "open", labels_dot_txt=sparse(1 << 30, b"one\ntwo\n"))
    yield case("labels-lines-millions", "open", labels_dot_txt=lambda p: p.write_bytes(b"a\n" * 6_000_000))
    yield case("labels-one-line", "open", labels_dot_txt=lambda p: p.write_bytes(b"a" * 20_000_000))
    yield case("labels-wide", "open", labels_dot_txt=lambda p: p.write_bytes("🐱".encode() * 3_000_000 + b"\n" + b"b" * 4_000_000))
    yield case("labels-spaces", "open", labels_dot_txt=b"n01440764 " + b" " * 100_000 + b"\n" + b"\t" * 100_000 + b"x")
    yield case("labels-html", "open", labels_dot_txt=b"<script>alert(1)</script>\n\x1b]0;owned\x07\n")
    yield case("labels-utf16", "open", labels_dot_txt="one\ntwo\n".encode("utf-16"))
    good = {"card": {"data": {"mean": [1, 2, 3]}}, "classes": ["a", "b"]}
    yield case("control-card", "open", net_dot_card_dot_json=json.dumps(good).encode())
    card = {
        "empty": b"", "null": b"null", "number": b"1", "text": b'"x"', "deep": b"[" * 100_000, "utf16": json.dumps(good).encode("utf-16"),
        "nan": b'{"card": {"data": {"mean": [NaN, Infinity, 1e999]}}}',
        "integer-long": b'{"classes": [' + b"9" * 10_000 + b"]}", "mean-nested": b'{"card": {"data": {"mean": [[1], [2]]}}}',
        "mean-million": b'{"card": {"data": {"mean": [' + b"1," * 999_999 + b"1]}}}",
        "layout-odd": b'{"card": {"data": {"layout": "\\u001b[31m", "order": 7, "range": "x", "scale": [], "std": [0], "resize": {}}}}',
        "classes-nested": b'{"classes": [[["a"]], {"b": 1}]}',
        "classes-million": b'{"classes": [' + b'"a",' * 999_999 + b'"a"]}', "classes-control": b'{"classes": ["\\u001b[31m", "\\u202e"]}',
        "unknown-field": b'{"card": {"data": {"__class__": "x"}}, "x": 1}', "other-input": b'{"card": {"nobody": {"mean": [1]}}}',
        "twice": b'{"card": {}, "card": 1}', "not-utf8": b'{"card": {"\xff": {}}}', "bom": b"\xef\xbb\xbf" + json.dumps(good).encode(),
        "surrogate": b'{"classes": ["\\ud800", "b"]}',
    }  # fmt: skip
    for name, data in card.items():
        yield case(f"card-{name}", "either", net_dot_card_dot_json=data)
    yield case("card-17-mb", "refuse", net_dot_card_dot_json=lambda p: p.write_bytes(b" " * (17 << 20) + b"{}"), says="card")
    yield case("card-fifo", "open", net_dot_card_dot_json=os.mkfifo)
    yield case("card-folder", "open", net_dot_card_dot_json=lambda p: p.mkdir())


def cases() -> Iterator[BadFile]:
    """Every case of this module."""
    yield from weights()
    yield from means()
    yield from sources()
    yield from labels()
