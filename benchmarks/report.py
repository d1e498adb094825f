"""The inspection report: size, loading, and how quickly filters and sliders answer in Chromium."""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import Results, data_arguments, fit, load_split

from skanomaly import PatchCore
from skanomaly.datasets import make_texture_defects
from skanomaly.images import LazyImages
from skanomaly.reports import inspection_report

N_MANY = 2000
REPEATS = 15
# Each is started in the page, which answers with the milliseconds from the event until the second
# frame after it has begun, before which the browser has drawn what it changed.
ACTIONS = {
    "threshold moved": """threshold.value = Number(threshold.min) + (0.2 + 0.04 * k)
        * (threshold.max - threshold.min); threshold.dispatchEvent(new Event('input'))""",
    "overlay moved": """opacity.value = 5 * (k % 20); opacity.dispatchEvent(new Event('input'))""",
    "filter by type": """{const s = document.getElementById('filter-type');
        s.selectedIndex = k % s.length; s.dispatchEvent(new Event('change'))}""",
    "filter by verdict": """{const s = document.getElementById('filter-verdict');
        s.selectedIndex = k % s.length; s.dispatchEvent(new Event('change'))}""",
    "order": """{const s = document.getElementById('filter-order');
        s.selectedIndex = k % s.length; s.dispatchEvent(new Event('change'))}""",
    "letter typed into the search": """search.value = k % 2 ? String(k % 10) : '';
        search.dispatchEvent(new Event('input'))""",
    "decision": """decide(shown[k], 'good')""",
    "page scrolled": """window.scrollTo(0, 900 * (k + 1))""",
}
LOADED = """
const done = arguments[0], [entry] = performance.getEntriesByType('navigation');
const look = () => entry.loadEventEnd ? done(entry.loadEventEnd) : setTimeout(look, 10);
look();
"""
TIMED = """
const [action, k, done] = [new Function('k', arguments[0]), arguments[1], arguments[2]];
requestAnimationFrame(() => {
  const start = performance.now();
  action(k);
  requestAnimationFrame(() => setTimeout(() => {
    const frame = performance.now() - start;
    Promise.all([...cards.values()].map(card => pictureOf(card.image))).then(() =>
      requestAnimationFrame(() => setTimeout(() => done([frame, performance.now() - start]))));
  }));
});
"""


class Repeated(LazyImages):
    """Images of a few, each with noise of its own, so that no two are the same."""

    def __init__(self, images, n):
        self.images, self.n = images, n

    def __len__(self):
        return self.n

    def _image(self, i):
        image = self.images[i % len(self.images)]
        noise = np.random.default_rng(i).normal(0, 2, image.shape)
        return (image + noise).round().clip(0, 255).astype(np.uint8)

    def _subset(self, indices):
        return [self[int(i)] for i in indices]


