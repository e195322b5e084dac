"""Any model cut at any of its layers: the two parts compute what the whole does, and share its weights."""

import keras
import numpy as np
import pytest
from keras import layers

from hcreg import models
from hcreg.layers import BeforeActivation, GradCAM, HiResCAM
from hcreg.layers.tapping import cut


@pytest.fixture(autouse=True)
def _seeds():
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)


def images(shape=(16, 16, 1), number=3):
    return np.random.default_rng(0).normal(size=(number, *shape)).astype("float32")


def vgg_like(head="activation"):
    x = image = keras.Input((16, 16, 1))
    for number, filters in enumerate((4, 6), start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"block{number}_conv")(x)
        x = layers.MaxPooling2D(name=f"block{number}_pool")(x)
    x = layers.Dense(8, activation="relu", name="fc")(layers.Flatten()(x))
    if head == "fused":
        return keras.Model(image, layers.Dense(3, activation="softmax", name="scores")(x))
    x = layers.Dense(3, name="logits")(x)
    last = {
        "activation": layers.Activation("softmax"),
        "softmax": layers.Softmax(),
        "sigmoid": layers.Activation("sigmoid"),
        "none": layers.Activation("linear"),
    }
    return keras.Model(image, last[head](x))


def normalised():
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(4, 3, name="inside")(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    return keras.Model(image, layers.Dense(3, name="logits")(layers.Flatten()(x)))


def residual():
    x = image = keras.Input((16, 16, 1))
    x = skip = layers.Conv2D(4, 3, padding="same", name="stem")(x)
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="inside")(x)
    x = layers.Conv2D(4, 3, padding="same", name="after")(x)
    x = layers.Add(name="add")([skip, x])
    x = layers.Concatenate(name="with_image")([x, image])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return keras.Model(image, layers.Dense(3, name="logits")(x))


def nested():
    encoder = keras.Sequential(
        [keras.Input((16, 16, 1)), layers.Conv2D(4, 3, name="conv"), layers.ReLU(name="relu")], name="encoder"
    )
    image = keras.Input((16, 16, 1))
    x = layers.Flatten()(encoder(image))
    return keras.Model(image, layers.Dense(3, activation="softmax")(x))


def plain_sequential():
    return keras.Sequential(
        [keras.Input((16, 16, 1)), layers.Conv2D(4, 3, name="conv"), layers.Flatten(), layers.Dense(3, name="out")]
    )


def one_sigmoid():
    image = keras.Input((16, 16, 1))
    x = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(image))
    return keras.Model(image, layers.Dense(1, activation="sigmoid")(x))


def softmax(x):
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def identity(x):
    return x


CASES = [
    (vgg_like, "block1_conv", softmax),
    (vgg_like, "block1_pool", softmax),
    (vgg_like, "block2_conv", softmax),
    (lambda: vgg_like("fused"), "block2_conv", softmax),
    (lambda: vgg_like("softmax"), "block2_conv", softmax),
    (lambda: vgg_like("sigmoid"), "block2_conv", sigmoid),
    (lambda: vgg_like("none"), "block2_conv", identity),
    (normalised, "inside", identity),
    (residual, "inside", identity),
    (residual, "stem", identity),
    (residual, "add", identity),
    (nested, "encoder/conv", softmax),
    (nested, "encoder/relu", softmax),
    (plain_sequential, "conv", identity),
    (one_sigmoid, "conv", identity),
    (models.cnn_1m, "block3_conv", identity),
]


@pytest.mark.parametrize(("build", "layer", "last"), CASES)
def test_the_parts_compute_the_whole(build, layer, last):
    model = build((16, 16, 1)) if build is models.cnn_1m else build()
    tapped = HiResCAM.tap(model, layer)
    found = tapped(images())
    np.testing.assert_allclose(last(np.asarray(found["logits"])), model(images()), atol=1e-5)
    assert found["maps"].shape[-1] == model.output_shape[-1]
    assert {id(weight) for weight in model.weights} == {id(weight) for weight in tapped.weights}


