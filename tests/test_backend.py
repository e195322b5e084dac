"""Gradients, compilation, seeds and devices; the same facts are proven on JAX in a process of its own."""

import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from hcreg import backend

ROOT = Path(backend.__file__).parent.parent
ON_TENSORFLOW = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"


def small_model():
    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((5, 5, 1)),
            keras.layers.Conv2D(3, 3, activation="tanh"),
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softplus"),
        ]
    )


def finite_differences(model, images, cotangent, step=1e-2):
    """Central differences of the weighted outputs: every image with one pixel moved, all in one batch."""
    moves = step * np.eye(images[0].size, dtype="float32").reshape(-1, *images[0].shape)
    rows = []
    for image, weights in zip(images, cotangent):
        above, below = (model.predict(image + sign * moves, verbose=0, batch_size=256) for sign in (1, -1))
        rows.append(((above - below) @ weights / (2 * step)).reshape(image.shape))
    return np.stack(rows)


def test_name_is_that_of_keras():
    assert backend.name() == os.environ.get("KERAS_BACKEND", "tensorflow") == keras.backend.backend()


def test_value_and_gradient_by_hand():
    # f = x0^2 x1 : value 12 at (2, 3), gradient (2 x0 x1, x0^2) = (12, 4)
    value, product = backend.value_and_vjp(lambda x: x[0] ** 2 * x[1], np.array([2.0, 3.0], "float32"))
    assert float(np.asarray(value)) == 12.0
    assert np.asarray(product).tolist() == [12.0, 4.0]


def test_cotangent_weighs_the_rows_of_the_jacobian_by_hand():
    # f = (x0 + 2 x1, x0 x1) at (3, 5): Jacobian rows (1, 2) and (5, 3); 10 x first - 1 x second = (5, 17)
    def function(x):
        return keras.ops.stack([x[0] + 2 * x[1], x[0] * x[1]])

    value, product = backend.value_and_vjp(function, np.array([3.0, 5.0], "float32"), [10.0, -1.0])
    assert np.asarray(value).tolist() == [13.0, 15.0]
    assert np.asarray(product).tolist() == [5.0, 17.0]


def test_gradient_of_a_model_agrees_with_finite_differences():
    model = small_model()
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 1)).astype("float32")
    cotangent = np.array([[1.0, -2.0], [0.5, 3.0]], "float32")

    def function(images):
        return model(images, training=False)

    value, product = backend.value_and_vjp(function, x, cotangent)
    np.testing.assert_allclose(np.asarray(value), model.predict(x, verbose=0), atol=1e-5)
    np.testing.assert_allclose(np.asarray(product), finite_differences(model, x, cotangent), atol=2e-3)
    assert np.abs(np.asarray(product)).max() > 0.05  # so that the tolerance above means something


def test_gradient_of_a_batch_is_each_images_own():
    model = small_model()
    x = np.random.default_rng(1).normal(size=(3, 5, 5, 1)).astype("float32")
    together = np.asarray(backend.gradient(lambda images: model(images, training=False), x))
    apart = [np.asarray(backend.gradient(lambda images: model(images, training=False), x[i : i + 1])) for i in range(3)]
    np.testing.assert_allclose(together, np.concatenate(apart), atol=1e-6)


def test_gradient_is_zero_where_the_value_does_not_depend_on_the_input():
    product = backend.gradient(lambda x: keras.ops.ones((2,)), np.ones((3, 2), "float32"))
    assert np.array_equal(np.asarray(product), np.zeros((3, 2)))


def test_gradient_of_whole_numbers_is_refused():
    with pytest.raises(ValueError, match=r"needs floating-point input\. Received: .*int.*Cast it to float32"):
        backend.gradient(lambda x: x * 2, np.array([1, 2]))


def test_a_cotangent_of_another_shape_is_refused_not_broadcast():
    with pytest.raises(ValueError, match=r"shape of the function's value, \(3,\)\. Received: \(1,\)"):
        backend.value_and_vjp(lambda x: x * 2, np.ones(3, "float32"), np.ones(1, "float32"))


