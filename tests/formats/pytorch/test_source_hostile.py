"""Names of strangers in a text: every one is an identifier, an escaped comment or a string, and none runs."""

from __future__ import annotations

import ast
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import fx, nn

from niudao.formats.pytorch.source import write_source
from niudao.formats.pytorch.source.names import attribute, docstring, identifier, printable

NASTY = [
    "x\nimport os; os.system('id')",
    '"""\nimport os\n"""',
    "a'; __import__('os').system('id') #",
    "\u202eevil\u2066",
    "class",
    "weight",
    "1_conv",
    "\\",
    '\\"""',
    "\r\x00\x1b[31m",
    "卷积",
    " ",
    "self",
    "nn",
    "torch",
    "load",
    "a" * 500,
    "𝐜𝐨𝐧𝐯",
    "{x}",
    "%s",
]


def network_of(names: list[str]) -> fx.GraphModule:
    """A chain of layers with these names, put there behind torch's back: its own checks stop most of them."""
    graph, root = fx.Graph(), nn.Module()
    x = graph.placeholder("x")
    for i in range(len(names)):
        root.add_module(f"layer{i}", nn.Conv2d(1, 1, 1))
        x = graph.call_module(f"layer{i}", (x,))
    graph.output(x)
    network = fx.GraphModule(root, graph)
    calls = [n for n in graph.nodes if n.op == "call_module"]
    for node, name in zip(calls, names, strict=True):
        layer = network._modules.pop(str(node.target))
        holder: nn.Module = network
        *inner, last = name.split(".")
        for part in inner:
            holder = holder._modules.setdefault(part, nn.Module())
        holder._modules[last] = layer
        node.target = name
        node.meta["niudao.layer"] = name
    return network


@pytest.mark.parametrize("name", NASTY, ids=range(len(NASTY)))
def test_a_nasty_name_stays_a_name(name: str) -> None:
    torch.manual_seed(0)
    network = network_of([name, "ordinary"])
    source = write_source(network, class_name=name, title=name, input_line=name, weights=name)
    tree = ast.parse(source.text)
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert imported <= {"json", "math", "mmap", "torch"}
    calls = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert calls <= {
        source.class_name,
        "load",
        "super",
        "open",
        "getattr",
        "isinstance",
        "print",
        "tuple",
        "OrderedDict",
        "example_inputs",
        "network",
    }
    assert source.text.isascii()
    made: dict[str, Any] = {"__name__": "text"}
    exec(source.text, made)
    twin = made[source.class_name]().eval()
    state = network.state_dict()
    twin.load_state_dict({key: state[old] for key, old in source.keys.items()})
    x = torch.rand(1, 1, 4, 4)
    with torch.inference_mode():
        y = x
        for node in network.graph.nodes:
            y = network.get_submodule(node.target)(y) if node.op == "call_module" else y
        assert torch.equal(twin(x), y)


def test_all_at_once_keep_apart() -> None:
    network = network_of([*NASTY, "Class", "class_", "a", "a_1", "A"])
    source = write_source(network, class_name="", title="")
    made: dict[str, Any] = {"__name__": "text"}
    exec(source.text, made)
    assert set(source.keys.values()) == set(network.state_dict())
    assert set(source.keys) == set(made[source.class_name]().state_dict())


@settings(max_examples=200, deadline=None)
@given(st.text())
@example("__init__")
@example("forward")
@example("__class__")
def test_any_text(text: str) -> None:
    name = attribute(text)
    assert name.isidentifier() and name.isascii() and not hasattr(nn.Module, name)
    assert identifier(text).isidentifier()
    assert printable(text).isprintable() and printable(text).isascii()
    assert ast.literal_eval('"""' + docstring(text) + '."""') is not None
    assert len(ast.parse("x = 1  # " + printable(text)).body) == 1
