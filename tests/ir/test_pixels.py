"""Pictures become inputs exactly as the card says, whatever their mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image

from niudao.errors import ReadError, RunError
from niudao.ir import pixels
from niudao.ir.card import InputCard


def _input(channels: int, height: int, width: int) -> ir.Value:
    return ir.Value(name="x", shape=ir.Shape(["batch", channels, height, width]), type=ir.TensorType(ir.DataType.FLOAT))


def test_scale_mean_std_and_order_by_hand(tmp_path: Path) -> None:
    array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    Image.fromarray(array).save(tmp_path / "a.png")
    card = InputCard(order="BGR", scale=0.5, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    got = pixels.to_input(tmp_path / "a.png", _input(3, 2, 3), card)
    want = ((array[:, :, ::-1] * 0.5 - [1, 2, 3]) / [2, 4, 8]).transpose(2, 0, 1)[None]
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "LA", "I;16"])
def test_every_mode_reads_as_the_same_grey(tmp_path: Path, mode: str) -> None:
    grey = Image.new("L", (6, 4), 255)
    if mode == "I;16":
        Image.fromarray(np.full((4, 6), 65535, np.uint16)).save(tmp_path / "a.png")
    else:
        grey.convert("RGB").convert(mode).save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    path = next(tmp_path.iterdir())
    assert pixels.load(path, grey=True).min() == 255
    assert pixels.load(path).shape == (4, 6, 3)


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert pixels.load(tmp_path / "a.jpg").shape == (8, 4, 3)


@pytest.mark.parametrize("rule", ["stretch", "crop", "pad"])
def test_every_rule_gives_the_wanted_size(rule: str) -> None:
    rng = np.random.default_rng(0)
    for shape in [(10, 20, 3), (20, 10, 1), (3, 50, 3)]:
        assert pixels.fit(rng.integers(0, 255, shape).astype(np.uint8), 7, 9, rule).shape == (7, 9, shape[2])


def test_damaged_and_foreign_files_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(tmp_path / "whole.jpg")
    data = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "page.svg").write_text("<svg/>")
    for name in ("cut.jpg", "text.jpg", "page.svg", "none.png"):
        with pytest.raises(ReadError) as caught:
            pixels.load(tmp_path / name)
        assert name in str(caught.value)


def test_huge_pictures_are_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (400, 400)).save(tmp_path / "a.png")
    monkeypatch.setattr(pixels, "MAX_PIXELS", 1000)
    with pytest.raises(ReadError, match="too large"):
        pixels.load(tmp_path / "a.png")


def test_an_input_that_is_no_image_says_so() -> None:
    with pytest.raises(RunError, match="no picture"):
        pixels.image_shape(_input(5, 2, 2))
