import gzip
import io
import os
import pickle
import struct

import numpy as np
import pytest

from skanomaly.datasets import load_one_class
from skanomaly.exceptions import InvalidImageError

IDX_NAMES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
SPLITS = ("train", "test")
every_split = pytest.mark.parametrize("split", SPLITS)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def idx(array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


# What the files hold: each class at least once in either split.
DIGITS = {
    "train": (noise(23, 28, 28), np.arange(23, dtype=np.uint8) % 10),
    "test": (noise(12, 28, 28, seed=1), np.arange(12, dtype=np.uint8)[::-1] % 10),
}
PICTURES = {
    "train": (noise(25, 32, 32, 3, seed=2), np.arange(25, dtype=np.uint8)[::-1] % 10),
    "test": (noise(12, 32, 32, 3, seed=3), np.arange(12, dtype=np.uint8) % 10),
}


@pytest.fixture(params=["", ".gz"], ids=["plain", "gzipped"])
def digits(request, tmp_path):
    """A folder of IDX files."""
    for split in SPLITS:
        for name, array in zip(IDX_NAMES[split], DIGITS[split]):
            write(tmp_path / f"{name}{request.param}", idx(array))
    return tmp_path


class Python2Pickler(pickle._Pickler):
    """Writes bytes and str as Python 2 did, whose strings were both."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        data = text if isinstance(text, bytes) else text.encode("ascii")
        self.write(pickle.BINSTRING + struct.pack("<i", len(data)) + data)
        self.memoize(text)

    dispatch[bytes] = dispatch[str] = save_string


def dumps_python2(batch):
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(batch)
    return file.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def planes(images):
    """The red, green and blue plane of each image, one after the other."""
    return np.concatenate([images[..., c].reshape(len(images), 1024) for c in range(3)], axis=1)


def pickled_batch(images, labels, dumps=dumps_python2, order="C"):
    data = np.array(planes(images), order=order)
    return dumps({"batch_label": "batch", "labels": labels.tolist(), "data": data, "filenames": []})


def fortran_batch(images, labels):
    return pickled_batch(images, labels, order="F")


def binary_batch(images, labels):
    return np.column_stack([labels, planes(images)]).tobytes()


def write_pictures(folder, batch, suffix=""):
    images, labels = PICTURES["train"]
    for i in range(5):
        part = slice(5 * i, 5 * i + 5)
        write(folder / f"data_batch_{i + 1}{suffix}", batch(images[part], labels[part]))
    write(folder / f"test_batch{suffix}", batch(*PICTURES["test"]))


CIFAR_VERSIONS = {
    "binary": ("", binary_batch, ".bin"),
    "binary, unpacked": ("cifar-10-batches-bin", binary_batch, ".bin"),
    "python": ("", pickled_batch, ""),
    "python, unpacked": ("cifar-10-batches-py", pickled_batch, ""),
    "python, column by column": ("", fortran_batch, ""),
}


@pytest.fixture(params=CIFAR_VERSIONS.values(), ids=CIFAR_VERSIONS)
def pictures(request, tmp_path):
    """A folder of CIFAR-10's files."""
    folder, batch, suffix = request.param
    write_pictures(tmp_path / folder, batch, suffix)
    return tmp_path


def assert_one_class(bunch, images, labels, normal, split):
    chosen = labels == normal if split == "train" else np.ones(len(labels), bool)
    np.testing.assert_array_equal(bunch.images, images[chosen])
    assert bunch.images.dtype == np.uint8
    assert bunch.images.flags.c_contiguous
    assert bunch.images.flags.writeable
    assert bunch.classes.tolist() == labels[chosen].tolist()
    assert bunch.target.tolist() == [1 if label == normal else -1 for label in labels[chosen]]
    assert bunch.target.dtype.kind == bunch.classes.dtype.kind == "i"
    assert bunch.masks is None
    assert bunch.defect_types.tolist() == [
        "good" if label == normal else bunch.class_names[label] for label in labels[chosen]
    ]


# What is read ---------------------------------------------------------------------------


@every_split
@pytest.mark.parametrize("normal_class", [0, 3, 9])
def test_mnist(digits, split, normal_class):
    bunch = load_one_class("mnist", normal_class, digits, split=split)
    assert_one_class(bunch, *DIGITS[split], normal_class, split)
    assert bunch.class_names == list("0123456789")


@every_split
def test_fashion_mnist(digits, split):
    bunch = load_one_class("fashion_mnist", "Ankle boot", digits, split=split)
    assert_one_class(bunch, *DIGITS[split], 9, split)
    assert bunch.class_names[:2] == ["T-shirt/top", "Trouser"]


@every_split
def test_cifar10(pictures, split):
    bunch = load_one_class("cifar10", "bird", pictures, split=split)
    assert_one_class(bunch, *PICTURES[split], 2, split)
    assert bunch.class_names[2:4] == ["bird", "cat"]


def test_python_version_is_what_python_reads():
    images, labels = PICTURES["test"]
    batch = pickle.loads(pickled_batch(images, labels), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], planes(images))
    assert batch[b"labels"] == labels.tolist()


