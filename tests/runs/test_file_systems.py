"""File systems without hard links, locks or fsync, such as exFAT, NFS and FUSE."""

import errno
import fcntl
import os
import stat

import pytest

from ibrl_torchrl.errors import UsageError
from ibrl_torchrl.files import atomic_path, link_or_copy, write_json
from ibrl_torchrl.runs.folder import lock_folder
from ibrl_torchrl.runs.tables import CsvTable


def answering(code):
    def fail(*arguments, **settings):
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_second_name_is_a_copy_without_hard_links(tmp_path, monkeypatch, code):
    (path := tmp_path / "checkpoint.pt").write_text("first")
    link_or_copy(path, name := tmp_path / "previous.pt")
    assert path.stat().st_ino == name.stat().st_ino
    monkeypatch.setattr(os, "link", answering(code))
    path.unlink()
    path.write_text("second")
    link_or_copy(path, name)
    assert name.read_text() == "second" and path.stat().st_ino != name.stat().st_ino
    assert len([*tmp_path.iterdir()]) == 2


def test_a_full_disk_is_reported_where_a_second_name_is_made(tmp_path, monkeypatch):
    (path := tmp_path / "a").write_text("x")
    monkeypatch.setattr(os, "link", answering(errno.ENOSPC))
    with pytest.raises(UsageError, match="free some space"):
        link_or_copy(path, tmp_path / "b")


def test_files_are_written_without_fsync(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", answering(errno.EINVAL))
    write_json(tmp_path / "a.json", {"a": 1})
    table = CsvTable(tmp_path / "t.csv", ["a"])
    table.write({"a": 1})
    assert table.sync() == (tmp_path / "t.csv").stat().st_size
    table.close()
    assert (tmp_path / "a.json").read_text().startswith("{")


def test_a_disk_that_fails_is_not_taken_for_one_without_fsync(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", answering(errno.EIO))
    with pytest.raises(OSError, match="Input/output"), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert not [*tmp_path.iterdir()]


def test_the_folder_is_flushed_after_the_rename(tmp_path, monkeypatch):
    flushed = []
    original = os.fsync

    def record(descriptor):
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        flushed.append((is_folder, (tmp_path / "a").exists()))
        original(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("x")
    assert flushed == [(False, False), (True, True)]


def test_folders_without_locks_are_used_with_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fcntl, "flock", answering(errno.ENOLCK))
    with lock_folder(tmp_path / "run"):
        pass
    assert "its file system has no locks" in capsys.readouterr().out
    monkeypatch.setattr(fcntl, "flock", answering(errno.EWOULDBLOCK))
    with pytest.raises(UsageError, match="locked by another"), lock_folder(tmp_path / "run"):
        pass
