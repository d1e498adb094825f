"""Where defects are: signed distances in pixels, on frames that smooth noise deforms."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ._sketch import NOISE_CELLS

NOISE_FINENESS = 4  # of its interpolation, once for all pixels


class Regions:
    """The regions of a batch, each number a tensor over them, and their coordinate frames."""

    def __init__(self, rows_by_image, size, device):
        rows = [row for rows in rows_by_image for row in rows]
        self.image = np.repeat(np.arange(len(rows_by_image)), [len(r) for r in rows_by_image])
        self.rank = np.concatenate([np.arange(len(r)) for r in rows_by_image])
        self.shape = np.array([row["shape"] for row in rows])
        self.texture = np.array([row["texture"] for row in rows])
        self.size, self.device = tuple(size), device
        self.numbers = {
            name: torch.from_numpy(np.array([row[name] for row in rows], np.float32)).to(device)
            for name in rows[0]
            if name not in ("shape", "texture")
        }
        fine = F.interpolate(
            self.numbers["noise"], scale_factor=NOISE_FINENESS, mode="bicubic", align_corners=False
        )
        self.numbers["noise"] = fine / fine.std(dim=(2, 3), keepdim=True)
        y, x = (torch.arange(n, dtype=torch.float32, device=device) for n in size)
        self.dy = (y - self.center[:, :1])[:, :, None]  # (R, H, 1)
        self.dx = (x - self.center[:, 1:])[:, None, :]  # (R, 1, W)

    def __getattr__(self, name):
        try:
            return self.__dict__["numbers"][name]
        except KeyError:
            raise AttributeError(name) from None

    def __len__(self):
        return len(self.image)

    def choose(self, chosen):
        """The regions at these positions."""
        part = object.__new__(Regions)
        part.image, part.rank = self.image[chosen], self.rank[chosen]
        part.shape, part.texture = self.shape[chosen], self.texture[chosen]
        part.size, part.device = self.size, self.device
        index = torch.as_tensor(np.flatnonzero(chosen), device=self.device)
        part.numbers = {name: values[index] for name, values in self.numbers.items()}
        part.dy, part.dx = self.dy[index], self.dx[index]
        return part

    def smooth_noise(self, channels, cell):
        """Noise of unit variance and correlation length `cell` pixels, (R, c, H, W)."""
        grid = torch.stack(
            torch.broadcast_tensors(self.dx / cell[:, None, None], self.dy / cell[:, None, None]),
            dim=-1,
        )
        return F.grid_sample(
            self.noise[:, channels],
            grid * (2 / NOISE_CELLS),
            padding_mode="reflection",
            align_corners=False,
        )

    def frame(self):
        """Coordinates along and across each region, deformed by noise but for its centre."""
        cos, sin = (f(self.angle)[:, None, None] for f in (torch.cos, torch.sin))
        u, v = cos * self.dx + sin * self.dy, cos * self.dy - sin * self.dx
        bend = self.smooth_noise(slice(0, 2), self.cell)
        bend = bend + 0.25 * self.smooth_noise(slice(2, 4), self.cell / 4)
        rows, columns = self.center.long().T
        bend = bend - bend[torch.arange(len(self)), :, rows, columns][:, :, None, None]
        bend = bend * self.amplitude[:, None, None, None]
        return u + bend[:, 0], v + bend[:, 1]


def _ellipse(regions):
    u, v = regions.frame()
    a, b = regions.length[:, None, None], regions.width[:, None, None]
    return b * (1 - torch.hypot(u / a, v / b))


def _polygon(regions):
    """Inside every one of seven half-planes, so convex, with straight edges."""
    u, v = regions.frame()
    a, b = regions.length[:, None, None], regions.width[:, None, None]
    distance = torch.full_like(u, torch.inf)
    for normal, edge in zip(regions.normals.T[:, :, None, None], regions.edges.T[:, :, None, None]):
        inside = edge - normal.cos() * (u / a) - normal.sin() * (v / b)
        distance = torch.minimum(distance, b * inside)
    return distance


def _stroke(regions):
    """Within half a width of a trunk or of one of its branches, thinner towards the ends."""
    u, v = regions.frame()
    distance = torch.full_like(u, -torch.inf)
    for stroke, knots in zip(regions.strokes.unbind(1), regions.knots.unbind(1)):
        if not stroke.any():
            continue
        start, offset, turn, length, relative_width = stroke.T[:, :, None, None]
        along = turn.cos() * (u - start) + turn.sin() * (v - offset)
        across = turn.cos() * (v - offset) - turn.sin() * (u - start)
        share = along / length.clamp(min=1)
        line, slope = _interpolate(knots, share)
        across = (across - line) / (1 + (slope / length.clamp(min=1)).square()).sqrt()
        beyond = (along - length).clamp(min=0) + (-along).clamp(min=0)
        taper = 1 - 0.7 * (2 * share.clamp(0, 1) - 1).abs()
        half_width = regions.width[:, None, None] * relative_width * taper
        inside = half_width - torch.hypot(across, beyond)
        distance = torch.maximum(distance, inside.where(length > 0, -torch.inf))
    return distance


def _interpolate(knots, share):
    """Value and slope of the lines through `knots` (R, K) at shares (R, H, W) of their length."""
    position = share.clamp(0, 1) * (knots.shape[1] - 1)
    left = position.long().clamp(max=knots.shape[1] - 2)
    a, b = (knots.gather(1, i.flatten(1)).view_as(share) for i in (left, left + 1))
    return a + (position - left) * (b - a), (b - a) * (knots.shape[1] - 1)


def _noise(regions):
    """Where smooth noise exceeds its value near the centre, within an ellipse."""
    noise = regions.smooth_noise(slice(4, 5), regions.width / 2)[:, 0]
    rows, columns = regions.center.long().T
    at_center = noise[torch.arange(len(regions)), rows, columns]
    threshold = torch.minimum(at_center - 0.3, torch.tensor(0.2, device=regions.device))
    inside = (noise - threshold[:, None, None]) * regions.width[:, None, None] / 4
    return torch.minimum(inside, _ellipse(regions))


SIGNED_DISTANCE = {"ellipse": _ellipse, "polygon": _polygon, "stroke": _stroke, "noise": _noise}
