"""How a synthetic heart becomes label maps and pictures: voxels, thick slices, what lies around it, the scanner."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from hcreg.datasets.synthetic.cardiac_volumes_anatomy import ANGLES, NUM_ANGLES
from hcreg.datasets.synthetic.ultrasound import smooth_noise
from hcreg.preprocessing.cardiac import LABELS

# Grey levels as parts of that of blood, as they look in ACDC.
_MYOCARDIUM, _MUSCLE, _LUNG, _AIR, _FAT, _LIVER = 0.36, 0.30, 0.09, 0.03, 0.85, 0.42
_RV_WALL_MM = 2.5
_ATRIAL_WALL_MM = 2.5
# Excitation is thinner than the spacing of slices; parts of a slice are averaged.
_THICKNESS_MM = 7.0
_NUM_LAYERS = 3
_MAX_SLICES = 18
# How far from the trunk's middle to its skin the heart may reach.
_CHEST = 0.83


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a heart lies in its stack of slices.

    Parameters
    ----------
    shape : tuple of three int
        Height, width and number of slices.
    pixel_mm : float, mm
        Both sides of a pixel.
    z_mm : float array of shape (num_slices,), mm
        Middles of the slices along the heart's axis, from above the base to beyond the apex.
    axis_mm : float array of shape (num_slices, 2), mm
        The long axis in every slice, (x, y) from the image's centre; shifted a little from slice to slice, for each
        has a breath hold of its own.
    """

    shape: tuple
    pixel_mm: float
    z_mm: np.ndarray
    axis_mm: np.ndarray


def draw_placement(rng, heart, shape, pixel_mm):
    """Draw slices for a heart and its place in them.

    Parameters
    ----------
    rng : numpy.random.Generator
    heart : Heart
    shape : tuple of two int
        Height and width of the image.
    pixel_mm : float, mm

    Returns
    -------
    Placement
        Stacks reach up to two slices above the base and up to one beyond the apex.
    """
    spacing = heart.slice_spacing_mm
    first = min(0, round(heart.ed.rv_base_mm / spacing))
    last = math.ceil(max(heart.ed.apex_mm, heart.ed.rv_apex_mm) / spacing - 0.5) - 1
    more = int(rng.choice(3, p=[0.55, 0.35, 0.1])), int(rng.random() < 0.25)
    if last - first < _MAX_SLICES - sum(more):
        first, last = first - more[0], last + more[1]
    numbers = np.arange(first, max(last, first + 5) + 1)
    z = (numbers + 0.5) * spacing

    shifts = rng.normal(0, 0.9, (len(z), 2)) + (rng.random((len(z), 1)) < 0.08) * rng.normal(0, 3.0, (len(z), 2))
    axis = np.outer(z - 0.4 * heart.ed.apex_mm, rng.normal(0, 0.06, 2)) + shifts
    # The middle of the box around both ventricles comes to where hearts lie in ACDC.
    curve = _outer_curve(heart, z)
    box = np.array([curve.min(axis=0), curve.max(axis=0)]) + axis[[0, -1]].mean(axis=0)
    free = np.array([shape[1], shape[0]]) * pixel_mm / 2 - np.ptp(box, axis=0) / 2 - 14
    place = np.clip(rng.normal((-22, 0), (14, 22)), -free, free)
    return Placement((*shape, len(z)), pixel_mm, z, axis + place - box.mean(axis=0))


def draw_label_map(ventricles, placement):
    """Labels of all voxels: a voxel is what lies at its middle.

    Parameters
    ----------
    ventricles : Ventricles
    placement : Placement

    Returns
    -------
    uint8 array of shape (height, width, num_slices)
    """
    z = placement.z_mm
    endocardium, epicardium = ventricles.endocardium(z), ventricles.epicardium(z)
    rv = epicardium + ventricles.rv_depth(z)
    has_cavity = (z > ventricles.lv_base_mm) & (z < ventricles.lv_base_mm + ventricles.lv_length_mm)
    has_wall = (z > ventricles.lv_base_mm) & (z < ventricles.apex_mm)
    has_rv = (z > ventricles.rv_base_mm) & (z < ventricles.rv_apex_mm)
    label_map = np.zeros(placement.shape, np.uint8)
    for number in np.flatnonzero(has_wall | has_rv):
        reach = rv[number].max() if has_rv[number] else epicardium[number].max()
        window, radius, angle = _around(placement, number, reach + 2)
        part = label_map[(*window, number)]
        inside_wall = radius < epicardium[number][angle]
        if has_rv[number]:
            part[(radius < rv[number][angle]) & ~inside_wall] = LABELS["RV"]
        if has_wall[number]:
            part[inside_wall] = LABELS["MYO"]
        if has_cavity[number]:
            part[radius < endocardium[number][angle]] = LABELS["LV"]
    return label_map


