"""What segmentation networks end with: probabilities, one circumference, and the errors before anything is built."""

import math

import keras
import numpy as np
import pytest

from hcreg.geometry import Ellipse, resize_matrix
from hcreg.models.mask_output import check_multiple, check_output, mask_output, with_ellipse

FRAME = (540, 800)  # height and width of the reference frame, px


def output_of(features, classes=1, head="mask", activation="sigmoid"):
    """A 1x1 convolution that hands the features on as logits, and what follows it."""
    image = keras.Input(features.shape[1:])
    model = keras.Model(image, mask_output(image, classes, head, 1, activation))
    model.get_layer("mask_logits").set_weights([np.eye(features.shape[-1])[None, None, :, :classes], np.zeros(classes)])
    result = model(features)
    if isinstance(result, dict):
        return model, {name: keras.ops.convert_to_numpy(value) for name, value in result.items()}
    return model, keras.ops.convert_to_numpy(result)


def coverage(ellipse, shape, num_samples=8):
    """Share of each of the network's pixels inside an ellipse of the reference frame."""
    fine = tuple(size * num_samples for size in shape)
    mask = ellipse.transformed(resize_matrix(FRAME, fine)).mask(fine)
    return mask.reshape(shape[0], num_samples, shape[1], num_samples).mean(axis=(1, 3))


def arc_length(ellipse, num_points=100_000):
    """Circumference as the length of a polygon of many corners."""
    t = np.linspace(0, 2 * math.pi, num_points + 1)
    return float(
        np.hypot(np.diff(ellipse.semi_axis_a_px * np.cos(t)), np.diff(ellipse.semi_axis_b_px * np.sin(t))).sum()
    )


def logits_of(mask):
    inside = np.clip(mask, 1e-7, 1 - 1e-7)
    return np.log(inside / (1 - inside)).astype("float32")[None, ..., None]


# Masks


def test_sigmoid_is_of_each_class_by_itself():
    logits = np.array([[[[0.0, math.log(3), -math.log(4)]]]], "float32")  # odds of 1, 3 and 1/4
    np.testing.assert_allclose(output_of(logits, classes=3)[1], [[[[0.5, 0.75, 0.2]]]], rtol=1e-6)


def test_softmax_shares_one_among_the_classes():
    logits = np.array([[[[0.0, math.log(3), math.log(4)]]]], "float32")  # 1 : 3 : 4
    model, mask = output_of(logits, classes=3, activation="softmax")
    np.testing.assert_allclose(mask, [[[[0.125, 0.375, 0.5]]]], rtol=1e-6)
    assert model.output_names == ["mask"]


def test_logits_can_be_tapped():
    logits = np.array([[[[-3.0], [50.0]]]], "float32")
    model, _ = output_of(logits)
    tap = keras.Model(model.input, model.get_layer("mask_logits").output)
    np.testing.assert_array_equal(tap(logits), logits)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mask_is_float32_under_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model, output = output_of(logits_of(np.full((16, 32), 0.99)), head="ellipse")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("mask_logits").compute_dtype == policy.removeprefix("mixed_")
    assert output["mask"].dtype == output["hc_fraction"].dtype == "float32"
    logit = float(keras.ops.cast(keras.ops.cast(math.log(99), policy.removeprefix("mixed_")), "float32"))
    np.testing.assert_allclose(output["mask"], 1 / (1 + math.exp(-logit)), rtol=1e-6)  # 16 bits would give 0.988


# Circumference


def test_disc_of_100_reference_px():
    """2 pi 100 / 800 = 0.7854, in a network's frame whose pixels are not square."""
    mask = coverage(Ellipse(400.0, 270.0, 100.0, 100.0, 0.0), (96, 96))
    output = output_of(logits_of(mask), head="ellipse")[1]
    assert output["hc_fraction"].shape == (1, 1)
    assert output["hc_fraction"][0, 0] == pytest.approx(0.7854, rel=2e-3)


@pytest.mark.parametrize("shape", [(128, 192), (224, 224), (96, 64)], ids=str)
@pytest.mark.parametrize(
    "ellipse",
    [
        Ellipse(400.0, 270.0, 240.0, 180.0, 0.0),
        Ellipse(330.5, 250.2, 220.0, 150.0, math.radians(40)),
        Ellipse(500.0, 300.0, 150.0, 110.0, math.radians(120)),
    ],
    ids=["axes", "40 degrees", "small, 120 degrees"],
)
def test_circumference_is_the_ellipses_over_the_frames_width(ellipse, shape):
    output = output_of(logits_of(coverage(ellipse, shape)), head="ellipse")[1]
    assert output["hc_fraction"][0, 0] == pytest.approx(arc_length(ellipse) / 800, rel=2e-3)
    assert arc_length(ellipse) / 800 == pytest.approx(ellipse.circumference_px / 800, rel=1e-4)


