"""HiResCAM and Grad-CAM against what is known of them, against NumPy, and their derivatives against differences."""

import doctest
import warnings

import keras
import numpy as np
import pytest
from keras import layers, ops

import hcreg.layers.cam as module
from hcreg import backend
from hcreg.analyzers import create_analyzer
from hcreg.layers import GradCAM, HiResCAM


@pytest.fixture(autouse=True)
def _seeds():
    keras.backend.clear_session()
    keras.utils.set_random_seed(7)


IMAGES = np.random.default_rng(1).normal(size=(3, 8, 8, 1)).astype("float32")


def network(*head, activation="relu", classes=3):
    """A convolution named "conv", and a head."""
    random = keras.initializers.RandomNormal(stddev=0.3)
    x = image = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, activation=activation, bias_initializer=random, name="conv")(x)
    for layer in head:
        x = layer(x)
    return keras.Model(image, layers.Dense(classes, bias_initializer=random, name="logits")(x))


def activations(model):
    return np.asarray(keras.Model(model.input, model.get_layer("conv").output)(IMAGES))


def tapped(cam, model, images=IMAGES, **options):
    return {name: np.asarray(value) for name, value in cam.tap(model, "conv", **options)(images).items()}


HEADS = {"flatten": layers.Flatten, "pooling": layers.GlobalAveragePooling2D}


@pytest.mark.parametrize("head", HEADS)
def test_behind_a_linear_head_a_map_sums_to_the_score_less_its_bias(head):
    model = network(HEADS[head]())
    found = tapped(HiResCAM, model)
    expected = np.asarray(model(IMAGES)) - np.asarray(model.get_layer("logits").bias)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(found["maps"].sum(axis=(1, 2)), expected, atol=1e-5)
    np.testing.assert_allclose(found["logits"], model(IMAGES), atol=1e-6)


def test_behind_pooling_and_a_linear_layer_it_is_the_cam():
    model = network(layers.GlobalAveragePooling2D())
    kernel = np.asarray(model.get_layer("logits").kernel)
    cam = activations(model) @ kernel / 36  # cells of 6 x 6
    np.testing.assert_allclose(tapped(HiResCAM, model)["maps"], cam, atol=1e-6)
    np.testing.assert_allclose(tapped(GradCAM, model)["maps"], np.maximum(cam, 0), atol=1e-6)
    np.testing.assert_allclose(tapped(HiResCAM, model, relu=True)["maps"], np.maximum(cam, 0), atol=1e-6)
    np.testing.assert_allclose(tapped(GradCAM, model, relu=False)["maps"], cam, atol=1e-6)


def test_two_dense_layers_by_numpy():
    model = network(layers.Flatten(), layers.Dense(5, activation="relu", name="hidden"))
    maps = activations(model)
    first, bias = (np.asarray(weight) for weight in model.get_layer("hidden").weights)
    second = np.asarray(model.get_layer("logits").kernel)
    active = maps.reshape(3, -1) @ first + bias > 0
    gradients = np.stack([(first * on) @ second for on in active]).reshape(*maps.shape, 3)
    by_hand = np.einsum("bhwf,bhwfc->bhwc", maps, gradients)
    np.testing.assert_allclose(tapped(HiResCAM, model)["maps"], by_hand, atol=1e-5)
    grad_cam = np.maximum(np.einsum("bhwf,bfc->bhwc", maps, gradients.mean(axis=(1, 2))), 0)
    np.testing.assert_allclose(tapped(GradCAM, model)["maps"], grad_cam, atol=1e-5)
    assert np.abs(grad_cam - np.maximum(by_hand, 0)).max() > 0.05  # the two differ where cells weigh unlike


def test_which_classes():
    model = network(layers.Flatten(), layers.Dense(5, activation="tanh"))
    everything = tapped(HiResCAM, model)["maps"]
    np.testing.assert_array_equal(tapped(HiResCAM, model, classes=[2, 0])["maps"], everything[..., [2, 0]])
    predicted = np.asarray(model(IMAGES)).argmax(axis=-1)
    found = tapped(HiResCAM, model, classes="predicted")["maps"]
    np.testing.assert_allclose(found[..., 0], [everything[i, ..., k] for i, k in enumerate(predicted)], atol=1e-6)
    labels = np.array([2, 0, 1])
    tap = HiResCAM.tap(model, "conv", classes="true")
    found = np.asarray(tap({"image": IMAGES, "label": labels})["maps"])
    np.testing.assert_allclose(found[..., 0], [everything[i, ..., k] for i, k in enumerate(labels)], atol=1e-6)
    assert tap.output["maps"].shape == (None, 6, 6, 1)


