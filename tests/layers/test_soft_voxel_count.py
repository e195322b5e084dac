"""SoftVoxelCount: sums by hand, edges that stay in place, gradients at 0 and 1, precision, Keras, JAX."""

import doctest
import math
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import hcreg
from hcreg import backend
from hcreg.layers import SoftVoxelCount, soft_voxel_count
from hcreg.preprocessing.cardiac import volumes_ml

ROOT = os.path.dirname(os.path.dirname(hcreg.__file__))


def count(probabilities, **options):
    return keras.ops.convert_to_numpy(SoftVoxelCount(**options)(np.asarray(probabilities, np.float32)))


def soft_edge(position, num_pixels=60, width=8.0):
    """Probabilities (1, 1, pixels, 2) of background and structure, rising over `width` pixels about `position`."""
    structure = 1 / (1 + np.exp(-(np.arange(num_pixels) - position) / width * 4))
    return np.stack([1 - structure, structure], -1)[None, None].astype(np.float32)


# Sums


def test_shares_are_added_up_and_the_background_is_not():
    probabilities = np.zeros((2, 2, 2, 3))
    probabilities[0, 0, 0] = [0.5, 0.25, 0.25]
    probabilities[0, 1, 1] = [0.0, 1.0, 0.0]
    probabilities[1, :, :] = [0.2, 0.7, 0.1]
    np.testing.assert_allclose(count(probabilities, voxel_size=2.0), [[2.5, 0.5], [5.6, 0.8]], rtol=1e-6)
    whole = count(probabilities, voxel_size=2.0, background=False)
    np.testing.assert_allclose(whole, [[1.0, 2.5, 0.5], [1.6, 5.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("sharpness", [None, 1.0, 2.0, 3.5])
def test_a_label_map_is_counted_as_voxels_are(sharpness):
    labels = np.random.default_rng(0).integers(0, 4, (9, 8, 7))
    expected = list(volumes_ml(labels, (2.0, 2.5, 10.0)).values())
    found = count(np.eye(4)[labels][None], voxel_size=0.05, sharpness=sharpness)
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_a_volume_is_the_sum_of_its_slices():
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1, 1], (2, 6, 5, 4))
    slices = np.moveaxis(probabilities, 3, 1).reshape(8, 6, 5, 4)
    for sharpness in (None, 2.0):
        each = count(slices, sharpness=sharpness).reshape(2, 4, 3).sum(1)
        np.testing.assert_allclose(count(probabilities, sharpness=sharpness), each, rtol=1e-5)


def test_a_sum_of_a_hundred_thousand_voxels_has_its_digits():
    probabilities = np.full((1, 300, 400, 2), 0.1)
    assert count(probabilities)[0, 0] == pytest.approx(12000, rel=1e-4)


def test_what_the_notes_say_of_single_slices():
    """A slice of background alone adds nothing, one half filled adds its half, one of NaN makes the sum NaN."""
    stack = np.zeros((1, 2, 2, 3, 2))
    stack[..., 0] = 1.0
    stack[0, :, :, 1] = [0.5, 0.5]
    assert count(stack, voxel_size=10.0).tolist() == [[20.0]]
    stack[0, 0, 0, 2, 1] = np.nan
    assert np.isnan(count(stack)).all()
    assert np.isnan(count(stack, sharpness=2.0)).all()


# Sharpness


def test_sharpened_shares_by_hand():
    """(0.8, 0.2) squared is (0.64, 0.04), and of their sum 16/17 and 1/17; thirds stay thirds."""
    probabilities = np.array([[0.8, 0.2, 0.0], [1 / 3, 1 / 3, 1 / 3]]).reshape(1, 1, 2, 3)
    np.testing.assert_allclose(count(probabilities, sharpness=2.0), [[1 / 17 + 1 / 3, 1 / 3]], rtol=1e-5)


def test_a_low_background_weighs_what_the_notes_say():
    probabilities = np.full((1, 160, 160, 2), 0.001)
    probabilities[..., 0] = 0.999
    assert count(probabilities)[0, 0] == pytest.approx(25.6, rel=1e-4)
    assert count(probabilities, sharpness=2.0)[0, 0] == pytest.approx(0.0256, rel=0.01)


@pytest.mark.parametrize("position", [29.5, 29.8, 30.0, 31.25])
@pytest.mark.parametrize("sharpness", [1.5, 2.0, 4.0])
def test_a_symmetric_edge_stays_where_it_is(position, sharpness):
    """What a pixel before the edge loses, its mirror image behind it gains: 60 - (position + 1/2) pixels lie behind."""
    found = count(soft_edge(position), sharpness=sharpness)[0, 0]
    assert found == pytest.approx(59.5 - position, abs=0.02)


def test_between_three_classes_the_sum_stays():
    probabilities = np.random.default_rng(2).dirichlet([1, 1, 1], (1, 7, 6))
    assert count(probabilities, sharpness=2.0, background=False).sum() == pytest.approx(42, rel=1e-5)


# Gradients


def test_every_pixel_has_the_same_gradient():
    layer = SoftVoxelCount(3.0)
    gradient = np.asarray(backend.gradient(layer, np.full((1, 2, 3, 3), 0.3, np.float32)))
    np.testing.assert_allclose(gradient[..., 0], 0)
    np.testing.assert_allclose(gradient[..., 1:], 3.0)


@pytest.mark.parametrize("sharpness", [None, 1.0, 1.5, 2.0])
def test_gradients_are_finite_at_0_and_at_1(sharpness):
    probabilities = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0], [1e-30, 1, 0]], np.float32).reshape(
        1, 1, 5, 3
    )
    layer = SoftVoxelCount(sharpness=sharpness)
    assert np.isfinite(np.asarray(layer(probabilities))).all()
    assert np.isfinite(np.asarray(backend.gradient(layer, probabilities))).all()


