"""iNNvestigate itself: numbers worked by hand, every analyzer on small networks, and how its failures are told."""

import keras
import numpy as np
import pytest
from keras import layers

from hcreg import backend
from hcreg.analyzers.innvestigate import InnvestigateAnalyzer, InnvestigateError
from hcreg.analyzers.innvestigate_process import Worker
from hcreg.layers import BatchNormalization

NAMES = {
    "gradient": {},
    "smoothgrad": {"augment_by_n": 4},
    "input_t_gradient": {},
    "integrated_gradients": {"steps": 4},
    "deconvnet": {},
    "guided_backprop": {},
    "deep_taylor": {},
    "deep_taylor.bounded": {"low": -1.0, "high": 1.0},
    "lrp.z": {},
    "lrp.epsilon": {},
    "lrp.alpha_2_beta_1": {},
    "lrp.alpha_1_beta_0": {},
    "lrp.sequential_preset_a": {},
    "lrp.sequential_preset_b": {},
}


@pytest.fixture(scope="module")
def worker():
    """One process for all of this file."""
    try:
        worker = Worker()
    except ImportError as error:
        pytest.skip(str(error))
    with worker:
        yield worker


@pytest.fixture(scope="module")
def explain(worker):
    """Maps by a name, a model and images."""

    def explain(name, model, images, batch_size=8, **options):
        with InnvestigateAnalyzer(name, model, worker=worker, **options) as analyzer:
            return analyzer.analyze(images, batch_size=batch_size)

    return explain


@pytest.fixture(scope="module")
def linear():
    """f(x) = x1 - 2 x2 + 3 x3 + 4 of images of one row."""
    model = keras.Sequential([keras.Input((1, 3, 1)), layers.Flatten(), layers.Dense(1)])
    model.layers[-1].set_weights([np.array([[1.0], [-2.0], [3.0]]), np.array([4.0])])
    return model


IMAGE = np.array([2.0, 3.0, 0.5]).reshape(1, 1, 3, 1)  # 2, -6 and 1.5, with the bias: f = 1.5


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("gradient", {}, [1, -2, 3]),
        ("gradient", {"postprocess": "abs"}, [1, 2, 3]),
        ("input_t_gradient", {}, [2, -6, 1.5]),
        ("integrated_gradients", {}, [2, -6, 1.5]),
        ("integrated_gradients", {"reference_inputs": 1.0}, [1, -4, -1.5]),
        ("deconvnet", {}, [1.5, -3, 4.5]),  # from f(x), not from 1
        ("guided_backprop", {}, [1.5, -3, 4.5]),
        ("lrp.z", {}, [2, -6, 1.5]),
        ("lrp.epsilon", {"epsilon": 1.5}, [1, -3, 0.75]),  # times 1.5 / (1.5 + 1.5)
        ("lrp.alpha_1_beta_0", {}, [0.4, 0, 0.3]),  # 1.5 / (2 + 1.5 + 4) of the positive
        (
            "lrp.alpha_2_beta_1",
            {},
            [0.8, -4.5, 0.6],
        ),  # 2 x those, less 1.5 / (-6 + 4) of the negative: whole bias twice
        ("deep_taylor", {}, [6 / 7, 0, 4.5 / 7]),  # 1.5 / 3.5, without the bias
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_linear_model_by_hand(explain, linear, name, options, expected):
    np.testing.assert_allclose(explain(name, linear, IMAGE, **options).ravel(), expected, rtol=1e-5)


def test_the_variance_of_batch_normalization_is_squared(explain):
    # y = (x - 1) / sqrt(4) + 0.5. With the variance squared: x / 4 + 0.5 - 1 / 4, of 2: 0.75, of which x has 0.5.
    image = keras.Input((1, 1, 1))
    x = layers.BatchNormalization(epsilon=1e-12)(image)
    model = keras.Model(image, layers.Dense(1, use_bias=False)(layers.Flatten()(x)))
    model.layers[1].set_weights([np.array([value]) for value in (1.0, 0.5, 1.0, 4.0)])
    model.layers[-1].set_weights([np.ones((1, 1))])
    twos = np.full((1, 1, 1, 1), 2.0)
    assert float(np.asarray(model(twos)).item()) == pytest.approx(1.0)
    assert explain("lrp.z", model, twos).item() == pytest.approx(2 / 3)
    assert explain("gradient", model, twos).item() == pytest.approx(0.5)


