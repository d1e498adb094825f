import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest

from skanomaly import _atomic
from skanomaly._atomic import replaced

needs_posix = pytest.mark.skipif(os.name != "posix", reason="links, modes and pipes of POSIX")


def write(path, content=b"new"):
    with replaced(path) as file:
        file.write(content)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_there_stays_until_all_is_written(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replaced(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [b"old", None])
def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path, error, old):
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail():
        with replaced(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([] if old is None else [old])


@pytest.mark.parametrize("given", [str, bytes, os.PathLike])
def test_names_of_any_kind(tmp_path, monkeypatch, given):
    monkeypatch.chdir(tmp_path)
    write({str: "a", bytes: b"a", os.PathLike: tmp_path / "a"}[given])
    assert (tmp_path / "a").read_bytes() == b"new"


@needs_posix
@pytest.mark.parametrize("name", ["x" * 255, os.fsdecode(b"\xff\n "), "-", "~", "a.part"])
def test_odd_names(tmp_path, name):
    write(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


# Modes and owners.


@needs_posix
@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "file")
    finally:
        os.umask(before)
    assert mode(tmp_path / "file") == 0o666 & ~umask


@needs_posix
@pytest.mark.parametrize("given", [0o600, 0o644, 0o664, 0o755])
def test_a_file_that_was_there_passes_on_its_mode(tmp_path, given):
    path = tmp_path / "file"
    path.touch()
    path.chmod(given)
    with replaced(path) as file:  # nobody may read the new file who might not read the old one
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == given
    assert mode(path) == given


@needs_posix
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root may give away")
def test_a_file_that_was_there_passes_on_its_owner(tmp_path):
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 12345, 54321)
    write(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


# Links, devices and pipes.


@needs_posix
@pytest.mark.parametrize("link_to", ["real/file", "{tmp}/real/file", "second"])
@pytest.mark.parametrize("old", [b"old", None])
def test_links_stay_and_their_target_is_replaced(tmp_path, link_to, old):
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "file", tmp_path / "link"
    if old is not None:
        target.write_bytes(old)
    (tmp_path / "second").symlink_to("real/file")
    link.symlink_to(link_to.format(tmp=tmp_path))
    write(link)
    assert link.is_symlink()
    assert (tmp_path / "second").is_symlink()
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path / "real") == ["file"]


@needs_posix
def test_a_linked_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link" / ".." / "real" / "file")
    write(tmp_path / "link" / "other")
    assert sorted(os.listdir(tmp_path / "real")) == ["file", "other"]


@needs_posix
def test_links_in_a_circle(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="links lead in a circle.*remove"):
        write(tmp_path / "a")


@needs_posix
def test_devices_are_written_to_and_stay(tmp_path):
    (tmp_path / "link").symlink_to(os.devnull)
    for path in (os.devnull, tmp_path / "link"):
        write(path)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    assert os.listdir(tmp_path) == ["link"]


@needs_posix
def test_a_pipe_is_written_to_and_stays(tmp_path):
    path, read = tmp_path / "pipe", []
    os.mkfifo(path)
    reader = threading.Thread(target=lambda: read.append(path.read_bytes()))
    reader.start()
    write(path)
    reader.join()
    assert read == [b"new"]
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="needs /dev/stdout")
@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to_file", [True, False])
def test_standard_output_goes_on_where_it_was(tmp_path, name, to_file):
    if not os.path.exists(os.path.dirname(name)):
        pytest.skip(f"there is no {name}")
    code = (
        "import os, runpy, sys; replaced = runpy.run_path(sys.argv[1])['replaced']\n"
        "os.write(1, b'before ')\n"
        "with replaced(sys.argv[2]) as file: file.write(b'new ')\n"
        "os.write(1, b'after')"
    )
    command = [sys.executable, "-c", code, _atomic.__file__, name]
    if to_file:
        with open(tmp_path / "out", "wb") as out:
            subprocess.run(command, stdout=out, check=True)
        found = (tmp_path / "out").read_bytes()
    else:
        found = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    assert found == b"before new after"
    assert os.path.islink(name)


# What cannot be written is said before anything is done.


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("none/file", FileNotFoundError, "no such folder, to write file into.*none"),
        ("file/file", NotADirectoryError, "is a file, to write file into.*file"),
        ("folder", IsADirectoryError, "is a folder; add the name of a file.*folder"),
        ("folder/", IsADirectoryError, "name of a file is expected.*folder/"),
        ("", IsADirectoryError, "name of a file is expected"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, error, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    work = []
    with (
        pytest.raises(error, match=message),
        replaced(f"{tmp_path}/{name}" if name else ""),
    ):
        work.append(1)
    assert not work
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_file_that_is_protected_stays(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, kind: kind != os.W_OK)  # root may all
    with pytest.raises(PermissionError, match="may not be written to.*file"):
        write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"


def test_a_folder_that_is_protected(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "a name that the user has not chosen")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError, match="no file may be made in the folder.*write .*/file"):
        write(tmp_path / "file")


# Many at once, and sudden ends.


def test_threads_that_write_the_same_file_leave_one_whole(tmp_path):
    contents = [bytes([65 + i]) * 100_000 for i in range(8)]
    threads = [
        threading.Thread(target=write, args=(tmp_path / "file", content)) for content in contents
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "file").read_bytes() in contents
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_kills_leave_the_old_or_the_new_file(tmp_path):
    path, size = tmp_path / "file", 2_000_000
    code = (
        "import runpy, sys; replaced = runpy.run_path(sys.argv[1])['replaced']\n"
        "while True:\n"
        "    for letter in (b'a', b'b'):\n"
        "        with replaced(sys.argv[2]) as file:\n"
        f"            for _ in range(20): file.write(letter * {size // 20})\n"
    )
    rng, found = random.Random(0), []
    for _ in range(10):
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", code, _atomic.__file__, path])
        while not path.exists():
            time.sleep(0.001)
            assert process.poll() is None
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.wait()
        found.append(path.read_bytes())
    assert all(content in (b"a" * size, b"b" * size) for content in found)
