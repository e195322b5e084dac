"""Synthetic three-dimensional ultrasound of whole fetal heads of known volume, as pairs of image and label map."""

import gzip
import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np

from hcreg.datasets.synthetic import cohort
from hcreg.datasets.synthetic.fetal_head_3d_anatomy import Head, draw_head
from hcreg.datasets.synthetic.fetal_head_3d_image import draw_image, draw_label_map
from hcreg.datasets.synthetic.fetal_head_3d_scan import Scan, draw_rotations, draw_scan, extents
from hcreg.files import write_rows, written_whole

__all__ = ["fetal_head_3d"]

# Raised whenever the same arguments give other bytes, so that an older folder is not taken for the same cohort.
_VERSION = 1

TRUE_VOLUMES_FILE = "true_volumes.csv"
_MAX_HEADS = 999  # three digits
_MAX_SCANS = 9  # one digit
_FIELD_MM = (147.44, 98.04, 167.2)  # yang2020has: 388 x 258 x 440 voxels of 0.38 mm
_MIN_SIDE = 8
_MARGIN_VOXELS, _MARGIN_MM = 1.5, 1.0
_MIN_SCALE_MM = 15.0  # half a cranium; there is no skull to see in smaller heads


@dataclass(frozen=True, eq=False)
class _Volume:
    """Everything decided about one volume before it is drawn."""

    subject_id: str
    head: Head
    scan: Scan
    seeds: np.random.SeedSequence


def fetal_head_3d(root, num_volumes, seed, shape=(48, 32, 56), spacing_mm=None, scans_per_head=3, num_workers=None):
    """Write a cohort of synthetic ultrasound volumes of whole fetal heads.

    Parameters
    ----------
    root : path-like
        Folder to write; made if absent. It must be empty, or hold this same cohort, whole or begun.
    num_volumes : int in [1, 999 * scans_per_head]
        Head by head: 12 volumes are four heads of three scans each. The last head has fewer where the number is no
        multiple.
    seed : int, at least 0
        Fixes every byte (for one version each of NumPy, SciPy and OpenCV). A volume depends on the seed, its number
        and the other arguments only: a larger cohort of the same seed contains the smaller one.
    shape : (int, int, int)
        Rows, columns and slices of every volume, as `hcreg.preprocessing.nifti.read_volume` gives them, at least 8
        each. Rows go away from the probe. The paper's own is (388, 258, 440).
    spacing_mm : float or None, mm
        From voxel to voxel, along every axis. None: what the shape needs to cover the paper's field of view,
        147 x 98 x 167 mm. That is 3.07 mm for the default, and 0.38 mm for the paper's own shape.
    scans_per_head : int in [1, 9]
        Scans of each head.
    num_workers : int or None
        Threads that draw; one for each processor where None. The result does not depend on it.

    Returns
    -------
    pathlib.Path
        `root`, which `hcreg.datasets.VolumeFolder` reads. It holds ``images/headNNN_scanK.nii.gz`` (uint8) and
        ``labels/headNNN_scanK.nii.gz`` (uint8: 0 background, 1 head); ``true_volumes.csv`` with the columns
        ``subject_id`` ("head001_scan1") and ``volume_ml``; and ``cohort.json`` with the arguments.

    Raises
    ------
    TypeError
        If a count, the seed or a side is no whole number.
    ValueError
        If one is out of range, the spacing is not positive, the field of view is too small for a fetal head, or
        `root` holds another cohort.
    FileExistsError
        If `root` holds other files.

    See Also
    --------
    hcreg.datasets.VolumeFolder : reads the folder.

    Notes
    -----
    A head is an egg-shaped cranium with face, jaw, nose, lips, brow, cheeks and ears; within it are skull with
    sutures, falx, ventricles, plexus, cerebellum and the bones of base, eyes and jaws. Its volume is that of the shape
    before it is cut into voxels. A label map comes to within 1.5 % of it at 3 mm, 0.2 % at 0.38 mm.

    A volume of the default shape takes 0.13 s of a processor; one of the paper's own 80 s, and 1.8 GB of memory for
    each worker.

    The scans of a head come from either side and from above in turns, each a little askew, and show it in another
    place of another womb: same volume, other picture. The whole head lies in the volume, nearly all of it within the
    fan. Parts of the skull that lie along the beam hardly echo; skull and facial bones throw shadows, and so do limbs
    before the head and beams without contact to the skin. The neck is of nearly the same echo as the head it carries;
    where one ends and the other begins the label map knows, the picture hardly.

    With another field of view heads are as large as before, but for those that would not fit.

    An interrupted call leaves whole files only, and the next call adds the rest; the table is written last.

    References
    ----------
    .. [1] yang2020has.
    """
    root = Path(root)
    scans_per_head = cohort.checked_count("scans_per_head", scans_per_head, 1, _MAX_SCANS)
    reason = f"There are {_MAX_HEADS} heads of {scans_per_head} scans."
    num_volumes = cohort.checked_count("num_volumes", num_volumes, 1, _MAX_HEADS * scans_per_head, reason)
    seed = cohort.checked_count("seed", seed, 0)
    if num_workers is None:
        num_workers = os.cpu_count() or 1
    num_workers = cohort.checked_count("num_workers", num_workers, 1)
    shape, spacing_mm = _checked_shape(shape), _checked_spacing(spacing_mm, shape)
    arguments = {
        "generator": "hcreg.datasets.synthetic.fetal_head_3d",
        "version": _VERSION,
        "num_volumes": num_volumes,
        "seed": seed,
        "shape": list(shape),
        "spacing_mm": spacing_mm,
        "scans_per_head": scans_per_head,
    }
    num_heads = math.ceil(num_volumes / scans_per_head)
    first = _plan(1, seed, shape, spacing_mm, scans_per_head)  # a field of view without room is refused before writing
    whole = cohort.claim(root, arguments)
    ids = [_subject_id(number, scan) for number in range(1, num_heads + 1) for scan in range(1, scans_per_head + 1)]
    ids = ids[:num_volumes]
    missing = {subject_id for subject_id in ids if not all(map(cohort.is_there, _paths(root, subject_id)))}
    if whole and not missing and cohort.is_there(root / TRUE_VOLUMES_FILE):
        return root
    others = [_plan(number, seed, shape, spacing_mm, scans_per_head) for number in range(2, num_heads + 1)]
    volumes = [volume for head in (first, *others) for volume in head][:num_volumes]
    unfinished = [volume for volume in volumes if volume.subject_id in missing]
    draw = partial(_draw_one, root, shape, spacing_mm)
    cohort.draw_all(draw, unfinished, num_workers, "synthetic volumes of fetal heads")
    write_rows(root / TRUE_VOLUMES_FILE, [_true_volume(volume) for volume in volumes])
    cohort.complete(root, arguments)
    return root


