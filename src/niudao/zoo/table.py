"""What is known of every architecture without building it: papers, counts, names, traps. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from niudao.registry import Registry


@dataclass(frozen=True)
class Architecture:
    """One named variant.

    Attributes:
        name: The word users type.
        title: What people call it.
        family: Module of this package that builds it; any word for a plug-in's own.
        parameters: Trainable numbers.
        macs: Multiply-adds of its convolutions and fully connected layers for one picture, without biases.
        paper: `Authors, title, where, arXiv number`.
        year: Of the paper or of the variant.
        build: `build(classes=...)` gives the `nn.Module`, freshly initialised by torch; imports torch.
        input: (channels, height, width) of one picture.
        classes: Classes of the published network.
        head: Path of the layer whose first dimension is the number of classes.
        ignored: Beginnings of parameter names that published checkpoints hold besides, for training only.
        accuracy: Published top-1 and top-5 accuracy, or the error of the paper, with its origin.
        note: What tells it from its neighbours, and what goes wrong.
    """

    name: str
    title: str
    family: str
    parameters: int
    macs: int
    paper: str
    year: int
    build: Callable[..., Any] = field(repr=False, compare=False)
    input: tuple[int, int, int] = (3, 224, 224)
    classes: int = 1000
    head: str = "fc"
    ignored: tuple[str, ...] = ()
    accuracy: str = ""
    note: str = ""


ARCHITECTURES: Registry[Architecture] = Registry("architecture", entry_points="niudao.architectures")


def _factory(family: str, name: str) -> Callable[..., Any]:
    """The function of a family's module that builds this variant, imported when it is called."""

    def build(**options: Any) -> Any:
        return getattr(import_module(f"niudao.zoo.{family}"), name.replace(".", "_"))(**options)

    return build


def _family(common: Architecture, *variants: tuple[str, str, int, int, dict[str, Any]]) -> None:
    """Register variants: name, title, parameters, MACs, and what differs from `common`."""
    for name, title, parameters, macs, other in variants:
        facts: dict[str, Any] = {
            "name": name,
            "title": title,
            "parameters": parameters,
            "macs": macs,
            "build": _factory(common.family, name),
        }
        ARCHITECTURES.register(name)(replace(common, **(facts | other)))


def _common(family: str, paper: str, year: int, **other: Any) -> Architecture:
    return Architecture(name="", title="", family=family, parameters=0, macs=0, paper=paper, year=year, build=_factory(family, ""), **other)


def _tv(top1: float, top5: float) -> dict[str, Any]:
    return {"accuracy": f"top-1 {top1:.2f} %, top-5 {top5:.2f} % (torchvision, IMAGENET1K_V1)"}


_RECENTRED = (
    "torchvision's weights were trained on pixels scaled to -1..1: it turns pictures normalised its usual way into these first "
    "(transform_input), which is no part of the network. Set the input card to mean 0.5 and standard deviation 0.5 for them."
)

_family(
    _common(
        "inception_v1",
        "Szegedy et al., Going Deeper with Convolutions, CVPR 2015, arXiv 1409.4842",
        2014,
        ignored=("aux1.", "aux2."),
    ),
    (
        "googlenet_v1_lrn",
        "GoogLeNet",
        6_998_552,
        1_582_671_872,
        {
            "accuracy": "top-1 68.7 %, top-5 88.9 % (BVLC's Caffe model)",
            "note": "With local response normalisation and 5x5 convolutions, as BVLC's Caffe model; 13,378,280 parameters with both "
            "auxiliary heads. No PyTorch weights of this form circulate.",
        },
    ),
    (
        "googlenet_bn",
        "GoogLeNet with batch normalisation",
        6_624_904,
        1_498_376_192,
        _tv(69.778, 89.530)
        | {
            "year": 2015,
            "note": "A 3x3 convolution stands where the paper has 5x5. 13,004,888 parameters with both auxiliary heads. " + _RECENTRED,
        },
    ),
)

_family(
    _common("inception_v3", "Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, arXiv 1512.00567", 2015),
    (
        "inception_v3",
        "Inception v3",
        23_834_568,
        5_713_216_096,
        _tv(77.294, 93.450)
        | {
            "input": (3, 299, 299),
            "ignored": ("AuxLogits.",),
            "note": "27,161,264 parameters with the auxiliary head; Keras has 23,817,352, because its batch normalisation has no scale. "
            + _RECENTRED,
        },
    ),
)

_family(
    _common(
        "inception_v4",
        "Szegedy et al., Inception-v4, Inception-ResNet and the Impact of Residual Connections on Learning, AAAI 2017, arXiv 1602.07261",
        2016,
        input=(3, 299, 299),
        head="last_linear",
    ),
    ("inception_v4", "Inception v4", 42_679_816, 12_253_974_624, {"accuracy": "top-1 80.14 %, top-5 94.98 % (timm, tf_in1k)"}),
)

