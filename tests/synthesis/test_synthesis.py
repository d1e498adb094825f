from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from sklearn.base import clone
from torch.utils.data import DataLoader

from skanomaly.exceptions import InvalidImageError
from skanomaly.images import ImageDataset
from skanomaly.synthesis import (
    CORRUPTION_TYPES,
    DEFECT_TYPES,
    CorruptionDataset,
    DefectGenerator,
    DefectType,
)
from skanomaly.synthesis._regions import SIGNED_DISTANCE, Regions
from skanomaly.synthesis._sketch import region_of, sketch

TYPES = {**CORRUPTION_TYPES, **DEFECT_TYPES}
SHAPES = [(1, 32, 32), (3, 96, 72), (5, 32, 48), (1, 256, 256)]
every_type = pytest.mark.parametrize("name", TYPES)
seeds = st.integers(0, 2**62)


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def draw(name, images, seed=0, sources=None, **parameters):
    """One defect an image, of one type or of several, from seeds that follow each other."""
    types = [name] if isinstance(name, str) else name
    generator = DefectGenerator(types=types, **parameters)
    return generator.draw(images, range(seed, seed + len(images)), sources)


# What is drawn ------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(TYPES)), st.sampled_from(SHAPES[:3]), seeds)
def test_outside_its_mask_an_image_stays_as_it_was(name, shape, seed):
    images = noise(2, *shape)
    drawn = draw(name, images, seed)
    assert (drawn.images.shape, drawn.images.dtype) == (images.shape, torch.float32)
    assert (drawn.masks.shape, drawn.masks.dtype) == ((2, *shape[1:]), torch.bool)
    changed = (drawn.images != images).any(dim=1)
    assert not (changed & ~drawn.masks).any()
    assert changed[drawn.masks].float().mean() > 0.9


@every_type
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_defect_is_neither_nothing_nor_everything(name, shape):
    n = 2 if shape[1] > 200 else 8
    share = draw(name, noise(n, *shape)).masks.float().mean(dim=(1, 2))
    assert share.min() > 0
    assert share.max() < 0.7


@every_type
def test_values_stay_in_range(name):
    for images in (noise(6, 3, 48, 48), noise(6, 3, 48, 48).round()):
        drawn = draw(name, images).images
        assert drawn.min() >= 0
        assert drawn.max() <= 1


@every_type
def test_defect_can_be_seen(name):
    images = noise(10, 1, 64, 64)
    drawn = draw(name, images)
    assert (drawn.images - images).abs()[:, 0][drawn.masks].mean() > 0.05


@every_type
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_flat_image_stays_finite(name, value):
    images = torch.full((4, 3, 32, 32), value)
    drawn = draw(name, images)
    assert drawn.images.isfinite().all()
    assert ((drawn.images == value).all(dim=1) | drawn.masks).all()


@pytest.mark.parametrize(
    "name", [name for name in TYPES if TYPES[name].texture in ("flat", "tint")]
)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_plain_colours_and_tints_are_not_lost_on_black_or_white(name, value):
    images = torch.full((8, 3, 64, 64), value)
    drawn = draw(name, images, opacity=(1, 1))
    for image, mask in zip(drawn.images, drawn.masks):
        assert (image - value).abs().amax(dim=0)[mask].max() > 0.2


def test_inputs_are_not_changed():
    images, sources = noise(len(TYPES), 3, 32, 32), noise(len(TYPES), 3, 32, 32, seed=1)
    draw(TYPES, images, sources=sources)
    torch.testing.assert_close(images, noise(*images.shape), rtol=0, atol=0)
    torch.testing.assert_close(sources, noise(*images.shape, seed=1), rtol=0, atol=0)


@every_type
def test_only_images_and_material_are_taken_from_the_sources(name):
    images = noise(4, 3, 48, 48)
    first, second = (draw(name, images, sources=noise(4, 3, 48, 48, seed=i)) for i in (1, 2))
    takes = TYPES[name].texture in ("image", "material")
    assert (first.images != second.images).any() == takes
    assert torch.equal(first.masks, second.masks)


def test_the_source_of_an_image_is_the_one_before_it_unless_given():
    images = noise(3, 1, 48, 48)
    drawn, expected = (draw("foreign", images, sources=s) for s in (None, images[[2, 0, 1]]))
    assert torch.equal(drawn.images, expected.images)


