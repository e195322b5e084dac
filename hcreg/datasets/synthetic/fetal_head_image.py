"""One synthetic image of a fetal head: the scene before the probe, its settings, the marks on the screen."""

import math

import cv2
import numpy as np

from hcreg.datasets.synthetic import ultrasound
from hcreg.datasets.synthetic.fetal_head_anatomy import TISSUE_DB, Canvas, draw_brain, draw_surroundings

_GRID = (ultrasound.NUM_SAMPLES, ultrasound.NUM_BEAMS)


def render(rng, anatomy, head, spacing_mm, shape):
    """Draw one ultrasound image.

    Parameters
    ----------
    rng : numpy.random.Generator
    anatomy : hcreg.datasets.synthetic.fetal_head_anatomy.Anatomy
    head : hcreg.geometry.Ellipse
        Outer border of the skull, px.
    spacing_mm : float, mm
        Size of a pixel.
    shape : tuple of int
        (height, width).

    Returns
    -------
    uint8 array of shape (height, width)
    """
    sector = _draw_sector(rng, anatomy, head, shape)
    canvas = Canvas(shape, sector)
    draw_surroundings(rng, canvas, anatomy, head)
    draw_brain(rng, canvas, anatomy, head)
    scatter, mirror, attenuation = _lay_tissue(rng, canvas, anatomy)
    _lay_skull(rng, sector, anatomy, head, spacing_mm, scatter, mirror, attenuation)
    received = _draw_gain(rng, attenuation, sector)
    magnitude = _receive(rng, sector, scatter * received, mirror * received, spacing_mm)
    level = ultrasound.log_compress(
        magnitude, gain_db=rng.normal(0, 3), dynamic_range_db=rng.uniform(54, 64), gamma=rng.uniform(1.5, 2.1)
    )
    image = np.round(sector.scan_convert(level, shape)).astype(np.uint8)
    _draw_marks(rng, image, spacing_mm)
    return image


def _draw_sector(rng, anatomy, head, shape):
    """Draw the field of view: a whole fan, or an enlarged part of one that leaves the picture."""
    height, width = shape
    enlarged = rng.random() < {1: 0.9, 2: 0.62, 3: 0.4}[anatomy.trimester]
    apex_x = width / 2 - 6 + rng.normal(0, 14)
    opening = rng.uniform(0.30, 0.62) if enlarged else rng.uniform(0.45, 0.66)
    left, right = opening + np.clip(rng.normal(0, 0.05, 2), -0.1, 0.1)
    half_width = rng.uniform(170, 430) if enlarged else rng.uniform(100, 170)
    top = rng.uniform(-45, 12) if enlarged else rng.uniform(6, 48)
    bottom = height + (rng.uniform(-12, 140) if enlarged else rng.uniform(-25, 4))
    for _ in range(60):
        apex_y = top - half_width / math.tan(opening)
        sector = ultrasound.Sector(
            apex_x_px=float(apex_x),
            apex_y_px=float(apex_y),
            radius_min_px=float(top - apex_y),
            radius_max_px=float(bottom - apex_y),
            angle_min_rad=float(-left),
            angle_max_rad=float(right),
        )
        if sector.contains(head.contour(90)).mean() >= 0.95:
            break
        half_width *= 1.06
        top = max(top - 4, -60)
        bottom += 2
    return sector


def _lay_tissue(rng, canvas, anatomy):
    """Look the canvas up over layers of maternal tissue: scatter and mirror (linear) and attenuation."""
    depth = np.linspace(0, 1, _GRID[0], dtype=np.float32)[:, None]
    # Fat and muscle lie in layers across the beams near the probe; further away tissue is cloudy.
    layers = ultrasound.smooth_noise(rng, _GRID, (int(rng.integers(24, 70)), int(rng.integers(3, 8))))
    clouds = ultrasound.smooth_noise(rng, _GRID, (int(rng.integers(5, 12)), int(rng.integers(4, 11))))
    texture = ultrasound.smooth_noise(rng, _GRID, (60, 34))
    layered = 0.15 + np.exp(-depth / np.float32(rng.uniform(0.05, 0.3)))
    contrast = np.float32(9.5 - 5 * anatomy.evenness)
    tissue = np.float32(TISSUE_DB + rng.normal(0, 3)) + contrast * (layered * layers + 0.6 * clouds) + 2.0 * texture
    cover = canvas.at_samples(canvas.cover)
    drawn = canvas.at_samples(canvas.level_db) + cover * (2.0 * texture + 2.5 * clouds)
    scatter_db = (1 - cover) * tissue + drawn
    mirror = canvas.at_samples(canvas.mirror)
    # Fasciae and the walls of womb and bladder: bright lines across the beams, some way down.
    for _ in range(rng.integers(1, 9)):
        row = rng.exponential(0.16) * _GRID[0] + 9 * ultrasound.smooth_noise(rng, (1, _GRID[1]), (1, 4))[0]
        rows = np.clip(row, 0, _GRID[0] - 3).astype(int)
        shine = np.exp(rng.normal(-2.3, 0.8)) * ultrasound.smooth_noise(rng, (1, _GRID[1]), (1, 7))[0]
        beams = np.arange(_GRID[1])
        for below in range(rng.integers(1, 4)):
            mirror[rows + below, beams] += np.maximum(0, shine) * (1 - cover[rows + below, beams])
    attenuation = canvas.at_samples(canvas.attenuation) + (1 - cover) * np.float32(rng.uniform(-0.001, 0.010))
    return np.exp(np.float32(np.log(10) / 20) * scatter_db), mirror, attenuation


