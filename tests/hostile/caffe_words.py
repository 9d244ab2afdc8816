"""Bad prototxt files, by their words: braces, quotes, numbers, lists, comments, names, and texts that are no network."""

from __future__ import annotations

from collections.abc import Iterator

import bad_prototxt as base
from badfile import BadFile, Verdict, from_bytes

Row = tuple[str, bytes, str, Verdict]


def words() -> Iterator[Row]:
    """(name, text, what the answer says, verdict): how it is written."""
    net = base.good().decode()

    def row(name: str, text: str | bytes, says: str = "", verdict: Verdict = "refuse") -> Row:
        return f"words-{name}", text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"), says, verdict

    yield row("control-one-line", net.replace("\n", " "), verdict="open")
    yield row("control-semicolons", net.replace(" }", "; }").replace('" ', '", '), verdict="open")
    yield row("control-tabs", net.replace(" ", "\t"), verdict="open")
    yield row("control-mac-line-ends", net.replace("\n", "\r"), verdict="open")
    yield row("control-hex-and-octal", net.replace("num_output: 4", "num_output: 0x4").replace("dim: 8", "dim: 010"), verdict="open")
    yield row("control-joined-strings", net.replace('"Convolution"', '"Con" \'volu\' "tion"'), verdict="open")
    yield row("control-enum-number", net.replace("pool: MAX", "pool: 0"), verdict="open")
    yield row("control-no-colon-strings-of-escapes", net.replace('"ReLU"', r'"\122\x65\114\125"'), verdict="open")
    yield row("control-comment-without-end", net + "# the end", verdict="open")
    yield row("control-latin1-in-comment-crlf", net.encode().replace(b"\n", b" # \xe9\xff\r\n"), verdict="open")
    yield row(
        "control-list-of-messages", net.replace("shape { dim: 1 dim: 3 dim: 8 dim: 8 }", "shape: [{ dim: [1, 3, 8, 8] }]"), verdict="open"
    )
    yield row("control-bools", net.replace("num_output: 2", "num_output: 2 bias_term: f"), verdict="open")
    yield row("control-state", "state { phase: TEST level: 0 stage: 'deploy' }\n" + net, verdict="open")
    yield row("control-deploy-ending", net.replace('"fc"', '"猫"'), verdict="open")
    for name, old, new, says in (
        ("brace-lost-in-the-middle", "kernel_size: 3 }", "kernel_size: 3", "clos|line"),
        ("brace-closed-by-angle", "kernel_size: 3 }", "kernel_size: 3 >", "line"),
        ("bracket-open", "dim: 1 dim: 3", "dim: [1, dim: 3", "line"),
        ("bracket-double-comma", "dim: 1 dim: 3", "dim: [1,, 3]", "line"),
        ("bracket-trailing-comma", "dim: 1 dim: 3", "dim: [1, 3,]", "line"),
        ("bracket-nested", "dim: 1 dim: 3", "dim: [[1], [3]]", "line"),
        ("bracket-of-one-field", 'type: "ReLU"', 'type: ["ReLU"]', "line"),
        ("string-over-two-lines", '"ReLU"', '"Re\nLU"', "line"),
        ("string-escape-unknown", '"ReLU"', r'"\qReLU"', "escape"),
        ("string-escape-cut", '"ReLU"', r'"ReLU\"', "line"),
        ("string-escape-surrogate", '"ReLU"', r'"\ud800"', "escape"),
        ("string-escape-huge", '"ReLU"', r'"\U7fffffff"', "escape"),
        ("string-octal-huge", '"ReLU"', r'"\777"', "escape"),
        ("string-bare", '"ReLU"', "ReLU", "quotes"),
        ("number-in-quotes", "num_output: 4", 'num_output: "4"', "line"),
        ("number-two", "num_output: 4", "num_output: 4 4", "line"),
        ("number-underscore", "num_output: 4", "num_output: 4_0", "line"),
        ("number-unicode-digit", "num_output: 4", "num_output: ٤", "line"),
        ("number-octal-bad", "num_output: 4", "num_output: 09", "line"),
        ("number-hex-float", "num_output: 4", "num_output: 0x1p3", "line"),
        ("number-minus-zero", "kernel_size: 3", "kernel_size: -0", "kernel_size|number"),
        ("colon-twice", "num_output: 4", "num_output:: 4", "line"),
        ("equals", "num_output: 4", "num_output = 4", "line"),
        ("comma-first", "layer {", ", ; , layer {", ""),
        ("message-as-number", "convolution_param {", "convolution_param: 3 x {", "line"),
        ("number-as-message", "num_output: 4", "num_output { a: 4 }", "line"),
        ("enum-negative", "pool: MAX", "pool: -1", "line"),
        ("enum-of-another-type", "pool: MAX", "pool: TEST", "TEST"),
        ("bool-as-text", "num_output: 2", 'num_output: 2 bias_term: "true"', "line"),
        ("bool-number", "num_output: 2", "num_output: 2 bias_term: 2", "line"),
        ("twice-param", "num_output: 2 }", "num_output: 2 } inner_product_param { num_output: 3 }", "second"),
        ("twice-name", 'name: "fc"', 'name: "fc" name: "fc"', "second"),
        ("extension-open", 'type: "ReLU"', 'type: "ReLU" [caffe.ext { a: 1 }', "line"),
        ("case", 'type: "ReLU"', 'Type: "ReLU"', "type"),
        ("full-width", "layer {", "ｌａｙｅｒ {", "line"),
        ("no-break-space", "num_output: 4", "num_output:\u00a04", "line"),
        ("zero-width", "num_output: 4", "num_output: \u200b4", "line"),
        ("bom-inside", "num_output: 4", "\ufeffnum_output: 4", "line"),
        ("control-sign", "num_output: 4", "\x07num_output: 4", "line"),
        ("backspace", "num_output: 4", "num_output: 9\b4", "line"),
    ):
        assert old in net
        yield row(
            name,
            net.replace(old, new, 1 if "first" in name or "full" in name else -1),
            says,
            "either" if name == "comma-first" else "refuse",
        )
    for name, value in {
        "1e400": "1e400",
        "minus": "-1e400",
        "nan": "nan",
        "inf": "-inf",
        "tiny": "1e-400",
        "digits": "0." + "3" * 900,
        "f": "1.f",
    }.items():
        yield row(f"float-{name}", net.replace('type: "ReLU"', f'type: "ReLU" relu_param {{ negative_slope: {value} }}'), verdict="either")
    yield row("float-too-long", net.replace('type: "ReLU"', f'type: "ReLU" relu_param {{ negative_slope: 0.{"3" * 100_000} }}'))


