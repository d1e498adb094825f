"""Plain vision transformers: their tokens against timm's own, and where their maps lie."""

import copy
import math
import pickle
import socket
import warnings

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from conftest import small
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from torch import nn

import skanomaly
from skanomaly.exceptions import BackboneError
from skanomaly.features import FeaturePyramid, pyramid_of_state
from skanomaly.features._transformer import PatchTokens, _Axis

DINOV2 = "vit_small_patch14_reg4_dinov2.lvd142m"


def batch(height=64, width=64, n=2, channels=3):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, height, width, generator=generator)


def whole_model(name, **arguments):
    """timm's own, random, with layer scales that let blocks matter."""
    torch.manual_seed(0)
    model = timm.create_model(name, dynamic_img_size=True, **arguments).eval()
    for key, tensor in model.named_parameters():
        if "gamma" in key or "norm" in key:
            nn.init.uniform_(tensor, 0.5, 1.5)
    return model.requires_grad_(False)


def in_a_file(model, path, state=None):
    state = model.state_dict() if state is None else state
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)
    return path


def as_seen(model, x):
    config = model.pretrained_cfg
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    return (x - mean) / std


@pytest.mark.parametrize("name", ["test_vit", "test_vit2", "test_vit3", "eva02_tiny_patch14_224"])
def test_tokens_are_those_of_timm(name, tmp_path):
    model = whole_model(name)
    weights = in_a_file(model, tmp_path / "weights.safetensors")
    last = len(model.blocks) - 1
    pyramid = FeaturePyramid(name, (1, 3, last), weights, engine="torch")
    patch = pyramid.strides[0]
    assert pyramid.strides == (patch,) * 3
    for size in ((6 * patch, 4 * patch), model.patch_embed.img_size):
        x = as_seen(model, batch(*size))
        found = pyramid(batch(*size))
        raw = model.forward_intermediates(x, indices=[1, 3, last], intermediates_only=True)
        tokens = model.forward_features(x)[:, model.num_prefix_tokens :]
        normalised = tokens.transpose(1, 2).reshape(raw[2].shape)
        for a, b in zip(found, [raw[0], raw[1], normalised], strict=True):
            assert_allclose(a, b, atol=1e-5)


def test_blocks_do_not_depend_on_which_others_are_asked_for():
    torch.manual_seed(0)
    several = FeaturePyramid("test_vit", (2, 5), None, engine="torch")
    alone = FeaturePyramid("test_vit", (2,), None, engine="torch")
    alone.network = alone.network.private()
    theirs = several.network.state_dict()
    alone.network.load_state_dict({key: theirs[key] for key in alone.network.state_dict()})
    assert "body.model.norm.weight" in theirs
    assert "body.model.norm.weight" not in alone.network.state_dict()
    assert torch.equal(alone(batch())[0], several(batch())[0])


@pytest.mark.parametrize("by", ["timm", "its authors"])
def test_dinov2_from_a_file(by, tmp_path):
    """As downloaded from the hub, or from the authors, who give the class token a position."""
    model = whole_model(DINOV2)
    state = model.state_dict()
    assert state["pos_embed"].shape == (1, 37 * 37, 384)
    if by == "its authors":
        of_class = torch.rand(1, 1, 384)
        state["register_tokens"] = state.pop("reg_token")
        state["cls_token"] = state["cls_token"] - of_class
        state["pos_embed"] = torch.cat([of_class, state["pos_embed"]], dim=1)
        state["mask_token"] = torch.zeros(1, 384)
    weights = in_a_file(model, tmp_path / "model.safetensors", state)
    (found,) = FeaturePyramid(DINOV2, (11,), weights, engine="torch")(batch(56, 70))
    expected = model.forward_features(as_seen(model, batch(56, 70)))[:, 5:]
    assert_allclose(found.flatten(2).transpose(1, 2), expected, atol=1e-4)


def test_weights_for_another_size_have_their_positions_interpolated(tmp_path):
    model = whole_model("test_vit", img_size=96)
    weights = in_a_file(model, tmp_path / "weights.safetensors")
    pyramid = FeaturePyramid("test_vit", (1,), weights)
    expected = resample_abs_pos_embed(model.pos_embed, [10, 10])
    assert_allclose(pyramid.network.body.model.pos_embed, expected, atol=1e-6)


