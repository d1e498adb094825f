import numpy as np
import pytest
import torch
from conftest import split_of
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from torch import nn

from skanomaly import PatchAE
from skanomaly.datasets import load_mvtec_ad
from skanomaly.detectors.patch_ae import PatchAutoEncoder, PatchReconstructionLoss
from skanomaly.features import FeaturePyramid, on_grid_of
from skanomaly.images import ImageDataset
from skanomaly.maps import assemble_maps
from skanomaly.metrics import pixel_roc_auc_score


def small(**parameters):
    return PatchAE(
        **{
            "latent_dim": 32,
            "max_patches": 200,
            "image_size": 64,
            "max_epochs": 2,
            "random_state": 0,
            **parameters,
        }
    )


@pytest.fixture(scope="module")
def fitted(textures):
    """A detector fitted on `textures`; tests must not change it."""
    return small().fit(textures[0].images)


def autoencoder(patch_size=8, n_channels=3):
    torch.manual_seed(0)
    return PatchAutoEncoder((4, 6), patch_size, n_channels, latent_dim=16).eval()


@pytest.mark.parametrize("stride", [4, 8])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_a_patch_is_reconstructed_from_its_own_vector_alone(stride, n_channels):
    """A change to one position of the representation changes that patch, and only that."""
    net = autoencoder(stride, n_channels)
    z = torch.rand(2, 16, 5, 7)
    before = net.decode(z)
    assert before.shape == (2, n_channels, 5 * stride, 7 * stride)
    for row, column in [(0, 0), (2, 3), (4, 6)]:
        changed = z.clone()
        changed[1, :, row, column] += 1
        differs = (net.decode(changed) != before).any(dim=1)
        inside = torch.zeros_like(differs)
        inside[1, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride] = True
        assert torch.equal(differs, inside)


def test_a_vector_comes_from_its_own_position_alone():
    net = autoencoder()
    f = torch.rand(1, 10, 5, 7)
    changed = f.clone()
    changed[0, :, 2, 3] += 1
    differs = (net.encode(changed) != net.encode(f)).any(dim=1)[0]
    assert differs.nonzero().tolist() == [[2, 3]]


def test_architecture_is_the_papers():
    net = autoencoder()
    kinds = [type(layer) for layer in (*net.encoder, *net.decoder)]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert {m.kernel_size for m in net.modules() if isinstance(m, nn.Conv2d)} == {(1, 1)}


def test_the_encoder_starts_as_an_isometry():
    torch.manual_seed(0)
    net, f = PatchAutoEncoder((4, 6), 8, 3, latent_dim=16), torch.rand(2, 10, 16, 16)
    net.keep_distances(f)
    with torch.no_grad():
        z = net.encode(f)
    rows, vectors = (x.permute(0, 2, 3, 1).flatten(0, 2).numpy() for x in (f, z))
    assert_allclose(pdist(vectors), pdist(rows), rtol=0.05)  # few lie below zero


def test_one_position_is_enough_to_start_from():
    net = autoencoder()
    net.keep_distances(torch.rand(1, 10, 1, 1))
    assert all(torch.isfinite(parameter).all() for parameter in net.parameters())


def test_levels_meet_with_equal_variance(textures):
    X = textures[0].images
    detector = small().fit(X)
    train, _ = split_of(detector, len(X))
    pixels = torch.from_numpy(X[train][:, None] / np.float32(255))
    f = on_grid_of(FeaturePyramid(n_channels=1, engine="torch")(pixels), 1, 3)
    variances = (f / detector.joined_.scale.view(-1, 1, 1)).var(dim=(0, 2, 3), correction=0)
    totals = [float(part.sum()) for part in variances.split(detector.encoder_.channels)]
    assert_allclose(totals, 1, rtol=1e-3)


def test_loss_ignores_what_the_image_does_not_have():
    reconstruction, image = torch.rand(2, 3, 16, 24), torch.rand(2, 3, 13, 20)
    expected = ((reconstruction[:, :, :13, :20] - image) ** 2).numpy().mean()
    assert float(PatchReconstructionLoss()(reconstruction, image)) == pytest.approx(
        expected, rel=1e-5
    )