def test_foreign_material_is_of_the_brightness_of_the_image():
    images, sources = 0.2 + 0.05 * noise(12, 1, 64, 64), 0.8 * noise(12, 1, 64, 64).round()
    drawn = draw("foreign", images, sources=sources)
    assert abs(drawn.images[:, 0][drawn.masks].mean() - images.mean()) < 0.05
    raw = draw("ellipse-image", images, sources=sources, opacity=(1, 1))
    assert abs(raw.images[:, 0][raw.masks].mean() - images.mean()) > 0.1


# Seeds --------------------------------------------------------------------------------


@every_type
def test_equal_seeds_give_equal_bits(name):
    first, second = (draw(name, noise(3, 3, 48, 48), seed=3) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.masks, second.masks)
    assert first.types == second.types


@every_type
def test_other_seeds_give_other_defects(name):
    masks = draw(name, noise(1, 1, 64, 64).expand(6, -1, -1, -1)).masks
    assert len({mask.numpy().tobytes() for mask in masks}) == 6


@settings(max_examples=20, deadline=None)
@given(st.lists(seeds, min_size=2, max_size=5), st.data())
def test_a_defect_does_not_depend_on_its_batch(drawn_seeds, data):
    n = len(drawn_seeds)
    images, sources = noise(n, 3, 40, 33), noise(n, 3, 40, 33, seed=1)
    generator = DefectGenerator(types=list(TYPES))
    whole = generator.draw(images, drawn_seeds, sources)
    order = data.draw(st.permutations(range(n)))[: data.draw(st.integers(1, n))]
    part = generator.draw(images[order], [drawn_seeds[i] for i in order], sources[order])
    assert part.types == [whole.types[i] for i in order]
    assert torch.equal(part.masks, whole.masks[order])
    torch.testing.assert_close(part.images, whole.images[order], rtol=0, atol=1e-6)


# Parameters ---------------------------------------------------------------------------


def test_default_draws_every_corruption_type():
    drawn = DefectGenerator().draw(noise(1, 1, 16, 16).expand(200, -1, -1, -1), range(200))
    assert set(drawn.types) == set(CORRUPTION_TYPES)


def test_types_name_what_was_drawn():
    images, names = noise(20, 1, 48, 48), ["ellipse-image", "ellipse-flat"]
    first, second = (draw(names, images, sources=noise(20, 1, 48, 48, seed=i)) for i in (1, 2))
    shows_source = (first.images != second.images).any(dim=3).any(dim=2)[:, 0]
    assert [name == "ellipse-image" for name in first.types] == shows_source.tolist()
    assert set(first.types) == set(names)


@pytest.mark.parametrize("types", [["dent"], ["spot", "dent"], "dent", []], ids=str)
def test_unknown_type_names_the_choices(types):
    with pytest.raises(ValueError, match=r"types must be out of .*ellipse-flat.*scratch.*got") as e:
        DefectGenerator(types=types).draw(noise(1, 1, 32, 32), [0])
    assert repr(types) in str(e.value)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_regions": (0, 2)}, "n_regions must be .* 1 <= low .*got .0, 2."),
        ({"n_regions": (3, 2)}, "n_regions must be .*got .3, 2."),
        ({"opacity": (0.5, 1.5)}, "opacity must be .*high <= 1, got .0.5, 1.5."),
        ({"opacity": (-0.5, 1)}, "opacity must be .* 0 <= low .*got"),
        ({"opacity": (0.8, 0.2)}, "opacity must be .*low <= high.*got"),
        ({"size": 0}, "size must be above 0, got 0"),
        ({"size": float("nan")}, "size must be above 0, got nan"),
    ],
    ids=str,
)
def test_ranges_are_checked(parameters, message):
    with pytest.raises(ValueError, match=message):
        draw("spot", noise(1, 1, 32, 32), **parameters)


@every_type
def test_no_opacity_draws_nothing(name):
    images = noise(3, 1, 48, 48)
    drawn = draw(name, images, opacity=(0, 0))
    assert torch.equal(drawn.images, images)
    assert not drawn.masks.any()


