from copy import copy
from itertools import product

import numpy as np
import pytest
import torch
from conftest import interpolated
from numpy.testing import assert_allclose
from sklearn.kernel_approximation import Nystroem
from sklearn.linear_model import SGDOneClassSVM
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

from skanomaly import PatchLatentSVM
from skanomaly.detectors._patches import continued, patch_places
from skanomaly.detectors.patch_latent_svm import KernelMachines, _kernel_expansion


def small(**parameters):
    return PatchLatentSVM(
        **{
            "patch_size": 33,
            "svm_patch_sizes": (33,),
            "n_patches": 20,
            "max_epochs": 1,
            "n_estimators": 2,
            "n_support": 40,
            "n_components": 20,
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module", params=["exact", "nystroem"])
def fitted(request, textures):
    """A detector of either kind; tests must not change it."""
    return small(svm=request.param).fit(textures[0].images)


def exact(z, seed):
    """Machines of different settings, and so of different numbers of support vectors."""
    return OneClassSVM(nu=0.1 * (seed + 1), gamma=0.02 * (seed + 1)).fit(z)


def nystroem(z, seed):
    return make_pipeline(
        Nystroem(gamma=0.02 * (seed + 1), n_components=20 + seed, random_state=seed),
        SGDOneClassSVM(nu=0.1, random_state=seed),
    ).fit(z)


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("mean", [0, 100])
@pytest.mark.parametrize("make", [exact, nystroem])
def test_kernel_machines_are_scikit_learns(make, mean, n):
    rng = np.random.default_rng(0)
    machines = [make(rng.normal(mean, 1, (60, 12)), seed) for seed in range(n)]
    z = rng.normal(mean, 1.5, (50, 12)).astype(np.float32)
    expected = np.mean([machine.decision_function(z.astype(float)) for machine in machines], axis=0)
    found = KernelMachines([_kernel_expansion(machine) for machine in machines], (3, 2, 2))
    found = found(torch.from_numpy(z).view(-1, 3, 2, 2))[:, 0, 0]
    assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_kernel_machines_hold_different_numbers_of_support_vectors():
    z = np.random.default_rng(0).normal(size=(60, 12))
    machines = [exact(z, seed) for seed in range(3)]
    n_support = [len(machine.support_) for machine in machines]
    assert len(set(n_support)) == 3
    found = KernelMachines([_kernel_expansion(m) for m in machines], (12, 1, 1))
    assert len(found.alpha) == sum(n_support)


def slow_maps(detector, pixels):
    """Each patch by itself through the encoder and scikit-learn's machines."""
    net, sizes = detector.net_.module_, detector.svm_patch_sizes
    rows, columns = (patch_places(size, detector.stride) for size in pixels.shape[2:])
    maps = np.zeros((len(pixels), len(rows), len(columns)))
    for k, p in enumerate(sizes):
        x = continued(pixels, p)
        of_size = detector.estimators_[k * detector.n_estimators : (k + 1) * detector.n_estimators]
        for (a, i), (b, j) in product(enumerate(rows), enumerate(columns)):
            z = net.encode(x[:, :, i : i + p, j : j + p]).flatten(1).double().numpy()
            decisions = [svm.decision_function(z) for svm in of_size]
            maps[:, a, b] -= np.mean(decisions, axis=0) / len(sizes)
    return interpolated(maps, (rows, columns), pixels.shape[2:])


@pytest.mark.parametrize("stride", [1, 3, 4, 5])
@torch.inference_mode()
def test_maps_are_those_of_each_patch_by_itself(fitted, textures, stride):
    detector = copy(fitted).set_params(stride=stride)
    pixels = torch.from_numpy(textures[1].images[-3:, None, 10:30, 20:43] / np.float32(255))
    assert_allclose(detector._compute_maps(pixels), slow_maps(detector, pixels), atol=1e-4)


@pytest.mark.parametrize("stride", [3, 4])
def test_maps_of_several_sizes_of_patches(textures, stride):
    detector = small(svm_patch_sizes=(15, 27, 39), stride=stride).fit(textures[0].images[:8])
    pixels = torch.from_numpy(textures[1].images[-3:, None, 10:30, 20:43] / np.float32(255))
    with torch.inference_mode():
        assert_allclose(detector._compute_maps(pixels), slow_maps(detector, pixels), atol=1e-4)
    assert detector.min_image_size_ == 39 // 2 + 1


def test_sizes_that_the_network_leaves_pixels_of():
    message = r"patches of 40 pixels leave pixels over .* strides=\(1, 1, 3, 1\); .* are of 42"
    with pytest.raises(ValueError, match=message):
        small(svm_patch_sizes=(33, 40)).fit(np.zeros((4, 48, 48), np.uint8))


def test_stride_that_leaves_pixels_out(fitted):
    message = "stride=34 leaves pixels that no patch of 33 covers; choose a stride of at most 33"
    with pytest.raises(ValueError, match=message):
        small(stride=34).fit(np.zeros((4, 48, 48), np.uint8))


@pytest.fixture
def learned_from(monkeypatch):
    """The vectors that each machine is given, as they are."""
    given, fit_machine = [], PatchLatentSVM._fit_machine
    monkeypatch.setattr(
        PatchLatentSVM, "_fit_machine", lambda self, z: given.append(z) or fit_machine(self, z)
    )
    return given


@pytest.mark.parametrize("n_support", [2, 17, 50])
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("svm", ["exact", "nystroem"])
def test_number_of_machines_and_of_their_vectors(
    textures, learned_from, svm, n_estimators, n_support
):
    detector = small(svm=svm, n_estimators=n_estimators, n_support=n_support)
    detector.fit(textures[0].images[:6])
    assert len(detector.estimators_) == n_estimators
    size, channels = detector.net_.module_.latent_size, detector.channels[-1]
    assert [z.shape for z in learned_from] == [(n_support, channels * size**2)] * n_estimators
    unlike = len(np.unique(np.concatenate(learned_from), axis=0))
    assert unlike > 0.9 * n_estimators * n_support  # a patch may be drawn twice
    if svm == "nystroem":
        components = [len(machine[0].components_) for machine in detector.estimators_]
        assert components == [min(20, n_support)] * n_estimators


def test_vectors_are_latents_of_patches_of_all_images(learned_from):
    """Images of one value each have one latent each, the same wherever the patch is."""
    X = np.repeat(np.arange(0, 200, 25, dtype=np.uint8), 40 * 40).reshape(8, 40, 40)
    detector = small(n_estimators=2, n_support=30).fit(X)
    with torch.inference_mode():
        patches = torch.from_numpy(X[:, None, :33, :33] / np.float32(255))
        z = detector.net_.module_.encode(patches).flatten(1).double()
        distances = torch.cdist(torch.from_numpy(np.concatenate(learned_from)).double(), z)
    assert distances.min(dim=1).values.max() < 1e-3 * torch.pdist(z).min()
    counts = np.bincount(distances.argmin(dim=1), minlength=8)
    assert sorted(counts) == [0, 0, 10, 10, 10, 10, 10, 10]  # two images are held out


def test_gamma_scale_is_scikit_learns(fitted):
    z = np.random.default_rng(0).normal(3, 2, (50, 12))
    machine = copy(fitted).set_params(gamma="scale")._fit_machine(z)
    gamma = machine.gamma if fitted.svm == "exact" else machine[0].gamma
    assert gamma == pytest.approx(OneClassSVM(gamma="scale").fit(z)._gamma)


def test_gamma_and_nu_reach_the_machines(fitted):
    z = np.random.default_rng(0).normal(3, 2, (50, 12))
    machine = copy(fitted).set_params(gamma=0.25, nu=0.4)._fit_machine(z)
    kernel, linear = (machine, machine) if fitted.svm == "exact" else machine
    assert (kernel.gamma, linear.nu) == (0.25, 0.4)


def test_outlying_image_scores_lower(fitted, textures):
    normal = fitted.score_samples(textures[1].images[textures[1].target == 1])
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 64), np.uint8)
    assert fitted.score_samples(noise).max() < normal.min()
