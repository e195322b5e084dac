"""Networks that tell where their scores come from: trained with `fit`, saved, compiled, on TensorFlow and on JAX."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from hcreg import losses, models
from hcreg.attention import channel
from hcreg.models import with_attention

SIDE = 12
# Run as a script on JAX by the last test.
SCRIPT = Path(__file__)


@pytest.fixture(autouse=True)
def _seeds():
    keras.backend.clear_session()
    keras.utils.set_random_seed(11)


def classifier(*head, classes=3, dropout=0.0):
    x = image = keras.Input((SIDE, SIDE, 1), name="picture")
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.MaxPooling2D(2, name="pool")(x)
    for layer in head:
        x = layer(x)
    x = layers.Dense(6, activation="relu", name="hidden")(layers.Flatten()(x))
    x = layers.Dropout(dropout)(x) if dropout else x
    x = layers.Dense(classes, name="logits")(x)
    return keras.Model(image, layers.Activation("softmax", name="probabilities")(x), name="small")


def data(number=8, classes=3, seed=0):
    """Random images, labels, and masks that allow the left half."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(number, SIDE, SIDE, 1)).astype("float32")
    masks = np.zeros((number, SIDE, SIDE, 1), "uint8")
    masks[:, :, : SIDE // 2] = 1
    return {"image": images, "mask": masks}, rng.integers(classes, size=number)


def read(predictions, name):
    return np.asarray(channel(predictions, name))


def test_inputs_and_output():
    guided = with_attention(classifier(), "conv")
    assert guided.output_shape == (None, 3, 7)
    assert with_attention(classifier(), "conv", swap=True).output_shape == (None, 3, 8)
    assert {name: tensor.shape for name, tensor in guided.input.items()} == {
        "image": (None, SIDE, SIDE, 1),
        "mask": (None, SIDE, SIDE, 1),
    }
    assert guided.name == "small_with_attention"


def test_numbers_are_those_of_the_model_and_of_its_maps():
    from hcreg.layers import GradCAM, HiResCAM

    model = classifier()
    x, _ = data()
    for cam, layer in (("hires_cam", HiResCAM), ("grad_cam", GradCAM)):
        found = with_attention(model, "conv", cam=cam)(x)
        parts = layer.tap(model, "conv")(x["image"])
        maps = np.asarray(parts["maps"])
        np.testing.assert_allclose(read(found, "logit"), parts["logits"], atol=1e-6)
        np.testing.assert_allclose(read(found, "total"), np.abs(maps).sum(axis=(1, 2)), rtol=1e-4)
        right = np.abs(maps[:, :, SIDE // 2 :]).sum(axis=(1, 2))
        np.testing.assert_allclose(read(found, "outside"), right, rtol=1e-4)


def test_swapping_asked_for_by_the_loss_alone_is_refused():
    guided = with_attention(classifier(), "conv")
    x, y = data()
    guided.compile("adam", loss=losses.Heatmap(swap_weight=1.0))
    with pytest.raises(ValueError, match=r"no swapped_logit\. Make it by with_attention\(.*, swap=True\)"):
        guided.fit(x, y, verbose=0)


def test_a_mask_of_ones_has_no_outside():
    x, _ = data()
    found = with_attention(classifier(), "pool")({**x, "mask": np.ones_like(x["mask"])})
    for name in ("outside", "signed_outside", "positive_outside"):
        np.testing.assert_allclose(read(found, name), 0.0, atol=1e-6)
    assert read(found, "total").max() > 0.1


def test_maps_of_some_classes_or_of_the_predicted_one():
    model = classifier()
    x, _ = data()
    everything = with_attention(model, "conv")(x)
    some = with_attention(model, "conv", classes=[2])(x)
    np.testing.assert_allclose(read(some, "total")[:, 2], read(everything, "total")[:, 2], rtol=1e-5)
    assert np.all(read(some, "total")[:, :2] == 0)
    predicted = read(everything, "logit").argmax(axis=1)[:, None]
    one = read(with_attention(model, "conv", classes="predicted")(x), "outside")
    expected = np.take_along_axis(read(everything, "outside"), predicted, 1)
    np.testing.assert_allclose(np.take_along_axis(one, predicted, 1), expected, rtol=1e-5)
    assert (one > 0).sum(axis=1).max() == 1


def test_a_mask_for_each_class():
    model = classifier()
    x, _ = data()
    left, right = x["mask"], 1 - x["mask"]
    masks = np.concatenate([left, right, np.ones_like(left)], axis=-1)
    found = read(with_attention(model, "conv", mask_channels=3)({**x, "mask": masks}), "outside")
    for number, mask in enumerate((left, right, np.ones_like(left))):
        expected = read(with_attention(model, "conv")({**x, "mask": mask}), "outside")
        np.testing.assert_allclose(found[:, number], expected[:, number], atol=1e-5)


def test_swapped_scores_are_those_of_swapped_images():
    model = classifier()
    x, _ = data()
    guided = with_attention(model, "conv", swap=True)
    swapped = x["image"].copy()
    swapped[:, :, SIDE // 2 :] = np.roll(x["image"], 1, axis=0)[:, :, SIDE // 2 :]
    found = guided(x)
    np.testing.assert_allclose(read(found, "swapped_logit"), read(guided({**x, "image": swapped}), "logit"), atol=1e-5)
    assert np.abs(read(found, "swapped_logit") - read(found, "logit")).max() > 0.01


def test_bilinear_masks_and_areas_differ_where_cells_are_large():
    model = classifier(layers.MaxPooling2D(3))
    x, _ = data()
    x["mask"] = np.zeros_like(x["mask"])
    x["mask"][:, :1, :1] = 1
    area, bilinear = (
        read(with_attention(model, "max_pooling2d", resize=kind)(x), "outside") for kind in ("area", "bilinear")
    )
    np.testing.assert_allclose(bilinear, read(with_attention(model, "max_pooling2d")(x), "total"), rtol=1e-5)
    assert np.all(area <= bilinear)
    assert area.sum() < bilinear.sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cam": "lrp"}, r"A map is 'hires_cam' or 'grad_cam'\. Received: cam='lrp'\."),
        ({"classes": "true"}, r'classes is "all", "predicted" or a list of numbers here.*Received: \'true\'\.'),
        ({"tap": "convs"}, r"A tap is a layer of model 'small' .*Received: 'convs'\. Is it one of conv"),
        ({"tap": "hidden"}, r"which gives \(None, 6\), without spatial axes"),
        ({"mask_channels": 2}, r"A mask has one channel, or one for each of the 3 classes\. Received: 2\."),
        ({"resize": "nearest"}, r"A mask is resized by 'area' or 'bilinear'\. Received: 'nearest'\."),
    ],
)
def test_choices_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        with_attention(classifier(), **{"tap": "conv", **options})


def test_images_are_of_a_fixed_size():
    x = image = keras.Input((None, None, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, name="conv")(x))
    with pytest.raises(ValueError, match=r"of a fixed size.*Build the network for images of a fixed size\."):
        with_attention(keras.Model(image, layers.Dense(2)(x)), "conv")


def train(guided, steps=2, loss=None, batch=8, **options):
    """Losses of so many training steps, and the guided network."""
    guided.compile(
        keras.optimizers.SGD(0.005), loss=loss or losses.Heatmap(weight=0.5, ramp_steps=2, swap_weight=0.1), **options
    )
    x, y = data()
    return guided.fit(x, y, batch_size=batch, epochs=steps, shuffle=False, verbose=0).history["loss"]


def test_training_the_guided_network_trains_the_plain_one():
    model = classifier()
    guided = with_attention(model, "conv", swap=True)
    x, _ = data()
    before = np.asarray(model(x["image"]))
    train(guided, 3)
    after = model.predict(x["image"], verbose=0)
    assert np.abs(after - before).max() > 0.01
    scores = read(guided.predict(x, verbose=0), "logit")
    shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(shares, after, atol=1e-5)
    assert {id(weight) for weight in model.weights} <= {id(weight) for weight in guided.weights}
    assert len(guided.weights) == len(model.weights) + 1  # the count of steps


def test_steps_are_counted_by_fit_and_not_by_evaluate():
    guided = with_attention(classifier(), "conv")
    train(guided, 3, losses.Heatmap(), batch=4)
    x, y = data()
    guided.evaluate(x, y, verbose=0)
    assert read(guided.predict(x, verbose=0), "step").tolist() == [[6.0] * 3] * 8


@pytest.mark.parametrize("swap", [False, True])
def test_guided_networks_are_saved_and_loaded_compiled(swap, tmp_path):
    model = classifier(layers.BatchNormalization(), dropout=0.2)
    guided = with_attention(model, "conv", swap=swap, cam="grad_cam", classes=[0, 2])
    schedule = keras.optimizers.schedules.ExponentialDecay(2.0, 5, 0.5)
    train(guided, 2, losses.Heatmap(weight=schedule, classes=[0, 2]), metrics=losses.heatmap_metrics(swap=swap))
    guided.save(tmp_path / "guided.keras")
    again = keras.saving.load_model(tmp_path / "guided.keras")
    x, y = data()
    np.testing.assert_allclose(again.predict(x, verbose=0), guided.predict(x, verbose=0), atol=1e-6)
    assert again.loss.get_config() == guided.loss.get_config()
    expected, found = (network.evaluate(x, y, verbose=0, return_dict=True) for network in (guided, again))
    assert set(expected) == {"loss", "accuracy", "share_outside", "inflation", "relevance", *["swap_effect"] * swap}
    assert found == pytest.approx(expected, rel=1e-5)
    plain = tmp_path / "plain.keras"
    model.save(plain)
    reloaded = keras.saving.load_model(plain)
    np.testing.assert_allclose(reloaded.predict(x["image"], verbose=0), model.predict(x["image"], verbose=0), atol=1e-6)


def test_xla_gives_the_same_losses():
    found = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(4)
        model = classifier(layers.Conv2D(3, 3, activation="tanh"), layers.MaxPooling2D(), layers.BatchNormalization())
        found.append(train(with_attention(model, "conv", swap=True), 2, jit_compile=jit_compile))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-4)
    assert abs(found[0][0] - found[0][1]) > 1e-3


def test_half_precision_trains_with_float32_maps():
    found = {}
    for policy in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(4)
        keras.config.set_dtype_policy(policy)
        try:
            guided = with_attention(classifier(), "conv", swap=True)
            assert guided.output.dtype == "float32"
            found[policy] = train(guided, 3)
        finally:
            keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(found["mixed_bfloat16"], found["float32"], rtol=0.05)


def test_statistics_move_once_a_step_before_and_behind_the_tap():
    image = keras.Input((SIDE, SIDE, 1))
    x = layers.BatchNormalization(momentum=0.5, name="before")(image)
    x = layers.Conv2D(2, 3, name="conv")(x)
    x = layers.BatchNormalization(momentum=0.5, name="behind")(x)
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    x, y = data()
    inner = keras.Model(image, model.get_layer("conv").output)
    maps = np.asarray(inner((x["image"] - x["image"].mean()) / np.sqrt(x["image"].var() + 1e-3)))  # not by moving ones
    scale = np.sqrt(1 + 1e-3)  # the moving variance of the first layer is still one
    maps = (maps - np.asarray(inner.get_layer("conv").bias)) * scale + np.asarray(inner.get_layer("conv").bias)
    guided = with_attention(model, "conv")
    guided.compile(keras.optimizers.SGD(0.0), loss=losses.Heatmap())
    guided.fit(x, y, batch_size=8, verbose=0)
    np.testing.assert_allclose(model.get_layer("before").moving_mean, 0.5 * x["image"].mean(axis=(0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(model.get_layer("behind").moving_mean, 0.5 * maps.mean(axis=(0, 1, 2)), atol=1e-4)


class Counting(layers.Layer):
    """Passes on what it gets, and counts how often it does in training."""

    calls = 0

    def call(self, inputs, training=None):
        self.calls += bool(training)
        return inputs


def test_a_step_runs_features_and_head_once():
    before, behind = Counting(), Counting()
    image = keras.Input((SIDE, SIDE, 1))
    x = layers.Conv2D(2, 3, name="conv")(before(image))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(behind(x))))
    for swap, times in ((False, 1), (True, 2)):
        guided = with_attention(model, "conv", swap=swap)
        guided.compile("sgd", loss=losses.Heatmap(), run_eagerly=True)
        before.calls = behind.calls = 0
        x, y = data()
        guided.fit(x, y, batch_size=4, epochs=2, verbose=0)
        assert (before.calls, behind.calls) == (4 * times, 4 * times)


def test_weights_of_images_in_fit_by_hand():
    guided = with_attention(classifier(), "conv")
    x, y = data()
    each = np.asarray(losses.Heatmap(ramp_steps=0, reduction=None)(y, guided(x)))
    for weights, factors in (
        ({"sample_weight": np.arange(8.0)}, np.arange(8.0)),
        ({"class_weight": {0: 0.5, 1: 3.0, 2: 1.0}}, np.array([0.5, 3.0, 1.0])[y]),
    ):
        guided.compile(keras.optimizers.SGD(0.0), loss=losses.Heatmap(ramp_steps=0))
        found = guided.fit(x, y, batch_size=8, verbose=0, **weights).history["loss"][0]
        assert found == pytest.approx((each * factors).mean(), rel=1e-4)


def rings(number=16, side=32):
    """Rings of random size with a patch outside that tells the size, masks of the rings, and their circumferences."""
    rng = np.random.default_rng(0)
    radius = rng.uniform(5, 9, size=(number, 1, 1))
    rows, columns = np.mgrid[:side, :side]
    ring = np.abs(np.hypot(rows - 16, columns - 16) - radius) < 1.5
    images = ring + 0.1 * rng.normal(size=(number, side, side))
    images[:, :3, :8] += radius / 5  # what a network would like to look at
    return images[..., None].astype("float32"), ring[..., None].astype("uint8"), (2 * np.pi * radius[:, 0] / side)


@pytest.mark.parametrize(
    ("build", "tap", "loss"),
    [
        (models.cnn_263k, "block2_conv", losses.RelativeError()),
        (models.cnn_1m, "block3_conv", keras.losses.MeanAbsoluteError()),
    ],
)
def test_regressors_of_head_circumference_learn_where_to_look(build, tap, loss):
    images, masks, circumferences = rings()
    model = build((32, 32, 1), seed=1)
    guided = with_attention(model, tap)
    heatmap = losses.Heatmap(data=loss, attention="share", weight=1.0, ramp_steps=0)
    guided.compile(keras.optimizers.Adam(5e-3), loss=heatmap, metrics=losses.heatmap_metrics(regression=True))
    x = {"image": images, "mask": masks}
    history = guided.fit(x, circumferences, batch_size=16, epochs=20, verbose=0).history
    assert np.isfinite(history["loss"]).all()
    assert np.mean(history["share_outside"][-3:]) < 0.96 * np.mean(history["share_outside"][:3])
    assert history["relevance"][-1] > 0.01


def three_steps(folder):
    """Train from weights in a folder for three steps; run on either backend. Losses, statistics and a prediction."""
    model = classifier(layers.BatchNormalization(momentum=0.5, name="bn"))
    if (folder / "start.weights.h5").exists():
        model.load_weights(folder / "start.weights.h5")
    else:
        model.save_weights(folder / "start.weights.h5")
    results = {}
    guided = with_attention(model, "conv", swap=True)
    x, y = data()
    options = {"loss": losses.Heatmap(weight=0.5, ramp_steps=2, swap_weight=0.1, classes=[0, 2], image_classes=[0, 1])}
    guided.compile(keras.optimizers.SGD(0.002), metrics=losses.heatmap_metrics(swap=True), **options)
    history = guided.fit(
        x, y, batch_size=8, epochs=3, shuffle=False, verbose=0, class_weight={0: 1.0, 1: 2.0, 2: 0.5}
    ).history
    results.update({name: np.array(values) for name, values in history.items()})
    results["moving_mean"] = np.asarray(model.get_layer("bn").moving_mean)
    results["prediction"] = guided.predict(x, verbose=0)
    # Scores and maps of one draw of dropout: behind a linear head they sum to each other.
    image = keras.Input((SIDE, SIDE, 1))
    features = layers.Conv2D(2, 3, name="conv")(image)
    linear = keras.Model(image, layers.Dense(2, use_bias=False)(layers.Dropout(0.5)(layers.Flatten()(features))))
    guided = with_attention(linear, "conv")
    outputs = [guided(x, training=True) for _ in range(2)]
    np.testing.assert_allclose(read(outputs[0], "signed_total"), read(outputs[0], "logit"), atol=1e-4)
    assert np.abs(read(outputs[0], "logit") - read(outputs[1], "logit")).max() > 1e-3
    assert read(guided(x), "step")[0, 0] == 2.0
    # A step of it, dropout and all: its state leaves the derivative.
    guided.compile("sgd", loss=losses.Heatmap())
    assert np.isfinite(guided.fit(x, y % 2, verbose=0).history["loss"][0])
    np.savez(folder / f"{keras.backend.backend()}.npz", **results)
    return results


@pytest.mark.proof
def test_jax_trains_alike(tmp_path):
    pytest.importorskip("jax")
    ours = three_steps(tmp_path)
    script = f"import pathlib, runpy; runpy.run_path({str(SCRIPT)!r})['three_steps'](pathlib.Path({str(tmp_path)!r}))"
    finished = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
        cwd=Path(models.__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert ours["loss"][2] != pytest.approx(ours["loss"][0], rel=1e-3)
    with np.load(tmp_path / "jax.npz") as theirs:
        assert set(theirs) == set(ours)
        for name, expected in ours.items():
            np.testing.assert_allclose(theirs[name], expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_examples():
    assert doctest.testmod(sys.modules["hcreg.models.attention"]).failed == 0
