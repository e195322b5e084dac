"""Losses of masks: numbers by hand, other people's implementations, gradients, half precision, XLA, JAX."""

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import dice as scipy_dice
from sklearn.metrics import cohen_kappa_score, log_loss

import hcreg
from hcreg import backend, losses
from hcreg.losses import Dice, DiceCrossEntropy, Focal, FocalKappa, Kappa

EVERY = {
    "dice": Dice(),
    "dice_absolute": Dice("absolute"),
    "kappa": Kappa(),
    "kappa_paper": Kappa("paper"),
    "kappa_absolute": Kappa("absolute"),
    "focal": Focal(),
    "focal_gamma_half": Focal(gamma=0.5),
    "focal_gamma_zero": Focal(gamma=0.0),
    "focal_kappa": FocalKappa(),
    "dice_cross_entropy": DiceCrossEntropy(),
}
OVERLAPS = ("dice", "dice_absolute", "kappa", "kappa_absolute")
TRAINED = {name: EVERY[name] for name in ("dice", "kappa_paper", "focal_kappa", "dice_cross_entropy")}
every = pytest.mark.parametrize("name", EVERY)
PIXELS = st.lists(st.floats(0, 1, width=32), min_size=12, max_size=12)
BITS = st.lists(st.sampled_from([0.0, 1.0]), min_size=12, max_size=12)


def mask(*pixels, shape=None):
    """One image of one class."""
    return np.array(pixels, "float32").reshape(1, *(shape or (1, len(pixels))), 1)


def value(loss, y_true, y_pred):
    return float(np.asarray(keras.ops.cast(loss(y_true, y_pred), loss.dtype if loss.dtype == "float64" else "float32")))


def per_image(loss, y_true, y_pred):
    return np.asarray(type(loss).from_config({**loss.get_config(), "reduction": None})(y_true, y_pred))


def slope(loss, y_true, y_pred):
    return np.asarray(backend.gradient(lambda p: loss(y_true, p), y_pred)).astype("float64")


def random_pair(shape=(2, 5, 4, 3), seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, shape).astype("float32"), rng.uniform(0.02, 0.98, shape).astype("float32")


def network_of(*names):
    """One small network for each loss, all in one model, so that one compilation serves them."""
    keras.utils.set_random_seed(3)
    images = keras.Input((8, 8, 1))
    features = [keras.layers.Dense(4, activation="tanh")(images) for _ in names]
    heads = {n: keras.layers.Dense(1, activation="sigmoid", name=n)(x) for n, x in zip(names, features)}
    return keras.Model(images, heads)


def training_pair():
    x = np.random.default_rng(1).normal(size=(4, 8, 8, 1)).astype("float32")
    return x, (x > 0).astype("float32")


# Numbers by hand


def test_dice_by_hand():
    # sum pg = 0.5 + 0.25, sum p = 1, sum g = 2: 1 - 1.5 / 3
    assert value(Dice(), mask(1, 1, 0, 0), mask(0.5, 0.25, 0.25, 0)) == 0.5
    # a soft truth: sum pg = 0.5 * 0.5 = 0.25, sums 1.5 and 1.5: 1 - (2 * 1.25) / 3
    assert value(Dice(), mask(1, 0.5, 0, 0), mask(1, 0.5, 0, 0)) == pytest.approx(1 / 6)
    assert value(Dice("absolute"), mask(1, 0.5, 0, 0), mask(1, 0.5, 0, 0)) == 0.0
    # sum |p - g| = 0.5 + 0.25, over sums 1.5 and 1.25
    assert value(Dice("absolute"), mask(1, 0.5, 0, 0), mask(0.5, 0.75, 0, 0)) == pytest.approx(0.75 / 2.75)


def test_kappa_by_hand():
    # sums 2 and 1, sum pg = 0.75, N = 4: 1 - (1.5 - 2 * 2 / 4) / (3 - 2 * 2 / 4) = 1 - 0.5 / 2
    assert value(Kappa(), mask(1, 1, 0, 0), mask(0.5, 0.25, 0.25, 0)) == 0.75
    assert value(Kappa(), mask(1, 1, 0, 0), mask(0, 0, 1, 1)) == 2.0  # kappa -1: all wrong, half foreground
    assert value(Kappa(), mask(1, 1, 0, 0), mask(0.5, 0.5, 0.5, 0.5)) == 1.0  # kappa 0: chance
    assert value(Kappa("absolute"), mask(1, 0.5, 0, 0), mask(1, 0.5, 0, 0)) == 0.0