def test_training_split_is_the_default(digits):
    assert (load_one_class("mnist", 3, digits).target == 1).all()


def test_name_and_number_are_the_same_class(pictures):
    by_name = load_one_class("cifar10", "truck", str(pictures))
    by_number = load_one_class("cifar10", np.int64(9), pictures)
    np.testing.assert_array_equal(by_name.images, by_number.images)


def test_plain_and_gzipped_files_may_be_mixed(tmp_path):
    images, labels = DIGITS["test"]
    write(tmp_path / "t10k-images-idx3-ubyte.gz", idx(images))
    write(tmp_path / "t10k-labels-idx1-ubyte", idx(labels))
    np.testing.assert_array_equal(load_one_class("mnist", 0, tmp_path, split="test").images, images)


def test_complete_version_beside_an_incomplete_one(tmp_path):
    write_pictures(tmp_path, binary_batch, ".bin")
    write_pictures(tmp_path, pickled_batch)
    (tmp_path / "data_batch_3.bin").unlink()
    np.testing.assert_array_equal(
        load_one_class("cifar10", 0, tmp_path).images,
        PICTURES["train"][0][PICTURES["train"][1] == 0],
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mnist", ["MNIST, class 3 as normal, test split: 12 images, 1 of them", "CC BY-SA 3.0"]),
        ("fashion_mnist", ["Fashion-MNIST, class Dress as normal", "1708.07747", "Licence MIT"]),
    ],
)
def test_description(digits, name, said):
    descr = load_one_class(name, 3, digits, split="test").DESCR
    assert all(part in descr for part in said)


def test_description_of_cifar10(tmp_path):
    write_pictures(tmp_path, binary_batch, ".bin")
    descr = load_one_class("cifar10", 3, tmp_path).DESCR
    assert "CIFAR-10, class cat as normal, train split: 3 images, 3 of them normal" in descr
    assert "Krizhevsky" in descr


def test_real_mnist(shared):
    train = load_one_class("mnist", 3, shared / "data" / "mnist")
    test = load_one_class("mnist", 3, shared / "data" / "mnist", split="test")
    assert train.images.shape == (6131, 28, 28)
    assert test.images.shape == (10000, 28, 28)
    assert (test.target == 1).sum() == 1010
    assert np.unique(test.defect_types).tolist() == [*"012456789", "good"]


# Parameters -----------------------------------------------------------------------------


def test_unknown_name(tmp_path):
    with pytest.raises(ValueError, match="'mnist', 'fashion_mnist', 'cifar10', got 'svhn'"):
        load_one_class("svhn", 3, tmp_path)


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match='must be "train" or "test", got \'val\''):
        load_one_class("mnist", 3, tmp_path, split="val")


@pytest.mark.parametrize("normal_class", [10, -1, 3.0, None, "3"])
def test_unknown_number(tmp_path, normal_class):
    with pytest.raises(ValueError, match=f"int from 0 to 9, got {normal_class!r}"):
        load_one_class("mnist", normal_class, tmp_path)


def test_unknown_class_name(tmp_path):
    with pytest.raises(ValueError, match="0 to 9 or one of 'airplane', .* 'truck', got 'plane'"):
        load_one_class("cifar10", "plane", tmp_path)


# Files ----------------------------------------------------------------------------------


