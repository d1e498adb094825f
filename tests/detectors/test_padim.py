import copy
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_equal
from scipy import ndimage
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import oas
from sklearn.metrics import roc_auc_score

from skanomaly import InvalidImageError, PaDiM
from skanomaly.datasets import load_mvtec_ad
from skanomaly.features import FeaturePyramid, PositionwiseGaussian

N_POSITIONS, D = 3, 6


def vectors(n, d=D, offset=0.0, seed=0):
    """Correlated vectors, other ones at each position, (n, N_POSITIONS, d)."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(N_POSITIONS, d, d)) * np.geomspace(1, 0.1, d)
    x = np.einsum("pij,npj->npi", mixing, rng.normal(size=(n, N_POSITIONS, d)))
    return torch.from_numpy(x + offset).float()


def gaussian_of(x, sizes=None, **parameters):
    """What is known after the vectors were seen in batches of these sizes."""
    gaussian = PositionwiseGaussian(*x.shape[1:], **parameters)
    for batch in x.split(sizes or [len(x)]):
        gaussian.update(batch)
    return gaussian


def covariances(x):
    """The unbiased ones, in float64."""
    return np.stack([np.cov(x[:, p].double().numpy(), rowvar=False) for p in range(x.shape[1])])


@settings(max_examples=50, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=8),
    offset=st.sampled_from([0.0, 1e4]),
    seed=st.integers(0, 9),
)
def test_batches_give_the_mean_and_covariance_of_all_at_once(sizes, offset, seed):
    """Far from zero too, where sums of squares would leave no digit of the covariance."""
    x = vectors(sum(sizes), offset=offset, seed=seed)
    gaussian = gaussian_of(x, sizes, regularization=1e-9, shrinkage=0.0)
    assert gaussian.n_seen == sum(sizes)
    assert_allclose(gaussian.mean, x.double().mean(dim=0), rtol=1e-6, atol=1e-5)
    assert_allclose(gaussian.covariance(), covariances(x), atol=1e-4 + 1e-6 * offset)


def test_regularization_is_added_to_the_diagonal():
    x = vectors(30)
    sigma = gaussian_of(x, regularization=0.3, shrinkage=0.0).covariance()
    assert_allclose(sigma, covariances(x) + 0.3 * np.eye(D), atol=1e-4)


def test_one_vector_has_the_regularization_for_a_covariance():
    sigma = gaussian_of(vectors(1), regularization=0.3).covariance()
    assert_allclose(sigma, [0.3 * np.eye(D)] * N_POSITIONS, rtol=1e-6)


def shrunk(sigma, rho):
    return (1 - rho) * sigma + rho * np.trace(sigma) / len(sigma) * np.eye(len(sigma))


@pytest.mark.parametrize("n", [3, D - 1, D, D + 1, 30])
def test_auto_shrinkage_is_oas(n):
    x = vectors(n)
    rhos = [oas(x[:, p].double().numpy())[1] for p in range(N_POSITIONS)]
    expected = [shrunk(sigma, rho) for sigma, rho in zip(covariances(x), rhos)]
    assert_allclose(gaussian_of(x, regularization=1e-9).covariance(), expected, atol=1e-4)


@pytest.mark.parametrize("n", [3, 30])
@pytest.mark.parametrize("rho", [0.0, 0.3, 1.0])
def test_shrinkage_of_a_given_share(n, rho):
    x = vectors(n)
    expected = [shrunk(sigma, rho) for sigma in covariances(x)]
    sigma = gaussian_of(x, regularization=1e-9, shrinkage=rho).covariance()
    assert_allclose(sigma, expected, atol=1e-4)


@pytest.mark.parametrize("n", [3, 30])
def test_distances_are_mahalanobis(n):
    gaussian, x = gaussian_of(vectors(n)), vectors(4, seed=1)
    inverses = np.linalg.inv(gaussian.covariance().double().numpy())
    expected = [
        [
            mahalanobis(x[i, p].numpy(), gaussian.mean[p].numpy(), inverses[p])
            for p in range(N_POSITIONS)
        ]
        for i in range(4)
    ]
    assert_allclose(gaussian(x), expected, rtol=1e-3)
    assert_allclose(torch.cat([gaussian(x[:1]), gaussian(x[1:])]), expected, rtol=1e-3)


def test_distances_follow_an_update():
    seen, x = vectors(20), vectors(4, seed=1)
    gaussian = gaussian_of(seen[:10])
    early = gaussian(x)
    gaussian.update(seen[10:])
    assert_allclose(gaussian(x), gaussian_of(seen)(x), rtol=1e-3)
    assert not np.allclose(gaussian(x), early, rtol=0.1)


def small(**parameters):
    return PaDiM(**{"n_features": 20, "image_size": 64, "random_state": 0, **parameters})


@pytest.fixture(scope="module")
def fitted(textures):
    """A detector fitted on `textures`; tests must not change it."""
    return small().fit(textures[0].images)


def as_pixels(X):
    return torch.from_numpy(X[:, None] / np.float32(255))


def embedding(detector, pixels):
    vectors = detector._vectors(detector.encoder_(pixels))
    height, width = detector.encoder_(pixels)[0].shape[2:]
    return vectors.transpose(1, 2).unflatten(2, (height, width))


def slow_embedding(detector, pixels):
    """The drawn features of each level, each position's own or of the one it lies in."""
    levels = FeaturePyramid(n_channels=1, engine="torch")(pixels)
    h, w = levels[0].shape[2:]
    f = np.zeros((len(pixels), sum(map(len, detector.channels_)), h, w), np.float32)
    for row, column in np.ndindex(h, w):
        f[:, :, row, column] = np.concatenate(
            [
                level[:, :, row * level.shape[2] // h, column * level.shape[3] // w].numpy()[:, c]
                for level, c in zip(levels, detector.channels_)
            ],
            axis=1,
        )
    return f


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (61, 83)])
def test_embedding_repeats_coarse_features_on_the_finest_grid(fitted, size):
    pixels = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    assert_allclose(embedding(fitted, pixels), slow_embedding(fitted, pixels), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("n_parts", [2, 5])
def test_gaussians_of_parts_make_the_one_of_all(n_parts):
    x = vectors(40)
    first, *others = (gaussian_of(part) for part in x.tensor_split(n_parts))
    for other in others:
        first.absorb(other)
    whole = gaussian_of(x)
    assert first.n_seen == 40
    assert_allclose(first.mean, whole.mean, rtol=1e-5, atol=1e-6)
    assert_allclose(first.scatter, whole.scatter, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("d", [1, 2, 5])
def test_settled_gaussians_keep_triangles_and_go_on(d):
    x = vectors(40, d)
    settled, whole = gaussian_of(x[:20]), gaussian_of(x)
    expected = settled.covariance(), settled(x)
    settled.settle()
    rows, columns = np.tril_indices(d)
    squares = gaussian_of(x[:20]).scatter
    assert_equal(settled.scatter.numpy(), squares[:, rows, columns].numpy())
    assert_equal(settled.covariance().numpy(), expected[0].numpy())
    assert_allclose(settled(x), expected[1], rtol=1e-5)
    other = gaussian_of(x[20:])
    other.settle()
    merged = copy.deepcopy(settled)
    merged.absorb(other)
    settled.update(x[20:])
    for found in (merged, settled):
        assert_allclose(found.scatter, whole.scatter, rtol=1e-5, atol=1e-4)
        assert_allclose(found(x), whole(x), rtol=1e-3)


@pytest.mark.parametrize("shape", [(1, D, D), (1, 21), (N_POSITIONS, 20), (N_POSITIONS, D, 1)])
def test_scatter_of_another_shape_is_no_state(shape):
    gaussian = gaussian_of(vectors(4))
    gaussian.scatter = torch.ones(shape)
    with pytest.raises(ValueError, match="3 of 6 dimensions with scatter .* fit anew"):
        gaussian(vectors(4))


@pytest.mark.parametrize("d", [1, 2, 5])
def test_distances_of_few_and_of_many_are_the_same(d):
    """They take two roads to the product."""
    gaussian, x = gaussian_of(vectors(30, d)), vectors(20, d, seed=1)
    assert_allclose(gaussian(x), torch.cat([gaussian(part) for part in x.split(3)]), rtol=1e-5)


def test_features_are_drawn_from_those_of_all_layers(fitted, textures):
    lengths = fitted.encoder_.channels
    ends = np.cumsum(lengths)
    drawn = np.concatenate([c + end - n for c, end, n in zip(fitted.channels_, ends, lengths)])
    assert len(set(drawn)) == 20
    assert set(drawn) <= set(range(sum(lengths)))
    assert all(len(c) for c in fitted.channels_)
    other = small(random_state=1).fit(textures[0].images[:4])
    assert [list(c) for c in other.channels_] != [list(c) for c in fitted.channels_]


def test_no_number_takes_all_features(textures):
    detector = small(n_features=None, layers=(1, 2)).fit(textures[0].images[:4])
    assert [list(c) for c in detector.channels_] == [list(range(24)), list(range(40))]


def test_layers_may_be_left_without_a_feature(textures):
    X = textures[0].images[:4]
    detector = small(n_features=1).fit(X)
    assert sorted(map(len, detector.channels_)) == [0, 0, 1]
    expected = slow_embedding(detector, as_pixels(X))
    assert_allclose(embedding(detector, as_pixels(X)), expected, rtol=1e-3, atol=1e-3)


def test_number_is_at_most_all_features(textures):
    with pytest.raises(
        ValueError, match=r"n_features=65 exceeds the 64 features that layers \(1, 2\)"
    ):
        small(n_features=65, layers=(1, 2)).fit(textures[0].images[:4])


def test_gaussians_are_those_of_the_images(fitted, textures):
    X = textures[0].images
    f = slow_embedding(fitted, as_pixels(X)).astype(float).transpose(0, 2, 3, 1)
    f = f.reshape(len(X), -1, 20)
    deviations = f - f.mean(axis=0)
    rows, columns = np.tril_indices(20)
    scatter = np.einsum("npi,npj->pij", deviations, deviations)[:, rows, columns]
    assert fitted.gaussian_.n_seen == len(X)
    assert_allclose(fitted.gaussian_.mean, f.mean(axis=0), rtol=1e-3, atol=1e-3)
    assert_allclose(fitted.gaussian_.scatter, scatter, rtol=1e-2, atol=1e-3 * scatter.max())


@pytest.mark.parametrize("smoothing", [4.0, 0.0])
def test_map_is_the_resized_and_smoothed_distance(fitted, textures, smoothing):
    X, gaussian = textures[1].images[:2], fitted.gaussian_
    inverses = np.linalg.inv(gaussian.covariance().double().numpy())
    f = slow_embedding(fitted, as_pixels(X))
    phi = np.zeros((2, 16, 16))
    for i, row, column in np.ndindex(phi.shape):
        p = 16 * row + column
        phi[i, row, column] = mahalanobis(
            f[i, :, row, column], gaussian.mean[p].numpy(), inverses[p]
        )
    expected = F.interpolate(torch.from_numpy(phi)[:, None], (64, 64), mode="bilinear")[:, 0]
    if smoothing:
        expected = [ndimage.gaussian_filter(m, smoothing) for m in expected.numpy()]
    detector = copy.copy(fitted).set_params(smoothing=smoothing).calibrate(X)
    assert_allclose(detector.transform(X), expected, rtol=2e-3)


def test_grid_of_a_network_that_drops_the_border():
    X = np.random.default_rng(0).integers(0, 256, (4, 61, 83), np.uint8)
    detector = small(backbone="convnext_atto", weights=None, engine="torch", image_size=None)
    assert detector.fit(X).gaussian_.mean.shape == (7 * 10, 20)
    assert detector.transform(X[:2]).shape == (2, 61, 83)


def test_images_of_another_size_are_named(textures):
    detector = small(image_size=None)
    X = list(textures[0].images[:10])
    X[7] = np.zeros((80, 48), np.uint8)
    named = "image 7: is 80 x 48 pixels, expected 64 x 64 .*set image_size"
    with pytest.raises(InvalidImageError, match=named):
        detector.fit(X)
    detector.fit(textures[0].images[:5])
    for method in (detector.partial_fit, detector.score_samples):
        with pytest.raises(InvalidImageError, match=named):
            method(X)


def test_fitted_state_does_not_grow_with_the_images(fitted, textures):
    few = small().fit(textures[0].images[:3])
    growth = len(pickle.dumps(fitted)) - len(pickle.dumps(few))
    n_scores = 2 * (len(fitted.validation_scores_) - 1)
    assert 0 < growth <= 8 * n_scores + 100


def test_pickle_leaves_out_what_can_be_computed(fitted, textures):
    X = textures[1].images[:3]
    scores = fitted.score_samples(X)
    n_positions, d = fitted.gaussian_.mean.shape
    assert len(pickle.dumps(fitted.gaussian_)) < 4 * n_positions * (d * (d + 1) / 2 + d) + 2000
    assert_allclose(pickle.loads(pickle.dumps(fitted)).score_samples(X), scores, rtol=1e-6)


def test_bottle(mvtec_root, resnet18_weights):
    """Real parts: Gaussians of a ResNet-18's features separate good from broken bottles."""
    train = load_mvtec_ad(mvtec_root, "bottle", split="train")
    test = load_mvtec_ad(mvtec_root, "bottle", split="test")
    detector = PaDiM(
        backbone="resnet18", weights=resnet18_weights, image_size=128, random_state=0
    ).fit(train.images[:60])
    scores = detector.score_samples(test.images[::3])
    assert roc_auc_score(test.target[::3], scores) > 0.97
