"""Strangers' files are opened in one place; ours are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from niudao.errors import ReadError, WriteError
from niudao.formats import detect, files


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="boom"), files.whole(target) as draft:
        draft.write_bytes(b"half")
        raise RuntimeError("boom")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["net.onnx"]


def test_partners_move_with_the_named_file(tmp_path: Path) -> None:
    with files.whole(tmp_path / "net.onnx") as draft:
        draft.write_bytes(b"graph")
        draft.with_name("net.onnx.data").write_bytes(b"weights")
    assert sorted(os.listdir(tmp_path)) == ["net.onnx", "net.onnx.data"]


def test_a_folder_replaces_a_full_folder(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "stale").write_text("x")
    with files.whole(tmp_path / "m") as draft:
        draft.mkdir()
        (draft / "new").write_text("y")
    assert os.listdir(tmp_path / "m") == ["new"]


def test_stale_temporaries_of_dead_writers_are_swept(tmp_path: Path) -> None:
    (tmp_path / f"{files.TEMPORARY}999999999-x").mkdir()
    with files.whole(tmp_path / "a") as draft:
        draft.write_text("a")
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("target", ["missing/net.onnx", "folder"])
def test_impossible_targets_are_one_sentence(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(WriteError), files.whole(tmp_path / target) as draft:
        draft.write_text("x")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "", "link", "sub/../x", "a\\b", "hard", "nul\0"])
def test_data_files_stay_in_their_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_text("s")
    (folder / "link").symlink_to(tmp_path / "secret")
    os.link(tmp_path / "secret", folder / "hard")
    with pytest.raises(ReadError):
        files.beside(folder, name)


def test_a_plain_data_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"1")
    assert files.beside(tmp_path, "sub/w.bin").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("name", "content", "word"),
    [
        ("empty.onnx", b"", "empty"),
        ("page.h5", b"<!DOCTYPE html><html>", "HTML"),
        ("zip.onnx", b"PK\x03\x04 not really", "damaged zip"),
        ("cat.bin", b"\x89PNG\r\n\x1a\n....", "no format"),
    ],
)
def test_mislabelled_files_are_named_for_what_they_are(tmp_path: Path, name: str, content: bytes, word: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ReadError, match=word):
        detect(tmp_path / name)


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "resnet.onnx").write_bytes(b"x")
    with pytest.raises(ReadError) as caught:
        detect(tmp_path / "resnt.onnx")
    assert "resnet.onnx" in str(caught.value.next)


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ReadError, match="no regular file"):
        detect(tmp_path / "pipe")
