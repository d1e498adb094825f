import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.decomposition import PCA
from sklearn.metrics import roc_auc_score

from skanomaly import SubspaceAD, save
from skanomaly.datasets import load_mvtec_ad, make_texture_defects
from skanomaly.features import PrincipalSubspace


def vectors(n, d=12, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n, d)) @ (rng.normal(size=(d, d)) * np.geomspace(1, 0.05, d))
    return torch.from_numpy(mixed + offset).float()


def subspace_of(batches, **parameters):
    subspace = PrincipalSubspace(batches[0].shape[1], **parameters)
    for batch in batches:
        subspace.update(batch)
    return subspace


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=2, max_size=6),
    share=st.sampled_from([0.5, 0.9, 0.99]),
    offset=st.sampled_from([0.0, 100.0]),
    seed=st.integers(0, 9),
)
def test_distance_is_that_from_the_principal_components(sizes, share, offset, seed):
    x, new = vectors(sum(sizes) + 20, offset=offset, seed=seed), vectors(30, seed=seed + 1)
    subspace = subspace_of(x.split([*sizes, 20]), explained_variance=share)
    pca = PCA(svd_solver="full").fit(x.double().numpy())
    n = min(1 + int((np.cumsum(pca.explained_variance_ratio_) < share - 1e-9).sum()), 11)
    r = new.double().numpy() - pca.mean_
    r = r - r @ pca.components_[:n].T @ pca.components_[:n]
    expected = np.linalg.norm(r, axis=1)
    assert_allclose(subspace(new), expected, rtol=1e-3, atol=1e-3 * (1 + offset / 10))


def test_parts_are_the_whole():
    x = vectors(200)
    whole, (first, *others) = subspace_of([x]), [subspace_of([p]) for p in x.split([7, 1, 92, 100])]
    for other in others:
        first.absorb(other)
    assert first.n_seen == whole.n_seen
    assert_allclose(first.mean, whole.mean, rtol=1e-12)
    assert_allclose(first.scatter, whole.scatter, rtol=1e-9, atol=1e-9)


def test_groups_are_brought_to_a_total_variance_of_one():
    x = vectors(300, d=6)
    x[:, 3:] *= 1000
    scaled = subspace_of([x], groups=[3, 3], explained_variance=0.6)
    by_hand = torch.cat([part / part.var(dim=0).sum().sqrt() for part in x.split(3, dim=1)], dim=1)
    expected = subspace_of([by_hand], explained_variance=0.6)
    assert_allclose(scaled(x), expected(by_hand), rtol=1e-3)


def test_vectors_that_are_all_equal_have_no_distance():
    x = torch.ones(10, 4)
    assert_allclose(subspace_of([x])(x), 0)


def test_the_file_is_small(tmp_path):
    X = make_texture_defects("brick", n_normal=6, image_size=64, random_state=0).images
    detector = SubspaceAD(image_size=64, random_state=0)
    with pytest.warns(match="6 normal images that had not"):
        detector.fit(X)
    save(detector, tmp_path / "whole.skanomaly")
    network = sum(t.nbytes for t in detector.encoder_.network.state_dict().values())
    assert os.path.getsize(tmp_path / "whole.skanomaly") - network < 2**20


def test_bottle(mvtec_root):
    train = load_mvtec_ad(mvtec_root, "bottle", split="train")
    test = load_mvtec_ad(mvtec_root, "bottle", split="test")
    detector = SubspaceAD(image_size=128, layers=(2, 3), random_state=0).fit(train.images[:80])
    assert roc_auc_score(test.target[::3], detector.score_samples(test.images[::3])) > 0.97
