"""The heatmap loss: each term worked by hand from a hand-made prediction, in `fit` too, and never NaN."""

import doctest

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

import hcreg.losses.heatmap as module
from hcreg import backend
from hcreg.attention import CHANNELS
from hcreg.losses import Heatmap, RelativeError
from hcreg.losses.heatmap import FORMS

LOG3 = float(np.log(3.0))


def prediction(**channels):
    """A prediction of (images, classes) for each channel named; zeros elsewhere."""
    shape = np.shape(next(iter(channels.values())))
    predictions = np.zeros((*shape, len(CHANNELS)), "float32")
    predictions[..., CHANNELS.index("step")] = 100.0
    for name, values in channels.items():
        predictions[..., CHANNELS.index(name)] = values
    return predictions


def losses(y_true, y_pred, **options):
    """The loss of each image."""
    options = {"weight": 1.0, "classes": "true", "tied": False, "ramp_steps": 0, "reduction": None, **options}
    return np.asarray(Heatmap(**options)(np.asarray(y_true), y_pred))


# Scores log 3 and 0 are probabilities 3/4 and 1/4 of a softmax.
SCORES = np.array([[LOG3, 0.0], [0.0, LOG3]])
PREDICTION = prediction(
    logit=SCORES,
    outside=[[0.5, 1.0], [2.0, 4.0]],
    total=[[2.0, 2.0], [4.0, 5.0]],
    signed_outside=[[-0.5, 1.0], [2.0, 3.0]],
    signed_total=[[1.0, 1.0], [1.0, 1.0]],
    positive_outside=[[0.1, 0.2], [0.3, 0.4]],
    swapped_logit=np.add(SCORES, [[1.0, 3.0], [0.0, 0.0]]),
)


def test_cross_entropy_by_hand():
    np.testing.assert_allclose(losses([0, 0], PREDICTION, weight=0), [np.log(4 / 3), np.log(4)], rtol=1e-6)


def test_squared_error_of_probabilities_by_hand():
    # Softmax: 1/16 from each class, or 9/16. Sigmoid: 3/4 and 1/2.
    np.testing.assert_allclose(losses([0, 0], PREDICTION, data="mse", weight=0), [1 / 16, 9 / 16], rtol=1e-6)
    found = losses([0, 0], PREDICTION, data="mse", weight=0, probabilities="sigmoid")
    np.testing.assert_allclose(found, [(1 / 16 + 1 / 4) / 2, (1 / 4 + 9 / 16) / 2], rtol=1e-6)


def test_one_score_by_hand():
    predictions = prediction(logit=[[LOG3], [LOG3]], outside=[[1.0], [2.0]])
    np.testing.assert_allclose(losses([1, 0], predictions), [np.log(4 / 3) + 1, np.log(4) + 2], rtol=1e-6)
    np.testing.assert_allclose(losses([[1], [0]], predictions, data="mse"), [1 / 16 + 1, 9 / 16 + 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ("absolute", [0.5, 4.0]),
        ("share", [0.25, 0.8]),
        ("thesis", [0.1, 0.4]),
        ("signed", [-0.5, 3.0]),
        ("inside", [0.25, 0.8]),
    ],
)
def test_attention_terms_of_the_true_class_by_hand(attention, expected):
    plain = losses([0, 1], PREDICTION, weight=0)
    found = losses([0, 1], PREDICTION, attention=attention, weight=10)
    np.testing.assert_allclose(found - plain, 10 * np.array(expected), rtol=1e-5)


def test_a_required_share_inside_by_hand():
    # Inside are 3/4 and 1/5; of the half required nothing and 3/5 is missing.
    found = losses([0, 1], PREDICTION, attention="inside", required_share=0.5) - losses([0, 1], PREDICTION, weight=0)
    np.testing.assert_allclose(found, [0.0, 0.6], atol=1e-6)