def _checked_shape(shape):
    sides = tuple(shape) if np.ndim(shape) == 1 else ()
    if len(sides) != 3:
        raise ValueError(f"shape must be three sides in voxels: rows, columns, slices. Received: {shape!r}.")
    return tuple(cohort.checked_count("each side of shape", side, _MIN_SIDE) for side in sides)


def _checked_spacing(spacing_mm, shape):
    if spacing_mm is None:
        return float(max(round(field / side, 4) for field, side in zip(_FIELD_MM, shape)))
    if np.ndim(spacing_mm) or not (np.isfinite(spacing_mm) and spacing_mm > 0):
        raise ValueError(f"spacing_mm must be one positive number, or None. Received: {spacing_mm!r}.")
    return float(spacing_mm)


def _plan(number, seed, shape, spacing_mm, scans_per_head):
    """Decide everything about one head; a list of `_Volume`, one for each scan."""
    rng = np.random.default_rng([seed, number])
    head_rng, turn_rng, place_rng, draw_rng = rng.spawn(4)
    head = draw_head(head_rng)
    rotations = draw_rotations(turn_rng, scans_per_head)
    # One size for all scans, of which each must have room for it.
    field_mm = (np.array(shape) - 1) * spacing_mm
    margin_mm = _MARGIN_VOXELS * spacing_mm + _MARGIN_MM
    sizes = np.array([np.subtract(*extents(head, rotation)[::-1]) for rotation in rotations])
    room_mm = ((field_mm - 2 * margin_mm) / sizes).min()
    if room_mm < _MIN_SCALE_MM:
        field = " x ".join(f"{side * spacing_mm:.3g}" for side in shape)
        raise ValueError(
            f"A volume of {field} mm has no room for a fetal head of {2 * _MIN_SCALE_MM:g} mm in length and a margin. "
            f"Received: shape {shape} at {spacing_mm:g} mm. Give more voxels or a larger spacing_mm."
        )
    if head.scale_mm > room_mm:
        head = head.of_scale(room_mm * place_rng.uniform(0.9, 1.0))
    scans = [draw_scan(place_rng, head, rotation, field_mm, margin_mm) for rotation in rotations]
    seeds = draw_rng.bit_generator.seed_seq.spawn(scans_per_head)
    return [
        _Volume(_subject_id(number, scan), head, place, scan_seed)
        for scan, (place, scan_seed) in enumerate(zip(scans, seeds, strict=True), start=1)
    ]


def _subject_id(number, scan):
    return f"head{number:03d}_scan{scan}"


def _paths(root, subject_id):
    return [root / folder / f"{subject_id}.nii.gz" for folder in ("images", "labels")]


def _true_volume(volume):
    """Row of the table of one volume."""
    return {"subject_id": volume.subject_id, "volume_ml": round(volume.head.volume_ml, 3)}


def _draw_one(root, shape, spacing_mm, volume):
    rng = np.random.default_rng(volume.seeds)
    image_path, label_map_path = _paths(root, volume.subject_id)
    _write_nifti(image_path, draw_image(rng, volume.head, volume.scan, shape, spacing_mm), spacing_mm)
    _write_nifti(label_map_path, draw_label_map(volume.head, volume.scan, shape, spacing_mm), spacing_mm)


def _write_nifti(path, array, spacing_mm):
    """Write an array of rows, columns, slices so that the reader gives the same."""
    affine = np.diag([-spacing_mm, -spacing_mm, spacing_mm, 1.0])
    volume = nibabel.Nifti1Image(array.transpose(1, 0, 2), affine)
    # No time of writing: equal arrays shall be equal bytes.
    compressed = gzip.compress(volume.to_bytes(), compresslevel=1, mtime=0)
    with written_whole(path) as unfinished:
        unfinished.write_bytes(compressed)