def test_the_cut_is_behind_the_layer():
    model = residual()
    parts = cut(model, "inside")
    before = keras.Model(parts.inputs, parts.crossing)
    crossing = before(images())
    assert [tuple(tensor.shape) for tensor in crossing] == [(3, 16, 16, 4), (3, 16, 16, 1), (3, 16, 16, 4)]
    inside = keras.Model(model.input, model.get_layer("inside").output)
    np.testing.assert_allclose(crossing[0], inside(images()), atol=1e-6)
    np.testing.assert_array_equal(crossing[1], images())
    np.testing.assert_allclose(parts.head(crossing), model(images()), atol=1e-6)
    assert {layer.name for layer in before.layers} & {layer.name for layer in parts.head.layers} == set()


def test_a_unet_is_tapped_on_the_way_to_its_circumference():
    model = models.unet((16, 16, 1), head="ellipse", filters=2, seed=1)
    for layer in ("bottom_conv1", "down2_conv2", "up1_conv2"):
        found = HiResCAM.tap(model, layer, output="hc_fraction")(images())
        np.testing.assert_allclose(found["logits"], model(images())["hc_fraction"], atol=1e-5)
        assert np.isfinite(found["maps"]).all()
        assert np.abs(found["maps"]).max() > 0
    with pytest.raises(ValueError, match=r"Name the output of model 'unet'.*: .*mask.*Received: None\."):
        HiResCAM.tap(model, layer)
    with pytest.raises(ValueError, match=r"of shape \(batch, classes\)\. Received: model 'unet' with an output"):
        HiResCAM.tap(model, layer, output="mask")


def test_several_outputs_by_name_whatever_their_order():
    image = keras.Input((16, 16, 1))
    x = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(image))
    outputs = {"zebra": layers.Dense(2, name="a")(x), "ant": layers.Dense(3, name="z")(x)}
    as_dict, as_list = keras.Model(image, outputs), keras.Model(image, list(outputs.values()))
    for model, zebra, ant in ((as_dict, "zebra", "ant"), (as_list, "a", "z")):
        for name, expected in ((zebra, outputs["zebra"]), (ant, outputs["ant"])):
            found = HiResCAM.tap(model, "conv", output=name)(images())["logits"]
            np.testing.assert_allclose(found, keras.Model(image, expected)(images()), atol=1e-5)


def test_densenet_is_tapped_within_a_block():
    model = keras.applications.DenseNet121(weights=None, input_shape=(32, 32, 3), classes=2)
    found = HiResCAM.tap(model, "conv3_block12_concat")(images((32, 32, 3), 2))
    np.testing.assert_allclose(softmax(np.asarray(found["logits"])), model(images((32, 32, 3), 2)), atol=1e-5)
    assert found["maps"].shape == (2, 4, 4, 2)


def test_the_last_activation_is_left_out_only_where_asked():
    model = one_sigmoid()
    expected = np.asarray(model(images()))
    np.testing.assert_allclose(HiResCAM.tap(model, "conv")(images())["logits"], expected, atol=1e-6)
    before = HiResCAM.tap(model, "conv", before_activation=True)(images())["logits"]
    np.testing.assert_allclose(sigmoid(np.asarray(before)), expected, atol=1e-6)
    model = vgg_like("fused")
    kept = HiResCAM.tap(model, "block1_conv", before_activation=False)(images())["logits"]
    np.testing.assert_allclose(kept, model(images()), atol=1e-6)


@pytest.mark.parametrize("activation", ["sigmoid", None])
def test_the_one_score_of_a_classifier_is_a_logit(activation):
    model = models.cnn_classifier((16, 16, 1), num_classes=1, activation=activation, seed=0)
    pictures = images((16, 16, 1), 3)
    scores = np.asarray(HiResCAM.tap(model, "conv4")(pictures)["logits"])
    expected = np.asarray(model(pictures))
    np.testing.assert_allclose(sigmoid(scores) if activation else scores, expected, atol=1e-6)
    kept = HiResCAM.tap(model, "conv4", before_activation=False)(pictures)["logits"]
    np.testing.assert_allclose(kept, expected, atol=1e-6)