@pytest.fixture(scope="module")
def vgg(networks):
    return networks.build("vgg")


@pytest.fixture(scope="module")
def normalised(networks):
    """With BatchNormalization, hcreg's own too, ReLU layers and a nested model."""
    image = keras.Input((6, 6, 2))
    inner = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(3, 3, padding="same"), BatchNormalization(), layers.ReLU()], name="inner"
    )
    shortcut = inner(image)
    x = layers.BatchNormalization()(layers.Conv2D(3, 1)(shortcut))
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(layers.Add()([x, shortcut])))
    return networks.randomised(keras.Model(image, layers.Dense(1)(x)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("model", ["vgg", "normalised"])
def test_every_analyzer_gives_a_map_of_the_shape_of_the_images(explain, networks, request, name, model):
    model = request.getfixturevalue(model)
    images = networks.images(model)
    maps = explain(name, model, images, **NAMES[name])
    assert (maps.shape, maps.dtype) == (images.shape, np.float32)
    assert np.isfinite(maps).all()
    assert maps.any() or "deep_taylor" in name  # which is 0 wherever the prediction is not positive


@pytest.mark.parametrize("model", ["vgg", "normalised"])
def test_the_gradient_is_that_of_keras_3(explain, networks, request, model):
    model = request.getfixturevalue(model)
    images = networks.images(model)
    expected = np.asarray(backend.gradient(lambda x: model(x, training=False), images))
    np.testing.assert_allclose(explain("gradient", model, images), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_layers_of_every_kind_are_handed_over(explain, networks, ndim):
    def layer(kind, *arguments, **kwargs):
        return getattr(layers, f"{kind}{ndim}D")(*arguments, **kwargs)

    image = keras.Input((8,) * ndim + (2,))
    x = layers.Rescaling(0.5, offset=0.25)(image)
    x = layers.Normalization(mean=[0.1, 0.2], variance=[1.0, 4.0])(x)
    x = layer("Conv", 4, 3, padding="same", dilation_rate=2, activation="relu")(layer("ZeroPadding", 1)(x))
    x = layer("MaxPooling", 3, strides=2, padding="same")(layer("Cropping", 1)(x))
    if ndim < 3:
        x = layer("SeparableConv", 4, 2, padding="same")(layer("DepthwiseConv", 3, padding="same")(x))
    y = layer("UpSampling", 2)(layer("AveragePooling", 2)(x))
    y = getattr(layers, f"Conv{ndim}DTranspose")(4, 3, padding="same")(layer("SpatialDropout", 0.5)(y))
    merged = [layers.Add()([x, y]), layers.Subtract()([x, y]), layers.Multiply()([x, y]), layers.Maximum()([x, y])]
    x = layers.Concatenate()([*merged, layers.Minimum()([x, y]), layers.Average()([x, y])])
    x = layers.PReLU()(layers.LeakyReLU()(layers.ELU()(layers.ReLU(max_value=6.0)(x))))
    pooled = layers.Concatenate()([layer("GlobalAveragePooling")(x), layer("GlobalMaxPooling")(x)])
    x = layers.Permute((2, 1))(layers.Reshape((-1, 2))(layers.Concatenate()([pooled, layers.Flatten()(x)])))
    x = layers.GaussianNoise(1.0)(layers.GaussianDropout(0.5)(layers.AlphaDropout(0.5)(layers.Flatten()(x))))
    x = layers.Flatten()(layers.RepeatVector(2)(layers.Activation("tanh")(layers.Dropout(0.5)(x))))
    model = networks.randomised(keras.Model(image, layers.Dense(1)(layers.Identity()(x))))
    images = networks.images(model, count=2)
    expected = np.asarray(backend.gradient(lambda x: model(x, training=False), images))
    np.testing.assert_allclose(explain("gradient", model, images), expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", ["integrated_gradients", "lrp.alpha_2_beta_1"])
def test_a_map_does_not_depend_on_the_batch_it_is_in(explain, networks, vgg, name):
    images = networks.images(vgg, count=5)
    together = explain(name, vgg, images, batch_size=64 * 5, **({"steps": 64} if "integrated" in name else {}))
    np.testing.assert_allclose(explain(name, vgg, images, batch_size=2), together, rtol=1e-4, atol=1e-5)


def test_float64_agrees_with_float32_and_is_finer(explain, networks, normalised):
    images = networks.images(normalised)
    fine = explain("lrp.z", normalised, images, dtype="float64")
    assert fine.dtype == np.float64
    coarse = explain("lrp.z", normalised, images)
    difference = np.linalg.norm(fine - coarse) / np.linalg.norm(fine)
    assert 0 < difference < 1e-3


def test_given_noise_is_what_smoothgrad_adds(explain, networks, vgg):
    images = networks.images(vgg)
    noise = np.random.default_rng(3).normal(size=(5, *images.shape[1:])).astype("float32")
    expected = np.mean(
        [backend.gradient(lambda x: vgg(x, training=False), images + sample) for sample in noise], axis=0
    )
    maps = explain("smoothgrad", vgg, images, noise=noise)
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-6)
    first, second = (explain("smoothgrad", vgg, images, augment_by_n=5) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3  # its own noise is another every time
    squared = explain("smoothgrad", vgg, images, noise=noise[:1], postprocess="square")
    np.testing.assert_allclose(squared, explain("smoothgrad", vgg, images, noise=noise[:1]) ** 2, rtol=1e-4, atol=1e-7)


def test_an_element_of_one_of_several_outputs_is_explained(explain):
    image = keras.Input((1, 2, 1))
    flat = layers.Flatten()(image)
    outputs = {name: layers.Dense(3, name=name, use_bias=False)(flat) for name in ("first", "second")}
    model = keras.Model(image, outputs)
    kernel = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    model.get_layer("first").set_weights([np.zeros((2, 3))])
    model.get_layer("second").set_weights([kernel])
    image = np.ones((2, 1, 2, 1))
    for neuron in range(3):  # the smallest as well as the largest
        maps = explain("gradient", model, image, output="second", neuron=neuron)
        np.testing.assert_allclose(maps.reshape(2, 2), [kernel[:, neuron]] * 2)


def test_an_element_of_an_output_map_is_counted_over_the_flattened_map(explain):
    image = keras.Input((2, 2, 1))
    model = keras.Model(image, layers.Conv2D(1, 1, kernel_initializer="ones")(image))
    (heat,) = explain("input_t_gradient", model, np.full((1, 2, 2, 1), 7.0), neuron=2)
    assert heat[..., 0].tolist() == [[0, 0], [7, 0]]


def test_a_model_of_open_size_takes_the_size_of_its_first_images(worker):
    model = keras.Sequential([keras.Input((None, None, 1)), layers.GlobalAveragePooling2D()])
    with InnvestigateAnalyzer("gradient", model, worker=worker) as analyzer:
        assert analyzer.analyze(np.zeros((1, 2, 5, 1)))[0, 0, 0, 0] == pytest.approx(0.1)
        with pytest.raises(ValueError, match=r"built for images of shape \(2, 5, 1\), .* Received: \(2, 4, 1\)"):
            analyzer.analyze(np.zeros((1, 2, 4, 1)))


def test_mixed_precision_is_explained_in_float32(explain, linear):
    model = keras.models.clone_model(
        linear, clone_function=lambda layer: type(layer).from_config({**layer.get_config(), "dtype": "mixed_bfloat16"})
    )
    model.set_weights([np.array([[1.001], [-2.0], [3.0]]), np.array([4.0])])
    np.testing.assert_allclose(explain("gradient", model, IMAGE).ravel(), [1.001, -2, 3], rtol=1e-6)


def test_the_same_map_whatever_another_analyzer_did_before(explain, networks, vgg):
    images, options = networks.images(vgg), NAMES["deep_taylor.bounded"]
    before = explain("deep_taylor.bounded", vgg, images, **options)
    explain("smoothgrad", vgg, images, augment_by_n=2)  # in one copy of the model it would switch the bounds off
    assert (explain("deep_taylor.bounded", vgg, images, **options) == before).all()


@pytest.mark.parametrize("name", ["smoothgrad", "integrated_gradients"])
def test_as_it_comes_it_fails_on_batch_normalization(worker, normalised, name):
    with pytest.raises(InnvestigateError, match=r"iNNvestigate itself failed: TypeError: .* `type_value`") as caught:
        InnvestigateAnalyzer(name, normalised, worker=worker, inference_only=False)
    assert 'use engine="native"' in str(caught.value)
    assert str(caught.value).rstrip().splitlines()[-1].startswith("TypeError")  # the end of its traceback


def test_as_it_comes_its_numbers_are_the_same(explain, networks):
    image = keras.Input((4, 4, 1))
    x = layers.Flatten()(layers.Dropout(0.5)(layers.BatchNormalization()(image)))
    model = networks.randomised(keras.Model(image, layers.Dense(1)(x)))
    images = networks.images(model)
    as_it_comes = explain("guided_backprop", model, images, inference_only=False)
    np.testing.assert_allclose(as_it_comes, explain("guided_backprop", model, images), rtol=1e-5)


def test_its_own_refusals_are_told_in_its_words(worker, linear):
    softmax = keras.Sequential([keras.Input((4,)), layers.Dense(2, activation="softmax")])
    with pytest.raises(InnvestigateError, match=r"NotAnalyzeableModelException: .* does not support softmax layers"):
        InnvestigateAnalyzer("gradient", softmax, worker=worker, neuron=0)
    with pytest.raises(InnvestigateError, match=r"ValueError: The low or high parameter is missing"):
        InnvestigateAnalyzer("deep_taylor.bounded", linear, worker=worker)
    with pytest.raises(InnvestigateError, match=r"TypeError: .* unexpected keyword argument 'stepps'"):
        InnvestigateAnalyzer("integrated_gradients", linear, worker=worker, stepps=3)
    with pytest.raises(InnvestigateError, match=r"failed: (ModuleNotFound|Attribute)Error"):  # unknown over there
        InnvestigateAnalyzer("lrp", linear, worker=worker, rule=Doubled)


def test_a_refusal_without_words_is_told_with_the_warning_before_it(worker):
    image = keras.Input((4, 4, 2))
    x = layers.Flatten()(layers.DepthwiseConv2D(3)(image))
    model = keras.Model(image, layers.Dense(1)(x))
    with pytest.raises(
        InnvestigateError,
        match=r"NotImplementedError: LRP is only tested for conv(.|\n)*triggered by layers(.|\n)*Depthw",
    ):
        InnvestigateAnalyzer("lrp.z", model, worker=worker)


@keras.saving.register_keras_serializable(package="hcreg_test")
class Doubled(layers.Dense):
    def call(self, inputs, training=None):
        return 2 * super().call(inputs)


def test_a_model_that_predicts_otherwise_when_rebuilt_is_refused(worker, explain):
    model = keras.Sequential([keras.Input((4,)), Doubled(1)], name="doubled")
    with pytest.raises(
        InnvestigateError, match=r"would explain another model: .* 'doubled' predicts otherwise, by 5.0e-01"
    ):
        InnvestigateAnalyzer("gradient", model, worker=worker)
    zeros = keras.Sequential([keras.Input((4,)), layers.Dense(1, kernel_initializer="zeros")])
    assert not explain("gradient", zeros, np.ones((1, 4))).any()
    zeros.set_weights([np.full((4, 1), np.nan), np.zeros(1)])
    with pytest.raises(InnvestigateError, match="predicts otherwise, by nan"):
        InnvestigateAnalyzer("gradient", zeros, worker=worker)


def test_where_float32_only_rounds_too_much_the_model_is_judged_in_float64(worker, explain, linear, monkeypatch):
    found, translate = [], InnvestigateAnalyzer._translate

    def coarse(self, number, model, shape, dtype):
        difference = translate(self, number, model, shape, dtype)
        found.append((dtype, model.layers[-1].dtype, difference if dtype == "float64" else 3e-5))
        return found[-1][-1]

    monkeypatch.setattr(InnvestigateAnalyzer, "_translate", coarse)
    np.testing.assert_allclose(explain("gradient", linear, IMAGE).ravel(), [1, -2, 3])
    assert [entry[:2] for entry in found] == [("float32", "float32"), ("float64", "float64")]
    assert found[1][-1] < 1e-14


def test_a_layer_that_the_older_keras_refuses_is_named(worker):
    layer = {"class": "Conv2D", "name": "model.blur", "config": {"filters": "many"}, "merges": False}
    architecture = {"input_shape": (4, 4, 2), "layers": [layer], "calls": [], "input": 0, "output": 0}
    with pytest.raises(
        InnvestigateError, match=r"could not take over layer 'blur' \(Conv2D\): TypeError: .*kernel_size"
    ):
        worker.ask("translate", worker.new_number(), architecture, [[]], "float32", True)


def test_bad_arguments_are_refused_before_anything_starts(linear, networks):
    noise = np.zeros((4, 1, 3, 1))
    for words, name, options in (
        (r'dtype is "float32" or "float64"\. Received: \'half\'', "gradient", {"dtype": "half"}),
        (r"neuron=0, say\. Received: neuron_selection_mode='all'", "gradient", {"neuron_selection_mode": "all"}),
        (r"has elements 0 to 0\. Received: neuron=1", "gradient", {"neuron": 1}),
        (r"noise for 'gradient', which adds none", "gradient", {"noise": noise}),
        (r"shape \(num_samples, 1, 3, 1\), .* Received: \(3, 1\)", "smoothgrad", {"noise": noise[0, 0]}),
        (r"shape \(5, 1, 3, 1\), .* Received: \(4, 1, 3, 1\)", "smoothgrad", {"noise": noise, "augment_by_n": 5}),
    ):
        with pytest.raises(ValueError, match=words):
            InnvestigateAnalyzer(name, linear, python="/no/such/python", **options)
    ellipse = networks.build("unet_ellipse")
    with pytest.raises(ValueError, match=r"layer 'ellipse' \(EllipseMoments\)"):
        InnvestigateAnalyzer("gradient", ellipse, python="/no/such/python")


def test_an_unknown_name_is_refused_with_the_nearest(worker, linear):
    with pytest.raises(ValueError, match=r"has no analyzer 'lrp\.zz'\. Did you mean 'lrp\.z'.* It has deconvnet, "):
        InnvestigateAnalyzer("lrp.zz", linear, worker=worker)


def test_bad_images_are_refused(worker, linear):
    with InnvestigateAnalyzer("gradient", linear, worker=worker) as analyzer:
        with pytest.raises(ValueError, match=r"takes images of shape \(num_images, 1, 3, 1\)"):
            analyzer.analyze(IMAGE[0])
        with pytest.raises(ValueError, match="NaN or infinity in image number 0"):
            analyzer.analyze(IMAGE * np.nan)
        with pytest.raises(ValueError, match=r"batch_size is a number of images.* Received: 0"):
            analyzer.analyze(IMAGE, batch_size=0)
        assert analyzer.analyze(IMAGE, progress=True).shape == IMAGE.shape


def test_a_closed_analyzer_leaves_a_shared_process_open(worker, linear):
    analyzer = InnvestigateAnalyzer("gradient", linear, worker=worker)
    analyzer.close()
    analyzer.close()
    assert worker.is_open
    with pytest.raises(InnvestigateError, match="KeyError"):
        analyzer.analyze(IMAGE)


@pytest.mark.slow
def test_an_analyzer_has_a_process_of_its_own_and_ends_it(worker, linear):
    with InnvestigateAnalyzer("gradient", linear) as analyzer:
        assert analyzer.worker.pid != worker.pid
        assert analyzer.worker.versions["innvestigate"] == "2.1.2"
        np.testing.assert_allclose(analyzer.analyze(IMAGE).ravel(), [1, -2, 3])
    assert not analyzer.worker.is_open
    with pytest.raises(InnvestigateError, match="was closed"):
        analyzer.analyze(IMAGE)
