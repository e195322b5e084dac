"""Fixtures every test file may use: where the real data lie, if they are; a trained run; networks of every kind."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:  # one core for each of the processes; their children inherit it
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, "1")

# A shell that starts tests in the background lets them ignore these; tests send them to processes of their own.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGQUIT) == signal.SIG_IGN:
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"


@pytest.fixture(scope="session")
def hc18_root():
    """The real HC18 folder: HCREG_HC18, or shared/data/HC18 beside the checkout; skips where there is none."""
    root = Path(os.environ.get("HCREG_HC18", SHARED / "data" / "HC18"))
    if not (root / "training_set").is_dir():
        pytest.skip(f"the real HC18 data are not at {root}; set HCREG_HC18 to their folder to run this test")
    return root


@pytest.fixture(scope="session")
def acdc_root():
    """The real ACDC folder: HCREG_ACDC, or shared/data/ACDC beside the checkout; skips where there is none."""
    root = Path(os.environ.get("HCREG_ACDC", SHARED / "data" / "ACDC"))
    if not (root / "training").is_dir():
        pytest.skip(f"the real ACDC data are not at {root}; set HCREG_ACDC to their folder to run this test")
    return root


@pytest.fixture(scope="session")
def densenet121_weights():
    """ImageNet weights of DenseNet121 without top; skips where they are absent."""
    path = Path(os.environ.get("HCREG_DENSENET121", SHARED / "weights" / "densenet121_imagenet_notop.weights.h5"))
    if not path.is_file():
        pytest.skip(f"no DenseNet121 weights at {path}; set HCREG_DENSENET121 to their path to run this test")
    return path


@pytest.fixture(scope="session")
def cohort(tmp_path_factory):
    """A small synthetic HC18 folder."""
    from hcreg.datasets import synthetic

    root = tmp_path_factory.mktemp("cohort") / "HC18"
    synthetic.fetal_head(root, 24, seed=1)
    return root


@pytest.fixture(scope="session")
def trained_run(cohort, tmp_path_factory):
    """A finished run on the small cohort: two epochs, enough to be loaded and measured with."""
    import keras

    from hcreg import head_circumference, models
    from hcreg.datasets import HC18
    from hcreg.datasets.batches import read_images

    dataset = HC18(cohort)
    recipe = head_circumference.Recipe(
        "small",
        models.cnn_263k,
        keras.losses.MeanAbsoluteError(),
        input_shape=(64, 64, 1),
        epochs=2,
        patience=2,
    )
    split = head_circumference.single_split(dataset, sizes=(3, 1, 1))
    cache = read_images(dataset, recipe.input_shape)
    folder = tmp_path_factory.mktemp("runs") / "small" / "fold_0"
    rows = head_circumference.run(recipe, cache, split, folder, progress=False)
    return {
        "dataset": dataset,
        "recipe": recipe,
        "split": split,
        "cache": cache,
        "folder": folder,
        "rows": rows,
    }


@pytest.fixture(scope="session")
def segmentation_cache(cohort):
    """The small cohort at the size of the small segmentation networks."""
    from hcreg.datasets import HC18
    from hcreg.datasets.batches import read_images

    return read_images(HC18(cohort), (64, 96, 1))


@pytest.fixture(scope="session")
def trained_segmentation_run(segmentation_cache, tmp_path_factory):
    """A finished run of a small U-Net that predicts a mask."""
    from hcreg.losses import DiceCrossEntropy

    return _segmentation_run(segmentation_cache, tmp_path_factory, "mask", DiceCrossEntropy())


@pytest.fixture(scope="session")
def trained_ellipse_run(segmentation_cache, tmp_path_factory):
    """A finished run of a small U-Net that predicts a mask and, through its moments, the circumference."""
    from hcreg.losses import DiceCrossEntropy, RelativeError

    losses = {"mask": DiceCrossEntropy(), "hc_fraction": RelativeError()}
    # in so few steps, a heavier circumference would leave every mask empty
    return _segmentation_run(
        segmentation_cache, tmp_path_factory, "ellipse", losses, {"mask": 1.0, "hc_fraction": 0.02}
    )


def _segmentation_run(cache, tmp_path_factory, head, loss, loss_weights=None):
    from hcreg import head_circumference, models

    recipe = head_circumference.Recipe(
        f"unet_{head}",
        models.unet,
        loss,
        {"filters": 4, "head": head, "dropout_rate": 0.0},
        loss_weights or {},
        input_shape=(64, 96, 1),
        augmentation="none",
        learning_rate=1e-2,
        batch_size=2,
        epochs=2,
        patience=2,
    )
    split = head_circumference.single_split(cache.records, sizes=(3, 1, 1))
    folder = tmp_path_factory.mktemp("runs") / recipe.name / "fold_0"
    rows = head_circumference.run(recipe, cache, split, folder, progress=False)
    return {"records": cache.records, "recipe": recipe, "split": split, "cache": cache, "folder": folder, "rows": rows}


@pytest.fixture
def phantom_regressor(trained_segmentation_run):
    """A mask network with a known answer: what is bright is head, and a dark image's mask is empty."""
    from types import SimpleNamespace

    import numpy as np

    from hcreg.measurement import TrainedRegressor

    def predict_on_batch(inputs):
        low, high = inputs.min(axis=(1, 2, 3), keepdims=True), inputs.max(axis=(1, 2, 3), keepdims=True)
        head = (inputs - low) / (high - low)  # the share of each pixel that is head
        # standardised, the top of a head is near the mean; that of a speck is not
        return np.where(high < 10, head, 0.0)

    regressor = TrainedRegressor(trained_segmentation_run["folder"])
    regressor.model = SimpleNamespace(predict_on_batch=predict_on_batch)
    return regressor