def test_an_images_map_is_its_own():
    model = network(layers.Flatten(), layers.Dense(5, activation="tanh"))
    together = tapped(HiResCAM, model)["maps"]
    for number in range(3):
        alone = tapped(HiResCAM, model, IMAGES[number : number + 1])["maps"]
        np.testing.assert_allclose(alone[0], together[number], atol=1e-6)


def test_normalisation_by_hand():
    model = network(layers.Flatten())
    maps = tapped(HiResCAM, model)["maps"]
    size = np.abs(maps)
    by_max = maps / size.max(axis=(1, 2), keepdims=True)
    by_sum = maps / size.sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(tapped(HiResCAM, model, normalize="max")["maps"], by_max, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(tapped(HiResCAM, model, normalize="sum")["maps"], by_sum, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("normalize", [None, "max", "sum"])
@pytest.mark.parametrize("cam", [HiResCAM, GradCAM])
def test_a_map_of_zeros_stays_one_and_has_finite_gradients(cam, normalize):
    model = network(layers.Flatten())
    model.get_layer("logits").kernel.assign(ops.zeros((144, 3)))
    head = cam.tap(model, "conv", normalize=normalize).layers[-1]
    for x in (activations(model), np.zeros((1, 6, 6, 4), "float32")):
        value, gradient = backend.value_and_vjp(lambda x: head(x)["maps"], x)
        assert np.all(np.asarray(value) == 0)
        assert np.isfinite(np.asarray(gradient)).all()


def differences(loss, variable, numbers, step):
    """Central differences of a loss with respect to some of a variable's numbers."""
    start = np.array(variable)
    found = []
    for number in numbers:
        values = []
        for sign in (1, -1):
            moved = start.copy()
            moved.flat[number] += sign * step
            variable.assign(moved)
            values.append(float(loss()))
        found.append((values[0] - values[1]) / (2 * step))
    variable.assign(start)
    return np.array(found)


DERIVATIVES = [
    (HiResCAM, "normalised", None),
    (HiResCAM, "flatten", None),
    (HiResCAM, "dense", None),
    (HiResCAM, "pooling", None),
    (HiResCAM, "convolutions", None),
    (HiResCAM, "dense", "max"),
    (HiResCAM, "dense", "sum"),
    (GradCAM, "dense", None),
    (GradCAM, "pooling", "sum"),
]


@pytest.mark.parametrize(("cam", "kind", "normalize"), DERIVATIVES)
def test_second_derivatives_agree_with_finite_differences(cam, kind, normalize):
    tf = pytest.importorskip("tensorflow")
    keras.config.set_floatx("float64")
    try:
        head = {
            "flatten": [layers.Flatten()],
            "dense": [layers.Flatten(), layers.Dense(5, activation="tanh", name="hidden")],
            "normalised": [
                layers.BatchNormalization(momentum=0.5),
                layers.Conv2D(3, 3, activation="tanh", name="hidden"),
                layers.GlobalAveragePooling2D(),
                layers.BatchNormalization(epsilon=0.1),
            ],
            "pooling": [
                layers.MaxPooling2D(2),
                layers.Conv2D(3, 2, activation="softplus", name="hidden"),
                layers.GlobalAveragePooling2D(),
            ],
            "convolutions": [
                layers.Conv2D(3, 3, activation="tanh", name="hidden"),
                layers.AveragePooling2D(2),
                layers.Flatten(),
            ],
        }[kind]
        model = network(*head, activation="softplus")
        tap = cam.tap(model, "conv", normalize=normalize, relu=False)
        rng = np.random.default_rng(2)
        weights = ops.convert_to_tensor(rng.normal(size=(3, 6, 6, 3)).astype("float32"))

        def loss():
            outputs = tap(IMAGES.astype("float64"), training=True)
            score = ops.sum(ops.cast(outputs["logits"][:, 0], "float64"))
            return ops.sum(ops.cast(outputs["maps"] * weights, "float64")) + score

        with tf.GradientTape() as tape:
            value = loss()
        variables = model.trainable_variables
        for variable, gradient in zip(variables, tape.gradient(value, [v.value for v in variables])):
            found = np.zeros(variable.shape) if gradient is None else np.asarray(gradient)
            numbers = [int(np.abs(found).argmax()), int(rng.integers(found.size))]
            expected = differences(loss, variable, numbers, step=1e-3)
            near = 2e-3 * np.abs(expected).max() + 2e-3
            np.testing.assert_allclose(found.flat[numbers], expected, rtol=2e-3, atol=near)
            if "kernel" in variable.name:
                assert np.abs(expected).max() > 0.02
    finally:
        keras.config.set_floatx("float32")


@pytest.mark.parametrize("head", HEADS)
def test_dropout_in_the_head_is_drawn_once_for_scores_and_maps(head):
    model = network(HEADS[head](), layers.Dropout(0.5))
    tap = HiResCAM.tap(model, "conv")
    found = tap(IMAGES, training=True)
    scores = np.asarray(found["logits"])
    assert np.abs(scores - np.asarray(model(IMAGES))).max() > 1e-3  # it was drawn at all
    bias = np.asarray(model.get_layer("logits").bias)
    np.testing.assert_allclose(np.asarray(found["maps"]).sum(axis=(1, 2)), scores - bias, atol=1e-5)
    assert np.abs(np.asarray(tap(IMAGES, training=True)["logits"]) - scores).max() > 1e-3  # and anew the next time


def test_statistics_in_the_head_move_once():
    model = network(layers.BatchNormalization(momentum=0.5, name="bn"), layers.Flatten())
    mean = activations(model).mean(axis=(0, 1, 2))
    HiResCAM.tap(model, "conv")(IMAGES, training=True)
    np.testing.assert_allclose(model.get_layer("bn").moving_mean, 0.5 * mean, atol=1e-6)
    HiResCAM.tap(model, "conv")(IMAGES, training=False)
    np.testing.assert_allclose(model.get_layer("bn").moving_mean, 0.5 * mean, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False, "epsilon": 0.1}])
