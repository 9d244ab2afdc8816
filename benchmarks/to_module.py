"""ONNX networks as torch modules: how many come out right, refused, wrong, beside onnx2pytorch and onnx2torch.

    python benchmarks/to_module.py [--graphs 60] [--seed 1] [--peers PYTHON]

Two sets: ONNX's own node tests (tests/nodetests.py: "plain", and those of them with the operators of "vision" networks; an output
is right within the test's own tolerance) and random vision networks (tests/randomgraphs.py: right within 1e-3 of the largest
value). "wrong" ran and gave other numbers; everything else that is not right (an error, an output left out) is "refused".
Exit code 3 if niudao has a wrong one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from judged import relative
from measure import table, write_csv

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
import nodetests
from randomgraphs import graphs

Array = np.ndarray[Any, Any]
PEERS = ("onnx2pytorch", "onnx2torch")

WORKER = """
import json, os, re, sys, types, warnings
warnings.filterwarnings("ignore")
import numpy as np, onnx, torch
answers = os.fdopen(os.dup(1), "w"); os.dup2(2, 1)
lib = torch.library.Library("torchvision", "DEF")  # both import torchvision, whose operators a CPU build of torch does not have
for op in ("nms", "qnms"):
    lib.define(op + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
if sys.argv[1] == "onnx2torch":
    from onnx2torch import convert as make
else:
    from onnx2pytorch import ConvertModel as make
for line in sys.stdin:
    path = line.strip()
    try:
        with np.load(path + ".npz") as held:
            feeds = [torch.from_numpy(held[k].copy()) for k in held.files]
        module = make(onnx.load(path)).eval()
        with torch.no_grad():
            out = module(*feeds)
        out = list(out.values()) if isinstance(out, dict) else out
        out = out if isinstance(out, (list, tuple)) else [out]
        np.savez(path + ".out.npz", **{str(i): np.asarray(o) for i, o in enumerate(out)})
        answer = ""
    except BaseException as e:
        answer = type(e).__name__ + ": " + " ".join(str(e).split())[:160]
    answers.write(json.dumps(answer) + "\\n"); answers.flush()
"""


@dataclass(frozen=True)
class Task:
    """One network with inputs and a judge of outputs."""

    name: str
    sets: tuple[str, ...]
    operators: str
    model: onnx.ModelProto
    inputs: Sequence[Array]
    right: Callable[[list[Array]], bool]
    agree: Callable[[list[Array]], bool]


def tasks(count: int, seed: int) -> list[Task]:
    """Both sets."""
    found = []
    for case in nodetests.cases():
        sets = ("plain", "vision") if case.vision else ("plain",)
        found.append(Task(case.name, sets, case.operators, case.model, case.inputs, case.right, case.agree))
    for graph in graphs(count, seed):
        want = list(graph.expected.values())
        operators = "+".join(sorted(set(graph.operators)))
        right = lambda got, want=want: relative(got, want) <= 1e-3  # noqa: E731
        found.append(Task(f"random {graph.seed}", ("random",), operators, graph.model, list(graph.feeds.values()), right, right))
    return found


def ours(task: Task) -> tuple[list[Array] | None, str]:
    """What niudao's module gives, or why there is none."""
    import torch

    import niudao as nd
    from niudao.formats.pytorch import to_module

    try:
        module = to_module(nd.read(task.model)).eval()
    except nd.NiudaoError as e:
        return None, e.message
    try:
        with torch.no_grad():
            got = module(*(torch.from_numpy(np.array(x)) for x in task.inputs))
    except ValueError as e:
        if "is not agreed upon" not in str(e):  # the one refusal that waits for the sizes of a call; all else is a fault
            raise
        return None, str(e)
    return [t.numpy() for t in (got if isinstance(got, tuple) else (got,))], ""


def theirs(python: Path, peer: str, every: list[Task], folder: Path) -> list[tuple[list[Array] | None, str]]:
    """What a peer gives for each task, or why there is none; a peer that dies goes on with the next task."""
    paths = []
    for i, task in enumerate(every):
        path = folder / f"{peer}{i}.onnx"
        path.write_bytes(task.model.SerializeToString())
        np.savez(f"{path}.npz", **{str(k): a for k, a in enumerate(task.inputs)})  # type: ignore[arg-type]
        paths.append(path)
    said: list[str] = []
    while len(said) < len(paths):
        text = "".join(f"{p}\n" for p in paths[len(said) :])
        run = subprocess.run([str(python), "-c", WORKER, peer], input=text, capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in run.stdout.splitlines()]
        if not lines and not said:
            sys.exit(f"{peer} does not start:\n{run.stderr[-1500:]}")
        said += lines
        if len(said) < len(paths):
            said.append("the process died")
    result: list[tuple[list[Array] | None, str]] = []
    for path, error in zip(paths, said, strict=True):
        if error:
            result.append((None, error))
            continue
        with np.load(f"{path}.out.npz", allow_pickle=False) as out:
            result.append(([out[k] for k in out.files], ""))
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--graphs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers", type=Path, help="a Python with onnx2pytorch and onnx2torch")
    parser.add_argument("--csv", type=Path, default=Path(__file__).with_suffix(".csv"))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    every = tasks(options.graphs, options.seed)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as name:
        for tool in ("niudao", *(PEERS if options.peers else ())):
            answers = [ours(t) for t in every] if tool == "niudao" else theirs(options.peers, tool, every, Path(name))
            verdict: dict[str, Counter[str]] = {s: Counter() for s in ("vision", "plain", "random")}
            worst: Counter[str] = Counter()
            for task, (got, why) in zip(every, answers, strict=True):
                word = "refused" if got is None else "right" if task.right(got) else "wrong"
                if word == "wrong" and got is not None and task.agree(got):
                    word = "refused"  # outputs are missing, and those that are there are right
                for kind in task.sets:
                    verdict[kind][word] += 1
                if word != "right":
                    worst[f"{word} {task.operators if 'random' not in task.sets else task.name}"] += 1
                if tool == "niudao" and word != "right":
                    print(f"  {word}: {task.name}: {why[:160]}")
            for kind, count in verdict.items():
                row = {"tool": tool, "set": kind, "right": count["right"], "refused": count["refused"], "wrong": count["wrong"]}
                rows.append({**row, "of": sum(count.values())})
            rows[-1]["most"] = "; ".join(f"{k} {v}" for k, v in worst.most_common(8))
    print(table([{k: v for k, v in row.items() if k != "most"} for row in rows]))
    write_csv(options.csv, rows, packages=("onnx", "onnxruntime", "torch", "numpy"), more="peers onnx2pytorch 0.6.0, onnx2torch 1.5.15")
    return 3 if any(row["tool"] == "niudao" and row["wrong"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