def _lay_skull(rng, sector, anatomy, head, spacing_mm, scatter, mirror, attenuation):
    """Add the skull, the fog behind its near side and sometimes the scalp to the three maps, in place."""
    inward, facing, around, level = _skull_coordinates(sector, anatomy, head)
    thickness = (0.9 + 0.085 * (anatomy.age_weeks - 12)) / spacing_mm * rng.uniform(0.85, 1.35)
    thickness = np.float32(np.clip(thickness, 8.0, 17.0))
    bone = np.clip((inward - 0.5) / 2.5, 0, 1) * np.clip((thickness + 3 - inward) / 7, 0, 1)
    # Along the skull the echo comes and goes; sutures and fontanelles let the beam through.
    turn = np.linspace(-np.pi, np.pi, 361)
    course_db = 3.5 * ultrasound.smooth_noise(rng, (1, 361), (1, 18))[0]
    course_db += np.minimum(0, rng.uniform(0, 14) * ultrasound.smooth_noise(rng, (1, 361), (1, 7))[0])
    solid = np.ones_like(turn)
    for place, half_width, remaining in anatomy.gaps:
        away = np.abs((turn - place + np.pi) % (2 * np.pi) - np.pi) / half_width
        solid *= 1 - (1 - remaining) / (1 + away**6)
    echo = _along(10 ** (course_db / 20) * solid, around)
    strength_db = rng.normal(-0.5, 3.5) - 2.0 * (anatomy.trimester == 1)
    steep = rng.uniform(2.0, 5.0)
    shine = bone * echo * np.float32(10 ** (strength_db / 20)) * (0.10 + 0.90 * cv2.pow(facing, steep))
    mirror += shine * np.float32(0.8)
    scatter += shine * np.float32(0.4)
    loss_db_per_mm = rng.uniform(0.4, 1.6) * {1: 0.6, 2: 1.0, 3: 1.3}[anatomy.trimester]
    attenuation += bone * _along(solid, around) * np.float32(loss_db_per_mm * spacing_mm)
    # Behind the near skull echoes run to and fro, which fogs the near half of the brain.
    inside = (level < 1).astype(np.float32)
    path = np.cumsum(inside, axis=0) * np.float32(sector.step_px / head.semi_axis_b_px)
    streaks = ultrasound.smooth_noise(rng, _GRID, (80, 5))
    fog_db = rng.uniform(-48, -29) + rng.uniform(0.5, 4.5) * streaks - rng.uniform(4, 20) * path
    scatter += inside * np.exp(np.float32(np.log(10) / 20) * fog_db)
    if rng.random() < 0.4:  # scalp, or membranes lying on the head
        above = (inward + np.float32(rng.uniform(1.0, 3.5) / spacing_mm)) * np.float32(spacing_mm / 0.6)
        scatter += np.exp(-above * above) * np.float32(10 ** (rng.uniform(-44, -26) / 20)) * (0.2 + facing)


def _skull_coordinates(sector, anatomy, head):
    """Depth below the skull's border (px), squareness to the beam, angle along it, level (1: ellipse)."""
    x, y = sector.grid
    cosine, sine = np.float32(np.cos(head.angle_rad)), np.float32(np.sin(head.angle_rad))
    semi_a, semi_b = np.float32(head.semi_axis_a_px), np.float32(head.semi_axis_b_px)
    dx, dy = x - np.float32(head.center_x_px), y - np.float32(head.center_y_px)
    u, v = (dx * cosine + dy * sine) / semi_a, (dy * cosine - dx * sine) / semi_b
    level, around = cv2.cartToPolar(u, v)
    gradient_u, gradient_v = u / semi_a, v / semi_b
    steepness = cv2.magnitude(gradient_u, gradient_v) + np.float32(1e-9)
    beam_x, beam_y = sector.directions
    along_u, along_v = beam_x * cosine + beam_y * sine, beam_y * cosine - beam_x * sine
    facing = np.abs(gradient_u * along_u + gradient_v * along_v) / steepness
    turn, waves = np.linspace(-np.pi, np.pi, 361), np.arange(3, 7)
    terms = np.cos(np.outer(waves, turn)), np.sin(np.outer(waves, turn))
    bumps = anatomy.skull_waves[:, 0] @ terms[0] + anatomy.skull_waves[:, 1] @ terms[1]
    inward = (1 - level) * level / steepness + _along(bumps, around) * semi_b
    return inward, facing, around, level


