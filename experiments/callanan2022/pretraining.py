"""Convolutions trained on another task, as ImageNet's are for VGG16: head circumference in synthetic ultrasound."""

import keras
import numpy as np

from hcreg import models
from hcreg.backend import seed_everything
from hcreg.datasets import HC18, synthetic
from hcreg.datasets.batches import Batches, ImageCache
from hcreg.files import written_whole

_IMAGE_SHAPE = (105, 135, 1)
_EXAMINATIONS, _EPOCHS, _LEARNING_RATE = 300, 10, 2e-3


def pretrained_features(folder, seed=0, examinations=_EXAMINATIONS, epochs=_EPOCHS):
    """Weights of the small classifier's convolutions after another task; trained once.

    Parameters
    ----------
    folder : pathlib.Path
        Where they are kept, and the images they are trained on.
    seed : int
    examinations, epochs : int

    Returns
    -------
    list of list of ndarray
        Kernel and bias of each convolution.
    """
    path = folder / "features.npz"
    if not path.is_file():
        data = folder / "fetal_heads"
        synthetic.fetal_head(data, examinations, seed)
        cache = ImageCache(HC18(data), _IMAGE_SHAPE, with_ellipses=False)
        batches = Batches(cache, range(len(cache)), cache.hc_px.max(), batch_size=16, shuffle=True, seed=seed)
        seed_everything(seed)
        model = models.cnn_classifier(_IMAGE_SHAPE, num_classes=1, activation=None, seed=seed)
        model.compile(keras.optimizers.Adam(_LEARNING_RATE), loss="mae")
        model.fit(batches, epochs=epochs, verbose=0)
        arrays = [array for layer in _convolutions(model) for array in layer.get_weights()]
        with written_whole(path) as partial, open(partial, "wb") as file:
            np.savez(file, *arrays)
    with np.load(path) as file:
        arrays = [file[name] for name in sorted(file.files, key=lambda name: int(name.removeprefix("arr_")))]
    return [arrays[number : number + 2] for number in range(0, len(arrays), 2)]


def _convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
