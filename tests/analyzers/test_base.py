"""What every analyzer keeps: images apart, models untouched, weights followed, float32, and refusals in words."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

import hcreg
from hcreg import models
from hcreg.analyzers import ANALYZERS, create_analyzer
from hcreg.analyzers.base import Target, check_images, full_precision, near, select_target

ON_TENSORFLOW = os.environ.get("KERAS_BACKEND", "tensorflow") == "tensorflow"
ROOT = Path(hcreg.__file__).parent.parent
OPTIONS = {
    "smoothgrad": {"augment_by_n": 3},
    "integrated_gradients": {"steps": 3},
    "lrp.alpha_beta": {"alpha": 2},
    "deep_taylor": {"lowest_output": -100.0},
    "deep_taylor.bounded": {"lowest_output": -100.0},
    "occlusion": {"patch_size": 3, "strides": 3},
}
EVERY_KIND = (
    "gradient",
    "smoothgrad",
    "integrated_gradients",
    "guided_backprop",
    "lrp.sequential_preset_a",
    "hires_cam",
)


def make(name, model, **options):
    return create_analyzer(name, model, **{**OPTIONS.get(name, {}), **options})


def network(normalisation=layers.BatchNormalization):
    """What batches, shifts or gates: normalisation behind a convolution and behind a ReLU, pools, two branches."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((6, 6, 2))
    x = layers.ReLU()(normalisation()(layers.Conv2D(4, 3, padding="same")(x)))
    x = layers.MaxPooling2D(2)(normalisation()(x))
    x = layers.ReLU()(layers.Add()([x, layers.Conv2D(4, 3, padding="same")(x)]))
    return keras.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture
def model(networks):
    return networks.randomised(network())


def check_close(found, expected, tolerance=1e-4, name=""):
    assert np.abs(expected).max() > 0, name
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max(), err_msg=name)


# What every analyzer keeps


@pytest.mark.parametrize("name", ANALYZERS)
def test_each_image_is_explained_as_if_it_were_alone(name, model, networks, eager):
    x = networks.images(model, 7)
    x[2] *= 20  # whatever depends on the range of the batch shows
    analyzer = make(name, model)
    alone = np.concatenate([analyzer.analyze(image[None], batch_size=1) for image in x])
    assert alone.shape == (7, 6, 6, analyzer.channels_out or 2)
    assert alone.dtype == np.float32
    for batch_size in (2, 5, 8):
        found = analyzer.analyze(x, batch_size=batch_size)
        largest = np.abs(alone).max((1, 2, 3), keepdims=True)
        assert largest.max() > 0
        assert (np.abs(found - alone) <= 1e-4 * largest + 1e-7).all()


def test_no_analyzer_leaves_a_trace(model, networks, eager):
    x = networks.images(model, 2)
    weights, config = model.get_weights(), json.dumps(model.get_config())
    calls = [len(layer._inbound_nodes) for layer in model.layers]
    functions = [getattr(layer, "activation", None) for layer in model.layers]
    prediction = np.asarray(model(x))
    before = {name: make(name, model).analyze(x) for name in ANALYZERS}
    for name in reversed(ANALYZERS):
        assert np.array_equal(make(name, model).analyze(x), before[name]), name
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), weights, strict=True))
    assert json.dumps(model.get_config()) == config
    assert [len(layer._inbound_nodes) for layer in model.layers] == calls
    assert [getattr(layer, "activation", None) for layer in model.layers] == functions
    assert np.array_equal(np.asarray(model(x)), prediction)


def test_a_model_can_be_trained_after_it_was_explained(networks):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    x = layers.Conv2D(2, 3, activation="relu", activity_regularizer="l2", kernel_regularizer="l2")(inputs)
    x = layers.BatchNormalization()(layers.Dropout(0.5)(layers.ActivityRegularization(l2=0.1)(x)))
    model = keras.Model(inputs, layers.Dense(1)(layers.Flatten()(x)))
    model.compile("sgd", "mse")
    images = networks.images(model, 4)
    make("lrp.z", model).analyze(images)
    assert np.isfinite(model.fit(images, np.ones((4, 1)), verbose=0).history["loss"]).all()