def chromium(width=1360, height=900, *, dark=False):
    """A headless browser of a screen's size."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(120)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    return driver


def measure_page(path):
    """Megabytes, milliseconds to load, and milliseconds of each action."""
    driver = chromium()
    try:
        driver.get(path.as_uri())
        row = {
            "MB": path.stat().st_size / 1e6,
            "load ms": driver.execute_async_script(LOADED),
            "load average": os.getloadavg()[0],
        }
        for name, action in ACTIONS.items():
            driver.execute_script("document.querySelector('.bar').scrollIntoView()")
            times = [driver.execute_async_script(TIMED, action, k) for k in range(REPEATS)]
            frames, drawn = zip(*times)
            row[name] = {
                "median": statistics.median(frames),
                "most": max(frames),
                "drawn": statistics.median(drawn),
            }
        return row
    finally:
        driver.quit()


def take_pictures(path, folder):
    """Screens of a page: light, dark, narrow, enlarged."""
    screens = {
        "overview": (1360, 900, False, "window.scrollTo(0, 0)"),
        "gallery": (1360, 900, False, "document.querySelector('.bar').scrollIntoView()"),
        "dark": (1360, 900, True, "document.querySelector('.bar').scrollIntoView()"),
        "narrow": (360, 740, False, "window.scrollTo(0, 0)"),
        "narrow_gallery": (360, 740, False, "document.querySelector('.bar').scrollIntoView()"),
        "enlarged": (1360, 900, False, "openViewer(3)"),
        "enlarged_narrow": (360, 740, True, "openViewer(3)"),
    }
    for name, (width, height, dark, script) in screens.items():
        driver = chromium(width, height, dark=dark)
        try:
            driver.get(path.as_uri())
            driver.execute_script(script)
            time.sleep(2)
            driver.save_screenshot(str(folder / f"{name}.png"))
        finally:
            driver.quit()


def bottle(arguments, folder):
    split = load_split(arguments.data, "bottle")
    detector = PatchCore(random_state=0)
    fit(detector, split.train.images)
    test, path = split.test, folder / "bottle.html"
    start = time.perf_counter()
    report = inspection_report(
        detector, test.images, path, masks=test.masks, defect_types=test.defect_types
    )
    return path, len(report.names), time.perf_counter() - start


def many(arguments, folder):
    train = make_texture_defects("brick", n_normal=60, image_size=200, random_state=0)
    test = make_texture_defects(
        "brick", split="test", n_normal=30, n_defective=30, image_size=200, random_state=0
    )
    detector = PatchCore(image_size=128, random_state=0)
    fit(detector, train.images)
    images, path = Repeated(test.images, N_MANY), folder / "many.html"
    which = [i % len(test.images) for i in range(N_MANY)]
    start = time.perf_counter()
    inspection_report(
        detector,
        images,
        path,
        y=test.target[which],
        defect_types=test.defect_types[which],
        groups=[f"lot {i // 100}" for i in range(N_MANY)],
    )
    return path, N_MANY, time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    data_arguments(parser)
    parser.add_argument("--screens", type=Path, help="folder for screenshots of the bottle's page")
    parser.add_argument("--keep", type=Path, help="folder for the pages themselves")
    arguments = parser.parse_args()
    results = Results("report_page")
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        for name, make in (("bottle", bottle), (f"{N_MANY} drawn", many)):
            if name == "bottle" and not (arguments.data / "bottle").is_dir():
                print(f"bottle is skipped: it is not in {arguments.data}")
                continue
            if name in results and not arguments.screens:
                continue
            path, n, seconds = make(arguments, folder)
            results[name] = {"images": n, "scored and written s": seconds, **measure_page(path)}
            if name == "bottle" and arguments.screens:
                take_pictures(path, arguments.screens)
    write(results)


def write(results):
    sizes = [
        [
            name,
            row["images"],
            f"{row['MB']:.1f}",
            f"{row['scored and written s']:.0f}",
            f"{row['load ms']:.0f}",
            f"{row['load average']:.0f}",
        ]
        for name, row in results.rows.items()
    ]
    times = [
        [name, action, *(f"{row[action][key]:.0f}" for key in ("median", "most", "drawn"))]
        for name, row in results.rows.items()
        for action in ACTIONS
    ]
    results.write_tables(
        "The page of an inspection report",
        "python benchmarks/report.py",
        "Headless Chromium, 1360 x 900, from a file. *bottle*: MVTec AD's test images with masks, "
        f"PatchCore. *{N_MANY} drawn*: bricks of 200 x 200 with drawn defects, of which 60 come "
        "again with noise of their own. Times are `performance.now()` around what the event does "
        f"and the next frame, {REPEATS} times each, in ms: median and most; *drawn* is the median "
        "until all pictures around are decoded, too, and one more frame. Two rows of cards are in "
        "view. The load average is of the machine's other work, which the largest times come from.",
        {
            "Size": (
                ["page", "images", "MB", "scored and written s", "load ms", "load average"],
                sizes,
            ),
            "Interaction": (["page", "what is done", "median", "most", "drawn"], times),
        },
    )


if __name__ == "__main__":
    main()
