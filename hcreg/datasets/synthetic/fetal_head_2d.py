"""Synthetic two-dimensional ultrasound of fetal heads, written as HC18 writes it."""

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from hcreg.datasets.synthetic import cohort
from hcreg.datasets.synthetic.fetal_head_anatomy import Anatomy, draw_anatomy
from hcreg.datasets.synthetic.fetal_head_image import render
from hcreg.files import write_rows, written_whole
from hcreg.geometry import Ellipse, ellipse_circumference

__all__ = ["fetal_head"]

# Raised whenever the same arguments give other bytes, so that an older folder is not taken for the same
# cohort.
_VERSION = 1

# First examination id of each trimester in HC18, and how many examinations it has.
_TRIMESTERS = {1: (0, 133), 2: (133, 564), 3: (697, 109)}
_NUM_EXAMINATIONS = 806
_REPEATS = np.array([642, 141, 17, 6]) / 806
_MAX_TEST_EXAMINATIONS = 1000

_PIXEL_SIZE_RANGE_MM = (0.0494, 0.3933)
# Head circumference in px: mean, deviation, exponent of its growth with HC within the trimester, mean HC in
# mm.
_HC_PX = {1: (957, 245, 0.5, 76.0), 2: (1315, 220, 0.3, 174.0), 3: (1336, 190, 0.2, 294.0)}


@dataclass(frozen=True)
class _Picture:
    """Everything decided about one image before it is drawn."""

    folder: str
    stem: str
    anatomy: Anatomy
    shape: tuple
    pixel_size_mm: float
    head: Ellipse
    seeds: np.random.SeedSequence

    @property
    def hc_mm(self):
        return self.head.circumference_px * self.pixel_size_mm


def fetal_head(root, num_examinations, seed, num_test_examinations=0, num_workers=None):
    """Write a cohort of synthetic fetal-head ultrasound in the layout of HC18.

    Parameters
    ----------
    root : path-like
        Folder to write; made if absent. It must be empty, or hold this same cohort, whole or begun.
    num_examinations : int in [1, 806]
        Labelled examinations of one to four images, in HC18's proportions (642 : 141 : 17 : 6). The
        examination id codes the trimester as in HC18 (000-132, 133-696, 697-805); five or more have every
        trimester.
    seed : int, at least 0
        Fixes every byte (for one version each of NumPy and OpenCV). An image depends on the seed and its
        examination only: a larger cohort of the same seed contains the smaller one.
    num_test_examinations : int in [0, 1000]
        Images for ``test_set/``, which come without annotation and circumference.
    num_workers : int or None
        Threads that draw; one for each processor where None. The result does not depend on it.

    Returns
    -------
    pathlib.Path
        `root`, now holding ``training_set/NNN_HC.png`` (``_2HC``, ``_3HC``, ``_4HC`` for repeats) and
        ``NNN_HC_Annotation.png``, ``training_set_pixel_size_and_HC.csv``, ``cohort.json`` with the
        arguments, and with test examinations ``test_set/`` and ``test_set_pixel_size.csv``.

    Raises
    ------
    TypeError
        If a count or the seed is no whole number.
    ValueError
        If one is out of range, or `root` holds another cohort.
    FileExistsError
        If `root` holds other files.

    Notes
    -----
    The annotation is the analytic ellipse that the skull's outer border follows but for small waves, drawn
    as HC18 draws it: all pixels whose 3x3 neighbourhood has pixel centres both inside and outside. The
    circumference in the table is that ellipse's own (Ramanujan II) times the pixel size, rounded to 0.01 mm
    as in HC18.

    Ages, circumferences, head sizes in px, head places, image sizes and repeats follow HC18's distributions
    [1]_; grey levels and speckle follow its looks. In HC18 repeats may differ by 10 % and more in
    circumference; here they differ by at most 2.5 %. An interrupted call leaves whole images only, and the
    next call adds the rest; the tables are written last.

    References
    ----------
    .. [1] heuvel2018hc18.
    """
    root = Path(root)
    reason = "HC18's numbering has 806 examinations."
    num_examinations = cohort.checked_count("num_examinations", num_examinations, 1, _NUM_EXAMINATIONS, reason)
    num_test_examinations = cohort.checked_count(
        "num_test_examinations", num_test_examinations, 0, _MAX_TEST_EXAMINATIONS
    )
    seed = cohort.checked_count("seed", seed, 0)
    if num_workers is None:
        num_workers = os.cpu_count() or 1
    num_workers = cohort.checked_count("num_workers", num_workers, 1)
    arguments = {
        "generator": "hcreg.datasets.synthetic.fetal_head",
        "version": _VERSION,
        "num_examinations": num_examinations,
        "seed": seed,
        "num_test_examinations": num_test_examinations,
    }
    whole = cohort.claim(root, arguments)
    trimesters = _trimester_sequence(num_examinations)
    pictures = []
    for examination_id, trimester in sorted(trimesters):
        pictures += _plan("training_set", examination_id, trimester, [seed, examination_id])
    for number, (_, trimester) in enumerate(_trimester_sequence(num_test_examinations)):
        pictures += _plan("test_set", number, trimester, [seed, _NUM_EXAMINATIONS + number])[:1]
    missing = [picture for picture in pictures if not all(cohort.is_there(path) for path in _paths(root, picture))]
    if whole and not missing and all(cohort.is_there(root / name) for name in _tables(pictures)):
        return root
    cohort.draw_all(partial(_draw_one, root), missing, num_workers, "synthetic fetal heads")
    for name, rows in _tables(pictures).items():
        write_rows(root / name, rows)
    cohort.complete(root, arguments)
    return root