def sizes() -> Iterator[BadFile]:
    """Texts that are long, deep, or many."""

    def big(name: str, make: object, says: str = "", verdict: Verdict = "refuse") -> BadFile:
        assert callable(make)
        return from_bytes(f"words-{name}", make, ".prototxt", says, verdict)

    net = base.good()
    yield big("million-words-on-a-line", lambda: net + b"zebra { " + b"a: 1 " * 500_000 + b"}", verdict="either")
    yield big("million-braces-in-a-list", lambda: net + b"zebra: [" + b"{}," * 300_000 + b"{}]", verdict="either")
    yield big("deep-unknown", lambda: net + b"zebra { " * 100_000 + b"}" * 100_000, "deep|nest")
    yield big("deep-angles", lambda: net + b"zebra < " * 100_000, "deep|nest|clos")
    yield big("comments-of-63-mb", lambda: b"# \xf0\x9f\x90\xb1 meow\r\n" * 5_000_000 + net, verdict="either")
    yield big("comments-of-65-mb", lambda: b"#" * (65 << 20) + net, "long|large")
    yield big("blank-of-30-mb", lambda: b" \n" * 15_000_000 + net, verdict="either")
    yield big("carriage-returns", lambda: b"\r" * 15_000_000 + net, verdict="either")
    yield big("quotes-unclosed-many", lambda: net + b'"' * 1_000_001)
    yield big("strings-joined-many", lambda: net.replace(b'"fc"', b'"" ' * 400_000 + b'"fc"'), verdict="either")
    yield big("escapes-many", lambda: net.replace(b'"fc"', b'"' + b"\\x41" * 1_000_000 + b'"'), verdict="either")
    yield big("escapes-unicode-many", lambda: net.replace(b'"fc"', b'"' + b"\\u4141" * 1_000_000 + b'"'), verdict="either")
    yield big("name-of-10-mb", lambda: net.replace(b'"fc"', b'"' + b"x" * 10_000_000 + b'"'), verdict="either")
    yield big("type-of-10-mb", lambda: net.replace(b'"ReLU"', b'"' + b"x" * 10_000_000 + b'"'))
    yield big("field-name-of-10-mb", lambda: net + b"x" * 10_000_000 + b": 1", verdict="either")
    yield big("number-of-10-mb", lambda: net.replace(b"num_output: 4", b"num_output: " + b"4" * 10_000_000), "line")
    yield big("misspelt-many", lambda: net + b"".join(b"laier%d: 1 " % i for i in range(50_000)), verdict="either")
    yield big(
        "unknown-inside-layers",
        lambda: net.replace(b'type: "ReLU"', b'type: "ReLU" ' + b"".join(b"zebra%d: 1\n" % i for i in range(50_000))),
        verdict="either",
    )
    yield big("dims-many", lambda: net.replace(b"dim: 1 dim: 3", b"dim: 1 " * 300_000), "shape|usable")
    yield big("list-of-dims-many", lambda: net.replace(b"dim: 1 dim: 3", b"dim: [" + b"1," * 300_000 + b"1]"), "shape|usable")
    yield big("params-many", lambda: net.replace(b'name: "fc"', b'name: "fc" ' + b"param { lr_mult: 1 } " * 100_000), verdict="either")
    yield big("blobs-in-text", lambda: net.replace(b'name: "fc"', b'name: "fc" blobs { ' + b"data: 1 " * 200_000 + b"}"), verdict="either")
    yield big(
        "rules-and-stages-many",
        lambda: b"state { " + b"".join(b"stage: 's%d' " % i for i in range(20_000)) + b"} "
        + net.replace(b'name: "fc"', b'name: "fc" ' + b"include { stage: 'x' } " * 20_000),
        verdict="either",
    )  # fmt: skip


