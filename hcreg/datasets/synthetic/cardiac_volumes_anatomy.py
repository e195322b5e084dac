"""What is decided about each synthetic pair of ventricles: disease, volumes, and shapes that have these volumes."""

import math
from dataclasses import dataclass

import numpy as np

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")

NUM_ANGLES = 360
# From the image's right (the patient's left) clockwise as the picture is shown, x to the right and y down.
ANGLES = (np.arange(NUM_ANGLES) * (2 * np.pi / NUM_ANGLES)).astype(np.float32)
_ANGLE_STEP = 2 * math.pi / NUM_ANGLES
# Slabs that the known volumes are summed over.
_NUM_SLABS = 100

# No thinner than two pixels of the widest spacing, so that cavity and background never meet in a label map.
_MIN_WALL_MM = 4.0
_LV_TAPER, _RV_TAPER = 2.3, 2.0
_SCAR_EDGE_MM = 8.0

# Mean and deviation by group, after ACDC's own: LV and RV cavity and myocardium at ED in ml, ejection fractions,
# how far the base descends in mm on the left and on the right.
_TARGETS = {
    "NOR": {
        "lv": (137, 28), "rv": (155, 32), "myo": (102, 19), "lv_ef": (0.62, 0.05), "rv_ef": (0.56, 0.06),
        "descent": (12, 3), "rv_descent": (17, 4),
    },
    "DCM": {
        "lv": (288, 42), "rv": (185, 55), "myo": (178, 26), "lv_ef": (0.24, 0.08), "rv_ef": (0.34, 0.11),
        "descent": (4, 3), "rv_descent": (8, 4),
    },
    "HCM": {
        "lv": (142, 27), "rv": (122, 22), "myo": (188, 40), "lv_ef": (0.71, 0.06), "rv_ef": (0.62, 0.07),
        "descent": (11, 3), "rv_descent": (15, 4),
    },
    "MINF": {
        "lv": (178, 36), "rv": (122, 34), "myo": (124, 18), "lv_ef": (0.31, 0.07), "rv_ef": (0.50, 0.09),
        "descent": (6, 3), "rv_descent": (11, 4),
    },
    "RV": {
        "lv": (106, 21), "rv": (188, 42), "myo": (72, 15), "lv_ef": (0.56, 0.07), "rv_ef": (0.31, 0.10),
        "descent": (9, 3), "rv_descent": (8, 4),
    },
}  # fmt: skip
_LIMITS = {
    "lv": (62, 350), "rv": (55, 295), "myo": (50, 265), "lv_ef": (0.08, 0.82), "rv_ef": (0.08, 0.75),
    "descent": (0, 20), "rv_descent": (0, 25),
}  # fmt: skip
_MIN_LV_ES_ML = 23
_MIN_RV_ES_ML = 15


