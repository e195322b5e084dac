"""One three-dimensional ultrasound scan of a fetal head: what the beams meet, and what comes back of them."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from hcreg.datasets.synthetic import ultrasound
from hcreg.datasets.synthetic.fetal_head_3d_anatomy import Ellipsoid
from hcreg.datasets.synthetic.fetal_head_3d_scan import Beams, SmoothField, chunks_of_planes

# Strength of the echo, dB; 0 is that of bone square to the beam.
_TISSUE_DB, _HEAD_TISSUE_DB, _BRAIN_DB, _FLUID_DB = -27.0, -27.5, -38.0, -62.0
_LOOKS = 3  # averaged, as compounding scanners do
_PULSE_MM, _BEAM_MM = 0.5, 1.0  # standard deviations of the echo of a point, along and across the beam
_SMALLEST_BLUR = 0.5  # samples
_PER_DB = np.float32(np.log(10) / 20)


def draw_label_map(head, scan, shape, spacing_mm):
    """Label map of the head: 1 where a voxel's centre lies in it, whether or not it can be seen.

    Parameters
    ----------
    head : Head
    scan : Scan
    shape : (int, int, int)
        Depth, across, sweep.
    spacing_mm : float, mm

    Returns
    -------
    uint8 array of shape `shape`
    """
    label_map = np.zeros(shape, np.uint8)
    depth, across, sweep = (np.arange(size, dtype=np.float32) * np.float32(spacing_mm) for size in shape)
    for planes in chunks_of_planes(shape):
        points = scan.in_head(head, (depth[planes, None, None], across[:, None], sweep))
        label_map[planes] = head.distance(points) < 0
    return label_map


def draw_image(rng, head, scan, shape, spacing_mm):
    """Draw one scan.

    Parameters
    ----------
    rng : numpy.random.Generator
    head : Head
    scan : Scan
    shape : (int, int, int)
        Depth, across, sweep.
    spacing_mm : float, mm
        Size of a voxel.

    Returns
    -------
    uint8 array of shape `shape`
        0 outside the fan.
    """
    beams = Beams(scan, shape, spacing_mm)
    tissue = _lay_tissue(rng, beams, head)
    gain = _draw_gain(rng, beams, tissue.attenuation)
    magnitude = _receive(rng, beams, tissue.scatter, tissue.mirror, gain)
    level = ultrasound.log_compress(
        magnitude.reshape(len(magnitude), -1),
        gain_db=rng.normal(8, 2.5),
        dynamic_range_db=rng.uniform(50, 60),
        gamma=rng.uniform(1.2, 1.7),
    )
    return beams.scan_convert(level.reshape(shape))


@dataclass(eq=False)
class _Tissue:
    """What samples hold.

    Attributes
    ----------
    scatter : float32 array
        Root mean square magnitude of the speckle, dB while it is laid.
    mirror : float32 array
        Magnitude of the echo of smooth surfaces.
    attenuation : float32 array
        dB per mm.
    """

    scatter: np.ndarray
    mirror: np.ndarray
    attenuation: np.ndarray

    def fill(self, share, level_db, attenuation=0.0):
        """Replace what is there by something else, as far as that has a share of each sample."""
        self.scatter += share * (level_db - self.scatter)
        self.mirror *= 1 - share
        self.attenuation += share * (np.float32(attenuation) - self.attenuation)


class _Womb:
    """What surrounds the head: layers of the mother's tissue, the wall of the womb, fluid, and perhaps a limb.

    Lengths are mm from the first voxel's centre.
    """

    def __init__(self, rng, beams, head):
        scan = beams.scan
        reach = head.scale_mm * rng.uniform(1.1, 1.75, 3)
        center = scan.center_mm + rng.uniform(-0.7, 0.7, 3) * (reach - head.scale_mm)
        self._cavity = Ellipsoid(tuple(center), tuple(reach))
        self._level_db = _TISSUE_DB + rng.normal(0, 3)
        self._fluid_db = _FLUID_DB + rng.uniform(0, 18)
        self._attenuation = rng.uniform(0.0, 0.05)
        self._wall = rng.uniform(0.02, 0.3)
        self._layers_end_mm = rng.uniform(0.1, 0.35) * beams.shape[0] * beams.spacing_mm
        self._contrast_db = rng.uniform(3, 7)
        self._limbs = [_Limb(rng, scan, head) for _ in range(rng.choice([0, 1, 2], p=[0.4, 0.4, 0.2]))]

    def laid(self, places_mm, fields, soft_mm):
        depth = places_mm[0]
        near = np.float32(0.1) + np.exp(-depth / np.float32(self._layers_end_mm))
        level_db = np.float32(self._level_db) + np.float32(self._contrast_db) * (
            near * fields["layers"] + np.float32(0.6) * fields["clouds"]
        )
        level_db += 2 * fields["texture"]
        tissue = _Tissue(level_db, np.zeros_like(level_db), np.full_like(level_db, self._attenuation))
        # The wall is no ellipsoid but for its rough course.
        away_mm = self._cavity.distance(places_mm) + 5 * fields["clouds"]
        tissue.fill(_inside(away_mm, soft_mm), np.float32(self._fluid_db) + 3 * fields["texture"], -0.03)
        tissue.mirror += np.float32(self._wall) * np.exp(-((away_mm / soft_mm) ** 2)) * np.maximum(0, fields["solid"])
        for limb in self._limbs:
            limb.lay(places_mm, tissue, soft_mm)
        return tissue


class _Limb:
    """A bone with flesh around it, between probe and head: it throws a shadow on the head."""

    def __init__(self, rng, scan, head):
        aside = rng.normal(0, 0.45, 2) * head.scale_mm
        nearer = rng.uniform(1.05, 1.35) * head.scale_mm
        self._center = scan.center_mm + np.array([-nearer, *aside])
        axis = np.array([rng.normal(0, 0.35), *rng.normal(0, 1, 2)])
        self._axis = axis / np.linalg.norm(axis)
        self._half_length = rng.uniform(0.25, 0.6) * head.scale_mm
        self._radius = rng.uniform(0.05, 0.08) * head.scale_mm
        self._level_db = rng.uniform(-14, -6)
        self._attenuation = rng.uniform(1.5, 4.0)

    def lay(self, places_mm, tissue, soft_mm):
        away = [place - np.float32(c) for place, c in zip(places_mm, self._center)]
        along = sum(np.float32(part) * a for part, a in zip(self._axis, away))
        beyond = np.maximum(np.abs(along) - np.float32(self._half_length), 0)
        square = sum(a * a for a in away) - along * along
        away_mm = np.sqrt(np.maximum(square, 0) + beyond**2)
        tissue.fill(_inside(away_mm - np.float32(3 * self._radius), soft_mm), np.float32(_TISSUE_DB - 2), 0.03)
        bone = _inside(away_mm - np.float32(self._radius), soft_mm)
        tissue.fill(bone, np.float32(self._level_db), self._attenuation)


class _Within:
    """The head itself, and the neck: flesh, brain, bones of skull, face and spine. Lengths are the head's."""

    def __init__(self, rng, head):
        width, _, height = head.cranium.semi_axes
        self._head = head
        self._flesh_db = _HEAD_TISSUE_DB + rng.normal(0, 2.5)
        # Head and neck are one flesh: next to nothing tells where one ends.
        self._neck_db = self._flesh_db + rng.normal(0, 1.2)
        self._brain_db = _BRAIN_DB + rng.normal(0, 3)
        self._skull_db, self._steep = rng.normal(-2, 2), rng.uniform(1.5, 3.5)
        self._skull_thickness = (1.5 + 0.03 * head.scale_mm) / head.scale_mm
        self._skin_thickness = rng.uniform(1.2, 2.2) / head.scale_mm
        self._skull_attenuation = rng.uniform(0.25, 1.0)
        self._falx = rng.uniform(0.02, 0.12)
        self._plexus_db = _BRAIN_DB + rng.uniform(6, 15)
        self._plexus = Ellipsoid((0.33 * width, -0.12, 0.1), (0.16 * width, 0.36, 0.16)).on_both_sides()
        self._ventricles = Ellipsoid((0.30 * width, -0.05, 0.13), (0.24 * width, 0.55, 0.24)).on_both_sides()
        self._cerebellum = Ellipsoid((0.28 * width, -0.58, -0.36 * height), (0.27, 0.2, 0.2)).on_both_sides()
        self._base = rng.uniform(-0.48, -0.38)
        face = head.features[0]
        front, down = face.center[1] + face.semi_axes[1], face.center[2]
        self._orbits = Ellipsoid((0.56 * face.semi_axes[0], front - 0.22, -0.36), (0.17, 0.19, 0.15)).on_both_sides()
        self._jaws = (
            Ellipsoid((0.0, front - 0.26, down - 0.02), (0.62 * face.semi_axes[0], 0.20, 0.07)),
            Ellipsoid((0.0, front - 0.28, down - 0.7 * face.semi_axes[2]), (0.5 * face.semi_axes[0], 0.22, 0.07)),
        )
        self._nose = Ellipsoid((0.0, front - 0.05, -0.36), (0.04, 0.05, 0.16))
        self._bone_attenuation = rng.uniform(0.8, 2.0)

    def lay(self, points, direction, fields, tissue, soft):
        head, (x, y, z) = self._head, points
        clouds_db = 2.0 * fields["clouds"] + 2.5 * fields["texture"]
        neck = head.neck_distance(points)
        tissue.fill(_inside(neck, soft), self._neck_db + clouds_db, 0.06)
        spine = np.sqrt(x * x + (y + np.float32(0.36) - np.float32(head.neck_tilt) * (-z - np.float32(0.55))) ** 2)
        vertebrae = _inside(np.maximum(spine - np.float32(0.1), z + np.float32(0.55)), soft)
        beads = np.float32(0.6) + np.float32(0.4) * np.sin(z * np.float32(2 * np.pi / 0.17))
        tissue.fill(vertebrae * beads, np.float32(-11), self._bone_attenuation)

        cranium = head.cranium_distance(points)
        surface = head.distance(points, cranium)
        tissue.fill(_inside(surface, soft), self._flesh_db + clouds_db, 0.06)
        # Skin towards fluid, bright only where it lies square to the beam.
        facing = head.cranium.facing(points, direction)
        free = _inside(-neck, soft)
        tissue.mirror += np.float32(0.05) * free * facing * np.exp(-((surface / soft) ** 2))

        above = _inside(np.float32(self._base) + np.float32(0.12) * np.abs(x) - z, 2 * soft)
        depth = -cranium - np.float32(self._skin_thickness + self._skull_thickness)
        brain = _inside(-depth, soft) * above
        tissue.fill(brain, self._brain_db + clouds_db, 0.02)
        for ventricle in self._ventricles:
            tissue.fill(_inside(ventricle.distance(points), soft) * brain, np.float32(self._brain_db - 12))
        for plexus in self._plexus:
            tissue.fill(_inside(plexus.distance(points), soft) * brain, self._plexus_db + clouds_db)
        for half in self._cerebellum:
            tissue.fill(_inside(half.distance(points), soft) * brain, self._brain_db + 6 + clouds_db)
        midline = np.exp(-((x / max(soft, np.float32(0.02))) ** 2)) * _inside(np.float32(-0.1) - z, soft)
        tissue.mirror += np.float32(self._falx) * brain * midline * (np.float32(1.2) + fields["solid"]).clip(0, None)

        self._lay_bones(points, facing, cranium, above, fields, tissue, soft)

    def _lay_bones(self, points, facing, cranium, above, fields, tissue, soft):
        z = points[2]
        thickness = np.float32(self._skull_thickness)
        middle = np.float32(self._skin_thickness) + thickness / 2
        width = np.float32(max(0.6 * self._skull_thickness, 1.1 * soft))
        # Sutures and fontanelles let the beam through; there the echo is weak.
        solid = (np.float32(1.15) + fields["solid"]).clip(0.08, 1)
        bone = np.exp(-(((cranium + middle) / width) ** 2)) * above * solid
        shine = np.float32(10 ** (self._skull_db / 20)) * (np.float32(0.12) + np.float32(0.88) * facing**self._steep)
        tissue.mirror += np.float32(0.8) * bone * shine
        base = np.exp(-(((z - np.float32(self._base) - np.float32(0.05) * fields["solid"]) / (width * 1.4)) ** 2))
        base *= _inside(cranium + middle, soft) * (np.float32(0.7) + np.float32(0.5) * fields["texture"]).clip(0, 1)
        hard = base.copy()
        echo = np.float32(0.16) * base
        for orbit in self._orbits:
            away = orbit.distance(points)
            tissue.fill(_inside(away, soft), np.float32(_FLUID_DB + 8))
            rim = np.exp(-((away / (1.2 * soft)) ** 2))
            echo = np.maximum(echo, np.float32(0.12) * rim)
        for jaw in (*self._jaws, self._nose):
            share = _inside(jaw.distance(points), soft)
            hard, echo = np.maximum(hard, share), np.maximum(echo, np.float32(0.3) * share)
        # A bone of less than a voxel's width keeps its loss: spread over what it is drawn with.
        spread = thickness / (width * np.float32(np.sqrt(np.pi)))
        tissue.attenuation += np.float32(2.4 * self._skull_attenuation) * bone * spread
        tissue.attenuation += np.float32(self._bone_attenuation) * hard * np.minimum(1, np.float32(0.08) / width)
        tissue.scatter = np.float32(0.5) * np.logaddexp(
            2 * _PER_DB * tissue.scatter, 2 * np.log(echo + np.float32(0.35) * bone * shine + np.float32(1e-6))
        )


