"""What lies before the probe: a fetal head with skull and brain, the fluid and tissue around it, other fetal parts.

A scene is made of three maps, each holding one acoustic property: `scatter_db` (strength of the speckle), `mirror`
(echo of smooth surfaces, strongest where the beam meets them at a right angle) and `attenuation` (loss along a beam).
Thick things are drawn in a picture of half the size (`_Canvas`) and looked up at the probe's samples; the skull, on
which the measurement rests, is computed at the samples themselves.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from hcreg.datasets.synthetic import ultrasound
from hcreg.geometry import Ellipse

# Speckle levels in dB below the echo of a skull that faces the probe.
_TISSUE_DB = -21.0
_FLUID_DB = -52.0
_FIRST, _SECOND, _THIRD = 1, 2, 3


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
        Deviation of the skull from an ellipse: cosine and sine terms of three to six waves a turn, as parts of the
        minor semi-axis. Two waves and fewer would change the ellipse itself.
    gaps : float array of shape (num_gaps, 3)
        Sutures and fontanelles: place in (0, 2 pi) along the ellipse, half width in radians, remaining echo in (0, 1).
    fluid, placenta : float in [0, 1]
        How much amniotic fluid surrounds the head; how even and bright the tissue is.
    """

    trimester: int
    age_weeks: float
    hc_mm: float
    axis_ratio: float
    skull_waves: np.ndarray
    gaps: np.ndarray
    fluid: float
    placenta: float


@dataclass(frozen=True)
class Scene:
    """Three maps at the probe's samples, float32 arrays of shape (num_samples, num_beams)."""

    scatter_db: np.ndarray
    mirror: np.ndarray
    attenuation_db_per_px: np.ndarray