@dataclass(frozen=True, eq=False)
class Ventricles:
    """Both ventricles at one phase, as curves in polar coordinates around the left one's long axis.

    Parameters
    ----------
    lv_base_mm, lv_length_mm, rv_base_mm, rv_length_mm : float, mm
        Along the axis from the left ventricle's base at ED towards the apex: where a ventricle is cut off, and from
        there to where its cavity ends.
    apex_wall_mm : float, mm
        Myocardium beyond the left cavity's end.
    lv_radius_mm, wall_mm, rv_width_mm : float, mm
        At the base: of the left cavity; mean thickness of its wall; of the right cavity where it is widest.
    lv_outline, wall_profile : float32 arrays of shape (360,)
        Radius of the left cavity and thickness of its wall in every direction, as parts of those.
    scar : float32 array of shape (360,)
        In [0, 1], where in the circumference an infarction lies. 0 for other groups.
    scar_from_mm : float, mm
        It reaches from there to the apex.
    scar_thinning, scar_bulge : float
        Part of the wall that is missing in it; by what part the cavity's radius is larger than elsewhere.
    rv_direction_rad, rv_half_angle_rad, rv_skew, rv_twist_rad : float
        Where the right ventricle lies, how far around the left one it reaches to either side, how much larger one
        of its ends is, and by how much it is turned at its apex.
    """

    lv_base_mm: float
    lv_length_mm: float
    rv_base_mm: float
    rv_length_mm: float
    apex_wall_mm: float
    lv_radius_mm: float
    wall_mm: float
    rv_width_mm: float
    lv_outline: np.ndarray
    wall_profile: np.ndarray
    scar: np.ndarray
    scar_from_mm: float
    scar_thinning: float
    scar_bulge: float
    rv_direction_rad: float
    rv_half_angle_rad: float
    rv_skew: float
    rv_twist_rad: float

    @property
    def apex_mm(self):
        """Where the myocardium ends."""
        return self.lv_base_mm + self.lv_length_mm + self.apex_wall_mm

    @property
    def rv_apex_mm(self):
        """Where the right cavity ends."""
        return self.rv_base_mm + self.rv_length_mm

    def endocardium(self, z_mm):
        """Radius of the left cavity: array of shape (len(z_mm), 360), mm. It runs on above the base."""
        scarred = 1 + self.scar_bulge * self._scar(z_mm)
        return self.lv_radius_mm * self.lv_outline * scarred * _taper(z_mm, self.lv_base_mm, self.lv_length_mm)

    def epicardium(self, z_mm):
        """Radius of the left ventricle with its wall: array of shape (len(z_mm), 360), mm."""
        scar = self._scar(z_mm)
        cavity = self.lv_radius_mm * self.lv_outline * (1 + self.scar_bulge * scar)
        wall = np.maximum(self.wall_mm * self.wall_profile * (1 - self.scar_thinning * scar), _MIN_WALL_MM)
        return (cavity + wall) * _taper(z_mm, self.lv_base_mm, self.lv_length_mm + self.apex_wall_mm)

    def rv_depth(self, z_mm):
        """How far the right cavity reaches beyond `epicardium`: array of shape (len(z_mm), 360), mm."""
        t = np.clip((np.asarray(z_mm, np.float32) - self.rv_base_mm) / self.rv_length_mm, 0, 1)[:, None]
        direction = self.rv_direction_rad + self.rv_twist_rad * t
        half = self.rv_half_angle_rad * (1 - 0.35 * t)
        u = (np.mod(ANGLES - direction + np.pi, 2 * np.pi) - np.pi) / half
        across = np.maximum(1 - np.abs(u) ** 1.8, 0) * (1 + self.rv_skew * u)
        return self.rv_width_mm * np.maximum(1 - t**_RV_TAPER, 0) ** 0.75 * across

    def volumes_ml(self):
        """Volumes of the shapes themselves, whatever voxels they are drawn into.

        Returns
        -------
        dict of str to float, ml
            By ``hcreg.preprocessing.cardiac.STRUCTURES``.
        """
        z, step = _slabs(self.rv_base_mm, self.rv_apex_mm)
        inner = self.epicardium(z)
        rv = _sector_area(inner + self.rv_depth(z)) - _sector_area(inner)
        return {"RV": rv * step / 1000, "MYO": self._whole_ml() - self._lv_ml(), "LV": self._lv_ml()}

    def _lv_ml(self):
        z, step = _slabs(self.lv_base_mm, self.lv_base_mm + self.lv_length_mm)
        return _sector_area(self.endocardium(z)) * step / 1000

    def _whole_ml(self):
        z, step = _slabs(self.lv_base_mm, self.apex_mm)
        return _sector_area(self.epicardium(z)) * step / 1000

    def _scar(self, z_mm):
        z = np.asarray(z_mm, np.float32)[:, None]
        return self.scar / (1 + np.exp((self.scar_from_mm - z) / _SCAR_EDGE_MM))


@dataclass(frozen=True, eq=False)
class Heart:
    """One patient's heart.

    Parameters
    ----------
    group : str
        One of `GROUPS`.
    ed, es : Ventricles
    slice_spacing_mm : float, mm
        All bases lie on borders between slices: whole multiples of it.
    """

    group: str
    ed: Ventricles
    es: Ventricles
    slice_spacing_mm: float