def _inside(distance, soft):
    """Share of a sample that lies inside a surface, from 0 to 1."""
    return np.clip(np.float32(0.5) - distance / np.float32(2 * soft), 0, 1)


def _lay_tissue(rng, beams, head):
    """What every sample of a scan holds: a `_Tissue`, its scatter linear."""
    shape = beams.shape
    womb, within = _Womb(rng, beams, head), _Within(rng, head)
    fields = {
        "layers": SmoothField(rng, shape, (22, 3, 3)),
        "clouds": SmoothField(rng, shape, (7, 6, 7)),
        "texture": SmoothField(rng, shape, (26, 18, 28)),
        "solid": SmoothField(rng, shape, (5, 7, 9)),
    }
    whole = _Tissue(*(np.empty(shape, np.float32) for _ in range(3)))
    direction = beams.scan.direction_in_head(beams.directions)
    soft_mm = np.float32(max(0.5 * beams.spacing_mm, 0.35))
    for planes in chunks_of_planes(shape):
        places_mm = beams.places_mm(planes)
        drawn = {name: field[planes] for name, field in fields.items()}
        tissue = womb.laid(places_mm, drawn, soft_mm)
        within.lay(beams.scan.in_head(head, places_mm), direction, drawn, tissue, soft_mm / np.float32(head.scale_mm))
        whole.scatter[planes] = np.exp(tissue.scatter)
        whole.mirror[planes], whole.attenuation[planes] = tissue.mirror, tissue.attenuation
    return whole


