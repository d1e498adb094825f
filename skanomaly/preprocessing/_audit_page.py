"""A page of thumbnails that a browser shows without anything else: no script, no other file."""

from __future__ import annotations

import os
from base64 import b64encode
from html import escape
from io import BytesIO

import numpy as np
from PIL import Image

# Images, from the most suspicious on, over which maps are laid besides those that are flagged.
N_WITH_MAPS = 24

_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; background: #fafafa; }
h1 { font-size: 1.3em; margin: 0 0 .5em; }
nav { position: sticky; top: 0; z-index: 1; padding: .6em 0; background: #fafafa; }
nav label { display: inline-block; margin: 0 .9em .2em 0; cursor: pointer; }
main { display: flex; flex-wrap: wrap; gap: 12px; align-items: flex-start; }
figure { margin: 0; width: 160px; padding: 8px; background: #fff; border: 1px solid #ddd;
  border-radius: 4px; overflow-wrap: anywhere; font-size: 12px; }
figure:target { border-color: #06c; box-shadow: 0 0 0 2px #06c; }
.picture { position: relative; width: fit-content; margin: 0 auto 6px; }
.picture img { display: block; max-width: 160px; max-height: 160px; }
.picture img.map { position: absolute; inset: 0; width: 100%; height: 100%; }
:root:not(:has(#maps:checked)) .map, .picture:hover .map { display: none; }
.none { height: 60px; display: grid; place-items: center; color: #888; background: #f0f0f0; }
.flag { display: inline-block; padding: 0 5px; margin: 2px 3px 0 0; border-radius: 3px;
  color: #fff; background: #7a5c00; }
.flag.anomalous, .flag.unreadable { background: #b3261e; }
.number { color: #777; }
"""


def page(audit):
    """The page of an audit.

    Parameters
    ----------
    audit : ImageAudit

    Returns
    -------
    str
        HTML.
    """
    filters = {name: marked.sum() for name, marked in audit.flags.items()}
    title = f"Audit of {len(audit.names)} images"
    hiding = "\n".join(
        f":root:has(#{name}:checked) figure:not(.{name}) {{ display: none; }}"
        for name in ("flagged", *filters)
    )
    with_maps = {*audit.order[:N_WITH_MAPS].tolist(), *np.flatnonzero(audit.flagged).tolist()}
    overlays = _overlays(audit, sorted(with_maps))
    figures = [_figure(audit, rank, int(i), overlays) for rank, i in enumerate(audit.order, 1)]
    choices = [
        _choice("all", len(audit.names), checked=True),
        _choice("flagged", int(audit.flagged.sum())),
        *(_choice(name, int(count)) for name, count in filters.items() if count),
    ]
    maps = '<label><input type="checkbox" id="maps" checked> maps</label>' if overlays else ""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title><style>{_STYLE}{hiding}\n</style></head><body>",
            f"<h1>{title}, the most suspicious first</h1>",
            f"<nav>{''.join(choices)}{maps}</nav><main>",
            *figures,
            "</main></body></html>\n",
        ]
    )


def printable(name):
    """A file's name without what no text may hold, as bytes that are no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _details(audit, i):
    """The flags of an image, each with what is behind it as HTML."""
    for flag, marked in audit.flags.items():
        if not marked[i]:
            continue
        if flag == "unreadable":
            yield flag, escape(printable(audit.reasons[i]))
        elif flag == "size":
            yield flag, "{} x {}".format(*audit.sizes[i])
        elif flag == "duplicate":
            other = audit.duplicate_of[i]
            yield flag, f'of <a href="#i{other}">{_name(audit, other)}</a>'
        elif flag == "blurred":
            share = audit.sharpness[i] / np.nanmedian(audit.sharpness)
            yield flag, f"{share:.0%} of the usual sharpness"
        elif flag in ("dark", "bright"):
            usual = np.nanmedian(audit.brightness)
            yield flag, f"{audit.brightness[i]:.2f}, usual {usual:.2f}"
        else:
            yield flag, ""


def _name(audit, i):
    return escape(printable(os.path.basename(audit.names[i])))


def _choice(name, count, checked=False):
    state = " checked" if checked else ""
    return (
        f'<label><input type="radio" name="shown" id="{name}"{state}> {name} '
        f'<span class="number">{count}</span></label>'
    )


def _figure(audit, rank, i, overlays):
    flags = [flag for flag, marked in audit.flags.items() if marked[i]]
    classes = " ".join([*flags, *(["flagged"] if flags else [])])
    path, name = escape(printable(audit.names[i])), _name(audit, i)
    found = [
        f'<div><span class="flag {flag}">{flag}</span>{detail}</div>'
        for flag, detail in _details(audit, i)
    ]
    scored = ""
    if np.isfinite(audit.scores[i]):
        scored = f"score {audit.scores[i]:.4g}, p {audit.p_values[i]:.3g}"
    return (
        f'<figure id="i{i}" class="{classes}">{_picture(audit, i, name, overlays)}'
        f'<figcaption><span class="number">{rank}.</span> <b title="{path}">{name}</b>'
        f"<div>{scored}</div>{''.join(found)}</figcaption></figure>"
    )


def _picture(audit, i, name, overlays):
    if not audit.thumbnails[i]:
        return '<div class="none">no picture</div>'
    picture = _embedded(audit.thumbnails[i], "jpeg", name)
    if i in overlays:
        picture += _embedded(overlays[i], "png", "", ' class="map"')
    return f'<div class="picture">{picture}</div>'


def _embedded(content, kind, name, more=""):
    data = b64encode(content).decode("ascii")
    return f'<img loading="lazy" alt="{name}"{more} src="data:image/{kind};base64,{data}">'


def _overlays(audit, chosen):
    """PNG by image: red where a map is higher than the usual image's highest value."""
    if audit.maps is None:
        return {}
    peaks = audit.maps.max(axis=(1, 2))
    low, high = np.nanquantile(peaks, [0.5, 0.98]) if np.isfinite(peaks).any() else (0, 1)
    overlays = {}
    for i in chosen:
        if np.isfinite(peaks[i]):
            strength = np.clip((audit.maps[i] - low) / max(high - low, 1e-12), 0, 1)
            pixels = np.zeros((*strength.shape, 4), np.uint8)
            pixels[..., 0], pixels[..., 3] = 255, np.round(190 * np.sqrt(strength))
            file = BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            overlays[i] = file.getvalue()
    return overlays
