import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from skanomaly import PatchCore
from skanomaly.datasets import load_mvtec_ad, make_texture_defects
from skanomaly.detectors.patch_core import rotated
from skanomaly.features import FeaturePyramid

pytestmark = pytest.mark.filterwarnings("ignore::skanomaly.exceptions.ThresholdWarning")


@pytest.fixture(scope="module")
def images():
    return make_texture_defects("gravel", n_normal=12, image_size=64, random_state=0).images


def small(**parameters):
    return PatchCore(**{"image_size": 64, "random_state": 0, "standardize": None, **parameters})


def slow_features(X, layers=(2, 3), neighborhood=3, pool_levels=False):
    """Features of each position, from its own and its neighbours': (n, h, w, d)."""
    levels = FeaturePyramid(layers=layers, n_channels=1, engine="torch")(
        torch.from_numpy(X[:, None] / np.float32(255))
    )
    size = levels[0].shape[2:]
    if pool_levels:
        levels = [slow_means(f, neighborhood // 2) for f in levels]
    joined = torch.cat([F.interpolate(f, size, mode="bilinear") for f in levels], dim=1)
    if not pool_levels:
        joined = slow_means(joined, neighborhood // 2)
    return joined.permute(0, 2, 3, 1).numpy().astype(np.float64)


def slow_means(f, r):
    means = torch.empty_like(f)
    for y, x in np.ndindex(*f.shape[2:]):
        window = f[:, :, max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1]
        means[:, :, y, x] = window.mean(dim=(2, 3))
    return means


@pytest.mark.parametrize("pool_levels", [False, True])
def test_map_is_the_distance_to_the_nearest_patch(images, pool_levels):
    X, test = images[:8], images[8:]
    detector = small(coreset=1.0, smoothing=0.0, scale_levels=False, pool_levels=pool_levels).fit(
        X, X_val=test
    )
    memory, queries = (
        slow_features(part, pool_levels=pool_levels).reshape(-1, 152) for part in (X, test)
    )
    expected = cdist(queries, memory).min(axis=1).reshape(len(test), 8, 8)
    (raw, _) = next(detector._raw_map_batches(detector._open(test)))
    assert_allclose(raw, expected, rtol=1e-3, atol=1e-3 * expected.max())


def test_levels_are_brought_to_a_total_variance_of_one(images):
    detector = small(coreset=1.0).fit(images, X_val=images[:2])
    features = slow_features(images).reshape(-1, 152)
    totals = [features[:, part].var(axis=0).sum() for part in (slice(40), slice(40, 152))]
    expected = np.repeat(np.sqrt(totals), (40, 112))
    assert_allclose(detector.scale_, expected, rtol=1e-3)


def test_cosine_distance(images):
    X, test = images[:8], images[8:]
    detector = small(coreset=1.0, metric="cosine", scale_levels=False).fit(X, X_val=test)
    memory, queries = (slow_features(part).reshape(-1, 152) for part in (X, test))
    expected = cdist(queries, memory, "cosine").min(axis=1).reshape(len(test), 8, 8)
    (raw, _) = next(detector._raw_map_batches(detector._open(test)))
    assert_allclose(raw, expected, rtol=1e-2, atol=1e-4)


def test_reweighting_is_the_papers_formula(images):
    X, test = images[:8], images[8:]
    detector = small(coreset=1.0, reweight=True).fit(X, X_val=test)
    memory = slow_features(X).reshape(-1, 152) / detector.scale_
    queries = slow_features(test).reshape(-1, 152) / detector.scale_
    expected = []
    for distances in cdist(queries, memory):
        nearest = distances.argmin()
        around = np.argsort(cdist(memory[[nearest]], memory)[0])[:9]
        share = np.exp(distances[nearest]) / np.exp(distances[around]).sum()
        expected.append((1 - share) * distances[nearest])
    (raw, _) = next(detector._raw_map_batches(detector._open(test)))
    assert_allclose(raw.flatten(), expected, rtol=2e-3, atol=1e-3 * max(expected))


@pytest.mark.parametrize(("coreset", "expected"), [(0.25, 192), (1.0, 768), (100, 100), (1, 1)])
def test_coreset_is_a_share_or_a_number(coreset, expected, images):
    detector = small(coreset=coreset).fit(images, X_val=images[:2])
    assert len(detector.bank_.patches) == expected
    assert detector.bank_.n_seen == 768


@pytest.mark.parametrize(
    "settings", [{}, {"robust": True}, {"coreset": 60, "n_neighbors": 3}, {"n_rotations": 3}]
)
def test_results_do_not_depend_on_batches(settings, images):
    maps = [
        small(batch_size=n, n_jobs=n, **settings).fit(images[:10]).transform(images[10:])
        for n in (1, 3, 16)
    ]
    for other in maps[1:]:
        assert_allclose(other, maps[0], rtol=1e-4, atol=1e-5)


def test_a_memory_that_is_full_of_candidates_still_learns(images):
    detector = small(coreset=1.0, max_candidates=640).fit(images, X_val=images[:2])
    strange = 255 - images[:5]
    before = detector.score_samples(strange)
    detector.partial_fit(strange)
    assert len(detector.bank_.patches) == 640
    assert detector.score_samples(strange).mean() > 0.5 * before.mean()


def test_robust_memories_keep_images_of_a_stream_alike(images):
    detector = small(coreset=320, robust=True).fit(images[:5], X_val=images[:2])
    for image in np.repeat(images, 4, axis=0):
        detector.partial_fit(image[np.newaxis])
    rows = slow_features(images).reshape(-1, 152) / detector.scale_
    nearest = cdist(detector.bank_.patches, rows).argmin(axis=1)
    by_position = np.bincount(nearest % 64, minlength=64)
    assert (by_position > 0).mean() > 0.9
    assert by_position.max() < 20


def test_small_robust_memories_hold_a_patch_each(images):
    for settings in ({"coreset": 0.01}, {"coreset": 10}):
        detector = small(robust=True, **settings).fit(images[:1])
        assert len(detector.bank_.patches) == 16
    detector = small(coreset=0.001, n_neighbors=3).fit(images[:1])
    assert len(detector.bank_.patches) == 3


def test_nothing_draws_from_numpys_global_generator(images):
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    small(reweight=True).fit(images).partial_fit(images[:1])
    assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_candidates_are_bounded(images):
    detector = small(coreset=0.5, max_candidates=100).fit(images, X_val=images[:2])
    assert len(detector.bank_.patches) == 100


def test_a_defect_among_the_training_images_hardly_counts_if_robust(images):
    X = np.repeat(images, 3, axis=0)
    X = X + np.random.default_rng(0).integers(0, 3, X.shape).astype(np.uint8)
    X[5, 20:40, 20:40] = 255
    found = {}
    for robust in (False, True):
        detector = small(coreset=1.0, robust=robust).fit(X, X_val=images)
        scores = -detector.score_samples([images[0], X[5]])
        found[robust] = scores[1] / scores[0]
    assert found[True] > 2 * found[False]


def test_rotations_are_seen_too(images):
    X, turned = images[:4], np.rot90(images[:4], axes=(1, 2)).copy()
    plain, rotating = (
        small(coreset=1.0, n_rotations=n, scale_levels=False).fit(X, X_val=turned) for n in (1, 4)
    )
    assert rotating.bank_.n_seen == 4 * plain.bank_.n_seen
    assert_allclose(rotating.score_samples(turned), 0, atol=1e-3)
    assert (plain.score_samples(turned) < -0.1).all()


def test_rotation_is_about_the_middle_and_keeps_shapes():
    x = torch.rand(1, 2, 32, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotated(x, 0.5), x.flip(2, 3))
    rows, columns = torch.meshgrid(torch.arange(33.0), torch.arange(65.0), indexing="ij")
    blob = (-((rows - 16).square() + (columns - 32).square()) / 50).exp()[None, None]
    difference = (rotated(blob, 1 / 8) - blob)[..., 20:45]  # farther out it is mirrored
    assert difference.abs().max() < 0.03
    bar = torch.zeros(1, 1, 65, 65)
    bar[..., 32, 10:55] = 1
    turned = rotated(bar, 1 / 8)[0, 0]
    diagonal = max(turned.diagonal().mean(), turned.flip(0).diagonal().mean())
    assert diagonal > 0.4


def test_few_images(images):
    for n in (1, 2, 4, 8):
        detector = small(coreset=1.0, n_rotations=8).fit(images[:n])
        assert detector.bank_.n_seen == 8 * 64 * n
        assert (detector.predict(images[:n]) == 1).all()


def test_bottle(mvtec_root):
    train = load_mvtec_ad(mvtec_root, "bottle", split="train")
    test = load_mvtec_ad(mvtec_root, "bottle", split="test")
    detector = PatchCore(image_size=128, coreset=1000, random_state=0).fit(train.images[:60])
    assert roc_auc_score(test.target[::3], detector.score_samples(test.images[::3])) > 0.98


def test_settings_that_cannot_be(images):
    for settings in ({"robust": True}, {"n_neighbors": 2}):
        with pytest.raises(ValueError, match="reweight=True is a weight of the one nearest"):
            small(reweight=True, **settings).fit(images)
    for settings in ({"coreset": 0}, {"coreset": 1.5}, {"coreset": 0.0}, {"metric": "manhattan"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            small(**settings).fit(images)
    with pytest.raises(ValueError, match="n_neighbors=1000"):
        small(n_neighbors=1000).fit(images)


def test_equal_seeds_give_equal_memories(images):
    banks = [small(random_state=seed).fit(images).bank_.patches for seed in (3, 3, 4)]
    assert_array_equal(banks[0], banks[1])
    assert banks[0].shape != banks[2].shape or not torch.equal(banks[0], banks[2])
