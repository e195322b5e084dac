"""AOPC: the papers' procedure against loops, models with a known answer, one stream for any batch size, bad input."""

import doctest
import gc
import weakref
from itertools import permutations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.analyzers import perturbation
from hcreg.analyzers.perturbation import PAPER_PROTOCOL, aopc, compare_analyzers, perturbation_sequence

# Each example runs a model, so few; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True, max_examples=8)
NEARLY_NO_NOISE = {"noise": 1e-6, "noise_scale": "absolute", "draws": 1, "baselines": ()}


def images_of(shape=(8, 8, 3), num_images=4, seed=0):
    return np.random.default_rng(seed).normal(size=(num_images, *shape)).astype(np.float32)


def linear_model(weights):
    """f(x) = sum of weights * x."""
    inputs = keras.Input(weights.shape)
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(keras.layers.Flatten()(inputs)))
    model.set_weights([np.asarray(weights, np.float32).reshape(-1, 1)])
    return model


def small_cnn(shape=(16, 16, 3)):
    keras.utils.set_random_seed(3)
    x = inputs = keras.Input(shape)
    for filters in (4, 6):
        x = keras.layers.Conv2D(filters, 3, strides=2, activation="relu", bias_initializer="normal")(x)
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(x)))


@pytest.fixture(scope="module")
def cnn():
    return small_cnn()


class Stub:
    """An analyzer that knows its maps by the sum of the image."""

    name = "stub"

    def __init__(self, images, maps):
        self.maps = {image.sum(): map_ for image, map_ in zip(images, maps)}
        self.sizes = []

    def analyze(self, images):
        self.sizes.append(len(images))
        return np.array([self.maps[image.sum()] for image in images])


def test_examples():
    assert doctest.testmod(perturbation).attempted > 0
    assert doctest.testmod(perturbation).failed == 0