def _trimester_sequence(num_examinations):
    """First `num_examinations` pairs (id, trimester) in HC18's proportions; longer lists begin alike.

    The next examination goes to the trimester with the largest quotient size / (taken + 1/2) (Sainte-Laguë).
    """
    taken = dict.fromkeys(_TRIMESTERS, 0)
    sequence = []
    for _ in range(num_examinations):
        trimester = max(taken, key=lambda key: _TRIMESTERS[key][1] / (taken[key] + 0.5))
        sequence.append((_TRIMESTERS[trimester][0] + taken[trimester], trimester))
        taken[trimester] += 1
    return sequence


def _plan(folder, number, trimester, seed):
    """Decide all images of one examination; a list of `_Picture`."""
    rng = np.random.default_rng(seed)
    num_images = 1 + int(rng.choice(4, p=_REPEATS))
    anatomy = draw_anatomy(rng, trimester)
    pictures = []
    for repeat in range(num_images):
        place_rng, draw_rng = rng.spawn(2)
        shape = (540, 800)
        if place_rng.random() < 0.027:
            shape = (int(place_rng.integers(539, 546)), int(place_rng.integers(738, 800)))
        head, pixel_size_mm = _place_head(place_rng, anatomy, shape)
        stem = f"{number:03d}_{repeat + 1 if repeat else ''}HC"
        pictures.append(_Picture(folder, stem, anatomy, shape, pixel_size_mm, head, draw_rng.bit_generator.seed_seq))
    # HC18 lists 014_2HC.png before 014_HC.png.
    return sorted(pictures, key=lambda picture: picture.stem)


def _place_head(rng, anatomy, shape):
    """Draw size, pose and place of the head in one image: the ellipse in px and the pixel size in mm."""
    height, width = shape
    hc_mm = anatomy.hc_mm * (1 + np.clip(rng.normal(0, 0.005), -0.012, 0.012))
    ratio = anatomy.axis_ratio + np.clip(rng.normal(0, 0.006), -0.015, 0.015)
    mean, deviation, growth, mean_hc_mm = _HC_PX[anatomy.trimester]
    low, high = max(440.0, hc_mm / _PIXEL_SIZE_RANGE_MM[1]), min(1780.0, hc_mm / _PIXEL_SIZE_RANGE_MM[0])
    hc_px = np.clip(rng.normal(mean * (hc_mm / mean_hc_mm) ** growth, deviation), low, high)
    # Sonographers turn the probe until the head lies across the picture; some do not.
    angle = rng.normal(0, 0.12) if rng.random() < 0.75 else rng.uniform(-math.pi / 2, math.pi / 2)
    semi_a = hc_px / ellipse_circumference(1.0, ratio)
    reach_x = math.hypot(math.cos(angle), ratio * math.sin(angle))
    reach_y = math.hypot(math.sin(angle), ratio * math.cos(angle))
    semi_a = min(semi_a, (width / 2 - 30) / reach_x, (height / 2 - 12) / reach_y)
    free_x, free_y = width / 2 - 22 - semi_a * reach_x, height / 2 - 8 - semi_a * reach_y
    center_x = (width - 1) / 2 + np.clip(rng.normal(-6, 42), -free_x, free_x)
    center_y = (height - 1) / 2 + np.clip(rng.normal(0, 33), -free_y, free_y)
    head = Ellipse(
        center_x_px=float(center_x),
        center_y_px=float(center_y),
        semi_axis_a_px=float(semi_a),
        semi_axis_b_px=float(semi_a * ratio),
        angle_rad=float(angle % math.pi),
    )
    return head, float(f"{hc_mm / head.circumference_px:.12g}")


def _render(picture):
    rng = np.random.default_rng(picture.seeds)
    return render(rng, picture.anatomy, picture.head, picture.pixel_size_mm, picture.shape)


def _annotate(picture):
    """Outline of the head as HC18 draws it: uint8 array of shape (height, width), 0 and 255."""
    filled = picture.head.mask(picture.shape).astype(np.uint8)
    return cv2.morphologyEx(filled, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) * np.uint8(255)


def _paths(root, picture):
    image = root / picture.folder / f"{picture.stem}.png"
    if picture.folder == "test_set":
        return [image]
    return [image, image.with_name(f"{picture.stem}_Annotation.png")]


def _tables(pictures):
    """Rows of each CSV file by its name."""
    train, test = [], []
    for picture in pictures:
        row = {"filename": f"{picture.stem}.png", "pixel size(mm)": picture.pixel_size_mm}
        if picture.folder == "test_set":
            test.append(row)
        else:
            train.append({**row, "head circumference (mm)": round(picture.hc_mm, 2)})
    tables = {"training_set_pixel_size_and_HC.csv": train}
    return {**tables, "test_set_pixel_size.csv": test} if test else tables


def _draw_one(root, picture):
    pixels = [_render(picture)] if picture.folder == "test_set" else [_render(picture), _annotate(picture)]
    for path, array in zip(_paths(root, picture), pixels, strict=True):
        encoded = cv2.imencode(".png", array)[1]
        with written_whole(path) as unfinished:
            unfinished.write_bytes(encoded.tobytes())
