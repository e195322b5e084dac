"""Stacks prepared for a network, once: kept in memory, and on disk under the content of their files.

A prepared stack is found again as long as the bytes of its image and its label map, and what was asked of it, are the
same; renamed or moved files are found too, changed ones are not.
"""

import hashlib
import json
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from hcreg.datasets.positions import positions
from hcreg.files import written_whole
from hcreg.preprocessing.cardiac import NUM_CLASSES, STRUCTURES, voxel_counts, voxel_volume_ml
from hcreg.preprocessing.nifti import check_alike
from hcreg.preprocessing.resampling import resample
from hcreg.preprocessing.volumes import PAPER_BOX, PAPER_NUM_SLICES, Frame, paper_crop, paper_slices, standardise

_VERSION = 1  # of what is on disk; raise it when a preparation changes
SHARE = 255  # shares of classes are kept as 8-bit numbers
_FACTS = ("counts", "voxel_ml", "slice_mm")


@dataclass(frozen=True)
class FramePreparation:
    """A stack on a frame in mm about its middle: no mask needed. Grey values standardised, labels as shares of classes.

    Attributes
    ----------
    frame : Frame
    """

    frame: Frame
    needs_label_map = False

    def __call__(self, image, label_map):
        """Prepare one stack.

        Parameters
        ----------
        image : Volume
        label_map : Volume or None

        Returns
        -------
        dict of ndarray
            "image" (height_px, width_px, slices) float32; with a label map "shares" (height_px, width_px, slices,
            classes) uint8, 255 being all of a voxel.
        """
        prepared = {"image": standardise(self.frame.image(image))}
        if label_map is not None:
            prepared["shares"] = np.rint(self.frame.label_fractions(label_map) * SHARE).astype(np.uint8)
        return prepared


@dataclass(frozen=True)
class PaperPreparation:
    """The paper's crop about the heart and its nine slices, resized to the network's input; needs the mask.

    Attributes
    ----------
    size : tuple of int (height_px, width_px)
    num_slices : int
    removed : {"smallest", "tail"}
        See `hcreg.preprocessing.volumes.paper_slices`.
    source : {"image", "mask"}
        What the network sees: grey values, standardised, or the label map itself (Table 11), its labels divided by 3.
        Resizing class numbers makes a thin line of the myocardium's 2 where right ventricle (1) and left (3) touch;
        one image of all classes is what the paper's networks take.
    """

    size: tuple = (224, 224)
    num_slices: int = PAPER_NUM_SLICES
    removed: str = "smallest"
    source: str = "image"
    needs_label_map = True

    def __post_init__(self):
        if self.source not in ("image", "mask"):
            raise ValueError(f"The network sees the 'image' or the 'mask'. Received: source={self.source!r}.")

    def __call__(self, image, label_map):
        """Prepare one stack: dict of "image" (height_px, width_px, num_slices) float32; see `FramePreparation`."""
        slices = paper_slices(label_map.array, self.num_slices, self.removed)
        shown = image.array if self.source == "image" else label_map.array.astype(np.float32) / (NUM_CLASSES - 1)
        box = paper_crop(shown, label_map.array)[:, :, slices]
        pixel = tuple(side / size for side, size in zip(PAPER_BOX, self.size))
        resized = resample(box, (1.0, 1.0, 1.0), (*self.size, self.num_slices), (*pixel, 1.0))
        return {"image": standardise(resized, None) if self.source == "image" else resized}