@dataclass(frozen=True, eq=False)
class Look:
    """How one patient's pictures look at both phases.

    Parameters
    ----------
    surroundings : float32 array of shape (num_slices, height, width)
        What lies around the heart, 1 where as bright as blood.
    sensitivity : float32 array of shape (num_slices, height, width)
        Of the receiving coils, and of each slice.
    fat_mm, roughness, tissue : float32 arrays of shape (360,)
        By direction: fat on the heart; how deep trabeculae reach into the cavity as part of its radius; brightness
        of the wall as part of the usual.
    papillary : array of shape (2, 2)
        Direction in rad and size, as part of the cavity's radius, of both muscles.
    outflow : tuple of three float
        Direction in rad, distance and radius in mm of the great vessel above the base.
    blood : float
        Grey level of blood in the file.
    noise : float
        Deviation of each channel of the noise, as part of that.
    """

    surroundings: np.ndarray
    sensitivity: np.ndarray
    fat_mm: np.ndarray
    roughness: np.ndarray
    tissue: np.ndarray
    papillary: np.ndarray
    outflow: tuple
    blood: float
    noise: float


def draw_look(rng, heart, placement):
    """Draw what the pictures of one patient have in common.

    Parameters
    ----------
    rng : numpy.random.Generator
    heart : Heart
    placement : Placement

    Returns
    -------
    Look
    """
    height, width, num_slices = placement.shape
    septum = heart.ed.rv_direction_rad
    papillary = np.array(
        [(septum + math.pi + side * rng.normal(0.95, 0.15), rng.uniform(0.16, 0.26)) for side in (-1, 1)]
    )
    bias = np.exp(0.13 * smooth_noise(rng, (height, width), (3, 3)))
    slices = np.clip(rng.normal(1, 0.05, num_slices), 0.85, 1.15).astype(np.float32)
    surroundings, coil = _surroundings(rng, heart, placement)
    return Look(
        surroundings,
        bias * coil * slices[:, None, None],
        np.maximum(_wave(rng, (1, 2, 3, 5), 3.5) - 0.5, 0).astype(np.float32),
        np.abs(_wave(rng, (5, 7, 9, 11, 14), 0.055)),
        1 + _wave(rng, (1, 2, 3, 7), 0.06),
        papillary,
        (septum + rng.normal(0.75, 0.2), heart.ed.lv_radius_mm * rng.uniform(1.0, 1.25), rng.uniform(11, 15)),
        float(np.exp(rng.normal(math.log(230), 0.45))),
        rng.uniform(0.015, 0.035),
    )