def test_a_network_without_relevance_has_nothing_inside():
    predictions = prediction(logit=SCORES)
    plain = losses([0, 1], predictions, weight=0)
    np.testing.assert_allclose(losses([0, 1], predictions, attention="inside") - plain, 1.0, rtol=1e-6)
    for attention in set(FORMS) - {"inside"}:
        np.testing.assert_array_equal(losses([0, 1], predictions, attention=attention), plain)


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ("true", [1.0, 2.0]),
        ("predicted", [0.5, 4.0]),
        ("all", [0.75, 3.0]),
        ([1], [1.0, 4.0]),
        ((0, 1), [0.75, 3.0]),
        ([1, 1], [1.0, 4.0]),
    ],
)
def test_whose_maps_count(classes, expected):
    labels = [1, 0]
    found = losses(labels, PREDICTION, classes=classes) - losses(labels, PREDICTION, weight=0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_images_of_some_classes_alone_pay():
    plain = losses([0, 1], PREDICTION, weight=0)
    np.testing.assert_allclose(losses([0, 1], PREDICTION, image_classes=[1]) - plain, [0.0, 4.0], atol=1e-6)
    np.testing.assert_allclose(
        losses([0, 1], PREDICTION, image_classes=[1], classes="all") - plain, [0.0, 3.0], atol=1e-6
    )
    one_score = prediction(logit=[[LOG3], [LOG3]], outside=[[1.0], [2.0]])
    plain = losses([1, 0], one_score, weight=0)
    np.testing.assert_allclose(losses([1, 0], one_score, image_classes=[0]) - plain, [0.0, 2.0], atol=1e-6)
    np.testing.assert_allclose(losses([1, 0], one_score, image_classes=[1]) - plain, [1.0, 0.0], atol=1e-6)


def test_the_swap_term_by_hand():
    # Scores move by 1 and 3: a mean square of 5, and of 0.
    found = losses([0, 1], PREDICTION, weight=0, swap_weight=2) - losses([0, 1], PREDICTION, weight=0)
    np.testing.assert_allclose(found, [10.0, 0.0], rtol=1e-5)


def test_the_weight_grows_with_the_step():
    loss = Heatmap(weight=3.0, ramp_steps=200)
    assert np.asarray(loss.weight_at([0.0, 50.0, 200.0, 900.0])).tolist() == [0.0, 0.75, 3.0, 3.0]
    found = losses([0, 1], PREDICTION, weight=3, ramp_steps=200) - losses([0, 1], PREDICTION, weight=0)
    np.testing.assert_allclose(found, [0.75, 6.0], rtol=1e-5)  # step 100: half of three times 0.5 and 4
    assert float(Heatmap(ramp_steps=0).weight_at(0.0)) == 10.0
    assert Heatmap().ramp_steps == 500


@pytest.mark.parametrize(
    ("schedule", "at_100"),
    [
        (keras.optimizers.schedules.PiecewiseConstantDecay([50, 150], [1.0, 2.0, 3.0]), 2.0),
        (keras.optimizers.schedules.ExponentialDecay(8.0, 50, 0.5), 2.0),
        (keras.optimizers.schedules.CosineDecay(0.0, 100, warmup_target=4.0, warmup_steps=200), 2.0),
        (keras.optimizers.schedules.PolynomialDecay(4.0, 200, 0.0), 2.0),
    ],
)
def test_schedules_are_weights(schedule, at_100):
    plain = losses([0, 1], PREDICTION, weight=0)
    found = losses([0, 1], PREDICTION, weight=schedule) - plain
    np.testing.assert_allclose(found, at_100 * np.array([0.5, 4.0]), rtol=1e-5)
    found = losses([0, 1], PREDICTION, weight=schedule, ramp_steps=400) - plain
    np.testing.assert_allclose(found, at_100 / 4 * np.array([0.5, 4.0]), rtol=1e-5)


def test_a_tied_term_counts_as_far_as_the_data_loss_lies_below_that_of_guessing():
    data = losses([0, 1], PREDICTION, weight=0)
    free = losses([0, 1], PREDICTION) - data
    for tied in (2 * data.mean(), 4 * data.mean()):
        found = losses([0, 1], PREDICTION, tied=float(tied)) - data
        np.testing.assert_allclose(found, free * (1 - data.mean() / tied), rtol=1e-4)


def test_a_tied_term_leaves_a_network_that_guesses_alone():
    data = losses([1, 0], PREDICTION, weight=0)  # the wrong classes
    np.testing.assert_array_equal(losses([1, 0], PREDICTION, tied=float(np.log(2))), data)


@pytest.mark.parametrize(
    ("options", "guessing"),
    [({}, np.log(2)), ({"data": "mse"}, 0.25), ({"data": keras.losses.MeanAbsoluteError(), "tied": 5.0}, 5.0)],
)
def test_what_guessing_costs_is_known_for_classes(options, guessing):
    predictions = PREDICTION if "tied" not in options else PREDICTION[:, :1]
    labels = [0, 1] if "tied" not in options else [1.0, 0.0]
    data = losses(labels, predictions, **{**options, "weight": 0})
    free = losses(labels, predictions, **{**options, "tied": False}) - data
    found = losses(labels, predictions, **{"tied": True, **options}) - data
    np.testing.assert_allclose(found, free * (1 - data.mean() / guessing), rtol=1e-4)


def test_a_regression_is_not_tied_by_itself():
    options = {"data": keras.losses.MeanAbsoluteError()}
    free = losses([1.0, 0.0], PREDICTION[:, :1], **options)
    np.testing.assert_array_equal(losses([1.0, 0.0], PREDICTION[:, :1], tied=True, **options), free)


def test_the_tie_has_no_gradient():
    _, tied = backend.value_and_vjp(
        lambda x: Heatmap(ramp_steps=0, tied=10.0)(np.array([0, 1]), x), ops.convert_to_tensor(PREDICTION)
    )
    _, plain = backend.value_and_vjp(
        lambda x: Heatmap(ramp_steps=0, weight=0.0)(np.array([0, 1]), x), ops.convert_to_tensor(PREDICTION)
    )
    logit = CHANNELS.index("logit")
    np.testing.assert_allclose(np.asarray(tied)[..., logit], np.asarray(plain)[..., logit], rtol=1e-5)


def test_kinds_of_labels_agree():
    expected = losses([1, 0], PREDICTION, image_classes=[1])
    for labels in ([[1], [0]], [[0.0, 1.0], [1.0, 0.0]], np.array([1, 0], "uint8"), np.array([1.0, 0.0])):
        np.testing.assert_array_equal(losses(labels, PREDICTION, image_classes=[1]), expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (keras.losses.MeanAbsoluteError(), [1.0, 10.0]),
        (keras.losses.MeanSquaredError(), [1.0, 100.0]),
        (keras.losses.Huber(delta=2.0), [0.5, 18.0]),
        (RelativeError(), [0.25, 0.5]),
    ],
)
def test_regression_by_hand(data, expected):
    predictions = prediction(logit=[[5.0], [10.0]], outside=[[0.5], [3.0]], total=[[1.0], [4.0]])
    for labels in ([4.0, 20.0], [[4.0], [20.0]]):
        np.testing.assert_allclose(losses(labels, predictions, data=data), np.add(expected, [0.5, 3.0]), rtol=1e-5)
    found = losses([4.0, 20.0], predictions, data=data, attention="share", weight=2)
    np.testing.assert_allclose(found, np.add(expected, [1.0, 1.5]), rtol=1e-5)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 2], r"classes from 0 to 1\. Received: values from 0 to 2\. Number the classes from 0"),
        ([-1, 0], r"values from -1 to 0"),
        ([np.nan, 0.0], r"values from nan to nan"),
        (np.zeros((2, 3)), r"shape \(batch,\), or one-hot \(batch, 2\)\. Received: shape \(2, 3\)\."),
    ],
)
def test_labels_that_are_no_class_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        losses(labels, PREDICTION)


