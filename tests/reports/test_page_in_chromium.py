"""The page in a real browser: clicks, sliders, keys, files that it saves, screens, colours."""

import copy
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import Bunch

from skanomaly.reports import inspection_report, load_decisions

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
webdriver = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install selenium")
if CHROMIUM is None or DRIVER is None:
    pytest.skip(
        "needs Chromium and its driver: apt-get install chromium chromium-driver",
        allow_module_level=True,
    )

from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import Select  # noqa: E402

TIMES = "\N{MULTIPLICATION SIGN}"


@pytest.fixture(scope="session")
def report(brick_report):
    return brick_report


class Page:
    """The report's page in a tab."""

    def __init__(self, driver, path):
        self.driver = driver
        self.url = path.as_uri()

    def load(self, *, keep=False):
        self.driver.get(self.url)
        if not keep:
            self.run("localStorage.clear()")
            self.driver.get(self.url)
        self.wait("document.documentElement.dataset.ready !== undefined")
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def value(self, expression):
        return self.run(f"return {expression}")

    def wait(self, expression, seconds=20):
        end = time.monotonic() + seconds
        while not self.value(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.02)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def press(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def cards(self):
        """Numbers of the images on the cards that are in the page."""
        return self.value("[...gallery.children].map(card => card.image.index)")

    def shown(self):
        return self.find("#shown").text

    def counts(self):
        """Flagged, false alarms and missed, as shown."""
        return [int(tile.text) for tile in self.all("#counts b")]

    def set_range(self, selector, value):
        self.run(
            "arguments[0].value = arguments[1];"
            "arguments[0].dispatchEvent(new Event('input', {bubbles: true}))",
            self.find(selector),
            value,
        )
        self.run(
            "return new Promise(done =>"
            " requestAnimationFrame(() => requestAnimationFrame(() => done())))"
        )

    def drawn(self, index):
        """Pixels of an image's card once it is drawn as the sliders stand, (H, W, 3)."""
        card = f"cards.get({index}).parts.canvas"
        self.wait(f"{card}.dataset.drawn === `${{state.threshold}} ${{state.opacity}}`")
        width, height = self.value(f"[{card}.width, {card}.height]")
        pixels = self.run(
            "const copy = new OffscreenCanvas(arguments[0], arguments[1])"
            ".getContext('2d', {willReadFrequently: true});"
            f"copy.drawImage({card}, 0, 0);"
            "return Array.from(copy.getImageData(0, 0, arguments[0], arguments[1]).data)",
            width,
            height,
        )
        return np.array(pixels, np.uint8).reshape(height, width, 4)[..., :3].astype(int)


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    downloads = tmp_path_factory.mktemp("downloads")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    driver.downloads = downloads
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def path(report, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    report.save(path)
    return path


@pytest.fixture
def page(driver, path):
    """The page, afresh; after the test it has met no error and asked for nothing elsewhere."""
    size = {"width": 1200, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    light = [{"name": "prefers-color-scheme", "value": "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": light})
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    yield Page(driver, path).load()
    assert driver.get_log("browser") == []
    assert {url for url in requests(driver) if not url.endswith("/other.html")} <= {path.as_uri()}


def requests(driver):
    """Addresses that pages have asked for, but for what they hold themselves."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    return {url for url in urls if not url.startswith(("data:", "blob:"))}


@pytest.fixture
def page_of(page, driver, tmp_path):
    """Gives the page of another report."""

    def opened(report):
        report.save(tmp_path / "other.html")
        driver.get((tmp_path / "other.html").as_uri())
        other = Page(driver, tmp_path / "other.html")
        other.wait("document.documentElement.dataset.ready !== undefined")
        assert driver.get_log("browser") == []
        assert requests(driver) <= {page.url, other.url}
        return other

    return opened


def by_anomaly(report):
    return np.argsort(report.scores, kind="stable").tolist()


def test_it_shows_what_the_report_holds(page, report):
    assert page.find("h1").text == '<b>Bricks</b> & "more"'
    assert page.driver.title == '<b>Bricks</b> & "more"'
    assert page.shown() == "24 images"
    assert page.cards() == by_anomaly(report)[: len(page.cards())]
    flagged, bad = report.labels == -1, report.truth == -1
    assert page.counts() == [flagged.sum(), (flagged & ~bad).sum(), (bad & ~flagged).sum()]
    assert 0 < flagged.sum() < 24
    bars = page.value(
        "[...document.querySelectorAll('#histogram rect title')].map(t => t.textContent)"
    )
    for kind, n in (("good", (~bad).sum()), ("defective", bad.sum())):
        assert sum(int(bar.split()[0]) for bar in bars if f" {kind}," in bar) == n
    table = page.find("#metrics table").text
    rows = [row for row in report.evaluation.rows if row.group in ("all", "defect type")]
    assert len(page.all("#metrics tbody tr")) == len(rows)
    assert f"{rows[0].scores['aupro'].value:.3f}" in table
    about = page.run("about.open = true; return about.innerText")
    for text in (report.model_sha256, report.data_sha256, report.id, "n_features", "scikit-learn"):
        assert text in about


def test_the_threshold_moves_counts_verdicts_and_outlines(page, report):
    for multiple in (0.9, 1.1, 1.25):
        page.set_range("#threshold", multiple)
        flagged = -report.scores > multiple * -report.offset
        bad = report.truth == -1
        assert page.counts() == [flagged.sum(), (flagged & ~bad).sum(), (bad & ~flagged).sum()]
        assert page.find("#threshold-value").text == f"{multiple:.2f} {TIMES}"
        first = page.find(".card .verdict b").text
        assert first == ("anomalous" if flagged.any() else "normal")
        assert float(page.value("mapThreshold()")) == pytest.approx(multiple * report.map_threshold)
    assert page.find("#threshold-reset").is_enabled()
    page.find("#threshold-reset").click()
    assert page.counts()[0] == report.n_flagged
    assert page.value("state.threshold") == -report.offset
    page.find("#threshold").send_keys(Keys.ARROW_RIGHT)
    assert page.value("state.threshold") > -report.offset


def test_the_threshold_can_be_dragged_in_the_histogram(page, report):
    before = page.value("state.threshold")
    plot = page.find("#histogram")
    ActionChains(page.driver).move_to_element(plot).click_and_hold().move_by_offset(
        120, 0
    ).release().perform()
    page.wait(f"state.threshold > {before}")
    right = page.counts()[0]
    ActionChains(page.driver).move_to_element(plot).click_and_hold().move_by_offset(
        -400, 0
    ).release().perform()
    page.wait(f"state.threshold < {before}")
    assert page.counts()[0] > right


def test_what_exceeds_the_threshold_is_red_and_outlined(page, report, brick_padim, bricks):
    worst = int(np.argmin(report.scores))
    page.set_range("#opacity", 0)
    outlined = page.drawn(worst)
    page.set_range("#opacity", 100)
    overlaid = page.drawn(worst)
    (anomaly_map,) = brick_padim.transform(bricks.images[[worst]])
    above = anomaly_map > brick_padim.map_threshold_
    side = overlaid.shape[0]
    seen = above.repeat(side // 64 + 1, 0).repeat(side // 64 + 1, 1)
    rows = np.arange(side) * 64 // side
    seen = above[rows][:, rows]
    reddened = (overlaid[..., 0] - overlaid[..., 2]) - (outlined[..., 0] - outlined[..., 2]) > 40
    core = seen & np.roll(seen, 4, 0) & np.roll(seen, -4, 0) & np.roll(seen, 4, 1)
    core &= np.roll(seen, -4, 1)
    assert core.any()
    assert reddened[core].mean() > 0.8
    assert reddened[~seen].mean() < 0.1
    page.set_range("#threshold", 50)  # its map has nothing above, so that no line is drawn
    clear = page.drawn(worst)
    white = (outlined > 240).all(axis=2) & (clear < 235).any(axis=2)
    assert white.sum() > 20
    near = np.zeros_like(seen)
    for dy in range(-5, 6):
        for dx in range(-5, 6):
            near |= np.roll(seen, (dy, dx), (0, 1))
    assert near[white].all()


def test_colours_are_those_of_plotting(page, report):
    from skanomaly.plotting import palette

    threshold = report.map_threshold
    for index in (int(np.argmin(report.scores)), int(np.argmax(report.scores))):
        values = np.array(page.value(f"Array.from(valuesOfCodes(images[{index}]))"))
        found = np.array(
            page.value(f"Array.from(coloursOfCodes(images[{index}], {threshold!r}, 1))")
        ).reshape(256, 4)
        position = palette.positions(values, threshold, 0, 2 * threshold)
        assert np.abs(found[:, :3] - 255 * palette.colours(position)).max() <= 1.5
        assert np.abs(found[:, 3] - 255 * palette.opacity(position)).max() <= 1.5


def test_filters_and_search(page, report):
    flagged, bad = report.labels == -1, report.truth == -1
    for verdict, expected in (
        ("anomalous", flagged),
        ("missed", bad & ~flagged),
        ("false alarm", flagged & ~bad),
        ("found", flagged & bad),
    ):
        Select(page.find("#filter-verdict")).select_by_visible_text(verdict)
        assert page.value("shown.map(image => image.index).sort((a, b) => a - b)") == (
            np.flatnonzero(expected).tolist()
        )
    Select(page.find("#filter-verdict")).select_by_visible_text("all")
    kind = report.defect_types[report.truth == -1][0]
    Select(page.find("#filter-type")).select_by_visible_text(kind)
    n = (report.defect_types == kind).sum()
    assert page.shown() == f"{n} of 24 images"
    assert len(page.cards()) == n
    Select(page.find("#filter-group")).select_by_visible_text("lot 1")
    both = (report.defect_types == kind) & (report.groups == "lot 1")
    assert sorted(page.cards()) == np.flatnonzero(both).tolist()
    page.find("#filters-reset").click()
    assert page.shown() == "24 images"
    page.find("#search").send_keys("QUOTES")
    assert page.cards() == [2]
    page.find("#search").send_keys(" nothing of the kind")
    assert page.cards() == []
    assert page.find("#nothing").is_displayed()
    page.find("#filters-reset").click()
    Select(page.find("#filter-order")).select_by_visible_text("as given")
    assert page.value("shown.map(image => image.index)") == list(range(24))
    # A filter by verdict follows the threshold.
    Select(page.find("#filter-verdict")).select_by_visible_text("anomalous")
    page.set_range("#threshold", 1.2)
    assert len(page.cards()) == (-report.scores > 1.2 * -report.offset).sum()


def test_keys(page, report):
    order = by_anomaly(report)
    page.press(Keys.ARROW_RIGHT)
    focused = "document.activeElement.image?.index"
    assert page.value(focused) == order[0]
    columns = page.value("layout.columns")
    assert columns > 2
    for key, expected in (
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_DOWN, 1 + columns),
        (Keys.ARROW_LEFT, columns),
        (Keys.ARROW_UP, 0),
        (Keys.END, 23),
        (Keys.ARROW_RIGHT, 23),
        (Keys.HOME, 0),
    ):
        page.press(key)
        assert page.value(focused) == order[expected]
    page.press("d")
    assert page.value("decisions.get(document.activeElement.image.name)") == "defect"
    page.press(Keys.ARROW_RIGHT)
    page.press("o")
    assert page.value("state.opacity") == 0
    page.press("o")
    assert page.value("state.opacity") == 0.6
    page.press("?")
    assert page.find("#keys").is_displayed()
    page.press(Keys.ESCAPE)
    assert not page.find("#keys").is_displayed()
    page.press("/")
    assert page.value("document.activeElement.id") == "search"
    page.press("gdu?o")  # in a field keys are letters
    assert page.find("#search").get_attribute("value") == "gdu?o"
    assert page.value("decisions.size") == 1


def test_the_enlarged_view(page, report):
    order = by_anomaly(report)
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ENTER)
    assert page.find("#viewer").is_displayed()
    page.wait("$('stage').dataset.drawn !== undefined")
    worst = int(np.argmin(report.scores))
    of_image = report.regions.image == worst
    assert len(page.all("#viewer-regions tbody tr")) == of_image.sum() > 0
    first = np.flatnonzero(of_image)[0]
    line = page.find("#viewer-regions tbody tr").text
    box = [int(report.regions[side][first]) for side in ("top", "left", "bottom", "right")]
    assert f"{box[1]}, {box[0]} {box[3] - box[1]} {TIMES} {box[2] - box[0]}" in line
    assert f"{report.regions.area[first]} (" in line
    facts = page.find("#viewer-facts").text
    assert f"{report.p_values[worst]:.4g}"[:6] in facts
    assert f"64 {TIMES} 64 px" in facts
    page.press("u")
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ARROW_RIGHT)
    page.press("g")
    page.press(Keys.ARROW_LEFT)
    decided = page.value("decidedImages().map(image => [image.index, decisions.get(image.name)])")
    assert sorted(decided) == sorted([[order[0], "unsure"], [order[2], "good"]])
    page.press(Keys.ESCAPE)
    assert not page.find("#viewer").is_displayed()
    assert page.value("document.activeElement.image.index") == order[1]
    page.find(".card .picture").click()
    assert page.find("#viewer").is_displayed()
    page.find("#viewer-close").click()
    assert not page.find("#viewer").is_displayed()


def test_undecided_images_one_after_the_other(page, report):
    """With the filter on, what is decided makes room for the next."""
    order = by_anomaly(report)
    Select(page.find("#filter-decision")).select_by_visible_text("undecided")
    page.find(".card .picture").click()
    for _ in range(3):
        page.press("d")
        page.press(Keys.ARROW_RIGHT)
    assert page.value("viewed.index") == order[3]
    page.press(Keys.ESCAPE)
    assert page.value("document.activeElement.image.index") == order[3]
    page.press("g")
    assert page.value("document.activeElement.image.index") == order[4]
    assert page.shown() == "20 of 24 images"


def downloaded(driver, suffix):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        found = [p for p in Path(driver.downloads).iterdir() if p.suffix == suffix]
        if found:
            content = found[0].read_bytes()
            found[0].unlink()
            return content
        time.sleep(0.05)
    raise AssertionError(f"no {suffix} file was downloaded")


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_decisions_are_kept_and_saved_and_read_back(kind, page, report, tmp_path):
    assert not page.find(f"#save-{kind}").is_enabled()
    expected = {}
    for i, name in enumerate(report.names[:12].tolist()):
        expected[name] = ("good", "defect", "unsure")[i % 3]
        page.run("decide(images[arguments[0]], arguments[1])", i, expected[name])
    page.load(keep=True)
    assert page.find("#decided").text == "Decided: 4 good, 4 defect, 4 unsure"
    page.find(f"#save-{kind}").click()
    path = tmp_path / f"decisions.{kind}"
    path.write_bytes(downloaded(page.driver, f".{kind}"))
    found = load_decisions(path)
    assert dict(zip(found.names.tolist(), found.decisions.tolist())) == expected
    assert found.names.tolist() == report.names[:12].tolist()


def test_a_decision_is_taken_back_by_the_same_again(page):
    button = page.find(".card [data-decision=good]")
    button.click()
    assert button.get_attribute("aria-pressed") == "true"
    assert page.find(".card").get_attribute("data-decision") == "good"
    page.find(".card [data-decision=unsure]").click()
    assert button.get_attribute("aria-pressed") == "false"
    page.find(".card [data-decision=unsure]").click()
    assert page.find("#decided").text == "No decisions yet"


def test_dark_colours_by_system_and_by_choice(page):
    def brightness():
        colour = page.value("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(",")))

    assert brightness() > 600
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
    assert brightness() < 150
    Select(page.find("#scheme")).select_by_visible_text("light")
    assert brightness() > 600
    page.load(keep=True)
    assert brightness() > 600
    Select(page.find("#scheme")).select_by_visible_text("as the system")
    assert brightness() < 150


@pytest.mark.parametrize("width", [360, 768])
def test_narrow_screens_have_no_sideways_scrolling(page, width):
    size = {"width": width, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.load()
    assert page.value("document.documentElement.scrollWidth") == width
    assert page.value("layout.columns") >= 2
    page.find(".card .picture").click()
    page.wait("$('stage').dataset.drawn !== undefined")
    for selector in ("#viewer-close", "#viewer-verdict", "#stage", "#viewer-decisions button"):
        box = page.find(selector).rect
        assert box["width"] > 0
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    assert page.find("#viewer-verdict").rect["height"] > 15


def test_where_multiples_of_the_threshold_mean_nothing(page_of, report):
    """Scores are then shown themselves, and the maps' threshold moves by as much."""
    shifted = copy.copy(report)
    shifted.scores, shifted.offset = report.scores + 1000, report.offset + 1000
    shifted.map_threshold = report.map_threshold - 1000
    shifted.pictures = [
        Bunch(**{**picture, "low": picture.low - 1000, "high": picture.high - 1000})
        for picture in report.pictures
    ]
    shifted.regions = Bunch(**{**report.regions, "max": report.regions["max"] - 1000})
    page = page_of(shifted)
    flagged = report.labels == -1
    assert page.counts()[0] == flagged.sum()
    assert page.find("#threshold-value").text == f"{shifted.offset:.4g}"
    assert page.cards()[:5] == by_anomaly(report)[:5]
    page.set_range("#threshold", -shifted.offset + 2)
    assert page.counts()[0] == (report.scores < report.offset - 2).sum() < flagged.sum()
    assert page.value("mapThreshold()") == pytest.approx(shifted.map_threshold + 2)
    assert page.drawn(by_anomaly(report)[0]).size


def test_one_image_and_nothing_known(page_of, brick_padim, bricks):
    page = page_of(inspection_report(brick_padim, bricks.images[:1]))
    assert page.shown() == "1 image"
    assert len(page.counts()) == 1
    assert not page.all("#filter-type")
    assert not page.find("#metrics").is_displayed()
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.ENTER)
    page.wait("$('stage').dataset.drawn !== undefined")


def test_many_images_have_few_cards(page_of, brick_padim, bricks):
    images = np.concatenate([bricks.images] * 10)
    page = page_of(inspection_report(brick_padim, images, thumbnail_size=64))
    assert 5 < len(page.all(".card")) < 80
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.END)
    assert page.value("document.activeElement.getAttribute('aria-posinset')") == "240"
    assert 5 < len(page.all(".card")) < 80
    assert page.value("document.activeElement.getBoundingClientRect().bottom") <= 900
    page.run("window.scrollTo(0, 0)")
    page.wait("gallery.firstChild.getAttribute('aria-posinset') === '1'")


def test_it_is_printed_without_controls(page):
    page.run(
        "window.print = () => { window.printed = document.querySelectorAll('.sheet .card').length }"
    )
    page.find("#print").click()
    page.wait("window.printed === 24")
    page.wait("document.querySelector('.sheet') === null")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not page.find("#threshold").is_displayed()
    assert page.find("#counts").is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessibility(page, scheme):
    """By the rules of WCAG 2.1 A and AA that can be checked by a script."""
    axe = pytest.importorskip("axe_playwright_python", reason="needs axe-playwright-python")
    page.run((Path(axe.__file__).parent / "axe.min.js").read_text("utf-8"))
    Select(page.find("#scheme")).select_by_visible_text(scheme)
    page.run("decide(shown[0], 'good'); decide(shown[1], 'defect'); decide(shown[2], 'unsure')")
    page.run("about.open = true")

    def violations():
        options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
        found = page.driver.execute_async_script(
            "axe.run(document, arguments[0]).then(arguments[1])", options
        )
        assert len(found["passes"]) > 20
        return {
            (rule["id"], node["html"][:200])
            for rule in found["violations"]
            for node in rule["nodes"]
        }

    assert violations() == set()
    page.find(".card .picture").click()
    page.wait("$('stage').dataset.drawn !== undefined")
    assert violations() == set()


def test_a_browser_that_stores_nothing_says_so(page):
    page.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument",
        {
            "source": "Object.defineProperty(window, 'localStorage', "
            "{get() { throw new DOMException('denied', 'SecurityError') }, configurable: true})"
        },
    )
    page.driver.get(page.url)
    page.wait("document.documentElement.dataset.ready !== undefined")
    assert "keeps no decisions" in page.find("#notice").text
    page.find(".card [data-decision=good]").click()
    assert page.find("#decided").text == "Decided: 1 good"
