"""The volumes of a data set, prepared for a network once, all padded about their middles to one size."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from hcreg.datasets.positions import positions
from hcreg.preprocessing.cardiac import voxel_volume_ml
from hcreg.preprocessing.padding import pad

MULTIPLE = 8  # of each side: three poolings by two


class HeadCache:
    """Prepared volumes, and what of their files a table needs.

    Parameters
    ----------
    records : sequence of records with ``subject_id``, ``image()`` and ``label_map()``
        Such as those of `hcreg.datasets.VolumeFolder`.
    prepare : HeadPreparation
    num_workers : int
        Threads that read.
    progress : callable, optional
        Called with the number of volumes read so far, after each.

    Attributes
    ----------
    volumes : list of dict of ndarray
        "image" and "labels", see `HeadPreparation`.
    volumes_ml : ndarray of shape (num_records,), ml
        Of the foreground, by the label map's own voxels.
    shape : tuple of three int
        The least multiples of 8 that every volume fits into.

    Raises
    ------
    ValueError
        If there are no records, or a file cannot be used: it is named, and reading stops.
    """

    def __init__(self, records, prepare, *, num_workers=2, progress=None):
        self.records = list(records)
        if not self.records:
            raise ValueError("There is no volume to read: the list of records is empty.")
        self.prepare = prepare

        def read(record):
            image, label_map = record.image(), record.label_map()
            num_voxels = np.count_nonzero(label_map.array)
            return prepare(image, label_map), num_voxels * voxel_volume_ml(label_map.spacing_mm)

        found = []
        with ThreadPoolExecutor(num_workers) as pool:
            for done, result in enumerate(pool.map(read, self.records), start=1):
                found.append(result)
                if progress is not None:
                    progress(done)
        self.volumes = [prepared for prepared, _ in found]
        self.volumes_ml = np.array([volume_ml for _, volume_ml in found])
        largest = np.max([prepared["image"].shape for prepared in self.volumes], axis=0)
        self.shape = tuple(int(-(-side // MULTIPLE) * MULTIPLE) for side in largest)

    def __len__(self):
        return len(self.records)

    def index_of(self, subject_ids):
        """Positions of subjects in the cache; see `hcreg.datasets.positions.positions`."""
        return positions(self.records, subject_ids)

    def padded(self, index, name):
        """One array of a volume, with zeros about it up to `shape`.

        Parameters
        ----------
        index : int
        name : {"image", "labels"}

        Returns
        -------
        ndarray of shape `shape`
        """
        array = self.volumes[index][name]
        missing = [outer - side for outer, side in zip(self.shape, array.shape)]
        return pad(array, [(number // 2, number - number // 2) for number in missing])