@pytest.fixture(scope="session")
def networks():
    """Builders of small networks of one output, by the name of what they are like."""
    import keras

    from hcreg import models

    def convolution(x, filters, size=3, activation=None, **kwargs):
        return keras.layers.Conv2D(filters, size, activation=activation, **{"padding": "same", **kwargs})(x)

    def bn_relu(x):
        return keras.layers.ReLU()(keras.layers.BatchNormalization()(x))

    def vgg(shape=(8, 8, 2), bias=True):
        x = image = keras.Input(shape)
        x = convolution(x, 4, activation="relu", use_bias=bias)
        x = convolution(x, 4, activation="relu", use_bias=bias)
        x = keras.layers.MaxPooling2D(2)(x)
        x = keras.layers.Flatten()(x)
        x = keras.layers.Dense(6, activation="relu", use_bias=bias)(x)
        return keras.Model(image, keras.layers.Dense(1, use_bias=bias)(x))

    def resnet(shape=(12, 12, 1)):
        x = image = keras.Input(shape)
        x = keras.layers.ZeroPadding2D(1)(x)
        x = bn_relu(convolution(x, 4, strides=2, padding="valid"))
        x = keras.layers.MaxPooling2D(3, strides=2)(keras.layers.ZeroPadding2D(1)(x))
        shortcut = keras.layers.BatchNormalization()(convolution(x, 6, 1))
        x = keras.layers.BatchNormalization()(convolution(bn_relu(convolution(x, 4)), 6))
        x = keras.layers.ReLU()(keras.layers.Add()([shortcut, x]))
        branch = keras.layers.BatchNormalization()(convolution(bn_relu(convolution(x, 4, 1)), 6))
        x = keras.layers.ReLU()(x + branch)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(image, keras.layers.Dense(1)(x))

    def densenet(shape=(8, 8, 2)):
        x = image = keras.Input(shape)
        x = convolution(x, 4)
        for _ in range(2):
            x = keras.layers.Concatenate()([x, convolution(bn_relu(x), 3)])
        x = keras.layers.AveragePooling2D(2)(convolution(bn_relu(x), 4, 1))
        x = keras.layers.GlobalAveragePooling2D()(bn_relu(x))
        return keras.Model(image, keras.layers.Dense(1)(x))

    def conv3d(shape=(4, 6, 6, 1)):
        x = image = keras.Input(shape)
        x = bn_relu(keras.layers.Conv3D(3, 3, padding="same")(x))
        x = keras.layers.MaxPooling3D(2)(x)
        x = keras.layers.BatchNormalization()(keras.layers.Conv3D(3, 2, padding="same", activation="relu")(x))
        x = keras.layers.GlobalAveragePooling3D()(x)
        return keras.Model(image, keras.layers.Dense(1)(x))

    builders = {
        "vgg": vgg,
        "resnet": resnet,
        "densenet": densenet,
        "conv3d": conv3d,
        "cnn_263k": lambda: models.cnn_263k((8, 8, 1)),
        "unet_ellipse": lambda: models.unet((16, 16, 1), filters=2, head="ellipse"),
    }

    def build(name, seed=0, **kwargs):
        keras.utils.set_random_seed(seed)
        return randomised(builders[name](**kwargs), seed)

    return SimpleNamespace(build=build, randomised=randomised, images=images, names=tuple(builders))


def randomised(model, seed=0):
    """Give a model biases of both signs, and normalisations of both signs, of means and of variances of their own."""
    import numpy as np

    generator = np.random.default_rng(seed)
    for layer in model._flatten_layers(include_self=False, recursive=True):
        for variable in layer._trainable_variables + layer._non_trainable_variables:
            shape = tuple(variable.shape)
            if variable.name == "gamma":
                variable.assign(generator.uniform(0.5, 1.5, shape) * generator.choice([-1.0, 1.0], shape))
            elif variable.name == "moving_variance":
                variable.assign(generator.uniform(0.5, 1.5, shape))
            elif variable.name in ("bias", "beta", "moving_mean"):
                variable.assign(generator.normal(0.0, 0.3, shape))
    return model


def images(model, count=3, seed=0):
    """Random images, of both signs, that a model takes."""
    import numpy as np

    shape = tuple(16 if side is None else side for side in model.inputs[0].shape[1:])
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype("float32")
