"""Random vision networks through our formats and through a peer's: how many come out equal, refused, wrong.

    python benchmarks/random_graphs.py [--graphs 60] [--seed 1] [--keras3 PYTHON] [--peer PYTHON]

Every graph is read and written as ONNX, as .keras and as Caffe; a file counts as equal only if reading it back, and real
Keras where a Python with it is given, and real Caffe where `niudao oracle setup caffe` was done, agree with ONNX Runtime on
the original to 1e-4. "wrong" is whatever was written
and differs, and whatever failed without a refusal; "wrong" must be 0 (exit 3).
The peer is onnx2keras, in a Python that has it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from judged import RealKeras, by_name, read_back, relative
from measure import table, write_csv

import niudao as nd
from niudao.errors import Unsupported
from niudao.formats import oracles

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from randomgraphs import Case, graphs

TOLERANCE = 1e-4

PEER = """
import json, os, re, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, onnx
from onnx2keras import onnx_to_keras
answers = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)
def words(e):
    return type(e).__name__ + ": " + " ".join(re.sub(r"\\x1b\\[[0-9;]*m", "", str(e)).split())[:160]
for line in sys.stdin:
    path = line.strip()
    try:
        model = onnx.load(path)
        names = [i.name for i in model.graph.input]
        made = onnx_to_keras(model, names, verbose=False)
        made = getattr(made, "converted_model", made)
        answer = {"made": True}
    except BaseException as e:
        answer = {"made": False, "error": words(e)}
    if answer["made"]:
        try:
            feeds = np.load(path + ".feeds.npz"); arrays = [feeds[n] for n in names]
            out = made(arrays[0] if len(arrays) == 1 else arrays)
            out = list(out.values()) if isinstance(out, dict) else out
            out = out if isinstance(out, (list, tuple)) else [out]
            np.savez(path + ".peer.npz", **{f"o{i}": np.asarray(o) for i, o in enumerate(out)})
        except BaseException as e:
            answer["error"] = words(e)
    answers.write(json.dumps(answer) + "\\n"); answers.flush()
"""


def through(case: Case, target: Path, keras: RealKeras | None, folder: Path) -> tuple[str, str]:
    """Verdict and detail of one graph in one format."""
    want = list(case.expected.values())
    try:
        nd.write(nd.read(case.model), target)
    except Unsupported as e:
        return "refused", ", ".join(sorted({r.op for r in e.refusals})) + ": " + "; ".join(r.reason for r in e.refusals)[:160]
    except Exception as e:
        return "wrong", f"writing: {type(e).__name__}: {str(e)[:160]}"
    try:
        diff, model = read_back(target, case.feeds, want)
    except Exception as e:
        return "wrong", f"reading back: {type(e).__name__}: {str(e)[:160]}"
    if not diff <= TOLERANCE:
        return "wrong", f"read back differs by {diff:.1e}"
    if keras is not None and target.suffix == ".keras":
        real, error = keras.difference(target, model, case.feeds, want, folder)
        if error or not real <= TOLERANCE:
            return "wrong", error or f"Keras differs by {real:.1e}"
        diff = max(diff, real)
    oracle = oracles.find("caffe") if target.suffix == ".prototxt" else None
    if oracle is not None:
        names, weights = [v.name for v in model.graph.outputs], str(target.with_suffix(".caffemodel"))
        try:
            got = oracles.run(oracle, "caffe", target, by_name(model, case.feeds), weights=weights, outputs=names)
        except nd.NiudaoError as e:
            return "wrong", e.message[:200]
        real = relative(list(got.values()), want)
        if not real <= TOLERANCE:
            return "wrong", f"Caffe differs by {real:.1e}"
        diff = max(diff, real)
    return "equal", f"{diff:.1e}"


def peer_verdicts(python: Path, cases: list[Case], folder: Path) -> list[tuple[str, str]]:
    """onnx2keras on the same graphs; any axis order of an output is taken as right."""
    paths = []
    for i, case in enumerate(cases):
        path = folder / f"peer{i}.onnx"
        path.write_bytes(case.model.SerializeToString())
        np.savez(f"{path}.feeds.npz", **case.feeds)  # type: ignore[arg-type]
        paths.append(path)
    text = "".join(f"{p}\n" for p in paths)
    run = subprocess.run([str(python), "-c", PEER], input=text, capture_output=True, text=True, check=False)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    if len(answers) != len(cases):
        sys.exit(f"the peer ended after {len(answers)} graphs:\n{run.stderr[-2000:]}")
    result = []
    for case, path, answer in zip(cases, paths, answers, strict=True):
        if not answer["made"]:
            result.append(("refused", answer["error"]))
        elif "error" in answer:
            result.append(("wrong", answer["error"]))
        else:
            with np.load(f"{path}.peer.npz") as out:
                got = [out[k] for k in out.files]
            diff = _any_order(got, list(case.expected.values()))
            result.append(("equal", f"{diff:.1e}") if diff <= TOLERANCE else ("wrong", f"differs by {diff:.1e}"))
    return result


def _any_order(got: list[np.ndarray], want: list[np.ndarray]) -> float:
    """The smallest difference over the axis orders that a channels-last framework may give."""

    def best(g: np.ndarray, w: np.ndarray) -> float:
        orders = (
            [(0, 1, 2, 3), (0, 3, 1, 2), (0, 2, 3, 1)] if g.ndim == 4 else [(0, 1, 2), (0, 2, 1)] if g.ndim == 3 else [tuple(range(g.ndim))]
        )
        return min(relative([g.transpose(o)], [w]) for o in orders)

    return max(best(g, w) for g, w in zip(got, want, strict=True)) if len(got) == len(want) else float("inf")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keras3", type=Path, help="a Python with Keras 3")
    parser.add_argument("--peer", type=Path, help="a Python with onnx2keras")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    cases = list(graphs(options.graphs, options.seed))
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        keras = stack.enter_context(RealKeras(options.keras3, "keras")) if options.keras3 else None
        peers = peer_verdicts(options.peer, cases, folder) if options.peer else []
        for i, case in enumerate(cases):
            row: dict[str, object] = {"seed": case.seed, "opset": case.opset, "nodes": len(case.operators)}
            for ending in (".onnx", ".keras", ".prototxt"):
                row[f"niudao{ending}"], row[f"detail{ending}"] = through(case, folder / f"net{ending}", keras, folder)
            if peers:
                row["onnx2keras"], row["detail_onnx2keras"] = peers[i]
            rows.append(row)
    wrong = 0
    for name in ("niudao.onnx", "niudao.keras", "niudao.prototxt", "onnx2keras"):
        if name in rows[0]:
            count = Counter(str(row[name]) for row in rows)
            print(f"{name}: equal {count['equal']}, refused {count['refused']}, wrong {count['wrong']} of {len(rows)}")
            wrong += count["wrong"] if name.startswith("niudao") else 0
    shown = ("seed", "niudao.onnx", "niudao.keras", "detail.onnx", "detail.keras")
    failed = [{k: str(row[k])[:150] for k in shown} for row in rows if {row["niudao.onnx"], row["niudao.keras"]} != {"equal"}]
    if failed:
        print(table(failed))
    oracle = keras.version if keras else "no real Keras"
    write_csv(options.csv, rows, more=oracle)
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