@pytest.mark.parametrize("name", ["gradient", "integrated_gradients", "guided_backprop", "lrp.z", "hires_cam"])
def test_compiled_maps_follow_the_weights(name, model, networks):
    x, rest = networks.images(model, 2), networks.images(model, 2, seed=1)
    analyzer = make(name, model)
    first = analyzer.analyze(x)
    networks.randomised(model, seed=5)
    fresh = make(name, model)
    check_close(analyzer.analyze(x), fresh.analyze(x), 1e-5)
    assert np.abs(analyzer.analyze(x) - first).max() > 0.1 * np.abs(first).max()
    check_close(analyzer.analyze(rest), fresh.analyze(rest), 1e-5)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_compiled_or_not(name, model, networks, monkeypatch):
    x = networks.images(model, 2)
    compiled = make(name, model).analyze(x)
    monkeypatch.setattr(hcreg.backend, "compile_function", lambda function, **_: function)
    check_close(compiled, make(name, model).analyze(x))


@pytest.mark.parametrize("name", ["smoothgrad", "integrated_gradients", "lrp.z", "grad_cam", "occlusion"])
def test_one_analyzer_for_images_of_several_sizes(name, networks):
    keras.utils.set_random_seed(0)
    model = networks.randomised(
        keras.Sequential(
            [
                keras.Input((None, None, 1)),
                layers.Conv2D(3, 3, activation="relu"),
                layers.BatchNormalization(),
                layers.Conv2D(3, 2, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(1),
            ]
        )
    )
    analyzer = make(name, model)
    for side in (6, 8, 7):
        x = np.random.default_rng(side).normal(size=(2, side, side + 1, 1)).astype("float32")
        check_close(analyzer.analyze(x), make(name, model).analyze(x), 1e-5)


@pytest.mark.parametrize(
    ("policy", "names"), [("mixed_bfloat16", tuple(ANALYZERS)), ("mixed_float16", ("gradient", "lrp.z"))]
)
def test_maps_of_mixed_precision_are_those_of_float32(policy, names, networks, eager):
    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6, 6, 2))
        x = layers.BatchNormalization()(layers.Conv2D(4, 3)(inputs))
        x = layers.ReLU()(x + layers.Conv2D(4, 3)(inputs))  # an operator, which has no precision of its own
        inner = keras.Sequential([keras.Input((4, 4, 4)), layers.Conv2D(4, 3, activation="relu")])
        x = layers.Rescaling(0.5)(inner(x))
        return networks.randomised(keras.Model(inputs, layers.Dense(1, dtype="float32")(layers.Flatten()(x))))

    single = build()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        half = build()
    finally:
        keras.config.set_dtype_policy(before)
    x = networks.images(single, 2)
    assert np.abs(np.asarray(half(x)) - np.asarray(single(x))).max() > 1e-5
    analyzers = {}
    for name in names:
        analyzers[name] = make(name, half)
        check_close(analyzers[name].analyze(x), make(name, single).analyze(x), 1e-5, name)
    half.set_weights([2 * weights for weights in half.get_weights()])
    single.set_weights(half.get_weights())
    check_close(analyzers["lrp.z"].analyze(x), make("lrp.z", single).analyze(x), 1e-5)
    assert half.layers[1].compute_dtype == policy.removeprefix("mixed_")


def test_float32_models_are_not_copied(model):
    assert full_precision(model) is model


def test_a_mixed_model_that_cannot_be_copied_says_why():
    class Odd(layers.Layer):
        def __init__(self, number):
            super().__init__(dtype="mixed_bfloat16")
            self.number = number

        def call(self, inputs):
            return inputs * self.number

        def get_config(self):
            return {}

    inputs = keras.Input((2,))
    model = keras.Model(inputs, layers.Dense(1)(Odd(3.0)(inputs)), name="odd")
    with pytest.raises(
        ValueError, match=r"'odd' computes in bfloat16 and float32, and is explained in float32 by a copy"
    ):
        create_analyzer("gradient", model)


