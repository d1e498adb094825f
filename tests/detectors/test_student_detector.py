import numpy as np
import pytest
import torch
from conftest import split_of

from skanomaly import MKD, STFPM
from skanomaly.detectors._student_detector import Lessons
from skanomaly.features import FeatureDataset, FeaturePyramid
from skanomaly.images import ImageDataset


def lessons_on(X, max_bytes=2**30):
    images = ImageDataset(X)
    pyramid = FeaturePyramid(n_channels=images.n_channels)
    return Lessons(images.in_memory(max_bytes=max_bytes), pyramid.extract(images)), pyramid


@pytest.mark.parametrize("max_bytes", [2**30, 1], ids=["memory", "file"])
def test_a_lesson_pairs_images_with_the_teachers_features_of_them(textures, max_bytes):
    X = textures[0].images[:6]
    lessons, pyramid = lessons_on(X, max_bytes)
    pixels, features = Lessons.collate(lessons.__getitems__([4, 1]))
    expected = torch.from_numpy(X[[4, 1], None] / np.float32(255))
    torch.testing.assert_close(pixels, expected)
    for found, f in zip(features, pyramid(expected), strict=True):
        torch.testing.assert_close(found, f)
    assert len(lessons) == 6


def test_lessons_belong_to_their_images_and_teacher(textures):
    one, other = (lessons_on(textures[0].images[:n])[0] for n in (2, 3))
    assert one.digest() == lessons_on(textures[0].images[:2])[0].digest()
    assert one.digest() != other.digest()


@pytest.mark.parametrize("cls", [STFPM, MKD])
def test_the_teacher_looks_at_each_image_once(cls, textures, monkeypatch):
    seen, compute = [], FeaturePyramid._compute

    def counted(pyramid, x):
        seen.append(len(x))
        return compute(pyramid, x)

    monkeypatch.setattr(FeaturePyramid, "_compute", counted)
    detector = cls(image_size=64, max_epochs=3, random_state=0)
    X = textures[0].images[:10]
    n_held_out = len(split_of(detector, len(X))[1])
    detector._fit_images(*opened(detector, X, n_held_out))
    assert sum(seen) == len(X)


def opened(detector, X, n_held_out):
    detector.n_channels_in_ = 1
    return detector._open(X[n_held_out:]), detector._open(X[:n_held_out])


def test_features_are_a_feature_dataset(textures):
    assert isinstance(lessons_on(textures[0].images[:2])[0].features, FeatureDataset)
