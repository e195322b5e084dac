"""The stream: noise that depends on its place alone, images as a plain loop makes them, batches of one size."""

import threading

import numpy as np
import pytest
from scipy import stats

from hcreg.analyzers.aopc_regions import RegionGrid
from hcreg.analyzers.aopc_stream import Perturbation, Plan, predict_plan

SHAPE = (6, 8, 2)


def perturbation(**changes):
    settings = {"noise": 0.3, "noise_scale": "absolute", "channels": "all", "regions_per_step": 1, "seed": 0}
    return Perturbation(RegionGrid(SHAPE[:2], (2, 2)), **{**settings, **changes})


def plan(num_images=3, draws=2, steps=3, num_orders=2, **changes):
    images = np.random.default_rng(0).normal(size=(num_images, *SHAPE)).astype(np.float32)
    one = perturbation(**changes)
    orders = np.array([[one.random_order(image, n) for n in range(num_orders)] for image in range(num_images)])
    return Plan(one, images, orders, draws, steps)


def mean_of(batch):
    return batch.mean(axis=(1, 2, 3))


class TestNoise:
    def test_is_normal_with_the_sd_asked_for(self):
        one = perturbation()
        field = one.noise_field((300, 300, 2), one.noise_values(np.ones((300, 300, 2))), 0, 0, 1)
        assert field.dtype == np.float32
        assert stats.kstest(field.reshape(-1), stats.norm(scale=0.3).cdf).pvalue > 0.01
        assert np.abs(field).max() > 1.2  # four standard deviations: tails are there
        values = one.noise_values(np.ones(SHAPE)).astype(float)
        assert values.shape == (1, 65536)
        assert (values.mean(), values.std()) == pytest.approx((0.0, 0.3), abs=1e-6)

    def test_relative_noise_has_mean_and_sd_of_each_channel(self):
        one = perturbation(noise=0.5, noise_scale="image")
        image = np.random.default_rng(1).normal(size=(100, 100, 2)) * [2.0, 10.0] + [100.0, -5.0]
        field = one.noise_field(image.shape, one.noise_values(image), 0, 0, 1)
        np.testing.assert_allclose(field.mean(axis=(0, 1)), [100.0, -5.0], atol=0.3)
        np.testing.assert_allclose(field.std(axis=(0, 1)), [1.0, 5.0], rtol=0.05)
        assert abs(np.corrcoef(field.reshape(-1, 2).T)[0, 1]) < 0.05

    def test_channels_that_repeat_each_other_share_their_values(self):
        grey = np.random.default_rng(1).normal(size=(10, 10, 1))
        one = perturbation(noise_scale="image")
        assert one.noise_values(np.repeat(grey, 3, axis=-1)).shape == (1, 65536)
        assert one.noise_values(grey * [1.0, 2.0, 3.0]).shape == (3, 65536)

    def test_depends_on_image_draw_step_and_seed_and_on_nothing_else(self):
        values = perturbation().noise_values(np.ones(SHAPE))
        fields = [
            perturbation(seed=seed).noise_field(SHAPE, values, *place)
            for seed in (0, 1)
            for place in ((0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2), (1, 1, 2))
        ]
        for number, field in enumerate(fields):
            assert all(not np.array_equal(field, other) for other in fields[:number])
        np.testing.assert_array_equal(fields[1], perturbation().noise_field(SHAPE, values, 1, 0, 1))


class TestReplace:
    def test_replaces_the_first_regions_in_all_channels(self):
        batch, field = np.ones(SHAPE), np.full(SHAPE, 7.0)
        perturbation().replace(batch, np.array([3, 0, 1, 2]), 2, field)
        expected = np.ones(SHAPE)
        expected[3:, 4:] = expected[:3, :4] = 7.0
        np.testing.assert_array_equal(batch, expected)

    def test_first_leaves_other_channels_clean(self):
        batch = np.ones(SHAPE)
        perturbation(channels="first").replace(batch, np.array([0, 1, 2, 3]), 4, np.full(SHAPE, 7.0))
        assert (batch[..., 0] == 7).all()
        assert (batch[..., 1] == 1).all()

    def test_several_regions_a_step(self):
        batch = np.zeros(SHAPE)
        perturbation(regions_per_step=2).replace(batch, np.array([0, 1, 2, 3]), 1, np.ones(SHAPE))
        assert (batch[:3] == 1).all()
        assert (batch[3:] == 0).all()