@pytest.mark.parametrize("n_neighbors", [1, 3])
def test_map_is_the_distance_to_the_nearest_training_vectors(textures, n_neighbors):
    train, test = textures
    detector = small(n_neighbors=n_neighbors, standardize=None).fit(train.images)
    X = test.images[:2]
    pixels = torch.from_numpy(X[:, None] / np.float32(255))
    f = on_grid_of(FeaturePyramid(n_channels=1, engine="torch")(pixels), 1, 3)
    with torch.no_grad():
        z = detector.net_.module_.encode(f / detector.joined_.scale.view(-1, 1, 1))
    rows = z.permute(0, 2, 3, 1).reshape(-1, 32).numpy().astype(float)
    nearest = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute")
    distances = nearest.fit(detector.bank_.patches.numpy().astype(float)).kneighbors(rows)[0]
    phi = torch.from_numpy(distances.mean(axis=1).reshape(2, 8, 8))
    expected = assemble_maps(phi, (64, 64), (64, 64), 4.0)
    assert_allclose(detector.transform(X), expected, rtol=2e-3)


def test_memory_holds_training_images_and_no_validation_image(textures):
    """Vectors of the images trained on lie in a whole memory; those held out do not."""
    X = textures[0].images
    detector = small(max_patches=10_000).fit(X)
    train, held_out = split_of(detector, len(X))
    assert len(detector.bank_.patches) == len(train) * 8 * 8
    nearest = {}
    for name, indices in (("train", train), ("held out", held_out)):
        batch = ImageDataset(X[indices], image_size=(64, 64))
        maps = torch.cat([detector._compute_maps(b.pixels) for b in batch.batches(8)])
        nearest[name] = float(maps.detach().max())
    assert nearest["train"] < 1e-3
    assert nearest["held out"] > 0.05


@pytest.mark.parametrize(("target", "follows"), [("defective", True), ("clean", False)])
def test_target_holds_the_defects_or_not(textures, target, follows):
    """What the loss compares with is what the network saw, or the image without defects."""
    seen = []

    class Watch(small().__class__):
        def _input_and_target(self, generator, x, seeds, sources):
            inputs, image = super()._input_and_target(generator, x, seeds, sources)
            seen.append((generator.draw(x, seeds, sources), x, image))
            return inputs, image

    Watch(**small(target=target, max_epochs=1).get_params(deep=False)).fit(textures[0].images)
    for defects, clean, image in seen:
        assert defects.masks.any()
        assert torch.equal(image, defects.images) == follows
        assert torch.equal(image, clean) == (not follows)


@pytest.mark.parametrize("tune", [True, False])
def test_pretrained_layers_are_tuned_only_on_request(textures, tune):
    detector = small(tune_backbone=tune, backbone_lr=1e-3).fit(textures[0].images)
    pretrained = FeaturePyramid(n_channels=1)
    assert (detector.encoder_.network.digest != pretrained.network.digest) == tune
    assert not any(p.requires_grad for p in detector.encoder_.parameters())
    in_onnx = detector.score_samples(textures[1].images[:3])
    detector.encoder_.engine = "torch"
    assert_allclose(detector.score_samples(textures[1].images[:3]), in_onnx, rtol=1e-3)


def test_tuning_leaves_batch_statistics_alone(textures):
    detector = small(tune_backbone=True, backbone_lr=1e-3).fit(textures[0].images)
    pretrained = FeaturePyramid(n_channels=1).state_dict()
    tuned = detector.encoder_.state_dict()
    statistics = [key for key in tuned if "running" in key]
    assert statistics
    assert all(torch.equal(tuned[key], pretrained[key]) for key in statistics)


def test_stride_is_one_of_the_pyramids(textures):
    with pytest.raises(ValueError, match=r"patch_size=5 is none of the strides \(4, 8, 16\)"):
        small(patch_size=5).fit(textures[0].images)


@pytest.mark.parametrize("stride", [4, 16])
def test_other_strides(textures, stride):
    detector = small(patch_size=stride, max_epochs=1).fit(textures[0].images)
    assert detector._compute_maps(torch.rand(1, 1, 64, 64)).shape == (1, 64 // stride, 64 // stride)


def test_bottle(mvtec_root):
    """Real parts: a short training already separates good from broken bottles."""
    train = load_mvtec_ad(mvtec_root, "bottle", split="train")
    test = load_mvtec_ad(mvtec_root, "bottle", split="test")
    detector = PatchAE(image_size=128, max_epochs=2, max_patches=2000, random_state=0)
    found = detector.fit(train.images[:60]).detect(test.images)
    assert roc_auc_score(test.target, found.scores) > 0.95
    assert pixel_roc_auc_score(test.masks, found.maps) > 0.93