def _draw_gain(rng, beams, attenuation):
    """Factor of the received echo: shadows of bones, beams without contact to the skin, hand-set gain by depth."""
    attenuation *= beams.slant
    gain_db = ultrasound.transmitted_db(attenuation, beams.spacing_mm, floor_db=-34.0)
    # A beam is some samples wide, so that shadows have soft edges.
    sigma = max(1.2 / beams.spacing_mm, 0.4)
    gain_db = ndimage.gaussian_filter(gain_db, (0, sigma, sigma), truncate=3, output=gain_db)
    contact = SmoothField(rng, (1, *beams.shape[1:]), (1, 4, 6))[0:1] + np.float32(rng.uniform(0.7, 1.6))
    gain_db += np.minimum(0, np.float32(rng.uniform(4, 16)) * contact)
    if rng.random() < 0.4:  # one side of the probe is off the skin
        side = np.linspace(0, 1, beams.shape[1 + rng.integers(2)], dtype=np.float32)[:: rng.choice([-1, 1])]
        lost = np.float32(rng.uniform(10, 28)) * np.clip(1 - side / np.float32(rng.uniform(0.15, 0.45)), 0, 1)
        gain_db -= lost[:, None] if len(lost) == beams.shape[1] else lost
    depth = np.linspace(-1, 1, beams.shape[0], dtype=np.float32)[:, None, None]
    gain_db += np.float32(rng.normal(0, 2.5)) * depth
    return np.exp(_PER_DB * gain_db)


