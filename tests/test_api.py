"""The public names, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import niudao

HEAVY = ("numpy", "onnx", "onnxruntime", "h5py", "rich", "torch", "keras", "tensorflow", "PIL")


def test_the_public_names() -> None:
    assert set(niudao.__all__) == {
        "NiudaoError",
        "__version__",
        "compare",
        "convert",
        "extract",
        "formats",
        "inspect",
        "read",
        "run",
        "write",
    }
    for name in niudao.__all__:
        assert getattr(niudao, name) is not None


def _modules(code: str) -> set[str]:
    text = subprocess.run([sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True)
    return set(text.stdout.split())


def test_importing_and_helping_load_nothing_heavy() -> None:
    assert not _modules("import niudao").intersection(HEAVY)
    assert not _modules("from niudao.cli.main import main\nmain(['--help'])").intersection(HEAVY)
    assert not _modules("from niudao.cli.main import main\nmain(['convert', '--help'])").intersection(HEAVY)


def test_formats_is_a_verb_and_a_room() -> None:
    table = niudao.formats()
    assert {"onnx", "keras"} <= {row.name for row in table.formats}
    from niudao.formats import detect

    assert callable(detect)