def test_float64_models_are_explained_in_float64(networks, eager):
    before = keras.config.dtype_policy(), keras.config.floatx()
    keras.config.set_dtype_policy("float64")
    keras.config.set_floatx("float64")  # of the input
    try:
        model = networks.randomised(network())
    finally:
        keras.config.set_dtype_policy(before[0])
        keras.config.set_floatx(before[1])
    x = networks.images(model, 2)
    maps = {name: make(name, model).analyze(x) for name in ("gradient", "lrp.z", "input_t_gradient", "hires_cam")}
    assert {found.dtype for found in maps.values()} == {np.dtype("float64")}
    check_close(maps["lrp.z"], maps["input_t_gradient"], 1e-9)


# A planted cue

BLIND = {
    "lrp.flat": "it takes all weights for equal, also those that are 0",
    "grad_cam": "it weighs each channel by one number, wherever the channel matters",
}


@pytest.mark.parametrize("name", ANALYZERS)
def test_relevance_lies_on_the_disc_that_decides(name, eager):
    # f = the mean of the maps over a disc, two channels alike: nothing is looked at beyond it and one pixel around
    side, x, y = 11, *np.mgrid[:11, :11] - 5
    inner, beyond = x**2 + y**2 <= 9, x**2 + y**2 > 18
    model = keras.Sequential(
        [
            keras.Input((side, side, 1)),
            layers.Conv2D(2, 3, padding="same", activation="relu", use_bias=False),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    kernel = np.zeros((3, 3, 1, 2))
    kernel[1, :, 0] = kernel[:, 1, 0] = 0.2
    head = np.repeat(inner.reshape(-1, 1), 2, axis=1).reshape(-1, 1) / inner.sum()
    ones = np.ones(2)
    model.set_weights([kernel, ones, 0 * ones, 0 * ones, ones, head, np.zeros(1)])
    images = np.random.default_rng(0).uniform(0.5, 1.5, (2, side, side, 1)).astype("float32")
    options = {"patch_size": 1, "strides": 1, "fill": 0.0} if name == "occlusion" else {}
    found = np.abs(make(name, model, **options).analyze(images))[..., 0]
    assert found[:, inner].min() > 0
    share_beyond = found[:, beyond].sum() / found.sum()
    assert (share_beyond > 0.3) if name in BLIND else (share_beyond < 1e-6)


# Which number is explained


def test_the_only_scalar_output_is_taken():
    model = models.unet((16, 16, 1), filters=2, head="ellipse")
    assert select_target(model) == select_target(model, output="hc_fraction") == Target(0, 0)
    assert select_target(model, output="mask", neuron=17) == Target(1, 17)
    inputs = keras.Input((4,))
    outputs = [layers.Dense(3, name="many")(inputs), layers.Dense(1, name="one")(inputs)]
    assert select_target(keras.Model(inputs, outputs)) == Target(1, 0)
    assert select_target(keras.Model(inputs, outputs), "many", np.int64(2)) == Target(0, 2)


def test_what_is_taken_and_explained_is_that_number(networks, eager):
    inputs = keras.Input((4,))
    first, second = layers.Dense(1, name="first"), layers.Dense(3, name="second")
    model = networks.randomised(keras.Model(inputs, {"b": first(inputs), "a": second(inputs)}))
    x = networks.images(model)
    for name in ("gradient", "lrp.z", "smoothgrad", "guided_backprop", "lrp.flat"):
        by_output = make(name, model, output="a", neuron=1).analyze(x)
        alone = make(name, keras.Model(inputs, second(inputs)), neuron=1).analyze(x)
        assert np.array_equal(by_output, alone), name
    assert np.array_equal(make("gradient", model).analyze(x), np.tile(np.asarray(first.kernel).T, (3, 1)))
    expected = np.asarray(model(x)["a"])[:, 2]
    assert np.array_equal(select_target(model, "a", 2).take(model(x)), expected)


def test_inputs_that_are_asked_for_by_name_or_in_a_list(networks, eager, recwarn):
    for wrap in (lambda tensor: [tensor], lambda tensor: {"image": tensor}):
        inputs = keras.Input((4,), name="image")
        model = networks.randomised(keras.Model(wrap(inputs), layers.Dense(1)(inputs)))
        x = networks.images(model)
        for name in ("gradient", "lrp.z"):
            check_close(make(name, model).analyze(x), make(name, keras.Model(inputs, model.outputs[0])).analyze(x))
    assert not [warning for warning in recwarn if "structure" in str(warning.message)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"several outputs: 'mask' with 12 elements, 'classes' with 3 elements\. Name one: output='mask'"),
        ({"output": "classs"}, r"has no output 'classs'\. It has 'mask' with 12 elements, .*Did you mean 'classes'"),
        ({"output": "mask"}, r"output 'mask' of model 'both', which has 12 elements\. Say which: neuron=0\. A segment"),
        ({"output": "mask"}, r'hcreg\.layers\.EllipseMoments, or build it with head="ellipse"'),
        ({"output": "classes", "neuron": 3}, r"'classes' of model 'both' has elements 0 to 2\. Received: neuron=3"),
        ({"output": "classes", "neuron": -1}, "has elements 0 to 2. Received: neuron=-1"),
        ({"output": "classes", "neuron": 1.0}, r"neuron is the number of an element of the output.* Received: 1\.0"),
        ({"output": "classes", "neuron": True}, "neuron is the number of an element"),
    ],
)
def test_choices_that_are_not_clear(arguments, message):
    inputs = keras.Input((2, 3, 1))
    mask = layers.Conv2D(2, 1, name="mask")(inputs)
    classes = layers.Dense(3, name="classes")(layers.Flatten()(inputs))
    model = keras.Model(inputs, [mask, classes], name="both")
    for name in ("gradient", "lrp.z"):
        with pytest.raises(ValueError, match=message):
            create_analyzer(name, model, **arguments)


