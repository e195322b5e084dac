"""Whole heart against background: a real task in 3-D of the paper's kind, from the label maps of ACDC."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hcreg.datasets import ACDC
from hcreg.preprocessing.cardiac import voxel_volume_ml


@dataclass(frozen=True)
class WholeHeartRecord:
    """One heart at one phase, with what records of `hcreg.datasets.VolumeFolder` have.

    Attributes
    ----------
    record : hcreg.datasets.acdc.ACDCRecord
    """

    record: object

    @property
    def subject_id(self):
        """Such as ``patient001_ED``."""
        return self.record.subject_id

    @property
    def subject(self):
        """Such as ``patient001``: both phases are of one patient, and belong on one side of a split."""
        return self.record.patient_id

    @property
    def image_path(self):
        """Path of the image."""
        return self.record.image_path

    @property
    def label_map_path(self):
        """Path of ACDC's own label map, of three structures."""
        return self.record.label_map_path

    @property
    def labels(self):
        """Values of the label map: background and heart."""
        return 0, 1

    @property
    def spacing_mm(self):
        """Spacing (row, column, slice) in mm, of the label map's own header."""
        return self.record.spacing_mm

    def image(self):
        """Read the intensities: a `Volume` of (height, width, slices) float32."""
        return self.record.image()

    def label_map(self):
        """Read the labels: a `Volume` of uint8, 1 where there is a cavity or myocardium."""
        volume = self.record.label_map()
        return replace(volume, array=(volume.array > 0).astype(np.uint8))

    def pair(self):
        """Read image and label map."""
        return self.image(), self.label_map()

    def volume_ml(self):
        """Volume of both ventricles and the myocardium in ml, by the label map and its header."""
        label_map = self.label_map()
        return np.count_nonzero(label_map.array) * voxel_volume_ml(label_map.spacing_mm)


class WholeHeart(Sequence):
    """ACDC's hearts as one structure.

    Parameters
    ----------
    root : str or path-like
        ACDC's folder, as `hcreg.datasets.ACDC` takes it.
    phases : sequence of {"ED", "ES"}
        Which are kept.
    **arguments
        Of `hcreg.datasets.ACDC`.
    """

    def __init__(self, root, phases=("ED", "ES"), **arguments):
        self.root = root
        self._records = [WholeHeartRecord(found) for found in ACDC(root, **arguments) if found.phase in phases]

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self._records[index]

    @property
    def subjects(self):
        """Subject ids in the order of the records."""
        return [record.subject_id for record in self._records]