def test_vjp_carries_cotangents_to_each_input_by_hand():
    # a b at a = (2, 3), b = (5, 7): with cotangent (1, 10) the products are b c = (5, 70) and a c = (2, 30)
    a, b = keras.ops.array([2.0, 3.0]), keras.ops.array([5.0, 7.0])
    value, pull_back = backend.vjp(lambda a, b: a * b, a, b)
    assert np.asarray(value).tolist() == [10.0, 21.0]
    products = pull_back(keras.ops.array([1.0, 10.0]))
    assert [np.asarray(product).tolist() for product in products] == [[5.0, 70.0], [2.0, 30.0]]


def test_vjp_of_one_tensor_in_two_places_tells_them_apart():
    # 2 a + 3 b with a and b the same tensor: 2 and 3, not 5 and 5
    a = keras.ops.array([1.0])
    _, pull_back = backend.vjp(lambda a, b: 2 * a + 3 * b, a, a)
    assert [float(np.asarray(product)[0]) for product in pull_back(keras.ops.ones((1,)))] == [2.0, 3.0]


def test_vjp_gives_zeros_of_the_inputs_shape_where_nothing_depends_on_it():
    a, b = keras.ops.ones((2, 3)), keras.ops.ones((4,))
    value, pull_back = backend.vjp(lambda a, b: keras.ops.sum(a, axis=1), a, b)
    first, second = (np.asarray(product) for product in pull_back(keras.ops.ones_like(value)))
    assert np.array_equal(first, np.ones((2, 3)))
    assert np.array_equal(second, np.zeros(4))


def test_vjp_of_a_broadcast_sum_comes_back_in_the_shape_of_the_input():
    _, pull_back = backend.vjp(lambda a, b: a + b, keras.ops.ones((2, 3)), keras.ops.ones((1, 3)))
    products = pull_back(keras.ops.ones((2, 3)))
    assert [np.asarray(product).tolist() for product in products] == [[[1.0] * 3] * 2, [[2.0] * 3]]


def test_vjp_can_be_pulled_back_repeatedly():
    _, pull_back = backend.vjp(lambda a: a * a, keras.ops.array([2.0, 5.0]), repeated=True)
    found = [np.asarray(pull_back(keras.ops.array(seed))[0]).tolist() for seed in ([1.0, 0.0], [0.0, 1.0], [1.0, 1.0])]
    assert found == [[4.0, 0.0], [0.0, 10.0], [4.0, 10.0]]


def test_the_derivative_can_be_differentiated():
    # The derivative of x^3 is 3 x^2, and that of it 6 x.
    def derivative(x):
        value, pull_back = backend.vjp(lambda a: a**3, x, repeated=True)
        return pull_back(keras.ops.ones_like(value))[0]

    value, product = backend.value_and_vjp(derivative, np.array([1.0, -2.0], "float32"))
    assert np.asarray(value).tolist() == [3.0, 12.0]
    assert np.asarray(product).tolist() == [6.0, -12.0]


def test_variables_that_the_function_changes_change_once():
    count = keras.Variable(np.float32(1.0), trainable=False)
    weight = keras.Variable(np.float32(3.0))

    def function(a):
        count.assign(2 * count + 1)
        return a * weight * count

    value, pull_back = backend.vjp(function, keras.ops.array([2.0]), variables=[weight, count], repeated=True)
    assert np.asarray(value).tolist() == [18.0]
    assert [np.asarray(pull_back(keras.ops.array([seed]))[0]).tolist() for seed in (1.0, 2.0)] == [[9.0], [18.0]]
    assert float(np.asarray(count.value)) == 3.0
    assert float(np.asarray(weight.value)) == 3.0


def test_held_numbers_are_constants_of_the_inner_derivative_alone():
    # Of a^2 with one factor held the derivative is a, and the derivative of that, for which nothing is held, 1.
    def both(a):
        value, pull_back = backend.vjp(lambda x: x * backend.held(x * x) / backend.held(x), a)
        return keras.ops.stack([value, pull_back(keras.ops.ones_like(value))[0]])

    a = np.array([3.0], "float32")
    value, product = backend.value_and_vjp(both, a, [[1.0], [0.0]])
    assert np.asarray(value)[:, 0].tolist() == [9.0, 3.0]
    np.testing.assert_allclose(np.asarray(product), [6.0], rtol=1e-6)  # the whole derivative of a^2
    _, product = backend.value_and_vjp(both, a, [[0.0], [1.0]])
    np.testing.assert_allclose(np.asarray(product), [1.0], rtol=1e-6)