def test_kappa_of_the_paper_by_hand():
    # as above: 1 - (1.5 - 2 * 1 / 4) / (3 - 2 * 0.75 / 4) = 1 - 1 / 2.625
    assert value(Kappa("paper"), mask(1, 1, 0, 0), mask(0.5, 0.25, 0.25, 0)) == pytest.approx(1 - 1 / 2.625)


def test_kappa_of_the_paper_is_not_zero_for_a_perfect_match():
    # 15 x 20 pixels, 30 % of them foreground: 1 - (180 - 27) / (180 - 0.6) = 0.1472
    y = mask(*[1.0] * 90, *[0.0] * 210, shape=(15, 20))
    assert value(Kappa("paper"), y, y) == pytest.approx(0.147, abs=5e-4)
    assert value(Kappa("paper"), y, y) == pytest.approx(1 - 153 / 179.4, abs=1e-6)
    assert value(Kappa(), y, y) == 0.0
    full = np.ones((1, 200, 200, 1), "float32")
    assert value(Kappa("paper"), full, full) == pytest.approx(0.5, abs=1e-4)


def test_focal_by_hand():
    # (0.75 * 0.5^2 * log 2 + 0.25 * 0.1^2 * -log 0.9) / 2
    by_hand = (0.75 * 0.25 * np.log(2) - 0.25 * 0.01 * np.log(0.9)) / 2
    assert value(Focal(), mask(1, 0), mask(0.5, 0.1)) == pytest.approx(by_hand, rel=1e-5)


def test_sums_of_losses_by_hand():
    y_true, y_pred = mask(1, 1, 0, 0), mask(0.5, 0.25, 0.25, 0)
    focal = 0.75 * (0.25 * np.log(2) + 0.5625 * np.log(4)) / 4 + 0.25 * 0.0625 * -np.log(0.75) / 4
    assert value(FocalKappa(), y_true, y_pred) == pytest.approx(0.25 * focal + 0.75 * 0.75, rel=1e-5)
    assert value(FocalKappa(0.0), y_true, y_pred) == pytest.approx(focal, rel=1e-5)
    assert value(FocalKappa(1.0, form="paper"), y_true, y_pred) == pytest.approx(1 - 1 / 2.625)
    cross_entropy = (np.log(2) + np.log(4) - np.log(0.75)) / 4
    assert value(DiceCrossEntropy(), y_true, y_pred) == pytest.approx(0.25 + 0.5 * cross_entropy, rel=1e-5)
    assert value(DiceCrossEntropy(0.2), y_true, y_pred) == pytest.approx(0.1 + 0.8 * cross_entropy, rel=1e-5)


# Other people's implementations, and the printed formulas


@given(BITS, BITS)
@settings(deadline=None, max_examples=30)
def test_on_binary_masks_scipy_and_scikit_learn_agree(truth, prediction):
    y_true, y_pred = mask(*truth, shape=(3, 4)), mask(*prediction, shape=(3, 4))
    if any(truth) or any(prediction):
        expected = scipy_dice(np.array(truth, bool), np.array(prediction, bool))
        assert value(Dice(), y_true, y_pred) == pytest.approx(expected, abs=1e-6)
    if len({*truth, *prediction}) > 1:
        expected = 1 - cohen_kappa_score(truth, prediction)
        assert value(Kappa(), y_true, y_pred) == pytest.approx(expected, abs=1e-6)


def test_focal_and_cross_entropy_agree_with_keras_and_scikit_learn():
    y_true, y_pred = random_pair()
    theirs = keras.losses.BinaryFocalCrossentropy(apply_class_balancing=True, alpha=0.6, gamma=1.5)
    assert value(Focal(1.5, 0.6), y_true, y_pred) == pytest.approx(value(theirs, y_true, y_pred), rel=1e-5)
    assert value(DiceCrossEntropy(0.0), y_true, y_pred) == pytest.approx(
        log_loss(y_true.ravel(), y_pred.ravel().astype("float64")), rel=1e-5
    )


