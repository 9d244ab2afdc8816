"""The command line as scripts and people meet it: exit codes, streams, suggestions, JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import niudao as nd
from niudao.cli import main as cli
from niudao.demo import data
from niudao.ir import card


def niudao(*args: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("NIUDAO_")}
    return subprocess.run(
        [sys.executable, "-m", "niudao", *map(str, args)], capture_output=True, text=True, cwd=cwd, env=clean | (env or {}), timeout=120
    )


@pytest.fixture
def net(small_net: ir.Model, tmp_path: Path) -> Path:
    nd.write(small_net, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_without_an_argument_it_says_what_it_does_in_a_dozen_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    assert 5 <= capsys.readouterr().out.count("\n") <= 12


@pytest.mark.parametrize("verb", list(cli.VERBS))
def test_every_verb_has_help_with_two_examples_that_parse(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    examples = [line.strip() for line in text.partition("examples:")[2].splitlines() if line.strip().startswith("niudao ")]
    assert len(examples) >= 2
    for line in examples:
        words = line.split(" > ")[0].split()
        assert words[1] == verb
        cli.parser_for(verb).parse_args(words[2:])


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["convrt", "a", "b"], "Did you mean convert?"),
        (["predict", "a"], "`predict` is `run` here"),
        (["convert", "a", "b", "--bath", "1"], "Did you mean --batch?"),
        (["convert", "a", "b", "--color", "alway"], "Did you mean always?"),
        (["--versio"], "unknown flag"),
        (["inspect"], "required"),
        (["help", "exitcodes"], "Did you mean exit-codes?"),
    ],
)
def test_a_typo_costs_two_lines_and_exit_code_2(args: list[str], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(args) == 2
    captured = capsys.readouterr()
    assert word in captured.err and captured.err.count("\n") <= 3 and captured.out == ""


def test_convert_proves_writes_and_ends_with_0(net: Path, tmp_path: Path) -> None:
    done = niudao("convert", net, tmp_path / "net.keras", "--report", tmp_path / "r.html", "--report", tmp_path / "r.md")
    assert done.returncode == 0, done.stderr
    assert "the same network" in done.stdout and "\x1b" not in done.stdout
    assert (tmp_path / "net.keras").exists() and "<html" in (tmp_path / "r.html").read_text() and (tmp_path / "r.md").exists()
    again = niudao("compare", net, tmp_path / "net.keras", "--json", "-q")
    assert again.returncode == 0 and json.loads(again.stdout)["ok"] is True and again.stderr == ""


def test_networks_that_differ_end_with_3_and_name_the_layer(net: Path, small_net: ir.Model, tmp_path: Path) -> None:
    weight = small_net.graph.initializers["conv/kernel"]
    weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.01), name="conv/kernel")
    nd.write(small_net, tmp_path / "other.onnx")
    done = niudao("compare", net, tmp_path / "other.onnx", "--save", tmp_path / "repro.npz")
    assert done.returncode == 3
    assert "conv" in done.stdout and (tmp_path / "repro.npz").exists()
    document = json.loads(niudao("compare", net, tmp_path / "other.onnx", "--json").stdout)
    assert document["ok"] is False and document["first_divergence"] is not None


def test_a_conversion_whose_numbers_differ_writes_nothing_unless_forced(net: Path, tmp_path: Path) -> None:
    strict = ("--dtype", "float16", "--rtol", "1e-9")
    done = niudao("convert", net, tmp_path / "half.onnx", *strict)
    assert done.returncode == 3 and not (tmp_path / "half.onnx").exists()
    assert sorted(os.listdir(tmp_path)) == ["net.onnx"]
    done = niudao("convert", net, tmp_path / "half.onnx", *strict, "--force")
    assert done.returncode == 3 and (tmp_path / "half.onnx").exists()


def test_bad_input_is_one_sentence_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "page.h5").write_text("<html>404</html>")
    done = niudao("convert", tmp_path / "page.h5", tmp_path / "out.onnx", "--json")
    assert done.returncode == 1 and "Traceback" not in done.stderr and done.stderr.startswith("error: ")
    document = json.loads(done.stdout)
    assert document["schema"] == "niudao.error/1" and document["error"]["code"] == "read"
    assert os.listdir(tmp_path) == ["page.h5"]


def test_hostile_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    done = niudao("inspect", tmp_path / "a\x1b[31m\u202e.onnx")
    assert done.returncode == 1 and "\x1b" not in done.stderr and "\u202e" not in done.stderr


def test_inspect_and_card(net: Path, tmp_path: Path) -> None:
    done = niudao("inspect", net)
    assert done.returncode == 0 and "conv" in done.stdout and "MACs" in done.stdout
    assert niudao("card", net, "--set", "order=BGR").returncode == 2
    done = niudao("card", net, "--set", "order=BGR", "--set", "mean=104,117,123", "--set", "range=-128..151", "-o", tmp_path / "new.onnx")
    assert done.returncode == 0, done.stderr
    got = card.get_cards(nd.read(tmp_path / "new.onnx"))["image"]
    assert got.order == "BGR" and got.mean == (104.0, 117.0, 123.0) and got.range == (-128.0, 151.0)
    assert niudao("card", net, "--set", "colour=BGR", "-f").returncode == 2


def test_extract_gives_a_part_that_computes_the_inner_value(net: Path, small_net: ir.Model, tmp_path: Path) -> None:
    done = niudao("extract", net, tmp_path / "part.onnx", "--outputs", "relu")
    assert done.returncode == 0, done.stderr
    x = np.random.default_rng(0).random((2, 3, 9, 7), np.float32)
    part = nd.run(nd.read(tmp_path / "part.onnx"), x)
    np.testing.assert_allclose(part["relu"], nd.run(small_net, x, fetch=["relu_out"])["relu_out"], atol=1e-6)
    head = nd.extract(small_net, inputs=["relu"], outputs=["prob"])
    np.testing.assert_allclose(nd.run(head, part["relu"])["prob"], nd.run(small_net, x)["prob"], atol=1e-6)
    assert "did you mean" in niudao("extract", net, tmp_path / "p.onnx", "--outputs", "relux").stderr


def test_batch_can_be_fixed_and_freed(small_net: ir.Model, tmp_path: Path) -> None:
    nd.write(small_net, tmp_path / "free.onnx")
    assert nd.convert(tmp_path / "free.onnx", tmp_path / "two.onnx", batch=2).ok
    assert nd.read(tmp_path / "two.onnx").graph.inputs[0].shape[0] == 2
    assert nd.convert(tmp_path / "two.onnx", tmp_path / "again.onnx", batch="dynamic").ok
    assert not isinstance(nd.read(tmp_path / "again.onnx").graph.outputs[0].shape[0], int)


def test_run_reads_digits_arrays_folders_and_goes_on_after_a_bad_image(tmp_path: Path) -> None:
    for k in (3, 7):
        (tmp_path / f"{k}.png").write_bytes(data.path(f"digit-{k}.png").read_bytes())
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    net = tmp_path / "lenet.onnx"
    model = nd.read(data.path("lenet.h5"))
    nd.write(model, net)
    done = niudao("run", net, tmp_path, "--top", "1", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [(Path(a["file"]).name, a["best"][0]["name"]) for a in document["images"]] == [("3.png", "3"), ("7.png", "7")]
    assert len(document["failed"]) == 1 and "broken.png" in document["failed"][0][0]
    assert niudao("run", net, tmp_path, "--strict").returncode == 1
    np.save(tmp_path / "x.npy", data.inputs()[:3])
    done = niudao("run", net, tmp_path / "x.npy", "-o", tmp_path / "y.npz", "--fetch", "conv1")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "y.npz") as out:
        assert len(out.files) == 2 and out[out.files[0]].shape == (3, 10)


def test_the_environment_sets_common_flags(net: Path) -> None:
    assert json.loads(niudao("inspect", net, env={"NIUDAO_JSON": "1"}).stdout)["schema"] == "niudao.inspect/1"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "tcsh"])
def test_completion_knows_every_verb(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(verb in script for verb in cli.VERBS)
    if shell == "bash":
        assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
