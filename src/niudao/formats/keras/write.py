"""Write a model as Keras: `.keras` (Keras 3), `.h5` (Keras 2 and 3), `.json` with `.h5` weights, or readable `.py` with weights.

Keras itself is not needed. What no layer can express is refused by name, everything in one pass, before a file is touched.
"""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import onnx_ir as ir

from niudao.errors import Refusal, Unsupported, UsageError, Where
from niudao.formats import WriteReport, files
from niudao.formats.keras import archive_out
from niudao.formats.keras.emit.network import Network, emit, layouts
from niudao.ir import card


def write(model: ir.Model, path: Path, *, weights: Path | None = None, version: str | int | None = None) -> WriteReport:
    """Write a model as a Keras file.

    Args:
        model: The model; left as it is.
        path: Target; its ending chooses the container.
        weights: Weights file of a `.json` or `.py` target; beside it if left out.
        version: "2" (tf.keras 2.x) or "3". Left out, an HDF5 file is one that both load alike.

    Raises:
        Unsupported: Nodes that Keras cannot express, all of them; nothing was written.
        WriteError: The target cannot be written; what was there is untouched.
    """
    path = Path(path)
    ending = path.suffix.lower()
    generation = str(version).split(".")[0] if version is not None else ""
    if generation not in ("", "2", "3"):
        raise UsageError(f"there is no Keras {version} writer.", expected="version 2 or 3")
    if ending in (".keras", ".py") and generation == "2":
        raise UsageError(f"a {ending} file is written for Keras 3.", where=path, next="write an .h5 file for Keras 2")
    if ending not in (".keras", ".py", ".json", ".h5", ".hdf5"):
        ending = ".keras"
    source = card.get_source(model)
    if ending in (".h5", ".hdf5", ".json") and not generation and source.get("format") == "keras":
        known = str(source.get("version", ""))[:1]  # what came from one generation goes back to it, should it matter
        generation = {"1": "2", "2": "2", "3": "3"}.get(known, "")
    network = _network(model, operations=ending in (".keras", ".py"), generation="3" if ending in (".keras", ".py") else generation)
    if network.refusals:
        what = "Keras" if ending in (".keras", ".py") else "a Keras HDF5 file"
        raise Unsupported(what, network.refusals, where=Where(file=str(path)))
    named = archive_out.KERAS_3 if generation == "3" else archive_out.KERAS_2
    extra = facts(model, generation)
    partner: Path | None = None
    with files.whole(path) as draft:
        if ending == ".keras":
            archive_out.write_archive(network, draft, extra)
        elif ending == ".py":
            from niudao.formats.keras.source import source_of

            partner = weights or path.with_name(f"{path.stem}.weights.h5")
            _beside(path, partner, ".weights.h5")
            archive_out.write_weights(network, draft.with_name(partner.name))
            draft.write_text(source_of(network, partner.name), encoding="utf-8")
        elif ending == ".json":
            partner = weights or path.with_name(f"{path.stem}.h5")
            _beside(path, partner, ".h5")
            document = archive_out.config_2(network) | {"keras_version": named, "backend": "tensorflow", "niudao": json.loads(extra)}
            with h5py.File(draft.with_name(partner.name), "w") as file:
                archive_out.write_h5_weights(network, file, named)
            draft.write_text(json.dumps(document), encoding="utf-8")
        else:
            archive_out.write_h5(network, draft, extra, named)
    written = (str(path),) if partner is None else (str(path), str(partner))
    return WriteReport(files=written, rewrites=network.rewrites)


def _beside(path: Path, partner: Path, ending: str) -> None:
    if partner.parent.resolve() != path.parent.resolve() or partner.name == path.name or not partner.name.endswith(ending):
        raise UsageError("the weights lie beside the model.", where=partner, expected=f"a name ending in {ending} in {path.parent}")


def _network(model: ir.Model, *, operations: bool, generation: str) -> Network:
    slope = {"3": 1 / 6, "2": 0.2}.get(generation, 0.0)
    return emit(model, operations=operations, hard_slope=slope)


def refusals(model: ir.Model) -> list[Refusal]:
    """Every node that no Keras file can hold (a .keras archive, which holds the most)."""
    return list(_network(model, operations=True, generation="3").refusals)


def facts(model: ir.Model, generation: str) -> str:
    """Input card, class names, source, and the generations of Keras to which the file means the same: the text that travels inside it."""
    cards = card.get_json(model.metadata_props, card.CARD) or {}
    generations = [generation] if generation else ["2", "3"]
    known = {
        "card": cards,
        "classes": card.get_classes(model),
        "source": card.get_source(model),
        "generations": generations,
        "layouts": layouts(model),
    }
    return json.dumps(known, ensure_ascii=False)