def draw_heart(rng, group):
    """Draw the heart of one patient.

    Parameters
    ----------
    rng : numpy.random.Generator
    group : str
        One of `GROUPS`.

    Returns
    -------
    Heart

    Notes
    -----
    The left cavity is a truncated half-ellipsoid, blunter than that (exponent 2.3), whose cross-section is no circle
    and changes along the axis; the wall around it tapers to a cap at the apex; the right cavity is a crescent that
    lies on it. Volumes and ejection fractions are drawn, and radius, wall and width are solved for them. The
    myocardium keeps its volume but for 2-12 %, as it does between ACDC's label maps. DCM: dilated, ejects little.
    HCM: thick, the septum most, ejects much. MINF: a thin segment that neither thickens nor moves inwards.
    RV: a large right ventricle that ejects little and flattens the septum.
    """
    aim = {name: _normal(rng, *_TARGETS[group][name], *_LIMITS[name]) for name in _LIMITS}
    # Large hearts are large on both sides.
    if group != "RV":
        aim["rv"] = float(np.clip(aim["rv"] * (aim["lv"] / _TARGETS[group]["lv"][0]) ** 0.4, *_LIMITS["rv"]))
    aim["myo"] = float(np.clip(aim["myo"] * (aim["lv"] / _TARGETS[group]["lv"][0]) ** 0.4, *_LIMITS["myo"]))
    spherical = 1.44 if group == "DCM" else 1.52
    length = spherical * (1000 * aim["lv"]) ** (1 / 3) * _normal(rng, 1, 0.05, 0.9, 1.1)
    apex_wall = _normal(rng, 3.2 if group != "HCM" else 4.5, 0.7, 2, 6)
    slice_spacing = float(rng.choice([10.0, 10.0, 10.0, 10.0, 10.0, 10.0, 8.0, 7.0, 5.0, 5.0]))
    if (length + apex_wall) / slice_spacing > 15.5:  # the scanner's time allows no more
        slice_spacing = 10.0

    direction = math.radians(_normal(rng, 165, 27, 100, 240))
    rv_part = _normal(rng, 0.88 if group != "RV" else 0.98, 0.07, 0.7, 1.12)
    base_slices = int(rng.choice(3, p=[0.25, 0.65, 0.10])) - 1
    if group != "RV" and base_slices < 0:
        base_slices = 0
    rv_base = base_slices * (slice_spacing if slice_spacing > 6 else 2 * slice_spacing)
    scar_direction = direction + math.radians(rng.uniform(-60, 240))  # septum, inferior, lateral wall
    infarcted = group == "MINF"
    shared = {
        "lv_outline": _outline(rng, direction, _normal(rng, 0.22, 0.05, 0.1, 0.32) if group == "RV" else 0.03),
        "wall_profile": _wall_profile(rng, direction, _normal(rng, 0.7, 0.3, 0.1, 1.3) if group == "HCM" else 0.05),
        "scar": (infarcted * _bump(scar_direction, math.radians(rng.uniform(35, 65)))).astype(np.float32),
        "scar_from_mm": length * rng.uniform(0.05, 0.55),
        "rv_direction_rad": direction,
        "rv_half_angle_rad": math.radians(_normal(rng, 80 if group != "RV" else 88, 5, 68, 98)),
        "rv_skew": _normal(rng, 0, 0.22, -0.45, 0.45),
        "rv_twist_rad": math.radians(_normal(rng, -22, 12, -50, 10)),
    }
    thinning = _normal(rng, 0.42, 0.08, 0.25, 0.55)
    ed = _solved(
        aim["lv"],
        aim["myo"],
        aim["rv"],
        lv_base_mm=0.0,
        lv_length_mm=length,
        rv_base_mm=rv_base,
        rv_length_mm=rv_part * length - rv_base,
        apex_wall_mm=apex_wall,
        scar_thinning=infarcted * thinning,
        scar_bulge=infarcted * 0.05,
        **shared,
    )

    descent = slice_spacing * round(aim["descent"] / slice_spacing)
    rv_descent = slice_spacing * round(aim["rv_descent"] / slice_spacing)
    lv_es = max(aim["lv"] * (1 - aim["lv_ef"]), _MIN_LV_ES_ML)
    # The apex stays where it is; its wall thickens.
    thickening = apex_wall * aim["lv_ef"]
    es_length = length - descent - thickening
    kept = math.sqrt(lv_es / aim["lv"] * length / es_length)
    es = _solved(
        lv_es,
        aim["myo"] * rng.uniform(1.02, 1.12),
        max(aim["rv"] * (1 - aim["rv_ef"]), _MIN_RV_ES_ML),
        lv_base_mm=descent,
        lv_length_mm=es_length,
        rv_base_mm=rv_base + rv_descent,
        rv_length_mm=ed.rv_length_mm - rv_descent - 4 * aim["rv_ef"],
        apex_wall_mm=apex_wall + thickening,
        scar_thinning=infarcted * min(0.65, thinning + 0.15),
        scar_bulge=infarcted * max(0.9 * (1.05 / kept - 1), 0.05),
        **shared,
    )
    return Heart(group, ed, es, slice_spacing)