def strangers() -> Iterator[Row]:
    """Other texts under this ending."""

    def row(name: str, data: str | bytes, says: str = "", verdict: Verdict = "refuse") -> Row:
        return f"stranger-{name}", data if isinstance(data, bytes) else data.encode(), says, verdict

    import bad_caffemodel

    net = base.good()
    yield row("caffemodel-renamed", bad_caffemodel.good())
    yield row("mean-file-renamed", b"\x08\x01\x10\x03\x18\x02\x20\x02\x2a\x30" + bytes(48))
    yield row("hdf5-renamed", b"\x89HDF\r\n\x1a\n" + bytes(2000))
    yield row("onnx-renamed", b"\x08\x07\x12\x07pytorch:\x05")
    yield row("xml", '<?xml version="1.0"?><net name="x"><layers/></net>', "HTML|XML")
    yield row("yaml", "name: net\nlayers:\n  - conv\n")
    yield row("json-network", '{"class_name": "Sequential", "config": []}')
    yield row("ini", "[net]\nbatch=1\nwidth=8\n[convolutional]\nfilters=4\n")
    yield row("python", "import os\nos.system('touch executed')\n")
    yield row("ncnn-param", "7767517\n2 2\nInput data 0 1 data 0=8 1=8 2=3\n")
    yield row("solver-with-net", 'net_param { layer { name: "x" } }\nbase_lr: 0.1\nsnapshot_prefix: "/etc/x"\n', "solver|layer")
    yield row("include", '#include "/etc/passwd"\ninclude: "/etc/passwd"\n', "layer|network")
    yield row("include-in-a-network", b'include: "/etc/passwd"\nimport "/etc/shadow"\n' + net)
    yield row("label-map", 'item { name: "none" label: 0 display_name: "background" }\n', "layer|network")
    yield row("proto-file", 'syntax = "proto2";\nmessage NetParameter { optional string name = 1; }\n')
    yield row("two-networks", net + net, verdict="either")
    yield row("layers-and-layer", net + base.V1.split("\n", 7)[-2].encode(), verdict="either")
    yield row("old-type-in-a-new-layer", net.replace(b'type: "ReLU"', b"type: RELU"), "quotes")
    yield row("new-type-in-an-old-layer", base.V1.replace("RELU", '"ReLU"'), "line")
    yield row("old-type-unknown", base.V1.replace("RELU", "FROBNICATE"), "line")
    yield row("old-type-number", base.V1.replace("RELU", "18"), verdict="open")
    yield row("old-type-number-unknown", base.V1.replace("RELU", "999"), "line")
    yield row("oldest-type-unknown", base.V0.replace('type: "conv"', 'type: "frob"'), "V0|frob")
    yield row("oldest-and-old-mixed", base.V0 + base.V1.split("\n")[6], verdict="either")
    yield row(
        "oldest-padding-alone", base.V0.replace('type: "conv" num_output: 4 kernelsize: 3', 'type: "padding" pad: 1'), verdict="either"
    )
    padded = base.V0.replace('bottom: "data"', 'bottom: "p"').replace(
        "layers {", 'layers { layer { name: "p" type: "padding" pad: %s } bottom: "%s" top: "p" }\nlayers {', 1
    )
    yield row("control-oldest-padding", padded % ("1", "data"), verdict="open")
    yield row("oldest-padding-huge", padded % ("4294967295", "data"), "pad|conv")
    yield row("oldest-padding-itself", padded % ("1", "p"))
    yield row("empty-message", "layer {}\n")
    yield row("only-comments", "# nothing\n# at all\n", "layer|network|no ")
    yield row("only-a-name", 'name: "net"\n', "layer")
    yield row("layer-without-type", base.layer("", ""), "type|layer")
    yield row("layer-without-name", base.HEAD + base.CONV.replace('name: "conv" ', ""), verdict="either")


