import pickle
import tracemalloc
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from points import make_points
from scipy.spatial.distance import cdist

from skanomaly.features import PatchBank, _memory, k_center_greedy

property_test = settings(max_examples=60, deadline=None)
seeds = st.integers(0, 10_000)


def brute_force(queries, patches, k):
    """Distances to the k nearest, in float64."""
    return np.sort(cdist(queries.double(), patches.double()), axis=1)[:, :k]


def stream(features, *cuts):
    return torch.tensor_split(torch.as_tensor(features), sorted(cuts))


def normal_features(n, d=8, seed=0, mean=0.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(mean, 1, (n, d)).astype(np.float32))


@pytest.mark.parametrize("n_neighbors", [1, 5])
@pytest.mark.parametrize("mean", [0, 30])
def test_distances_are_those_of_brute_force(n_neighbors, mean):
    patches, queries = normal_features(500, 32, 0, mean), normal_features(200, 32, 1, mean)
    bank = PatchBank(n_neighbors=n_neighbors).fit([patches])
    expected = brute_force(queries, patches, n_neighbors)
    distances, indices = bank.kneighbors(queries)
    np.testing.assert_allclose(distances, expected, rtol=1e-5)
    np.testing.assert_allclose(bank.distances(queries), expected.mean(axis=1), rtol=1e-5)
    found = cdist(queries.double(), patches.double())[np.arange(200)[:, None], indices]
    np.testing.assert_allclose(distances, found, rtol=1e-5)


@property_test
@given(
    kind=st.sampled_from(["normal", "clusters", "far away", "duplicates", "grid"]),
    n=st.integers(5, 60),
    k=st.integers(1, 5),
    seed=seeds,
)
def test_distances_are_within_rounding_of_brute_force(kind, n, k, seed):
    rng = np.random.default_rng(seed)
    patches, queries = (
        torch.from_numpy(make_points(kind, size, 6, rng).astype(np.float32)) for size in (n, 20)
    )
    squared = PatchBank(n_neighbors=k).fit([patches]).kneighbors(queries)[0].double() ** 2
    expected = brute_force(queries, patches, k) ** 2
    centered = torch.cat([patches, queries]) - patches.mean(dim=0)
    slack = 1e-5 * centered.norm(dim=1).max() * torch.cat([patches, queries]).norm(dim=1).max()
    np.testing.assert_allclose(squared, expected, rtol=1e-5, atol=float(slack))


@pytest.mark.parametrize("mean", [0, 30, 1000])
def test_a_stored_patch_has_distance_0(mean):
    patches = normal_features(3000, 64, 0, mean)
    assert PatchBank().fit([patches]).distances(patches).max() == 0


def test_a_distance_close_to_0_keeps_its_digits():
    patches = normal_features(100, 16, 0, 10)
    queries = patches.clone()
    queries[:, 0] += 2**-10
    distances = PatchBank().fit([patches]).distances(queries)
    exact = (queries.double() - patches.double()).norm(dim=1)
    torch.testing.assert_close(distances.double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_neighbors", [1, 3])
def test_distances_do_not_depend_on_how_queries_are_batched(n_neighbors):
    bank = PatchBank(n_neighbors=n_neighbors).fit([normal_features(700, 48)])
    queries = normal_features(301, 48, 1)
    whole = bank.distances(queries)
    for size in (1, 7, 300):
        parts = torch.cat([bank.distances(part) for part in queries.split(size)])
        assert torch.equal(parts, whole)
    with mock.patch.dict(_memory.MAX_ELEMENTS, cpu=1):
        assert torch.equal(bank.distances(queries), whole)


def test_memory_of_a_search_is_bounded():
    bank = PatchBank().fit([normal_features(50, 4)])
    queries = normal_features(3000, 4, 1)
    with (
        mock.patch.dict(_memory.MAX_ELEMENTS, cpu=5000),
        mock.patch.object(torch, "addmm", wraps=torch.addmm) as products,
    ):
        bank.distances(queries)
    assert {len(call.args[1]) for call in products.call_args_list} == {100}


def test_no_queries_give_no_distances():
    bank = PatchBank(n_neighbors=2).fit([normal_features(20)])
    assert bank.distances(torch.empty(0, 8)).shape == (0,)


def test_a_query_that_is_nan_gives_nan():
    bank = PatchBank().fit([normal_features(20)])
    queries = normal_features(3, seed=1)
    queries[1, 2] = torch.nan
    assert bank.distances(queries).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("subsampling", ["k_center", "random"])
def test_all_patches_are_kept_in_order_where_there_is_room(subsampling):
    features = normal_features(50)
    bank = PatchBank(50, subsampling).fit(stream(features, 3, 3, 30), 0)
    assert torch.equal(bank.patches, features)


def test_k_center_memory_is_the_greedy_choice():
    features = normal_features(300)
    bank = PatchBank(40, projection_dim=None).fit(stream(features, 100), 5)
    random_state = np.random.RandomState(5)
    random_state.random_sample(300)
    chosen, _ = k_center_greedy(features.numpy(), 40, start=random_state.randint(300))
    assert torch.equal(bank.patches, features[np.sort(chosen)])


def test_k_center_keeps_a_rare_patch():
    features = normal_features(2000)
    features[321] += 50
    for projection_dim in (None, 4):
        bank = PatchBank(10, projection_dim=projection_dim).fit([features], 0)
        assert bank.distances(features[[321]]) == 0
    sampled = PatchBank(10, "random").fit([features], 0)
    assert sampled.distances(features[[321]]) > 50


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, 400), max_size=8),
    subsampling=st.sampled_from(["k_center", "random"]),
    seed=seeds,
)
def test_memory_does_not_depend_on_how_the_stream_is_cut(cuts, subsampling, seed):
    features = normal_features(400, 5)
    fitted = [
        PatchBank(30, subsampling, max_candidates=90, projection_dim=3).fit(batches, seed)
        for batches in ([features], stream(features, *cuts), features.split(1))
    ]
    assert all(torch.equal(bank.patches, fitted[0].patches) for bank in fitted)
    assert len(fitted[0].patches) == 30


