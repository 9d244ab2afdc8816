"""`.caffemodel.h5`: one dataset `/data/<layer>/<number>` a blob, in the blob's shape."""

from __future__ import annotations

from pathlib import Path

from niudao.errors import ReadError
from niudao.formats.caffe.net import Blob
from niudao.formats.hdf5.survey import Dataset, Region, survey


def blobs(path: Path) -> dict[str, tuple[Blob, ...]]:
    """Layer name -> blobs.

    Raises:
        ReadError: The file is damaged, or holds no blobs of Caffe.
    """
    found: dict[str, list[tuple[int, Dataset]]] = {}
    for name, dataset in survey(Region(path), frozenset()).datasets.items():
        top, _, rest = name.partition("/")
        layer, _, number = rest.rpartition("/")
        if top == "data" and layer and number.isascii() and number.isdigit() and len(number) < 4:
            found.setdefault(layer, []).append((int(number), dataset))
    if not found:
        raise ReadError(f"{path.name} holds no blobs of Caffe.", where=path, expected="arrays called /data/<layer>/<number>")
    result = {}
    for layer, rows in found.items():
        rows.sort(key=lambda row: row[0])
        if [n for n, _ in rows] != list(range(len(rows))):
            raise ReadError(f"a blob of layer {layer!r} is missing.", where=path, got=str([n for n, _ in rows]))
        result[layer] = tuple(_blob(d) for _, d in rows)
    return result


def _blob(dataset: Dataset) -> Blob:
    mapped = dataset.mapped()
    place = (str(Path(mapped.base_dir) / mapped.location), mapped.offset or 0) if mapped is not None else None
    return Blob(dataset.shape, False, lambda: dataset.load().reshape(-1), place)