def test_the_gradient_of_a_sharpened_share_by_its_formula():
    """Of p² / (p² + q²), by p: 2 p q² / (p² + q²)²."""
    p, q = 0.3, 0.7
    probabilities = np.array([q, p], np.float32).reshape(1, 1, 1, 2)
    gradient = np.asarray(backend.gradient(SoftVoxelCount(sharpness=2.0), probabilities)).ravel()
    scale = 2 * p * q / (p**2 + q**2) ** 2
    np.testing.assert_allclose(gradient, [-scale * p, scale * q], rtol=1e-4)


# Precision and Keras


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_the_sum_is_float32_whatever_the_policy(policy):
    keras.config.set_dtype_policy(policy)
    try:
        image = keras.Input((100, 90, 2))
        model = keras.Model(image, SoftVoxelCount(0.5, sharpness=2.0)(image))
    finally:
        keras.config.set_dtype_policy("float32")
    probabilities = np.full((1, 100, 90, 2), 0.5, np.float32)
    output = model(probabilities)
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert float(output[0, 0]) == 2250.0
    half = SoftVoxelCount()(keras.ops.cast(np.full((1, 300, 300, 2), 1.0), policy[6:]))
    assert float(half[0, 0]) == 90000.0  # beyond float16's largest number


def test_keras_file_keeps_every_choice(tmp_path):
    image = keras.Input((8, 9, 5, 4))
    model = keras.Model(image, SoftVoxelCount(0.04, False, 2.5, name="count")(image))
    assert model.output_shape == (None, 4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    layer = loaded.get_layer("count")
    assert (layer.voxel_size, layer.background, layer.sharpness) == (0.04, False, 2.5)
    probabilities = np.random.default_rng(3).dirichlet([1, 1, 1, 1], (2, 8, 9, 5)).astype("float32")
    np.testing.assert_array_equal(loaded(probabilities), model(probabilities))


def test_sizes_may_vary():
    image = keras.Input((None, None, 4))
    counted = SoftVoxelCount()(image)
    assert counted.shape == (None, 3)
    model = keras.Model(image, counted)
    for shape in ((3, 4), (6, 5)):
        assert float(model(np.ones((1, *shape, 4), np.float32))[0, 0]) == math.prod(shape)


ON_JAX = """
import sys
import keras, numpy as np
from hcreg import backend
from hcreg.layers import SoftVoxelCount
assert backend.name() == "jax"
probabilities = np.load(sys.argv[1])
layer = SoftVoxelCount(0.7, sharpness=2.0)
image = keras.Input((None, None, 4))
np.savez(
    sys.argv[2],
    count=keras.Model(image, layer(image)).predict(probabilities, verbose=0),
    gradient=np.asarray(backend.gradient(layer, probabilities)),
)
"""


@pytest.mark.skipif(backend.name() != "tensorflow", reason="started by this very test")
def test_jax_gives_the_same_numbers_and_gradients(tmp_path):
    pytest.importorskip("jax", reason="JAX is not installed; `pip install hcreg[jax]` brings it")
    probabilities = np.random.default_rng(4).dirichlet([1, 1, 1, 1], (2, 9, 8)).astype("float32")
    probabilities[0, 0, 0] = [1, 0, 0, 0]
    np.save(tmp_path / "in.npy", probabilities)
    done = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(tmp_path / "in.npy"), str(tmp_path / "out.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    layer = SoftVoxelCount(0.7, sharpness=2.0)
    with np.load(tmp_path / "out.npz") as answer:
        np.testing.assert_allclose(answer["count"], layer(probabilities), rtol=1e-5)
        np.testing.assert_allclose(answer["gradient"], backend.gradient(layer, probabilities), atol=1e-5)


# Errors


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"voxel_size": 0.0}, r"a positive voxel_size\. Received: 0\.0"),
        ({"voxel_size": float("nan")}, r"a positive voxel_size\. Received: nan"),
        ({"sharpness": 0.5}, r"a sharpness of 1 or more, or None\. Received: 0\.5"),
    ],
)
def test_choices_that_cannot_be(options, words):
    with pytest.raises(ValueError, match=words):
        SoftVoxelCount(**options)


@pytest.mark.parametrize(
    ("shape", "background", "words"),
    [
        ((2, 5), True, r"the first class the background\. Received: shape \(2, 5\)"),
        ((2, 5, 5, 1), True, r"the first class the background\. Received: shape \(2, 5, 5, 1\)"),
        ((2, 5), False, r"\[slices,\] classes\)\. Received: shape \(2, 5\)"),
    ],
)
def test_shapes_that_cannot_be(shape, background, words):
    with pytest.raises(ValueError, match=words):
        SoftVoxelCount(background=background)(np.zeros(shape, np.float32))


def test_examples():
    result = doctest.testmod(soft_voxel_count)
    assert (result.failed, result.attempted) == (0, 4)
