"""The relative error of a length: by hand, by a metric of its own, its gradient, and what it refuses."""

import keras
import numpy as np
import pytest

from hcreg import backend, metrics
from hcreg.losses import RelativeError

Y_TRUE = np.array([[100.0], [200.0], [50.0]], "float32")
Y_PRED = np.array([[103.0], [198.0], [50.0]], "float32")


def value(*arguments, **options):
    return float(np.asarray(RelativeError(**options)(*arguments)))


def small_regressor():
    keras.utils.set_random_seed(1)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(1)])


def test_by_hand():
    assert value(Y_TRUE, Y_PRED) == pytest.approx((0.03 + 0.01 + 0.0) / 3)
    np.testing.assert_allclose(np.asarray(RelativeError(reduction=None)(Y_TRUE, Y_PRED)), [0.03, 0.01, 0], rtol=1e-5)


def test_it_is_the_percentage_error_over_100():
    percent = metrics.percentage_mean_absolute_error(Y_TRUE.ravel(), Y_PRED.ravel())
    assert value(Y_TRUE, Y_PRED) == pytest.approx(percent / 100, rel=1e-5)


def test_the_unit_does_not_matter():
    assert value(Y_TRUE / 800, Y_PRED / 800) == pytest.approx(value(Y_TRUE, Y_PRED), rel=1e-5)


def test_several_units_are_averaged_and_images_weighted():
    pairs = np.array([[1.0, 2.0], [4.0, 4.0]]), np.array([[1.5, 2.0], [4.0, 5.0]])
    assert value(*pairs) == pytest.approx((0.25 + 0.125) / 2)
    assert value(*pairs, np.array([0.0, 2.0])) == pytest.approx(0.125)


def test_one_axis_against_two_is_compared_number_by_number():
    expected = value(Y_TRUE, Y_PRED)
    assert value(Y_TRUE[:, 0], Y_PRED) == pytest.approx(expected)
    assert value(Y_TRUE, Y_PRED[:, 0]) == pytest.approx(expected)
    assert value(Y_TRUE[:, 0], Y_PRED[:, 0]) == pytest.approx(expected)


def test_gradient_is_the_sign_over_the_truth():
    # of the mean of three: -1 / (3 * y) or 1 / (3 * y), zero where they agree
    product = np.asarray(backend.gradient(lambda p: RelativeError()(Y_TRUE, p), Y_PRED)).ravel()
    np.testing.assert_allclose(product, [1 / 300, -1 / 600, 0.0], rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_computed_in_float32(dtype):
    y_true, y_pred = np.array([[60000.0]]), keras.ops.cast([[59392.0]], dtype)  # held exactly by both
    assert value(y_true, y_pred) == pytest.approx(608 / 60000, rel=1e-4)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_training_with_xla(policy):
    x = np.random.default_rng(0).uniform(size=(8, 3)).astype("float32")
    y = (0.3 + 0.1 * x.sum(1)).astype("float32")  # of shape (8,), against outputs of shape (8, 1)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = small_regressor()
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.Adam(0.01), RelativeError(), jit_compile=True)
    history = model.fit(x, y, epochs=30, verbose=0).history["loss"]
    assert np.all(np.isfinite(history))
    assert history[-1] < 0.7 * history[0]


def test_keras_file_keeps_the_loss(tmp_path):
    model = small_regressor()
    model.compile("sgd", RelativeError(reduction="sum", name="mine"))
    model.save(tmp_path / "model.keras")
    loss = keras.saving.load_model(tmp_path / "model.keras").loss
    assert isinstance(loss, RelativeError)
    assert loss.get_config() == {"reduction": "sum", "name": "mine", "dtype": "float32"}


def test_other_shapes_are_refused():
    message = r"expects `y_true` and `y_pred` of one shape \(batch, units\)\. Received: "
    with pytest.raises(ValueError, match=message + r"\(3, 1\) and \(3, 2\)\. Bring the truth to the size"):
        RelativeError()(Y_TRUE, np.ones((3, 2)))
    with pytest.raises(ValueError, match=message + r"\(3, 1\) and \(2, 1\)\. "):
        RelativeError()(Y_TRUE, Y_PRED[:2])
    with pytest.raises(ValueError, match=message + r"\(2, 3, 1\) and \(2, 3, 1\)\. Bring both to that number of axes"):
        RelativeError()(np.ones((2, 3, 1)), np.ones((2, 3, 1)))


@pytest.mark.parametrize("wrong", [0.0, -5.0, np.nan])
def test_a_true_value_that_is_not_positive_is_refused_in_an_eager_call(wrong):
    with pytest.raises(ValueError, match=rf"must be positive\. Received: a smallest `y_true` of {wrong:g}\. Remove"):
        RelativeError()(np.array([[1.0], [wrong]]), np.ones((2, 1)))


def test_a_true_value_that_is_not_positive_gives_nan_and_no_step_in_fit():
    model = small_regressor()
    model.compile("sgd", RelativeError())
    weights = model.get_weights()
    assert np.isnan(model.fit(np.ones((2, 3)), np.zeros((2, 1)), verbose=0).history["loss"]).all()
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))
