from collections import Counter
from copy import copy
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import as_if_trained
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from skimage import metrics
from skorch.callbacks import Callback

from skanomaly import PatchRestoration
from skanomaly.detectors._codes import CodePrior, MaskedConv2d, VectorQuantizer, resample
from skanomaly.detectors._patch_autoencoder import ConvAutoEncoder
from skanomaly.detectors._patches import continued, patch_places
from skanomaly.detectors.patch_restoration import QuantizedAutoEncoder, QuantizedLoss
from skanomaly.metrics import pixel_roc_auc_score

property_test = settings(max_examples=30, deadline=None)
seeds = st.integers(0, 1000)


def small(**parameters):
    return PatchRestoration(
        **{
            "patch_size": 33,
            "stride": 9,
            "n_patches": 20,
            "n_prior_patches": 10,
            "max_epochs": 2,
            "n_codes": 8,
            "n_restorations": 2,
            "prior_width": 8,
            "prior_depth": 1,
            "likelihood_quantile": 0.2,
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted(textures):
    """A detector that has learned a little; tests must not change it."""
    return small().fit(textures[0].images)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def quantizer(n_codes=5, dim=3, seed=0, **parameters):
    """One whose averages have been followed for a while."""
    made = VectorQuantizer(n_codes, dim, **parameters)
    made.codes.normal_(generator=seeded(seed))
    made.counts.uniform_(0.5, 2, generator=seeded(seed + 1))
    made.sums.copy_(made.codes * made.counts[:, None])
    return made.eval()


def latents(seed=7, n=2, dim=3, height=4, width=5):
    return torch.randn(n, dim, height, width, generator=seeded(seed))


def slow_nearest(vector, codes):
    return min(range(len(codes)), key=lambda k: ((vector - codes[k]) ** 2).sum())


@property_test
@given(n_codes=st.integers(1, 9), dim=st.integers(1, 4), seed=seeds)
def test_code_is_the_nearest(n_codes, dim, seed):
    q, z = quantizer(n_codes, dim, seed), latents(seed + 2, dim=dim)
    assigned, codes = q.assign(z), q.codes.double().numpy()
    assert assigned.shape == (2, 4, 5)
    looked_up = q.look_up(assigned)
    for i, row, column in np.ndindex(assigned.shape):
        k = slow_nearest(z[i, :, row, column].double().numpy(), codes)
        assert assigned[i, row, column] == k
        assert torch.equal(looked_up[i, :, row, column], q.codes[k])
    torch.testing.assert_close(q(z)[0], looked_up)


def test_gradients_pass_straight_through():
    q, z = quantizer(), latents().requires_grad_()
    quantised, _ = q(z)
    weights = latents(seed=8)
    quantised.backward(weights)
    assert torch.equal(z.grad, weights)


def test_commitment_draws_latents_to_their_codes():
    q, z = quantizer(), latents().requires_grad_()
    _, commitment = q(z)
    codes = q.look_up(q.assign(z))
    assert commitment.item() == pytest.approx(np.mean((z - codes).detach().numpy() ** 2))
    commitment.backward()
    torch.testing.assert_close(z.grad, 2 * (z - codes).detach() / z.numel())
    assert not list(q.parameters())
    assert not q.codes.requires_grad


def test_loss_is_reconstruction_and_weighted_commitment():
    x, y = torch.rand(2, 3, 1, 9, 9, generator=seeded())
    y = y[:, :, 2:-2, 2:-2]
    expected = ((x[:, :, 2:-2, 2:-2] - y) ** 2).mean() + 0.3 * 1.7
    loss = QuantizedLoss(0.3)((y, torch.tensor(1.7)), x)
    assert loss.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("decay", [0.99, 0.5])
def test_codes_are_moving_averages_of_their_vectors(decay):
    q, z = quantizer(decay=decay), latents()
    vectors = z.permute(0, 2, 3, 1).reshape(-1, 3).numpy()
    codes, counts, sums = (b.clone().numpy() for b in (q.codes, q.counts, q.sums))
    nearest = np.array([slow_nearest(vector, codes) for vector in vectors])
    q.train()(z)
    for k in range(5):
        own = vectors[nearest == k]
        share = 5 / len(vectors)  # vectors used evenly count 1
        counts[k] = decay * counts[k] + (1 - decay) * share * len(own)
        sums[k] = decay * sums[k] + (1 - decay) * share * own.sum(axis=0)
    assert_allclose(q.counts, counts, rtol=1e-5)
    assert_allclose(q.sums, sums, rtol=1e-4, atol=1e-6)
    assert_allclose(q.codes, sums / counts[:, np.newaxis], rtol=1e-4, atol=1e-6)


def test_scoring_leaves_the_codes_alone():
    q = quantizer()
    before = {key: value.clone() for key, value in q.state_dict().items()}
    q(latents())
    assert all(torch.equal(before[key], value) for key, value in q.state_dict().items())


def vectors_of(z):
    return z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])


