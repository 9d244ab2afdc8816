"""From a picture to the array that a network was trained on, by its input card."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from niudao.errors import ReadError, RunError
from niudao.ir.card import InputCard

FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")
MAX_PIXELS = 89_478_485
"""Pillow's own warning limit, here an error."""


def load(path: str | os.PathLike[str], *, grey: bool = False) -> np.ndarray[Any, Any]:
    """A picture as an array.

    Args:
        path: A file of one of `FORMATS`, known by content.
        grey: One channel instead of three.

    Returns:
        HWC uint8, [0, 255], RGB or grey; EXIF rotation applied, transparency on white, 16-bit scaled to 8.

    Raises:
        ReadError: Missing, cut off, of another format, or of more than `MAX_PIXELS` pixels.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    path = Path(path)
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ReadError(
                    f"{path.name} is too large.",
                    where=path,
                    expected=f"at most {MAX_PIXELS // 10**6} megapixels",
                    got=f"{image.width} x {image.height}",
                )
            image.load()
            picture = ImageOps.exif_transpose(image) or image
            if picture.mode.startswith("I"):  # 16-bit: Pillow would clip instead of scaling
                wide = np.asarray(picture).astype(np.float64)
                picture = Image.fromarray(np.clip(wide / 257.0, 0, 255).round().astype(np.uint8))
            if "A" in picture.getbands() or "transparency" in picture.info:
                layer = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            array = np.asarray(picture.convert("L" if grey else "RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError) as e:
        raise ReadError(f"{path.name} is no picture that niudao reads.", where=path, expected=", ".join(FORMATS)) from e
    except FileNotFoundError as e:
        raise ReadError(f"{path.name} does not exist.", where=path) from e
    except (OSError, ValueError, SyntaxError, EOFError) as e:
        raise ReadError(f"{path.name} is damaged: {e}.", where=path) from e
    return array[:, :, None] if array.ndim == 2 else array


def fit(array: np.ndarray[Any, Any], height: int, width: int, rule: str) -> np.ndarray[Any, Any]:
    """Resize an HWC uint8 picture: "stretch", "crop" (shorter side, then the centre) or "pad" (longer side, grey bars)."""
    from PIL import Image

    if array.shape[:2] == (height, width):
        return array
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    if rule == "stretch":
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    else:
        pick = max if rule == "crop" else min
        factor = pick(width / image.width, height / image.height)
        size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        if rule == "crop":
            image = image.crop((left, top, left + width, top + height))
        else:
            canvas = Image.new(image.mode, (width, height), 128 if image.mode == "L" else (128, 128, 128))
            canvas.paste(image, (-left, -top))
            image = canvas
    result = np.asarray(image)
    return result[:, :, None] if result.ndim == 2 else result


def image_shape(value: ir.Value) -> tuple[int, int, int]:
    """Channels, height and width of an image input.

    Raises:
        RunError: The input is no image, or leaves its size open.
    """
    dims = list(value.shape) if value.shape is not None else []
    if len(dims) != 4 or not all(isinstance(d, int) for d in dims[1:]) or dims[1] not in (1, 3):
        raise RunError(
            f"input {value.name!r} takes no picture of a known size.",
            expected="batch x (1 or 3) x height x width",
            got=str(value.shape),
            next="give an .npy array instead, or fix the size with --shape",
        )
    return int(dims[1]), int(dims[2]), int(dims[3])  # type: ignore[arg-type]


def to_input(path: str | os.PathLike[str], value: ir.Value, card: InputCard) -> np.ndarray[Any, Any]:
    """A picture as one sample of an image input.

    Args:
        path: The picture.
        value: The graph input, batch x C x H x W.
        card: How pixels become values; what it leaves open is RGB (or grey), scale 1, mean 0, std 1, stretched.

    Returns:
        float32 of shape (1, C, H, W).
    """
    channels, height, width = image_shape(value)
    array: np.ndarray[Any, Any] = fit(load(path, grey=channels == 1), height, width, card.resize or "stretch").astype(np.float32)
    if card.order == "BGR":
        array = array[:, :, ::-1]
    array = array * np.float32(card.scale if card.scale is not None else 1.0)
    if card.mean is not None:
        array = array - np.asarray(card.mean, np.float32)
    if card.std is not None:
        array = array / np.asarray(card.std, np.float32)
    return np.ascontiguousarray(array.transpose(2, 0, 1)[None])