@pytest.mark.parametrize("label", [2, -1])
@pytest.mark.parametrize("data", ["cross_entropy", "mse"])
def test_in_a_graph_such_an_image_is_nan(label, data):
    loss = Heatmap(data=data, weight=1.0, classes="true", tied=False, ramp_steps=0, reduction=None)
    found = np.asarray(backend.compile_function(loss)(ops.array([0, label]), ops.convert_to_tensor(PREDICTION)))
    assert np.isnan(found).tolist() == [False, True]
    expected = losses([0, 1], PREDICTION, data=data)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "mae"}, r"data is one of 'cross_entropy', 'mse' or a keras\.losses\.Loss\. Received: 'mae'\."),
        ({"attention": "relu"}, r"one of 'absolute', 'share', 'thesis', 'signed', 'inside'\. Received: 'relu'"),
        ({"tied": 0.0}, r"tied is True, False, or the data loss of guessing, above 0\. Received: 0\.0\."),
        ({"classes": "false"}, r"classes is one of 'true', 'predicted', 'all'\. Received: 'false'\."),
        ({"probabilities": "tanh"}, r"probabilities is one of 'softmax', 'sigmoid'\. Received: 'tanh'\."),
        ({"weight": -1.0}, r"`weight` of heatmap is a finite number from 0 on\. Received: -1\."),
        ({"swap_weight": -2}, r"`swap_weight` of heatmap is a finite number from 0 on\. Received: -2\."),
        ({"ramp_steps": -3}, r"`ramp_steps` of heatmap is a finite number from 0 on\. Received: -3\."),
        ({"required_share": 0.0}, r"required_share lies in \(0, 1\]\. Received: 0\.0\."),
        ({"required_share": 1.5}, r"required_share lies in \(0, 1\]\. Received: 1\.5\."),
        (
            {"data": keras.losses.MeanAbsoluteError(), "image_classes": [1]},
            r"a regression have no classes\. Received: image_classes=\[1\].*mask of ones",
        ),
    ],
)
def test_choices_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Heatmap(**options)


