"""Synthetic stacks of short-axis cardiac MRI with known volumes, written as ACDC writes them."""

import gzip
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np

from hcreg.datasets.synthetic import cohort
from hcreg.datasets.synthetic.cardiac_volumes_anatomy import GROUPS, Heart, draw_heart
from hcreg.datasets.synthetic.cardiac_volumes_image import (
    Placement,
    draw_image,
    draw_label_map,
    draw_look,
    draw_placement,
)
from hcreg.files import write_rows, write_text, written_whole
from hcreg.preprocessing.cardiac import PHASES, STRUCTURES

__all__ = ["cardiac_volumes"]

# Raised whenever the same arguments give other bytes, so that an older folder is not taken for the same cohort.
_VERSION = 1

TRUE_VOLUMES_FILE = "true_volumes.csv"
_MAX_PATIENTS = 999  # three digits

# Height and width in px, and mm a pixel: a range, or the one that goes with a size. As in ACDC.
_COMMON_MM = (1.37, 1.41, 1.45, 1.48, 1.56, 1.64, 1.68)
_MATRICES = (
    [((256, 216), _COMMON_MM)] * 8
    + [((216, 256), _COMMON_MM)] * 3
    + [((256, 208), _COMMON_MM)] * 2
    + [((256, 224), (1.56, 1.64)), ((256, 256), (1.37, 1.56)), ((256, 232), (1.37, 1.76)), ((256, 192), (1.56, 1.68))]
    + [((224, 154), (1.79, 1.92)), ((224, 210), (1.88,)), ((288, 264), (1.22, 1.46)), ((512, 428), (0.7,))]
)


@dataclass(frozen=True, eq=False)
class _Patient:
    """Everything decided about one patient before it is drawn."""

    patient_id: str
    heart: Heart
    placement: Placement
    frames: dict
    info: str
    seeds: np.random.SeedSequence

    @property
    def spacing_mm(self):
        return self.placement.pixel_mm, self.placement.pixel_mm, self.heart.slice_spacing_mm


def cardiac_volumes(root, num_patients, seed, num_workers=None):
    """Write a cohort of synthetic short-axis cardiac MRI in the layout of ACDC.

    Parameters
    ----------
    root : path-like
        Folder to write; made if absent. It must be empty, or hold this same cohort, whole or begun.
    num_patients : int in [1, 999]
        Their groups go round: NOR, DCM, HCM, MINF, RV.
    seed : int, at least 0
        Fixes every byte (for one version each of NumPy and OpenCV). A patient depends on the seed and its number
        only: a larger cohort of the same seed contains the smaller one.
    num_workers : int or None
        Threads that draw; one for each processor where None. The result does not depend on it.

    Returns
    -------
    pathlib.Path
        `root`, now holding ``training/patientNNN/`` with ``Info.cfg``, and for the ED and the ES frame
        ``patientNNN_frameMM.nii.gz`` (int16) and ``patientNNN_frameMM_gt.nii.gz`` (uint8: 0 background, 1 RV, 2 MYO,
        3 LV); ``true_volumes.csv`` with columns ``subject_id`` ("patient001_ED"), ``rv_ml``, ``myo_ml``, ``lv_ml``;
        and ``cohort.json`` with the arguments.

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
    True volumes are those of the shapes before they are cut into voxels. What a label map's voxels come to differs
    by the voxels alone: at most 3 % a structure, 0.3 % over ten patients, less over more. For this all bases lie on
    borders between slices; the base descends by whole slices, as it does in ACDC's label maps.

    Matrices, spacings, slice counts, heart places, volumes, ejection fractions, thicknesses and shifts between slices
    follow ACDC [1]_ by group; grey levels follow its looks. As in ACDC the first array axis runs to the patient's
    left, the second to the back and the third from base to apex, ED is not always frame 1, and the spacing stands in
    the header's ``pixdim`` only: the affine is diag(-1, -1, 1, 1). Papillary muscles are drawn, and belong to the
    cavity. There is no whole cine series (``patientNNN_4d.nii.gz``). An interrupted call leaves whole files only, and
    the next call adds the rest; the table is written last.

    References
    ----------
    .. [1] bernard2018acdc.
    """
    root = Path(root)
    num_patients = cohort.checked_count("num_patients", num_patients, 1, _MAX_PATIENTS)
    seed = cohort.checked_count("seed", seed, 0)
    if num_workers is None:
        num_workers = os.cpu_count() or 1
    num_workers = cohort.checked_count("num_workers", num_workers, 1)
    arguments = {
        "generator": "hcreg.datasets.synthetic.cardiac_volumes",
        "version": _VERSION,
        "num_patients": num_patients,
        "seed": seed,
    }
    whole = cohort.claim(root, arguments)
    numbers = range(1, num_patients + 1)
    missing = [number for number in numbers if not _patient_is_there(root, number)]
    if whole and not missing and cohort.is_there(root / TRUE_VOLUMES_FILE):
        return root
    patients = [_plan(number, seed) for number in numbers]
    unfinished = [patients[number - 1] for number in missing]
    cohort.draw_all(partial(_draw_one, root), unfinished, num_workers, "synthetic cardiac volumes")
    write_rows(root / TRUE_VOLUMES_FILE, [row for patient in patients for row in _true_volumes(patient)])
    cohort.complete(root, arguments)
    return root