class TestPlan:
    def test_images_are_those_of_loops(self):
        one = plan()
        batch = one.fill(np.zeros((len(one), *SHAPE), np.float32), 0)
        row, values = 0, one.perturbation.noise_values(one.images[0])
        for image, clean in enumerate(one.images):
            np.testing.assert_array_equal(batch[row], clean)
            row += 1
            for draw in range(2):
                for step in range(1, 4):
                    noise = one.perturbation.noise_field(SHAPE, values, image, draw, step)
                    for order in range(2):
                        expected = clean.copy()
                        for region in one.orders[image, order, :step]:
                            where = one.perturbation.grid.slices[region]
                            expected[where] = noise[where]
                        np.testing.assert_array_equal(batch[row], expected)
                        assert f"image {image} after step {step} (draw {draw}, order {order})" == one.describe(row)
                        row += 1
        assert row == len(one) == 3 * (1 + 2 * 3 * 2)
        assert one.describe(13) == "clean image 1"

    @pytest.mark.parametrize("noise_scale", ["absolute", "image"])
    def test_a_batch_that_starts_anywhere_holds_the_same_images(self, noise_scale):
        one = plan(noise_scale=noise_scale)
        whole = one.fill(np.zeros((len(one), *SHAPE), np.float32), 0)
        for start in range(len(one)):
            part = one.fill(np.zeros((5, *SHAPE), np.float32), start)[: len(one) - start]
            np.testing.assert_array_equal(part, whole[start : start + len(part)])


class TestPredictPlan:
    @pytest.mark.parametrize("batch_size", [1, 4, 13, 1000])
    def test_outputs_are_those_of_one_batch(self, batch_size):
        one = plan()
        whole = mean_of(one.fill(np.zeros((len(one), *SHAPE), np.float32), 0))
        np.testing.assert_array_equal(predict_plan(mean_of, one, batch_size), whole)

    def test_every_batch_has_one_shape(self):
        shapes = []
        predict_plan(lambda batch: shapes.append(batch.shape) or mean_of(batch), plan(), 5)
        assert shapes == [(5, *SHAPE)] * 8

    def test_memory_does_not_grow_with_the_number_of_images(self):
        # the arrays the model is handed are a few, filled again and again
        addresses = {}
        for num_images in (10, 40):
            seen = set()
            predict_plan(lambda batch, seen=seen: seen.add(batch.ctypes.data) or mean_of(batch), plan(num_images), 4)
            addresses[num_images] = len(seen)
        assert addresses[40] == addresses[10] <= 7

    def test_a_buffer_is_not_filled_again_before_its_output_is_read(self):
        # a lazy backend: it computes when the output is read, not when it is called
        class Lazy:
            def __init__(self, batch):
                self.batch = batch

            def __array__(self, dtype=None, copy=None):
                return mean_of(self.batch)

        one = plan(20)
        whole = mean_of(one.fill(np.zeros((len(one), *SHAPE), np.float32), 0))
        np.testing.assert_array_equal(predict_plan(Lazy, one, 3), whole)

    def test_names_the_image_whose_output_is_not_finite_and_leaves_no_thread(self):
        def spoil(batch):
            outputs = mean_of(batch)
            outputs[2] = np.nan
            return outputs

        with pytest.raises(
            ValueError, match=r"output must be finite. Received: nan for image 0 after step 1 \(draw 0, order 1\)"
        ):
            predict_plan(spoil, plan(), 4)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("aopc")]

    def test_an_error_of_the_model_comes_through(self):
        def fail(batch):
            raise RuntimeError("out of memory")

        with pytest.raises(RuntimeError, match="out of memory"):
            predict_plan(fail, plan(), 4)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("aopc")]