class VolumeCache:
    """The stacks of a data set, prepared for a network, with the true volumes.

    Parameters
    ----------
    records : sequence of ACDCRecord
        Or any records with ``subject_id``, ``image_path``, ``label_map_path``, ``image()`` and ``label_map()``.
    prepare : FramePreparation or PaperPreparation
    folder : path-like, optional
        Where prepared stacks are kept from one run to the next. They are patients' images as much as the originals are.
        None keeps nothing.
    num_workers : int
        Threads that read.
    progress : callable, optional
        Called with the number of stacks read so far, after each.

    Attributes
    ----------
    stacks : list of dict of ndarray
        What `prepare` gives.
    volumes_ml : ndarray of shape (num_records, structures), ml
        By the label map's own header; NaN where there is none.
    voxel_counts : ndarray of shape (num_records, structures)
    voxel_ml : ndarray of shape (num_records,), ml
    slice_mm : ndarray of shape (num_records,), mm

    Raises
    ------
    ValueError
        If there are no records, or a file cannot be used: it is named, and reading stops.
    """

    def __init__(self, records, prepare, folder=None, *, num_workers=2, progress=None):
        self.records = list(records)
        if not self.records:
            raise ValueError("There is no stack to read: the list of records is empty.")
        self.prepare = prepare
        self.folder = None if folder is None else Path(folder)
        self.stacks = [None] * len(self.records)
        facts = [None] * len(self.records)

        def read(index):
            self.stacks[index] = prepared = self._read(self.records[index])
            facts[index] = {name: prepared.pop(name) for name in _FACTS}

        with ThreadPoolExecutor(num_workers) as pool:
            for done, _ in enumerate(pool.map(read, range(len(self.records))), start=1):
                if progress is not None:
                    progress(done)
        self.voxel_counts = np.array([fact["counts"] for fact in facts], float)
        self.voxel_ml = np.array([fact["voxel_ml"] for fact in facts], float)
        self.slice_mm = np.array([fact["slice_mm"] for fact in facts], float)
        self.volumes_ml = self.voxel_counts * self.voxel_ml[:, None]

    def __len__(self):
        return len(self.records)

    def index_of(self, subject_ids):
        """Positions of subjects in the cache.

        Parameters
        ----------
        subject_ids : sequence of str

        Returns
        -------
        ndarray of int
        """
        return positions(self.records, subject_ids)

    def _read(self, record):
        if self.folder is None:
            return self._prepared(record)
        path = self.folder / f"{self._key(record)}.npz"
        kept = _kept(path)
        if kept is not None:
            return kept
        prepared = self._prepared(record)
        # a name for each thread: two of them may write one key, where a data set holds a file twice
        suffix = f".{threading.get_ident()}.part"
        with written_whole(path, suffix) as partial, open(partial, "wb") as file:
            np.savez(file, **prepared)
        return prepared

    def _key(self, record):
        digest = hashlib.sha256(f"{_VERSION} {type(self.prepare).__name__}".encode())
        digest.update(json.dumps(asdict(self.prepare), sort_keys=True).encode())
        for path in (record.image_path, record.label_map_path):
            digest.update(b"none" if path is None else hashlib.sha256(Path(path).read_bytes()).digest())
        return digest.hexdigest()

    def _prepared(self, record):
        image = record.image()
        label_map = None if record.label_map_path is None else record.label_map()
        if label_map is None and self.prepare.needs_label_map:
            raise ValueError(
                f"{record.image_path} has no label map, and the paper's crop is about the mask. Use a "
                "FramePreparation: it needs none."
            )
        counts = np.full(len(STRUCTURES), np.nan)
        spacing_mm = image.spacing_mm
        if label_map is not None:
            check_alike(image, label_map)
            counts = np.array(list(voxel_counts(label_map.array).values()), float)
            spacing_mm = label_map.spacing_mm
            if not counts.any():
                raise ValueError(
                    f"{record.label_map_path} holds background alone: there is no heart to measure. Replace the label "
                    "map, or leave the patient out."
                )
        try:
            prepared = self.prepare(image, label_map)
        except ValueError as error:
            raise ValueError(f"{record.image_path}: {error}") from error
        facts = {"counts": counts, "voxel_ml": voxel_volume_ml(spacing_mm), "slice_mm": spacing_mm[2]}
        return {**prepared, **{name: np.asarray(value) for name, value in facts.items()}}


def _kept(path):
    """What a file of the cache holds; None where it is absent, cut off or foreign, and so to be made anew."""
    try:
        with np.load(path) as arrays:
            kept = dict(arrays)
    except (OSError, ValueError, TypeError, AttributeError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    return kept if {"image", *_FACTS} <= set(kept) else None