def _plan(number, seed):
    """Decide everything about one patient."""
    rng = np.random.default_rng([seed, number])
    heart_rng, place_rng, info_rng, draw_rng = rng.spawn(4)
    group = GROUPS[(number - 1) % len(GROUPS)]
    heart = draw_heart(heart_rng, group)
    shape, pixels_mm = _MATRICES[place_rng.integers(len(_MATRICES))]
    placement = draw_placement(place_rng, heart, shape, float(place_rng.choice(pixels_mm)))

    num_frames = int(info_rng.choice([30, 30, 30, 30, 25, 28, 35, 20, 15]))
    # In every fourth patient the series was triggered late, or begins before the end of diastole.
    ed = 1 if number % 4 != 2 else int(info_rng.choice([2, 3, 4, num_frames - 1, num_frames]))
    es = (ed + round(num_frames * info_rng.uniform(0.31, 0.45)) - 1) % num_frames + 1
    height_cm = info_rng.normal(170, 9)
    weight_kg = 24.5 * (height_cm / 100) ** 2 * np.exp(info_rng.normal(0, 0.15))
    info = (
        f"ED: {ed}\nES: {es}\nGroup: {group}\nHeight: {height_cm:.1f}\nNbFrame: {num_frames}\nWeight: {weight_kg:.1f}\n"
    )
    frames = {"ED": ed, "ES": es}
    return _Patient(_patient_id(number), heart, placement, frames, info, draw_rng.bit_generator.seed_seq)


def _patient_id(number):
    return f"patient{number:03d}"


def _patient_is_there(root, number):
    """Whether all files of a patient are; Info.cfg is written last."""
    folder = root / "training" / _patient_id(number)
    return cohort.is_there(folder / "Info.cfg") and sum(
        map(cohort.is_there, folder.glob("patient*.nii.gz"))
    ) == 2 * len(PHASES)


def _true_volumes(patient):
    """Rows of the table of one patient."""
    rows = []
    for phase, ventricles in zip(PHASES, (patient.heart.ed, patient.heart.es), strict=True):
        volumes = ventricles.volumes_ml()
        row = {f"{name.lower()}_ml": round(volumes[name], 3) for name in STRUCTURES}
        rows.append({"subject_id": f"{patient.patient_id}_{phase}", **row})
    return rows


def _draw_one(root, patient):
    folder = root / "training" / patient.patient_id
    look_rng, *noise_rngs = np.random.default_rng(patient.seeds).spawn(1 + len(PHASES))
    look = draw_look(look_rng, patient.heart, patient.placement)
    for phase, ventricles, rng in zip(PHASES, (patient.heart.ed, patient.heart.es), noise_rngs, strict=True):
        stem = f"{patient.patient_id}_frame{patient.frames[phase]:02d}"
        image = draw_image(rng, patient.heart, phase, patient.placement, look)
        _write_nifti(folder / f"{stem}.nii.gz", image, patient.spacing_mm)
        label_map = draw_label_map(ventricles, patient.placement)
        _write_nifti(folder / f"{stem}_gt.nii.gz", label_map, patient.spacing_mm)
    write_text(folder / "Info.cfg", patient.info)


def _write_nifti(path, array, spacing_mm):
    """Write an array of shape (height, width, num_slices) with ACDC's axes, affine and header."""
    volume = nibabel.Nifti1Image(array.transpose(1, 0, 2), np.diag([-1.0, -1.0, 1.0, 1.0]))
    volume.header.set_zooms(spacing_mm)
    # No time of writing: equal arrays shall be equal bytes.
    compressed = gzip.compress(volume.to_bytes(), compresslevel=1, mtime=0)
    with written_whole(path) as unfinished:
        unfinished.write_bytes(compressed)
