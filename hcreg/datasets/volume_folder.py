"""Pairs of image and label map in a folder, as most data sets of volumes come."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hcreg.datasets import volume_folder_layout as layout
from hcreg.datasets.folder_dataset import FolderDataset
from hcreg.datasets.problems import Problem, tried
from hcreg.preprocessing import cardiac, metaimage, nifti

_MAX_LABEL = 255


@dataclass(frozen=True)
class VolumeRecord:
    """One volume with its label map; voxels are read when asked for.

    Attributes
    ----------
    subject_id : str
        Such as ``head001_scan1``: the files' common name.
    subject : str
        Such as ``head001``: whom it is of. Never divide the scans of one subject between training and test.
    image_path, label_map_path : pathlib.Path
    labels : tuple of int
        Values that the label map may have; 0 is background.
    """

    subject_id: str
    subject: str
    image_path: Path
    label_map_path: Path
    labels: tuple[int, ...]

    @property
    def spacing_mm(self):
        """Spacing (row, column, slice) in mm, of the label map's own header."""
        return _format_of(self.label_map_path).read_spacing_mm(self.label_map_path)

    def image(self):
        """Read the intensities.

        Returns
        -------
        hcreg.preprocessing.nifti.Volume
            Of (height, width, slices) float32.

        Raises
        ------
        FileNotFoundError, ValueError
            As `hcreg.preprocessing.nifti.read_volume`.
        ModuleNotFoundError
            If it is a MetaImage file and SimpleITK is not installed.
        """
        return _format_of(self.image_path).read_volume(self.image_path)

    def label_map(self):
        """Read the labels.

        Returns
        -------
        hcreg.preprocessing.nifti.Volume
            Of (height, width, slices) uint8.

        Raises
        ------
        FileNotFoundError, ValueError
            As `hcreg.preprocessing.nifti.read_label_map`: labels other than those declared are refused too.
        ModuleNotFoundError
            If it is a MetaImage file and SimpleITK is not installed.
        """
        return _format_of(self.label_map_path).read_label_map(self.label_map_path, self.labels)

    def pair(self):
        """Read both, and refuse a pair whose voxels are not at the same places.

        Returns
        -------
        image, label_map : hcreg.preprocessing.nifti.Volume

        Raises
        ------
        FileNotFoundError, ValueError, ModuleNotFoundError
            As `image`, `label_map` and `hcreg.preprocessing.nifti.check_alike`.
        """
        image, label_map = self.image(), self.label_map()
        nifti.check_alike(image, label_map)
        return image, label_map

    def volume_ml(self):
        """Volume of all that is not background in ml, by the label map and its header; raises as `label_map`."""
        label_map = self.label_map()
        return np.count_nonzero(label_map.array) * cardiac.voxel_volume_ml(label_map.spacing_mm)


