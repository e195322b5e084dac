"""BatchNormalization: by hand, against Keras's own in every way to compute, where it falls back, files, JAX."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

import hcreg
import hcreg.layers.batch_normalization as module
from hcreg import backend
from hcreg.layers import BatchNormalization

tf = pytest.importorskip("tensorflow")
ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
only_tensorflow = pytest.mark.skipif(not ON_TENSORFLOW, reason="the fused kernel is TensorFlow's")
CLASSES = (BatchNormalization, keras.layers.BatchNormalization)
SHAPE = (3, 6, 5, 4)
# Of float32's rounding; of one unit in the last place of bfloat16 and float16.
TOLERANCE = {"float32": 1e-5, "mixed_bfloat16": 2**-7, "mixed_float16": 2**-10}


def maps(shape=SHAPE, seed=0):
    return np.random.default_rng(seed).normal(2.0, 3.0, shape).astype("float32")


def built(cls, channels=4, rank=4, **arguments):
    """A layer of weights that are neither zeros nor ones."""
    layer = cls(**arguments)
    layer.build((channels if arguments.get("axis") == 1 else None,) * (rank - 1) + (channels,))
    starts = {"gamma": (0.5, 2.0), "beta": (-1.0, 1.0), "moving_mean": (1.0, 3.0), "moving_variance": (5.0, 9.0)}
    for weight in layer.weights:
        weight.assign(np.linspace(*starts[weight.name], channels))
    return layer


def sweep(layer, x, training, num_steps=3):
    """Outputs, gradients and moving statistics of some steps, every weight moved after each as in training."""
    results = []
    for step in range(num_steps):
        inputs = tf.constant(x + step, "float32")
        weights = [weight for weight in (layer.gamma, layer.beta) if weight is not None]
        variables = [weight.value for weight in weights]
        with tf.GradientTape() as tape:
            tape.watch([inputs, *variables])  # frozen weights too
            outputs = layer(inputs, training=training)
            loss = tf.reduce_sum(tf.cast(outputs, "float32") ** 2 * np.cos(np.arange(x.size)).reshape(x.shape))
        gradients = tape.gradient(loss, [inputs, *variables])
        for weight, gradient in zip(weights, gradients[1:]):
            weight.assign(weight - 1e-3 * gradient)
        results += [outputs, *gradients, layer.moving_mean, layer.moving_variance]
    return [np.asarray(keras.ops.cast(result, "float32")) for result in results]


def assert_close(ours, theirs, tolerance=1e-5):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


@pytest.fixture
def fused_calls(monkeypatch):
    """How often, and whether in training, the fused kernel was called."""
    calls, function = [], backend.fused_batch_normalization

    def spy(*arguments):
        calls.append(arguments[-1])
        return function(*arguments)

    monkeypatch.setattr(module.backend, "fused_batch_normalization", spy)
    return calls


# By hand


@only_tensorflow
def test_two_pixels_by_hand(fused_calls):
    # 1 and 5: mean 3, mean squared deviation 4; (x - 3) / sqrt(4 + 0) * 10 + 1 = -9 and 11. Unbiased it were 8.
    layer = BatchNormalization(momentum=0.75, epsilon=2e-5)
    layer.build((None, 1, 2, 1))
    layer.set_weights([np.array([number]) for number in (10.0, 1.0, 7.0, 8.0)])
    outputs = layer(np.array([1.0, 5.0], "float32").reshape(1, 1, 2, 1), training=True)
    assert np.ravel(outputs) == pytest.approx([-9, 11], rel=1e-4)
    assert layer.moving_mean.numpy().tolist() == [0.75 * 7 + 0.25 * 3]
    assert layer.moving_variance.numpy() == pytest.approx([0.75 * 8 + 0.25 * 4])
    assert fused_calls == [True]


@only_tensorflow
def test_a_single_pixel_has_no_variance():
    layer = BatchNormalization(momentum=0.75)
    layer.build((None, 1, 1, 1))
    layer.set_weights([np.array([number]) for number in (10.0, 1.0, 7.0, 8.0)])
    assert np.ravel(layer(np.full((1, 1, 1, 1), 5.0, "float32"), training=True)) == pytest.approx([1.0])
    assert layer.moving_mean.numpy() == pytest.approx([0.75 * 7 + 0.25 * 5])
    assert layer.moving_variance.numpy() == pytest.approx([0.75 * 8])


@only_tensorflow
def test_kernel_gives_the_moments_it_used_and_no_gradient_to_them():
    x = tf.constant(maps())
    one, zero = tf.ones(4), tf.zeros(4)
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, mean, variance = backend.fused_batch_normalization(x, one, zero, zero, one, 1e-3, True)
        total = tf.reduce_sum(mean) + tf.reduce_sum(variance)
    np.testing.assert_allclose(mean, maps().mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(variance, maps().var(axis=(0, 1, 2)), rtol=1e-5)
    assert tape.gradient(total, x) is None
    _, mean, variance = backend.fused_batch_normalization(x, one, zero, zero + 3, one + 4, 1e-3, False)
    assert (mean.numpy().tolist(), variance.numpy().tolist()) == ([3.0] * 4, [5.0] * 4)


# Against Keras's own


@only_tensorflow
@pytest.mark.parametrize("policy", list(TOLERANCE))
@pytest.mark.parametrize("training", [True, False, None])
@pytest.mark.parametrize("trainable", [True, False])
def test_outputs_gradients_and_statistics_are_those_of_keras(policy, training, trainable, fused_calls):
    ours, theirs = (sweep(built(cls, dtype=policy, trainable=trainable), maps(), training) for cls in CLASSES)
    assert_close(ours, theirs, TOLERANCE[policy])
    assert fused_calls == [bool(training) and trainable] * 3
    moved = not np.array_equal(ours[-1], np.linspace(5.0, 9.0, 4, dtype="float32"))
    assert moved == (bool(training) and trainable)


@only_tensorflow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "arguments",
    [{"scale": False}, {"center": False}, {"scale": False, "center": False}, {"axis": 3}, {"momentum": 0.3}],
    ids=str,
)
def test_options_are_those_of_keras(arguments, training, fused_calls):
    assert_close(*(sweep(built(cls, **arguments), maps(), training) for cls in CLASSES))
    assert len(fused_calls) == 3


@only_tensorflow
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_of_one_image(training):
    assert_close(*(sweep(built(cls), maps((1, 6, 5, 4)), training) for cls in CLASSES))


@only_tensorflow
@pytest.mark.parametrize("policy", list(TOLERANCE))
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("axis", [-1, 4])
def test_stacks_of_slices_are_fused_too(axis, training, policy, fused_calls):
    x = maps((2, 3, 4, 5, 4))
    results = [sweep(built(cls, rank=5, axis=axis, dtype=policy), x, training) for cls in CLASSES]
    assert fused_calls == [training] * 3
    assert_close(*results, TOLERANCE[policy])


@only_tensorflow
def test_stacks_of_unknown_size_keep_their_shape():
    layer = built(BatchNormalization, rank=5)
    model = keras.Sequential([keras.Input((None, None, None, 4)), layer])
    assert model.output_shape == (None, None, None, None, 4)
    expected = built(keras.layers.BatchNormalization, rank=5)(maps((2, 3, 4, 5, 4)))
    assert_close([np.asarray(model(maps((2, 3, 4, 5, 4))))], [np.asarray(expected)])


@only_tensorflow
def test_inference_of_no_image():
    assert built(BatchNormalization)(maps()[:0], training=False).shape == (0, 6, 5, 4)


@only_tensorflow
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
def test_gradients_of_gradients_are_those_of_keras(training, compiled):
    def second_order(layer, x):
        variables = [layer.gamma.value, layer.beta.value]
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                loss = tf.reduce_sum(tf.tanh(layer(x, training=training)) * maps(seed=1))
            penalty = tf.reduce_sum(inner.gradient(loss, x) ** 2)
        return outer.gradient(penalty, [x, *variables])

    results = []
    for cls in CLASSES:
        layer, x = built(cls), tf.constant(maps())
        results.append((tf.function(second_order) if compiled else second_order)(layer, x))
    assert all(np.isfinite(result).all() and np.abs(result).max() > 0 for result in results[0])
    assert_close(*results)


@only_tensorflow
def test_two_runs_are_equal_to_the_bit():
    first, second = (sweep(built(BatchNormalization), maps(), True) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


# Whole networks


def network(cls, policy="float32"):
    image = keras.Input((8, 8, 1), dtype="float32")
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu", dtype=policy, name="conv")(image)
    x = cls(momentum=0.5, dtype=policy, name="bn")(x)
    model = keras.Model(image, keras.layers.Conv2D(1, 1, dtype="float32", name="out")(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1.0, weight.shape) for weight in model.get_weights()])
    return model


@only_tensorflow
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_training_steps_are_those_of_keras(jit_compile, policy):
    images, targets = maps((2, 8, 8, 1)), maps((2, 8, 8, 1), seed=1)
    results = []
    for cls in CLASSES:
        model = network(cls, policy)
        start = model.get_layer("bn").get_weights()
        model.compile(keras.optimizers.SGD(1e-2), "mse", jit_compile=jit_compile)
        losses = [float(model.train_on_batch(images, targets)) for _ in range(3)]
        results.append([np.array(losses), *model.get_weights(), model.predict_on_batch(images)])
        assert losses[-1] < losses[0]
        assert all(not np.array_equal(a, b) for a, b in zip(start, model.get_layer("bn").get_weights()))
    assert_close(*results, 1e-4 if policy == "float32" else 2e-2)


@only_tensorflow
def test_fused_kernel_is_in_the_graph():
    layer = built(BatchNormalization)
    graph = tf.function(lambda x: layer(x, training=True)).get_concrete_function(tf.TensorSpec((None, None, None, 4)))
    assert "FusedBatchNormV3" in {operation.type for operation in graph.graph.get_operations()}


# Where Keras's own call serves


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((6, 4), {}),
        ((3, 6, 4), {}),
        ((2, 3, 3, 2, 2, 4), {}),
        ((3, 4, 4, 4), {"axis": 1}),
        ((2, 4, 3, 2, 4), {"axis": 1}),
        (SHAPE, {"epsilon": 1e-6}),
        (SHAPE, {"dtype": "float64"}),
    ],
    ids=str,
)
def test_falls_back(shape, arguments, training, fused_calls):
    results = []
    for cls in CLASSES:
        layer = built(cls, rank=len(shape), **arguments)
        outputs = layer(maps(shape), training=training)
        results.append([np.asarray(outputs), *layer.get_weights()])
    assert fused_calls == []
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_falls_back_for_a_mask(fused_calls):
    mask = np.arange(90).reshape(3, 6, 5) % 2 == 0
    results = []
    for cls in CLASSES:
        layer = built(cls)
        results.append([np.asarray(layer(maps(), training=True, mask=mask)), *layer.get_weights()])
    assert fused_calls == []
    assert_close(*results, 0)


@only_tensorflow
def test_falls_back_where_devices_are_synchronised(fused_calls):
    layer = built(BatchNormalization, synchronized=True)
    assert np.isfinite(layer(maps(), training=True)).all()
    assert fused_calls == []


@only_tensorflow
def test_inference_on_a_gpu_is_the_plain_formula(monkeypatch):
    """Its fused gradient raises there under deterministic kernels; a GPU is made believe, the numbers stay."""
    expected = sweep(built(BatchNormalization), maps(), False)
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    layer = built(BatchNormalization)
    graph = tf.function(lambda x: layer(x, training=False)).get_concrete_function(tf.TensorSpec(SHAPE))
    assert "FusedBatchNormV3" not in {operation.type for operation in graph.graph.get_operations()}
    assert_close(sweep(layer, maps(), False), expected)


# Files


def test_keras_file_round_trip(tmp_path):
    model = network(BatchNormalization)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("bn")) is BatchNormalization
    np.testing.assert_array_equal(loaded(maps((2, 8, 8, 1))), model(maps((2, 8, 8, 1))))


@pytest.mark.parametrize("writer", CLASSES)
@pytest.mark.parametrize("reader", CLASSES)
def test_weights_files_serve_both_classes(writer, reader, tmp_path):
    model = network(writer)
    model.save_weights(tmp_path / "whole.weights.h5")
    loaded = network(reader)
    loaded.set_weights([0 * weight for weight in loaded.get_weights()])
    loaded.load_weights(tmp_path / "whole.weights.h5")
    for ours, theirs in zip(loaded.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_files_of_unnamed_layers_have_the_same_paths(tmp_path):
    found = []
    for cls in CLASSES:
        keras.backend.clear_session()
        model = keras.Sequential([keras.Input((4, 4, 2)), cls(), cls()])
        assert [layer.name for layer in model.layers] == ["batch_normalization", "batch_normalization_1"]
        model.save_weights(tmp_path / "model.weights.h5")
        with h5py.File(tmp_path / "model.weights.h5") as file:
            found.append([])
            file.visit(found[-1].append)
    assert found[0] == found[1]
    assert "layers/batch_normalization_1/vars/3" in found[0]


# JAX


def test_jax_falls_back_and_gives_the_same_numbers(tmp_path):
    pytest.importorskip("jax")
    np.save(tmp_path / "maps.npy", maps())
    code = """
