"""Temporary files that are allocated first and leave nothing behind."""

import errno
import os
import resource
import subprocess
import sys
import tempfile

import numpy as np
import pytest
import torch

from skanomaly.exceptions import DiskSpaceError
from skanomaly.images import ImageDataset, _spill, allocated_array
from skanomaly.images._spill import TensorFile, allocated_file

X = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def small_disk(folder):
    """Files end at 16 KiB, with the error that a full disk gives."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, limits[1]))
    yield folder
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_space_is_taken_at_once(folder):
    with allocated_file(2**20 + 3) as file:
        found = os.fstat(file.fileno())
        assert found.st_size == 2**20 + 3
        assert 512 * found.st_blocks >= found.st_size
        assert list(folder.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL])
def test_space_is_taken_where_the_disk_cannot_allocate(folder, monkeypatch, code):
    def fallocate(*_):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", fallocate)
    with allocated_file(2**20 + 3) as file:
        found = os.fstat(file.fileno())
        assert found.st_size == 2**20 + 3
        assert 512 * found.st_blocks >= found.st_size
        assert file.tell() == 0


def test_an_array_is_written_and_read(folder):
    array = allocated_array((3, 4, 5))
    assert (array.shape, array.dtype) == ((3, 4, 5), np.float32)
    array[:] = np.arange(60).reshape(3, 4, 5)
    np.testing.assert_array_equal(array.ravel(), np.arange(60))
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("use", [allocated_file, lambda n: allocated_array((n // 4,)), TensorFile])
def test_a_full_disk_is_an_error_that_names_the_folder(use, small_disk):
    with pytest.raises(DiskSpaceError, match="do not fit into memory.*TMPDIR") as caught:
        use(2**20)
    assert str(small_disk) in str(caught.value)
    assert list(small_disk.iterdir()) == []


def test_a_full_disk_where_space_cannot_be_allocated(small_disk, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    with pytest.raises(DiskSpaceError):
        allocated_file(2**20)


@pytest.mark.parametrize("image_size", [None, 32])
def test_training_images_on_a_full_disk(image_size, small_disk):
    dataset = ImageDataset(X, image_size=image_size)
    with pytest.raises(DiskSpaceError, match="TMPDIR"):
        list(dataset.in_memory(batch_size=2, max_bytes=1))


def test_space_for_all_is_taken_before_most_are_read(small_disk, monkeypatch):
    dataset, read = ImageDataset(X.repeat(20, axis=0), image_size=32), []
    seen = dataset._seen
    monkeypatch.setattr(dataset, "_seen", lambda i: read.append(i) or seen(i))
    with pytest.raises(DiskSpaceError):
        dataset.in_memory(batch_size=1, max_bytes=1)
    assert len(read) < 10


def test_tensors_of_several_shapes(folder):
    tensors = [torch.rand(3, 4), torch.rand(2), torch.rand(1, 2, 3).transpose(0, 2)]
    file = TensorFile()
    for tensor in tensors:
        file.append(tensor)
    for found, tensor in zip(file, tensors, strict=True):
        assert torch.equal(found, tensor)
    file[0].zero_()  # which is the caller's own
    assert torch.equal(file[0], tensors[0])
    with pytest.raises(IndexError, match="there are 3 tensors"):
        file[3]


KILLED = """
import os, signal, sys, tempfile
import numpy as np
from skanomaly.images import ImageDataset, allocated_array
tempfile.tempdir = sys.argv[1]
kept = ImageDataset(np.zeros((4, 8, 8))).in_memory(max_bytes=1), allocated_array((1000,))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_nothing_is_left_after_a_kill(folder):
    run = subprocess.run([sys.executable, "-c", KILLED, folder], check=False)
    assert run.returncode == -9
    assert list(folder.iterdir()) == []


def test_a_folder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(DiskSpaceError, match="missing"):
        _spill.allocated_file(1)
