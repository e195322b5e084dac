"""A fetal head and what lies about it, as shapes: growth, brain, fluid, body and limbs, drawn on a canvas."""

from dataclasses import dataclass

import cv2
import numpy as np

from hcreg.datasets.synthetic.ultrasound import smooth_noise

# Speckle levels in dB below the echo of a skull that faces the probe.
TISSUE_DB = -29.5
FLUID_DB = -58.0
_BRAIN_DB = {1: -37.0, 2: -42.0, 3: -43.5}

# Limits of the head circumference in each trimester, as in HC18.
_HC_RANGE_MM = {1: (44.3, 100.0), 2: (81.0, 264.0), 3: (247.0, 346.4)}


@dataclass(frozen=True)
class Anatomy:
    """What the images of one examination share.

    Parameters
    ----------
    trimester : {1, 2, 3}
    age_weeks : float, weeks
    hc_mm : float, mm
        Head circumference.
    axis_ratio : float
        Minor by major axis of the head: the cephalic index as a part of one.
    skull_waves : float array of shape (4, 2)
        Deviation of the skull from an ellipse: cosine and sine terms of three to six waves a turn, as parts
        of the minor semi-axis. Two waves and fewer would change the ellipse itself.
    gaps : float array of shape (num_gaps, 3)
        Sutures and fontanelles: place in (0, 2 pi) along the ellipse, half width in radians, remaining echo
        in (0, 1).
    fluid : float in [0, 1]
        How much amniotic fluid surrounds the head.
    evenness : float in [0, 1]
        How little the tissue's brightness varies.
    """

    trimester: int
    age_weeks: float
    hc_mm: float
    axis_ratio: float
    skull_waves: np.ndarray
    gaps: np.ndarray
    fluid: float
    evenness: float


def draw_anatomy(rng, trimester):
    """Draw the head that all images of one examination show.

    Parameters
    ----------
    rng : numpy.random.Generator
    trimester : {1, 2, 3}

    Returns
    -------
    Anatomy

    Notes
    -----
    Growth follows Hadlock's 1984 mean curve, HC = -114.8 + 15.6 w - 0.002548 w^3 mm for w weeks, with 3 %
    between fetuses. Ages are those of routine scans: about 12.5, 20 and 31 weeks, the second trimester with
    wide tails.
    """
    low, high = _HC_RANGE_MM[trimester]
    hc_mm = 0.0
    while not low <= hc_mm <= high:
        age = _draw_age_weeks(rng, trimester)
        hc_mm = (-114.8 + 15.6 * age - 0.002548 * age**3) * (1 + rng.normal(0, 0.03))
    gaps = np.column_stack([rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.02, 0.12, 6), rng.uniform(0.03, 0.45, 6)])
    return Anatomy(
        trimester=trimester,
        age_weeks=float(age),
        hc_mm=float(hc_mm),
        axis_ratio=float(np.clip(rng.normal(0.785, 0.048), 0.66, 0.93)),
        skull_waves=rng.normal(0, 1, (4, 2)) * np.array([0.013, 0.010, 0.007, 0.005])[:, None],
        gaps=gaps[: rng.integers(1, 7)],
        fluid=float(rng.beta(1.2, 2.5) if trimester == 3 else rng.beta(1.5, 1.5)),
        evenness=float(rng.random()),
    )


def _draw_age_weeks(rng, trimester):
    if trimester == 1:
        return rng.normal(12.55, 0.6)
    if trimester == 3:
        return rng.normal(31.0, 2.3)
    tail = rng.random()
    if tail < 0.12:
        return rng.uniform(14.0, 18.5)
    return rng.uniform(21.5, 27.0) if tail > 0.84 else rng.normal(20.0, 0.8)


