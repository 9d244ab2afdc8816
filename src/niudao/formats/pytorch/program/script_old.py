"""TorchScript archives of torch 1.0 to 1.3: their weights can be read, their graph is text that no torch of today loads."""

from __future__ import annotations

from pathlib import Path

from niudao.errors import ReadError
from niudao.formats.pytorch.checkpoint.script import script_state


def refusal(path: Path) -> ReadError:
    """The error that says what such a file holds and what to do with it."""
    state = script_state(path)
    return ReadError(
        f"{path.name} is a TorchScript archive of torch 1.0 to 1.3, whose network torch itself has stopped reading.",
        where=path,
        expected="an archive of torch 1.4 or later",
        got=f"{len(state)} weights, which can be read with --arch",
        next="load it with torch 1.4, which still reads it, and save it again with torch.jit.save; torch 1.9 and later refuse it",
    )