def names() -> Iterator[Row]:
    """Names that steer terminals, hide, collide or are nothing."""
    net = base.good().decode()
    odd = {
        "escape": "\\033]0;owned\\007\\033[2J", "nul": "\\000", "newline": "a\\nb", "return": "a\\rb", "bidi": "\u202e\u2066a\u2069\u200f",
        "c1": "\u009b31m", "tag": "\U000e0041", "html": "<script>alert(1)</script>", "attribute": "' onclick='x", "format": "{0}%s%n",
        "slash": "../../etc/x", "const": "const_0", "batch": "batch", "empty": "", "space": " ", "quote": '\\"\\\\', "long": "x" * 5000,
        "not-utf8": "\\377\\376", "surrogates": "\\ud83d\\ude00", "combining": "e" + "\u0301" * 2000, "markup": "[bold red]x[/]",
        "emoji": "👩‍👩‍👧",
    }  # fmt: skip
    for kind, word in odd.items():
        one = net.replace('"conv"', f'"{word}"').replace('name: "net"', f'name: "{word}"')
        yield f"names-{kind}", one.encode(), "", "either"
        yield f"names-{kind}-type", net.replace('"ReLU"', f'"{word}"').encode(), "", "refuse"
        yield f"names-{kind}-input", net.replace('"data"', f'"{word}"').replace('"fc"', f'"{word}_"').encode(), "", "either"


def cases() -> Iterator[BadFile]:
    """Every case of this module."""
    for name, data, says, verdict in (*words(), *strangers(), *names()):
        yield from_bytes(name, data, ".prototxt", says, verdict)
    yield from sizes()
