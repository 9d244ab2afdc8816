"""CPU seconds and peak memory of MMdnn and of niudao on the same Keras and Caffe files, to ONNX.

    python benchmarks/mmdnn.py --mmdnn PYTHON --keras2 PYTHON [--runs 3] [--nets resnet50 vgg19 caffe-squeezenet caffe-vgg19]

The Keras networks are built by keras.applications in Keras 2.2.4 (random weights, BatchNormalization statistics
randomised, since those of a new network hide mistakes), the Caffe networks by real Caffe (`niudao oracle setup caffe`).
The three programs run in turn, so that a slow moment of the machine meets all; a ratio is the median of the ratios of
each turn. The ONNX files are then run on an input that Keras or Caffe itself answered: a fast wrong file is no result.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import caffe_nets
import numpy as np
from judged import relative
from measure import Usage, measure, table, write_csv

import niudao as nd
from niudao.formats import oracles

BUILD = """
import sys
import numpy as np
import keras
from keras import applications
name, path = sys.argv[1:3]
make = {"resnet50": applications.resnet50.ResNet50, "vgg19": applications.vgg19.VGG19, "mobilenet": applications.mobilenet.MobileNet}[name]
np.random.seed(1)
model = make(weights=None)
for layer in model.layers:
    if isinstance(layer, keras.layers.BatchNormalization):
        n = layer.get_weights()[0].shape[0]
        u = np.random.uniform
        layer.set_weights([u(.8, 1.2, n), u(-.2, .2, n), u(-.2, .2, n), u(.6, 1.6, n)])
x = np.random.RandomState(0).uniform(-1, 1, (1,) + model.input_shape[1:]).astype("float32")
last = model.layers[-1]
if isinstance(last, keras.layers.Dense):  # logits of spread 1: a saturated softmax would hide every mistake
    w, b = last.get_weights()
    features = keras.models.Model(model.input, last.input).predict(x)
    last.set_weights([w / np.std(features.dot(w)), b])
model.save(path, include_optimizer=False)
np.savez(path + ".npz", x=x, y=model.predict(x))
"""


NETS = ("resnet50", "vgg19", "caffe-squeezenet", "caffe-vgg19", "mobilenet")


def environment(python: Path) -> dict[str, str]:
    """Its own tools first, none of our paths, one thread each."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return env | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}


def build_caffe(name: str, net: Path) -> None:
    """Let real Caffe fill the weights, and keep what it answers."""
    oracle = oracles.find("caffe")
    if oracle is None:
        sys.exit("real Caffe is not set up: niudao oracle setup caffe")
    net.write_text({"caffe-squeezenet": caffe_nets.squeezenet, "caffe-vgg19": caffe_nets.vgg19}[name]())
    side = 227 if name == "caffe-squeezenet" else 224
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, side, side)).astype(np.float32)
    oracles.run(oracle, "caffe", net, {"data": x}, save=str(net.with_suffix(".caffemodel")))
    (y,) = oracles.run(oracle, "caffe", net, {"data": x}, weights=str(net.with_suffix(".caffemodel"))).values()
    np.savez(f"{net}.npz", x=x, y=y)


def commands(net: Path, folder: Path, mmdnn: Path) -> dict[str, tuple[list[str], dict[str, str], Path]]:
    """Name -> command, environment, file it writes."""
    ours = [sys.executable, "-m", "niudao", "convert", str(net)]
    source = ["keras", "-iw", str(net)]
    if net.suffix == ".prototxt":
        ours.append(str(net.with_suffix(".caffemodel")))
        source = ["caffe", "-in", str(net), "-iw", str(net.with_suffix(".caffemodel"))]
    theirs = [str(mmdnn.parent / "mmconvert"), "-sf", *source, "-df", "onnx", "-om", str(folder / "mmdnn.onnx")]
    here = dict(os.environ)
    return {
        "mmdnn": (theirs, environment(mmdnn), folder / "mmdnn.onnx"),
        "niudao": ([*ours, str(folder / "niudao.onnx")], here, folder / "niudao.onnx"),
        "niudao --no-proof": ([*ours, str(folder / "unproven.onnx"), "--no-proof"], here, folder / "unproven.onnx"),
    }