def draw_image(rng, heart, phase, placement, look):
    """The picture of one phase.

    Parameters
    ----------
    rng : numpy.random.Generator
        Of the noise.
    heart : Heart
    phase : {"ED", "ES"}
        At ES blood is a little darker.
    placement : Placement
    look : Look

    Returns
    -------
    int16 array of shape (height, width, num_slices)
    """
    signal = look.surroundings.copy()
    blood = (0.88 if phase == "ES" else 1.0) * np.array([1.0, 0.9])
    speckled = smooth_noise(rng, placement.shape[:2], tuple(side // 3 for side in placement.shape[:2]))
    for number, picture in enumerate(signal):
        _paint_heart(picture, speckled, heart, phase, placement, look, blood, number)
    signal *= look.sensitivity
    noise = rng.standard_normal((2, *signal.shape), np.float32)
    noise *= np.float32(look.noise)
    signal += noise[0]
    np.square(signal, out=signal)
    noise[1] *= noise[1]
    signal += noise[1]
    np.sqrt(signal, out=signal)
    # The scanner's matrix is coarser than the image.
    for picture in signal:
        cv2.GaussianBlur(picture, (0, 0), 0.55, dst=picture)
    signal *= np.float32(look.blood)
    np.rint(signal, out=signal)
    return np.moveaxis(np.minimum(signal, 32000).astype(np.int16), 0, 2)


def _paint_heart(signal, speckled, heart, phase, placement, look, blood, number):
    """Paint the heart into one slice."""
    ventricles = heart.ed if phase == "ED" else heart.es
    half = min(placement.z_mm[1] - placement.z_mm[0], _THICKNESS_MM) / 2
    layers = placement.z_mm[number] + half * np.linspace(-2 / 3, 2 / 3, _NUM_LAYERS)
    endocardium, epicardium, depth = (
        ventricles.endocardium(layers),
        ventricles.epicardium(layers),
        ventricles.rv_depth(layers),
    )
    # Above the base atria lie where ventricles were; they do not shrink when those do.
    in_lv = layers[1] > ventricles.lv_base_mm
    in_rv = layers[1] > ventricles.rv_base_mm
    if not in_lv:
        above = (ventricles.lv_base_mm - layers)[:, None]
        endocardium = heart.ed.lv_radius_mm * heart.ed.lv_outline * np.maximum(0.93 - 0.005 * above, 0.3)
        epicardium = endocardium + _ATRIAL_WALL_MM
    if not in_rv:
        above = (ventricles.rv_base_mm - layers)[:, None]
        depth = heart.ed.rv_depth(np.full(len(layers), heart.ed.rv_base_mm)) * np.maximum(0.8 - 0.006 * above, 0.2)
    outside = epicardium + depth
    reach = outside.max() + look.fat_mm.max() + _RV_WALL_MM + 3
    if reach < 6:
        return
    if not in_lv:
        reach = max(reach, look.outflow[1] + look.outflow[2] + 4)
    window, radius, angle = _around(placement, number, reach)
    pixel = placement.pixel_mm
    total = np.zeros_like(radius)
    for layer in range(_NUM_LAYERS):
        canvas = signal[window].copy()

        def paint(border_mm, level, canvas=canvas):
            # How much of a pixel lies within the border.
            cover = np.clip((border_mm[angle] - radius) * np.float32(1 / pixel) + 0.5, 0, 1)
            canvas += cover * (level - canvas)

        there = np.minimum(outside[layer] / 8, 1)  # the apex has neither fat nor wall beyond it
        paint(outside[layer] + (_RV_WALL_MM + look.fat_mm) * there, _FAT)
        wall = outside[layer] + np.minimum(depth[layer], _RV_WALL_MM)
        paint(wall, _MYOCARDIUM)
        rv_texture = 1 - 0.35 * np.clip(speckled[window] - 1.1, 0, 1.2)
        paint(outside[layer], blood[1] * rv_texture)
        muscle = _MYOCARDIUM * look.tissue[angle] * (1 + 0.05 * speckled[window])
        paint(epicardium[layer], muscle)
        rough = look.roughness if in_lv else 0.0
        paint(endocardium[layer] * (1 - rough), blood[0] * (1 + 0.03 * speckled[window]))
        if in_lv:
            _paint_papillary(canvas, radius, angle, ventricles, layers[layer], endocardium[layer], look, pixel)
        else:
            _paint_vessel(canvas, radius, angle, look.outflow, blood[0], pixel)
        total += canvas
    signal[window] = total / _NUM_LAYERS


def _paint_papillary(canvas, radius, angle, ventricles, z_mm, endocardium, look, pixel):
    t = (z_mm - ventricles.lv_base_mm) / ventricles.lv_length_mm
    if not 0.25 < t < 0.85:
        return
    for direction, size in look.papillary:
        cavity = float(endocardium[round(direction * NUM_ANGLES / (2 * np.pi)) % NUM_ANGLES])
        # Muscles contract less than the cavity does.
        thick = size * (cavity + 8) / 1.35
        at = cavity - 0.75 * thick
        away = _distance(radius, angle, direction, at)
        cover = np.clip((thick - away) / pixel + 0.5, 0, 1) * (radius < endocardium[angle])
        canvas += cover * (_MYOCARDIUM * 1.1 - canvas)


def _paint_vessel(canvas, radius, angle, outflow, level, pixel):
    direction, at, thick = outflow
    away = _distance(radius, angle, direction, at)
    for border, grey in ((thick + 2, _MYOCARDIUM), (thick, level)):
        cover = np.clip((border - away) / pixel + 0.5, 0, 1)
        canvas += cover * (grey - canvas)


def _distance(radius, angle, direction_rad, at_mm):
    """Distance of pixels from a point given by direction and distance from the axis."""
    cosines = (2 * at_mm * np.cos(ANGLES - direction_rad)).astype(np.float32)
    return np.sqrt(np.maximum(radius * (radius - cosines[angle]) + np.float32(at_mm**2), 0))


def _surroundings(rng, heart, placement):
    """Body, lungs, organs below the diaphragm, vessels; and how near the front coil is."""
    height, width, num_slices = placement.shape
    pixel = placement.pixel_mm
    x = ((np.arange(width) - (width - 1) / 2) * pixel).astype(np.float32)[None]
    y = ((np.arange(height) - (height - 1) / 2) * pixel).astype(np.float32)[:, None]

    def noise(scale_mm):
        knots = tuple(max(3, round(side * pixel / scale_mm)) for side in (height, width))
        return smooth_noise(rng, (height, width), knots)

    heart_x, heart_y = placement.axis_mm.mean(axis=0)
    reach = float(heart.ed.epicardium(np.array([0.0])).max())
    # Curves are drawn on a plane that is bent a little.
    x = x + 6 * noise(60) + 1.5 * noise(18) - heart_x
    y = y + 6 * noise(60) + 1.5 * noise(18) - heart_y
    # The plane cuts the trunk obliquely.
    tilt = rng.normal(0.2, 0.3)
    center_x, center_y = rng.normal(35, 12), rng.normal(75, 20)
    half_width, half_height = rng.normal(150, 12), rng.normal(185, 22)

    def in_trunk(x, y):
        x, y = x - center_x, y - center_y
        along, across = math.cos(tilt), math.sin(tilt)
        return (x * along + y * across) / half_width, (y * along - x * across) / half_height

    # The whole heart lies within the chest wall.
    edge = np.hypot(*in_trunk(*_outer_curve(heart, placement.z_mm).T)).max()
    if edge > _CHEST:
        half_width, half_height = half_width * edge / _CHEST, half_height * edge / _CHEST
    u, v = in_trunk(x, y)
    around = np.arctan2(v, u)
    depth = (1 - np.hypot(u, v)) * min(half_width, half_height)  # below the skin, about mm
    fat = rng.uniform(8, 28) * (1 + 0.55 * np.cos(around + rng.uniform(0, 6.3)))
    muscle = fat + rng.uniform(9, 16)
    ribs = 0.5 + 0.5 * np.cos(around * rng.uniform(9, 13) + rng.uniform(0, 6.3))

    texture = noise(9)
    vessels = np.maximum(noise(5) - 1.75, 0)
    lung = _LUNG + 0.02 * texture + 0.6 * vessels
    chest_wall = _MUSCLE * (1 + 0.2 * texture) + 0.5 * np.clip(3 * (ribs - 0.75), 0, 1)
    organs = _organs(rng, x, y, noise, texture)
    skin = _FAT * (1 + 0.1 * noise(30) - 0.2 * np.maximum(noise(9) - 1.4, 0))
    mediastinum = _medium(rng, x, y, reach, texture)

    surroundings = np.empty((num_slices, height, width), np.float32)
    slope, curve = rng.normal(0.0, 0.12), rng.uniform(0.0010, 0.0022)
    level = reach + rng.normal(5, 4)
    drift = rng.normal(0, 0.12, 2)
    rise = rng.uniform(0.15, 0.45)
    for number, z in enumerate(placement.z_mm):
        # Towards the apex the dome of the diaphragm comes higher.
        dome = level - rise * z + slope * x + curve * np.square(x - 10)
        below = _step(y - dome, 2.5)
        inner = lung + mediastinum * (1 - below)
        inner += below * (organs - inner)
        lift = 0.35 * (z - placement.z_mm[0]) / 10
        inside = depth - lift
        picture = inner + _step(muscle - inside, 1.5) * (chest_wall - inner)
        picture += _step(fat - inside, 1.2) * (skin - picture)
        picture += _step(-depth, 1.0) * (_AIR - picture)
        moved = placement.axis_mm[number] - placement.axis_mm.mean(axis=0) + drift * (z - placement.z_mm.mean())
        shift = np.float32([[1, 0, moved[0] / pixel], [0, 1, moved[1] / pixel]])
        surroundings[number] = cv2.warpAffine(
            picture.astype(np.float32), shift, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    coil = 0.85 + rng.uniform(0.25, 0.7) * np.exp(-np.maximum(depth, 0) / rng.uniform(30, 50))
    return surroundings, coil.astype(np.float32)


def _organs(rng, x, y, noise, texture):
    """Liver on the patient's right, stomach, spleen and bowel on the left, fat between them."""
    liver = _LIVER * (1 + 0.06 * texture) + 0.35 * np.maximum(noise(12) - 1.5, 0)
    bowel = np.clip(0.55 + 0.38 * noise(22) + 0.1 * texture, 0.1, 1.1)
    edge = rng.normal(15, 20) + 0.35 * (y - 60)
    organs = liver + _step(x - edge, 2.5) * (bowel - liver)
    for _ in range(3):
        at_x, at_y = rng.uniform(10, 110), rng.uniform(55, 130)
        wide, high = rng.uniform(18, 34), rng.uniform(14, 28)
        away = (np.hypot((x - at_x) / wide, (y - at_y) / high) - 1) * min(wide, high)
        level = rng.choice([0.12, 0.35, 0.5, 0.85])
        organs += _step(5 - away, 2) * (_FAT * 0.9 - organs)
        organs += _step(-away, 1.2) * (level * (1 + 0.15 * texture) - organs)
    return organs


def _medium(rng, x, y, reach, texture):
    """What it adds to the lungs: aorta and spine behind the heart, fat between heart and chest wall."""
    added = np.zeros_like(texture)
    spine_x, spine_y = rng.normal(5, 15), reach + rng.normal(75, 8)
    spine = _step(24 - np.hypot(x - spine_x, (y - spine_y) * 1.1), 1.5)
    added += spine * (0.35 + 0.05 * texture)
    aorta = np.hypot(x - spine_x - rng.normal(28, 5), y - spine_y + rng.normal(22, 4))
    added += _step(rng.uniform(9, 13) - aorta, 1.0) * 0.95
    front = np.hypot((x - rng.normal(-30, 10)) / 40, (y + reach + 12) / 14) - 1
    added += _step(-14 * front, 2.5) * (0.7 + 0.1 * texture)
    return added


def _step(distance_mm, width_mm):
    """0 where negative, 1 where positive, with a soft edge."""
    return np.clip(distance_mm * np.float32(1 / (2 * width_mm)) + np.float32(0.5), 0, 1)


def _wave(rng, orders, deviation):
    """Random function of the direction: float32 array of shape (360,)."""
    waves = [rng.normal(0, 1) * np.cos(order * ANGLES + rng.uniform(0, 2 * np.pi)) for order in orders]
    return (deviation * math.sqrt(2 / len(orders)) * np.sum(waves, axis=0)).astype(np.float32)


def _around(placement, number, reach_mm):
    """A window of one slice around the axis: slices of rows and columns, radii in mm and numbers of directions."""
    pixel = placement.pixel_mm
    height, width, _ = placement.shape
    center_x, center_y = placement.axis_mm[number] / pixel + (np.array([width, height]) - 1) / 2
    reach = reach_mm / pixel
    top, bottom = max(0, math.floor(center_y - reach)), min(height, math.ceil(center_y + reach) + 1)
    left, right = max(0, math.floor(center_x - reach)), min(width, math.ceil(center_x + reach) + 1)
    x = ((np.arange(left, right) - center_x) * pixel).astype(np.float32)[None]
    y = ((np.arange(top, bottom) - center_y) * pixel).astype(np.float32)[:, None]
    radius, degrees = cv2.cartToPolar(*(np.ascontiguousarray(side) for side in np.broadcast_arrays(x, y)))
    degrees *= np.float32(NUM_ANGLES / (2 * np.pi))
    angle = np.rint(degrees).astype(np.int32) % NUM_ANGLES
    return (slice(top, bottom), slice(left, right)), radius, angle


def _outer_curve(heart, z_mm):
    """Outline of both ventricles at ED, of all slices together, (x, y) from the axis in mm: array of shape (360, 2)."""
    radius = (heart.ed.epicardium(z_mm) + heart.ed.rv_depth(z_mm)).max(axis=0)
    return radius[:, None] * np.column_stack([np.cos(ANGLES), np.sin(ANGLES)])
