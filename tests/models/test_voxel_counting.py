"""Networks that count: areas of slices, volumes of stacks, one set of weights through all of them."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import hcreg
from hcreg import backend
from hcreg.layers import BatchNormalization, SoftVoxelCount
from hcreg.models import voxel_counting
from hcreg.models.voxel_counting import SHARPNESS, volumes_of_slices, with_areas

SHAPE = (16, 32, 3)


def network(seed=0, normalisation=keras.layers.BatchNormalization):
    """A small segmentation network."""
    keras.utils.set_random_seed(seed)
    x = image = keras.Input(SHAPE, name="image")
    x = keras.layers.Conv2D(5, 3, padding="same", activation="relu", name="first")(x)
    x = normalisation(momentum=0.5, name="normalisation")(x)
    mask = keras.layers.Conv2D(4, 3, padding="same", activation="softmax", name="mask")(x)
    return keras.Model(image, mask, name="small")


@pytest.fixture(scope="module")
def segmenter():
    return network()


@pytest.fixture(scope="module")
def areas(segmenter):
    return with_areas(segmenter, 1.5)


@pytest.fixture(scope="module")
def volumes(areas):
    return volumes_of_slices(areas)


def slices_of(num_stacks=2, num_slices=3, seed=0):
    return np.random.default_rng(seed).normal(size=(num_stacks, num_slices, *SHAPE)).astype("float32")


def known(shape=(None, None, 3)):
    """A network with a known answer: the channels are the probabilities of RV, MYO and LV."""
    image = keras.Input(shape)
    background = keras.layers.Lambda(lambda x: 1 - keras.ops.sum(x, -1, keepdims=True))(image)
    return keras.Model(image, keras.layers.Concatenate()([background, image]), name="known")


# Areas


def test_areas_are_counted_in_square_centimetres():
    image = np.zeros((1, 16, 16, 3), np.float32)
    image[0, :4, :5, 2] = 1.0
    image[0, 10, :, 0] = 1.0
    output = with_areas(known(), 2.5)(image)
    np.testing.assert_allclose(output["areas_cm2"], [[16 * 0.0625, 0.0, 20 * 0.0625]], atol=1e-5)


def test_a_mask_stays_as_it_was_and_its_sharpened_sum_is_the_area(segmenter, areas):
    images = slices_of()[0]
    mask = np.asarray(segmenter(images))
    output = areas(images)
    np.testing.assert_array_equal(output["mask"], mask)
    squared = mask.astype(float) ** SHARPNESS
    expected = (squared / squared.sum(-1, keepdims=True))[..., 1:].sum((1, 2)) * 2.25 / 100
    np.testing.assert_allclose(output["areas_cm2"], expected, rtol=1e-4)


def test_the_weights_are_the_models_own(segmenter, areas):
    assert all(a is b for a, b in zip(areas.weights, segmenter.weights, strict=True))


def test_each_output_alone_trains_the_first_convolution():
    for name in ("mask", "areas_cm2"):
        model = with_areas(network(), 1.5)
        kernel = model.get_layer("first").kernel
        before = keras.ops.convert_to_numpy(kernel).copy()
        model.compile(keras.optimizers.SGD(1.0), {name: "mean_absolute_error"}, run_eagerly=True)
        targets = {"mask": np.zeros((3, 16, 32, 4)), "areas_cm2": np.ones((3, 3))}
        model.train_on_batch(slices_of()[0], {name: targets[name]})
        assert np.abs(keras.ops.convert_to_numpy(kernel) - before).max() > 0


def test_keras_file_of_areas_gives_the_same_outputs(areas, tmp_path):
    areas.save(tmp_path / "areas.keras")
    loaded = keras.models.load_model(tmp_path / "areas.keras")(slices_of()[0])
    for name, value in areas(slices_of()[0]).items():
        np.testing.assert_array_equal(loaded[name], value)


# Volumes


def test_volumes_are_areas_times_the_distance_of_slices(areas, volumes):
    slices = slices_of()
    slice_mm = np.array([[8.0], [10.0]], np.float32)
    each = np.stack([areas(stack)["areas_cm2"] for stack in slices])  # (stacks, slices, structures)
    expected = each.sum(1) * slice_mm / 10  # cm² times cm is ml
    np.testing.assert_allclose(volumes({"slices": slices, "slice_mm": slice_mm}), expected, rtol=1e-4)


def test_a_block_by_hand():
    """4 x 5 pixels of 2 mm in 3 slices 9 mm apart: 0.8 cm², three times 0.9 cm, 2.16 ml."""
    slices = np.zeros((1, 5, 16, 16, 3), np.float32)
    slices[0, 1:4, 3:7, 3:8, 1] = 1.0
    model = volumes_of_slices(with_areas(known(), 2.0), (16, 16, 3))
    found = model({"slices": slices, "slice_mm": np.full((1, 1), 9.0)})
    np.testing.assert_allclose(found, [[0.0, 2.16, 0.0]], atol=1e-5)


def test_slices_of_nan_count_nothing(volumes):
    short, long = slices_of(1, 2, seed=1), slices_of(1, 4, seed=2)
    padded = np.concatenate([np.pad(short, ((0, 0), (0, 2), (0, 0), (0, 0), (0, 0)), constant_values=np.nan), long])
    slice_mm = np.array([[8.0], [10.0]])
    together = np.asarray(volumes({"slices": padded, "slice_mm": slice_mm}))
    np.testing.assert_allclose(together[0], volumes({"slices": short, "slice_mm": slice_mm[:1]})[0], rtol=1e-4)
    np.testing.assert_allclose(together[1], volumes({"slices": long, "slice_mm": slice_mm[1:]})[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("normalisation", "compiled"), [(keras.layers.BatchNormalization, False), (BatchNormalization, True)]
)
def test_slices_of_nan_leave_no_trace_in_training(normalisation, compiled):
    """As if the six slices that there are had been measured in one batch, by the network itself."""
    short, long = slices_of(1, 2, seed=1)[0], slices_of(1, 4, seed=2)[0]
    reference, counting = (network(normalisation=normalisation) for _ in range(2))
    each = np.asarray(with_areas(reference, 1.5)(np.concatenate([short, long]), training=True)["areas_cm2"])
    model = volumes_of_slices(with_areas(counting, 1.5))
    inputs = {
        "slices": np.stack([np.pad(short, ((0, 2), *[(0, 0)] * 3), constant_values=np.nan), long]),
        "slice_mm": np.array([[8.0], [10.0]], np.float32),
    }
    if compiled:
        model.compile(keras.optimizers.SGD(0.0), "mse")
        loss = model.train_on_batch(inputs, np.zeros((2, 3), np.float32))
        expected = np.mean(np.stack([0.8 * each[:2].sum(0), each[2:].sum(0)]) ** 2)
        assert float(loss) == pytest.approx(expected, rel=1e-4)
    else:
        found = np.asarray(model(inputs, training=True))
        np.testing.assert_allclose(found, np.stack([0.8 * each[:2].sum(0), each[2:].sum(0)]), rtol=1e-4)
    for ours, theirs in zip(counting.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert not np.allclose(counting.get_layer("normalisation").moving_mean, 0.0)


@pytest.mark.parametrize(
    "where",
    [(slice(None), 1, 3, 4, 2), (slice(None), 0), (0, slice(None))],
    ids=["a voxel", "a slice before others", "a whole stack"],
)
@pytest.mark.parametrize("training", [False, True])
def test_nan_that_is_no_filling_does_not_pass(where, training):
    model = volumes_of_slices(with_areas(known(), 1.5), SHAPE)
    slices = np.full((2, 3, *SHAPE), 0.2, np.float32)
    slices[0][where[1:] if where[0] == slice(None) else where[1]] = np.nan
    found = np.asarray(model({"slices": slices, "slice_mm": np.full((2, 1), 10.0, np.float32)}, training=training))
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1]).all()


def test_nan_does_not_hide_in_the_padding_of_a_pooling():
    """A network that would swallow it: the largest of a voxel and its neighbours, cut off at 0."""
    image = keras.Input(SHAPE)
    x = keras.layers.ReLU()(keras.layers.MaxPooling2D(2)(image))
    swallowing = keras.Model(image, keras.layers.Conv2D(4, 1, activation="softmax")(x))
    slices = slices_of(1, 2)
    slices[0, 1, 0, 0, 0] = np.nan
    model = volumes_of_slices(with_areas(swallowing, 1.5))
    assert np.isnan(model({"slices": slices, "slice_mm": np.full((1, 1), 10.0, np.float32)})).all()


def test_gradients_past_slices_of_nan_are_finite(areas):
    model = volumes_of_slices(areas)
    slices = slices_of(1, 3)
    slices[0, 2] = np.nan
    slice_mm = keras.ops.full((1, 1), 9.0)
    gradient = np.asarray(backend.gradient(lambda x: model({"slices": x, "slice_mm": slice_mm}), slices))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient[0, :2]).max() > 0
    assert np.abs(gradient[0, 2]).max() == 0


def test_training_on_volumes_trains_the_segmentation_network():
    segmenter = network()
    model = volumes_of_slices(with_areas(segmenter, 1.5))
    assert {id(weight) for weight in model.trainable_weights} == {id(weight) for weight in segmenter.trainable_weights}
    before = segmenter.get_weights()
    inputs = {"slices": slices_of(), "slice_mm": np.full((2, 1), 10.0, np.float32)}
    model.compile(keras.optimizers.Adam(1e-2), "mean_absolute_error", run_eagerly=True)
    losses = [float(model.train_on_batch(inputs, np.ones((2, 3), np.float32))) for _ in range(8)]
    assert losses[-1] < losses[0]
    for variable, old in zip(segmenter.weights, before, strict=True):  # the moving statistics among them
        assert not np.array_equal(keras.ops.convert_to_numpy(variable), old), variable.path


def test_keras_file_of_volumes_gives_the_same_and_can_be_trained_on(volumes, tmp_path):
    inputs = {"slices": slices_of(), "slice_mm": np.full((2, 1), 10.0, np.float32)}
    volumes.save(tmp_path / "volumes.keras")
    loaded = keras.models.load_model(tmp_path / "volumes.keras")
    np.testing.assert_array_equal(loaded(inputs), volumes(inputs))
    assert len(loaded.trainable_weights) == len(volumes.trainable_weights) == 6
    for a, b in zip(loaded.get_weights(), volumes.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    loaded.compile(keras.optimizers.Adam(1e-2), "mean_absolute_error", run_eagerly=True)
    loaded.train_on_batch(inputs, np.ones((2, 3), np.float32))
    assert not np.array_equal(loaded(inputs), volumes(inputs))


def test_weights_alone_come_back_too(volumes, tmp_path):
    other = volumes_of_slices(with_areas(network(seed=1), 1.5))
    inputs = {"slices": slices_of(), "slice_mm": np.full((2, 1), 10.0, np.float32)}
    assert not np.array_equal(other(inputs), volumes(inputs))
    volumes.save_weights(tmp_path / "volumes.weights.h5")
    other.load_weights(tmp_path / "volumes.weights.h5")
    np.testing.assert_array_equal(other(inputs), volumes(inputs))


def test_outputs_are_float32_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = with_areas(network(), 1.5)
        stacks = volumes_of_slices(model)
    finally:
        keras.config.set_dtype_policy("float32")
    output = stacks({"slices": slices_of(), "slice_mm": np.full((2, 1), 10.0, np.float32)})
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert keras.backend.standardize_dtype(model(slices_of()[0])["areas_cm2"].dtype) == "float32"
    assert model.get_layer("first").compute_dtype == "bfloat16"
    assert np.isfinite(output).all()


ON_JAX = """
import sys
import keras, numpy as np
from hcreg.models import volumes_of_slices, with_areas
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
image = keras.Input((16, 32, 3))
x = keras.layers.BatchNormalization(name="normalisation")(image)
network = keras.Model(image, keras.layers.Conv2D(4, 3, activation="softmax", name="convolution")(x), name="small")
model = volumes_of_slices(with_areas(network, 1.5))
model.load_weights(f"{folder}/volumes.weights.h5")
slices = np.load(f"{folder}/slices.npy")
output = model.predict({"slices": slices, "slice_mm": np.full((2, 1), 10.0, "float32")}, verbose=0)
np.save(f"{folder}/jax.npy", output)
model.compile(keras.optimizers.SGD(0.1), "mse")
loss = model.train_on_batch({"slices": slices, "slice_mm": np.full((2, 1), 10.0, "float32")}, np.zeros((2, 3)))
np.savez(f"{folder}/jax.npz", *model.get_weights(), loss=loss)
"""


def test_jax_gives_the_same_volumes_and_learns_the_same(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed; `pip install hcreg[jax]` brings it")
    image = keras.Input(SHAPE)
    convolution = keras.layers.Conv2D(4, 3, activation="softmax", name="convolution")
    small = keras.Model(image, convolution(keras.layers.BatchNormalization(name="normalisation")(image)), name="small")
    volumes = volumes_of_slices(with_areas(small, 1.5))
    slices = slices_of()
    slices[0, 2] = np.nan
    np.save(tmp_path / "slices.npy", slices)
    volumes.save_weights(tmp_path / "volumes.weights.h5")
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(hcreg.__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    expected = volumes({"slices": slices, "slice_mm": np.full((2, 1), 10.0, np.float32)})
    np.testing.assert_allclose(np.load(tmp_path / "jax.npy"), expected, rtol=1e-4)
    volumes.compile(keras.optimizers.SGD(0.1), "mse")
    loss = volumes.train_on_batch({"slices": slices, "slice_mm": np.full((2, 1), 10.0)}, np.zeros((2, 3)))
    with np.load(tmp_path / "jax.npz") as answer:
        assert float(answer["loss"]) == pytest.approx(float(loss), rel=1e-4)
        for number, ours in enumerate(volumes.get_weights()):
            np.testing.assert_allclose(answer[f"arr_{number}"], ours, rtol=1e-3, atol=1e-5)


# Errors


def test_a_network_without_a_mask_of_structures_is_refused(areas):
    image = keras.Input((8, 8, 1))
    one = keras.Model(image, keras.layers.Conv2D(1, 1)(image), name="one")
    with pytest.raises(ValueError, match=r"one mask of a background and one or more structures.*the model 'one'"):
        with_areas(one, 1.5)
    with pytest.raises(ValueError, match=r"one mask of a background.*the model 'small', which gives"):
        with_areas(areas, 1.5)


@pytest.mark.parametrize("pixel_mm", [0.0, -1.0, float("nan")])
def test_a_pixel_without_a_size_is_refused(segmenter, pixel_mm):
    with pytest.raises(ValueError, match=r"a side of more than 0 mm\. Received: pixel_mm="):
        with_areas(segmenter, pixel_mm)


def test_a_network_without_areas_is_refused(segmenter):
    with pytest.raises(ValueError, match=r"give models\.with_areas\(network, pixel_mm\)\. Received: the model "):
        volumes_of_slices(segmenter)


def test_an_unknown_size_of_slices_is_refused():
    with pytest.raises(ValueError, match=r"pass slice_shape\. The model takes \(None, None, 3\)"):
        volumes_of_slices(with_areas(known(), 2.0))


def test_the_layer_that_counts_is_the_one_of_hcreg(areas):
    layer = areas.get_layer("areas_cm2")
    assert isinstance(layer, SoftVoxelCount)
    assert (layer.voxel_size, layer.sharpness, layer.background) == (0.0225, 2.0, True)


def test_examples():
    result = doctest.testmod(voxel_counting)
    assert (result.failed, result.attempted) == (0, 8)