_STRIDE = "v1 and v1.5 have equal parameters under equal names and differ by {0} MACs: {1} Check both where it is not known which it is."
_EARLY = "v1 has stride 2 on the first 1x1 convolution of a stage (the paper, Caffe)."
_LATE = "v1.5 has stride 2 on the 3x3 convolution (fb.resnet.torch, torchvision)."
_DEEP = "231,211,008"
_KAIMING = "top-1 {} %, top-5 {} % (the authors' Caffe model, one crop)"

_family(
    _common("resnet", "He et al., Deep Residual Learning for Image Recognition, CVPR 2016, arXiv 1512.03385", 2015),
    ("resnet18", "ResNet-18", 11_689_512, 1_814_073_344, _tv(69.758, 89.078)),
    ("resnet34", "ResNet-34", 21_797_672, 3_663_761_408, _tv(73.314, 91.420)),
    (
        "resnet50_v1",
        "ResNet-50 v1",
        25_557_032,
        3_857_973_248,
        {"accuracy": _KAIMING.format(75.3, 92.2), "note": _STRIDE.format(_DEEP, _EARLY)},
    ),
    (
        "resnet50_v1.5",
        "ResNet-50 v1.5",
        25_557_032,
        4_089_184_256,
        _tv(76.130, 92.862) | {"year": 2016, "note": _STRIDE.format(_DEEP, _LATE)},
    ),
    (
        "resnet101_v1",
        "ResNet-101 v1",
        44_549_160,
        7_570_194_432,
        {"accuracy": _KAIMING.format(76.4, 92.9), "note": _STRIDE.format(_DEEP, _EARLY)},
    ),
    (
        "resnet101_v1.5",
        "ResNet-101 v1.5",
        44_549_160,
        7_801_405_440,
        _tv(77.374, 93.546) | {"year": 2016, "note": _STRIDE.format(_DEEP, _LATE)},
    ),
    (
        "resnet152_v1",
        "ResNet-152 v1",
        60_192_808,
        11_282_415_616,
        {"accuracy": _KAIMING.format(77.0, 93.3), "note": _STRIDE.format(_DEEP, _EARLY)},
    ),
    (
        "resnet152_v1.5",
        "ResNet-152 v1.5",
        60_192_808,
        11_513_626_624,
        _tv(78.312, 94.046) | {"year": 2016, "note": _STRIDE.format(_DEEP, _LATE)},
    ),
)

_V2 = (
    "Batch normalisation and ReLU behind the first convolution are kept, as in MXNet and pytorchcv. timm and Caffe's form without them "
    "has 128 parameters fewer; Keras has another with convolution biases, stride in the last block of a stage and fewer MACs."
)

_family(
    _common(
        "resnet_v2", "He et al., Identity Mappings in Deep Residual Networks, ECCV 2016, arXiv 1603.05027", 2016, head="output", note=_V2
    ),
    ("resnet50_v2", "ResNet-50 v2", 25_549_480, 4_089_184_256, {}),
    ("resnet101_v2", "ResNet-101 v2", 44_541_608, 7_801_405_440, {}),
    ("resnet152_v2", "ResNet-152 v2", 60_185_256, 11_513_626_624, {}),
)

_BIASED = "The convolutions keep their biases; a form without them exists (138,361,768 parameters for VGG-16)."

_family(
    _common(
        "vgg",
        "Simonyan & Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, arXiv 1409.1556",
        2014,
        head="classifier.6",
    ),
    ("vgg11", "VGG-11", 132_863_336, 7_609_090_048, _tv(69.020, 88.628)),
    ("vgg13", "VGG-13", 133_047_848, 11_308_466_176, _tv(69.928, 89.246)),
    (
        "vgg16",
        "VGG-16",
        138_357_544,
        15_470_264_320,
        _tv(71.592, 90.382) | {"note": "The 15.3 billion MACs that circulate count convolutions only: 15,346,630,656."},
    ),
    ("vgg19", "VGG-19", 143_667_240, 19_632_062_464, _tv(72.376, 90.876) | {"note": "19,508,428,800 MACs in convolutions only."}),
    ("vgg11_bn", "VGG-11 with batch normalisation", 132_868_840, 7_609_090_048, _tv(70.370, 89.810) | {"year": 2015, "note": _BIASED}),
    ("vgg13_bn", "VGG-13 with batch normalisation", 133_053_736, 11_308_466_176, _tv(71.586, 90.374) | {"year": 2015, "note": _BIASED}),
    ("vgg16_bn", "VGG-16 with batch normalisation", 138_365_992, 15_470_264_320, _tv(73.360, 91.516) | {"year": 2015, "note": _BIASED}),
    ("vgg19_bn", "VGG-19 with batch normalisation", 143_678_248, 19_632_062_464, _tv(74.218, 91.842) | {"year": 2015, "note": _BIASED}),
)