def _along(values, around):
    """Values given at 361 angles from -pi to pi, looked up at angles in [0, 2 pi)."""
    row = np.roll(values[:360], 180)
    row = np.append(row, row[0]).astype(np.float32)[None]
    position = around * np.float32(180 / np.pi)
    return cv2.remap(row, position, np.zeros_like(position), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _draw_gain(rng, attenuation, sector):
    """Factor of the received echo: shadows, hand-set depth gain, beams without good contact to the skin."""
    gain_db = ultrasound.transmitted_db(attenuation, sector.step_px)
    # A beam is some samples wide, so shadows have soft edges, the softer the deeper.
    gain_db = cv2.GaussianBlur(gain_db, (0, 0), sigmaX=2.5, sigmaY=1)
    gain_db += 2.0 * ultrasound.smooth_noise(rng, _GRID, (5, 1))
    gain_db += np.float32(rng.normal(0, 3)) * np.linspace(-1, 1, _GRID[0], dtype=np.float32)[:, None]
    contact = ultrasound.smooth_noise(rng, _GRID, (2, 7)) + np.float32(0.6)
    gain_db += np.minimum(0, np.float32(rng.uniform(0, 9)) * contact)
    if rng.random() < 0.35:
        edge = np.linspace(0, 1, _GRID[1], dtype=np.float32)[:: rng.choice([-1, 1])]
        edge = np.clip(1 - edge / np.float32(rng.uniform(0.1, 0.4)), 0, 1)
        gain_db -= np.float32(rng.uniform(8, 28)) * edge[None]
    return np.exp(np.float32(np.log(10) / 20) * gain_db)


def _receive(rng, sector, scatter, mirror, spacing_mm):
    """Echo magnitude with speckle, averaged over two to four looks as compounding scanners do, and noise."""
    # In px the blur hardly depends on the enlargement, as a scanner has about as many beams for a small
    # field.
    scale = rng.uniform(0.8, 1.25) * (0.13 / spacing_mm) ** 0.25
    axial = 2.8 * scale / sector.step_px
    opening = sector.angle_max_rad - sector.angle_min_rad
    beam_px = opening / (_GRID[1] - 1) * sector.radii_px[:, 0]
    width = ultrasound.beam_widths(rng.uniform(0.3, 0.8), waist=0.9, far_width=rng.uniform(1.1, 1.7))
    lateral = 7.0 * scale * width / beam_px
    looks = int(rng.integers(2, 5))
    magnitude = sum(ultrasound.received_echo(rng, scatter, mirror, axial, lateral) for _ in range(looks)) / looks
    noise = np.float32(10 ** (rng.uniform(-62, -50) / 20))
    return magnitude + noise * cv2.GaussianBlur(np.abs(rng.standard_normal(_GRID, dtype=np.float32)), (0, 0), 0.8)


def _draw_marks(rng, image, spacing_mm):
    """Draw the grey bar, black corners and border of HC18, now and then a depth scale; in place."""
    height, width = image.shape
    image[:1] = image[-1:] = 0
    image[:, :3] = image[:, -int(rng.integers(1, 9)) :] = 0
    image[: int(rng.integers(92, 112)), width - int(rng.integers(72, 105)) :] = 0
    if rng.random() < 0.65:
        box_top = height - int(rng.choice([100, 116, 172, 52], p=[0.35, 0.35, 0.2, 0.1])) - 16
        image[box_top : height - 16, width - int(rng.integers(148, 215)) :] = 0
    if rng.random() < 0.75:
        image[22:44, 22:56] = 0
        text, grey = f"{rng.integers(10, 99)}", int(rng.integers(15, 60))
        cv2.putText(image, text, (28, 40), cv2.FONT_HERSHEY_PLAIN, 0.7, grey, 1)
    length = int(rng.integers(140, 166))
    ramp = 243 * np.linspace(1, 0, length) ** 1.25
    image[24 : 24 + length, 3:12] = np.round(ramp).astype(np.uint8)[:, None]
    if rng.random() < 0.1:
        for row in np.arange(24, height - 4, 10 / spacing_mm):
            image[int(row), width - 9 : width - 4] = 140