@pytest.mark.parametrize("shape", [(2, 5, 4, 3), (2, 3, 5, 4, 2)])
def test_forms_agree_with_the_printed_formulas_per_image_and_class(shape):
    _, p = random_pair(shape)
    _, g = random_pair(shape, seed=1)  # a soft truth
    p64, g64 = (x.astype("float64").reshape(2, -1, shape[-1]) for x in (p, g))
    n = p64.shape[1]
    both, ps, gs = (p64 * g64).sum(1), p64.sum(1), g64.sum(1)
    apart = np.abs(p64 - g64).sum(1)
    expected = {
        "dice": 1 - 2 * both / (ps + gs),
        "dice_absolute": apart / (ps + gs),
        "kappa": 1 - (2 * both - 2 * ps * gs / n) / (ps + gs - 2 * ps * gs / n),
        "kappa_paper": 1 - (2 * both - ps * gs / n) / (ps + gs - 2 * both / n),
        "kappa_absolute": apart / (ps + gs - 2 * ps * gs / n),
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(per_image(EVERY[name], g, p), numbers.mean(-1), rtol=1e-5, err_msg=name)


# Properties


@given(PIXELS, PIXELS)
@settings(deadline=None, max_examples=30)
def test_dice_lies_between_0_and_1_and_kappa_below_2_and_both_are_symmetric(truth, prediction):
    y_true, y_pred = mask(*truth, shape=(3, 4)), mask(*prediction, shape=(3, 4))
    for name in OVERLAPS:
        number = value(EVERY[name], y_true, y_pred)
        assert -1e-6 <= number <= (1 if name.startswith("dice") else 2) + 1e-6
        assert value(EVERY[name], y_pred, y_true) == pytest.approx(number, abs=1e-6)


@given(BITS, PIXELS)
@settings(deadline=None, max_examples=30)
def test_on_a_binary_truth_the_absolute_form_is_the_other_form(truth, prediction):
    y_true, y_pred = mask(*truth, shape=(3, 4)), mask(*prediction, shape=(3, 4))
    for plain, absolute in (("dice", "dice_absolute"), ("kappa", "kappa_absolute")):
        assert value(EVERY[plain], y_true, y_pred) == pytest.approx(value(EVERY[absolute], y_true, y_pred), abs=1e-6)


@every
def test_a_batch_is_the_mean_of_its_images(name):
    y_true, y_pred = random_pair((2, 5, 4, 2))
    y_true[0] = 0  # two images as different as can be
    apart = [value(EVERY[name], y_true[i : i + 1], y_pred[i : i + 1]) for i in range(2)]
    assert abs(apart[0] - apart[1]) > 1e-3
    assert value(EVERY[name], y_true, y_pred) == pytest.approx(np.mean(apart), rel=1e-5)
    np.testing.assert_allclose(per_image(EVERY[name], y_true, y_pred), apart, rtol=1e-5)
    weighted = float(np.asarray(EVERY[name](y_true, y_pred, sample_weight=np.array([2.0, 0.0], "float32"))))
    assert weighted == pytest.approx(apart[0], rel=1e-5)


@given(BITS, BITS)
@settings(deadline=None, max_examples=30)
def test_kappa_of_the_paper_is_smallest_at_the_truth_all_the_same(truth, prediction):
    y_true, y_pred = mask(*truth, shape=(3, 4)), mask(*prediction, shape=(3, 4))
    assert value(Kappa("paper"), y_true, y_pred) >= value(Kappa("paper"), y_true, y_true) - 1e-6


def optimum(loss, shared):
    """The best probability of an edge pixel of that share, beside a perfect rest of the mask."""
    candidates = np.linspace(0.001, 0.999, 999, dtype="float32")
    rest = np.repeat([1.0, 0.0], 20)
    y_true, y_pred = (np.tile(np.append(rest, shared), (999, 1)).astype("float32") for _ in range(2))
    y_pred[:, -1] = candidates
    return candidates[np.argmin(per_image(loss, y_true[:, None, :, None], y_pred[:, None, :, None]))]


@pytest.mark.parametrize("shared", [0.2, 0.4, 0.8])
def test_which_losses_keep_the_shares_of_an_anti_aliased_truth(shared):
    for name in ("dice_absolute", "kappa_absolute"):
        assert optimum(EVERY[name], shared) == pytest.approx(shared, abs=2e-3)
    assert optimum(DiceCrossEntropy(0.0), shared) == pytest.approx(shared, abs=2e-3)
    for name in ("dice", "kappa"):
        assert optimum(EVERY[name], shared) == pytest.approx(0.999 if shared > 0.5 else 0.001, abs=1e-3)


def test_focal_is_best_at_one_half_where_the_share_is_one_minus_alpha():
    assert optimum(Focal(), 0.25) == pytest.approx(0.5, abs=2e-3)
    assert optimum(Focal(alpha=0.5), 0.5) == pytest.approx(0.5, abs=2e-3)


# Gradients


@every
def test_gradient_agrees_with_finite_differences(name):
    loss = type(EVERY[name]).from_config({**EVERY[name].get_config(), "dtype": "float64"})
    y_true, y_pred = (x.astype("float64") for x in random_pair((1, 3, 2, 2)))
    moves = 1e-6 * np.eye(y_pred.size).reshape(-1, *y_pred.shape[1:])  # one image for every pixel that moves
    repeated = np.repeat(y_true, y_pred.size, 0)
    above, below = (per_image(loss, repeated, y_pred + sign * moves) for sign in (1, -1))
    expected = ((above - below) / 2e-6).reshape(y_pred.shape)
    assert np.abs(expected).max() > 1e-3  # so that the tolerance below means something
    np.testing.assert_allclose(slope(loss, y_true, y_pred), expected, rtol=1e-5, atol=1e-8)


@every
def test_a_step_against_the_gradient_lowers_the_loss(name):
    y_true, y_pred = random_pair()
    better = np.clip(y_pred - 0.01 * slope(EVERY[name], y_true, y_pred), 0, 1).astype("float32")
    assert value(EVERY[name], y_true, better) < value(EVERY[name], y_true, y_pred)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("truth", [0.0, 1.0, "disc"])
@every
def test_values_and_gradients_are_finite_on_empty_and_full_masks(name, truth, dtype):
    y_true = np.zeros((1, 4, 4, 1), "float32")
    y_true[0, 1:3, 1:3] = 1
    y_true = y_true if truth == "disc" else np.full_like(y_true, truth)
    predictions = [0.0, 1e-7, 1e-6, 1e-3, 0.5, 0.999, 1.0]
    y_pred = np.concatenate([y_true, *(np.full_like(y_true, p) for p in predictions)])
    y_true, y_pred = np.repeat(y_true, len(y_pred), 0), keras.ops.cast(y_pred, dtype)
    loss = type(EVERY[name]).from_config({**EVERY[name].get_config(), "reduction": "sum"})  # each image's own gradient
    assert np.isfinite(value(loss, y_true, y_pred))
    assert np.all(np.isfinite(slope(loss, y_true, y_pred)))


@every
def test_perfect_binary_masks_cost_nothing(name):
    for y in (np.zeros((1, 9, 9, 1)), np.ones((1, 9, 9, 1)), random_pair((3, 224, 224, 1))[0]):
        number = value(EVERY[name], y, y)
        assert number == 0.0 or (name == "kappa_paper" and y.any())


def test_an_empty_truth_costs_the_predicted_area_up_to_one_pixel():
    for name in OVERLAPS:
        assert value(EVERY[name], mask(0, 0, 0, 0), mask(0.25, 0, 0, 0)) == 0.25
        assert slope(EVERY[name], mask(0, 0, 0, 0), mask(0.25, 0.1, 0.05, 0.02)) == pytest.approx(1.0)
        assert value(EVERY[name], mask(0, 0, 0, 0), mask(1, 1, 0.5, 0)) == 1.0
    assert value(Kappa(), mask(1, 1, 1, 1), mask(1, 1, 1, 0.75)) == 0.25  # the other way round


def test_a_pixel_wrong_with_certainty_still_has_a_gradient():
    for loss in (Focal(), DiceCrossEntropy()):
        product = slope(loss, mask(1, 0), mask(0, 1)).ravel()
        assert product[0] < -1e3
        assert product[1] > 1e3
    assert value(DiceCrossEntropy(0.0), mask(1), mask(0)) == pytest.approx(1 + np.log(1e5), rel=1e-5)


# Half precision, XLA, training


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@every
def test_half_precision_is_summed_in_float32(name, dtype):
    # 8 images' worth of pixels: the sum, 200,704, is infinite in float16 and stops at 256 in bfloat16
    y_true = np.zeros((1, 448, 448, 1), "float32")
    y_true[:, :, :224] = 1
    y_pred = np.where(y_true > 0, 0.75, 0.25)  # numbers that half precision holds exactly
    expected = value(EVERY[name], y_true, y_pred)
    assert value(EVERY[name], y_true, keras.ops.cast(y_pred, dtype)) == pytest.approx(expected, rel=1e-6)
    config = {**EVERY[name].get_config(), "dtype": dtype}  # what keras.config.set_floatx(dtype) would bring
    assert value(type(EVERY[name]).from_config(config), y_true, y_pred) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_training_under_mixed_precision_with_xla(policy):
    x, y = training_pair()
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = network_of(*TRAINED)
    finally:
        keras.config.set_dtype_policy(before)
    assert {str(output.dtype) for output in model.outputs} == {policy.removeprefix("mixed_")}
    optimizer = keras.optimizers.Adam(0.02)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=64.0)
    model.compile(optimizer, TRAINED, jit_compile=True)
    weights = model.get_weights()
    history = model.fit(x, dict.fromkeys(TRAINED, y), epochs=4, batch_size=2, verbose=0, shuffle=False).history
    for name in TRAINED:
        assert np.all(np.isfinite(history[f"{name}_loss"])), name
        assert history[f"{name}_loss"][-1] < history[f"{name}_loss"][0], name
    assert all(np.any(a != b) for a, b in zip(weights, model.get_weights()))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_gives_the_same_numbers(jit_compile):
    y_true, y_pred = (keras.ops.convert_to_tensor(x) for x in random_pair())

    def function(g, p):
        return [backend.value_and_vjp(lambda x, loss=loss: loss(g, x), p) for loss in EVERY.values()]

    for (number, product), loss in zip(backend.compile_function(function, jit_compile)(y_true, y_pred), EVERY.values()):
        assert float(np.asarray(number)) == pytest.approx(value(loss, y_true, y_pred), rel=1e-5)
        np.testing.assert_allclose(np.asarray(product), slope(loss, y_true, y_pred), rtol=1e-4, atol=1e-6)


