"""The weights file of "Deep Compression" (Han, Mao, Dally, ICLR 2016) as its authors published SqueezeNet in it.

Little-endian, layer after layer as they stand in the prototxt:

    uint32 x layers        how many weights of the layer are stored
    then for each layer    float32 x 256 codebook; float32 x outputs bias; uint8 x stored codes; 4 bits x stored gaps

Two gaps share a byte, the lower one first; the position of a weight is the sum of (gap + 1) so far, minus 1. Code 0 fills
gaps longer than 16 and stands for a weight of zero.
"""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np

from niudao.errors import ReadError
from niudao.formats import files
from niudao.formats.caffe.net import Array, Blob, Layer, Net

CODES = 256


def blobs(path: Path, net: Net) -> dict[str, tuple[Blob, ...]]:
    """Layer name -> (weight, bias) of every convolution and inner product.

    Raises:
        ReadError: The file does not fit the network.
    """
    layers = [x for x in net.layers if x.type in ("Convolution", "InnerProduct")]
    with files.open_model(path) as f:
        data = f.read((256 << 20) + 1)
    if len(data) > 256 << 20 or len(data) < 4 * len(layers):
        raise ReadError(f"{path.name} is no compressed weights file of this network.", where=path, got=f"{len(data)} bytes")
    stored = np.frombuffer(data, "<u4", len(layers)).astype(int)
    need = 4 * len(layers) + sum(4 * (CODES + _outputs(x)) + n + (n + 1) // 2 for x, n in zip(layers, stored, strict=True))
    if need != len(data):
        raise ReadError(
            f"{path.name} does not fit the network.",
            where=path,
            expected=f"{need} bytes for the {len(layers)} layers of the prototxt",
            got=f"{len(data)} bytes",
        )
    found: dict[str, tuple[Blob, ...]] = {}
    at = 4 * len(layers)
    channels = _channels(net)
    for layer, n in zip(layers, stored, strict=True):
        outputs = _outputs(layer)
        codebook = np.frombuffer(data, "<f4", CODES, at)
        bias = np.frombuffer(data, "<f4", outputs, at + 4 * CODES)
        at += 4 * (CODES + outputs)
        codes, packed = np.frombuffer(data, "u1", n, at), np.frombuffer(data, "u1", (n + 1) // 2, at + n)
        at += n + (n + 1) // 2
        shape = _shape(layer, channels)
        gaps = np.stack([packed & 15, packed >> 4], 1).reshape(-1)[:n].astype(np.int64)
        places = np.cumsum(gaps + 1) - 1
        if n and places[-1] >= prod(shape):
            raise ReadError(
                f"the weights of layer {layer.name!r} lie outside it.",
                where=path,
                expected=f"below {prod(shape)}",
                got=str(int(places[-1])),
            )
        found[layer.name] = _weight(shape, places, codebook[codes]), _bias(bias)
    return found


def _weight(shape: tuple[int, ...], places: Array, values: Array) -> Blob:
    def load() -> Array:
        dense = np.zeros(prod(shape), np.float32)
        dense[places] = values
        return dense

    return Blob(shape, False, load)


def _bias(values: Array) -> Blob:
    return Blob(values.shape, False, lambda: values.astype(np.float32))


def _outputs(layer: Layer) -> int:
    part = layer.message.sub("convolution_param" if layer.type == "Convolution" else "inner_product_param")
    return int(part.get("num_output"))


def _shape(layer: Layer, channels: dict[str, int]) -> tuple[int, ...]:
    part = layer.message.sub("convolution_param")
    size = [int(k) for k in part.all("kernel_size")] or [int(part.get("kernel_h") or 1), int(part.get("kernel_w") or 1)]
    inputs = channels.get(layer.bottoms[0] if layer.bottoms else "", 0) // max(int(part.get("group")), 1)
    if layer.type != "Convolution" or not inputs or not all(size) or len(size) > 2:
        raise ReadError(f"the input channels of layer {layer.name!r} are not known before its weights are.", got=layer.type)
    return _outputs(layer), inputs, size[0], size[-1]


def _channels(net: Net) -> dict[str, int]:
    """Blob -> channels, for networks made of convolutions, poolings, concatenations and element-wise layers, as these files are."""
    known: dict[str, int] = {x.name: int(x.shape[1]) for x in net.inputs if x.shape is not None and len(x.shape) > 1 and x.shape[1]}
    for layer in net.layers:
        if layer.type in ("Convolution", "InnerProduct"):
            made = _outputs(layer)
        elif layer.type == "Concat":
            made = sum(known.get(b, 0) for b in layer.bottoms)
        else:
            made = known.get(layer.bottoms[0], 0) if layer.bottoms else 0
        known.update(dict.fromkeys(layer.tops, made))
    return known