def _solved(lv_ml, myo_ml, rv_ml, **shape):
    """Ventricles of a shape with given volumes."""
    # All areas of the left cavity go with the square of its radius.
    unit = Ventricles(lv_radius_mm=1.0, wall_mm=1.0, rv_width_mm=1.0, **shape)
    shape["lv_radius_mm"] = math.sqrt(lv_ml / unit._lv_ml())

    def missing_ml(wall_mm):
        return Ventricles(wall_mm=wall_mm, rv_width_mm=1.0, **shape)._whole_ml() - lv_ml - myo_ml

    shape["wall_mm"] = _root(missing_ml, 2.0, 45.0)
    # The crescent's area is a w + b w^2: read from two widths.
    one, two = (Ventricles(rv_width_mm=width, **shape).volumes_ml()["RV"] for width in (1.0, 2.0))
    b = (two - 2 * one) / 2
    a = one - b
    return Ventricles(rv_width_mm=(math.sqrt(a * a + 4 * b * rv_ml) - a) / (2 * b), **shape)


def _root(function, low, high, tolerance=0.02):
    """Where a growing function is zero, or the end of the interval that is nearest to it (Illinois)."""
    at_low, at_high = function(low), function(high)
    if at_low >= 0:
        return low
    if at_high <= 0:
        return high
    while True:
        middle = (low * at_high - high * at_low) / (at_high - at_low)
        value = function(middle)
        if abs(value) < tolerance:
            return middle
        if value > 0:
            high, at_high, at_low = middle, value, at_low / 2
        else:
            low, at_low, at_high = middle, value, at_high / 2


def _taper(z_mm, base_mm, length_mm):
    """Radius along the axis as part of that at the base: array of shape (len(z_mm), 1)."""
    t = np.abs(np.asarray(z_mm, np.float32) - base_mm) / length_mm
    return np.sqrt(np.maximum(1 - t**_LV_TAPER, 0))[:, None]


def _slabs(start_mm, end_mm):
    """Middles and thickness of equal slabs."""
    step = (end_mm - start_mm) / _NUM_SLABS
    return start_mm + step * (np.arange(_NUM_SLABS) + 0.5), step


def _sector_area(radius_mm):
    """Area within polar curves, summed over all of them."""
    return float(np.square(radius_mm, dtype=np.float64).sum()) * _ANGLE_STEP / 2


def _bump(direction_rad, width_rad):
    """Smooth weight of 1 in a direction, near 0 far from it: array of shape (360,)."""
    away = np.mod(ANGLES - direction_rad + np.pi, 2 * np.pi) - np.pi
    return np.exp(-((away / width_rad) ** 4))


def _outline(rng, septum_rad, flattening):
    """Radius of the left cavity by direction."""
    outline = 1 - flattening * np.exp(-np.square((np.mod(ANGLES - septum_rad + np.pi, 2 * np.pi) - np.pi) / 0.75))
    for order, deviation in ((2, 0.035), (3, 0.02), (5, 0.008)):
        outline = outline + rng.normal(0, deviation) * np.cos(order * (ANGLES - rng.uniform(0, 2 * np.pi)))
    return outline.astype(np.float32)


def _wall_profile(rng, septum_rad, septal_excess):
    """Thickness of the wall by direction."""
    profile = 1 + septal_excess * _bump(septum_rad + rng.normal(0, 0.3), 1.0)
    for order, deviation in ((1, 0.05), (2, 0.05), (3, 0.03)):
        profile = profile + rng.normal(0, deviation) * np.cos(order * (ANGLES - rng.uniform(0, 2 * np.pi)))
    return (profile / profile.mean()).astype(np.float32)


def _normal(rng, mean, deviation, low, high):
    return float(np.clip(rng.normal(mean, deviation), low, high))