def test_keras_file_keeps_the_losses(tmp_path):
    x, y = training_pair()
    model = network_of(*EVERY)
    model.compile("sgd", EVERY)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for name, loss in EVERY.items():
        assert type(loaded.loss[name]) is type(loss)
        assert loaded.loss[name].get_config() == loss.get_config()
    numbers = loaded.evaluate(x, dict.fromkeys(EVERY, y), verbose=0, return_dict=True)
    predictions = model.predict(x, verbose=0)
    for name, loss in EVERY.items():
        assert numbers[f"{name}_loss"] == pytest.approx(value(loss, y, predictions[name]), rel=1e-5)


def test_configurations_hold_every_argument():
    loss = FocalKappa(0.6, 1.5, 0.4, "paper", reduction="sum", name="mine", dtype="float64")
    assert loss.get_config() == {
        "kappa_weight": 0.6,
        "gamma": 1.5,
        "alpha": 0.4,
        "form": "paper",
        "reduction": "sum",
        "name": "mine",
        "dtype": "float64",
    }
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert again.get_config() == loss.get_config()
    assert DiceCrossEntropy(0.3, "absolute").get_config()["dice_weight"] == 0.3
    assert keras.saving.get_registered_name(Dice) == "hcreg>Dice"


JAX_SCRIPT = """
import sys
import keras, numpy as np
from hcreg import backend, losses
assert backend.name() == "jax"
folder = sys.argv[1]
pair = {name: keras.ops.convert_to_tensor(numbers) for name, numbers in np.load(f"{folder}/pair.npz").items()}
rows = [line.split() for line in open(f"{folder}/losses.txt")]


def everything():
    numbers = {}
    for key, class_name, form in rows:
        loss = getattr(losses, class_name)(**({} if form == "-" else {"form": form}))
        y_true, y_pred = (pair["hc_true"], pair["hc_pred"]) if key == "hc" else (pair["y_true"], pair["y_pred"])
        for suffix, truth, prediction in (
            ("", y_true, y_pred),
            ("_half", y_true, keras.ops.cast(y_pred, "bfloat16")),
            ("_empty", *[keras.ops.zeros_like(y_true)] * 2),
        ):
            if (key, suffix) != ("hc", "_empty"):
                value, gradient = backend.value_and_vjp(lambda p: loss(truth, p), prediction)
                numbers[key + suffix] = value
                numbers[key + suffix + "_gradient"] = keras.ops.cast(gradient, "float32")
    return numbers


numbers = {name: np.asarray(x) for name, x in backend.compile_function(everything)().items()}
assert all(np.all(np.isfinite(x)) for x in numbers.values())
assert all(x == 0.0 for name, x in numbers.items() if name.endswith("_empty"))
assert abs(float(losses.Dice()(pair["y_true"], pair["y_pred"])) - numbers["dice"]) < 1e-6  # eager


def train(y):
    model = keras.Sequential([keras.Input((5, 4, 3)), keras.layers.Conv2D(3, 1, activation="sigmoid")])
    model.compile("adam", losses.FocalKappa())
    return model.fit(pair["y_pred"], y, verbose=0).history["loss"]


keras.config.set_dtype_policy("mixed_bfloat16")
assert np.isfinite(train(pair["y_true"])).all()
assert np.isnan(train(255 * pair["y_true"])).all()
try:
    train(pair["y_true"][..., :1])
except ValueError as error:
    assert "of one shape (batch, [depth,] height, width, classes)" in str(error)
else:
    raise SystemExit("a mask of one class was accepted for three")
np.savez(f"{folder}/jax.npz", **numbers)
"""


