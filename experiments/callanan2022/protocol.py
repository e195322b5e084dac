"""What the thesis says once: images, arms, training, and which models are kept.

Departures, each for a reason given in README.rst: a small network that can be trained many times; learning rates, data,
network and epochs alike in every arm but the one that repeats the thesis's confound.
"""

import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import keras
import numpy as np

from hcreg import losses, models
from hcreg.backend import seed_everything
from hcreg.datasets import synthetic
from hcreg.files import plain, read_json, write_json
from hcreg.preprocessing.attention import attention_inputs, region_mask
from hcreg.provenance import provenance

TAP = "conv4"
WEIGHTS = "model.weights.h5"
LOWEST_RATE, HIGHEST_RATE = 2e-3, 8e-3
ACCEPTED_ACCURACY = 0.95  # of validation images, above it a model is kept
_VALIDATION_SEED, _TEST_SEED = 100_000, 200_000


@dataclass(frozen=True)
class Data:
    """Which images.

    Attributes
    ----------
    experiment : {1, 2}
    num_train, num_validation, num_test : int
    difference : float
        Of the classes; 1 as in the thesis.
    marker, test_marker : str
        Of `hcreg.datasets.synthetic.cardiac_mri`; of the training and validation images, and of the test images.
    """

    experiment: int = 1
    num_train: int = 2500
    num_validation: int = 1000
    num_test: int = 10_000
    difference: float = 1.0
    marker: str = "experiment"
    test_marker: str = "experiment"


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes
    ----------
    name : str
    data, attention, weight, ramp_steps, tied, swap_weight, classes, probabilities
        As of `hcreg.losses.Heatmap`.
    cam, resize : str
        As of `hcreg.models.with_attention`.
    start : {"scratch", "pretrained", "frozen"}
        Convolutions from random weights, from another task, or those and never trained.
    shuffled_masks : bool
        Whether each image gets another image's mask: a control.
    """

    name: str
    data: str = "cross_entropy"
    attention: str = "absolute"
    weight: float = 0.0
    ramp_steps: int = 500
    tied: bool = False
    swap_weight: float = 0.0
    classes: str = "true"
    probabilities: str = "softmax"
    cam: str = "hires_cam"
    resize: str = "area"
    start: str = "scratch"
    shuffled_masks: bool = False


CROSS_ENTROPY = Arm("cross_entropy")
HEATMAP = Arm("heatmap", weight=10.0)  # of the true class's map, as the thesis's text
ALL_CLASSES = Arm("heatmap_all_classes", weight=10.0, classes="all")
DEFAULT = replace(ALL_CLASSES, name="heatmap_default", tied=True)  # what `losses.Heatmap` does by itself
# Its code: squared error of sigmoids, positive relevance over its maximum, weights 1 : 1, the predicted class.
THESIS = Arm(
    "thesis_heatmap",
    data="mse",
    attention="thesis",
    weight=1.0,
    ramp_steps=0,
    classes="predicted",
    probabilities="sigmoid",
    resize="bilinear",
)
# The thesis's protocol: its cross-entropy models freeze the convolutions, its heatmap models train everything.
FROZEN = replace(CROSS_ENTROPY, name="cross_entropy_frozen", start="frozen")
PRETRAINED = replace(CROSS_ENTROPY, name="cross_entropy_pretrained", start="pretrained")
HEATMAP_PRETRAINED = replace(HEATMAP, name="heatmap_pretrained", start="pretrained")

ARMS = {arm.name: arm for arm in (CROSS_ENTROPY, HEATMAP, THESIS, FROZEN, PRETRAINED, HEATMAP_PRETRAINED)}


def learning_rates(num_models, seed=0):
    """The learning rates of the models of an arm, drawn log-uniformly: the same in every arm.

    Parameters
    ----------
    num_models : int
    seed : int

    Returns
    -------
    list of float
    """
    generator = np.random.default_rng(seed)
    return np.exp(generator.uniform(np.log(LOWEST_RATE), np.log(HIGHEST_RATE), num_models)).tolist()


@lru_cache(maxsize=4)
def images(data, part, seed):
    """Images of one part of a data set.

    Parameters
    ----------
    data : Data
    part : {"train", "validation", "test"}
    seed : int
        Of the model: each is trained and validated on images of its own. The test images are the same for all.

    Returns
    -------
    hcreg.datasets.synthetic.CardiacMRI
    """
    number = {"train": data.num_train, "validation": data.num_validation, "test": data.num_test}[part]
    seeds = {"train": seed, "validation": _VALIDATION_SEED + seed, "test": _TEST_SEED}
    return synthetic.cardiac_mri(
        number,
        experiment=data.experiment,
        seed=seeds[part],
        difference=data.difference,
        marker=data.test_marker if part == "test" else data.marker,
    )


def as_network_input(grey_images, channels=1):
    """Grey levels 0 to 255 as the networks take them: [-1, 1], (num_images, height, width, channels).

    Parameters
    ----------
    grey_images : ndarray of uint8, shape (num_images, height, width)
    channels : int
        Grey repeated.

    Returns
    -------
    ndarray of float32
    """
    scaled = grey_images[..., None].astype(np.float32) / 127.5 - 1
    return np.repeat(scaled, channels, axis=-1) if channels > 1 else scaled


def inputs_of(part, channels=1, shuffled_masks=False, seed=0):
    """Arguments ``x`` and ``y`` of training on a part of a data set, the heart as the mask.

    Parameters
    ----------
    part : hcreg.datasets.synthetic.CardiacMRI
    channels : int
    shuffled_masks : bool
    seed : int
        Of the shuffling.

    Returns
    -------
    tuple (dict, ndarray)
    """
    hearts = region_mask(part.masks, synthetic.HEART)
    if shuffled_masks:
        hearts = hearts[np.random.default_rng(seed).permutation(len(hearts))]
    return attention_inputs(as_network_input(part.images, channels), hearts, part.labels, len(synthetic.CLASSES))


def train(arm, data, folder, learning_rate, epochs, seed, features=None, batch_size=16):
    """Train one small model, or load it where it is there already.

    Parameters
    ----------
    arm : Arm
    data : Data
    folder : pathlib.Path
        Of the model: weights, history and record.
    learning_rate : float
        At the start; it falls to zero along a cosine.
    epochs : int
    seed : int
        Of images, initial weights and order.
    features : list of ndarray, optional
        Weights of the convolutions to start from, for arms that do not start from scratch.
    batch_size : int

    Returns
    -------
    model : keras.Model
    record : dict
        With ``validation_accuracy``, ``seconds`` and ``history``; also in ``run.json``.
    """
    seed_everything(seed)
    model = models.cnn_classifier(seed=seed)
    arguments = {"arm": asdict(arm), "data": asdict(data), "learning_rate": learning_rate, "epochs": epochs}
    arguments |= {"seed": seed, "batch_size": batch_size}
    record_path, weights_path = folder / "run.json", folder / WEIGHTS
    if record_path.is_file():
        record = read_json(record_path)
        if record["arguments"] != plain(arguments):
            raise ValueError(f"{folder} holds a model trained otherwise: choose another --out, or remove it.")
        model.load_weights(weights_path)
        return model, record
    if arm.start != "scratch":
        convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
        for layer, weights in zip(convolutions, features, strict=True):
            layer.set_weights(weights)
            layer.trainable = arm.start != "frozen"
    history, seconds = fit(model, TAP, arm, data, folder, learning_rate, epochs, seed, batch_size)
    model.save_weights(weights_path)
    record = {
        "arguments": plain(arguments),
        "validation_accuracy": history["val_accuracy"][-1],
        "seconds": seconds,
        "history": history,
        **provenance(),
    }
    write_json(record_path, record)
    return model, record


def fit(model, tap, arm, data, folder, learning_rate, epochs, seed, batch_size=16, progress=False):
    """Train a classifier in the way of an arm; a stopped training goes on after its last epoch.

    Parameters
    ----------
    model : keras.Model
    tap : str
        Layer whose maps the loss weighs.
    arm, data, folder, learning_rate, epochs, seed, batch_size
        As of `train`.
    progress : bool
        Whether Keras shows epochs and steps.

    Returns
    -------
    history : dict of str to list of float
        Of the epochs done in this call.
    seconds : float
    """
    folder.mkdir(parents=True, exist_ok=True)
    channels = model.inputs[0].shape[-1]
    x, y = inputs_of(images(data, "train", seed), channels, arm.shuffled_masks, seed)
    guided = compiled(model, tap, arm, learning_rate, epochs * -(-len(y) // batch_size))
    started = time.perf_counter()
    history = guided.fit(
        x,
        y,
        validation_data=inputs_of(images(data, "validation", seed), channels),
        epochs=epochs,
        batch_size=batch_size,
        verbose=2 if progress else 0,
        callbacks=[
            keras.callbacks.BackupAndRestore(str(folder / "backup")),
            keras.callbacks.TerminateOnNaN(),
            losses.HeatmapMonitor(),
        ],
    ).history
    return {name: [float(value) for value in values] for name, values in history.items()}, time.perf_counter() - started


def compiled(model, tap, arm, learning_rate, steps):
    """The twin of a classifier that is trained in the way of an arm, sharing its weights.

    Parameters
    ----------
    model : keras.Model
    tap : str
    arm : Arm
    learning_rate : float
        At the start; it falls to zero along a cosine.
    steps : int
        Of training.

    Returns
    -------
    keras.Model
        Compiled.
    """
    swap = arm.swap_weight > 0
    guided = models.with_attention(model, tap, cam=arm.cam, resize=arm.resize, swap=swap)
    guided.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(learning_rate, steps)),
        loss=losses.Heatmap(
            data=arm.data,
            attention=arm.attention,
            weight=arm.weight,
            ramp_steps=arm.ramp_steps,
            tied=arm.tied,
            swap_weight=arm.swap_weight,
            classes=arm.classes,
            probabilities=arm.probabilities,
        ),
        metrics=losses.heatmap_metrics(swap=swap),
    )
    return guided
