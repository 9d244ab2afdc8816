"""The arrays of a Keras weights file under the name by which `inspect` asks for them."""

from __future__ import annotations

from niudao.formats.keras.opening import tensors

__all__ = ["tensors"]
