"""Boxes around lines of text, out of a map of probabilities: the postprocessing of DB (Liao et al., "Real-time Scene Text Detection
with Differentiable Binarization", 2020), in numpy.

Coordinates are (x, y) in pixels. A box is turned as its line is: a rectangle with a centre, two unit vectors and half lengths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from heapq import nlargest
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Box:
    """A rectangle. centre: (2,). axes: (2, 2), a unit vector a row. halves: (2,), half its length along each axis."""

    centre: Floats
    axes: Floats
    halves: Floats

    def grown(self, ratio: float) -> Box:
        """Moved outwards on every side by area * ratio / perimeter: the map shows a shrunken line."""
        width, height = 2 * self.halves
        return Box(self.centre, self.axes, self.halves + ratio * width * height / (2 * (width + height)))

    def corners(self) -> Floats:
        """(4, 2): top left, top right, bottom right, bottom left of the line."""
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)
        return in_order(self.centre + (signs * self.halves) @ self.axes)

    def mean(self, values: npt.NDArray[Any]) -> float:
        """The mean of an array (height, width) within the rectangle."""
        corners = self.corners()
        left, top = np.clip(np.floor(corners.min(axis=0)), 0, None).astype(int)
        right, bottom = np.ceil(corners.max(axis=0)).astype(int) + 1
        part = values[top:bottom, left:right]
        ys, xs = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]]
        away = np.abs(np.stack([xs - self.centre[0], ys - self.centre[1]], axis=-1) @ self.axes.T)
        within = (away <= self.halves + 0.5).all(axis=-1)
        return float(part[within].mean()) if within.any() else 0.0


@dataclass(frozen=True)
class Limits:
    """pixel: the probability from which a pixel is text. box: mean probability of a box. least_side: shortest side, in pixels of the
    map. growth: see `Box.grown`. most: parts of the map of which boxes are made."""

    pixel: float = 0.3
    box: float = 0.5
    least_side: float = 3.0
    growth: float = 2.0
    most: int = 1_000


def boxes(probabilities: npt.NDArray[Any], limits: Limits) -> list[Box]:
    """The boxes of a map, float (height, width). Of very many parts the largest are looked at."""
    kept = []
    large = [points for points in components(probabilities > limits.pixel) if _extent(points) >= limits.least_side**2]
    for points in nlargest(limits.most, large, key=_extent):
        box = smallest_box(points)
        if 2 * box.halves.min() >= limits.least_side and box.mean(probabilities) >= limits.box:
            kept.append(box.grown(limits.growth))
    return kept


def _extent(points: Floats) -> float:
    """Area of the upright rectangle around points (n, 2): no less than that of the smallest box."""
    return float(np.ptp(points, axis=0).prod())


def components(mask: npt.NDArray[np.bool_]) -> Iterator[Floats]:
    """For each connected part of a mask (height, width), the ends of its runs in every row: (points, 2). Diagonal neighbours touch."""
    rows, starts, ends = _runs(mask)
    parent = np.arange(len(rows))
    first = np.searchsorted(rows, np.arange(mask.shape[0] + 1))
    for row in range(1, mask.shape[0]):
        above, here = first[row - 1], first[row]
        while above < first[row] and here < first[row + 1]:
            if starts[here] <= ends[above] + 1 and starts[above] <= ends[here] + 1:
                _join(parent, above, here)
            if ends[above] < ends[here]:
                above += 1
            else:
                here += 1
    roots = np.array([_root(parent, run) for run in range(len(rows))], int)
    order = np.argsort(roots, kind="stable")
    for group in np.split(order, np.flatnonzero(np.diff(roots[order])) + 1) if len(order) else []:
        ys = rows[group].astype(float)
        yield np.concatenate([np.stack([starts[group], ys], 1), np.stack([ends[group], ys], 1)])


def _runs(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Row, first and last column of each run, row by row."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), np.int8)
    padded[:, 1:-1] = mask
    change = np.diff(padded, axis=1)
    rows, starts = np.nonzero(change == 1)
    _, ends = np.nonzero(change == -1)
    return rows, starts, ends - 1


def _root(parent: npt.NDArray[Any], run: int) -> int:
    while parent[run] != run:
        parent[run] = parent[parent[run]]
        run = int(parent[run])
    return run


def _join(parent: npt.NDArray[Any], one: int, other: int) -> None:
    parent[_root(parent, other)] = _root(parent, one)


def smallest_box(points: Floats) -> Box:
    """The rectangle of least area around points (n, 2). One of its sides lies on a side of their convex hull."""
    hull = convex_hull(points)
    sides = np.roll(hull, -1, axis=0) - hull
    lengths = np.hypot(*sides.T)
    along = sides[lengths > 0] / lengths[lengths > 0, None] if lengths.any() else np.array([[1.0, 0.0]])
    axes = np.stack([along, np.stack([-along[:, 1], along[:, 0]], axis=1)], axis=1)  # (sides, 2, 2)
    places = np.einsum("sij,pj->sip", axes, hull)
    low, high = places.min(axis=2), places.max(axis=2)
    best = int(np.argmin((high - low).prod(axis=1)))
    return Box((low[best] + high[best]) / 2 @ axes[best], axes[best], (high[best] - low[best]) / 2)


def convex_hull(points: Floats) -> Floats:
    """Its corners in order, (corners, 2), by Andrew's monotone chain."""
    ordered = np.unique(points, axis=0)
    if len(ordered) < 3:
        return ordered
    return np.array(_chain(ordered)[:-1] + _chain(ordered[::-1])[:-1])


def _chain(ordered: Floats) -> list[Floats]:
    kept: list[Floats] = []
    for point in ordered:
        while len(kept) > 1 and _turn(kept[-2], kept[-1], point) <= 0:
            kept.pop()
        kept.append(point)
    return kept


def _turn(a: Floats, b: Floats, c: Floats) -> float:
    """Greater than 0 for a turn to the left."""
    return float((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0]))


def in_order(corners: Floats) -> Floats:
    """Corners (4, 2) as top left, top right, bottom right, bottom left: the two at the left come first, each pair from the top."""
    by_x = corners[np.argsort(corners[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    top_left, bottom_left = left[np.argsort(left[:, 1], kind="stable")]
    top_right, bottom_right = right[np.argsort(right[:, 1], kind="stable")]
    return np.stack([top_left, top_right, bottom_right, bottom_left])


def reading_order(lines: list[Floats]) -> list[int]:
    """Numbers of boxes (4, 2) from the top to the bottom; those of one row from the left to the right. Two boxes are of one row if
    their tops differ by less than half the height of the row's first box."""
    by_top = sorted(range(len(lines)), key=lambda i: (lines[i][0, 1], lines[i][0, 0]))
    rows: list[list[int]] = []
    for i in by_top:
        if rows:
            first = lines[rows[-1][0]]
            if lines[i][0, 1] - first[0, 1] < np.hypot(*(first[3] - first[0])) / 2:
                rows[-1].append(i)
                continue
        rows.append([i])
    return [i for row in rows for i in sorted(row, key=lambda i: lines[i][0, 0])]
