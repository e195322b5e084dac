"""The two small regressors: fingerprints, seeds, saving, and ways to compute (jit, bfloat16, JAX)."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import hcreg
from hcreg.models import cnn_1m, cnn_263k

SMALL = (16, 16, 1)


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(4, *SMALL)).astype("float32")


def trainable_count(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@pytest.mark.parametrize(
    ("build", "total", "trainable"), [(cnn_263k, 263_713, 263_633), (cnn_1m, 1_075_265, 1_074_913)]
)
def test_parameter_fingerprint(build, total, trainable):
    model = build()
    assert (model.count_params(), trainable_count(model)) == (total, trainable)
    assert model.input_shape == (None, 128, 128, 1)
    assert model.output_shape == (None, 1)
    assert not model.compiled


def test_the_slides_dense_widths_do_not_give_a_million():
    convolutions = (9 * 1 + 1) * 16 + (9 * 16 + 1) * 32 + (9 * 32 + 1) * 64 + 4 * (16 + 32 + 64)
    features = 16 * 16 * 64

    def total(a, b, c):
        return convolutions + (features + 1) * a + 4 * a + (a + 1) * b + (b + 1) * c + (c + 1)

    assert total(16, 32, 8) == 286_785  # as printed
    assert total(64, 32, 16) == cnn_1m().count_params()


def test_batch_normalisation_follows_the_activation():
    model = cnn_263k(SMALL)
    kinds = [(type(layer).__name__, getattr(layer, "activation", None)) for layer in model.layers[1:]]
    relu, linear = keras.activations.relu, keras.activations.linear
    block = [("Conv2D", relu), ("BatchNormalization", None), ("MaxPooling2D", None)]
    dense = [
        ("Dense", relu),
        ("BatchNormalization", None),
        ("Dropout", None),
        ("Dense", relu),
        ("Dense", linear),
    ]
    assert kinds == [*block, *block, ("Flatten", None), *dense]
    assert model.get_layer("dense1_dropout").rate == 0.5
    assert [model.get_layer(name).units for name in ("dense1", "dense2", "hc_fraction")] == [16, 8, 1]


def test_equal_seeds_give_equal_weights_and_dropout(images):
    first, second, other = cnn_263k(SMALL, seed=5), cnn_263k(SMALL, seed=5), cnn_263k(SMALL, seed=6)
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(first(images, training=True), second(images, training=True))
    assert not np.array_equal(first.get_layer("block1_conv").kernel, other.get_layer("block1_conv").kernel)
    dropout, again, different = (model.get_layer("dense1_dropout") for model in (first, second, other))
    assert dropout.seed == again.seed != different.seed


def test_layers_of_one_shape_start_apart():
    model = cnn_1m((8, 8, 1), seed=0)  # dense2 is 64 x 32, dense1 64 x 64: compare what both have
    a, b = (model.get_layer(name).kernel.numpy()[:32, :16] for name in ("dense1", "dense2"))
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 0.2


def test_without_a_seed_keras_draws(images):
    keras.utils.set_random_seed(3)
    first = cnn_263k(SMALL)(images)
    second = cnn_263k(SMALL)(images)
    keras.utils.set_random_seed(3)
    np.testing.assert_array_equal(cnn_263k(SMALL)(images), first)
    assert not np.array_equal(first, second)


def test_a_global_seed_does_not_move_an_explicit_one():
    keras.utils.set_random_seed(1)
    first = cnn_263k(SMALL, seed=5).get_weights()[0]
    keras.utils.set_random_seed(2)
    np.testing.assert_array_equal(cnn_263k(SMALL, seed=5).get_weights()[0], first)


@pytest.mark.parametrize("build", [cnn_263k, cnn_1m])
def test_keras_file_gives_the_same_output(build, images, tmp_path):
    model = build(SMALL, seed=1)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]


def test_it_learns_the_size_of_a_disc():
    y, x = np.mgrid[: SMALL[0], : SMALL[1]] - (SMALL[0] - 1) / 2
    radii = np.linspace(2.0, 7.0, 24)
    discs = (np.hypot(x, y)[None] < radii[:, None, None]).astype("float32")[..., None]
    discs = (discs - discs.mean((1, 2), keepdims=True)) / discs.std((1, 2), keepdims=True)
    targets = (radii / radii.max()).astype("float32")[:, None]
    model = cnn_263k(SMALL, dropout_rate=0.0, seed=0)
    model.compile("adam", "mse")
    model.optimizer.learning_rate = 1e-2
    for _ in range(60):
        model.train_on_batch(discs, targets)
    model.optimizer.learning_rate = 1e-3
    for _ in range(40):
        model.train_on_batch(discs, targets)
    # Not the loss train_on_batch returns: in Keras 3.10 that is the mean over all steps so far.
    error = np.asarray(model(discs, training=True)) - targets
    assert (error**2).mean() < 0.1 * targets.var()


def test_jit_compiled_training_steps_match_the_plain_ones(images):
    targets = np.linspace(0.3, 1.0, len(images), dtype="float32")[:, None]
    losses = {}
    for jit_compile in (False, True):
        model = cnn_263k(SMALL, dropout_rate=0.0, seed=2)
        model.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=jit_compile)
        losses[jit_compile] = [float(model.train_on_batch(images, targets)) for _ in range(3)]
    assert losses[True][2] != losses[True][0]
    np.testing.assert_allclose(losses[True], losses[False], rtol=1e-4)


def test_mixed_bfloat16_does_not_round_the_output():
    images = np.random.default_rng(1).normal(size=(64, *SMALL)).astype("float32")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = cnn_263k(SMALL, seed=1)
    finally:
        keras.config.set_dtype_policy("float32")
    output = keras.ops.convert_to_tensor(model(images))
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert model.get_layer("dense1").compute_dtype == "bfloat16"
    output = keras.ops.convert_to_numpy(output)
    assert np.isfinite(output).all()
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(keras.ops.cast(output, "bfloat16"), "float32"))
    assert (rounded != output).mean() > 0.5  # a bfloat16 output would be on that grid throughout
    np.testing.assert_allclose(output, cnn_263k(SMALL, seed=1)(images), atol=0.05)


JAX_SCRIPT = """
import sys
import numpy as np
from hcreg.models import cnn_263k
model = cnn_263k((16, 16, 1), seed=9)
model.load_weights(sys.argv[1] + "/shared.weights.h5")
np.save(sys.argv[1] + "/jax.npy", model.predict(np.load(sys.argv[1] + "/images.npy"), verbose=0))
assert type(model.get_layer("dense1").kernel.value).__module__.startswith("jax"), "not computed by JAX"
"""


def test_jax_predicts_the_same_numbers(images, tmp_path):
    pytest.importorskip("jax")
    model = cnn_263k(SMALL, seed=4)
    model.save_weights(tmp_path / "shared.weights.h5")
    np.save(tmp_path / "images.npy", images)
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(Path(hcreg.__file__).parent.parent),
    }
    result = subprocess.run(
        [sys.executable, "-c", JAX_SCRIPT, str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(np.load(tmp_path / "jax.npy"), model.predict(images, verbose=0), atol=1e-5)


@pytest.mark.parametrize("shape", [(128, 128), (128, 128.0, 1), (None, 128, 1), (128, 128, 0), "128", None])
def test_input_shape_is_checked(shape):
    with pytest.raises(ValueError, match=r"\(height, width, channels\) in whole numbers.*Received: .*Pass for example"):
        cnn_263k(shape)


def test_an_image_too_small_for_the_pooling_is_refused():
    assert cnn_263k((4, 4, 1)).output_shape == (None, 1)
    with pytest.raises(ValueError, match=r"at least 4 px\. Received: \(3, 4, 1\)"):
        cnn_263k((3, 4, 1))
    with pytest.raises(ValueError, match=r"at least 8 px\. Received: \(8, 7, 1\)"):
        cnn_1m((8, 7, 1))


@pytest.mark.parametrize("seed", [-1, 1.5, True, "7"])
def test_a_seed_is_a_whole_number(seed):
    with pytest.raises(ValueError, match=r"A seed is a whole number, 0 or more, or None\. Received"):
        cnn_263k(SMALL, seed=seed)