def test_one_channel_has_the_sum_of_three(tmp_path):
    model = whole_model("test_vit")
    weights = in_a_file(model, tmp_path / "weights.safetensors")
    grey = FeaturePyramid("test_vit", (1,), weights, n_channels=1)
    expected = model.patch_embed.proj.weight.sum(dim=1, keepdim=True)
    assert_allclose(grey.network.body.model.patch_embed.proj.weight, expected, atol=1e-6)


def test_weights_of_another_transformer(tmp_path):
    weights = in_a_file(whole_model("test_vit"), tmp_path / "weights.safetensors")
    with pytest.raises(BackboneError, match="not those of test_vit3"):
        FeaturePyramid("test_vit3", (1,), weights)


class MeanOfPatches(nn.Module):
    """What a transformer is to `PatchTokens`, with each patch's mean as its only feature."""

    blocks, pretrained_cfg = [None], {}

    def __init__(self, patch):
        super().__init__()
        self.feature_info = [{"num_chs": 3, "reduction": patch}]
        self.norm = nn.Identity()

    def prune_intermediate_layers(self, layers, prune_norm):
        assert not prune_norm

    def forward_intermediates(self, x, indices, output_fmt, intermediates_only):
        means = F.avg_pool2d(x, self.feature_info[0]["reduction"])
        return [means.flatten(2).transpose(1, 2)]


@pytest.mark.parametrize("size", [(96, 96), (96, 103), (93, 115), (113, 145)])
def test_maps_cover_the_image_and_not_its_padding(size):
    """Of an image of each pixel's place, maps say where they lie, but at the padded border."""
    places = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij")).float() + 0.5
    image = torch.cat([places, torch.ones(1, *size)])[None]
    (found,) = PatchTokens(MeanOfPatches(16), (0,))(image)
    n_rows, n_columns = (math.ceil(n / 16) for n in size)
    assert found.shape == (1, 3, n_rows, n_columns)
    rows = (np.arange(n_rows) + 0.5) * size[0] / n_rows
    columns = (np.arange(n_columns) + 0.5) * size[1] / n_columns
    inner = found[0, :2, 2:-2, 2:-2]  # what no padded pixel takes part in
    assert_allclose(inner, np.meshgrid(rows[2:-2], columns[2:-2], indexing="ij"), atol=2e-4)
    assert_allclose(found[0, 2], 1, atol=1e-6)


def test_a_mirrored_image_has_the_mirrored_map():
    """As far as an odd number of padded pixels can be on both sides alike."""
    patches, image = PatchTokens(MeanOfPatches(16), (0,)), batch(62, 84)
    (found,), (mirrored,) = patches(image), patches(image.flip(2, 3))
    assert_allclose(mirrored.flip(2, 3), found, atol=1e-6)