def test_random_memory_is_a_uniform_sample():
    n, size, n_runs = 60, 12, 1000
    features = torch.arange(n, dtype=torch.float32)[:, None]
    counts = np.zeros(n)
    for seed in range(n_runs):
        kept = PatchBank(size, "random").fit(features.split(25), seed).patches[:, 0].int()
        assert len(kept) == size
        assert (kept.diff() > 0).all()  # each once, in the order of the stream
        counts[kept] += 1
    share = size / n
    z = (counts - n_runs * share) / np.sqrt(n_runs * share * (1 - share))
    assert np.abs(z).max() < 4
    assert 0.6 < np.square(z).mean() < 1.5


def test_seeds_decide_what_is_kept():
    features = normal_features(200)
    first, second, third = (
        PatchBank(20, "random").fit([features], seed).patches for seed in (0, 0, 1)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize("subsampling", ["k_center", "random"])
def test_memory_of_fit_does_not_grow_with_the_stream(subsampling):
    def peak(n_batches):
        batches = (normal_features(100, 64, seed) for seed in range(n_batches))
        tracemalloc.start()
        PatchBank(1000, subsampling, max_candidates=1500).fit(batches, 0)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak(20)
    assert peak(200) < 1.2 * peak(20)


def test_later_changes_of_a_batch_do_not_reach_the_memory():
    batch = normal_features(10)
    kept = batch.clone()
    bank = PatchBank().fit([batch])
    batch.zero_()
    assert torch.equal(bank.patches, kept)


def test_features_of_other_dtypes_and_modes():
    features = normal_features(30)
    with torch.inference_mode():
        of_network = features * 1
    bank = PatchBank().fit([of_network, features.double(), features.requires_grad_()])
    assert bank.patches.dtype == torch.float32
    assert bank.patches.shape == (90, 8)
    assert not bank.patches.requires_grad


def test_a_pickle_keeps_the_memory():
    queries = normal_features(20, seed=1)
    bank = PatchBank(20, n_neighbors=2).fit([normal_features(100)], 0)
    loaded = pickle.loads(pickle.dumps(bank))
    assert torch.equal(loaded.distances(queries), bank.distances(queries))
    assert set(dict(bank.named_buffers())) == {"patches", "mean", "half_squares"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_distances_on_a_gpu():
    queries = normal_features(2000, 32, 1)
    bank = PatchBank(500, n_neighbors=3).fit([normal_features(3000, 32).cuda()], 0)
    on_cpu = bank.distances(queries)
    on_gpu = bank.cuda().distances(queries.cuda())
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("batches", "message"),
    [
        ([], "no patches"),
        ([torch.empty(0, 3)], "no patches"),
        ([torch.zeros(4)], r"batch 0 of patches has shape \(4,\), expected \(n, d\)"),
        ([torch.zeros(4, 3), torch.zeros(4, 2)], "batch 1 holds features of 2 dim.* before 3"),
        (
            [torch.zeros(4, 3), torch.tensor([[0.0, torch.nan], [0, 0]]).repeat(1, 3)[:, :3]],
            "batch 1 holds 1 patches of 2 that are NaN or infinite",
        ),
        ([torch.full((2, 2), torch.inf)], "batch 0 holds 2 patches of 2"),
        ([torch.zeros(1, 3)], "there are 1 patches to keep and n_neighbors=2"),
    ],
)
def test_a_bad_stream_is_refused(batches, message):
    bank = PatchBank(n_neighbors=2)
    with pytest.raises(ValueError, match=message):
        bank.fit(batches)
    assert bank.patches is None


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"subsampling": "kmeans"}, "'kmeans' is neither"),
        ({"max_patches": 3, "n_neighbors": 5}, "max_patches=3 .* n_neighbors=5"),
    ],
)
def test_bad_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match=message):
        PatchBank(**parameters).fit([torch.zeros(9, 2)])