def _receive(rng, beams, scatter, mirror, gain):
    """Magnitude of the echoes: speckle of many scatterers, smooth surfaces, and the scanner's own noise."""
    # Beams spread: their distance is that in the middle of the volume.
    tangents = (2 * opening / (size - 1) for opening, size in zip(beams.scan.openings, beams.shape[1:]))
    steps_mm = (beams.spacing_mm, *(tangent * np.median(beams.depth_mm) for tangent in tangents))
    sigmas = [max(mm / step, _SMALLEST_BLUR) for mm, step in zip((_PULSE_MM, _BEAM_MM, _BEAM_MM), steps_mm)]
    norm = np.prod([_blur_norm(sigma) for sigma in sigmas])
    scatter *= gain * np.float32(np.sqrt(0.5) / norm)
    mirror *= gain
    mirror = ndimage.gaussian_filter(mirror, sigmas, truncate=3)
    magnitude = np.zeros_like(scatter)
    for _ in range(_LOOKS):
        parts = []
        for _ in range(2):
            part = rng.standard_normal(scatter.shape, dtype=np.float32)
            part *= scatter
            parts.append(ndimage.gaussian_filter(part, sigmas, truncate=3, output=part))
        parts[0] += mirror
        magnitude += np.hypot(*parts, out=parts[0])
    noise = rng.standard_normal(scatter.shape, dtype=np.float32)
    magnitude /= _LOOKS
    return magnitude + np.float32(10 ** (rng.uniform(-60, -50) / 20)) * np.abs(noise, out=noise)


def _blur_norm(sigma):
    """Deviation of white noise of deviation 1 after a Gaussian blur along one axis."""
    away = np.arange(-int(3 * sigma + 0.5), int(3 * sigma + 0.5) + 1)
    kernel = np.exp(-0.5 * (away / sigma) ** 2)
    return float(np.linalg.norm(kernel / kernel.sum()))