def test_training_starts_with_codes_on_vectors():
    q, z = VectorQuantizer(8, 3, decay=1.0), latents()
    torch.manual_seed(0)
    q.train()(z)
    assert (q.codes[:, None] == vectors_of(z)).all(dim=2).any(dim=1).all()
    assert len(q.codes.unique(dim=0)) > 4


def test_dead_codes_are_put_on_vectors_of_the_batch():
    z, plain, q = latents(), quantizer(), quantizer()
    for each in (plain, q):
        each.codes[[1, 3]] = 100 + torch.rand(2, 3, generator=seeded())
        each.counts[[1, 3]] = 0.1 if each is q else 0.2
        each.sums[[1, 3]] = each.codes[[1, 3]] * each.counts[[1, 3], None]
    torch.manual_seed(0)
    for each in (plain, q):
        each.train()(z)
    revived, alive = [1, 3], [0, 2, 4]
    assert (q.codes[revived, None] == vectors_of(z)).all(dim=2).any(dim=1).all()
    assert not torch.equal(*q.codes[revived])
    assert torch.equal(q.counts[revived], torch.ones(2))
    assert torch.equal(q.sums[revived], q.codes[revived])
    for name in ("codes", "counts", "sums"):
        assert torch.equal(getattr(q, name)[alive], getattr(plain, name)[alive])
    assert (plain.codes[revived] > 99).all()  # not yet dead


def test_a_code_that_is_never_nearest_dies():
    torch.manual_seed(0)
    q = quantizer(decay=0.5).train()
    q.codes[2] = q.sums[2] = 100
    for seed in range(12):
        q(latents(seed))
    assert q.codes[2].abs().max() < 10


@property_test
@given(counts=st.lists(st.floats(0, 10).filter(lambda c: c == 0 or c > 1e-3), min_size=1))
def test_perplexity_is_the_exponential_of_the_entropy(counts):
    if not any(counts):
        counts[0] = 1.0
    q = VectorQuantizer(len(counts), 2)
    q.used.copy_(torch.tensor(counts))
    used = np.array([c for c in counts if c]) / sum(counts)
    found = q.perplexity()
    assert found == pytest.approx(np.exp(-np.sum(used * np.log(used))), rel=1e-4)
    assert 1 - 1e-5 <= found <= len(counts) * (1 + 1e-5)


@pytest.mark.parametrize(("counts", "perplexity"), [([3, 3, 3, 3], 4), ([0, 5, 0, 0], 1)], ids=str)
def test_perplexity_of_known_use(counts, perplexity):
    q = VectorQuantizer(4, 2)
    q.used.copy_(torch.tensor(counts))
    assert q.perplexity() == pytest.approx(perplexity)


