"""AttentionModule: in NumPy's words, by hand, two dimensions, precision, rematerialisation, files, JAX, errors."""

import doctest
import importlib
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import hcreg
from hcreg import backend
from hcreg.layers import AttentionModule

SHAPE = (2, 3, 4, 5, 3)


def volumes(shape=SHAPE):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def built(shape=SHAPE, **arguments):
    """A module whose biases are not 0."""
    module = AttentionModule(**{"filters": 4, "out_filters": 6, "seed": 0, **arguments})
    module.build(shape)
    rng = np.random.default_rng(1)
    for weight in module.weights:
        weight.assign(rng.normal(0.0, 0.5, weight.shape))
    return module


def convolved(x, kernel, bias):
    """A sum over the taps of a kernel of odd size, each a shifted copy of the input with zeros around it."""
    sizes = kernel.shape[:-2]
    padded = np.pad(x, [(0, 0), *((size // 2, size // 2) for size in sizes), (0, 0)])
    total = np.zeros((*x.shape[:-1], kernel.shape[-1])) + bias
    for tap in np.ndindex(*sizes):
        moved = tuple(slice(start, start + side) for start, side in zip(tap, x.shape[1:-1]))
        total += padded[(slice(None), *moved)] @ kernel[tap]
    return total


def derived(module, x):
    """The module as the paper has it: P, A, T = P A, and a convolution of both."""
    kernels = [np.asarray(weight, np.float64) for weight in module.weights]
    projected = convolved(x.astype(np.float64), *kernels[:2])
    logits = convolved(convolved(projected, *kernels[2:4]), *kernels[4:6])
    attention = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    joined = np.concatenate([projected, projected * attention], axis=-1)
    return convolved(joined, *kernels[6:]), attention


@pytest.mark.parametrize(
    ("shape", "kernel_size"), [(SHAPE, 3), ((1, 5, 4, 6, 2), 5), ((2, 5, 6, 3), 3), ((1, 6, 5, 2), 5)], ids=str
)
def test_output_is_that_of_the_paper(shape, kernel_size):
    module = built(shape, kernel_size=kernel_size)
    expected, attention = derived(module, volumes(shape))
    np.testing.assert_allclose(module(volumes(shape)), expected, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(module.attention(volumes(shape)), attention, atol=1e-5)


def test_one_voxel_by_hand():
    """P = (1, 2); A = softmax(0, log 3) = (1/4, 3/4); P A = (1/4, 3/2); their sum with P is 4.75."""
    module = AttentionModule(filters=2, out_filters=1, kernel_size=1)
    module.build((1, 1, 1, 1, 1))
    zeros, logits = np.zeros((1, 1, 1, 2, 2)), np.log([1.0, 3.0])
    module.set_weights(
        [
            np.array([[[[[1.0, 2.0]]]]]),
            np.zeros(2),
            zeros,
            np.zeros(2),
            zeros,
            logits,
            np.ones((1, 1, 1, 4, 1)),
            np.zeros(1),
        ]
    )
    assert np.ravel(module(np.ones((1, 1, 1, 1, 1), "float32"))).tolist() == pytest.approx([4.75])


def test_defaults_are_the_papers():
    module = AttentionModule(kernel_size=5)
    module.build((None, None, None, None, 128))
    assert module.count_params() == (128 * 32 + 32) + 2 * (125 * 32 * 32 + 32) + (125 * 64 * 64 + 64)
    assert module.compute_output_shape((None, 8, None, 8, 128)) == (None, 8, None, 8, 64)


def test_rematerialised_gradients_are_the_same_and_computed_anew():
    x, found, num_softmax = volumes(), [], []
    for rematerialise in (False, True):
        module = built(rematerialise=rematerialise)

        def squares(x, module=module):
            return keras.ops.sum(module(x) ** 2)

        found.append(backend.gradient(squares, x))
        model = keras.Sequential([keras.Input(SHAPE[1:]), module])
        model.compile(keras.optimizers.SGD(1e-3), "mse")
        model.train_on_batch(x, np.zeros((*SHAPE[:-1], 6), "float32"))
        found.append(model.get_weights())
        if backend.name() == "tensorflow":
            import tensorflow as tf

            def step(x, squares=squares):
                return backend.gradient(squares, x)

            graph = tf.function(step, autograph=False).get_concrete_function(tf.TensorSpec(SHAPE)).graph
            num_softmax.append(sum(operation.type == "Softmax" for operation in graph.get_operations()))
    np.testing.assert_allclose(found[0], found[2], rtol=1e-5, atol=1e-6)
    for plain, again in zip(found[1], found[3], strict=True):
        np.testing.assert_allclose(plain, again, rtol=1e-5, atol=1e-6)
    assert num_softmax in ([], [1, 2])


def test_softmax_is_in_float32_under_mixed_precision(monkeypatch):
    dtypes, softmax = [], keras.ops.softmax

    def spy(x, axis):
        dtypes.append(keras.backend.standardize_dtype(x.dtype))
        return softmax(x, axis=axis)

    monkeypatch.setattr("hcreg.layers.attention_module.ops.softmax", spy)
    module = built(dtype="mixed_bfloat16")
    output = module(volumes())
    assert dtypes == ["float32"]
    assert keras.backend.standardize_dtype(output.dtype) == "bfloat16"
    expected = derived(module, volumes())[0]
    np.testing.assert_allclose(keras.ops.cast(output, "float32"), expected, atol=0.05 * np.abs(expected).max())


def test_convolutions_of_one_shape_begin_unlike_and_seeds_are_kept():
    first, second, other = (AttentionModule(filters=4, seed=seed) for seed in (3, 3, 4))
    for module in (first, second, other):
        module.build(SHAPE)
    assert not np.array_equal(first.attention1.kernel, first.attention2.kernel)
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(first.attention1.kernel, other.attention1.kernel)
    seeded = AttentionModule(filters=4, kernel_initializer=keras.initializers.HeNormal(seed=5))
    seeded.build(SHAPE)
    assert not np.array_equal(seeded.attention1.kernel, seeded.attention2.kernel)


def test_initialisers_and_penalty_are_of_all_four():
    module = AttentionModule(
        filters=4, kernel_initializer="ones", bias_initializer="ones", kernel_regularizer=keras.regularizers.L2(1.0)
    )
    module.build(SHAPE)
    num_weights = sum(int(np.prod(weight.shape)) for weight in module.weights)
    num_biases = 3 * 4 + 64
    assert all(np.all(np.asarray(weight) == 1) for weight in module.weights)
    assert sum(float(loss) for loss in module.losses) == num_weights - num_biases


def test_keras_file_gives_the_same_output(tmp_path):
    module = built(kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.1), rematerialise=True, kernel_size=5)
    model = keras.Sequential([keras.Input(SHAPE[1:]), module])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].get_config() == module.get_config()
    np.testing.assert_array_equal(loaded(volumes()), model(volumes()))


def test_jax_gives_the_same_numbers_and_gradients(tmp_path):
    """Of what USegNet is made of beside Keras's own layers, in one process."""
    pytest.importorskip("jax", reason="JAX is not installed; `pip install hcreg[jax]` brings it")
    code = """
import sys
import keras, numpy as np
from hcreg import backend
from hcreg.layers import AttentionModule, BatchStatistics, SideCheck
assert backend.name() == sys.argv[1]
x = np.load(f"{sys.argv[2]}/x.npy")
layers = [SideCheck(2), AttentionModule(4, 6, rematerialise=True), BatchStatistics()]
model = keras.Sequential([keras.Input(x.shape[1:]), *layers])
rng = np.random.default_rng(0)
model.set_weights([rng.uniform(-1.0, 1.0, weight.shape) for weight in model.weights])
compiled = backend.compile_function(lambda x: backend.value_and_vjp(model, x, cotangent), variables=model.variables)
cotangent = rng.normal(size=(1, 4, 6, 6)).astype("float32")
output, gradient = compiled(x)
np.savez(f"{sys.argv[2]}/{sys.argv[1]}.npz", output=output, gradient=gradient)
try:
    model.layers[0](x[:, :3])
except ValueError as error:
    assert "every side is a multiple of 2" in str(error)
else:
    raise AssertionError
"""
    np.save(tmp_path / "x.npy", volumes((1, 4, 6, 3)))
    subprocess.run(
        [sys.executable, "-c", code, "jax", str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(hcreg.__file__).parent.parent,
        check=True,
        timeout=600,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["", backend.name(), str(tmp_path)])
        exec(code, {})
    with np.load(tmp_path / f"{backend.name()}.npz") as ours, np.load(tmp_path / "jax.npz") as jax:
        for name in ("output", "gradient"):
            np.testing.assert_allclose(jax[name], ours[name], rtol=1e-3, atol=1e-4 * np.abs(ours[name]).max())


@pytest.mark.parametrize("name", ["filters", "out_filters", "kernel_size"])
@pytest.mark.parametrize("value", [0, 1.5, True])
def test_sizes_are_whole_numbers(name, value):
    with pytest.raises(
        ValueError, match=rf"{name} of AttentionModule is a whole number, 1 or more\. Received: {value}"
    ):
        AttentionModule(**{name: value})


@pytest.mark.parametrize("shape", [(None, 8, 3), (None, 8, 8, 8, None)], ids=str)
def test_inputs_are_images_or_volumes(shape):
    with pytest.raises(
        ValueError, match=r"takes images .* or volumes .*known number of channels\. Received: the shape"
    ):
        AttentionModule().build(shape)


def test_examples():
    result = doctest.testmod(importlib.import_module("hcreg.layers.attention_module"))
    assert (result.failed, result.attempted) == (0, 3)
