"""A cohort of small hearts in ACDC's layout, and networks that are built and traced in a moment."""

import keras
import numpy as np
from acdc_files import write_info, write_volume

from hcreg.models.backbone import with_seed
from hcreg.preprocessing.cardiac import NUM_CLASSES, STRUCTURES

GROUPS = ("NOR", "DCM", "HCM", "MINF", "RV")
SHAPE, SPACING_MM = (20, 20, 3), (8.0, 8.0, 10.0)


def small_heart(number, phase):
    """Discs of the left ventricle in a ring of myocardium, and of the right one beside; no two hearts alike.

    Returns
    -------
    image, labels : ndarray of shape (20, 20, 3), int16 and uint8
    """
    rng = np.random.default_rng([number, phase == "ES"])
    row, column, _ = np.indices(SHAPE)
    radius = 2.0 + 0.15 * number + (phase == "ED")
    distance, beside = np.hypot(row - 10, column - 11), np.hypot(row - 10, column - 5)
    labels = np.where(distance < radius, 3, np.where(distance < radius + 1.5, 2, np.where(beside < radius, 1, 0)))
    labels[:10, :, 2] = 0
    return (100 * labels + rng.integers(0, 50, SHAPE)).astype(np.int16), labels.astype(np.uint8)


def write_cohort(root, num_patients=10, *_):
    """Write patients of five groups, both phases each; takes what `synthetic.cardiac_volumes` takes."""
    for number in range(1, num_patients + 1):
        folder = root / "training" / f"patient{number:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        write_info(folder, Group=GROUPS[(number - 1) % len(GROUPS)])
        for phase, frame in (("ED", 1), ("ES", 12)):
            stem = f"{folder.name}_frame{frame:02d}"
            for ending, array in zip((".nii.gz", "_gt.nii.gz"), small_heart(number, phase)):
                write_volume(folder / f"{stem}{ending}", array, SPACING_MM)
    return root


def train_without_graphs(monkeypatch):
    """Let networks take their few steps sooner than a graph of them would be drawn up."""
    compiled = keras.Model.compile
    monkeypatch.setattr(keras.Model, "compile", lambda model, **given: compiled(model, run_eagerly=True, **given))


def small_regressor(input_shape, filters=2, variant="multi_label", seed=None):
    """Volumes of a stack (height, width, slices, 1): with moving statistics to keep and dropout to draw."""
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv3D(filters, 3, strides=(2, 2, 2), padding="same", activation="relu", name="conv")(image)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    x = keras.layers.Dropout(0.25, name="dropout")(keras.layers.GlobalAveragePooling3D(name="pool")(x))
    volumes = keras.layers.Dense(1 if variant == "single_label" else len(STRUCTURES), name="volumes")(x)
    return _seeded(keras.Model(image, volumes, name="small_regressor"), seed)


def small_segmenter(input_shape, classes=NUM_CLASSES, activation="softmax", filters=2, weights=None, seed=None):
    """A mask of each slice: with moving statistics to keep. Starts from random numbers whatever `weights` says."""
    image = keras.Input(input_shape, name="image")
    x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name="conv")(image)
    x = keras.layers.BatchNormalization(momentum=0.5, name="norm")(x)
    mask = keras.layers.Conv2D(classes, 1, activation=activation, name="mask")(x)
    return _seeded(keras.Model(image, mask, name="small_segmenter"), seed)


def _seeded(model, seed):
    return model if seed is None else with_seed(model, seed)