def test_outside_a_vjp_nothing_is_held():
    _, product = backend.value_and_vjp(lambda a: a * backend.held(a), np.array([3.0], "float32"))
    assert np.asarray(product).tolist() == [6.0]


def test_vjp_agrees_with_value_and_vjp_and_can_be_compiled():
    model = small_model()
    x = np.random.default_rng(4).normal(size=(2, 5, 5, 1)).astype("float32")
    cotangent = np.array([[1.0, -2.0], [0.5, 3.0]], "float32")

    def function(images):
        value, pull_back = backend.vjp(lambda inputs: model(inputs, training=False), images)
        return value, pull_back(keras.ops.convert_to_tensor(cotangent))[0]

    expected = backend.value_and_vjp(lambda images: model(images, training=False), x, cotangent)
    for found in (function(keras.ops.convert_to_tensor(x)), backend.compile_function(function)(x)):
        for ours, plain in zip(found, expected):
            np.testing.assert_allclose(np.asarray(ours), np.asarray(plain), rtol=1e-5, atol=1e-6)


def test_compiled_function_reads_the_variables_it_is_told_of_anew():
    weight, factor = keras.Variable(np.array([1.0, 2.0])), keras.Variable(3.0)
    compiled = backend.compile_function(lambda x: x * weight * factor, variables=[weight, factor])
    x = np.ones(2, "float32")
    assert np.asarray(compiled(x)).tolist() == [3.0, 6.0]
    weight.assign(np.array([5.0, -1.0]))
    assert np.asarray(compiled(x)).tolist() == [15.0, -3.0]
    factor.assign(1.0)
    assert np.asarray(compiled(x)).tolist() == [5.0, -1.0]
    assert np.asarray(weight.value).tolist() == [5.0, -1.0]  # left as they were


def test_compiled_function_of_a_model_follows_its_weights():
    model = small_model()
    x = np.random.default_rng(5).normal(size=(2, 5, 5, 1)).astype("float32")
    compiled = backend.compile_function(
        lambda images: backend.gradient(lambda inputs: model(inputs, training=False), images), variables=model.variables
    )
    before = np.asarray(compiled(x))
    model.set_weights([1.5 * weights for weights in model.get_weights()])
    after = np.asarray(compiled(x))
    expected = np.asarray(backend.gradient(lambda images: model(images, training=False), x))
    np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(after - before).max() > 0.01 * np.abs(before).max()


@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_compiled_function_gives_the_same_numbers(jit_compile):
    model = small_model()
    x = np.random.default_rng(2).normal(size=(2, 5, 5, 1)).astype("float32")

    def function(images):
        value, product = backend.value_and_vjp(lambda inputs: model(inputs, training=False), images)
        return value, product

    compiled = backend.compile_function(function, jit_compile=jit_compile)
    for images in (x, x[:1]):  # a second shape is compiled anew
        for ours, plain in zip(compiled(keras.ops.convert_to_tensor(images)), function(images)):
            np.testing.assert_allclose(np.asarray(ours), np.asarray(plain), rtol=1e-5, atol=1e-6)


def test_compiled_function_runs_its_python_once_a_shape():
    calls = []

    def function(x):
        calls.append(x)
        return x * 2

    compiled = backend.compile_function(function)
    for _ in range(3):
        compiled(keras.ops.ones((4,)))
    assert len(calls) == 1


def draws():
    layer = keras.layers.Dense(3)
    layer.build((None, 4))
    dropped = keras.layers.Dropout(0.5)(np.ones((5, 5), "float32"), training=True)
    legacy = np.random.rand()  # noqa: NPY002 - the global generator is what is seeded
    return [random.random(), legacy, *np.asarray(layer.kernel).ravel(), *np.asarray(dropped).ravel()]


def test_one_seed_gives_equal_draws_and_another_gives_others():
    backend.seed_everything(3)
    first = draws()
    backend.seed_everything(np.int64(3))
    assert draws() == first
    backend.seed_everything(4)
    assert draws() != first


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, True, None, "1"])
def test_a_seed_out_of_range_is_refused(seed):
    with pytest.raises(ValueError, match=r"integer from 0 to 4294967295\. Received: "):
        backend.seed_everything(seed)


