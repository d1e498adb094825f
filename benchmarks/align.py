"""Parts that were moved, turned or scaled: PaDiM without and with `Align`, and its error in pixels.

Images of *bottle*, and of a part that is drawn, are moved at random, those to learn from and those
to test with; the untouched ones are the ceiling.
"""

import argparse
import time
import warnings

import numpy as np
from _common import (
    METRICS,
    Results,
    as_arrays,
    data_arguments,
    figures_of,
    fit,
    grouped,
    load_split,
    spread,
    spreads,
)
from _large import OPACITY, draw
from PIL import Image, ImageDraw, ImageFont
from sklearn.utils import Bunch
from tqdm import tqdm

from skanomaly import PaDiM, TransformedImageDetector
from skanomaly.exceptions import InvalidImageError, TransformWarning
from skanomaly.preprocessing import Align, Placement

SIDE = 256
MOTIONS = ("translation", "rigid", "similarity")
METHODS = ("correlation", "features")
UNTOUCHED, MOVED = "untouched", "as they are"

# Pixels, degrees to either side, and factor up or down, that parts are moved by at most.
MOVES = {"bottle": (20, 10, 1.1), "drawn part": (16, 180, 1.15)}

DEFECTS = {"scratch": 0.45, "spot": 4.0, "missing": 0.9, "crack": 0.45}  # factors on their size

# Corners of the drawn part, (x, y), around which it lies as it was drawn.
OUTLINE = ((58, 88), (168, 88), (198, 118), (198, 168), (58, 168))

NOTES = f"""*bottle* (MVTec AD, 256x256; 80 images to learn from, 20 for thresholds, the official
test images), moved by up to 20 pixels along each axis, if turned by up to 10 degrees, if scaled by
up to 1.1 or its inverse; and a drawn part (a plate with holes and print before a plain background,
with noise and changing light; 40 to learn from, 10 for thresholds, 30 good and 30 with a drawn
defect of opacity {OPACITY[0]} to {OPACITY[1]} to test with), moved by up to 16 pixels, turned by up
to 180 degrees, scaled by up to 1.15. What comes in from beyond the border has the border's values.
`Align` has its defaults but for the motion, which is what happened, the method and
`on_failure="warn"`. "not aligned" are test images that did not fit, which stay as they are. The
error is the mean distance, in pixels, of the part's corners from where they belong, on test images
that were aligned: median and 95th percentile; bottles do not lie exactly alike before they are
moved, and fit at any angle, so that theirs is no smaller than that. "an image" is the median time
of aligning one; other work may have run beside. Mean ± standard deviation over seeds, of motions
and detector."""


def bottles(arguments):
    """Images to learn from, for thresholds, and to test with."""
    train, test = load_split(arguments.data, "bottle")
    images, of_test = as_arrays(train.images[:100]), as_arrays(test.images)
    tested = Bunch(images=of_test, masks=test.masks, target=test.target)
    return Bunch(train=images[:80], validation=images[80:], test=tested)


def drawn_parts(seed):
    """The same of a part that is drawn."""
    rng = np.random.default_rng([seed, 0])
    parts = [part(rng) for _ in range(110)]
    masks = [np.zeros((SIDE, SIDE), bool) for _ in range(60)]
    for i in range(30):
        kind = list(DEFECTS)[i % len(DEFECTS)]
        top, left = 80 + rng.integers(0, 5), 55 + rng.integers(0, 53)
        window = parts[80 + i][top : top + 96, left : left + 96]
        window[:], masks[30 + i][top : top + 96, left : left + 96] = draw(
            window, kind, rng, DEFECTS[kind], (8, 40)
        )
    test = Bunch(images=parts[50:], masks=masks, target=np.repeat([1, -1], 30))
    return Bunch(train=parts[:40], validation=parts[40:50], test=test)


def part(rng):
    """A plate with a cut corner, three holes and a print, (SIDE, SIDE, 3), uint8."""
    large = 4
    image = Image.new("RGB", (SIDE * large, SIDE * large), (60, 62, 66))
    pen = ImageDraw.Draw(image)

    def scaled(*points):
        return [tuple(large * (n + 0.5) for n in point) for point in points]

    pen.polygon(scaled(*OUTLINE), fill=(165, 168, 172), outline=(110, 112, 116), width=3 * large)
    for x, y, radius in ((76, 106, 9), (180, 150, 11), (84, 150, 6)):
        pen.ellipse(scaled((x - radius, y - radius), (x + radius, y + radius)), fill=(58, 60, 64))
    pen.rectangle(scaled((112, 102), (150, 108)), fill=(150, 60, 50))
    pen.text(
        *scaled((100, 118)), "K7-R", fill=(40, 42, 46), font=ImageFont.load_default(26 * large)
    )
    light = rng.uniform(0.95, 1.05)
    values = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)) * light
    return (values + rng.normal(0, 3, values.shape)).clip(0, 255).astype(np.uint8)


def random_motion(motion, limits, rng):
    """A matrix from a part's pixels, (row, column, 1), to those where it lies then."""
    shift, degrees, factor = limits
    offset = rng.uniform(-shift, shift, 2)
    turn = np.radians(rng.uniform(-degrees, degrees)) if motion != "translation" else 0.0
    scale = factor ** rng.uniform(-1, 1) if motion == "similarity" else 1.0
    middle = (SIDE - 1) / 2
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = middle + offset - linear @ (middle, middle)
    return matrix