class _Canvas:
    """Picture at half size on which shapes are drawn by the frame of a body.

    The frame is an `Ellipse`: a point (u, v) = (1, 0) is the end of its major, (0, 1) of its minor semi-axis.
    """

    def __init__(self, shape, sector):
        half = ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
        self.sector = sector
        self.value_db = np.zeros(half, np.float32)
        self.cover = np.zeros(half, np.float32)
        self.mirror = np.zeros(half, np.float32)
        self.attenuation = np.zeros(half, np.float32)

    def _fixed(self, points):
        # Half size by the pixel-centre rule, in OpenCV's fixed point with four fractional bits.
        return np.round(((np.asarray(points) + 0.5) / 2 - 0.5) * 16).astype(np.int32)

    def fill(self, points, level_db, attenuation=0.0):
        """Fill a polygon, array of shape (n, 2) in px, with speckle of one level."""
        corners = [self._fixed(points)]
        cv2.fillPoly(self.value_db, corners, float(level_db), cv2.LINE_8, 4)
        cv2.fillPoly(self.cover, corners, 1.0, cv2.LINE_8, 4)
        cv2.fillPoly(self.attenuation, corners, float(attenuation), cv2.LINE_8, 4)

    def reflect(self, points, strengths, thickness=1, sharpness=2.0, attenuation=0.0):
        """Draw a smooth surface along a polyline; each piece shines as far as it faces the probe.

        Strengths are one number or one for each of the n - 1 pieces.
        """
        points = np.asarray(points, float)
        pieces = np.diff(points, axis=0)
        middles = (points[1:] + points[:-1]) / 2 - (self.sector.apex_x_px, self.sector.apex_y_px)
        cross = pieces[:, 0] * middles[:, 1] - pieces[:, 1] * middles[:, 0]
        lengths = np.hypot(*pieces.T) * np.hypot(*middles.T)
        facing = np.abs(cross) / np.maximum(lengths, 1e-6)
        shine = np.broadcast_to(strengths, facing.shape) * (0.06 + 0.94 * facing**sharpness)
        fixed = self._fixed(points)
        for start, end, value in zip(fixed[:-1].tolist(), fixed[1:].tolist(), shine.tolist()):
            cv2.line(self.mirror, start, end, value, thickness, cv2.LINE_8, 4)
            if attenuation:
                cv2.line(self.attenuation, start, end, attenuation, thickness, cv2.LINE_8, 4)

    def at_samples(self, picture):
        x, y = self.sector.grid
        return cv2.remap(picture, (x + 0.5) / 2 - 0.5, (y + 0.5) / 2 - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


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
    Growth follows Hadlock's mean curve, HC = -114.8 + 15.6 w - 0.002548 w^3 mm for w weeks, with 3 % between
    fetuses. Ages are those of routine scans: about 12.5, 20 and 31 weeks, the second trimester with wide tails.
    """
    while True:
        if trimester == _FIRST:
            age = rng.normal(12.55, 0.6)
        elif trimester == _SECOND:
            tail = rng.random()
            age = rng.uniform(14.0, 18.5) if tail < 0.12 else rng.uniform(21.5, 27.0) if tail > 0.84 else rng.normal(20, 0.8)
        else:
            age = rng.normal(31.0, 2.3)
        hc = (-114.8 + 15.6 * age - 0.002548 * age**3) * (1 + rng.normal(0, 0.03))
        low, high = {_FIRST: (44.3, 100.0), _SECOND: (81.0, 264.0), _THIRD: (247.0, 346.4)}[trimester]
        if low <= hc <= high:
            break
    gaps = np.column_stack(
        [rng.uniform(0, 2 * np.pi, 6), rng.uniform(0.02, 0.11, 6), rng.uniform(0.03, 0.45, 6)]
    )
    return Anatomy(
        trimester=trimester,
        age_weeks=age,
        hc_mm=hc,
        axis_ratio=float(np.clip(rng.normal(0.785, 0.048), 0.66, 0.93)),
        skull_waves=rng.normal(0, 1, (4, 2)) * np.array([0.013, 0.010, 0.007, 0.005])[:, None],
        gaps=gaps[: rng.integers(1, 7)],
        fluid=rng.beta(1.5, 1.5) if trimester != _THIRD else rng.beta(1.2, 2.5),
        placenta=rng.random(),
    )


def build_scene(rng, anatomy, head, spacing_mm, sector, shape):
    """Place a head and what surrounds it before the probe.

    Parameters
    ----------
    rng : numpy.random.Generator
    anatomy : Anatomy
    head : hcreg.geometry.Ellipse
        Outer border of the skull, px.
    spacing_mm : float, mm
        Size of a pixel.
    sector : hcreg.datasets.synthetic.ultrasound.Sector
    shape : tuple of int
        (height, width) of the picture.

    Returns
    -------
    Scene
    """
    canvas = _Canvas(shape, sector)
    _draw_surroundings(rng, canvas, anatomy, head)
    flip = rng.choice([-1.0, 1.0], 2)
    inside = head.contour(120)
    brain_db = {_FIRST: -33.0, _SECOND: -33.0, _THIRD: -36.0}[anatomy.trimester] + rng.normal(0, 2.5)
    canvas.fill(inside, brain_db, attenuation=-0.005)
    canvas.mirror[cv2.fillPoly(np.zeros_like(canvas.mirror), [canvas._fixed(inside)], 1.0, cv2.LINE_8, 4) > 0] = 0
    _draw_brain(rng, canvas, anatomy, head, flip, brain_db)
    return _at_samples(rng, canvas, anatomy, head, spacing_mm)


def _points(frame, u, v):
    """Picture coordinates, array of shape (n, 2), of points in the frame of an ellipse."""
    u, v = np.broadcast_arrays(np.asarray(u, float), np.asarray(v, float))
    cosine, sine = np.cos(frame.angle_rad), np.sin(frame.angle_rad)
    x, y = u * frame.semi_axis_a_px, v * frame.semi_axis_b_px
    return np.column_stack([frame.center_x_px + x * cosine - y * sine, frame.center_y_px + x * sine + y * cosine])


def _oval(frame, u, v, radius_u, radius_v, turn=0.0, num_points=28):
    t = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    p, q = radius_u * np.cos(t), radius_v * np.sin(t)
    return _points(frame, u + p * np.cos(turn) - q * np.sin(turn), v + p * np.sin(turn) + q * np.cos(turn))


def _wavy(rng, num_points, waves, amplitude):
    """Closed random outline around one: relative radius at each of `num_points` angles."""
    t = np.linspace(0, 2 * np.pi, num_points, endpoint=False)
    order = np.arange(1, waves + 1)
    terms = rng.normal(0, amplitude, (2, waves)) / order
    return 1 + terms[0] @ np.cos(np.outer(order, t)) + terms[1] @ np.sin(np.outer(order, t))


def _draw_surroundings(rng, canvas, anatomy, head):
    """Amniotic cavity, its wall, the fetus's own body and other parts, behind and beside the head."""
    first = anatomy.trimester == _FIRST
    t = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    size = 1.0 + anatomy.fluid * (rng.uniform(0.3, 1.3) if first else rng.uniform(0.05, 0.45))
    # The cavity lies off the head's centre, so that on one side the head rests against its wall.
    offset = rng.uniform(0.15, 0.95) * (size - 1)
    towards = rng.uniform(0, 2 * np.pi)
    radius = size * _wavy(rng, t.size, 5, 0.11 if first else 0.13)
    wide = rng.uniform(1.0, 1.5)
    cavity = _points(head, offset * np.cos(towards) + wide * radius * np.cos(t), offset * np.sin(towards) + radius * np.sin(t))
    canvas.fill(cavity, _FLUID_DB + rng.normal(0, 3), attenuation=-rng.uniform(0.002, 0.012))
    wall = rng.uniform(0.02, 0.25) * np.clip(1 + 0.7 * ultrasound.smooth_noise(rng, (1, 90), (1, 9))[0], 0, 2.5)
    canvas.reflect(np.vstack([cavity, cavity[:1]]), wall, thickness=int(rng.integers(1, 4)), sharpness=4)
    body_angle = rng.choice([0, np.pi]) + rng.normal(0, 0.35)
    for part in range(rng.integers(1, 5) if first else rng.integers(1, 6)):
        if part == 0 and rng.random() < 0.75:  # neck and trunk
            angle, distance = body_angle, rng.uniform(1.45, 1.9)
            radii = np.array([rng.uniform(0.35, 0.8), rng.uniform(0.45, 0.8)])
        else:  # limbs, cord, hand
            angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(1.15, 1.7)
            radii = np.exp(rng.normal(-2.0, 0.45, 2))
        level = _TISSUE_DB + rng.normal(1, 4)
        shape = _wavy(rng, 40, 4, 0.09)[:, None]
        center = _points(head, distance * np.cos(angle), distance * np.sin(angle))
        part_outline = center + shape * (_oval(head, 0, 0, *radii, rng.uniform(0, np.pi), 40) - _points(head, 0, 0))
        canvas.fill(part_outline, level, attenuation=rng.uniform(0, 0.02))
        strength = rng.uniform(0.05, 0.55) * (1 if radii.max() < 0.5 else 0.4)
        count = int(rng.integers(12, 41))
        bone = rng.random() < 0.4
        canvas.reflect(part_outline[:count], strength, int(rng.integers(1, 4)), 2.5, attenuation=0.25 if bone else 0.0)


def _draw_brain(rng, canvas, anatomy, head, flip, brain_db):
    """Midline, cavum, thalami, ventricles and choroid plexus; `flip` turns forehead and near side about."""
    clarity = rng.beta(1.6, 1.5)

    def line(u, v, strength, thickness=1, num_points=14, wobble=0.012):
        u, v = np.linspace(*u, num_points), np.interp(np.linspace(0, 1, num_points), np.linspace(0, 1, len(v)), v)
        v = v + wobble * ultrasound.smooth_noise(rng, (1, num_points), (1, 5))[0]
        fade = np.clip(0.8 + 0.6 * ultrasound.smooth_noise(rng, (1, num_points - 1), (1, 6))[0], 0.02, 2)
        canvas.reflect(_points(head, u * flip[0], v * flip[1]), strength * fade * clarity, thickness, 3.0)

    def oval(u, v, radius_u, radius_v, level_db, turn=0.0):
        outline = _oval(head, u * flip[0], v * flip[1], radius_u, radius_v, turn * flip[0] * flip[1])
        middle = outline.mean(0)
        edge = middle + (outline - middle) * _wavy(rng, len(outline), 5, 0.08)[:, None]
        canvas.fill(edge, level_db, attenuation=-0.005)

    contrast = 0.35 + 0.65 * clarity
    if anatomy.trimester == _FIRST:
        # Large plexuses fill a thin mantle: the picture of a butterfly.
        for side in (-1, 1):
            oval(0.0, 0.44 * side, 0.72, 0.30, brain_db - 7 * contrast)
            oval(rng.normal(-0.1, 0.06), 0.42 * side, rng.uniform(0.3, 0.55), rng.uniform(0.16, 0.25), brain_db + 12 * contrast, rng.normal(0.2, 0.12) * side)
        line((-0.85, 0.85), (0, 0), 0.35, 1)
        for _ in range(rng.integers(4, 12)):
            u, v = rng.uniform(-0.75, 0.6), rng.uniform(-0.65, 0.65)
            line((u, u + rng.uniform(0.05, 0.3)), (v, v + rng.normal(0, 0.06)), rng.uniform(0.05, 0.35))
        return
    oval(-0.5, 0.0, 0.22, 0.2, brain_db + 4 * contrast)
    for side in (-1, 1):
        oval(-0.02, 0.17 * side, 0.19, 0.13, brain_db - 5 * contrast)
        line((-0.15, 0.14), (0.05 * side, 0.035 * side, 0.05 * side), 0.05)
        oval(-0.38, 0.42 * side, 0.27, 0.12, brain_db - 9 * contrast, -0.25 * side)
        oval(rng.normal(-0.36, 0.05), 0.42 * side, rng.uniform(0.12, 0.2), rng.uniform(0.07, 0.11), brain_db + 13 * contrast, -0.4 * side)
        line((-0.62, -0.08), (0.46 * side, 0.32 * side, 0.24 * side), 0.16)
        line((-0.60, -0.2), (0.58 * side, 0.52 * side), 0.08)
        line((0.35, 0.62), (0.33 * side, 0.24 * side), 0.2 * rng.random())
        line((-0.25, 0.3), (0.62 * side, 0.68 * side, 0.62 * side), 0.22 * rng.random(), int(rng.integers(1, 3)))
    oval(0.43, 0.0, 0.10, 0.065, brain_db - 11 * contrast)
    for side in (-1, 1):
        line((0.33, 0.53), (0.075 * side, 0.075 * side), rng.uniform(0.2, 0.6), 1, wobble=0.004)
    line((0.54, 0.93), (0, 0), rng.uniform(0.1, 0.4), 1, wobble=0.006)
    line((-0.93, -0.18), (0, 0), rng.uniform(0.03, 0.3), 1, wobble=0.008)
    # Furrows: few at twenty weeks, many near term.
    for _ in range(rng.integers(3, 8 + int(max(0, anatomy.age_weeks - 20) * 1.6))):
        u, v = rng.uniform(-0.75, 0.6), rng.uniform(-0.7, 0.7)
        bend = rng.normal(0, 0.09, 3)
        line((u, u + rng.uniform(0.03, 0.22)), v + bend, np.exp(rng.normal(-2.6, 0.7)), 1, 8)


def _at_samples(rng, canvas, anatomy, head, spacing_mm):
    """Look the canvas up at the probe's samples, lay tissue behind it and the skull over it."""
    sector = canvas.sector
    grid_shape = (ultrasound.NUM_SAMPLES, ultrasound.NUM_BEAMS)
    depth = np.linspace(0, 1, grid_shape[0], dtype=np.float32)[:, None]
    # Fat and muscle lie in layers across the beams near the probe, more evenly further away.
    layers = ultrasound.smooth_noise(rng, grid_shape, (int(rng.integers(24, 60)), int(rng.integers(3, 7))))
    clouds = ultrasound.smooth_noise(rng, grid_shape, (int(rng.integers(6, 12)), int(rng.integers(5, 11))))
    layered = np.exp(-depth / np.float32(rng.uniform(0.05, 0.3)))
    tissue = _TISSUE_DB + rng.normal(0, 2) + (5.5 - 3 * anatomy.placenta) * ((layered + 0.15) * layers + 0.55 * clouds)
    cover = canvas.at_samples(canvas.cover)
    own = canvas.at_samples(canvas.value_db)
    texture = ultrasound.smooth_noise(rng, grid_shape, (34, 22))
    scatter_db = (1 - cover) * tissue + own + cover * (1.6 * texture + 0.8 * clouds)
    mirror = canvas.at_samples(canvas.mirror)
    attenuation = canvas.at_samples(canvas.attenuation)

    inward, facing, around, level = _skull_coordinates(anatomy, head, sector)
    thickness = (0.75 + 0.075 * (anatomy.age_weeks - 12)) / spacing_mm * rng.uniform(0.8, 1.15)
    thickness = max(thickness, 6.0)
    bone = np.clip((inward + 0.5) / 2.0, 0, 1) * np.clip((thickness + 0.5 - inward) / 2.5, 0, 1)
    # Along the skull the echo comes and goes; sutures and fontanelles let the beam through.
    turn = np.linspace(-np.pi, np.pi, 361)
    course = 3.5 * ultrasound.smooth_noise(rng, (1, 361), (1, 18))[0]
    course += np.minimum(0, rng.uniform(0, 10) * ultrasound.smooth_noise(rng, (1, 361), (1, 7))[0])
    solid = np.ones_like(turn)
    for place, half_width, remaining in anatomy.gaps:
        away = np.abs((turn - place + np.pi) % (2 * np.pi) - np.pi) / half_width
        solid *= 1 - (1 - remaining) / (1 + away**6)
    along = np.stack([10 ** (course / 20) * solid, solid]).astype(np.float32)
    position = ((around + np.float32(np.pi)) * np.float32(360 / (2 * np.pi))).astype(np.float32)
    echo, hard = (cv2.remap(row[None], position, np.zeros_like(position), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE) for row in along)
    strength = 10 ** ((rng.normal(0, 2.5) + {_FIRST: -3.0, _SECOND: 0.0, _THIRD: 0.0}[anatomy.trimester]) / 20)
    steep = rng.uniform(2.0, 4.5)
    shine = np.float32(strength) * echo * (0.04 + 0.96 * facing**steep)
    mirror += bone * shine * np.float32(0.8)
    loss_db_per_mm = rng.uniform(0.4, 1.6) * {_FIRST: 0.6, _SECOND: 1.0, _THIRD: 1.3}[anatomy.trimester]
    attenuation += bone * hard * np.float32(loss_db_per_mm * spacing_mm)

    # Behind the near skull echoes run to and fro, which fogs the near half of the brain.
    path = np.cumsum(level < 1, axis=0, dtype=np.float32) * np.float32(sector.step_px / head.semi_axis_b_px)
    streaks = ultrasound.smooth_noise(rng, grid_shape, (90, 5))
    fog_db = rng.uniform(-36, -23) + rng.uniform(0.5, 3.5) * streaks - rng.uniform(8, 22) * path
    scatter = 10 ** (scatter_db / 20) + np.where(level < 1, 10 ** (fog_db / 20), 0) + bone * shine * np.float32(0.35)
    if rng.random() < 0.4:  # scalp, or membranes lying on the head
        scalp = np.exp(-(((inward + rng.uniform(1.0, 3.5) / spacing_mm) / (0.6 / spacing_mm)) ** 2))
        scatter += scalp * np.float32(10 ** (rng.uniform(-34, -20) / 20)) * (0.2 + facing)
    return Scene(20 * np.log10(scatter).astype(np.float32), mirror.astype(np.float32), attenuation.astype(np.float32))


def _skull_coordinates(anatomy, head, sector):
    """Depth below the skull's outer border (px), how squarely the beam meets it, angle along it, and level (1: border)."""
    x, y = sector.grid
    cosine, sine = np.float32(np.cos(head.angle_rad)), np.float32(np.sin(head.angle_rad))
    dx, dy = x - np.float32(head.center_x_px), y - np.float32(head.center_y_px)
    u = (dx * cosine + dy * sine) / np.float32(head.semi_axis_a_px)
    v = (dy * cosine - dx * sine) / np.float32(head.semi_axis_b_px)
    level, around = cv2.cartToPolar(u, v)
    around[around > np.pi] -= np.float32(2 * np.pi)
    gradient_u = u / np.float32(head.semi_axis_a_px)
    gradient_v = v / np.float32(head.semi_axis_b_px)
    steepness = cv2.magnitude(gradient_u, gradient_v) + np.float32(1e-9)
    beam_x, beam_y = sector.directions
    facing = np.abs(gradient_u * (beam_x * cosine + beam_y * sine) + gradient_v * (beam_y * cosine - beam_x * sine)) / steepness
    turn = np.linspace(-np.pi, np.pi, 361)
    waves = np.arange(3, 7)
    bumps = anatomy.skull_waves[:, 0] @ np.cos(np.outer(waves, turn)) + anatomy.skull_waves[:, 1] @ np.sin(np.outer(waves, turn))
    position = ((around + np.float32(np.pi)) * np.float32(360 / (2 * np.pi))).astype(np.float32)
    bump = cv2.remap(bumps[None].astype(np.float32), position, np.zeros_like(position), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inward = (1 - level) * level / steepness + bump * np.float32(head.semi_axis_b_px)
    return inward, facing, around, level


def head_fits(head: Ellipse, shape, margin_px):
    """Whether an ellipse lies inside a picture of the given shape with a margin in px."""
    left, top, right, bottom = head.bounding_box()
    return min(left, top, shape[1] - 1 - right, shape[0] - 1 - bottom) >= margin_px