import sys
import keras, numpy as np
from hcreg import backend
from hcreg.layers import BatchNormalization
assert keras.backend.backend() == "jax"
folder = sys.argv[1]
layer = BatchNormalization(momentum=0.5)
outputs = layer(np.load(f"{folder}/maps.npy"), training=True)
np.savez(f"{folder}/jax.npz", outputs=outputs, mean=layer.moving_mean.value, variance=layer.moving_variance.value)
try:
    backend.fused_batch_normalization(None, None, None, None, None, 1e-3, True)
except RuntimeError as error:
    print(error)
"""
    finished = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(hcreg.__file__).parent.parent,
        check=True,
        timeout=600,
        stdout=subprocess.PIPE,
        text=True,
    )
    expected = "The fused kernel is TensorFlow's. Received: the backend 'jax'. Use keras.ops.batch_normalization."
    assert expected in finished.stdout
    layer = BatchNormalization(momentum=0.5)
    outputs = layer(maps(), training=True)
    with np.load(tmp_path / "jax.npz") as jax:
        ours = [np.asarray(value) for value in (outputs, layer.moving_mean, layer.moving_variance)]
        assert_close(ours, [jax[name] for name in ("outputs", "mean", "variance")])


def test_examples():
    result = doctest.testmod(module)
    assert (result.failed, result.attempted) == (0, 3)