def moved(data, motion, limits, seed):
    """Images and masks after random motions, and the motions."""
    rng = np.random.default_rng([seed, 1])
    found = Bunch(test=Bunch(target=data.test.target), motions={})
    for name, images in (*data_parts(data), ("masks", data.test.masks)):
        if name == "masks":
            motions = found.motions["test"]
        else:
            motions = [random_motion(motion, limits, rng) for _ in images]
            found.motions[name] = motions
        places = [Placement(np.linalg.inv(m), (SIDE, SIDE), (SIDE, SIDE)) for m in motions]
        if name == "masks":
            found.test.masks = [p.on_new(np.asarray(m, bool)) for p, m in zip(places, images)]
        elif name == "test":
            found.test.images = [p.sampled(image) for p, image in zip(places, images)]
        else:
            found[name] = [p.sampled(image) for p, image in zip(places, images)]
    return found


def data_parts(data):
    return ("train", data.train), ("validation", data.validation), ("test", data.test.images)


def measured(data, detector):
    fit(detector, data.train, X_val=data.validation)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransformWarning)
        return figures_of(data.test, detector.detect(data.test.images))


def alignment(align, data, points):
    """Time an image, failures, and errors in pixels at points (row, column) of the part."""
    images = align.transform(data.test.images)
    to_reference = np.linalg.inv(data.motions["train"][0])
    of_part = np.array([[y, x, 1] for x, y in points]).T
    in_reference = data.motions["train"][0] @ of_part
    seconds, errors, n_failed = [], [], 0
    for i, motion in enumerate(data.motions["test"]):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TransformWarning)
            start = time.perf_counter()
            _, placement = images.placed(i)
            seconds.append(time.perf_counter() - start)
        if any(issubclass(warning.category, TransformWarning) for warning in caught):
            n_failed += 1
            continue
        off = (placement.matrix - motion @ to_reference) @ in_reference
        errors.append(float(np.hypot(*off[:2]).mean()))
    return {"align_ms": 1000 * float(np.median(seconds)), "failed": n_failed, "errors": errors}


def run(results, name, data, arguments, seed):
    """Measure one kind of images with one seed."""
    padim = PaDiM(random_state=seed)
    if f"{name}, , {UNTOUCHED}, seed {seed}" not in results:
        results[f"{name}, , {UNTOUCHED}, seed {seed}"] = measured(data, padim)
    points = OUTLINE if name == "drawn part" else ((40, 40), (215, 40), (40, 215), (215, 215))
    for motion in arguments.motions:
        of_moved = moved(data, motion, MOVES[name], seed)
        for how in tqdm((MOVED, *arguments.methods), desc=f"{name}, {motion}, seed {seed}"):
            key = f"{name}, {motion}, {how}, seed {seed}"
            if key in results:
                continue
            if how == MOVED:
                results[key] = measured(of_moved, padim)
                continue
            align = Align(motion=motion, method=how, on_failure="warn")
            detector = TransformedImageDetector(align, padim)
            try:
                row = measured(of_moved, detector)
            except InvalidImageError as error:
                results[key] = {"refused": str(error)}
                continue
            results[key] = row | alignment(detector.transformer_, of_moved, points)


def write(results):
    lines = []
    for (name, motion, how), rows in grouped(results.rows, 3):
        fitted = [row for row in rows if "refused" not in row]
        cells = spreads(fitted) if fitted else ["refused"] * len(METRICS)
        aligned = [row for row in fitted if "errors" in row]
        errors = np.concatenate([row["errors"] for row in aligned]) if aligned else []
        lines.append(
            [
                name,
                motion or "none",
                how if how in (UNTOUCHED, MOVED) else f'`"{how}"`',
                f"{len(fitted)} of {len(rows)}",
                *cells,
                spread([row["failed"] for row in aligned], ".1f") if aligned else "",
                " / ".join(f"{q:.2f}" for q in np.quantile(errors, [0.5, 0.95])) if aligned else "",
                f"{np.median([row['align_ms'] for row in aligned]):.0f} ms" if aligned else "",
            ]
        )
    ranks = {how: i for i, how in enumerate((UNTOUCHED, MOVED, *(f'`"{m}"`' for m in METHODS)))}
    lines.sort(key=lambda line: (line[0], ("none", *MOTIONS).index(line[1]), ranks[line[2]]))
    results.write_table(
        "Parts that do not lie still",
        "python benchmarks/align.py",
        NOTES,
        [
            "images",
            "motion",
            "aligned by",
            "seeds fitted",
            *METRICS,
            "not aligned",
            "error",
            "an image",
        ],
        lines,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--images", nargs="+", choices=MOVES, default=list(MOVES))
    parser.add_argument("--motions", nargs="+", choices=MOTIONS, default=list(MOTIONS))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    arguments = parser.parse_args()
    results = Results("align")
    for seed in arguments.seeds:
        for name in arguments.images:
            data = drawn_parts(seed) if name == "drawn part" else bottles(arguments)
            run(results, name, data, arguments, seed)
    write(results)


if __name__ == "__main__":
    main()
