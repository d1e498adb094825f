import numpy as np
import pytest

from skanomaly.datasets import _generators, make_texture_defects
from skanomaly.synthesis import CORRUPTION_TYPES, DEFECT_TYPES, DefectGenerator


def small(texture="brick", **parameters):
    return make_texture_defects(
        texture, **{"n_normal": 3, "image_size": 32, "random_state": 0, **parameters}
    )


@pytest.mark.parametrize("texture", ["brick", "grass", "gravel"])
@pytest.mark.parametrize("split", ["train", "test"])
def test_shapes_and_dtypes(texture, split):
    bunch = small(texture, split=split, n_defective=7)
    assert (bunch.images.shape, bunch.images.dtype) == ((10, 32, 32), np.uint8)
    assert (bunch.masks.shape, bunch.masks.dtype) == ((10, 32, 32), bool)
    assert (bunch.target.shape, bunch.target.dtype.kind) == ((10,), "i")
    assert (bunch.defect_types.shape, bunch.defect_types.dtype.kind) == ((10,), "U")
    assert len(bunch.filenames) == 10


def test_normal_images_come_first_and_defects_take_turns():
    bunch = small(n_normal=2, n_defective=5, defect_types=("spot", "crack"))
    assert list(bunch.defect_types) == ["good", "good", "spot", "crack", "spot", "crack", "spot"]


def test_target_and_masks_follow_the_defect_types():
    bunch = small(split="test", n_defective=12)
    is_good = bunch.defect_types == "good"
    np.testing.assert_array_equal(bunch.target, np.where(is_good, 1, -1))
    np.testing.assert_array_equal(bunch.masks.any(axis=(1, 2)), ~is_good)


@pytest.mark.parametrize(("split", "n_defective"), [("train", 0), ("test", 20)])
def test_default_number_of_defects(split, n_defective):
    bunch = small(split=split, image_size=16, defect_types=("spot", "stain"))
    assert (bunch.target == -1).sum() == n_defective


def test_all_types_are_drawn_by_default():
    assert set(small(n_defective=6).defect_types) == {"good", *DEFECT_TYPES}


def test_corruption_types_can_be_drawn_too():
    names = [*CORRUPTION_TYPES][:3]
    assert list(small(n_normal=0, n_defective=3, defect_types=names).defect_types) == names


def test_defects_that_show_a_texture_show_one_of_the_other_photographs(monkeypatch):
    brightness, shown = {"brick": 0.5, "grass": 0.1, "gravel": 0.9}, []
    monkeypatch.setattr(
        _generators, "_texture", lambda name: np.full((512, 512, 1), brightness[name])
    )
    draw = DefectGenerator.draw

    def recorded(generator, images, seeds, sources):
        shown.append(round(sources.mean().item(), 2))
        return draw(generator, images, seeds, sources)

    monkeypatch.setattr(DefectGenerator, "draw", recorded)
    small("brick", n_normal=0, n_defective=20, defect_types=["foreign"])
    assert set(shown) == {0.1, 0.9}


def test_images_without_normal_ones():
    assert list(small(n_normal=0, n_defective=3).target) == [-1, -1, -1]


def test_outside_the_mask_an_image_is_what_it_would_be_without_the_defect(monkeypatch):
    draw, clean = DefectGenerator.draw, []

    def recorded(generator, images, seeds, sources):
        clean.append(images[0, 0].clone())
        return draw(generator, images, seeds, sources)

    monkeypatch.setattr(DefectGenerator, "draw", recorded)
    bunch = small(image_size=64, n_normal=0, n_defective=12)
    assert len(clean) == 12
    for image, mask, original in zip(bunch.images, bunch.masks, clean):
        original = (255 * original).round().numpy()
        np.testing.assert_array_equal(image[~mask], original[~mask])
        assert (image != original)[mask].mean() > 0.9


def test_training_and_test_images_share_no_column(monkeypatch):
    column_numbers = np.broadcast_to(np.arange(512.0)[None, :, None], (512, 512, 1))
    crop, columns = _generators._crop, {"train": set(), "test": set()}

    def recorded(region, size, rng):
        columns[split].update(region[0, :, 0])
        return crop(region, size, rng) / 512

    monkeypatch.setattr(_generators, "_texture", lambda name: column_numbers)
    monkeypatch.setattr(_generators, "_crop", recorded)
    for split in columns:
        small(split=split, n_defective=0)
    assert columns["train"]
    assert columns["test"]
    assert not columns["train"] & columns["test"]


def test_crops_come_from_all_over_the_region():
    column_numbers = np.broadcast_to(np.arange(40)[:, None, None], (40, 60, 1))
    rng = np.random.default_rng(0)
    tops = {_generators._crop(column_numbers, 32, rng)[0, 0, 0] for _ in range(200)}
    assert tops == set(range(9))


def test_same_seed_gives_the_same_bits():
    first, second = (small(n_defective=6) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.masks, second.masks)


@pytest.mark.parametrize("other", [1, None], ids=str)
def test_other_seeds_give_other_images(other):
    assert not np.array_equal(small().images, small(random_state=other).images)


def test_random_state_moves_on():
    random_state = np.random.RandomState(0)
    first, second = (small(random_state=random_state).images for _ in range(2))
    assert not np.array_equal(first, second)


def test_images_of_one_batch_differ():
    images = small(n_normal=10).images
    assert len({image.tobytes() for image in images}) == 10


def test_textures_differ():
    assert not np.array_equal(small("brick").images, small("grass").images)


def test_filenames_look_like_a_folder():
    names = small(split="test", n_normal=1, n_defective=1, defect_types=["stain"]).filenames
    assert names == ["test/good/000.png", "test/stain/001.png"]


@pytest.mark.parametrize("fact", ['"grass"', "test split", "2 as they are", "4 with one drawn"])
def test_description_names_texture_split_and_counts(fact):
    descr = small("grass", split="test", n_normal=2, n_defective=4).DESCR
    assert fact in " ".join(descr.split())


@pytest.mark.parametrize("image_size", [16, 204])
def test_smallest_and_largest_size(image_size):
    for split in ("train", "test"):
        images = small(split=split, n_normal=1, n_defective=1, image_size=image_size).images
        assert images.shape == (2, image_size, image_size)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("image_size", [0, 15, 206, 513])
def test_size_out_of_range(image_size, split):
    with pytest.raises(ValueError, match=f"image_size must be 16 to .* got {image_size}"):
        small(image_size=image_size, split=split)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"texture": "wood"}, "texture must be one of .*brick.*got 'wood'"),
        ({"split": "validation"}, "split must be .*got 'validation'"),
        ({"defect_types": ["dent"]}, "defect_types must be out of .*scratch.*dent"),
        ({"defect_types": ["spot", "dent"]}, "defect_types must be out of .*scratch.*dent"),
        ({"defect_types": "spot"}, "defect_types must be out of .*scratch.*spot"),
        ({"defect_types": []}, "defect_types must be out of .*scratch"),
        ({"defect_types": ["dent"], "n_defective": 0}, "defect_types must be out of .*scratch"),
    ],
    ids=str,
)
def test_unknown_choice(parameters, message):
    with pytest.raises(ValueError, match=message):
        small(**parameters)