_RELU6 = "Activations are ReLU6. Networks of Keras and TensorFlow pad at the bottom and right only, this one on all sides."
_SIZE = "The parameters do not tell the size of pictures: 224, 192, 160 and 128 have the same. " + _RELU6

_family(
    _common(
        "mobilenet_v1",
        "Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, 2017, arXiv 1704.04861",
        2017,
        head="classifier",
        note=_RELU6,
    ),
    (
        "mobilenet_v1_1.0_224",
        "MobileNet v1 1.0, 224",
        4_231_976,
        568_740_352,
        {"note": _SIZE, "accuracy": "top-1 70.6 % (the paper); top-1 70.81 %, top-5 89.85 % (shicai's Caffe model)"},
    ),
    ("mobilenet_v1_0.75_224", "MobileNet v1 0.75, 224", 2_585_560, 325_400_448, {}),
    ("mobilenet_v1_0.5_224", "MobileNet v1 0.5, 224", 1_331_592, 149_497_088, {}),
    ("mobilenet_v1_0.25_224", "MobileNet v1 0.25, 224", 470_072, 41_030_272, {}),
    ("mobilenet_v1_1.0_192", "MobileNet v1 1.0, 192", 4_231_976, 418_121_728, {"input": (3, 192, 192), "note": _SIZE}),
    ("mobilenet_v1_1.0_160", "MobileNet v1 1.0, 160", 4_231_976, 290_675_200, {"input": (3, 160, 160), "note": _SIZE}),
    ("mobilenet_v1_1.0_128", "MobileNet v1 1.0, 128", 4_231_976, 186_400_768, {"input": (3, 128, 128), "note": _SIZE}),
)

_family(
    _common("xception", "Chollet, Xception: Deep Learning with Depthwise Separable Convolutions, CVPR 2017, arXiv 1610.02357", 2016),
    (
        "xception",
        "Xception",
        22_855_952,
        8_357_403_496,
        {
            "input": (3, 299, 299),
            "accuracy": "top-1 79.06 %, top-5 94.40 % (timm, legacy_xception.tf_in1k)",
            "note": "gluoncv's `xception` is another network, of 39,916,312 parameters, made for segmentation.",
        },
    ),
)

_UNPADDED = "The last convolution has no padding; the authors' Caffe model pads it by 1 and takes 227 x 227: {} MACs."

_family(
    _common(
        "squeezenet",
        "Iandola et al., SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size, 2016, arXiv 1602.07360",
        2016,
        head="classifier.1",
    ),
    ("squeezenet1_0", "SqueezeNet 1.0", 1_248_424, 818_924_576, _tv(58.092, 80.420) | {"note": _UNPADDED.format("861,339,936")}),
    ("squeezenet1_1", "SqueezeNet 1.1", 1_235_496, 349_151_936, _tv(58.178, 80.624) | {"note": _UNPADDED.format("387,747,520")}),
)

_A = "Option A: shortcuts without parameters. The same network with projections (option B) is {}_b, with {} parameters."
_B = "Option B: shortcuts that change shape are projections. The paper's networks have option A: {}."
_CIFAR = (
    # depth, parameters and MACs of option A, parameters of option B, error of the paper
    (20, 269_722, 40_551_040, 272_474, "8.75"),
    (32, 464_154, 68_862_592, 466_906, "7.51"),
    (44, 658_586, 97_174_144, 661_338, "7.17"),
    (56, 853_018, 125_485_696, 855_770, "6.97"),
    (110, 1_727_962, 252_887_680, 1_730_714, "6.43"),
)

_PROJECTIONS = 262_144
"""MACs that the two projections of option B add."""

_NETWORK = "91.73 % on CIFAR-10 (akamaster's weights, measured); error of the paper 8.75 %"

_family(
    _common(
        "resnet_cifar",
        "He et al., Deep Residual Learning for Image Recognition, CVPR 2016, section 4.2, arXiv 1512.03385",
        2015,
        input=(3, 32, 32),
        classes=10,
        head="linear",
    ),
    *(
        (
            f"resnet{depth}_cifar",
            f"ResNet-{depth} for CIFAR",
            parameters,
            macs,
            {
                "note": _A.format(f"resnet{depth}_cifar", f"{projected:,}"),
                "accuracy": _NETWORK if depth == 20 else f"error {error} % on CIFAR-10 (the paper)",
            },
        )
        for depth, parameters, macs, projected, error in _CIFAR
    ),
    *(
        (
            f"resnet{depth}_cifar_b",
            f"ResNet-{depth} for CIFAR, option B",
            projected,
            macs + _PROJECTIONS,
            {"note": _B.format(f"resnet{depth}_cifar")},
        )
        for depth, _, macs, projected, _ in _CIFAR
    ),
)