class VolumeFolder(FolderDataset):
    """Pairs of image and label map in a folder, of NIfTI or MetaImage files.

    Parameters
    ----------
    root : str or path-like
        Folder of one of these schemes; X is the subject id:

        - ``suffix``: ``X.nii.gz`` beside ``X_label.nii.gz``, or ``_labels``, ``_gt``, ``_seg``, ``_segmentation``,
          ``_mask``, in `root` or in folders below it. Where one X is in several folders, theirs are part of the id.
        - ``folders``: ``images/X.nii.gz`` and ``labels/X.nii.gz``, the latter with such a suffix or without.
        - ``nnunet``: ``imagesTr/X_0000.nii.gz`` and ``labelsTr/X.nii.gz``, images of one channel.

        Files may end in ``.nii.gz``, ``.nii``, ``.mhd`` or ``.mha``; those of a pair need not end alike.
    labels : sequence of int
        Values that label maps may have, 0 to 255, with 0 for background.
    strict : bool
        Whether to raise at once when something is wrong. False leaves out what is faulty and keeps the reasons, which
        `check` returns: for looking at a broken folder, not for training on it.
    scheme : {None, "suffix", "folders", "nnunet"}
        Needed only where a folder has files of several.

    Attributes
    ----------
    subjects : list of str
        Subject ids in the order of the records, which is that of the ids. For a split, group by each record's
        `subject`: ``[record.subject for record in data]``; it is the id without ``_scan1`` or the like.
    scheme : str or None
        The one that was found; None where there is none.

    Raises
    ------
    FileNotFoundError
        If the folder or one half of a pair is missing.
    ValueError
        If the folder has files of several schemes, a subject has two images or two label maps, or a name is none of the
        scheme's. The file is named.

    See Also
    --------
    VolumeFolder.check_folder : everything that is wrong with a folder, at once.
    hcreg.datasets.synthetic.fetal_head_3d : writes such a folder.

    Notes
    -----
    MetaImage is read by SimpleITK: ``pip install "hcreg[metaimage]"``.

    Constructing lists the folder; volumes are read when a record is asked for them.
    """

    FOLDERS = layout.FOLDERS
    MISSING = frozenset({"no folder", "no pairs", "no label map", "no image"})
    _is_there = staticmethod(layout.is_there)

    def __init__(self, root, labels=(0, 1), strict=True, scheme=None):
        self.labels = _checked_labels(labels)
        if scheme is not None and scheme not in layout.SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(layout.SCHEMES)}, or None. Received: {scheme!r}.")
        self.scheme = scheme
        super().__init__(root, strict=strict)

    def __repr__(self):
        num_subjects = len({record.subject for record in self._records})
        return f"VolumeFolder({str(self.root)!r}, labels={self.labels}): {len(self)} volumes of {num_subjects} subjects"

    @classmethod
    def check_folder(cls, root, labels=(0, 1), on_progress=None):
        """List all that is wrong with a folder, however broken.

        Parameters
        ----------
        root : str or path-like
        labels : sequence of int
        on_progress : callable(num_done, num_volumes), optional
            Called after each pair.

        Returns
        -------
        list of Problem
        """
        return cls(root, labels, strict=False).check(on_progress)

    def check(self, on_progress=None):
        """Read every image and label map and list all that is wrong.

        Parameters
        ----------
        on_progress : callable(num_done, num_volumes), optional
            Called after each pair.

        Returns
        -------
        list of Problem
            Empty if all is well. Beyond what the constructor refuses: unreadable files, voxels that are NaN or
            infinite, images of one single value, image and label map of other shape, spacing or place, labels other
            than those declared, and label maps without foreground.
        """
        problems = list(self._problems)
        for num_done, record in enumerate(self._records, start=1):
            _check_record(record, problems)
            if on_progress is not None:
                on_progress(num_done, len(self._records))
        return problems

    def _read(self):
        if not self.root.is_dir():
            self._problem(self.root, "no folder", layout.no_folder(self.root, self.split))
            return
        if self.scheme is None:
            found = layout.schemes_there(self.root)
            if len(found) > 1:
                kinds = " and of ".join(f"{scheme} ({layout.SCHEMES[scheme]})" for scheme in found)
                message = f"has files of several naming schemes, of {kinds}. Give one as scheme=, or part the files."
                self._problem(self.root, "scheme", message)
                return
            self.scheme = found[0] if found else "suffix"
        pairs, misnamed = layout.pairs_of(self.root, self.scheme)
        for path in misnamed:
            message = "is not named as an image of one channel, X_0000. Rename it, or leave other channels out."
            self._problem(path, "name", message)
        if not pairs and not misnamed:
            self._problem(self.root, "no pairs", layout.no_folder(self.root, self.split))
        for subject_id, pair in pairs.items():
            if self._is_one_of_each(subject_id, pair):
                subject = layout.subject_of(subject_id)
                yield VolumeRecord(subject_id, subject, pair.images[0], pair.label_maps[0], self.labels)

    def _is_one_of_each(self, subject_id, pair):
        for files, called in ((pair.images, "images"), (pair.label_maps, "label maps")):
            if len(files) > 1:
                names = ", ".join(path.name for path in files)
                message = f"{subject_id} has {len(files)} {called}: {names}. Expected one. Remove or rename the others."
                self._problem(files[0].parent, "ambiguous", message)
                return False
        if not pair.label_maps:
            image = pair.images[0]
            message = f"has no label map. Expected {layout.expected_label_map(image, self.scheme)}. Copy it there."
            self._problem(image, "no label map", message)
        if not pair.images:
            message = f"is a label map without an image: there is none of {subject_id}. Copy it there."
            self._problem(pair.label_maps[0], "no image", message)
        return bool(pair.images and pair.label_maps)


def _format_of(path):
    """The module that reads a file, by its ending."""
    return metaimage if path.name.lower().endswith(metaimage.ENDINGS) else nifti


def _checked_labels(labels):
    found = tuple(labels)
    whole = all(isinstance(label, (int, np.integer)) and 0 <= label <= _MAX_LABEL for label in found)
    if not whole or 0 not in found or len(set(found)) < max(2, len(found)):
        raise ValueError(
            f"labels must be different whole numbers from 0 to {_MAX_LABEL}: 0 for background, and at least one more. "
            f"Received: {labels!r}."
        )
    return tuple(int(label) for label in found)


def _check_record(record, problems):
    image = tried(record.image_path, "image", record.image, problems)
    if image is not None and image.array.min() == image.array.max():
        message = f"every voxel has the value {image.array.min():g}, which cannot be standardised. Replace the image."
        problems.append(Problem(record.image_path, message, "constant image"))
    path = record.label_map_path
    label_map = tried(path, "label map", record.label_map, problems)
    if label_map is None:
        return
    if image is not None:
        tried(path, "image and label map", lambda: nifti.check_alike(image, label_map), problems)
    if not label_map.array.any():
        message = "has no foreground: every voxel is 0, background. Draw it again, or leave the pair out."
        problems.append(Problem(path, message, "no foreground"))