def assert_refused(path, match, name="mnist", root=None):
    with pytest.raises(InvalidImageError, match=match) as caught:
        load_one_class(name, 3, root or path.parent)
    assert caught.value.path == str(path)


@pytest.fixture
def plain_digits(tmp_path):
    for split in SPLITS:
        for name, array in zip(IDX_NAMES[split], DIGITS[split]):
            write(tmp_path / name, idx(array))
    return tmp_path


@pytest.fixture
def labels_path(plain_digits):
    return plain_digits / "train-labels-idx1-ubyte"


@pytest.fixture
def images_path(plain_digits):
    return plain_digits / "train-images-idx3-ubyte"


@pytest.fixture
def binary_path(tmp_path):
    write_pictures(tmp_path, binary_batch, ".bin")
    return tmp_path / "data_batch_3.bin"


@pytest.fixture
def pickle_path(tmp_path):
    write_pictures(tmp_path, pickled_batch)
    return tmp_path / "data_batch_3"


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_missing_folder(tmp_path, name):
    missing = tmp_path / "missing"
    assert_refused(missing, "not a folder; check the path", name, root=missing)


def test_missing_idx_file(labels_path):
    labels_path.unlink()
    assert_refused(
        labels_path.parent,
        r"lacks train-labels-idx1-ubyte; or train-labels-idx1-ubyte\.gz; put",
        root=labels_path.parent,
    )


def test_no_cifar_file(tmp_path):
    assert_refused(
        tmp_path,
        r"lacks data_batch_1\.bin, .*; or cifar-10-batches-bin/data_batch_1\.bin, .*; "
        r"or data_batch_1, .*; or cifar-10-batches-py/data_batch_1, .*data_batch_5; put",
        "cifar10",
        root=tmp_path,
    )


def test_missing_cifar_batch_is_the_one_named(binary_path):
    binary_path.unlink()
    folder = binary_path.parent
    assert_refused(folder, r"the folder lacks data_batch_3\.bin; put", "cifar10", root=folder)


@pytest.mark.parametrize("damage", [lambda d: d[:-20], lambda d: d[:5], lambda d: d[:40] + d[45:]])
def test_damaged_gzip(images_path, damage):
    path = images_path.with_suffix(".gz")
    path.write_bytes(damage(gzip.compress(images_path.read_bytes())))
    images_path.unlink()
    assert_refused(path, "damaged, cut short or not gzipped")


def test_gz_that_is_not_gzipped(images_path):
    path = images_path.rename(images_path.with_suffix(".gz"))
    assert_refused(path, "not gzipped .*; download it again")


def test_images_and_labels_mixed_up(images_path, labels_path):
    images_path.write_bytes(labels_path.read_bytes())
    assert_refused(images_path, "begins with 00000801, expected the magic number 00000803")


def test_idx_of_another_type(labels_path):
    labels_path.write_bytes(b"\0\0\x0d\1" + labels_path.read_bytes()[4:])
    assert_refused(labels_path, "begins with 00000d01, expected the magic number 00000801")


def test_empty_idx_file(labels_path):
    labels_path.write_bytes(b"")
    assert_refused(labels_path, "begins with nothing")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d[:-1], "announces 23 x 28 x 28 bytes, 18031 follow"),
        (lambda d: d + b"\0", "announces 23 x 28 x 28 bytes, 18033 follow"),
        (lambda d: d[:7], r"announces .* bytes, 0 follow"),
        (lambda d: d[:4] + b"\xff" * 12, "announces 4294967295 x 4294967295 x"),
    ],
    ids=["cut short", "too long", "no header", "huge"],
)
def test_idx_size_and_bytes_differ(images_path, change, match):
    images_path.write_bytes(change(images_path.read_bytes()))
    assert_refused(images_path, match)


def test_idx_images_of_another_size(images_path):
    images_path.write_bytes(idx(noise(23, 30, 28)))
    assert_refused(images_path, "are 30 x 28 pixels, expected 28 x 28")


def test_fewer_labels_than_images(labels_path):
    labels_path.write_bytes(idx(DIGITS["train"][1][:-1]))
    assert_refused(labels_path, "holds 22 labels for 23 images; take both from the same")


