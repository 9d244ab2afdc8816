"""What stands around the classes of a text: its head, the function that loads the weights, inputs to try it with."""

from __future__ import annotations

import re
from typing import Any

from torch import fx

from niudao.formats.pytorch.source.functions import Own
from niudao.formats.pytorch.source.names import docstring
from niudao.formats.pytorch.source.regions import Wiring
from niudao.formats.pytorch.source.wrap import wrap


def input_shapes(network: fx.GraphModule, wiring: Wiring) -> list[tuple[str, tuple[Any, ...] | None, str]]:
    """Source's name, shape and type of each input, where they are known."""
    model = getattr(network, "remembered", None)
    if model is None:
        return [(str(p.target), None, "float32") for p in wiring.placeholders]
    found = []
    for value in model.graph.inputs:
        shape = None if value.shape is None else tuple(d if isinstance(d, int) else d.value for d in value.shape)
        found.append((value.name or "", shape, str(value.dtype.numpy()) if value.dtype is not None else "float32"))
    return found


def head(network: Any, whole: str, title: str, line: str, weights: str, shapes: Any, body: str, own: Own) -> str:
    lines = [f'"""{docstring(title, 100).rstrip(".")}.', ""]
    lines += [f'    model = load("{docstring(weights, 60)}")', ""]
    for name, shape, dtype in shapes:
        size = "" if shape is None else " x ".join("batch" if d is None or isinstance(d, str) else str(d) for d in shape)
        lines.append(
            f"Input {docstring(name, 40)}: {docstring(size, 40) or 'a tensor'}, {dtype}."
            + (f" {docstring(line, 70)}" if line and name == shapes[0][0] else "")
        )
    model = getattr(network, "remembered", None)
    if model is not None:
        for value in model.graph.outputs:
            size = "" if value.shape is None else " x ".join(str(d) if isinstance(d, int) else "batch" for d in value.shape)
            lines.append(f"Output {docstring(value.name or '', 40)}: {docstring(size, 40) or 'a tensor'}.")
    lines += ['"""', ""]
    imports = {"import json", "import math", "import mmap", "import torch"} - (set() if "math." in body else {"import math"})
    froms = {"torch": {"nn"}}
    if re.search(r"\bF\.", body):
        froms["torch.nn"] = {"functional as F"}
    if "OrderedDict(" in body:
        froms["collections"] = {"OrderedDict"}
    future = ""
    for extra in own.imports:
        if extra.startswith("from __future__"):
            continue
        match = re.fullmatch(r"from (\S+) import (.+)", extra)
        if match:
            froms.setdefault(match[1], set()).add(match[2])
        else:
            imports.add(extra)
    if own.texts:
        future = "from __future__ import annotations\n\n"
    standard = sorted(i for i in imports if not i.startswith("import torch"))
    standard += [f"from {m} import {', '.join(sorted(n, key=_isort))}" for m, n in sorted(froms.items()) if not m.startswith("torch")]
    third = sorted(i for i in imports if i.startswith("import torch"))
    for m, n in sorted(froms.items()):
        if m.startswith("torch"):
            plain = sorted((x for x in n if " as " not in x), key=_isort)
            third += [f"from {m} import {', '.join(plain)}"] if plain else []
            third += [f"from {m} import {x}" for x in sorted(n) if " as " in x]
    public = f'__all__ = ["{whole}", "example_inputs", "load"]'
    return "\n".join(lines) + "\n" + future + "\n".join([*standard, "", *third, "", public])


def _isort(name: str) -> tuple[int, str]:
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


def loader(name: str) -> str:
    return f'''def load(path: str) -> {name}:
    """The network with the weights of a .safetensors file, ready to run."""
    kinds = {{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "BOOL": "bool", "U8": "uint8"}}
    kinds |= {{f"I{{n}}": f"int{{n}}" for n in (8, 16, 32, 64)}} | {{f"U{{n}}": f"uint{{n}}" for n in (16, 32, 64)}}
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(start - 8))
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    state = {{}}
    for key, entry in header.items():
        if key != "__metadata__":
            begin, end = entry["data_offsets"]
            kind = getattr(torch, kinds[entry["dtype"]])
            if begin == end:
                state[key] = torch.empty(entry["shape"], dtype=kind)
                continue
            flat = torch.frombuffer(data, dtype=torch.uint8, count=end - begin, offset=start + begin)
            state[key] = flat.view(kind).reshape(entry["shape"])
    model = {name}()
    model.load_state_dict(state)
    return model.eval()'''


def examples(shapes: Any) -> str:
    """A function that gives what the network can be called with."""
    made = []
    for _, shape, dtype in shapes:
        sizes = ", ".join(
            str(d) if isinstance(d, int) else "1" if i == 0 else "64"
            for i, d in enumerate(shape if shape is not None else (1, 3, 224, 224))
        )
        kind = "" if dtype == "float32" else f", dtype=torch.{dtype}"
        made.append(f"torch.rand({sizes or '()'}{kind})" if "float" in dtype else f"torch.zeros({sizes or '()'}{kind})")
    lines = ["def example_inputs() -> tuple[torch.Tensor, ...]:", '    """Random inputs of the right shapes."""']
    return "\n".join([*lines, *wrap(f"    return ({', '.join(made)}{',' if len(made) == 1 else ''})")])


def main(name: str) -> str:
    lines = ['if __name__ == "__main__":', f"    network = {name}().eval()", "    with torch.inference_mode():"]
    lines += ["        outputs = network(*example_inputs())"]
    lines += ["    for output in outputs if isinstance(outputs, tuple) else (outputs,):", "        print(tuple(output.shape))"]
    return "\n".join(lines)
