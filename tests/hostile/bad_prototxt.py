"""Bad prototxt files: what text and topology can get wrong. Where a case has weights, they lie beside it."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from bad_caffemodel import weights_of
from badfile import BadFile, Verdict, from_bytes, other_kinds
from keras_config import CANARY

HEAD = 'name: "net"\nlayer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 8 dim: 8 } } }\n'
CONV = 'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }\n'
REST = (
    'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }\n'
    'layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: MAX kernel_size: 2 stride: 2 } }\n'
    'layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 2 } }\n'
)
V1 = (
    'name: "old"\ninput: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 8\ninput_dim: 8\n'
    'layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }\n'
    'layers { name: "relu" type: RELU bottom: "conv" top: "conv" }\n'
)
V0 = (
    'input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8\n'
    'layers { layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 } bottom: "data" top: "conv" }\n'
)
TRAIN = (
    'layer { name: "d" type: "Data" top: "data" top: "label" data_param { source: "/etc/passwd" backend: LMDB batch_size: 4 }\n'
    '  transform_param { crop_size: 8 mean_file: "../../../etc/passwd" } }\n' + CONV + REST
    + 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }\n'
)  # fmt: skip


def good() -> bytes:
    """A small network, which opens without its weights."""
    return (HEAD + CONV + REST).encode()


def texts() -> Iterator[tuple[str, str, str, Verdict]]:
    """(name, text, what the answer says, verdict): the text itself."""
    net = good().decode()
    yield "control", net, "", "open"
    yield "control-v1", V1, "", "open"
    yield "control-v0", V0, "", "open"
    yield "control-train", TRAIN, "", "open"
    yield "control-comments", "# a\n" + net.replace("\n", "  # c\n"), "", "open"
    yield "control-single-quotes", net.replace('"', "'"), "", "open"
    yield "control-colons", net.replace("_param {", "_param: {").replace("shape {", "shape: {"), "", "open"
    yield "control-angles", net.replace("{", "<").replace("}", ">"), "", "open"
    yield "control-lists", HEAD.replace("dim: 1 dim: 3 dim: 8 dim: 8", "dim: [1, 3, 8, 8]") + CONV, "", "open"
    yield "control-crlf", net.replace("\n", "\r\n"), "", "open"
    yield "control-bom", "\ufeff" + net, "", "open"
    yield "control-unknown-fields", net.replace('type: "ReLU"', 'type: "ReLU" zebra { a: 1 b: [1, 2] c { d: "x" } }'), "", "open"
    yield "brace-open", net + "layer {", "clos", "refuse"
    yield "brace-extra", net + "}", "nothing", "refuse"
    yield "brace-mixed", net.replace("input_param {", "input_param <"), "", "refuse"
    yield "string-open", net.replace('"ReLU"', '"ReLU'), "line 4", "refuse"
    yield "misspelt", net.replace("kernel_size: 3", "kernal_size: 3"), "did you mean kernel_size", "refuse"
    yield "twice", net.replace('type: "ReLU"', 'type: "ReLU" type: "ReLU"'), "second", "refuse"
    yield "enum-unknown", net.replace("pool: MAX", "pool: MAXX"), "MAX", "refuse"
    yield "enum-quoted", net.replace("pool: MAX", 'pool: "MAX"'), "", "refuse"
    for value in ("-1", "1e400", "9" * 5000, "0x", "nan", "--1", "1.5", "4294967296", "true", '"4"', "", "{ }"):
        yield f"number-{value[:8] or 'none'}", net.replace("num_output: 4", f"num_output: {value}"), "", "refuse"
    yield "deep", "layer { " * 100_000, "deep|clos", "refuse"
    yield "deep-closed", "layer { name: 'a' zebra " + "{ z " * 5000 + "}" * 5000 + " }", "deep|nest", "refuse"
    yield "deep-list", net + "zebra: " + "[" * 100_000, "", "refuse"
    yield "tokens", net + "zebra: 1 " * 200_000, "", "either"
    yield "unknown-many", net + "".join(f"zebra_{i}: {i}\n" for i in range(100_000)), "", "either"
    yield "comment-long", "#" * 20_000_000 + "\n" + net, "", "either"
    yield "name-long", net.replace('"conv"', '"' + "x" * 5_000_000 + '"'), "", "either"
    yield "names-control", net.replace('"fc"', '"fc\x1b[31m\x07\x00\u202e\u200f"'), "", "either"
    yield "names-escaped", net.replace('"fc"', r'"fc\033[31m\007\n\r"'), "", "either"
    yield "type-control", net.replace('"ReLU"', '"Re\x1b[2JLU\u202e"'), "", "refuse"
    yield "utf16", "utf16", "", "refuse"
    yield "solver", 'net: "train_val.prototxt"\nbase_lr: 0.01\nmax_iter: 100\n', "solver|network", "refuse"
    yield "mean-text", "num: 1 channels: 3 height: 2 width: 2 data: 1 data: 2\n", "", "refuse"
    yield "json", '{"layers": []}', "", "refuse"
    yield "extension", net + '[caffe.ext] { a: "b" }', "", "either"
    yield "nul", net + "\0\0\0", "", "refuse"


def layer(type: str, settings: str, tops: str = 'top: "y"', bottoms: str = 'bottom: "conv"') -> str:
    """A network whose last layer has these settings."""
    return HEAD + CONV + f'layer {{ name: "odd" type: "{type}" {bottoms} {tops} {settings} }}\n'


HUGE = 2**31 - 1


def topologies() -> Iterator[tuple[str, str, str, Verdict]]:
    """What the layers say."""
    conv = "convolution_param { num_output: %s kernel_size: %s stride: %s pad: %s group: %s dilation: %s }"
    for name, values in {
        "outputs-0": (0, 3, 1, 0, 1, 1), "outputs-huge": (HUGE, 3, 1, 0, 1, 1), "kernel-0": (4, 0, 1, 0, 1, 1),
        "kernel-huge": (4, HUGE, 1, 0, 1, 1), "stride-0": (4, 3, 0, 0, 1, 1), "pad-huge": (4, 3, 1, HUGE, 1, 1),
        "group-0": (4, 3, 1, 0, 0, 1), "group-3": (4, 3, 1, 0, 3, 1), "dilation-huge": (4, 3, 1, 0, 1, HUGE),
        "kernel-large": (4, 99, 1, 0, 1, 1), "pad-million": (4, 3, 1, 1_000_000, 1, 1),
    }.items():  # fmt: skip
        yield f"conv-{name}", layer("Convolution", conv % values), "odd", "refuse"
    yield "deconv-huge", layer("Deconvolution", conv % (4, 3, 100_000, 0, 1, 1)), "odd", "refuse"
    for name, settings in {
        "pool-kernel-huge": "pooling_param { kernel_size: 2147483647 }", "pool-stride-0": "pooling_param { kernel_size: 2 stride: 0 }",
        "pool-pad": "pooling_param { kernel_size: 2 pad: 9 }", "pool-none": "pooling_param { }",
        "pool-both": "pooling_param { kernel_size: 2 kernel_h: 2 kernel_w: 2 }",
        "pool-global-kernel": "pooling_param { global_pooling: true kernel_size: 2 }",
    }.items():  # fmt: skip
        yield name, layer("Pooling", settings), "odd", "refuse"
    odd = {
        "Tile": ["tile_param { tiles: 2000000000 }", "tile_param { tiles: 0 }", "tile_param { axis: 9 tiles: 2 }"],
        "Reshape": ["reshape_param { shape { dim: 1152921504606846976 } }",
                    "reshape_param { shape { dim: -1 dim: -1 } }", "reshape_param { shape { dim: 0 dim: 7 } }"],
        "Concat": ["concat_param { axis: 99 }"],
        "Slice": ["slice_param { slice_point: 4000000000 }", "slice_param { axis: -9 }"],
        "Permute": ["permute_param { order: 0 order: 0 }", "permute_param { order: 9 }"],
        "LRN": ["lrn_param { local_size: 4 }", "lrn_param { local_size: 4000000000 }", "lrn_param { local_size: 0 }"],
        "Interp": ["interp_param { height: 1000000 width: 1000000 }", "interp_param { zoom_factor: 100000 }"],
        "Upsample": ["upsample_param { scale: 1048576 }"],
        "PriorBox": ["prior_box_param { }", "prior_box_param { min_size: -1 }"],
        "DetectionOutput": ["detection_output_param { num_classes: 0 }", "detection_output_param { num_classes: 4000000000 }"],
        "Proposal": ["proposal_param { feat_stride: 0 }"],
        "ROIPooling": ["roi_pooling_param { pooled_h: 1000000 pooled_w: 1000000 }"],
        "SPP": ["spp_param { pyramid_height: 31 }", "spp_param { pyramid_height: 0 }"],
        "Embed": ["embed_param { num_output: 4000000000 input_dim: 4000000000 }"],
        "InnerProduct": ["inner_product_param { num_output: 4000000000 }",
                         "inner_product_param { }", "inner_product_param { num_output: 2 axis: 77 }"],
        "LSTM": ["recurrent_param { num_output: 4 }"],
        "Crop": ["crop_param { offset: 9 }"],
        "Reduction": ["reduction_param { axis: 12 }"],
        "ArgMax": ["argmax_param { top_k: 100000000 }", "argmax_param { axis: 9 }"],
        "Flatten": ["flatten_param { axis: 9 }", "flatten_param { axis: 3 end_axis: 1 }"],
        "Scale": ["scale_param { axis: 9 }", "scale_param { num_axes: 99 }"],
        "ShuffleChannel": ["shuffle_channel_param { group: 3 }", "shuffle_channel_param { group: 0 }"],
        "Python": [f'python_param {{ module: "os" layer: "system" param_str: "touch {CANARY}" }}'],
        "Frobnicate": [""],
    }  # fmt: skip
    for type, many in odd.items():
        for i, settings in enumerate(many):
            yield f"layer-{type}-{i}", layer(type, settings), "odd", "refuse"
    yield "layer-Eltwise-coeff", layer("Eltwise", "eltwise_param { coeff: 1 }", bottoms='bottom: "conv" bottom: "conv"'), "odd", "refuse"
    yield "layer-Eltwise-shapes", layer("Eltwise", "", bottoms='bottom: "conv" bottom: "data"'), "odd", "refuse"
    yield "layer-Power-nan", layer("Power", "power_param { power: nan }"), "", "open"
    yield "conv-outputs-million", layer("Convolution", conv % (1_000_000, 3, 1, 0, 1, 1)), "", "open"
    yield "no-bottom", layer("ReLU", "", bottoms=""), "odd", "refuse"
    yield "no-top", layer("Tile", "tile_param { tiles: 2 }", tops=""), "", "either"
    yield "many-tops", layer("ReLU", "", tops=" ".join(f'top: "t{i}"' for i in range(1000))), "odd", "refuse"
    yield "many-bottoms", layer("ReLU", "", bottoms='bottom: "conv" ' * 100_000), "odd", "refuse"
    yield (
        "forward",
        HEAD + 'layer { name: "a" type: "ReLU" bottom: "b" top: "a" }\nlayer { name: "b" type: "ReLU" bottom: "a" top: "b" }\n',
        "'b'",
        "refuse",
    )
    yield "itself", HEAD + 'layer { name: "a" type: "ReLU" bottom: "a" top: "a" }\n', "'a'", "refuse"
    yield "same-names", HEAD + CONV + CONV, "", "either"
    doubling = "".join(
        f'layer {{ name: "c{i}" type: "Concat" bottom: "{"conv" if not i else f"c{i - 1}"}" '
        f'bottom: "{"conv" if not i else f"c{i - 1}"}" top: "c{i}" }}\n'
        for i in range(40)
    )
    yield "doubling", HEAD + CONV + doubling, "", "refuse"
    yield (
        "long-chain",
        HEAD + "".join(f'layer {{ name: "r{i}" type: "ReLU" bottom: "data" top: "data" }}\n' for i in range(3000)),
        "",
        "either",
    )
    endless = "".join(f'layer {{ name: "r{i}" type: "ReLU" bottom: "data" top: "data" }}\n' for i in range(100_000))
    yield "endless-chain", HEAD + endless, "layers", "refuse"
    yield (
        "many-inputs",
        "".join(f'input: "i{i}" input_shape {{ dim: 1 dim: 1 }}\n' for i in range(3000))
        + 'layer { name: "r" type: "ReLU" bottom: "i0" top: "y" }\n',
        "",
        "either",
    )
    for name, dims in {"huge": "dim: 1 dim: 2147483647 dim: 2147483647 dim: 9", "negative": "dim: 1 dim: -3 dim: 8 dim: 8",
                       "zero": "dim: 1 dim: 0 dim: 8 dim: 8", "many": "dim: 1 " * 40, "none": ""}.items():  # fmt: skip
        yield (
            f"input-{name}",
            f'layer {{ name: "d" type: "Input" top: "data" input_param {{ shape {{ {dims} }} }} }}\n' + CONV,
            "",
            "refuse",
        )
    yield "input-dims", 'input: "data" input_dim: 1 input_dim: 3\n' + CONV, "input_dim", "refuse"
    yield (
        "input-twice",
        'input: "data" input_shape { dim: 1 dim: 3 dim: 8 dim: 8 } input: "data" input_shape { dim: 1 }\n' + CONV,
        "",
        "refuse",
    )
    memory = "batch_size: 2147483648 channels: 2147483648 height: 2147483648 width: 2147483648"
    yield "memory-data", f'layer {{ name: "d" type: "MemoryData" top: "data" memory_data_param {{ {memory} }} }}\n' + CONV, "", "refuse"
    yield "data-without-size", 'layer { name: "d" type: "Data" top: "data" data_param { source: "/dev/zero" } }\n' + CONV, "shape", "refuse"
    yield (
        "hdf5-source",
        'layer { name: "d" type: "HDF5Data" top: "data" hdf5_data_param { source: "/dev/zero" } }\n' + CONV,
        "shape",
        "refuse",
    )


def beside() -> Iterator[BadFile]:
    """What lies beside the prototxt."""

    def with_file(name: str, make: Callable[[Path], None], verdict: Verdict = "refuse", says: str = "", text: str = TRAIN) -> BadFile:
        def build(folder: Path) -> Path:
            (folder / "net.prototxt").write_text(text)
            make(folder)
            return folder / "net.prototxt"

        return BadFile(name, build, says, verdict)

    def put(file: str, data: bytes) -> Callable[[Path], None]:
        return lambda folder: (folder / file).write_bytes(data) and None

    shapes = {"conv": [(4, 3, 3, 3), (4,)], "fc": [(2, 36), (2,)]}
    yield with_file("control-weights", put("net.caffemodel", weights_of(shapes)), "open")
    yield with_file("weights-of-another", put("net.caffemodel", weights_of({"conv": [(9, 3, 3, 3), (9,)]})), says="conv")
    yield with_file("weights-missing-layer", put("net.caffemodel", weights_of({"conv": shapes["conv"]})), says="fc")
    yield with_file("weights-missing-blob", put("net.caffemodel", weights_of({"conv": [(4, 3, 3, 3)], "fc": shapes["fc"]})), says="conv")
    yield with_file("weights-are-text", put("net.caffemodel", good()))
    yield with_file("weights-empty", put("net.caffemodel", b""))
    yield with_file("weights-are-html", put("net.caffemodel", b"<html>404</html>"))
    yield with_file("mean-broken", put("net.binaryproto", b"\x08\x01\x10\x03\x18\xff"), text=TRAIN)
    yield with_file("mean-huge", put("net.binaryproto", b"\x08\x01\x10\x03\x18\x80\x80\x80\x80\x04\x20\x80\x80\x80\x80\x04"))
    yield with_file("mean-fifo", lambda folder: os.mkfifo(folder / "mean.binaryproto"), "open")
    yield with_file("labels-fifo", lambda folder: os.mkfifo(folder / "labels.txt"), "open")
    yield with_file("labels-binary", put("labels.txt", bytes(range(256)) * 100), "open")
    yield with_file("labels-control", put("labels.txt", "a\x1b[31m\nb\u202e\n".encode()), "open")
    yield with_file("card-nonsense", put("net.card.json", b"[1, 2"), says="card")
    yield with_file("card-types", put("net.card.json", b'{"card": {"data": {"mean": "x"}}, "classes": 3}'), says="card")
    yield with_file("weights-fifo", lambda folder: os.mkfifo(folder / "net.caffemodel"), "open")
    yield with_file("weights-link-loop", lambda folder: (folder / "net.caffemodel").symlink_to("net.caffemodel"), "open")


def cases() -> Iterator[BadFile]:
    """Every case of this format."""
    for name, text, says, verdict in (*texts(), *topologies()):
        data = good().decode().encode("utf-16") if text == "utf16" else text.encode("utf-8", "surrogatepass")
        yield from_bytes(name, data, ".prototxt", says, verdict)
    yield from_bytes("control-latin1-comment", b"# caf\xe9\n" + good(), ".prototxt", verdict="open")
    yield from_bytes("latin1-name", good().replace(b'"fc"', b'"caf\xe9"'), ".prototxt", verdict="either")
    yield from beside()
    for case in other_kinds(".prototxt", good()):
        plain = case.name.startswith(("cut", "crlf", "head", "middle"))
        yield BadFile(case.name, case.make, case.says, "either" if plain else case.verdict)
    for more in (
        "caffe_words",
        "caffe_layers",
        "caffe_settings",
        "caffe_links",
        "caffe_pairs",
        "caffe_stores",
    ):  # they build upon this module
        yield from import_module(more).cases()


_TOKEN = re.compile(rb'"[^"\n]*"|[A-Za-z_]\w*|-?\d[\w.]*|\S')
_WORDS = (
    b"-1 0 2147483647 4294967296 1e400 nan { } [ ] : layer MAX bottom true kernel_size input_dim # ' "
    b'"conv" "data" "" "Convolution" "Concat" "Slice" "Reshape"'
).split()


def mutate(data: bytes, seed: int) -> bytes:
    """Words exchanged, dropped, doubled or replaced: the text stays a text."""
    rng = random.Random(seed)
    tokens = _TOKEN.findall(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        i = rng.randrange(len(tokens))
        kind = rng.randrange(4)
        if kind == 0:
            tokens[i] = rng.choice(_WORDS)
        elif kind == 1:
            del tokens[i]
        elif kind == 2:
            tokens.insert(i, rng.choice(tokens))
        else:
            j = rng.randrange(len(tokens))
            tokens[i], tokens[j] = tokens[j], tokens[i]
    return b" ".join(tokens)