@given(n_pixels=st.integers(1, 300), patch=st.integers(1, 32))
def test_interpolation_is_that_of_numpy(n_pixels, patch):
    axis = _Axis(n_pixels, patch)
    before, after = axis.both_sides
    assert 0 <= after - before <= 1
    assert before + n_pixels + after == axis.n_patches * patch
    centres = (np.arange(axis.n_patches) + 0.5) * patch - before
    wanted = (np.arange(axis.n_patches) + 0.5) * n_pixels / axis.n_patches
    expected = [np.interp(wanted, centres, unit) for unit in np.eye(axis.n_patches)]
    assert_allclose(axis.to_image(), np.transpose(expected), atol=1e-9)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("test_vit", (160, 160)),
        ("test_vit", (96, 64)),
        ("test_vit", (61, 83)),
        ("test_vit", (9, 17)),
        ("eva02_tiny_patch14_224", (61, 83)),
    ],
)
def test_engines_agree(name, size):
    torch.manual_seed(0)
    in_pytorch = FeaturePyramid(name, (0, 1), None, engine="torch")
    in_onnx = FeaturePyramid.of_network(in_pytorch.network, "onnx")
    for n in (1, 3):
        for a, b in zip(in_onnx(batch(*size, n)), in_pytorch(batch(*size, n)), strict=True):
            assert a.shape[2:] == tuple(-(-n // in_onnx.strides[0]) for n in size)
            assert (a - b).norm() < 1e-4 * b.norm()


def test_no_warning_by_default():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        FeaturePyramid("test_vit", (1,), None)(batch())


@pytest.mark.parametrize("layers", [(6,), (5, 3), (-1,), (2, 2)])
def test_other_layers_are_refused(layers):
    with pytest.raises(BackboneError, match="its levels are 0 to 5, of which choose some in asc"):
        FeaturePyramid("test_vit", layers, None)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_copies_share_the_network(again):
    pyramid = FeaturePyramid("test_vit", (1, 5), None)
    assert again(pyramid).network is pyramid.network


def test_state_makes_an_equal_pyramid():
    pyramid = FeaturePyramid("test_vit", (1, 5), None)
    state = pyramid.network.state_dict()
    again = pyramid_of_state("test_vit", (1, 5), state, n_channels=3)
    assert again.network is pyramid.network
    del state["body.model.norm.weight"]
    with pytest.raises(BackboneError, match=r"such as body\.model\.norm\.weight"):
        pyramid_of_state("test_vit", (1, 5), state, n_channels=3)


def test_a_tuned_transformer_is_another():
    pyramid = FeaturePyramid("test_vit", (1,), None)
    before, digest = pyramid(batch(61, 64)), pyramid.network.digest
    pyramid.tune()
    pyramid(batch(61, 64))[0].square().sum().backward()
    positions = pyramid.network.body.model.pos_embed
    assert positions.grad.abs().sum() > 0
    with torch.no_grad():
        positions.add_(1)
    pyramid.freeze()
    assert pyramid.network.digest != digest
    after = pyramid(batch(61, 64))[0]
    assert not torch.allclose(after, before[0], atol=1e-2)
    in_pytorch = FeaturePyramid.of_network(pyramid.network, "torch")(batch(61, 64))[0]
    assert_allclose(after, in_pytorch, atol=1e-4)


def test_features_are_kept_by_image(tmp_path, monkeypatch):
    pyramid = FeaturePyramid("test_vit", (1, 5), None, memory=tmp_path)
    expected = pyramid(batch(61, 64))
    monkeypatch.setattr(FeaturePyramid, "_compute", None)
    assert all(map(torch.equal, pyramid(batch(61, 64)), expected))


@pytest.mark.parametrize("image_size", [64, (70, 61)])
def test_a_detector_is_saved_and_exported(image_size, textures, tmp_path):
    train, test = (part.images for part in textures)
    parameters = {"backbone": "test_vit", "layers": (2, 5), "weights": None}
    detector = small("PaDiM", image_size=image_size, **parameters).fit(train)
    assert detector.min_image_size_ == 16
    expected = detector.score_samples(test)
    skanomaly.save(detector, tmp_path / "model")
    assert_array_equal(skanomaly.load(tmp_path / "model").score_samples(test), expected)
    report = skanomaly.export_onnx(detector, tmp_path / "model.onnx", test)
    assert report.score_difference < 1e-4
    served = skanomaly.OnnxDetector(tmp_path / "model.onnx")
    assert_allclose(served.score_samples(test), expected, rtol=1e-4)
    assert_allclose(served.transform(test), detector.transform(test), rtol=1e-3, atol=1e-3)


@pytest.fixture
def no_network(monkeypatch):
    create = timm.create_model

    def refuse(name, pretrained=False, **arguments):
        if pretrained:
            raise OSError("no network")
        return create(name, **arguments)

    monkeypatch.setattr(timm, "create_model", refuse)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (DINOV2, f"fetch model.safetensors of huggingface.co/timm/{DINOV2} where .*weights=PATH"),
        (DINOV2.partition(".")[0], f"huggingface.co/timm/{DINOV2} "),
        ("eva02_tiny_patch14_224", "huggingface.co/timm/eva02_tiny_patch14_224.mim_in22k "),
        ("test_vit4", "timm has no weights of test_vit4.*weights=PATH"),
    ],
)
def test_weights_that_cannot_be_fetched_are_named(name, file, no_network):
    with pytest.raises(BackboneError, match=rf"(?=.*\(no network\)).*{file}"):
        FeaturePyramid(name, (11,) if name != "test_vit4" else (2,))


def test_layers_are_refused_before_weights(no_network):
    with pytest.raises(BackboneError, match="its levels are 0 to 11"):
        FeaturePyramid(DINOV2, (12,))


@pytest.fixture
def hub():
    try:
        socket.create_connection(("huggingface.co", 443), timeout=5).close()
    except OSError as error:
        pytest.skip(f"timm's hub cannot be reached ({error})")


@pytest.mark.hub
def test_dinov2_from_the_hub(hub):
    x = batch(224, 200)
    (found,) = FeaturePyramid(DINOV2, (11,))(x)
    assert found.shape == (2, 384, 16, 15)
    assert found.isfinite().all()
    assert found.std() > 0.1