class TestPaper:
    @pytest.mark.parametrize("channels", ["all", "first"])
    @pytest.mark.parametrize(("normalization", "divisor"), [("samek", 16), ("paper", 15)])
    def test_is_the_papers_procedure_written_as_loops(self, cnn, channels, normalization, divisor):
        images, maps = images_of((16, 16, 3), 3), images_of((16, 16, 3), 3, seed=1)
        targets_px = np.array([300.0, -100.0, 20.0])
        settings = PAPER_PROTOCOL | {"channels": channels, "normalization": normalization}
        found = aopc(cnn, maps, images, targets_px, scale=250.0, unit="px", **settings)
        for number in range(3):
            saliency = {}
            for row in range(4):
                for column in range(4):
                    where = (slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
                    saliency[4 * row + column] = maps[number][where].mean(axis=-1).mean()
            ranking = sorted(saliency, key=saliency.get, reverse=True)
            assert found.region_order[number].tolist() == ranking
            np.testing.assert_allclose(found.region_scores[number].reshape(-1), list(saliency.values()), atol=1e-6)
            errors_px = []
            for step in range(16):
                perturbed = images[number].copy()  # every step starts from the clean image
                values = found.perturbation.noise_values(images[number])
                noise = found.perturbation.noise_field((16, 16, 3), values, number, 0, step)
                for region in ranking[:step]:
                    row, column = divmod(region, 4)
                    where = (slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
                    replaced = slice(0, 3 if channels == "all" else 1)
                    perturbed[where][..., replaced] = noise[where][..., replaced]
                prediction = float(keras.ops.convert_to_numpy(cnn(perturbed[None]))[0, 0])
                errors_px.append(abs(250.0 * prediction - targets_px[number]))
            np.testing.assert_allclose(found.errors[number], errors_px, rtol=1e-4, atol=1e-3)
            score = sum(errors_px[0] - error for error in errors_px) / divisor
            assert found.scores[number] == pytest.approx(score, rel=1e-3, abs=1e-3)

    def test_protocol_is_what_the_paper_says(self):
        assert PAPER_PROTOCOL["regions"] == (4, 4)
        assert (PAPER_PROTOCOL["steps"], PAPER_PROTOCOL["draws"]) == (15, 1)
        assert (PAPER_PROTOCOL["noise"], PAPER_PROTOCOL["noise_scale"]) == (0.3, "absolute")

    def test_on_standardised_images_the_default_noise_is_the_papers(self, cnn):
        images = images_of((16, 16, 3))
        images = (images - images.mean(axis=(1, 2), keepdims=True)) / images.std(axis=(1, 2), keepdims=True)
        paper = aopc(cnn, images, images, **PAPER_PROTOCOL)
        default = aopc(cnn, images, images, draws=1, baselines=())
        np.testing.assert_allclose(default.errors, paper.errors, atol=1e-5)


class TestKnownAnswers:
    def test_true_order_beats_every_other_on_an_additive_model(self):
        weights = np.zeros((4, 4, 1))
        weights[:2, :2], weights[:2, 2:], weights[2:, :2], weights[2:, 2:] = 0.3, 1.0, 0.6, 0.1
        model, images = linear_model(weights), np.ones((1, 4, 4, 1), np.float32)
        scores = {}
        for order in permutations(range(4)):
            maps = np.zeros((1, 4, 4, 1))
            for rank, region in enumerate(order):
                row, column = divmod(region, 2)
                maps[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = -rank
            found = aopc(model, maps, images, regions=(2, 2), steps=3, **NEARLY_NO_NOISE)
            assert found.region_order[0].tolist() == list(order)
            scores[order] = found.mean_score
        best = aopc(model, weights[None] * images, images, regions=(2, 2), steps=3, **NEARLY_NO_NOISE)
        # Contributions 4, 2.4, 1.2 of the first three: errors 0, 4, 6.4, 7.6, mean 4.5.
        assert best.mean_score == pytest.approx(-4.5, abs=1e-4)
        assert best.region_order[0].tolist() == [1, 2, 0, 3]
        others = [score for order, score in scores.items() if order != (1, 2, 0, 3)]
        assert len(others) == 23
        assert scores[1, 2, 0, 3] == best.mean_score < min(others) - 0.01

    def test_a_planted_cue_is_found_and_beats_random_beats_reversed(self):
        rows, columns = np.mgrid[:16, :16]
        weights = np.zeros((16, 16, 1))
        weights[(rows - 6) ** 2 + (columns - 6) ** 2 <= 4] = 1.0
        images = 2 + images_of((16, 16, 1), 12)
        found = aopc(linear_model(weights), np.tile(weights, (12, 1, 1, 1)), images, noise=0.1, noise_scale="absolute")
        random, reversed_ = found.baselines["random"], found.baselines["least_relevant_first"]
        assert found.score_interval[1] < random.score_interval[0]
        assert random.score_interval[1] < reversed_.score_interval[0]
        assert (found.region_order[:, 0] == 5).all()  # the disc lies in the second row and column of regions

    def test_all_channels_are_perturbed(self):
        weights = np.zeros((8, 8, 3))
        weights[..., 2] = 1.0
        images = images_of() + 1
        options = {
            "regions": (2, 2),
            "steps": 4,
            **NEARLY_NO_NOISE,
        }  # every number becomes 0: the sum falls by about 64
        assert (aopc(linear_model(weights), images, images, **options).errors[:, -1] > 32).all()
        assert (aopc(linear_model(weights), images, images, channels="first", **options).errors == 0).all()
        weights[..., 0] = 1.0
        assert (aopc(linear_model(weights), images, images, channels="first", **options).errors[:, -1] > 32).all()

    def test_error_is_in_the_unit_of_scale_times_output_for_each_image(self):
        images = images_of((4, 4, 1), 3)
        weights, scale_mm = np.ones((4, 4, 1)), np.array([10.0, 20.0, 30.0])
        targets_mm = np.array([1.0, 2.0, 3.0])
        options = {"regions": (2, 2), "steps": 2, **NEARLY_NO_NOISE}
        found = aopc(linear_model(weights), images, images, targets_mm, scale=scale_mm, unit="mm", **options)
        sums = images.reshape(3, 2, 2, 2, 2).sum(axis=(2, 4)).reshape(3, 4)
        for number in range(3):
            ranking = np.argsort(-sums[number])
            left = [sums[number].sum() - sums[number][ranking[:step]].sum() for step in range(3)]
            expected_mm = np.abs(scale_mm[number] * np.array(left) - targets_mm[number])
            np.testing.assert_allclose(found.errors[number], expected_mm, atol=1e-3)
            np.testing.assert_allclose(found.predictions[number], scale_mm[number] * np.array(left), atol=1e-3)
        assert found.unit == "mm"
        squared = aopc(linear_model(weights), images, images, targets_mm, scale=scale_mm, error="squared", **options)
        np.testing.assert_allclose(squared.errors, found.errors**2, rtol=1e-4)
        own = aopc(
            linear_model(weights),
            images,
            images,
            targets_mm,
            scale=scale_mm,
            error=lambda a, b: 2 * abs(a - b),
            **options,
        )
        np.testing.assert_allclose(own.errors, 2 * found.errors, rtol=1e-6)

    def test_draws_and_random_orders_are_averaged(self, cnn):
        images = images_of((16, 16, 3), 2)
        found = aopc(cnn, images, images, draws=3, steps=5, random_orders=2)
        for curves, orders in ((found, [found.region_order]), (found.baselines["random"], None)):
            if orders is None:
                orders = [[found.perturbation.random_order(image, n) for image in range(2)] for n in range(2)]
            expected = np.zeros((2, 6))
            for image in range(2):
                clean = float(cnn(images[image : image + 1])[0, 0])
                for order in orders:
                    for draw in range(3):
                        for step in range(1, 6):
                            values = found.perturbation.noise_values(images[image])
                            field = found.perturbation.noise_field((16, 16, 3), values, image, draw, step)
                            perturbed = images[image].copy()
                            found.perturbation.replace(perturbed, order[image], step, field)
                            prediction = float(cnn(perturbed[None])[0, 0])
                            expected[image, step] += abs(prediction - clean) / 3 / len(orders)
            np.testing.assert_allclose(curves.errors, expected, atol=1e-5)


class TestStream:
    def test_is_deterministic_and_seeded(self, cnn):
        images = images_of((16, 16, 3))
        first, again, other = (aopc(cnn, images, images, steps=4, seed=seed) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first.errors, again.errors)
        np.testing.assert_array_equal(first.baselines["random"].errors, again.baselines["random"].errors)
        assert first.score_interval == again.score_interval
        assert (first.errors[:, 1:] != other.errors[:, 1:]).all()

    @pytest.mark.parametrize("batch_size", [1, 7, 500])
    def test_batch_size_changes_nothing(self, cnn, batch_size):
        images = images_of((16, 16, 3))
        expected = aopc(cnn, images, images, steps=4, batch_size=32)
        found = aopc(cnn, images, images, steps=4, batch_size=batch_size)
        np.testing.assert_allclose(found.errors, expected.errors, atol=1e-6)
        np.testing.assert_array_equal(found.region_order, expected.region_order)

    def test_appended_images_change_no_others(self, cnn):
        images = images_of((16, 16, 3), 6)
        expected = aopc(cnn, images[:2], images[:2], steps=4)
        found = aopc(cnn, images, images, steps=4)
        np.testing.assert_allclose(found.errors[:2], expected.errors, atol=1e-6)
        for name, baseline in expected.baselines.items():
            np.testing.assert_allclose(found.baselines[name].errors[:2], baseline.errors, atol=1e-6)

    def test_an_analyzer_object_is_asked_for_few_maps_at_a_time(self, cnn):
        images = images_of((16, 16, 3), 70)
        maps = images_of((16, 16, 1), 70, seed=1)
        stub = Stub(images, maps)
        options = {"steps": 1, "draws": 1, "baselines": ()}
        found, expected = aopc(cnn, stub, images, **options), aopc(cnn, maps, images, **options)
        assert stub.sizes == [64, 6]
        assert (found.name, expected.name) == ("stub", "maps")
        np.testing.assert_array_equal(found.errors, expected.errors)

    def test_a_progress_bar_changes_nothing(self, cnn):
        images = images_of((16, 16, 3))
        quiet, shown = (aopc(cnn, images, images, steps=2, draws=1, progress=progress) for progress in (False, True))
        np.testing.assert_array_equal(quiet.errors, shown.errors)

    def test_the_model_is_left_as_it_was(self, cnn):
        before = [weight.copy() for weight in cnn.get_weights()]
        images = images_of((16, 16, 3))
        aopc(cnn, images, images, steps=2, draws=1)
        for weight, old in zip(cnn.get_weights(), before, strict=True):
            np.testing.assert_array_equal(weight, old)

    def test_the_model_is_not_kept_alive(self):
        model, images = linear_model(np.ones((4, 4, 1))), images_of((4, 4, 1))
        aopc(model, images, images, regions=2, steps=2)
        reference = weakref.ref(model)
        del model
        keras.backend.clear_session()
        gc.collect()
        assert reference() is None

    def test_new_weights_are_seen(self):
        model, images = linear_model(np.ones((4, 4, 1))), images_of((4, 4, 1))
        options = {"regions": (2, 2), "steps": 2, **NEARLY_NO_NOISE}
        before = aopc(model, images, images, **options)
        model.set_weights([2 * weight for weight in model.get_weights()])
        np.testing.assert_allclose(aopc(model, images, images, **options).errors, 2 * before.errors, rtol=1e-4)


class TestOrders:
    @PROPERTIES
    @given(st.integers(0, 2**32 - 1), st.integers(1, 3))
    def test_with_all_regions_replaced_every_order_has_the_same_error(self, seed, draws):
        images = images_of((6, 6, 2), 2, seed=seed)
        model = linear_model(np.random.default_rng(seed).normal(size=(6, 6, 2)))
        found = aopc(model, images, images, regions=(2, 2), steps=4, draws=draws, seed=seed % 100)
        for baseline in found.baselines.values():
            np.testing.assert_allclose(baseline.errors[:, [0, -1]], found.errors[:, [0, -1]], atol=1e-4)

    @PROPERTIES
    @given(st.floats(0.01, 100), st.integers(0, 1000))
    def test_relative_noise_makes_scores_indifferent_to_the_scaling_of_the_input(self, factor, seed):
        images = images_of((6, 6, 2), 2, seed=seed)
        weights = np.random.default_rng(seed).normal(size=(6, 6, 2))
        options = {"regions": (2, 2), "steps": 3, "draws": 1}
        found = aopc(linear_model(weights), images, images, **options)
        scaled = aopc(linear_model(weights / factor), images, factor * images, **options)
        np.testing.assert_allclose(scaled.scores, found.scores, rtol=1e-3, atol=1e-3)

    def test_least_relevant_first_is_the_reverse(self, cnn):
        images = images_of((16, 16, 3))
        forward = aopc(cnn, images, images, steps=4)
        backward = aopc(cnn, images, images, steps=4, order="least_relevant_first", baselines=())
        np.testing.assert_array_equal(backward.region_order, forward.region_order[:, ::-1])
        np.testing.assert_allclose(forward.baselines["least_relevant_first"].errors, backward.errors, atol=1e-6)

    def test_random_needs_no_analyzer_and_is_the_baseline_of_every_analyzer(self, cnn):
        images = images_of((16, 16, 3))
        alone = aopc(cnn, None, images, steps=4, order="random", baselines=())
        beside = aopc(cnn, images, images, steps=4, baselines="random")
        np.testing.assert_allclose(alone.errors, beside.baselines["random"].errors, atol=1e-6)
        assert (alone.name, alone.region_scores, alone.order) == ("random", None, "random")
        assert list(beside.baselines) == ["random"]
        assert {tuple(order) for order in alone.region_order.tolist()} != {tuple(alone.region_order[0])}
        (row,) = compare_analyzers([beside, alone])
        assert row["other_analyzer"] == "random"

    def test_a_map_without_information_starts_in_no_corner(self, cnn):
        images = images_of((16, 16, 3), 40)
        found = aopc(cnn, np.zeros_like(images), images, steps=1, draws=1, baselines=())
        assert len(set(found.region_order[:, 0].tolist())) > 8
        for number, order in enumerate(found.region_order):
            assert sorted(order.tolist()) == list(range(16)), number

    def test_regions_per_step(self, cnn):
        images = images_of((16, 16, 3))
        options = {"draws": 1, "baselines": ()}
        single, double = (aopc(cnn, images, images, steps=8, regions_per_step=n, **options) for n in (1, 2))
        np.testing.assert_array_equal(single.region_order, double.region_order)
        sequence = perturbation_sequence(double, images[1], 1)
        changed = [(sequence[step] != images[1]).any(axis=-1).sum() for step in range(9)]
        assert changed == [32 * step for step in range(9)]


class TestShapes:
    def test_sizes_that_regions_do_not_divide_and_few_channels(self):
        images = images_of((7, 10, 1), 2)
        found = aopc(linear_model(np.ones((7, 10, 1))), images, images, regions=(2, 3), steps=6)
        assert found.region_scores.shape == (2, 2, 3)
        sequence = perturbation_sequence(found, images[0])
        assert (sequence[-1] != images[0]).all()

    def test_three_dimensions(self):
        images = images_of((4, 6, 5, 2), 3)
        model = linear_model(np.ones((4, 6, 5, 2)))
        found = aopc(model, np.abs(images), images, regions=2, steps=8)
        assert found.errors.shape == (3, 9)
        assert found.region_scores.shape == (3, 2, 2, 2)
        assert sorted(found.region_order[0].tolist()) == list(range(8))

    def test_a_model_of_mask_and_circumference_is_asked_for_the_circumference(self):
        inputs = keras.Input((8, 8, 1))
        mask = keras.layers.Conv2D(1, 3, padding="same", activation="sigmoid")(inputs)
        fraction = keras.layers.GlobalAveragePooling2D()(mask)
        both, one = keras.Model(inputs, {"mask": mask, "hc_fraction": fraction}), keras.Model(inputs, fraction)
        images = images_of((8, 8, 1))
        found, expected = (aopc(model, images, images, steps=3) for model in (both, one))
        np.testing.assert_allclose(found.errors, expected.errors, atol=1e-7)
        named = aopc(both, images, images, steps=3, output="mask", neuron=9)
        pixel = keras.Model(inputs, keras.layers.Reshape((64,))(mask)[:, 9:10])
        np.testing.assert_allclose(named.errors, aopc(pixel, images, images, steps=3).errors, atol=1e-6)

    def test_one_neuron_of_several(self):
        inputs = keras.Input((4, 4, 1))
        outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
        images, options = images_of((4, 4, 1)), {"regions": 2, "steps": 2}
        found = aopc(keras.Model(inputs, outputs), images, images, neuron=2, **options)
        expected = aopc(keras.Model(inputs, outputs[:, 2:]), images, images, **options)
        np.testing.assert_allclose(found.errors, expected.errors, atol=1e-6)


class TestSequence:
    @pytest.mark.parametrize("noise_scale", ["image", "absolute"])
    def test_is_what_the_network_was_shown(self, cnn, noise_scale):
        images = images_of((16, 16, 3))
        found = aopc(cnn, images, images, steps=5, draws=1, noise_scale=noise_scale)
        sequence = perturbation_sequence(found, images[2], number=2)
        np.testing.assert_array_equal(sequence[0], images[2])
        predictions = keras.ops.convert_to_numpy(cnn(sequence))[:, 0]
        np.testing.assert_allclose(found.predictions[2], predictions, atol=1e-6)

    def test_refuses_what_the_result_does_not_have(self, cnn):
        images = images_of((16, 16, 3))
        found = aopc(cnn, images, images, steps=2, draws=1)
        with pytest.raises(ValueError, match=r"images 0 to 3 and draws 0 to 0. Received: image 4, draw 0"):
            perturbation_sequence(found, images[0], 4)
        with pytest.raises(ValueError, match=r"Received: image 0, draw 1"):
            perturbation_sequence(found, images[0], 0, draw=1)
        with pytest.raises(
            ValueError, match=r"of \(16, 16\) pixels and channels. Received: an image of shape \(8, 16, 3\)"
        ):
            perturbation_sequence(found, images[0, :8])


def test_noise_sd_is_the_standard_error_over_draws(cnn):
    images = images_of((16, 16, 3))
    few, many = (aopc(cnn, images, images, steps=4, draws=draws, baselines=()) for draws in (2, 32))
    assert 0 < many.noise_sd < few.noise_sd * 2
    repeated = [aopc(cnn, images, images, steps=4, draws=4, baselines=(), seed=seed).mean_score for seed in range(16)]
    assert np.std(repeated, ddof=1) == pytest.approx(many.noise_sd * 8**0.5, rel=0.6)
    assert np.isnan(aopc(cnn, images, images, steps=4, draws=1, baselines=()).noise_sd)


def test_groups_widen_the_intervals(cnn):
    images = np.repeat(images_of((16, 16, 3), 5), 4, axis=0)  # four images of each examination, all alike
    alone, grouped = (aopc(cnn, images, images, steps=3, groups=groups) for groups in (None, np.repeat(range(5), 4)))
    np.testing.assert_array_equal(alone.errors, grouped.errors)
    width = [np.diff(result.score_interval)[0] for result in (alone, grouped)]
    assert width[1] > 1.5 * width[0]


def spoilt(images, value=np.nan):
    images = images.copy()
    images[1, 0, 0, 0] = value
    return images


BAD = {
    "small image": (
        {"regions": (17, 4)},
        r"An image of \(16, 16\) pixels is smaller than the grid of \(17, 4\) regions",
    ),
    "regions": ({"regions": (2, 2, 2)}, "one number for each of the 2 spatial axes"),
    "steps": ({"steps": 17}, r"17 steps of 1 region\(s\) replace 17 regions. Received: a grid \(4, 4\) of 16"),
    "regions per step": ({"regions_per_step": 2}, r"15 steps of 2 region\(s\) replace 30 regions"),
    "no step": ({"steps": 0}, "steps is a whole number from 1 on. Received: 0"),
    "half a draw": ({"draws": 0.5}, "draws is a whole number from 1 on. Received: 0.5"),
    "batch": ({"batch_size": 0}, "batch_size is a whole number from 1 on. Received: 0"),
    "targets": (
        {"targets": [1.0, 2.0]},
        r"targets must be of shape \(4,\), one number for each image. Received: \(2,\)",
    ),
    "column": ({"targets": np.ones((4, 1))}, r"targets must be of shape \(4,\).*Received: \(4, 1\)"),
    "NaN target": ({"targets": [1.0, 2.0, np.nan, 4.0]}, "targets must be finite. Received: nan for image 2"),
    "NaN image": ({"images": spoilt(images_of((16, 16, 3)))}, "NaN or infinity in image number 1"),
    "image shape": ({"images": images_of((16, 16, 1))}, r"takes images of shape .*16, 16, 3"),
    "constant image": ({"images": np.ones((4, 16, 16, 3))}, "Image 0 is constant, so noise relative to its contrast"),
    "map shape": ({"analyzer": images_of((8, 8, 3))}, r"of as many images and pixels as the images, \(4, 16, 16\)"),
    "map count": ({"analyzer": images_of((16, 16, 3), 5)}, r"Received: \(5, 16, 16, 3\)"),
    "NaN map": (
        {"analyzer": spoilt(images_of((16, 16, 3)))},
        "Maps must be finite. Received: NaN .* in the map of image 1",
    ),
    "analyzer's shape": (
        {"analyzer": type("Broken", (), {"analyze": lambda self, images: images[:, :8]})()},
        r"must give one map of the image's size for each image, \(4, 16, 16\) and channels. Received: \(4, 8, 16, 3\)",
    ),
    "no analyzer": ({"analyzer": None}, "Only a random order needs no analyzer. Received: analyzer=None"),
    "noise": ({"noise": 0.0}, "noise is a positive standard deviation. Received: 0.0"),
    "noise scale": ({"noise_scale": "grey"}, "noise_scale: one of image, absolute. Received: 'grey'"),
    "scale": ({"scale": [1.0, 1.0, 0.0, 1.0]}, "scale is positive: mm or px per unit of the output. Received: 0.0"),
    "scales": ({"scale": [1.0, 2.0]}, r"scale must be of shape \(4,\)"),
    "NaN scale": ({"scale": np.nan}, "scale is positive"),
    "error": ({"error": "relative"}, "error: one of absolute, squared. Received: 'relative'"),
    "error's shape": (
        {"error": lambda y_true, y_pred: 1.0},
        r"one number for each of \(4, 181\). Received shape: \(\)",
    ),
    "error's value": ({"error": lambda y_true, y_pred: y_pred * np.inf}, r"error\(y_true, y_pred\) must be finite"),
    "order": ({"order": "best"}, "order: one of most_relevant_first, least_relevant_first, random. Received: 'best'"),
    "baseline": ({"baselines": ["chance"]}, "baselines: one of .* Received: 'chance'"),
    "channels": ({"channels": "red"}, "channels: one of all, first. Received: 'red'"),
    "normalization": ({"normalization": "k"}, "normalization: one of samek, paper. Received: 'k'"),
    "region score": ({"region_score": "median"}, "region_score: one of mean, .* Received: 'median'"),
    "confidence": ({"confidence": 95}, "confidence must lie between 0 and 1, for instance 0.95 for 95 %. Received: 95"),
    "groups": ({"groups": ["a"]}, r"one group for each of the 4 images. Received shape: \(1,\)"),
    "output": ({"output": "mask"}, "has no output 'mask'"),
    "neuron": ({"neuron": 1}, "elements 0 to 0. Received: neuron=1"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_by_words(cnn, case):
    changes, words = BAD[case]
    images = images_of((16, 16, 3))
    settings = {"analyzer": images, "images": images, **changes}
    with pytest.raises(ValueError, match=words):
        aopc(cnn, **settings)


def test_a_model_that_gives_nan_is_named_by_image():
    model, images = linear_model(np.full((4, 4, 1), np.nan)), images_of((4, 4, 1))
    with pytest.raises(ValueError, match=r"The model's output must be finite. Received: nan for clean image 0"):
        aopc(model, images, images, regions=2, steps=2)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match=r"keras.Model. Received: function"):
        aopc(lambda images: images, images_of(), images_of())
