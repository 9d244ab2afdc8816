"""Files are written whole or not at all, and what a dead writer began is finished or swept."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from niudao import drafts
from niudao.errors import NiudaoError, WriteError
from niudao.formats import files
from niudao.whole import whole

DEAD = f"{drafts.TEMPORARY}999999999.1-x"
"""A draft folder of a process that cannot be."""


def dead_move(folder: Path, moves: dict[str, str], listed: object = None) -> Path:
    """What a writer leaves that died after it had noted its moves."""
    draft = folder / DEAD
    draft.mkdir()
    for name, text in moves.items():
        (draft / name).write_text(text)
    (draft / drafts.LIST).write_text(json.dumps(list(moves) if listed is None else listed))
    return draft


def test_a_noted_move_of_a_dead_writer_is_finished_by_the_next_reader(tmp_path: Path) -> None:
    (tmp_path / "net.json").write_text("old")
    (tmp_path / "net.h5").write_text("new")  # moved before it died
    dead_move(tmp_path, {"net.json": "new"}, ["net.h5", "net.json"])
    with files.open_model(tmp_path / "net.json") as f:
        assert f.read() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["net.h5", "net.json"]


def test_a_data_file_is_settled_before_it_is_looked_up(tmp_path: Path) -> None:
    dead_move(tmp_path, {"net.onnx.data": "new"})
    assert files.beside(tmp_path, "net.onnx.data").read_text() == "new"


@pytest.mark.parametrize(
    "listed", [["../stolen"], ["/etc/stolen"], [".."], ["a/b"], [1], {"a": "b"}, "net", [f"{drafts.TEMPORARY}x"], ["\0"]]
)
def test_a_stranger_s_list_of_moves_moves_nothing_elsewhere(tmp_path: Path, listed: object) -> None:
    folder = tmp_path / "downloaded"
    folder.mkdir()
    (folder / "net.onnx").write_text("old")
    dead_move(folder, {"net.onnx": "bad", "stolen": "bad"}, listed)
    drafts.settle(folder)
    assert (folder / "net.onnx").read_text() == "old"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["downloaded", "net.onnx"]


def test_a_link_in_a_dead_draft_is_not_moved(tmp_path: Path) -> None:
    draft = dead_move(tmp_path, {})
    (draft / "net.onnx").symlink_to("/etc/hostname")
    (draft / drafts.LIST).write_text('["net.onnx"]')
    drafts.settle(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_process_id_that_came_back_is_not_the_writer(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not say when a process began")
    (tmp_path / f"{drafts.TEMPORARY}{os.getpid()}.1-x").mkdir()
    mine = drafts.create(tmp_path)
    drafts.settle(tmp_path)
    assert os.listdir(tmp_path) == [mine.path.name]
    mine.remove()


def test_a_lock_counts_where_a_process_id_means_nothing(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl", reason="this system has no locks on folders")
    path = tmp_path / DEAD  # as if written in another container
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert drafts.alive(path)
    os.close(fd)
    assert not drafts.alive(path)


def test_a_reader_waits_for_a_living_writer_and_then_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drafts, "PATIENCE", 0.05)
    (tmp_path / "net.json").write_text("old")
    (tmp_path / "other.json").write_text("other")
    mine = drafts.create(tmp_path)
    drafts.note(mine, ["net.h5", "net.json"])
    with pytest.raises(NiudaoError, match="being written"):
        files.open_model(tmp_path / "net.json")
    files.open_model(tmp_path / "other.json").close()
    mine.remove()
    files.open_model(tmp_path / "net.json").close()


def test_a_second_move_that_is_refused_takes_the_first_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.h5").write_text("old")
    (tmp_path / "net.json").write_text("old")
    move = drafts.move

    def refused(draft: Path, target: Path) -> None:
        if target.name == "net.json":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        move(draft, target)

    monkeypatch.setattr(drafts, "move", refused)
    with pytest.raises(WriteError, match="not permitted"), whole(tmp_path / "net.json") as draft:
        draft.write_text("new")
        draft.with_name("net.h5").write_text("new")
        draft.with_name("more.h5").write_text("new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"net.h5": "old", "net.json": "old"}


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "net.onnx").symlink_to("store/real.onnx")
    with whole(tmp_path / "net.onnx") as draft:
        draft.write_text("new")
    assert (tmp_path / "net.onnx").is_symlink()
    assert (tmp_path / "store" / "real.onnx").read_text() == "new"
    assert os.listdir(tmp_path / "store") == ["real.onnx"]


@pytest.mark.parametrize("link", ["net.json", "net.h5"])
def test_a_pair_is_not_written_through_a_link(tmp_path: Path, link: str) -> None:
    (tmp_path / link).symlink_to("elsewhere")
    with pytest.raises(WriteError, match="is a link"), whole(tmp_path / "net.json") as draft:
        draft.write_text("new")
        draft.with_name("net.h5").write_text("new")
    assert os.listdir(tmp_path) == [link]


def test_modes_are_kept_and_new_files_have_the_usual_one(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "old").chmod(0o640)
    previous = os.umask(0o022)
    try:
        for name in ("old", "new"):
            with whole(tmp_path / name) as draft:
                draft.write_text("new")
    finally:
        os.umask(previous)
    assert [stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("old", "new")] == [0o640, 0o644]


def test_a_write_protected_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").write_text("old")
    (tmp_path / "net.onnx").chmod(0o444)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # what it says to everybody but the superuser
    with pytest.raises(WriteError, match="write-protected") as caught, whole(tmp_path / "net.onnx") as draft:
        draft.write_text("new")
    assert "chmod" in str(caught.value.next)
    assert (tmp_path / "net.onnx").read_text() == "old"


@pytest.mark.parametrize("target", ["/dev/null", "/dev/stdout", "x" * 300, "missing/net", "nul\0", "..", "loop"])
def test_impossible_targets_are_one_sentence(tmp_path: Path, target: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(WriteError) as caught, whole(tmp_path / target) as draft:
        draft.write_text("new")
    assert "\n" not in str(caught.value)
    assert os.listdir(tmp_path) == ["loop"]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
        (OSError("Can't write data (file write failed: errno = 28, error message = 'No space left on device')"), "No space left"),
        (RuntimeError("Can't decrement id ref count (file write failed: errno = 27)"), "File too large"),
    ],
)
def test_a_full_disk_is_a_sentence_however_a_library_says_it(tmp_path: Path, error: Exception, word: str) -> None:
    with pytest.raises(WriteError, match=word) as caught, whole(tmp_path / "net.h5"):
        raise error
    assert "net.h5" in caught.value.message
    assert caught.value.next


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ours"), whole(tmp_path / "net.h5"):
        raise ValueError("ours")


def test_too_little_memory_is_no_write_error(tmp_path: Path) -> None:
    with pytest.raises(MemoryError), whole(tmp_path / "net.h5"):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_inside_another_whole_only_the_outer_one_leaves_a_temporary(tmp_path: Path) -> None:
    with whole(tmp_path / "net.onnx") as outer:
        with whole(outer) as inner:
            inner.write_text("new")
            assert len(list(tmp_path.rglob(f"{drafts.TEMPORARY}*"))) == 1
        with pytest.raises(WriteError) as caught, whole(outer):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        assert caught.value.where.file == str(tmp_path / "net.onnx")
    assert os.listdir(tmp_path) == ["net.onnx"]


def _write_pairs(folder: str, text: str, times: int) -> None:
    for _ in range(times):
        with whole(Path(folder) / "net.json") as draft:
            draft.write_text(text)
            draft.with_name("net.h5").write_text(text)


def test_two_writers_at_once_never_mix_a_pair(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    both = [spawn.Process(target=_write_pairs, args=(str(tmp_path), text * 100_000, 30)) for text in "ab"]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
        assert (tmp_path / "net.json").read_text() == (tmp_path / "net.h5").read_text() or any(p.is_alive() for p in both)
    assert (tmp_path / "net.json").read_text() == (tmp_path / "net.h5").read_text()
    assert sorted(os.listdir(tmp_path)) == ["net.h5", "net.json"]


def test_a_dead_writer_that_nobody_buried_is_dead(tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not say what state a process is in")
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    for _ in range(1000):
        if ") Z " in Path(f"/proc/{process.pid}/stat").read_text():
            break
        time.sleep(0.005)
    path = tmp_path / f"{drafts.TEMPORARY}{process.pid}-x"
    path.mkdir()
    assert not drafts.alive(path)
    process.wait()