@settings(max_examples=30, deadline=None)
@given(seeds, st.floats(0.2, 1))
def test_defect_is_a_blend_of_image_and_texture(seed, opacity):
    # x_c = (1 - a) x + a t
    generator = DefectGenerator(
        types=["ellipse-flat"], n_regions=(1, 1), opacity=(opacity, opacity)
    )
    x = noise(1, 3, 48, 48)
    x_c, masks, _ = generator.draw(x, [seed])
    (row,) = rows_of(generator, "ellipse-flat", x.shape[1:], seed)
    distance = signed_distance(row, (48, 48))
    a = opacity * np.clip(distance / row["rim"] + 0.5, 0, 1)
    a = np.where(a < 0.1, 0, a)
    t = row["color"][:, None, None]
    candidates = [(1 - a) * x[0].numpy() + a * color for color in (t, 1 - t)]
    error = min(np.abs(x_c[0].numpy() - candidate).max() for candidate in candidates)
    assert error < 1e-5
    np.testing.assert_array_equal(masks[0], a > 0)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(sorted(TYPES)), seeds, st.integers(1, 3), st.integers(0, 3))
def test_number_of_regions_is_within_its_range(name, seed, least, more):
    generator = DefectGenerator(n_regions=(least, least + more))
    assert least <= len(rows_of(generator, name, (1, 64, 64), seed)) <= least + more
    least, most = TYPES[name].n_regions
    assert least <= len(rows_of(DefectGenerator(), name, (1, 64, 64), seed)) <= most


@pytest.mark.parametrize("n_regions", [1, 2, 4])
def test_as_many_regions_are_drawn_as_sketched(n_regions):
    parameters = {"n_regions": (n_regions, n_regions), "size": 0.3}
    counts = []
    for seed, mask in enumerate(draw("spot", noise(20, 1, 128, 128), **parameters).masks):
        rows = rows_of(DefectGenerator(**parameters), "spot", (1, 128, 128), seed)
        centers = np.array([row["center"] for row in rows])
        apart = np.abs(centers[:, None] - centers[None]).max(axis=2) + 99 * np.eye(n_regions)
        if apart.min() > 12:
            counts.append(ndimage.label(mask, np.ones((3, 3)))[1])
    assert len(counts) > 5
    assert set(counts) == {n_regions}


@pytest.mark.parametrize(("name", "power"), [("ellipse-flat", 2), ("missing", 2), ("scratch", 1)])
def test_size_scales_lengths(name, power):
    images = noise(24, 1, 128, 128)
    small, large = (draw(name, images, size=size).masks.sum() for size in (0.5, 1.0))
    assert 0.75 * 2**power < large / small < 1.25 * 2**power


def test_parameters_round_trip():
    parameters = {
        "types": ["spot"],
        "n_regions": (2, 3),
        "opacity": (0.4, 0.6),
        "size": 0.5,
        "texture_images": "textures",
    }
    generator = DefectGenerator(**parameters)
    assert generator.get_params() == parameters
    assert clone(generator).get_params() == parameters
    assert clone(generator).set_params(size=2.0).size == 2.0


# Shapes, against their slow and obvious versions --------------------------------------


def rows_of(generator, name, shape, seed):
    """The numbers of each region that `draw` draws for this seed."""
    types = {name: TYPES[name]}
    return sketch(generator, types, shape, seed)[1]


def signed_distance(row, size):
    regions = Regions([[row]], size, torch.device("cpu"))
    return SIGNED_DISTANCE[row["shape"]](regions)[0].numpy()


def undeformed(shape, seed, size=(40, 48), **ranges):
    """A region's numbers, with a straight coordinate frame."""
    kind = DefectType(shape, "flat", roughness=(0, 0), **ranges)
    return region_of(kind, DefectGenerator(), 1, size, np.random.default_rng(seed))


def frame(row, size):
    """Coordinates along and across a region: shifted to its centre and turned."""
    dy, dx = np.indices(size) - row["center"][:, None, None]
    cos, sin = np.cos(row["angle"]), np.sin(row["angle"])
    return cos * dx + sin * dy, cos * dy - sin * dx