def test_an_output_of_unknown_size_needs_a_neuron(eager):
    model = keras.Sequential([keras.Input((None, None, 1)), layers.Conv2D(1, 1, use_bias=False, name="mask")])
    with pytest.raises(
        ValueError, match=r"output 'mask' .* which has an unknown number of elements\. Say which: neuron=0"
    ):
        create_analyzer("gradient", model)
    model.set_weights([np.full((1, 1, 1, 1), 2.0)])
    for name in ("gradient", "guided_backprop"):
        found = create_analyzer(name, model, neuron=5).analyze(np.ones((1, 3, 4, 1)))
        assert found.ravel().tolist() == [0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0]


# Refusals


class Own(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(1)

    def call(self, inputs):
        return self.dense(inputs)


def test_models_that_cannot_be_explained():
    with pytest.raises(TypeError, match=r"explains a keras\.Model\. Received: Dense"):
        create_analyzer("gradient", layers.Dense(1))
    with pytest.raises(ValueError, match=r"'late' is not built: call it on an image once before explaining it"):
        create_analyzer("gradient", keras.Sequential([layers.Dense(1)], name="late"))
    a, b = keras.Input((2,)), keras.Input((2,))
    for name in ("gradient", "lrp.z", "hires_cam"):
        with pytest.raises(
            ValueError, match=r"models of one input\. Received: model 'two' with 2 inputs\. Build a functional"
        ):
            create_analyzer(name, keras.Model([a, b], layers.Dense(1)(a + b), name="two"))


def test_a_model_of_a_class_of_its_own(networks, eager):
    own = Own(name="own")
    own(np.ones((1, 3)))
    for name in ("gradient", "lrp.z"):
        with pytest.raises(
            ValueError, match=r"outputs of model 'own' are not known: it is a class of its own\. Wrap it: k"
        ):
            create_analyzer(name, own)
    inputs = keras.Input((3,))
    wrapped = keras.Model(inputs, own(inputs))
    check_close(make("gradient", wrapped).analyze(np.ones((1, 3))), np.asarray(own.dense.kernel).T)
    with pytest.raises(
        ValueError, match=r"layers of model 'own' are not known.* Rebuild it from layers called on each other"
    ):
        create_analyzer("lrp.z", wrapped)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (
            np.zeros((6, 6, 2)),
            r"takes images of shape \(num_images, 6, 6, 2\)\. Received: an array of shape \(6, 6, 2\)",
        ),
        (np.zeros((6, 6, 2)), r"A single image needs a first axis: image\[None\]"),
        (np.zeros((1, 2, 6, 6)), r"Received: an array of shape \(1, 2, 6, 6\) and type float64"),
        (np.zeros((1, 6, 6, 2), complex), r"and type complex128"),
        ([["a"]], r"of shape \(1, 1\) and type <U1"),
        (None, r"of shape \(\) and type object"),
        (np.zeros((0, 6, 6, 2)), r"There is nothing to explain\. Received: 0 images"),
    ],
)
def test_images_that_do_not_fit(images, message, model):
    with pytest.raises(ValueError, match=message):
        create_analyzer("gradient", model).analyze(images)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_the_image_that_is_not_finite_is_numbered(value, model):
    images = np.zeros((4, 6, 6, 2))
    images[2, 3, 1, 0] = value
    for name in ("gradient", "lrp.z", "occlusion"):
        with pytest.raises(ValueError, match=r"finite numbers\. Received: NaN or infinity in image number 2"):
            create_analyzer(name, model).analyze(images)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, None])