@pytest.mark.parametrize("itself", [True, False])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_masked_convolution_sees_what_comes_before(kernel_size, itself):
    conv = as_if_trained(MaskedConv2d(2, 3, kernel_size, itself))
    h = torch.randn(1, 2, 9, 9, generator=seeded(), requires_grad=True)
    r = kernel_size // 2
    conv(h)[0, :, 4 - r, 4 - r].sum().backward()  # borders are left away, but for the lower one
    found = {(int(i) - 4, int(j) - 4) for i, j in h.grad[0].abs().sum(0).nonzero()}
    reach = range(-(kernel_size // 2), kernel_size // 2 + 1)
    before = {offset for offset in product(reach, reach) if offset < (0, 0)}
    assert found == before | ({(0, 0)} if itself else set())


def make_prior(n_codes=6, width=5, depth=2, seed=0):
    torch.manual_seed(seed)  # of the embedding
    return as_if_trained(CodePrior(n_codes, width, depth), seed)


def random_codes(n=1, height=7, width=6, n_codes=6, seed=0):
    return torch.randint(n_codes, (n, height, width), generator=seeded(seed))


def offsets_seen(depth):
    """From a prediction to the codes that it depends on, layer by layer."""
    seen = {(i, j) for i, j in product(range(-2, 1), range(-2, 3)) if (i, j) < (0, 0)}
    block = [(i, j) for i, j in product((-1, 0), (-1, 0, 1)) if (i, j) <= (0, 0)]
    for _ in range(depth):
        seen = {(i + di, j + dj) for i, j in seen for di, dj in block}
    return seen


@pytest.mark.parametrize("position", [(0, 0), (0, 5), (3, 0), (4, 3), (6, 5)], ids=str)
@pytest.mark.parametrize("depth", [0, 1, 3])
def test_prediction_depends_on_what_comes_before(depth, position):
    prior, embedded = make_prior(depth=depth).double(), []
    prior.embedding.register_forward_hook(lambda *args: embedded.append(args[-1]))
    logits = prior(random_codes())
    embedded[0].retain_grad()
    (logits[0, :, *position] * torch.arange(1, 7)).sum().backward()
    found = embedded[0].grad[0].abs().sum(dim=2) != 0
    offsets = offsets_seen(depth)
    for i, j in np.ndindex(7, 6):
        offset = i - position[0], j - position[1]
        assert found[i, j] == (offset in offsets)
        assert not (found[i, j] and (i, j) >= position)  # the order of reading
    assert prior.reach == -min(i for i, _ in offsets) == max(abs(j) for _, j in offsets)


@torch.inference_mode()
def test_changing_a_code_changes_only_what_comes_after():
    prior, codes = make_prior(), random_codes()
    before = prior(codes)
    for i, j in np.ndindex(7, 6):
        changed = codes.clone()
        changed[0, i, j] = (codes[0, i, j] + 1) % 6
        differs = ((prior(changed) - before).abs() > 1e-6).any(dim=1).flatten()
        first = 6 * i + j + 1
        assert not differs[:first].any()
        assert differs[first:].any() or first == 42


@property_test
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    depth=st.integers(0, 3),
    seed=st.integers(0, 9),
)
@torch.inference_mode()
def test_one_prediction_is_that_of_the_whole(height, width, depth, seed):
    """At every position, borders and corners too, and wherever the batch's others are."""
    prior, codes = make_prior(depth=depth, seed=seed), random_codes(3, height, width, seed=seed)
    expected = prior(codes).softmax(dim=1).permute(0, 2, 3, 1).flatten(0, 2)
    image, rows, columns = (
        torch.from_numpy(index.ravel()) for index in np.indices((3, height, width))
    )
    found = prior.predict(codes[image], rows, columns)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_log_likelihood_of_each_code():
    prior, codes = make_prior(), random_codes(2)
    found, logits = prior.log_likelihood(codes), prior(codes).double().numpy()
    for i, row, column in np.ndindex(codes.shape):
        odds = np.exp(logits[i, :, row, column])
        p = odds[codes[i, row, column]] / odds.sum()
        assert found[i, row, column].item() == pytest.approx(np.log(p), abs=1e-5)


@torch.inference_mode()
def slow_resample(prior, codes, threshold, noise):
    """One grid and one code at a time, each predicted from the whole grid."""
    restored = codes.repeat(len(noise), 1, 1, 1)
    for (m, n), i, j in product(np.ndindex(noise.shape[:2]), *map(range, codes.shape[1:])):
        if prior.log_likelihood(codes[[n]])[0, i, j] < threshold:
            p = prior(restored[m, [n]])[0, :, i, j].softmax(dim=0)
            code = np.searchsorted(p.cumsum(dim=0).numpy(), noise[m, n, i, j].item(), side="right")
            restored[m, n, i, j] = min(int(code), len(p) - 1)
    return restored


@pytest.mark.parametrize("quantile", [0.2, 0.7])
@pytest.mark.parametrize("size", [(5, 4), (1, 7)], ids=str)
@torch.inference_mode()
def test_resampling_is_its_slow_version(size, quantile):
    prior, codes = make_prior(), random_codes(3, *size)
    codes[1] = codes[0]  # equal grids with noise of their own
    noise = torch.rand(2, 3, *size, generator=seeded())
    log_likelihood = prior.log_likelihood(codes)
    threshold = float(log_likelihood.quantile(quantile))
    before = codes.clone()
    found = resample(prior, codes, threshold, noise)
    assert torch.equal(found, slow_resample(prior, codes, threshold, noise))
    assert torch.equal(codes, before)
    kept = log_likelihood >= threshold
    assert torch.equal(found[:, kept], codes[kept].expand(2, -1))
    assert (found != codes).any()
    assert torch.equal(resample(prior, codes, threshold, noise), found)


@torch.inference_mode()
def test_thresholds_beyond_all_codes():
    prior, codes = make_prior(), 1 + random_codes(2, n_codes=5)
    noise = torch.zeros(3, 2, 7, 6)  # draws the first code
    assert not resample(prior, codes, np.inf, noise).any()
    assert torch.equal(resample(prior, codes, -np.inf, noise), codes.expand(3, -1, -1, -1))


@torch.inference_mode()
def test_codes_are_drawn_as_likely_as_the_prior_has_them():
    prior, codes = make_prior(), random_codes(height=3, width=3)
    log_likelihood = prior.log_likelihood(codes).flatten()
    lowest, next_lowest = log_likelihood.sort().values[:2]
    drawn = resample(
        prior,
        codes,
        float(lowest + next_lowest) / 2,
        torch.rand(20_000, 1, 3, 3, generator=seeded()),
    )
    position = int(log_likelihood.argmin())
    p = prior(codes)[0].softmax(dim=0).flatten(1)[:, position].double()
    shares = drawn.flatten(1)[:, position].bincount(minlength=6) / 20_000
    assert ((shares - p).abs() < 5 * (p * (1 - p) / 20_000).sqrt()).all()
    assert p.max() < 0.8


def untrained(patch_size, stride):
    """A detector with random networks, and codes such as their latents are."""
    detector = small(patch_size=patch_size, stride=stride)
    autoencoder = as_if_trained(ConvAutoEncoder(2, patch_size))
    z = autoencoder.encode(torch.rand(4, 2, patch_size, patch_size, generator=seeded()))
    module = QuantizedAutoEncoder(autoencoder, VectorQuantizer(8, 16)).eval()
    module.quantizer.codes.copy_(vectors_of(z)[:: len(vectors_of(z)) // 8][:8])
    prior = make_prior(n_codes=8)
    detector.net_ = SimpleNamespace(module_=module)
    detector.prior_net_ = SimpleNamespace(module_=prior)
    detector.log_likelihood_threshold_ = float(
        prior.log_likelihood(
            module.assign(torch.rand(4, 2, patch_size, patch_size, generator=seeded(1)))
        ).quantile(0.3)
    )
    detector.noise_seed_ = 5
    return detector


def slow_restored(detector, pixels):
    """Each patch by itself: encoded, quantised, resampled, decoded."""
    net, p = detector.net_.module_, detector.patch_size
    m, side = net.autoencoder.margin, p - 2 * net.autoencoder.margin
    height, width = pixels.shape[1:]
    rows, columns = patch_places(height, detector.stride), patch_places(width, detector.stride)
    seed = detector._noise_seed(pixels)
    noise = torch.stack([detector._noise(seed + a, len(columns)) for a in range(len(rows))], 1)
    x = continued(pixels[None], p)
    total, n_covering = torch.zeros(2, len(pixels), height + p, width + p)
    for (a, i), (b, j) in product(enumerate(rows), enumerate(columns)):
        codes = net.assign(x[:, :, i : i + p, j : j + p])
        drawn = slow_resample(
            detector.prior_net_.module_,
            codes,
            detector.log_likelihood_threshold_,
            noise[:, a, b][:, None],
        )
        restored = torch.stack([net.decode(one)[0] for one in drawn]).mean(dim=0)
        total[:, i + m : i + m + side, j + m : j + m + side] += restored
        n_covering[:, i + m : i + m + side, j + m : j + m + side] += 1
    image = np.s_[:, p // 2 : p // 2 + height, p // 2 : p // 2 + width]
    return total[image] / n_covering[image]


@pytest.mark.parametrize(
    ("patch_size", "stride", "size"), [(33, 7, (24, 27)), (42, 18, (36, 43)), (45, 18, (36, 43))]
)
@torch.inference_mode()
def test_restored_image_is_that_of_each_patch_by_itself(patch_size, stride, size):
    detector = untrained(patch_size, stride)
    pixels = torch.rand(2, 2, *size, generator=seeded(2))
    found = detector._version(pixels)
    expected = torch.stack([slow_restored(detector, x) for x in pixels])
    assert_allclose(found, expected, atol=1e-4)


def test_map_is_the_squared_difference(fitted, textures):
    pixels = torch.from_numpy(textures[1].images[:2, None] / np.float32(255))
    with torch.inference_mode():
        detector = copy(fitted).set_params(error="squared")
        found, restored = detector._compute_maps(pixels), detector._version(pixels)
    assert_allclose(found, (pixels - restored)[:, 0] ** 2, atol=1e-6)


def test_map_is_the_structural_dissimilarity(fitted, textures):
    pixels = torch.from_numpy(textures[1].images[:2, None] / np.float32(255))
    detector = copy(fitted).set_params(error="ssim")
    with torch.inference_mode():
        found, restored = detector._compute_maps(pixels), detector._version(pixels)
    for values, x, y in zip(found, pixels, restored):
        _, similarity = metrics.structural_similarity(
            *(np.pad(image[0].double().numpy(), 5, mode="reflect") for image in (x, y)),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            full=True,
        )
        assert_allclose(values, 1 - similarity[5:-5, 5:-5], atol=1e-4)


def test_restoration_does_not_depend_on_the_others_scored(fitted, textures):
    X = textures[1].images[3:7]
    restored, maps = fitted.restore(X), fitted.transform(X)
    assert_array_equal(fitted.restore(X), restored)
    assert_array_equal(fitted.restore(X[::-1])[::-1], restored)
    assert_array_equal(fitted.restore(X[[2]])[0], restored[2])
    one_by_one = copy(fitted).set_params(batch_size=1)
    assert_array_equal(one_by_one.restore(X), restored)
    assert_allclose(one_by_one.transform(X), maps, atol=1e-5)


def test_noise_is_uniform_and_follows_its_seed(fitted):
    noise = fitted._noise(7, 3)
    size = fitted.net_.module_.autoencoder.latent_size
    assert noise.shape == (2, 3, size, size)
    assert 0 <= noise.min() < 0.1
    assert 0.9 < noise.max() < 1
    assert torch.equal(fitted._noise(7, 3), noise)
    assert not torch.equal(fitted._noise(8, 3), noise)


def test_seed_of_the_noise_follows_the_image_and_the_fit(fitted):
    pixels = torch.rand(1, 20, 20, generator=seeded())
    seed = fitted._noise_seed(pixels)
    assert fitted._noise_seed(pixels.clone()) == seed
    assert fitted._noise_seed(pixels + 1e-6) != seed
    other = copy(fitted)
    other.noise_seed_ += 1
    assert other._noise_seed(pixels) != seed


def test_restore_has_each_images_own_size_and_channels(fitted):
    X = np.random.default_rng(0).integers(0, 256, (5, 40, 46, 3), np.uint8)
    detector = small(max_epochs=1).fit(X)
    restored = detector.restore(X)
    assert (restored.shape, restored.dtype) == (X.shape, np.float32)
    assert 0 <= restored.min() <= restored.max() <= 1
    mixed = detector.restore([X[0], X[1, :30, :35]])
    assert mixed.dtype == object
    assert [image.shape for image in mixed] == [(40, 46, 3), (30, 35, 3)]
    resized = small(max_epochs=1, image_size=(36, 33)).fit(X)
    assert resized.restore(X[:2]).shape == (2, 40, 46, 3)
    assert fitted.restore(X[:2, ..., 0]).shape == (2, 40, 46)


def test_restores_the_images_but_not_their_defects(textures):
    train, test = textures
    detector = small(
        n_codes=16,
        likelihood_quantile=0.05,
        n_patches=400,
        n_prior_patches=100,
        max_epochs=5,
        train_batch_size=1,
        lr=1e-2,
        error="ssim",
        smoothing=4.0,
        standardize=None,
    ).fit(train.images)
    x = test.images / 255
    error = np.mean((detector.restore(test.images) - x) ** 2)
    assert error < 0.6 * x.var(axis=(1, 2)).mean()
    assert pixel_roc_auc_score(test.masks, detector.transform(test.images)) > 0.8
    losses = detector.prior_net_.history[:, "valid_loss"]
    assert losses[-1] < 0.9 * losses[0]


def test_perplexity_is_recorded(fitted):
    perplexities = fitted.net_.history[:, "perplexity"]
    assert len(perplexities) == 2
    assert all(1 <= perplexity <= 8 for perplexity in perplexities)
    assert perplexities[-1] != perplexities[0]


@pytest.mark.parametrize("quantile", [0.05, 0.5])
def test_threshold_is_a_quantile_of_the_training_patches(textures, quantile):
    X = textures[0].images[:8]
    detector = small(likelihood_quantile=quantile, max_epochs=1).fit(X)
    x = torch.from_numpy(X[:, None] / np.float32(255))
    with torch.inference_mode():
        patches = torch.cat(
            [x[:, :, i : i + 33, j : j + 33] for i, j in product(range(0, 32, 8), repeat=2)]
        )
        codes = detector.net_.module_.assign(patches)
        found = detector.prior_net_.module_.log_likelihood(codes)
    below = float((found < detector.log_likelihood_threshold_).float().mean())
    assert abs(below - quantile) < 0.25 * quantile


def test_stride_is_at_most_what_a_patch_restores():
    X = np.random.default_rng(0).random((4, 36, 36), np.float32)
    with pytest.raises(
        ValueError, match="stride=19 leaves pixels that no patch covers.*at most 18"
    ):
        small(patch_size=42, stride=19).fit(X)
    assert np.isfinite(small(patch_size=42, stride=18, max_epochs=1).fit(X).transform(X)).all()


class Epochs(Callback):
    """Counts the epochs of each of the two trainings; may interrupt the second of the prior."""

    def __init__(self, interrupt):
        self.interrupt = interrupt
        self.counts = Counter()

    def on_epoch_begin(self, net, **kwargs):
        name = type(net.module_).__name__
        self.counts[name] += 1
        if self.interrupt and name == "CodePrior" and len(net.history) == 2:
            raise KeyboardInterrupt


def test_interrupted_second_training_goes_on_to_the_same_bits(textures, tmp_path):
    X, checkpoint = textures[0].images[:10], tmp_path / "training.pt"
    through = small(max_epochs=3).fit(X)
    interrupted = small(max_epochs=3, checkpoint=checkpoint, callbacks=[Epochs(interrupt=True)])
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X)
    assert {path.name for path in tmp_path.iterdir()} == {"training.pt", "training.pt.first"}
    epochs = Epochs(interrupt=False)
    resumed = small(max_epochs=3, checkpoint=checkpoint, callbacks=[epochs]).fit(X)
    assert epochs.counts == {"CodePrior": 2}
    assert not list(tmp_path.iterdir())
    for name in ("net_", "prior_net_"):
        ours, theirs = (getattr(d, name) for d in (resumed, through))
        assert ours.history[:, "valid_loss"] == theirs.history[:, "valid_loss"]
        for key, value in theirs.module_.state_dict().items():
            assert torch.equal(ours.module_.state_dict()[key], value)
    assert_array_equal(resumed.restore(X[:2]), through.restore(X[:2]))
    assert resumed.offset_ == through.offset_