def assert_same_region(found, expected_distance):
    clear = np.abs(expected_distance) > 1e-3  # not decided by rounding
    np.testing.assert_array_equal((found > 0)[clear], (expected_distance > 0)[clear])


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_ellipse(seed):
    row = undeformed("ellipse", seed)
    u, v = frame(row, (40, 48))
    found = signed_distance(row, (40, 48))
    assert_same_region(found, 1 - (u / row["length"]) ** 2 - (v / row["width"]) ** 2)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_polygon_is_the_intersection_of_half_planes(seed):
    row = undeformed("polygon", seed)
    u, v = frame(row, (40, 48))
    inside = [
        edge - u / row["length"] * np.cos(normal) - v / row["width"] * np.sin(normal)
        for normal, edge in zip(row["normals"], row["edges"])
    ]
    assert_same_region(signed_distance(row, (40, 48)), np.min(inside, axis=0))


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_polygon_is_bounded(seed):
    row = undeformed("polygon", seed, length=(0.02, 0.1))
    u, v = frame(row, (40, 48))
    outside = np.hypot(u / row["length"], v / row["width"]) > 2
    assert not (signed_distance(row, (40, 48)) > 0)[outside].any()


def lines_of(row):
    """The knots of a stroke's trunk and branches, (K, 2) each, in the region's frame."""
    for (start, offset, turn, length, width), knots in zip(row["strokes"], row["knots"]):
        if length > 0:
            along = np.linspace(0, length, len(knots))
            x = start + np.cos(turn) * along - np.sin(turn) * knots
            y = offset + np.sin(turn) * along + np.cos(turn) * knots
            slope = np.abs(np.diff(knots)).max() / (length / (len(knots) - 1))
            yield np.stack([x, y], axis=1), width * row["width"], slope