def test_jax_gives_the_same_numbers(tmp_path):
    pytest.importorskip("jax")
    y_true, y_pred = random_pair()
    y_true[0, ..., 0] = 0
    hc_true, hc_pred = np.array([[0.5], [0.25]], "float32"), np.array([[0.4], [0.3]], "float32")
    np.savez(tmp_path / "pair.npz", y_true=y_true, y_pred=y_pred, hc_true=hc_true, hc_pred=hc_pred)
    picked = {name: EVERY[name] for name in EVERY if "gamma" not in name} | {"hc": losses.RelativeError()}
    rows = [f"{name} {type(loss).__name__} {getattr(loss, 'form', '-')}" for name, loss in picked.items()]
    (tmp_path / "losses.txt").write_text("\n".join(rows))
    result = subprocess.run(
        [sys.executable, "-c", JAX_SCRIPT, str(tmp_path)],
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(Path(hcreg.__file__).parent.parent),
        },
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    theirs = np.load(tmp_path / "jax.npz")
    for name, loss in picked.items():
        truth, prediction = (hc_true, hc_pred) if name == "hc" else (y_true, y_pred)
        assert float(theirs[name]) == pytest.approx(value(loss, truth, prediction), rel=1e-5)
        assert float(theirs[name + "_half"]) == pytest.approx(value(loss, truth, prediction), rel=0.02)
        np.testing.assert_allclose(theirs[name + "_gradient"], slope(loss, truth, prediction), rtol=1e-4, atol=1e-6)