@pytest.mark.parametrize("shape", [(4,), (4, 3), (2, 4, 8)])
def test_queries_of_another_shape_are_refused(shape):
    bank = PatchBank().fit([normal_features(10)])
    with pytest.raises(ValueError, match=r"expected \(m, 8\)"):
        bank.distances(torch.zeros(shape))


@settings(max_examples=60, deadline=None)
@given(
    max_patches=st.sampled_from([8, 25, 0.1, 0.4, 1.0]),
    max_candidates=st.sampled_from([30, 1000]),
    sizes=st.lists(st.integers(1, 60), min_size=2, max_size=5),
    spread=st.sampled_from([0.0, 10.0]),
    merged=st.booleans(),
    seed=seeds,
)
def test_no_patch_so_far_is_farther_than_the_radius(
    max_patches, max_candidates, sizes, spread, merged, seed
):
    """Of those that were candidates, which all are where there are no more than may be."""
    parts = [normal_features(n, 4, seed + i, spread * i) for i, n in enumerate(sizes)]
    settings = {"max_candidates": max(max_candidates, sum(sizes)) if max_candidates > 30 else 60}
    first, *others = parts
    bank = PatchBank(max_patches, **settings).fit([first], seed)
    if merged:
        bank.absorb([PatchBank(max_patches, **settings).fit([p], seed) for p in others], seed)
    else:
        for part in others:
            bank.update([part], seed)
    assert bank.n_seen == sum(sizes)
    gaps = cdist(torch.cat(parts).double(), bank.patches.double()).min(axis=1)
    assert gaps.max() <= bank.radius + 1e-5 * (1 + gaps.max())
    most = max_patches if isinstance(max_patches, int) else settings["max_candidates"]
    assert len(bank.patches) <= max(most, len(sizes))


def test_a_further_stream_adds_the_patches_farthest_from_the_memory_and_each_other():
    old, new = normal_features(200, 4), normal_features(200, 4, 1, 2.0)
    bank = PatchBank(0.1).fit([old], 0)
    kept = bank.patches.clone()
    bank.update([new], 0)
    assert torch.equal(bank.patches[:20], kept)
    chosen, gaps = [], cdist(new.double(), kept.double()).min(axis=1)
    for _ in range(20):
        chosen.append(int(gaps.argmax()))
        gaps = np.minimum(gaps, cdist(new.double(), new[chosen[-1:]].double())[:, 0])
    assert torch.equal(bank.patches[20:], new[sorted(chosen)])


@pytest.mark.parametrize("max_patches", [30, 0.1])
def test_a_sample_of_several_streams_is_uniform(max_patches):
    features, counts = torch.arange(300.0)[:, None], np.zeros(300)
    for seed in range(300):
        bank = PatchBank(max_patches, "random").fit([features[:150]], seed)
        bank.update([features[150:200]], seed + 1000)
        bank.absorb([PatchBank(max_patches, "random").fit([features[200:]], seed + 2000)], seed)
        counts[bank.patches[:, 0].long().numpy()] += 1
        assert len(bank.patches) == 30
    of_streams = [part.mean() for part in np.split(counts, [150, 200])]
    np.testing.assert_allclose(of_streams, 30, rtol=0.1)
