"""From a volume at full resolution to its label map at full resolution, in one call."""

from dataclasses import replace
from pathlib import Path

import keras

from hcreg.head_volumes.preparation import HeadPreparation
from hcreg.head_volumes.views import Whole
from hcreg.preprocessing import metaimage, nifti
from hcreg.preprocessing.nifti import Volume


def segment(volume, model, *, preparation=None, view=None, keep_largest=False):
    """Find the head in a volume.

    Parameters
    ----------
    volume : Volume, str or path-like
        A volume, or the path of a NIfTI or MetaImage file.
    model : keras.Model, str or path-like
        A trained network of `hcreg.models.usegnet` or the like, an `hcreg.models.AutoContext`, or the path of a
        ``.keras`` file of one.
    preparation : HeadPreparation, optional
        The one that the network was trained with; the paper's by default.
    view : Whole, Patches or Slices, optional
        What the network sees at once; the whole volume by default.
    keep_largest : bool
        Drop all but the largest connected piece.

    Returns
    -------
    Volume
        Labels 0 and 1, uint8, on the voxels of the input, with its affine; `hcreg.head_volumes.write_label_map` writes
        it beside the input's file.

    Raises
    ------
    FileNotFoundError, ValueError
        As `hcreg.preprocessing.nifti.read_volume`; if a voxel is NaN, the volume has one intensity only, or is too
        small for three poolings, see `HeadPreparation`.

    Examples
    --------
    >>> import numpy as np
    >>> from hcreg import models
    >>> network = models.usegnet(filters=2, seed=0)
    >>> noise = np.random.default_rng(0).uniform(size=(40, 50, 41))
    >>> volume = Volume(noise, (0.4, 0.4, 0.4), np.eye(4), Path("noise"))
    >>> labels = segment(volume, network)
    >>> labels.array.shape, labels.array.dtype.name, labels.spacing_mm
    ((40, 50, 41), 'uint8', (0.4, 0.4, 0.4))
    """
    preparation, view = preparation or HeadPreparation(), view or Whole()
    if not isinstance(volume, Volume):
        reader = metaimage if str(volume).lower().endswith(metaimage.ENDINGS) else nifti
        volume = reader.read_volume(volume)
    if not isinstance(model, keras.Model):
        model = _loaded(model)
    foreground = view.foreground(model, preparation.image(volume))
    labels = preparation.back(foreground, volume.array.shape, volume.spacing_mm, keep_largest)
    return replace(volume, array=labels)


def _loaded(path):
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. A network is loaded from the .keras file that it saved.")
    return keras.saving.load_model(path, compile=False)
