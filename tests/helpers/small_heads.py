"""Small heads in memory, in the place of a folder's records, and networks that are built and traced in a moment."""

from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from hcreg.models.backbone import with_seed
from hcreg.preprocessing.nifti import Volume

SHAPE, SPACING_MM = (20, 18, 24), (1.0, 1.2, 0.8)


@dataclass(frozen=True)
class HeadRecord:
    """A head of three, each scanned by turns: an ellipsoid, brighter than what is about it."""

    number: int
    spacing_mm = SPACING_MM

    @property
    def subject(self):
        return f"head{self.number // 3:02d}"

    @property
    def subject_id(self):
        return f"{self.subject}_scan{1 + self.number % 3}"

    @property
    def image_path(self):
        return Path("heads") / f"{self.subject_id}.nii.gz"

    def label_map(self):
        """The head: no two alike."""
        rng = np.random.default_rng(self.number)
        place = np.moveaxis(np.indices(SHAPE), 0, -1)
        middle = np.array(SHAPE) / 2 + rng.uniform(-1.5, 1.5, 3)
        radii = np.array([6.5, 5.5, 8.0]) + 0.5 * (self.number // 3 % 3)
        labels = (((place - middle) / radii) ** 2).sum(-1) < 1
        return Volume(labels.astype(np.uint8), SPACING_MM, np.diag([*SPACING_MM, 1.0]), self.image_path)

    def image(self):
        """Its intensities."""
        labels = self.label_map()
        noise = np.random.default_rng(100 + self.number).normal(0, 20, SHAPE)
        return Volume((40 + 80 * labels.array + noise).astype(np.float32), SPACING_MM, labels.affine, self.image_path)


def heads(num_records=12):
    """Records of `num_records` / 3 patients."""
    return [HeadRecord(number) for number in range(num_records)]


def small_network(input_shape, outputs=("mask", "mask_half", "mask_quarter"), filters=2, seed=None):
    """Masks at full, half and a quarter of the size, or one without a name: with moving statistics to keep.

    It begins near what it is to learn, that a head is bright, so that there is a head to measure after a few steps.
    """
    ndim = len(input_shape) - 1
    convolution, pooling = getattr(keras.layers, f"Conv{ndim}D"), getattr(keras.layers, f"AveragePooling{ndim}D")
    image = x = keras.Input(input_shape, name="image")
    x = convolution(filters, 3, padding="same", activation="relu", name="conv")(x)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    bright = [keras.layers.Rescaling(scale, -0.55 * scale, name=f"bright{scale}")(image) for scale in (-16, 16)]
    bright = keras.layers.Concatenate(name="bright")(bright)
    logits = keras.layers.Add(name="logits")([convolution(2, 1, name="mask_logits")(x), bright])
    mask = keras.layers.Softmax(name="mask")(logits)
    masks = {"mask": mask}
    for name, size in (("mask_half", 2), ("mask_quarter", 4)):
        masks[name] = pooling(size, name=name)(mask)
    found = {name: masks[name] for name in outputs} if len(outputs) > 1 else mask
    model = keras.Model(image, found, name="small_network")
    return model if seed is None else with_seed(model, seed)