def distance_to_line(u, v, points):
    """How far pixels are from a line through points, and where along it they are nearest."""
    nearest, share = np.full(u.shape, np.inf), np.zeros(u.shape)
    for i, (a, b) in enumerate(pairwise(points)):
        step = b - a
        t = np.clip(((u - a[0]) * step[0] + (v - a[1]) * step[1]) / (step @ step), 0, 1)
        distance = np.hypot(u - a[0] - t * step[0], v - a[1] - t * step[1])
        share = np.where(distance < nearest, (i + t) / (len(points) - 1), share)
        nearest = np.minimum(distance, nearest)
    return nearest, share


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_straight_stroke_is_what_lies_within_its_half_width(seed):
    row = undeformed("stroke", seed, length=(0.1, 0.4), width=(0.5, 3), n_branches=(0, 3))
    u, v = frame(row, (40, 48))
    expected = np.full(u.shape, -np.inf)
    for points, half_width, _ in lines_of(row):
        distance, share = distance_to_line(u, v, points)
        taper = 1 - 0.7 * np.abs(2 * share - 1)
        expected = np.maximum(expected, half_width * taper - distance)
    np.testing.assert_allclose(signed_distance(row, (40, 48)), expected, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_jagged_stroke_follows_its_lines(seed):
    row = undeformed("stroke", seed, length=(0.1, 0.4), n_branches=(0, 3), jag=(0.05, 0.2))
    u, v = frame(row, (40, 48))
    inside = signed_distance(row, (40, 48)) > 0
    assert inside[tuple(row["center"].astype(int))]
    near = np.zeros(u.shape, bool)
    for points, half_width, slope in lines_of(row):
        near |= distance_to_line(u, v, points)[0] <= half_width * np.hypot(1, slope) + 1e-3
    assert not (inside & ~near).any()
    row["width"] = 4.0  # so that even its thin ends cover the pixels nearest to their knots
    wide = signed_distance(row, (40, 48)) > 0
    (points, _, _), *_ = lines_of(row)
    cos, sin = np.cos(row["angle"]), np.sin(row["angle"])
    x = row["center"][1] + cos * points[:, 0] - sin * points[:, 1]
    y = row["center"][0] + sin * points[:, 0] + cos * points[:, 1]
    rows, columns = np.rint(y).astype(int), np.rint(x).astype(int)
    seen = (rows >= 0) & (rows < 40) & (columns >= 0) & (columns < 48)
    assert seen.any()
    assert wide[rows[seen], columns[seen]].all()


@pytest.mark.parametrize("name", ["crack", "scratch"])
def test_strokes_hang_together(name):
    masks = draw(name, noise(20, 1, 128, 128), n_regions=(1, 1), size=0.5).masks
    assert [ndimage.label(mask, np.ones((3, 3)))[1] for mask in masks] == [1] * 20


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_noise_lies_within_its_ellipse(seed):
    row = undeformed("noise", seed)
    inside = signed_distance(row, (40, 48)) > 0
    ellipse = signed_distance({**row, "shape": "ellipse"}, (40, 48)) > 0
    assert not (inside & ~ellipse).any()
    assert inside[tuple(row["center"].astype(int))]


def test_noise_leaves_some_of_its_ellipse_out():
    rows = [undeformed("noise", seed) for seed in range(20)]
    inside = sum((signed_distance(row, (40, 48)) > 0).sum() for row in rows)
    ellipses = sum(
        (signed_distance({**row, "shape": "ellipse"}, (40, 48)) > 0).sum() for row in rows
    )
    assert 0.3 < inside / ellipses < 0.9


@pytest.mark.parametrize("shape", ["ellipse", "polygon", "noise", "stroke"])
def test_deformation_leaves_the_centre_inside_and_changes_the_rest(shape):
    kind = DefectType(shape, "flat", length=(0.15, 0.3), roughness=(0.3, 0.5))
    for seed in range(10):
        row = region_of(kind, DefectGenerator(), 1, (40, 48), np.random.default_rng(seed))
        deformed, straight = (
            signed_distance({**row, "amplitude": amplitude}, (40, 48))
            for amplitude in (row["amplitude"], 0)
        )
        assert deformed[tuple(row["center"].astype(int))] > 0
        assert not np.array_equal(deformed > 0, straight > 0)


# CorruptionDataset --------------------------------------------------------------------


def numbered(n, *shape, first=0):
    """Images whose every pixel is their number / 255."""
    return np.arange(first, first + n, dtype=np.uint8).reshape(-1, 1, 1, 1) * np.ones(
        (1, *shape), np.uint8
    )


def numbers(tensor):
    return (255 * tensor).round().long().amax(dim=(1, 2, 3)).tolist()


def dataset(X, generator=None, others=None, **parameters):
    generator = DefectGenerator() if generator is None else generator
    if others is not None:
        others = CorruptionDataset(ImageDataset(others), generator)
    return CorruptionDataset(ImageDataset(X), generator, others, **parameters)


@pytest.mark.parametrize("in_memory", [True, False])
def test_sources_are_all_the_other_images(in_memory, monkeypatch):
    if not in_memory:
        monkeypatch.setattr(ImageDataset, "in_memory", lambda images, **_: images)
    data = dataset(numbered(4, 8, 8, 1))
    pairs = set()
    for _ in range(60):
        pixels, _, sources = data.__getitems__([3, 0, 1, 2])
        assert numbers(pixels) == [3, 0, 1, 2]
        pairs |= set(zip(numbers(pixels), numbers(sources)))
    assert pairs == {(i, j) for i in range(4) for j in range(4) if i != j}


def test_a_single_image_is_its_own_source():
    pixels, _, sources = dataset(numbered(1, 8, 8, 1, first=7)).__getitems__([0, 0])
    assert (numbers(pixels), numbers(sources)) == ([7, 7], [7, 7])


def test_sources_are_others_if_there_are_any():
    data = dataset(numbered(2, 8, 8, 1), others=numbered(3, 8, 8, 1, first=10))
    found = {source for _ in range(40) for source in numbers(data.__getitems__([0, 1])[2])}
    assert found == {10, 11, 12}


def test_sources_are_held_in_memory_once():
    train = dataset(numbered(3, 8, 8, 1))
    held_out = CorruptionDataset(ImageDataset(numbered(2, 8, 8, 1)), DefectGenerator(), train)
    assert held_out.sources is train.sources is train.images


def test_sources_are_the_images_of_a_folder_of_textures(tmp_path):
    (tmp_path / "wood").mkdir()
    for path, value, size in (("a.png", 50, (20, 10)), ("wood/b.png", 60, (8, 8))):
        Image.fromarray(np.full(size, value, np.uint8)).save(tmp_path / path)
    generator = DefectGenerator(texture_images=tmp_path)
    data = dataset(numbered(2, 8, 12, 1), generator, others=numbered(2, 8, 12, 1))
    found = set()
    for _ in range(40):
        pixels, _, sources = data.__getitems__([0, 1])
        assert pixels.shape == sources.shape == (2, 1, 8, 12)
        found |= set(numbers(sources))
    assert found == {50, 60}


def test_textures_are_resized_to_the_crop():
    generator = DefectGenerator(texture_images=numbered(3, 30, 40, 3, first=20))
    _, _, sources = dataset(numbered(2, 16, 16, 3), generator, crop_size=8).__getitems__([0, 1, 0])
    assert sources.shape == (3, 3, 8, 8)
    assert set(numbers(sources)) <= {20, 21, 22}


def test_textures_need_the_channels_of_the_images():
    generator = DefectGenerator(texture_images=numbered(3, 8, 8, 3))
    with pytest.raises(InvalidImageError, match="has 3 channels, expected 1.*texture_images"):
        dataset(numbered(2, 8, 8, 1), generator)


def test_crops_are_squares_from_all_over_the_image():
    image = np.arange(5 * 7, dtype=np.uint8).reshape(1, 5, 7, 1)
    corners = set()
    for _ in range(100):
        (crop,), _, _ = dataset(image, crop_size=3).__getitems__([0])
        found = (255 * crop[0]).round().numpy()
        top, left = divmod(int(found[0, 0]), 7)
        np.testing.assert_array_equal(found, image[0, top : top + 3, left : left + 3, 0])
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(5)}