# Bad input


@every
def test_a_mask_without_channel_axis_is_refused(name):
    message = r"expects `y_true` and `y_pred` of one shape \(batch, \[depth,\] height, width, classes\)\. "
    with pytest.raises(
        ValueError, match=message + r"Received: \(2, 5, 4\) and \(2, 5, 4, 1\)\. .*y_true\[\.\.\., None"
    ):
        EVERY[name](np.zeros((2, 5, 4)), np.zeros((2, 5, 4, 1)))


@pytest.mark.parametrize(
    ("truth", "prediction", "remedy"),
    [
        ((2, 5, 4, 3), (2, 5, 4, 1), r"last axis is 3 in the truth and 1 in .*one channel of a mask stored as RGB"),
        ((2, 5, 4, 1), (2, 10, 8, 1), r"Bring the truth to the size of the network's output"),
        ((2, 5, 4), (2, 5, 4), r"Received: \(2, 5, 4\) and \(2, 5, 4\)\. Bring both to that number of axes"),
        ((5, 4), (2, 5, 4, 1), r"Bring both to that number of axes"),
    ],
)
def test_other_shapes_are_refused(truth, prediction, remedy):
    with pytest.raises(ValueError, match=remedy):
        Dice()(np.zeros(truth), np.zeros(prediction))


