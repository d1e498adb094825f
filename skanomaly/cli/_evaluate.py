"""``skanomaly evaluate``: how good a model is on images whose defects are known."""

from __future__ import annotations

import html as html_escapes

import click

from .._atomic import replaced
from ._app import FLAGGED, command, trust_pickle
from ._fit import check_seed
from ._models import digest_of, load_detector
from ._output import CommandError, say

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; }}
table {{ border-collapse: collapse; margin: 0 0 1.5em; }} td, th {{ padding: .15em .8em .15em 0; }}
caption {{ text-align: left; font-weight: 600; padding: .3em 0; }}
tbody tr {{ border-top: 1px solid #8884; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #181a1b; color: #e8e6e3; }} }}
</style></head><body><h1>{title}</h1>{tables}<p>{model}, SHA-256 {sha256}</p></body></html>
"""


@command()
@click.argument("model")
@click.argument("folder")
@click.option(
    "--split",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="Of FOLDER, which has <split>/good, <split>/<defect> and, for maps, ground_truth.",
)
@click.option("--csv", metavar="CSV", help="Also write a line for each group and metric.")
@click.option("--html", metavar="HTML", help="Also write the tables as a page.")
@click.option(
    "--fail-under",
    multiple=True,
    metavar="METRIC=VALUE",
    help="Exit with 1 if a metric is lower, such as image_roc_auc=0.95. May be repeated.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the intervals.")
@trust_pickle
def evaluate(output, model, folder, split, csv, html, fail_under, seed, trust_pickle):
    """Evaluate MODEL on FOLDER, laid out like MVTec AD and its relatives.

    Metrics of images, of pixels where there are masks, by type, size and contrast of defects, and
    what the threshold flags; with confidence intervals.
    """
    from ..datasets import load_image_folder
    from ..metrics import evaluate as evaluation_of

    check_seed(seed)
    limits = [_limit(text) for text in fail_under]
    for path in (csv, html):
        output.claim(path)
    detector = load_detector(model, trust_pickle)
    test = load_image_folder(folder, split=split)
    with output.progress(f"scoring {len(test.images)} images"):
        found = evaluation_of(
            detector,
            test.images,
            test.masks,
            y=test.target,
            defect_types=test.defect_types,
            random_state=seed,
        )
    unknown = [name for name, _ in limits if name not in found]
    if unknown:
        raise CommandError(
            f"--fail-under: there is no metric {unknown[0]} here; there are {', '.join(found)}"
        )
    digest = digest_of(model)
    if csv:
        found.to_csv(csv)
    if html:
        _write_page(html, found, model, digest, folder)
    output.report(str(found))
    output.document(found.to_dict() | {"model": model, "sha256": digest, "folder": folder})
    below = [(name, value) for name, value in limits if not found[name] >= value]
    for name, value in below:
        say(f"{name} is {found[name]:.4g}, lower than {value:g}")
    return FLAGGED if below else 0


def _limit(text):
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise CommandError(f"--fail-under {text}: expected metric=number") from None


def _write_page(path, found, model, digest, folder):
    escape = html_escapes.escape
    page = _PAGE.format(
        title=f"{escape(found.detector_name)} on {escape(str(folder))}",
        tables=found._repr_html_(),
        model=escape(model),
        sha256=digest,
    )
    with replaced(path) as file:
        file.write(page.encode("utf-8", "backslashreplace"))