@pytest.mark.parametrize("head", HEADS)
def test_in_training_the_statistics_of_the_batch_are_constants_of_the_maps(head, options):
    random = {"gamma_initializer": "random_normal", "beta_initializer": "random_normal"}
    model = network(layers.BatchNormalization(name="bn", **random, **options), HEADS[head]())
    trained = HiResCAM.tap(model, "conv")(IMAGES, training=True)
    maps = activations(model)
    model.get_layer("bn").moving_mean.assign(maps.mean(axis=(0, 1, 2)))
    model.get_layer("bn").moving_variance.assign(maps.var(axis=(0, 1, 2)))
    for name, expected in tapped(HiResCAM, model).items():  # as in inference, with those statistics
        np.testing.assert_allclose(trained[name], expected, rtol=1e-3, atol=1e-5)


def test_behind_pooling_and_normalisation_maps_do_not_vanish_in_training():
    model = network(layers.GlobalAveragePooling2D(), layers.BatchNormalization(name="bn"))
    found = HiResCAM.tap(model, "conv")(IMAGES, training=True)
    pooled = activations(model).mean(axis=(1, 2))
    kernel = np.asarray(model.get_layer("logits").kernel) / np.sqrt(pooled.var(axis=0) + 1e-3)[:, None]
    np.testing.assert_allclose(found["maps"], activations(model) @ kernel / 36, rtol=1e-3, atol=1e-5)
    frozen = network(layers.GlobalAveragePooling2D(), layers.BatchNormalization(name="bn", trainable=False))
    tap = HiResCAM.tap(frozen, "conv")
    np.testing.assert_array_equal(tap(IMAGES, training=True)["maps"], tap(IMAGES)["maps"])


