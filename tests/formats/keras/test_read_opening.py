"""Containers and configurations: every generation's way of writing, and every way of being wrong."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import niudao
from niudao.errors import LimitError, NiudaoError, ReadError, Unsupported
from niudao.formats.keras.opening import tensors
from niudao.ir import card

Config = dict[str, Any]
KERNEL = (np.arange(12, dtype=np.float32).reshape(3, 4) - 6) / 7
BIAS = np.array([1, 2, 3, 4], np.float32) / 5
X = np.array([[0.5, -1.0, 2.0]], np.float32)


def dense(name: str = "fc", **more: Any) -> Config:
    return {"class_name": "Dense", "config": {"name": name, "units": 4, "activation": "linear", "use_bias": True, **more}}


def sequential(*layers: Config) -> Config:
    first = copy.deepcopy(layers[0])
    first["config"].setdefault("batch_input_shape", [None, 3])
    return {"class_name": "Sequential", "config": {"name": "net", "layers": [first, *layers[1:]]}}


def functional(*inbound: Any, layer: Config | None = None, inputs: Any = None, outputs: Any = None) -> Config:
    entry = (layer or dense()) | {"name": "fc", "inbound_nodes": list(inbound) or [[["x", 0, 0, {}]]]}
    settings = {"name": "x", "batch_input_shape": [None, 3], "dtype": "float32"}
    x = {"class_name": "InputLayer", "name": "x", "config": settings, "inbound_nodes": []}
    config = {"name": "net", "layers": [x, entry], "input_layers": inputs or [["x", 0, 0]], "output_layers": outputs or [["fc", 0, 0]]}
    return {"class_name": "Model", "config": config}


def put_weights(root: h5py.Group, names: dict[str, np.ndarray] | None = None, layer: str = "fc") -> None:
    root.attrs["layer_names"] = np.array([layer.encode()])
    group = root.create_group(layer)
    stored = names if names is not None else {f"{layer}/kernel:0": KERNEL, f"{layer}/bias:0": BIAS}
    group.attrs["weight_names"] = np.array([n.encode() for n in stored])
    for name, array in stored.items():
        group.create_dataset(name, data=array)


def h5(path: Path, config: Any, names: dict[str, np.ndarray] | None = None, version: str = "2.2.4") -> Path:
    with h5py.File(path, "w") as f:
        f.attrs["model_config"] = config if isinstance(config, (str, bytes)) else json.dumps(config)
        f.attrs["keras_version"], f.attrs["backend"] = version, "tensorflow"
        put_weights(f.create_group("model_weights"), names)
    return path


def archive(
    path: Path, config: Config, extra: dict[str, str] | None = None, method: int = zipfile.ZIP_STORED, group: str = "layers/dense/vars"
) -> Path:
    data = io.BytesIO()
    with h5py.File(data, "w") as f:
        f[f"{group}/0"], f[f"{group}/1"] = KERNEL, BIAS
    with zipfile.ZipFile(path, "w", method) as z:
        z.writestr("config.json", json.dumps(config))
        z.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        z.writestr("model.weights.h5", data.getvalue())
        for name, text in (extra or {}).items():
            z.writestr(name, text)
    return path


def output(model: Any) -> np.ndarray:
    return next(iter(niudao.run(model, {model.graph.inputs[0].name: X}).values()))


def test_every_container_gives_the_same(tmp_path: Path) -> None:
    wanted = X @ KERNEL + BIAS
    (tmp_path / "net.json").write_text(json.dumps(sequential(dense()) | {"keras_version": "2.2.4"}))
    with h5py.File(tmp_path / "net.h5", "w") as f:
        put_weights(f)
    paths = [
        h5(tmp_path / "sequential.h5", sequential(dense())),
        h5(tmp_path / "functional.h5", functional()),
        h5(tmp_path / "list.h5", {"class_name": "Sequential", "config": sequential(dense())["config"]["layers"]}),
        archive(tmp_path / "new.keras", sequential(dense())),
        archive(tmp_path / "packed.keras", sequential(dense()), method=zipfile.ZIP_DEFLATED),
        archive(tmp_path / "tf.keras", sequential(dense()), group="_layer_checkpoint_dependencies/dense_2/vars"),
        tmp_path / "net.json",
        tmp_path / "net.h5",
    ]
    for path in paths:
        model = niudao.read(path)
        np.testing.assert_allclose(output(model), wanted, atol=1e-6, err_msg=path.name)
        assert set(model.graph.initializers) == {"fc/kernel", "fc/bias"}
        assert [v.name for v in model.graph.outputs] == ["fc"]
    np.testing.assert_allclose(output(niudao.read(tmp_path / "net.h5", weights=tmp_path / "net.json")), wanted, atol=1e-6)


def test_names_split_over_attributes(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", sequential(dense()))
    with h5py.File(path, "a") as f:
        group = f["model_weights/fc"]
        del group.attrs["weight_names"]
        group.attrs["weight_names0"], group.attrs["weight_names1"] = np.array([b"fc/kernel:0"]), np.array([b"fc/bias:0"])
    np.testing.assert_allclose(output(niudao.read(path)), X @ KERNEL + BIAS, atol=1e-6)


def test_keras_1_names_and_theano_kernels(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((2, 3, 3, 3)).astype(np.float32)  # OIHW, as Theano orders them
    conv = {
        "class_name": "Convolution2D",
        "config": {
            "name": "fc",
            "nb_filter": 2,
            "nb_row": 3,
            "nb_col": 3,
            "border_mode": "valid",
            "subsample": [1, 1],
            "dim_ordering": "th",
            "activation": "linear",
            "bias": True,
            "batch_input_shape": [None, 3, 5, 6],
        },
    }
    bias = np.array([0.5, -0.5], np.float32)
    x = rng.standard_normal((1, 3, 5, 6)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x[0], (3, 3), (1, 2))
    for backend, seen in (("tensorflow", kernel), ("theano", kernel[:, :, ::-1, ::-1])):
        path = h5(tmp_path / f"{backend}.h5", sequential(conv), {"fc_W": kernel, "fc_b": bias}, version="1.2.2")
        with h5py.File(path, "a") as f:
            f.attrs["backend"] = backend
        model = niudao.read(path)
        assert card.get_layout(model.graph.inputs[0]) is None
        got = next(iter(niudao.run(model, {model.graph.inputs[0].name: x}).values()))
        np.testing.assert_allclose(got[0], np.einsum("chwij,ocij->ohw", windows, seen) + bias[:, None, None], atol=1e-5)


def test_repeated_outputs_get_numbers(tmp_path: Path) -> None:
    model = niudao.read(h5(tmp_path / "a.h5", functional(outputs=[["fc", 0, 0], ["fc", 0, 0]])))
    assert [v.name for v in model.graph.outputs] == ["fc", "fc_1"]


def test_what_niudao_wrote_comes_back(tmp_path: Path) -> None:
    written = {"fc_input": {"order": "RGB", "scale": 0.5}}
    extra = json.dumps({"card": written, "classes": ["a", "b", "c", "d"], "source": {"format": "onnx"}})
    path = h5(tmp_path / "a.h5", sequential(dense()))
    with h5py.File(path, "a") as f:
        f.attrs["niudao"] = extra
    for each in (path, archive(tmp_path / "a.keras", sequential(dense()), {"niudao.json": extra})):
        model = niudao.read(each)
        assert card.get_classes(model) == ["a", "b", "c", "d"]
        assert card.get_cards(model)["fc_input"].scale == 0.5


def test_unused_arrays_are_named(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", sequential(dense()))
    with h5py.File(path, "a") as f:
        f["model_weights/gone/kernel:0"] = KERNEL
    notes = json.loads(niudao.read(path).metadata_props["niudao.notes"])
    assert notes == ["stored but not part of the network: gone/kernel:0"]


def test_weights_alone_say_so_and_are_listed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "w.h5", "w") as f:
        put_weights(f)
    with pytest.raises(ReadError, match="weights only") as e:
        niudao.read(tmp_path / "w.h5")
    assert "json" in (e.value.next or "")
    assert tensors(tmp_path / "w.h5") == [("fc/fc/bias:0", (4,), "float32"), ("fc/fc/kernel:0", (3, 4), "float32")]


def test_all_unknown_layers_at_once_and_no_code_is_run(tmp_path: Path) -> None:
    code = {"class_name": "Lambda", "config": {"name": "code", "function": ["4wEAAAA=", None, None], "function_type": "lambda"}}
    inner = {"class_name": "Sequential", "config": {"name": "inner", "layers": [{"class_name": "Odd", "config": {"name": "odd"}}]}}
    wrapped = {"class_name": "TimeDistributed", "config": {"name": "td", "layer": {"class_name": "Strange", "config": {"name": "s"}}}}
    with pytest.raises(Unsupported) as e:
        niudao.read(h5(tmp_path / "a.h5", sequential(dense(), code, inner, wrapped)))
    assert [(r.node, r.op) for r in e.value.refusals] == [("code", "Lambda"), ("odd", "Odd"), ("td/s", "Strange")]
    assert "never executed" in e.value.refusals[0].reason


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "no JSON"), ("[1]", "no JSON object"), ("[" * 100_000, "nested"), ({"class_name": "Sequential"}, "lists no layers"),
        ({"class_name": "Mine", "config": {}}, "Python code"), (sequential(dense(), dense()), "two layers"),
        (functional([["fc", 0, 0, {}]]), "feeds itself"), (functional(outputs=[["fc", 7, 0]]), "call 7"),
        (functional(outputs=[["fc", 0, 3]]), "output 3"), (functional([["fc", 9, 0, {}]]), "call 9"),
        (functional(inputs=[["fc", 0, 0]]), "no input layer"), (functional(outputs=[["nobody", 0, 0]]), "no outputs"),
        (functional(layer=dense(units="many")), "fc"), (functional(layer=dense(units=-4)), "fc"), (sequential(dense(units=5)), "shape"),
        (sequential(dense(batch_input_shape=[None, "a"])), "shape"), (sequential(dense(batch_input_shape=[None, 10**12])), "shape"),
    ],
)  # fmt: skip
def test_broken_configurations(tmp_path: Path, config: Any, message: str) -> None:
    with pytest.raises(ReadError, match=message):
        niudao.read(h5(tmp_path / "a.h5", config))


def test_deep_json_never_exhausts_the_stack(tmp_path: Path) -> None:
    inner: Any = dense()
    for k in range(200):
        inner = {"class_name": "Sequential", "config": {"name": f"n{k}", "layers": [inner]}}
    with pytest.raises(LimitError):
        niudao.read(h5(tmp_path / "a.h5", inner))


def test_a_chain_of_thousands_of_layers_is_read(tmp_path: Path) -> None:
    chain = [{"class_name": "Activation", "config": {"name": f"a{k}", "activation": "relu"}} for k in range(2000)]
    model = niudao.read(h5(tmp_path / "a.h5", sequential(dense(), *chain)))
    assert len(model.graph) == 2001


def _external_link(f: h5py.File, group: h5py.Group) -> None:
    group["kernel:0"] = h5py.ExternalLink("/etc/passwd", "/")


def _soft_loop(f: h5py.File, group: h5py.Group) -> None:
    group["kernel:0"] = h5py.SoftLink(f"{group.name}/kernel:0")


def _hard_loop(f: h5py.File, group: h5py.Group) -> None:
    group["again"] = f["model_weights"]


def _external_storage(f: h5py.File, group: h5py.Group) -> None:
    group.create_dataset("kernel:0", (3, 4), "f4", external=[("/etc/passwd", 0, 48)])


def _virtual(f: h5py.File, group: h5py.Group) -> None:
    layout = h5py.VirtualLayout((3, 4), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (3, 4))
    group.create_virtual_dataset("kernel:0", layout)


def _never_written(f: h5py.File, group: h5py.Group) -> None:
    group.create_dataset("kernel:0", (1 << 20, 1 << 20), "f4")


def _bomb(f: h5py.File, group: h5py.Group) -> None:
    group.create_dataset("kernel:0", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024), compression="gzip")


@pytest.mark.parametrize("harm", [_external_link, _soft_loop, _hard_loop, _external_storage, _virtual, _never_written, _bomb])
def test_hostile_hdf5(tmp_path: Path, harm: Any) -> None:
    path = h5(tmp_path / "a.h5", sequential(dense()))
    with h5py.File(path, "a") as f:
        group = f["model_weights/fc/fc"]
        del group["kernel:0"]
        harm(f, group)
    with pytest.raises(ReadError, match=r"link|loop|another file|declares"):
        niudao.read(path)


def test_a_compressed_kernel_is_read(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", sequential(dense()))
    with h5py.File(path, "a") as f:
        group = f["model_weights/fc/fc"]
        del group["kernel:0"]
        group.create_dataset("kernel:0", data=KERNEL, compression="gzip")
    np.testing.assert_allclose(output(niudao.read(path)), X @ KERNEL + BIAS, atol=1e-6)


def test_attributes_that_are_no_text(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", sequential(dense()))
    with h5py.File(path, "a") as f:
        del f["model_weights"].attrs["layer_names"]
        f["model_weights"].attrs.create("layer_names", [1, 2])
    with pytest.raises(ReadError, match="is no text"):
        niudao.read(path)


def test_a_damaged_string_heap_does_not_hang(tmp_path: Path) -> None:
    path = h5(tmp_path / "a.h5", sequential(dense()))
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL")
    first = 16 + (int.from_bytes(data[at + 24 : at + 32], "little") + 7) // 8 * 8
    for length in (0, 1 << 62):
        data[at + 16 + first + 8 : at + 16 + first + 16] = length.to_bytes(8, "little")
        data[at + 16 + first : at + 16 + first + 2] = b"\0\0"
        path.write_bytes(data)
        with pytest.raises(ReadError, match="heap"):
            niudao.read(path)


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"'fc'.*no stored bias"):
        niudao.read(h5(tmp_path / "a.h5", sequential(dense()), {"fc/kernel:0": KERNEL}))
    path = h5(tmp_path / "b.h5", sequential(dense()))
    with h5py.File(path, "a") as f:
        del f["model_weights/fc/fc/kernel:0"]
    with pytest.raises(ReadError, match="does not hold it"):
        niudao.read(path)


def test_hostile_archives(tmp_path: Path) -> None:
    for name in ("../evil", "/evil"):
        with pytest.raises(ReadError, match="outside itself"):
            niudao.read(archive(tmp_path / "a.keras", sequential(dense()), {name: ""}))
    with pytest.warns(UserWarning), zipfile.ZipFile(archive(tmp_path / "b.keras", sequential(dense())), "a") as z:
        z.writestr("config.json", "{}")
    with pytest.raises(ReadError, match="twice"):
        niudao.read(tmp_path / "b.keras")


@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_damaged_bytes_give_one_error(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    if kind == "h5":
        h5(path, sequential(dense()))
    else:
        archive(path, sequential(dense()))
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    hurt = [whole[:n] for n in range(16, len(whole), max(1, len(whole) // 40))]
    for _ in range(150):
        data = bytearray(whole)
        for at in rng.integers(0, len(whole), 4):
            data[at] = rng.integers(0, 256)
        hurt.append(bytes(data))
    for data in hurt:
        path.write_bytes(data)
        with contextlib.suppress(NiudaoError):
            niudao.read(path, format="keras")