def test_crops_may_come_from_images_of_several_sizes():
    X = [noise(*size, seed=i).numpy() for i, size in enumerate([(9, 12, 1), (20, 8, 1)])]
    pixels, _, sources = dataset(X, crop_size=8).__getitems__([0, 1])
    assert pixels.shape == sources.shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("crop_size", "message"),
    [
        (None, "image 2: is 6 x 9 pixels, others are 8 x 8; .* set image_size or crop_size"),
        (7, "image 2: is 6 x 9 pixels, smaller than crop_size=7"),
    ],
)
@pytest.mark.parametrize("role", ["image", "source"])
def test_image_of_the_wrong_size_is_named(crop_size, message, role):
    X = [*numbered(2, 8, 8, 1), np.zeros((6, 9, 1), np.uint8)]
    if role == "image":
        images, others = ImageDataset(X, indices=[2]), ImageDataset(X, indices=[0, 1])
    else:
        images, others = ImageDataset(X, indices=[0]), ImageDataset(X, indices=[1, 2])
    others = CorruptionDataset(others, DefectGenerator(), crop_size=crop_size)
    data = CorruptionDataset(images, DefectGenerator(), others, crop_size=crop_size)
    with pytest.raises(InvalidImageError, match=message) as caught:
        data.__getitems__([*range(len(data))] * 20)
    assert caught.value.index == 2


def assert_same_batch(first, second):
    for part, other in zip(first, second, strict=True):
        assert torch.equal(part, other)


def test_fixed_gives_the_same_each_time_and_in_any_batch():
    data = dataset(noise(5, 12, 12, 1).numpy(), crop_size=8, fixed=True)
    first = data.__getitems__([0, 1, 2, 3, 4])
    torch.manual_seed(1)
    assert_same_batch(first, data.__getitems__([0, 1, 2, 3, 4]))
    assert_same_batch([part[[3, 1]] for part in first], data.__getitems__([3, 1]))


def test_what_is_not_fixed_follows_the_seed_of_torch():
    data = dataset(noise(5, 12, 12, 1).numpy(), crop_size=8)
    batches = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        batches.append(data.__getitems__([0, 1, 2]))
    again = data.__getitems__([0, 1, 2])
    assert_same_batch(batches[0], batches[1])
    for other in (batches[2], again):
        for part, different in zip(batches[0], other):
            assert not torch.equal(part, different)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_a_data_loader_can_be_drawn_onto(num_workers):
    data = dataset(noise(5, 20, 24, 3).numpy(), crop_size=16)
    assert len(data) == 5
    loader = DataLoader(data, 2, num_workers=num_workers, collate_fn=CorruptionDataset.collate)
    sizes, drawn_seeds = [], set()
    for x, batch_seeds, sources in loader:
        assert x.shape == sources.shape == (len(x), 3, 16, 16)
        assert batch_seeds.shape == (len(x),)
        assert DefectGenerator().draw(x, batch_seeds, sources).images.shape == x.shape
        sizes.append(len(x))
        drawn_seeds |= set(batch_seeds.tolist())
    assert sizes == [2, 2, 1]
    assert len(drawn_seeds) == 5


def test_workers_give_what_the_data_set_gives_if_it_is_fixed():
    data = dataset(noise(5, 20, 24, 1).numpy(), fixed=True)
    loaders = [DataLoader(data, 2, num_workers=n, collate_fn=data.collate) for n in (0, 2)]
    for first, second in zip(*loaders, strict=True):
        assert_same_batch(first, second)