def test_batch_sizes_that_are_none(batch_size, model):
    with pytest.raises(ValueError, match=r"batch_size is a number of images, 1 or more\. Received: "):
        create_analyzer("gradient", model).analyze(np.zeros((1, 6, 6, 2)), batch_size=batch_size)


def test_a_map_that_is_not_finite_is_numbered(eager):
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, use_bias=False), layers.Activation(keras.ops.sqrt)])
    model.set_weights([np.ones((1, 1))])
    with pytest.raises(FloatingPointError, match=r"gradient gave a map that is not finite for image number 3\. Check"):
        create_analyzer("gradient", model).analyze(np.array([[1.0], [2.0], [3.0], [0.0]]), batch_size=2)


def test_whole_numbers_and_lists_are_images_too(model):
    assert check_images(model, np.ones((1, 6, 6, 2), "uint8")).dtype == np.float32
    assert check_images(model, np.ones((1, 6, 6, 2)).tolist()).shape == (1, 6, 6, 2)
    images = np.ones((1, 6, 6, 2), "float32")
    assert check_images(model, images) is images


def test_near_names_what_is_near():
    assert near("lrp.zz", ["lrp.z", "gradient"]) == " Did you mean 'lrp.z'?"
    assert near("xyz", ["lrp.z", "gradient"]) == ""


def test_progress_is_shown_where_asked_for(model, capsys, eager):
    make("gradient", model).analyze(np.ones((1, 6, 6, 2)))
    assert capsys.readouterr().out == ""


@pytest.mark.proof
@pytest.mark.skipif(not ON_TENSORFLOW, reason="started by this very test")
def test_it_holds_on_jax():
    pytest.importorskip("jax", reason="JAX is not installed; `pip install hcreg[jax]` brings it")
    walk = Path(__file__).with_name("test_walk.py")
    tests = [
        f"{__file__}::test_compiled_maps_follow_the_weights[lrp.z]",
        f"{__file__}::test_compiled_maps_follow_the_weights[integrated_gradients]",
        f"{walk}::test_a_layer_called_twice_and_a_tensor_read_twice",
    ]
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
    assert f"{len(tests)} passed" in answer.stdout
