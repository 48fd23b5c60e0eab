"""Curves of single entities as segments and arcs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import BSpline, CubicSpline

from dedup2d.geometry.linework import FULL_TURN, Floats
from dedup2d.geometry.model import Arc, Ellipse, Polyline, Spline

__all__ = ["arc_row", "ellipse_points", "polyline_parts", "spline_points"]

MAX_CURVE_POINTS = 1_000


def arc_row(arc: Arc) -> tuple[float, float, float, float, float]:
    """Return *arc* as a row of `Linework.arcs`."""
    start = math.radians(arc.start_angle)
    sweep = math.radians(arc.end_angle - arc.start_angle) % FULL_TURN
    return arc.center[0], arc.center[1], arc.radius, start, sweep or FULL_TURN


def polyline_parts(line: Polyline) -> tuple[Floats, Floats]:
    """Return the segments (N, 4) and arcs (M, 5) of *line*."""
    points = line.points
    if len(points) < 2:
        return np.empty((0, 4)), np.empty((0, 5))
    places = np.array([p[:2] for p in points])
    bulges = np.array(line.bulges or [_bulge(p) for p in points], float)
    bulges = np.resize(np.append(bulges, np.zeros(max(0, len(places) - len(bulges)))), len(places))
    following = np.roll(places, -1, axis=0)
    chords = np.concatenate([places, following], axis=1)
    if not line.closed:
        chords, bulges = chords[:-1], bulges[:-1]
    round_ = (np.abs(bulges) > 1e-9) & np.any(chords[:, :2] != chords[:, 2:], axis=1)
    return chords[~round_], _bulge_arcs(chords[round_], bulges[round_])


def _bulge(vertex: Sequence[float]) -> float:
    return 0.0 if len(vertex) in {2, 4} else vertex[-1]


def _bulge_arcs(chords: Floats, bulges: Floats) -> Floats:
    """A bulge is the tangent of a quarter of the sweep, negative for clockwise."""
    if not len(chords):
        return np.empty((0, 5))
    start, end = chords[:, :2], chords[:, 2:]
    half = (end - start) / 2
    # From the middle of the chord to the centre, to its left.
    reach = (1 / bulges - bulges) / 2
    centre = (start + end) / 2 + reach[:, None] * np.stack([-half[:, 1], half[:, 0]], axis=1)
    first = np.where((bulges > 0)[:, None], start, end) - centre
    radius = np.hypot(*(start - centre).T)
    return np.column_stack(
        [centre, radius, np.arctan2(first[:, 1], first[:, 0]), 4 * np.arctan(np.abs(bulges))]
    )


def ellipse_points(ellipse: Ellipse) -> Floats:
    """Return points (N, 2) along *ellipse*."""
    sweep = ellipse.end_param - ellipse.start_param
    if not 0 < sweep <= FULL_TURN + 1e-9:
        sweep = sweep % FULL_TURN or FULL_TURN
    params = ellipse.start_param + sweep * np.linspace(0, 1, max(8, round(128 * sweep / FULL_TURN)) + 1)
    major = np.array(ellipse.major_axis[:2])
    minor = ellipse.ratio * np.array([-major[1], major[0]])
    centre = np.array(ellipse.center[:2])
    return np.asarray(centre + np.cos(params)[:, None] * major + np.sin(params)[:, None] * minor)


def spline_points(spline: Spline) -> Floats:
    """Return points (N, 2) along *spline*; none if it has too few points."""
    control = np.array([p[:2] for p in spline.control_points]).reshape(-1, 2)
    if len(control) > spline.degree:
        return _b_spline(spline, control)
    fit = np.array([p[:2] for p in spline.fit_points]).reshape(-1, 2)
    if len(fit):
        keep = np.append(True, np.any(np.diff(fit, axis=0) != 0, axis=1))
        fit = fit[keep]
    if len(fit) < 3:
        return fit if len(fit) else control
    at = np.append(0.0, np.cumsum(np.hypot(*np.diff(fit, axis=0).T)))
    steps = min(MAX_CURVE_POINTS, 8 * len(fit))
    return np.asarray(CubicSpline(at, fit)(np.linspace(0, at[-1], steps)))


def _b_spline(spline: Spline, control: Floats) -> Floats:
    degree, count = spline.degree, len(control)
    knots = np.array(spline.knots)
    if len(knots) != count + degree + 1 or np.any(np.diff(knots) < 0) or knots[degree] >= knots[count]:
        inner = np.arange(1, count - degree)
        knots = np.concatenate([np.zeros(degree + 1), inner, np.full(degree + 1, count - degree)]).astype(
            float
        )
    spans = np.unique(knots[degree : count + 1])
    per_span = max(2, min(8, MAX_CURVE_POINTS // len(spans)))
    at = np.unique(np.linspace(spans[:-1], spans[1:], per_span + 1))
    if len(at) > MAX_CURVE_POINTS * 4:
        at = at[np.linspace(0, len(at) - 1, MAX_CURVE_POINTS).astype(int)]
    weights = np.array(spline.weights)
    if len(weights) != count or np.any(weights <= 0):
        return np.asarray(BSpline(knots, control, degree)(at))
    whole = BSpline(knots, np.column_stack([control * weights[:, None], weights]), degree)(at)
    return np.asarray(whole[:, :2] / whole[:, 2:])