class Canvas:
    """Picture at half size on which shapes are drawn in the frame of an ellipse.

    In the frame of an ellipse (u, v) = (1, 0) is the end of its major, (0, 1) of its minor semi-axis.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the full picture.
    sector : hcreg.datasets.synthetic.ultrasound.Sector

    Attributes
    ----------
    level_db, cover : float32 arrays of shape (height / 2, width / 2)
        Speckle level of what was drawn, and one where anything was.
    mirror : float32 array of the same shape
        In-phase echo of smooth surfaces.
    attenuation : float32 array of the same shape, dB per px
        Loss along a beam beyond the scanner's own correction.
    """

    def __init__(self, shape, sector):
        half = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
        self.sector = sector
        self.level_db, self.cover, self.mirror, self.attenuation = (np.zeros(half, np.float32) for _ in range(4))

    @staticmethod
    def _fixed(points):
        # Half size by the pixel-centre rule, in OpenCV's fixed point with four fractional bits.
        return np.round(((np.asarray(points) + 0.5) / 2 - 0.5) * 16).astype(np.int32)

    def fill(self, points, level_db, attenuation=0.0):
        """Fill a polygon, array of shape (n, 2) in px, with speckle of one level; it hides what was there."""
        corners = [self._fixed(points)]
        layers = (
            (self.level_db, level_db),
            (self.cover, 1.0),
            (self.mirror, 0.0),
            (self.attenuation, attenuation),
        )
        for picture, value in layers:
            cv2.fillPoly(picture, corners, float(value), cv2.LINE_8, 4)

    def reflect(self, points, strengths, thickness=1, sharpness=2.0, attenuation=0.0):
        """Draw a smooth surface along a polyline; each piece shines as far as it faces the probe.

        Strengths are one number, or one for each of the n - 1 pieces.
        """
        points = np.asarray(points, float)
        pieces = np.diff(points, axis=0)
        middles = (points[1:] + points[:-1]) / 2 - (self.sector.apex_x_px, self.sector.apex_y_px)
        cross = pieces[:, 0] * middles[:, 1] - pieces[:, 1] * middles[:, 0]
        lengths = np.hypot(*pieces.T) * np.hypot(*middles.T)
        facing = np.abs(cross) / np.maximum(lengths, 1e-6)
        shine = np.broadcast_to(strengths, facing.shape) * (0.05 + 0.95 * facing**sharpness)
        fixed = self._fixed(points).tolist()
        for start, end, value in zip(fixed[:-1], fixed[1:], shine.tolist()):
            cv2.line(self.mirror, start, end, value, thickness, cv2.LINE_8, 4)
            if attenuation:
                cv2.line(self.attenuation, start, end, attenuation, thickness, cv2.LINE_8, 4)

    def at_samples(self, picture):
        """Look one of the four pictures up at the probe's samples."""
        x, y = self.sector.grid
        return cv2.remap(picture, (x - 0.5) / 2, (y - 0.5) / 2, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _points(frame, u, v):
    """Picture coordinates, array of shape (n, 2), of points in the frame of an ellipse."""
    x, y = np.broadcast_arrays(u * frame.semi_axis_a_px, v * frame.semi_axis_b_px)
    cosine, sine = np.cos(frame.angle_rad), np.sin(frame.angle_rad)
    x, y = frame.center_x_px + x * cosine - y * sine, frame.center_y_px + x * sine + y * cosine
    return np.column_stack([np.ravel(x), np.ravel(y)])


def _oval(frame, u, v, radius_u, radius_v, turn=0.0, num_points=28):
    t = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    # Angles are kept as in the picture: the frame's shorter v axis would shear a turned oval.
    ratio = frame.semi_axis_b_px / frame.semi_axis_a_px
    p, q = radius_u * np.cos(t), radius_v * ratio * np.sin(t)
    return _points(frame, u + p * np.cos(turn) - q * np.sin(turn), v + (p * np.sin(turn) + q * np.cos(turn)) / ratio)


def _wavy(rng, num_points, waves, amplitude):
    """Closed random outline around one: relative radius at each of `num_points` angles."""
    t = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    order = np.arange(1, waves + 1)
    terms = rng.normal(0, amplitude, (2, waves)) / order
    return 1 + terms[0] @ np.cos(np.outer(order, t)) + terms[1] @ np.sin(np.outer(order, t))


def draw_surroundings(rng, canvas, anatomy, head):
    """Draw amniotic cavities with their walls, the fetus's own trunk, limbs and cord.

    Parameters
    ----------
    rng : numpy.random.Generator
    canvas : Canvas
    anatomy : Anatomy
    head : hcreg.geometry.Ellipse
        Outer border of the skull, px.
    """
    first = anatomy.trimester == 1
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    for _ in range(1 + (rng.random() < 0.5)):
        size = 0.92 + anatomy.fluid * (rng.uniform(0.3, 1.4) if first else rng.uniform(0.1, 0.5))
        # The cavity lies off the head's centre, so that on one side the head rests against its wall.
        offset, towards = rng.uniform(0.3, 1.6) * abs(size - 1), rng.uniform(0, 2 * np.pi)
        radius = size * _wavy(rng, t.size, 8, 0.16)
        wide = rng.uniform(0.95, 1.5)
        u = offset * np.cos(towards) + wide * radius * np.cos(t)
        v = offset * np.sin(towards) + radius * np.sin(t)
        cavity = _points(head, u, v)
        canvas.fill(cavity, FLUID_DB + rng.normal(2, 4), attenuation=-rng.uniform(0.001, 0.010))
        wall = np.exp(rng.normal(-2.6, 0.8)) * np.clip(0.6 + smooth_noise(rng, (1, 90), (1, 12))[0], 0, 2.5)
        canvas.reflect(np.vstack([cavity, cavity[:1]]), wall, int(rng.integers(1, 4)), sharpness=5)
    body = rng.choice([0, np.pi]) + rng.normal(0, 0.35)
    for part in range(rng.integers(1, 7)):
        if part == 0 and rng.random() < 0.75:  # neck and trunk
            angle, distance = body, rng.uniform(1.45, 1.9)
            radii = np.array([rng.uniform(0.35, 0.8), rng.uniform(0.45, 0.8)])
        else:  # limbs, cord, hands
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(1.15, 1.7)
            radii = np.exp(rng.normal(-1.9, 0.45, 2))
        center = _points(head, distance * np.cos(angle), distance * np.sin(angle))
        outline = _oval(head, 0, 0, *radii, rng.uniform(0, np.pi), 40) - _points(head, 0, 0)
        outline = center + _wavy(rng, 40, 5, 0.11)[:, None] * outline
        canvas.fill(outline, TISSUE_DB + rng.normal(0, 5), attenuation=rng.uniform(0, 0.02))
        strength = np.exp(rng.normal(-1.5, 0.9)) * np.clip(0.6 + smooth_noise(rng, (1, 39), (1, 8))[0], 0, 2)
        count = int(rng.integers(10, 41))
        bone = 0.2 if rng.random() < 0.4 else 0.0
        thickness = int(rng.integers(1, 5))
        canvas.reflect(outline[:count], strength[: count - 1], thickness, 2.5, attenuation=bone)


def draw_brain(rng, canvas, anatomy, head):
    """Draw the inside of the skull: midline, cavum, thalami, ventricles, choroid plexus, furrows.

    Parameters
    ----------
    rng, canvas, anatomy, head
        As in :func:`draw_surroundings`.
    """
    flip_u, flip_v = rng.choice([-1.0, 1.0], 2)
    clarity = 0.12 + 1.2 * rng.beta(1.8, 1.4)
    # Near the probe the brain lies in fog: v = 1 is the deeper half where this is positive.
    deeper = np.cos(head.angle_rad) * flip_v

    def seen(side):
        return float(np.clip(0.55 + 0.65 * deeper * side, 0.08, 1)) * clarity

    def line(u, v, strength, side=0, thickness=1, num_points=14, wobble=0.012):
        course = np.linspace(0, 1, num_points)
        u, v = np.interp(course, (0, 1), u), np.interp(course, np.linspace(0, 1, len(v)), v)
        v = v + wobble * smooth_noise(rng, (1, num_points), (1, 5))[0]
        fade = np.clip(0.7 + 0.7 * smooth_noise(rng, (1, num_points - 1), (1, 6))[0], 0.02, 2)
        canvas.reflect(_points(head, u * flip_u, v * flip_v), strength * fade * seen(side), thickness, 3.0)

    def oval(u, v, radius_u, radius_v, contrast_db, side=0, turn=0.0):
        outline = _oval(head, u * flip_u, v * flip_v, radius_u, radius_v, turn * flip_u * flip_v)
        middle = outline.mean(0)
        edge = middle + (outline - middle) * _wavy(rng, len(outline), 6, 0.14)[:, None]
        canvas.fill(edge, brain_db + contrast_db * (0.2 + 0.8 * seen(side)), attenuation=-0.004)

    brain_db = _BRAIN_DB[anatomy.trimester] + rng.normal(0, 3)
    canvas.fill(head.contour(120), brain_db, attenuation=-0.004)
    if anatomy.trimester == 1:
        # A thin mantle round large plexuses: the picture of a butterfly.
        for side in (-1, 1):
            oval(0.0, 0.44 * side, 0.75, 0.32, -9, side)
            length, width = rng.uniform(0.25, 0.55), rng.uniform(0.18, 0.3)
            oval(
                rng.normal(-0.1, 0.1),
                0.42 * side,
                length,
                width,
                rng.uniform(7, 15),
                side,
                rng.normal(0.15, 0.2) * side,
            )
        line((-0.85, 0.85), (0, 0), rng.uniform(0.2, 1.3), thickness=int(rng.integers(1, 3)))
        for _ in range(rng.integers(6, 18)):
            u, v = rng.uniform(-0.8, 0.6), rng.uniform(-0.75, 0.75)
            oval(u, v, *rng.uniform(0.04, 0.16, 2), rng.normal(4, 7))
            line((u, u + rng.uniform(0.05, 0.3)), (v, v + rng.normal(0, 0.06)), np.exp(rng.normal(-1.2, 0.8)))
        return
    for _ in range(4):
        u, v = rng.normal(-0.05, 0.25), rng.normal(0, 0.2)
        oval(u, v, rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.35), rng.normal(4, 2.5), v)
    oval(-0.55, 0.0, 0.2, 0.2, 4)
    for side in (-1, 1):
        oval(-0.02, 0.17 * side, 0.2, 0.14, -5, side)
        line((-0.15, 0.14), (0.05 * side, 0.035 * side, 0.05 * side), rng.uniform(0.05, 0.4), side)
        # Atrium of the lateral ventricle with its plexus, walled by two bright lines.
        u, v = rng.normal(-0.34, 0.05), rng.normal(0.43, 0.03) * side
        oval(u, v, rng.uniform(0.22, 0.32), rng.uniform(0.11, 0.18), -14, side, 0.25 * side)
        length, width = rng.uniform(0.09, 0.19), rng.uniform(0.08, 0.14)
        oval(u - 0.03, v, length, width, rng.uniform(8, 17), side, rng.normal(-0.3, 0.3) * side)
        line((-0.62, -0.05), (0.46 * side, 0.30 * side, 0.22 * side), rng.uniform(0.1, 0.7), side)
        line((-0.60, -0.15), (0.60 * side, 0.53 * side), rng.uniform(0.05, 0.6), side)
        line((0.35, 0.62), (0.36 * side, 0.26 * side), rng.uniform(0.05, 1.0), side)
        line(
            (-0.25, 0.3),
            (0.62 * side, 0.68 * side, 0.62 * side),
            rng.uniform(0, 0.7),
            side,
            int(rng.integers(1, 3)),
        )
    oval(0.43, 0.0, 0.11, 0.075, -12)
    for edge in (-0.08, 0.08):
        line((0.33, 0.53), (edge, edge), rng.uniform(0.5, 1.8), wobble=0.004)
    line((0.54, 0.93), (0, 0), rng.uniform(0.2, 1.2), wobble=0.006)
    line((-0.93, -0.16), (0, 0), rng.uniform(0.1, 1.1), wobble=0.008)
    # Furrows: few at twenty weeks, many near term.
    for _ in range(rng.integers(4, 10 + int(max(0, anatomy.age_weeks - 20) * 3))):
        u, v = rng.normal(-0.1, 0.35), np.clip(rng.normal(0, 0.33), -0.75, 0.75)
        bend = v + rng.normal(0, 0.08, 3)
        line((u, u + rng.uniform(0.02, 0.2)), bend, np.exp(rng.normal(-1.6, 0.8)), np.sign(v), num_points=8)