def test_device_report_says_what_computes():
    report = backend.device_report()
    assert set(report) == {
        "backend",
        "backend_version",
        "keras_version",
        "python_version",
        "platform",
        "cpu_count",
        "accelerators",
    }
    assert report["backend"] == backend.name()
    assert report["keras_version"] == keras.__version__
    assert report["backend_version"][0].isdigit()
    assert report["cpu_count"] >= 1
    assert isinstance(report["accelerators"], list)


@pytest.fixture
def devices(monkeypatch):
    """Make the backend believe in devices: ``devices("CPU", "GPU")``."""

    def believe(*kinds):
        if backend.name() == "tensorflow":
            found = [SimpleNamespace(name=f"/physical_device:{kind}:0", device_type=kind) for kind in kinds]
            monkeypatch.setattr(backend.tf.config, "get_visible_devices", lambda: found)
        else:
            monkeypatch.setattr(backend.jax, "devices", lambda: [Device(kind.lower()) for kind in kinds])

    class Device(SimpleNamespace):
        def __init__(self, platform):
            super().__init__(platform=platform)

        def __str__(self):
            return f"{self.platform}:0"

    return believe


@pytest.mark.parametrize(("kinds", "number"), [(["CPU"], 0), (["CPU", "GPU", "GPU"], 2), (["CPU", "TPU"], 1)])
def test_an_accelerator_is_what_the_report_names(kinds, number, devices):
    devices(*kinds)
    assert backend.has_accelerator() is (number > 0)
    named = backend.device_report()["accelerators"]
    assert len(named) == number
    assert all(kind in name.upper() for kind, name in zip(kinds[1:], named, strict=True))


@pytest.mark.skipif(backend.name() != "tensorflow", reason="JAX always compiles by XLA")
@pytest.mark.parametrize("kinds", [["CPU"], ["CPU", "GPU"]])
def test_xla_compiles_where_there_is_an_accelerator(kinds, devices, monkeypatch):
    devices(*kinds)
    options = []
    monkeypatch.setattr(
        backend.tf, "function", lambda function, **given: options.append(given["jit_compile"]) or function
    )
    for asked in (None, True, False):
        backend.compile_function(lambda x: x, jit_compile=asked)
    assert options == [len(kinds) > 1, True, False]


PEAK_MEMORY = """
import numpy as np
from hcreg import backend

print(backend.peak_memory_mb())
large = np.ones(100 * 2**17)  # 100 MiB
print(backend.peak_memory_mb())
del large
print(backend.peak_memory_mb())
"""


def test_peak_memory_grows_by_what_is_allocated_and_stays():
    command = [sys.executable, "-c", PEAK_MEMORY]
    held = np.ones(2 * 2**30 // 8)  # 2 GiB here, which the other process must not count as its own
    before, after, later = map(float, subprocess.check_output(command, text=True, cwd=ROOT).split())
    assert held[-1] == 1
    assert 50 < before < 1800  # an interpreter with a deep-learning framework in it
    assert 95 < after - before < 110
    assert later == pytest.approx(after, rel=0.01)


@pytest.mark.skipif(not ON_TENSORFLOW, reason="started by this very test")
def test_everything_above_and_the_resume_of_training_hold_on_jax():
    pytest.importorskip("jax", reason="JAX is not installed; `pip install hcreg[jax]` brings it")
    resume = Path(__file__).with_name("test_training.py")
    tests = [__file__, f"{resume}::test_interrupted_resume_is_exact_and_silent"]
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "4 skipped" in answer.stdout  # the two that start a process and the two of XLA by choice, and no other


@pytest.mark.skipif(not ON_TENSORFLOW, reason="once is enough")
def test_another_backend_is_refused_by_words():
    answer = subprocess.run(
        [sys.executable, "-c", "import hcreg.backend"],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert answer.returncode == 1
    assert (
        "hcreg runs on the Keras backends tensorflow and jax. Received: 'numpy'. Set the environment" in answer.stderr
    )