@pytest.mark.parametrize("argument", ["classes", "image_classes"])
@pytest.mark.parametrize("numbers", [[2], [-1], []])
def test_class_numbers_are_checked(argument, numbers):
    with pytest.raises(ValueError, match=rf"`{argument}` names some of the classes 0 to 1\. Received: \["):
        losses([0, 1], PREDICTION, **{argument: numbers})


def test_the_output_of_the_plain_network_is_refused():
    with pytest.raises(ValueError, match=r"with_attention.*Received: shape \(2, 2\)\. Train with_attention"):
        Heatmap()(np.array([0, 1]), SCORES)


def test_configuration_makes_the_round_trip():
    schedule = keras.optimizers.schedules.ExponentialDecay(8.0, 50, 0.5)
    plain = {"attention": "share", "weight": 2.5, "ramp_steps": 7, "tied": 1.5, "swap_weight": 0.5}
    for options in (
        {**plain, "data": "mse", "probabilities": "sigmoid", "classes": np.array([1]), "image_classes": (0, 1)},
        {"weight": schedule, "attention": "inside", "required_share": 0.5, "reduction": "sum", "name": "other"},
        {"data": keras.losses.MeanSquaredError(), "weight": schedule, "dtype": "float32"},
        {"data": RelativeError()},
    ):
        loss = Heatmap(**options)
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert isinstance(again, Heatmap)
        assert again.get_config() == loss.get_config()
        regression = "data" in options and options["data"] != "mse"
        labels, predictions = np.array([1, 2] if regression else [0, 1]), PREDICTION
        predictions = predictions[:, :1] if regression else predictions
        assert float(again(labels, predictions)) == float(loss(labels, predictions)) != 0


def passing_on(shape):
    """A network that multiplies its input by one weight: its input is the prediction."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))


@pytest.mark.parametrize("one_hot", [False, True])
def test_sample_and_class_weights_weigh_all_terms_of_an_image(one_hot):
    options = {"ramp_steps": 0, "swap_weight": 0.5, "weight": 2.0, "classes": "all", "tied": False}
    each = losses([0, 1], PREDICTION, **options)
    y = np.eye(2)[[0, 1]] if one_hot else np.array([0, 1])
    model = passing_on((2, len(CHANNELS)))
    model.compile("sgd", loss=Heatmap(**options))
    for weights, factors in (
        ({}, [1, 1]),
        ({"sample_weight": np.array([3.0, 0.5])}, [3, 0.5]),
        ({"class_weight": {0: 0.25, 1: 2.0}}, [0.25, 2]),
    ):
        found = model.fit(PREDICTION, y, batch_size=2, verbose=0, **weights).history["loss"][0]
        assert found == pytest.approx((each * factors).mean(), rel=1e-5)


def test_images_with_a_mask_of_ones_pay_nothing():
    predictions = PREDICTION.copy()
    for name in ("outside", "signed_outside", "positive_outside"):
        predictions[0, :, CHANNELS.index(name)] = 0
    plain = losses([0, 1], predictions, weight=0)
    for attention in FORMS:
        found = losses([0, 1], predictions, attention=attention, weight=5)
        assert found[0] == pytest.approx(plain[0], rel=1e-6)
        assert found[1] > plain[1] + 1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(FORMS),
    st.sampled_from(["cross_entropy", "mse"]),
    st.sampled_from([False, True, 1.5]),
    st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e6]),
    st.integers(0, 10_000),
)
def test_loss_and_gradient_are_never_nan(attention, data, tied, scale, seed):
    rng = np.random.default_rng(seed)
    total = rng.random((3, 4)) * scale
    predictions = prediction(
        logit=rng.normal(size=(3, 4)) * 10 ** rng.uniform(-3, 3),
        outside=total * rng.random((3, 4)),
        total=total,
        signed_outside=total * rng.uniform(-1, 1, (3, 4)),
        positive_outside=rng.random((3, 4)) * (scale > 0),
    )
    loss = Heatmap(data=data, attention=attention, tied=tied, swap_weight=1.0, ramp_steps=10)
    value, gradient = backend.value_and_vjp(lambda x: loss(np.array([0, 1, 3]), x), ops.convert_to_tensor(predictions))
    assert np.isfinite(np.asarray(value))
    assert np.isfinite(np.asarray(gradient)).all()


def test_examples():
    assert doctest.testmod(module) == (0, 6)
