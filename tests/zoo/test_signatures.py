"""Whose a state dict is: every architecture knows its own, other numbers of classes, other names; and says what differs."""

from __future__ import annotations

import pytest

from niudao import zoo
from niudao.zoo import signatures
from niudao.zoo.signatures import state_shapes

SAMPLES = (
    "googlenet_bn",
    "inception_v3",
    "resnet50_v1",
    "resnet18",
    "vgg16",
    "vgg16_bn",
    "squeezenet1_1",
    "mobilenet_v1_1.0_160",
    "xception",
)


def test_the_file_is_current() -> None:
    assert signatures.FILE.read_text("utf-8") == signatures.text(), "python -m niudao.zoo.signatures"


@pytest.mark.parametrize("name", SAMPLES)
def test_every_architecture_knows_its_own(name: str) -> None:
    entry = zoo.architecture(name)
    own = state_shapes(entry)
    found = zoo.fitting(own)
    assert {f.name for f in found} == {name, *signatures.equal(name)} and {(f.how, f.classes) for f in found} == {("exact", 1000)}

    counters = {f"{k.rpartition('.')[0]}.num_batches_tracked": () for k in own if k.endswith("running_var")}
    backwards = dict(reversed((own | counters | {f"{p}fc.weight": (1000, 5) for p in entry.ignored}).items()))
    assert zoo.fitting(backwards) == found, "order, counters and auxiliary heads do not matter"

    head = f"{entry.head}.weight"
    seven = own | {head: (7, *own[head][1:]), f"{entry.head}.bias": (7,)}
    found = zoo.fitting(seven)
    assert name in {f.name for f in found} and {(f.how, f.classes) for f in found} == {("classes", 7)}
    assert zoo.classes_in(name, seven) == 7 and zoo.classes_in(name, {}) == 1000

    renamed = {f"backbone_{i}": shape for i, shape in enumerate(own.values())}
    found = zoo.fitting(renamed)
    assert name in {f.name for f in found} and {f.how for f in found} == {"shapes"}

    broken = own | {head: (1000, 3, 3, 3)}
    assert zoo.fitting(broken) == [] and zoo.fitting({k: v for k, v in own.items() if k != head}) == []


def test_equal_parameters() -> None:
    assert signatures.equal("resnet101_v1") == ("resnet101_v1.5",)
    assert len(signatures.equal("mobilenet_v1_1.0_224")) == 3 and signatures.equal("vgg16") == ()


def test_what_differs_is_said() -> None:
    own = state_shapes(zoo.architecture("resnet20_cifar"))
    found = zoo.mismatch("resnet20_cifar_b", own)
    assert len(found.missing) == 10 and found.extra == () and found.other == {}
    assert found.nearest[0] == ("resnet20_cifar", 1.0) and found.nearest[1][0] == "resnet20_cifar_b"
    assert str(found).startswith("lacks layer2.0.shortcut.0.weight, ")

    changed = {k: v for k, v in own.items() if k != "bn1.bias"} | {"conv1.weight": (16, 1, 3, 3), "extra.weight": (2,)}
    found = zoo.mismatch("resnet20_cifar", changed)
    assert str(found) == "lacks bn1.bias; has besides extra.weight; has conv1.weight 16x1x3x3 instead of 16x3x3x3"
    assert found.nearest[0][0] == "resnet20_cifar"
    assert str(zoo.mismatch("resnet20_cifar", own)) == "nothing differs"
    assert zoo.mismatch("resnet20_cifar", {"w": (1,)}).nearest == ()