def test_a_faint_background_hardly_lengthens_a_small_head():
    """0.01 everywhere: 37 % without the sharpening, well below 1 % with it."""
    ellipse = Ellipse(400.0, 270.0, 125.0, 100.0, 0.3)
    mask = np.maximum(coverage(ellipse, (96, 128)), 0.01)
    output = output_of(logits_of(mask), head="ellipse")[1]
    assert output["hc_fraction"][0, 0] == pytest.approx(arc_length(ellipse) / 800, rel=1e-2)


def test_an_empty_mask_has_a_finite_circumference():
    output = output_of(logits_of(np.zeros((32, 32))), head="ellipse")[1]
    assert np.isfinite(output["hc_fraction"]).all()


def test_outputs_go_by_name():
    model, output = output_of(np.zeros((2, 16, 32, 1), "float32"), head="ellipse")
    assert [layer.name for layer in model.layers[1:]] == ["mask_logits", "mask", "ellipse", "hc_fraction"]
    assert {name: value.shape for name, value in output.items()} == {"mask": (2, 16, 32, 1), "hc_fraction": (2, 1)}


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"classes": 0}, r"net needs a whole number of classes, 1 or more\. Received: 0\."),
        ({"classes": True}, r"net needs a whole number of classes, 1 or more\. Received: True\."),
        ({"classes": 1.0}, r"net needs a whole number of classes, 1 or more\. Received: 1\.0\."),
        ({"head": "hc"}, r'ends with head="mask" or head="ellipse"\. Received: \'hc\'\.'),
        (
            {"activation": "linear"},
            r'"sigmoid", .* or "softmax", .*\'linear\'\. .*get_layer\("mask_logits"\)',
        ),
        ({"activation": "softmax"}, r"a single class is 1 everywhere\. Received: classes=1\. Pass classes=2 or more"),
        ({"head": "ellipse", "classes": 3}, r'head="ellipse" measures one mask, .*Received: classes=3\.'),
        (
            {"head": "ellipse", "shape": (None, 64, 1)},
            r"fixed height and width: .*input_shape=\(None, 64, 1\)",
        ),
        (
            {"head": "ellipse", "shape": (64, None, 1)},
            r"fixed height and width: .*input_shape=\(64, None, 1\)",
        ),
    ],
)
def test_unusable_outputs_are_refused(arguments, words):
    usual = {"shape": (64, 96, 1), "classes": 1, "head": "mask", "activation": "sigmoid", "name": "net"}
    check_output(**usual)
    with pytest.raises(ValueError, match=words):
        check_output(**{**usual, **arguments})


def test_a_mask_alone_may_vary_in_size():
    check_output((None, None, 1), 2, "mask", "softmax", "net")


@pytest.mark.parametrize(
    ("shape", "multiple", "words"),
    [
        ((100, 150, 1), 32, r"net halves its input 5 times: .*multiples of 32\. .*\(100, 150, 1\).* 96 x 160\."),
        ((224, 225, 3), 16, r"net halves its input 4 times: .*multiples of 16\. .*\(224, 225, 3\).* 224 x 224\."),
        ((5, None, 1), 32, r"nearest, 32 x None\."),
    ],
)
def test_sides_that_cannot_be_halved_are_refused_with_the_nearest(shape, multiple, words):
    with pytest.raises(ValueError, match=words):
        check_multiple(shape, multiple, "net")


@pytest.mark.parametrize("shape", [(32, 64, 1), (None, 96, 1), (None, None, 3)], ids=str)
def test_multiples_and_varying_sides_pass(shape):
    check_multiple(shape, 32, "net")


# A mask measured afterwards


def test_a_mask_measured_afterwards_has_the_circumference_of_the_ellipse_head():
    head = Ellipse(380.0, 260.0, 180.0, 130.0, 0.7)
    logits = logits_of(coverage(head, (96, 128)))
    plain, _ = output_of(logits)
    measured = with_ellipse(plain)
    assert with_ellipse(measured) is measured
    assert {id(weight) for weight in measured.weights} == {id(weight) for weight in plain.weights}
    found = measured(logits)
    expected = output_of(logits, head="ellipse")[1]
    np.testing.assert_allclose(found["hc_fraction"], expected["hc_fraction"], rtol=1e-6)
    np.testing.assert_allclose(found["mask"], expected["mask"], rtol=1e-6)
    assert float(found["hc_fraction"][0, 0]) * FRAME[1] == pytest.approx(arc_length(head), rel=3e-3)


@pytest.mark.parametrize("shape", [(8, 12, 2), (None, 12, 1)])
def test_only_one_mask_of_a_fixed_size_is_measured_afterwards(shape):
    image = keras.Input((*shape[:2], shape[2]))
    model = keras.Model(image, mask_output(image, shape[2], "mask", 1))
    with pytest.raises(ValueError, match=r"taken from one mask of a fixed size.*Received: the model .*gives \(None, "):
        with_ellipse(model)


def test_a_direct_regressor_has_no_mask_to_measure():
    image = keras.Input((4,))
    with pytest.raises(ValueError, match=r"output of a segmentation network with classes=1\. Received"):
        with_ellipse(keras.Model(image, keras.layers.Dense(1)(image)))