def test_shapes_are_refused_in_fit():
    x, y = training_pair()
    for wrong, remedy in ((y[..., 0], "Give the truth its last axis"), (np.repeat(y, 3, -1), "stored as RGB")):
        model = network_of("mask")
        model.compile("sgd", Dice())
        with pytest.raises(ValueError, match=remedy):
            model.fit(x, wrong, verbose=0)


def test_values_outside_0_and_1_are_refused_in_an_eager_call():
    y_true, y_pred = random_pair()
    with pytest.raises(ValueError, match=r"dice expects `y_true` in \[0, 1\]\. .*from 0 to 255\. Divide a 0/255 mask"):
        Dice()((255 * y_true).astype("uint8"), y_pred)
    with pytest.raises(ValueError, match=r"kappa expects `y_pred` in \[0, 1\]\. .*from -3 to .*a sigmoid"):
        Kappa()(y_true, np.full_like(y_pred, -3))
    assert np.isfinite(value(Dice(), y_true + 1e-4, y_pred))  # what resampling leaves
    assert np.isnan(value(Dice(), y_true, np.full_like(y_pred, np.nan)))  # a network that diverged


def test_values_outside_0_and_1_give_nan_and_no_step_in_fit():
    x, y = training_pair()
    model = network_of(*TRAINED)
    model.compile("sgd", TRAINED)
    weights = model.get_weights()
    history = model.fit(x, dict.fromkeys(TRAINED, 255 * y), verbose=0).history
    assert all(np.isnan(history[f"{name}_loss"]).all() for name in TRAINED)
    assert all(np.array_equal(a, b) for a, b in zip(weights, model.get_weights()))


def test_integer_and_boolean_masks_are_taken():
    y_true, y_pred = random_pair()
    expected = value(FocalKappa(), y_true, y_pred)
    for dtype in ("uint8", "int64", bool):
        assert value(FocalKappa(), y_true.astype(dtype), y_pred) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Dice("soft"), r"Dice has the forms 'paper', 'absolute'\. Received: form='soft'"),
        (lambda: Dice(1.0), r"Dice has the forms .*form=1\.0"),
        (lambda: Kappa("printed"), r"Kappa has the forms 'correct', 'paper', 'absolute'\. Received: form='printed'"),
        (lambda: FocalKappa(form="x"), r"FocalKappa has the forms 'correct'.*form='x'"),
        (lambda: DiceCrossEntropy(form="correct"), r"DiceCrossEntropy has the forms 'paper', 'absolute'"),
        (lambda: Focal(gamma=-1), r"`gamma` of Focal is a finite number from 0 on\. Received: -1"),
        (lambda: Focal(gamma=float("nan")), r"`gamma` of Focal is a finite number from 0 on\. Received: nan"),
        (lambda: Focal(alpha=1.5), r"`alpha` of Focal is a share from 0 to 1\. Received: 1\.5"),
        (lambda: Focal(alpha=None), r"`alpha` of Focal is a number\. Received: None"),
        (lambda: FocalKappa(75), r"`kappa_weight` of FocalKappa is a share from 0 to 1\. Received: 75"),
        (lambda: DiceCrossEntropy("half"), r"`dice_weight` of DiceCrossEntropy is a number\. Received: 'half'"),
    ],
)
def test_parameters_out_of_range_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