def test_maps_are_float32_in_half_precision_and_near():
    full = network(layers.MaxPooling2D(), layers.Flatten(), layers.Dense(5, activation="relu"))
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        half = network(layers.MaxPooling2D(), layers.Flatten(), layers.Dense(5, activation="relu"))
        half.set_weights(full.get_weights())
        found = HiResCAM.tap(half, "conv")(IMAGES)
        assert found["maps"].dtype == found["logits"].dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
    expected = tapped(HiResCAM, full)["maps"]
    np.testing.assert_allclose(found["maps"], expected, atol=0.03 * np.abs(expected).max())


def test_maps_of_lines_and_of_volumes():
    for rank, convolution, pooling in (
        (1, layers.Conv1D, layers.GlobalAveragePooling1D),
        (3, layers.Conv3D, layers.GlobalAveragePooling3D),
    ):
        image = keras.Input((6,) * rank + (1,))
        maps = convolution(2, 3, activation="relu", name="conv")(image)
        model = keras.Model(image, layers.Dense(2, use_bias=False)(pooling()(maps)))
        x = np.random.default_rng(0).normal(size=(2,) + (6,) * rank + (1,)).astype("float32")
        for cam in (HiResCAM.tap(model, "conv"), GradCAM.tap(model, "conv", relu=False)):
            found = cam(x)
            assert found["maps"].shape == (2,) + (4,) * rank + (2,)
            np.testing.assert_allclose(np.asarray(found["maps"]).reshape(2, -1, 2).sum(axis=1), model(x), atol=1e-5)


class Counting(layers.Layer):
    """Passes on what it gets, and counts how often."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs


def test_features_and_head_run_once_whatever_the_number_of_maps():
    before, behind = Counting(), Counting()
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, name="conv")(before(image))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(behind(x))))
    tap = HiResCAM.tap(model, "conv")
    before.calls = behind.calls = 0
    tap(IMAGES, training=True)
    assert (before.calls, behind.calls) == (1, 1)


def test_nothing_is_warned_of():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tapped(HiResCAM, network(layers.Flatten()))
    assert not [each for each in caught if issubclass(each.category, UserWarning)]


def test_layers_make_the_round_trip():
    model = network(layers.Flatten())
    layer = HiResCAM.tap(model, "conv", classes=[1], relu=True, normalize="sum").layers[-1]
    again = HiResCAM.from_config(layer.get_config())
    assert (again.classes, again.relu, again.normalize, again.name) == ([1], True, "sum", layer.name)
    again.head.set_weights(layer.head.get_weights())
    np.testing.assert_array_equal(again(activations(model))["maps"], layer(activations(model))["maps"])
    assert GradCAM.tap(model, "conv").layers[-1].get_config()["relu"] is True


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": "best"}, r"classes is one of all, predicted, true, or a list of numbers\. Received: 'best'\."),
        ({"classes": [3]}, r"classes 0 to 2; name each that is explained once\. Received: classes=\[3\]\."),
        ({"classes": [0, 0]}, r"Received: classes=\[0, 0\]\."),
        ({"classes": []}, r"Received: classes=\[\]\."),
        ({"classes": [-1]}, r"Received: classes=\[-1\]\."),
        ({"normalize": "mean"}, r"normalised by None, 'max' or 'sum'\. Received: normalize='mean'\."),
    ],
)
def test_choices_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        HiResCAM.tap(network(layers.Flatten()), "conv", **options)


def test_true_classes_need_labels():
    model = network(layers.Flatten())
    true = HiResCAM.tap(model, "conv", classes="true").layers[-1]
    with pytest.raises(ValueError, match=r'classes="true" needs the labels: call the layer with labels=, of shape'):
        true(activations(model))


def test_examples():
    assert doctest.testmod(module) == (0, 5)


@pytest.mark.parametrize(("name", "layer"), [("hires_cam", HiResCAM), ("grad_cam", GradCAM)])
def test_maps_are_those_of_the_analyzer(name, layer):
    model = network(layers.Flatten())
    maps = np.asarray(layer.tap(model, "conv")(IMAGES)["maps"])
    for number in range(maps.shape[-1]):
        analyzer = create_analyzer(name, model, neuron=number, layer="conv", resize=False)
        np.testing.assert_allclose(
            analyzer.analyze(np.asarray(IMAGES))[..., 0], maps[..., number], rtol=1e-4, atol=1e-5
        )
