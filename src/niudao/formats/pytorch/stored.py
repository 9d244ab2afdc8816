"""Weights as a .safetensors file: a header of JSON, then the bytes of every tensor, little endian."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from niudao.errors import WriteError

_NAMES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}


def write_safetensors(path: Path, tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write torch tensors in the order given, copying one at a time.

    Args:
        path: The file.
        tensors: Name -> `torch.Tensor`.
        metadata: Texts beside them.

    Raises:
        WriteError: A tensor is of a type that the format has no name for.

    Reference: github.com/huggingface/safetensors, "Format".
    """
    import torch

    if sys.byteorder != "little":
        raise WriteError(".safetensors files are written on little-endian machines only.", where=path)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    at = 0
    for name, tensor in tensors.items():
        kind = _NAMES.get(str(tensor.dtype).removeprefix("torch."))
        if kind is None:
            raise WriteError(f"the weight {name!r} is of {tensor.dtype}, which .safetensors cannot hold.", where=path)
        size = tensor.numel() * tensor.element_size()
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy() if flat.numel() else b"")
