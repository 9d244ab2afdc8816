"""Bad prototxt files, by their layers: too many of something, and few words that ask for large networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bad_prototxt import CONV, HEAD
from badfile import BadFile, Verdict, from_bytes

Row = tuple[str, str, str, Verdict]


def many(make: Callable[[int], str], count: int) -> str:
    return "".join(make(i) for i in range(count))


def given(name: str, *dims: int) -> str:
    """An input."""
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {" ".join(f"dim: {d}" for d in dims)} }} }} }}\n'


def one(type: str, settings: str = "", bottoms: str = "data", tops: str = "y", name: str = "odd") -> str:
    """A layer; bottoms and tops are words."""
    links = " ".join(f'bottom: "{b}"' for b in bottoms.split()) + " " + " ".join(f'top: "{t}"' for t in tops.split())
    return f'layer {{ name: "{name}" type: "{type}" {links} {settings} }}\n'


def counts() -> Iterator[BadFile]:
    """Too many of something; written when they are run."""

    def bad(name: str, make: Callable[[], str], says: str = "", verdict: Verdict = "either") -> BadFile:
        return from_bytes(f"many-{name}", lambda: make().encode(), ".prototxt", says, verdict)

    n = 9_900
    yield bad("layers-alike", lambda: HEAD + one("ReLU", tops="data") * n)
    yield bad("layers-alike-out-of-place", lambda: HEAD + one("ReLU") * n)
    yield bad("outputs", lambda: HEAD + many(lambda i: one("ReLU", tops=f"y{i}", name=f"r{i}"), n))
    yield bad("losses", lambda: HEAD + many(lambda i: one("SoftmaxWithLoss", tops=f"l{i}", name=f"l{i}"), n))
    yield bad(
        "auxiliary-losses", lambda: HEAD + many(lambda i: one("SoftmaxWithLoss", f"loss_weight: 0.{i + 1}", tops=f"l{i}", name=f"l{i}"), n)
    )
    yield bad("accuracies", lambda: HEAD + CONV + many(lambda i: one("EuclideanLoss", bottoms="data conv", tops=f"l{i}", name=f"l{i}"), n))
    yield bad("unknown-types", lambda: HEAD + many(lambda i: one(f"Frob{i}", tops=f"y{i}", name=f"r{i}"), n), "frob0", "refuse")
    yield bad(
        "pairs",
        lambda: HEAD + many(lambda i: one("BatchNorm", tops="data", name=f"b{i}") + one("Scale", tops="data", name=f"s{i}"), n // 2),
    )
    yield bad(
        "tops-of-an-input",
        lambda: given("data", 1, 3, 8, 8).replace('top: "data"', many(lambda i: f'top: "t{i}" ', 100_000)) + one("ReLU", bottoms="t0"),
    )
    yield bad(
        "declared-inputs",
        lambda: (
            many(lambda i: f'input: "t{i}" ', 100_000)
            + many(lambda i: "input_shape { dim: 1 dim: 1 } ", 100_000)
            + one("ReLU", bottoms="t0")
        ),
    )
    yield bad("input-layers", lambda: many(lambda i: given(f"t{i}", 1, 1), n) + one("ReLU", bottoms="t0"))
    yield bad(
        "input-layers-by-channels",
        lambda: (
            many(lambda i: f'layer {{ name: "d{i}" type: "ImageData" top: "d{i}" transform_param {{ crop_size: 8 }} }}\n', n // 2)
            + many(lambda i: one("ReLU", bottoms=f"d{i}", tops=f"y{i}", name=f"r{i}"), n // 2)
        ),
    )
    yield bad("tops-of-a-split", lambda: HEAD + one("Split", tops=" ".join(f"t{i}" for i in range(100_000))))
    yield bad("tops-of-a-slice", lambda: given("data", 1, 100_000) + one("Slice", tops=" ".join(f"t{i}" for i in range(100_000))))
    yield bad("tops-of-one-name", lambda: given("data", 1, 20_000) + one("Slice", tops="t " * 20_000))
    yield bad("bottoms-of-eltwise", lambda: HEAD + one("Eltwise", bottoms="data " * 20_000))
    yield bad("bottoms-of-eltwise-max", lambda: HEAD + one("Eltwise", "eltwise_param { operation: MAX }", bottoms="data " * 100_000))
    yield bad("bottoms-of-concat", lambda: HEAD + one("Concat", bottoms="data " * 100_000))
    yield bad("bottoms-of-silence", lambda: HEAD + one("ReLU") + one("Silence", bottoms="data " * 100_000, tops=""))
    yield bad(
        "bottoms-of-convolution",
        lambda: (
            HEAD
            + one(
                "Convolution",
                "convolution_param { num_output: 1 kernel_size: 1 }",
                bottoms="data " * 5000,
                tops=" ".join(f"t{i}" for i in range(5000)),
            )
        ),
    )
    yield bad(
        "slice-points",
        lambda: HEAD + one("Slice", "slice_param { " + many(lambda i: f"slice_point: {i} ", 200_000) + "}", tops="a b"),
        "slice_point",
        "refuse",
    )
    yield bad(
        "coefficients",
        lambda: HEAD + one("Eltwise", "eltwise_param { " + "coeff: 1 " * 200_000 + "}", bottoms="data data"),
        "coeff",
        "refuse",
    )
    yield bad(
        "kernel-sizes",
        lambda: HEAD + one("Convolution", "convolution_param { num_output: 1 " + "kernel_size: 3 " * 200_000 + "}"),
        "kernel_size",
        "refuse",
    )
    yield bad(
        "permute-orders",
        lambda: HEAD + one("Permute", "permute_param { " + many(lambda i: f"order: {i} ", 200_000) + "}"),
        "order",
        "refuse",
    )
    yield bad(
        "means",
        lambda: HEAD.replace('type: "Input"', 'type: "MemoryData" transform_param { ' + "mean_value: 1 " * 200_000 + "}") + one("ReLU"),
    )
    yield bad(
        "means-of-an-image",
        lambda: (
            'layer { name: "d" type: "ImageData" top: "data" transform_param { crop_size: 8 '
            + "mean_value: 1 " * 200_000
            + "} }\n"
            + one("ReLU")
        ),
    )
    ssd = HEAD + CONV
    yield bad(
        "prior-sizes",
        lambda: ssd + one("PriorBox", "prior_box_param { " + many(lambda i: f"min_size: {i + 1} ", 300_000) + "}", bottoms="conv data"),
        "min_size",
        "refuse",
    )
    yield bad(
        "prior-ratios",
        lambda: (
            ssd
            + one(
                "PriorBox",
                "prior_box_param { min_size: 9 " + many(lambda i: f"aspect_ratio: {i / 7 + 2} ", 4096) + "}",
                bottoms="conv data",
            )
        ),
    )
    yield bad(
        "prior-sizes-and-ratios",
        lambda: (
            ssd
            + one(
                "PriorBox",
                "prior_box_param { " + many(lambda i: f"min_size: {i + 1} aspect_ratio: {i / 3 + 2} ", 1500) + "}",
                bottoms="conv data",
            )
        ),
    )
    rpn = given("s", 1, 18, 8, 8) + given("d", 1, 36, 8, 8) + given("i", 1, 3)
    yield bad(
        "proposal-ratios",
        lambda: rpn + one("Proposal", "proposal_param { " + "ratio: 1 " * 300_000 + "}", bottoms="s d i"),
        "ratio",
        "refuse",
    )
    yield bad(
        "detections",
        lambda: (
            given("l", 1, 40_000)
            + given("c", 1, 20_000)
            + given("p", 1, 2, 40_000)
            + one("DetectionOutput", "detection_output_param { num_classes: 2 }", bottoms="l c p")
        ),
    )
    yield bad(
        "detection-classes",
        lambda: (
            given("l", 1, 4)
            + given("c", 1, 100_000)
            + given("p", 1, 2, 4)
            + one("DetectionOutput", "detection_output_param { num_classes: 100000 }", bottoms="l c p")
        ),
    )
    yield bad(
        "lstm-steps",
        lambda: given("x", 1_000_000, 1, 4) + given("k", 1_000_000, 1) + one("LSTM", "recurrent_param { num_output: 4 }", bottoms="x k"),
        "steps",
        "refuse",
    )
    yield bad(
        "lstm-steps-allowed",
        lambda: (
            given("x", 512, 1, 4)
            + given("k", 512, 1)
            + many(lambda i: one("LSTM", "recurrent_param { num_output: 4 }", bottoms="x k", tops=f"y{i}", name=f"l{i}"), 40)
        ),
    )
    yield bad("spp-levels-wide", lambda: given("data", 1, 1, 4096, 4096) + one("SPP", "spp_param { pyramid_height: 13 }"))


def bombs() -> Iterator[Row]:
    """Few words, large networks."""
    doubled = many(lambda i: one("Concat", bottoms=f"c{i} c{i}", tops=f"c{i + 1}", name=f"c{i}"), 26)
    yield "bomb-concat-below-the-limit", given("c0", 1, 1) + doubled, "", "either"
    yield (
        "bomb-split-and-concat",
        given("c0", 1, 1)
        + many(
            lambda i: (
                one("Split", bottoms=f"c{i}", tops=f"a{i} b{i}", name=f"s{i}")
                + one("Concat", bottoms=f"a{i} b{i}", tops=f"c{i + 1}", name=f"c{i}")
            ),
            60,
        ),
        "c",
        "refuse",
    )
    yield (
        "bomb-tile-twice",
        given("data", 1, 3)
        + many(
            lambda i: one("Tile", "tile_param { tiles: 30000 }", bottoms="data" if not i else f"t{i - 1}", tops=f"t{i}", name=f"t{i}"), 4
        ),
        "tiles",
        "refuse",
    )
    yield (
        "bomb-eltwise-doubling",
        given("c0", 1, 1) + many(lambda i: one("Eltwise", bottoms=f"c{i} c{i}", tops=f"c{i + 1}", name=f"c{i}"), 60),
        "",
        "either",
    )
    yield (
        "bomb-upsample-chain",
        given("u0", 1, 1, 2, 2) + many(lambda i: one("Upsample", "upsample_param { scale: 2 }", f"u{i}", f"u{i + 1}", f"u{i}"), 40),
        "",
        "refuse",
    )
    yield (
        "bomb-deconvolution-chain",
        given("u0", 1, 1, 2, 2)
        + many(
            lambda i: one("Deconvolution", "convolution_param { num_output: 1 kernel_size: 2 stride: 2 }", f"u{i}", f"u{i + 1}", f"u{i}"),
            40,
        ),
        "",
        "refuse",
    )
    yield "bomb-spp", given("data", 1, 64, 2048, 2048) + one("SPP", "spp_param { pyramid_height: 12 }"), "", "either"
    yield "bomb-input", given("data", 1, 3, 2147483647, 2147483647) + one("ReLU"), "", "either"
    yield (
        "bomb-input-convolved",
        given("data", 1, 3, 100_000, 100_000) + one("Convolution", "convolution_param { num_output: 1 kernel_size: 3 stride: 100 }"),
        "",
        "either",
    )
    yield "bomb-input-8-gb", given("data", 1, 2, 32_768, 32_768) + one("Pooling", "pooling_param { global_pooling: true }"), "", "either"
    yield "bomb-batch", given("data", 2147483647, 3, 2, 2) + one("ReLU"), "", "either"
    yield (
        "bomb-batch-fixed",
        given("data", 2147483647, 3) + one("Reshape", "reshape_param { shape { dim: 3 dim: 2147483647 } }"),
        "",
        "either",
    )
    yield "bomb-matrix-1-gb", given("data", 1, 16_384) + one("InnerProduct", "inner_product_param { num_output: 16384 }"), "", "either"
    yield (
        "bomb-matrices-many",
        given("data", 1, 16_384)
        + many(lambda i: one("InnerProduct", "inner_product_param { num_output: 16384 }", tops="data", name=f"f{i}"), 300),
        "",
        "either",
    )
    yield (
        "bomb-embed",
        given("data", 1, 4) + one("Embed", "embed_param { num_output: 16384 input_dim: 16384 bias_term: false }"),
        "",
        "either",
    )
    yield "bomb-im2col", given("data", 1, 64, 64, 64) + one("Im2col", "convolution_param { kernel_size: 63 }"), "odd", "refuse"
    yield (
        "bomb-priors",
        given("f", 1, 1, 4000, 4000) + given("data", 1, 3, 8, 8) + one("PriorBox", "prior_box_param { min_size: 1 }", "f data"),
        "min_size",
        "refuse",
    )
    yield (
        "bomb-priors-allowed",
        given("f", 1, 1, 700, 700)
        + given("data", 1, 3, 8, 8)
        + many(
            lambda i: one("PriorBox", "prior_box_param { min_size: 1 min_size: 2 min_size: 3 min_size: 4 }", "f data", f"p{i}", f"p{i}"), 60
        ),
        "",
        "either",
    )
    yield (
        "bomb-proposal",
        given("s", 1, 1024, 128, 256)
        + given("d", 1, 2048, 128, 256)
        + given("i", 1, 3)
        + one("Proposal", "proposal_param { " + "ratio: 1 ratio: 2 " * 16 + "scale: 1 scale: 2 " * 8 + "}", "s d i"),
        "",
        "either",
    )
    yield (
        "bomb-lrn-window",
        given("data", 1, 3, 512, 512) + one("LRN", "lrn_param { local_size: 1001 norm_region: WITHIN_CHANNEL }"),
        "",
        "either",
    )
    yield (
        "bomb-roi",
        given("data", 1, 512, 8, 8)
        + given("r", 1000, 5)
        + one("ROIPooling", "roi_pooling_param { pooled_h: 700 pooled_w: 700 }", "data r"),
        "",
        "either",
    )
    yield "bomb-argmax", given("data", 1, 10_000_000) + one("ArgMax", "argmax_param { top_k: 10000000 out_max_val: true }"), "", "either"
    yield (
        "bomb-group",
        given("data", 1, 1_000_000, 1, 1) + one("Convolution", "convolution_param { num_output: 1000000 kernel_size: 1 group: 1000000 }"),
        "",
        "either",
    )
    yield (
        "bomb-dilation",
        given("data", 1, 1, 20_000, 20_000) + one("Convolution", "convolution_param { num_output: 1 kernel_size: 2 dilation: 16000 }"),
        "",
        "either",
    )
    yield (
        "bomb-pool-kernel",
        given("data", 1, 1, 4000, 4000) + one("Pooling", "pooling_param { kernel_size: 4000 stride: 1 pad: 3999 }"),
        "",
        "either",
    )
    yield (
        "bomb-stochastic",
        given("data", 1, 1, 4000, 4000) + one("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2000 }"),
        "",
        "either",
    )
    yield (
        "bomb-pool-mask",
        given("data", 1, 1, 16_000, 16_000) + one("Pooling", "pooling_param { kernel_size: 2 }", tops="a b"),
        "",
        "either",
    )
    yield (
        "bomb-unpool",
        given("data", 1, 1, 2, 2)
        + one("Pooling", "pooling_param { kernel_size: 1 }", tops="a m")
        + one("Upsample", "upsample_param { upsample_h: 16000 upsample_w: 16000 }", "a m", "z", "u"),
        "",
        "either",
    )
    yield "bomb-interp", given("data", 1, 1, 2, 2) + one("Interp", "interp_param { height: 16000 width: 16000 }"), "", "either"


def cases() -> Iterator[BadFile]:
    """Every case of this module."""
    for name, text, says, verdict in bombs():
        yield from_bytes(name, text.encode(), ".prototxt", says, verdict)
    yield from counts()