def check(path: Path, net: Path) -> str:
    """The difference of an ONNX file from what the source's framework answered, or why it cannot run.

    MMdnn writes an opset that ONNX Runtime has forgotten; then the file is lifted by our reader first.
    """
    import onnxruntime as ort

    with np.load(f"{net}.npz") as saved:
        x, y = saved["x"], saved["y"]
    options = ort.SessionOptions()
    options.log_severity_level = 4
    how = ""
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception:  # onnxruntime's exceptions share no base class
        lifted = path.with_suffix(".lifted.onnx")
        try:
            nd.write(nd.read(path), lifted)
            session = ort.InferenceSession(str(lifted), options, providers=["CPUExecutionProvider"])
        except Exception as e:
            return " ".join(str(e).split())[:120]
        how = " (lifted)"
    first = session.get_inputs()[0]
    orders = ((0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 3, 1))
    feed = next((t for o in orders if list((t := x.transpose(o)).shape[1:]) == list(first.shape[1:])), x)
    (got,) = session.run(None, {first.name: np.ascontiguousarray(feed)})
    return f"{relative([got.reshape(y.shape) if got.size == y.size else got], [y]):.1e}{how}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mmdnn", type=Path, required=True, help="the Python of an environment with MMdnn 0.3.1")
    parser.add_argument("--keras2", type=Path, required=True, help="a Python with Keras 2.2.4")
    parser.add_argument("--nets", nargs="+", default=list(NETS[:4]), choices=NETS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in options.nets:
        with tempfile.TemporaryDirectory() as held:
            folder = Path(held)
            if name.startswith("caffe"):
                build_caffe(name, folder / "net.prototxt")
                rows += turns(name, folder / "net.prototxt", folder, options.mmdnn, options.runs)
                continue
            net = folder / "net.h5"
            script = folder / "build.py"
            script.write_text(BUILD)
            built = subprocess.run(
                [str(options.keras2), str(script), name, str(net)],
                env=environment(options.keras2),
                capture_output=True,
                text=True,
                check=False,
            )
            if built.returncode:
                sys.exit(f"{name} could not be built:\n{built.stderr[-2000:]}")
            rows += turns(name, net, folder, options.mmdnn, options.runs)
    print(table(rows))
    write_csv(options.csv, rows)
    return 0


def turns(name: str, net: Path, folder: Path, mmdnn: Path, runs: int) -> list[dict[str, Any]]:
    """All programs in turn; one row per program with the medians and the ratios to MMdnn."""
    usages: dict[str, list[Usage]] = {}
    differences: dict[str, str] = {}
    for _ in range(runs):
        for program, (command, env, output) in commands(net, folder, mmdnn).items():
            usage = measure(command, env=env, cwd=folder)
            usages.setdefault(program, []).append(usage)
            if usage.code or not output.exists():
                differences[program] = f"exit {usage.code}: {' '.join(usage.output.split())[-160:]}"
            else:
                differences[program] = check(output, net)
                output.unlink()
    rows = []
    for program, mine in usages.items():
        base = usages["mmdnn"]
        failed = any(u.code for u in [*mine, *base])
        rows.append(
            {
                "net": name,
                "program": program,
                "cpu_s": f"{statistics.median(u.cpu for u in mine):.2f}",
                "peak_MB": f"{statistics.median(u.peak for u in mine) / 1e6:.0f}",
                "wall_s": f"{statistics.median(u.wall for u in mine):.2f}",
                "cpu_ratio": "" if failed else f"{statistics.median(u.cpu / b.cpu for u, b in zip(mine, base, strict=True)):.3f}",
                "peak_ratio": "" if failed else f"{statistics.median(u.peak / b.peak for u, b in zip(mine, base, strict=True)):.3f}",
                "file_MB": f"{net.stat().st_size / 1e6:.0f}",
                "differs_from_source": differences[program],
                "runs": runs,
            }
        )
    return rows


if __name__ == "__main__":
    sys.exit(main())