@pytest.mark.parametrize("unknown", [10, 255])
def test_label_out_of_range(labels_path, unknown):
    labels = DIGITS["train"][1].copy()
    labels[4] = unknown
    labels_path.write_bytes(idx(labels))
    assert_refused(labels_path, f"label 4 is {unknown}, expected 0 to 9")


@pytest.mark.parametrize(
    ("change", "found"), [(lambda d: d[:-1], 15364), (lambda d: b"", 0)], ids=["cut", "empty"]
)
def test_binary_batch_cut_short(binary_path, change, found):
    binary_path.write_bytes(change(binary_path.read_bytes()))
    assert_refused(binary_path, f"holds {found} bytes, expected a multiple of 3073", "cifar10")


def batch_of(unknown=None, n_labels=5):
    images, labels = PICTURES["train"][0][:5], np.arange(n_labels)
    if unknown is not None:
        labels[2] = unknown
    return images, labels


def test_binary_label_out_of_range(binary_path):
    images, labels = batch_of(unknown=77)
    binary_path.write_bytes(binary_batch(images, labels.astype(np.uint8)))
    assert_refused(binary_path, "label 2 is 77, expected 0 to 9", "cifar10")


@pytest.mark.parametrize("unknown", [-1, 10])
def test_pickled_label_out_of_range(pickle_path, unknown):
    pickle_path.write_bytes(pickled_batch(*batch_of(unknown=unknown)))
    assert_refused(pickle_path, f"label 2 is {unknown}, expected 0 to 9", "cifar10")


def test_pickled_labels_and_images_differ_in_number(pickle_path):
    pickle_path.write_bytes(pickled_batch(*batch_of(n_labels=4)))
    assert_refused(pickle_path, "holds 4 labels for 5 images", "cifar10")


PIXELS = np.zeros((5, 3072), np.uint8)
LABELS = [0] * 5


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        ([], "TypeError"),
        ({"data": PIXELS}, "KeyError: b'labels'"),
        ({"data": [1, 2], "labels": LABELS}, "AttributeError"),
        ({"data": PIXELS[:, 1:], "labels": LABELS}, r"shape \(5, 3071\), expected \(n, 3072\)"),
        ({"data": PIXELS.astype("i1"), "labels": LABELS}, "dtype b'i1', expected 'u1'"),
        ({"data": PIXELS, "labels": [0.5] * 5}, "TypeError: 'float' object"),
    ],
    ids=["list", "no labels", "data no array", "CIFAR of another shape", "signed", "fractions"],
)
def test_pickle_of_something_else(pickle_path, batch, match):
    pickle_path.write_bytes(dumps_python2(batch))
    assert_refused(pickle_path, match, "cifar10")


def test_pickle_cut_short_anywhere(pickle_path):
    whole = pickle_path.read_bytes()
    for length in [*range(300), *range(300, len(whole), 501), len(whole) - 1]:
        pickle_path.write_bytes(whole[:length])
        assert_refused(pickle_path, "damaged or not of CIFAR-10's python version", "cifar10")


class Malicious:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "around",
    [
        lambda evil: evil,
        lambda evil: {"data": evil, "labels": LABELS},
        lambda evil: {"data": PIXELS, "labels": [evil]},
        lambda evil: {"data": np.array([evil], dtype=object), "labels": LABELS},
    ],
    ids=["batch", "data", "labels", "array"],
)
def test_pickle_runs_nothing(pickle_path, tmp_path, around):
    made = tmp_path / "made"
    data = pickle.dumps(around(Malicious(str(made))), protocol=4)
    pickle_path.write_bytes(data)
    assert_refused(pickle_path, r"asks for \w+\.mkdir, which no array needs", "cifar10")
    assert not made.exists()
    pickle.loads(data)
    assert made.is_dir()  # it would have


@pytest.mark.parametrize("name", ["numpy.load", "numpy.fromfile", "builtins.eval", "copyreg.foo"])
def test_pickle_that_asks_for_more_than_arrays(pickle_path, name):
    module, function = name.rsplit(".", 1)
    pickle_path.write_bytes(f"c{module}\n{function}\n.".encode())
    assert_refused(pickle_path, f"asks for {name}", "cifar10")
