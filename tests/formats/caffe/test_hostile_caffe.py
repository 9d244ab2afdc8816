"""What the corpus of bad Caffe files cannot ask through one path: second files, reports, and what is opened on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from niudao.cli.main import main
from niudao.errors import NiudaoError
from niudao.formats.caffe.read import read
from niudao.ir import card

HOSTILE = Path(__file__).resolve().parents[2] / "hostile"
ROOT = HOSTILE.parents[1]
sys.path.insert(0, str(HOSTILE))

import bad_caffemodel  # noqa: E402
import bad_prototxt  # noqa: E402
import caffe_every  # noqa: E402
import caffe_pairs  # noqa: E402
import caffe_settings  # noqa: E402
import caffe_stores  # noqa: E402
import caffe_words  # noqa: E402
from judge import control_characters  # noqa: E402

COMPRESSED = list(caffe_stores.compressed())


@pytest.mark.parametrize(("text", "data", "verdict"), [pytest.param(*c[1:], id=c[0]) for c in COMPRESSED])
def test_compressed_weights(text: str, data: bytes, verdict: str, tmp_path: Path) -> None:
    (tmp_path / "net.prototxt").write_text(text)
    (tmp_path / "w.net").write_bytes(data)
    try:
        model = read(tmp_path / "net.prototxt", weights=tmp_path / "w.net")
    except NiudaoError as e:
        assert verdict != "open", e
        assert "\n" not in e.message
        return
    assert verdict != "refuse"
    for value in model.graph.initializers.values():
        assert value.const_value is not None
        assert value.const_value.numpy().size == value.const_value.size


@pytest.mark.parametrize("verdict", ["refuse", "either"])
def test_settings_of_layers(verdict: str, tmp_path: Path) -> None:
    """Hundreds of settings that Caffe would refuse, or that mean next to nothing: one error in one sentence, or a model."""
    faults, many = [], 0
    for name, text, _, wanted in caffe_settings.settings():
        if wanted != verdict:
            continue
        many += 1
        (tmp_path / "net.prototxt").write_text(text)
        try:
            read(tmp_path / "net.prototxt")
            faults += [f"{name} was opened"] if verdict == "refuse" else []
        except NiudaoError as e:
            faults += [f"{name}: {e.message!r}"] if "\n" in e.message else []
        except Exception as e:  # this is the finding
            faults.append(f"{name}: {type(e).__name__} {e}")
    assert many
    assert not faults, faults[:5]


@pytest.mark.parametrize(("name", "data"), [pytest.param(n, d, id=n) for n, d in caffe_every.texts()])
def test_damaged_values_of_every_layer(name: str, data: bytes, tmp_path: Path) -> None:
    """Networks of every kind of layer open, and with other values they open or are refused."""
    path, faults = tmp_path / "net.prototxt", []
    path.write_bytes(data)
    read(path)
    for seed in range(60):
        path.write_bytes(caffe_every.mutate(data, seed))
        try:
            read(path)
        except NiudaoError:
            continue
        except Exception as e:  # this is the finding
            faults.append(f"seed {seed}: {type(e).__name__} {e}")
    assert not faults, faults[:5]


ODD = [c for c in caffe_words.cases() if c.name.startswith("names-")]


@pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in ODD])
def test_odd_names_in_reports(case: caffe_words.BadFile, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No character that steers a terminal or a browser leaves in JSON, HTML or Markdown."""
    path = case.make(tmp_path)
    page, notes = tmp_path / "page.html", tmp_path / "page.md"
    code = main(["inspect", str(path), "--json", "--report", str(page), "--report", str(notes)])
    said = capfd.readouterr()
    assert code in (0, 1)
    json.loads(said.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    for text in (said.out, said.err, *(p.read_text() for p in (page, notes) if p.exists())):
        assert not control_characters(text)
    if page.exists():
        assert "<script>alert" not in page.read_text()
        assert "onclick='x" not in page.read_text()


WATCH = """
import os, sys
opened = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        opened.append(os.path.realpath(os.fsdecode(args[0])))
    elif event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "os.fork", "pty.spawn"):
        opened.append("event " + event)
from niudao.errors import NiudaoError
from niudao.formats import read
from niudao.formats.caffe.layers import load_all
load_all()
try:
    read(sys.argv[1])
except NiudaoError:
    pass
sys.addaudithook(hook)
for path in sys.stdin.read().split("\\0"):
    opened.clear()
    try:
        read(path)
    except NiudaoError:
        pass
    print("\\0".join([path, *opened]), end="\\0\\0")
"""


def _quiet() -> Iterator[caffe_pairs.BadFile]:
    """Cases that name files, or lie beside them; none that is large."""
    for case in (*caffe_pairs.cases(), *caffe_stores.hdf5(), *bad_prototxt.beside()):
        if not any(
            word in case.name for word in ("-mb", "-gb", "million", "many", "wide", "link-external-data", "weights-link-to", "is-a-link-to")
        ):
            yield case


def test_nothing_outside_the_folder_is_opened(tmp_path: Path) -> None:
    """Python's own audit hook hears of every open, and of everything that is executed."""
    paths = []
    for i, case in enumerate(_quiet()):
        folder = tmp_path / str(i) / "case"
        folder.mkdir(parents=True)
        path = case.make(folder)
        if "name-" not in case.name:
            paths.append(str(path))
    first = tmp_path / "first.caffemodel"
    first.write_bytes(bad_caffemodel.good())
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    words = [sys.executable, "-c", WATCH, str(first)]
    done = subprocess.run(words, input="\0".join(paths), capture_output=True, text=True, env=env, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr[-800:]
    library = (sys.prefix, sys.base_prefix, str(ROOT), str(Path(sys.executable).resolve().parents[1]), "/proc/self", "/sys/")
    answers = [block.split("\0") for block in done.stdout.split("\0\0") if block]
    assert [a[0] for a in answers] == paths
    strange = []
    for path, *opened in answers:
        folder = os.path.realpath(os.path.dirname(path))  # the path itself may be a link
        strange += [f"{path}: {o}" for o in opened if not o.startswith((folder + "/", *library))]
    assert not strange, strange[:5]


def test_links_are_left_alone_and_that_is_said(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (tmp_path / "secret").write_text("alpha\nbeta\n")
    (folder / "net.prototxt").write_bytes(bad_prototxt.good())
    (folder / "labels.txt").symlink_to("../secret")
    model = read(folder / "net.prototxt")
    assert card.get_classes(model) == []
    assert any("labels.txt is a link" in note for note in card.get_notes(model))