def test_the_model_keeps_its_own_activation():
    model = vgg_like("fused")
    before = np.asarray(model(images()))
    HiResCAM.tap(model, "block1_conv")(images())
    assert model.get_layer("scores").activation is keras.activations.softmax
    np.testing.assert_array_equal(model(images()), before)


def test_half_precision_does_not_round_what_the_layer_computes_in_float32():
    dense = layers.Dense(2, activation="softmax", dtype="float32")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        x = images((5,))
        logits = BeforeActivation(dense)(x)
        assert logits.dtype == "float32"
        np.testing.assert_allclose(logits, x @ np.asarray(dense.kernel) + np.asarray(dense.bias), atol=1e-6)
    finally:
        keras.config.set_dtype_policy("float32")


def test_before_activation_makes_the_round_trip():
    layer = BeforeActivation(layers.Dense(2, activation="softmax", name="scores"), name="logits")
    model = keras.Sequential([keras.Input((4,)), layer])
    again = keras.Sequential.from_config(model.get_config())
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(again(images((4,))), model(images((4,))))
    assert again.layers[0].layer.activation is keras.activations.softmax


@pytest.mark.parametrize("cam", [HiResCAM, GradCAM])
@pytest.mark.parametrize("build", [lambda: vgg_like("fused"), nested, residual, normalised])
def test_tapped_models_are_saved_and_loaded(build, cam, tmp_path):
    model = build()
    layer = {"scores": "block2_conv", "logits": "inside"}.get(model.layers[-1].name, "encoder/relu")
    tapped = cam.tap(model, layer, normalize="max", classes=[2, 0])
    tapped.save(tmp_path / "tapped.keras")
    again = keras.saving.load_model(tmp_path / "tapped.keras")
    expected, found = tapped(images()), again(images())
    assert set(found) == {"logits", "maps"}
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6)


class OwnClass(keras.Model):
    """A model written as a class."""

    def call(self, inputs):
        return inputs


def test_what_is_no_tap_is_refused_by_words():
    model = vgg_like()
    with pytest.raises(ValueError, match=r"leads to its output\. Received: 'block2_con'\. Is it one of block2_conv, "):
        HiResCAM.tap(model, "block2_con")
    with pytest.raises(ValueError, match=r"Received: '\?\?'\. Is it one of block1_pool, block2_conv, block2_pool\?"):
        HiResCAM.tap(model, "??")
    with pytest.raises(
        ValueError, match=r"layer 'fc' of model .* gives \(None, 8\), without spatial axes\. Take .* as 'block2_pool'\."
    ):
        HiResCAM.tap(model, "fc")
    dense = keras.Sequential([keras.Input((4,)), layers.Dense(2, name="dense")])
    with pytest.raises(ValueError, match=r"gives \(None, 2\), without spatial axes\. No layer of it has them\."):
        HiResCAM.tap(dense, "dense")
    with pytest.raises(ValueError, match=r"Received: 'conv'\. None of its layers gives maps\."):
        HiResCAM.tap(dense, "conv")


def test_a_branch_that_leads_elsewhere_is_no_tap():
    image = keras.Input((16, 16, 1))
    first, second = (layers.Conv2D(2, 3, name=name)(image) for name in ("conv_a", "conv_b"))
    outputs = [layers.Dense(2, name=f"out_{x.name}")(layers.Flatten()(x)) for x in (first, second)]
    model = keras.Model(image, outputs)
    with pytest.raises(ValueError, match=r"leads to its output\. Received: 'conv_b'\. Is it one of conv_a\?"):
        HiResCAM.tap(model, "conv_b", output=model.output_names[0])


def test_models_whose_graph_is_unknown_are_refused():
    with pytest.raises(ValueError, match=r"functional or sequential one\. Received: 'own', a OwnClass\. Rebuild it"):
        HiResCAM.tap(OwnClass(name="own"), "conv")
    first, second = keras.Input((16, 16, 1)), keras.Input((16, 16, 1))
    x = layers.Flatten()(layers.Conv2D(2, 3, name="conv")(layers.Add()([first, second])))
    with pytest.raises(ValueError, match="Models of one input can be taken apart"):
        HiResCAM.tap(keras.Model([first, second], layers.Dense(2)(x)), "conv")
