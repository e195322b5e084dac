"""A predicted mask measured with and without post-processing: exact numbers, and a reason where there is none."""

import doctest
import math
from dataclasses import astuple

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hcreg.geometry import Ellipse, HeadOutline, fit_ellipse, measure_mask, outline, require_mask_of

PROPERTIES = settings(deadline=None, derandomize=True, max_examples=50)

SHAPE = (200, 300)
HEAD = Ellipse(160.0, 90.0, 70.0, 50.0, 0.4)
# Semi-axes 12 and 8: pi 20 (1 + 3h / (10 + sqrt(4 - 3h))) with h = 0.04 is 63.4618.
SPECK = Ellipse(30.0, 150.0, 12.0, 8.0, 1.0)


def head_and_speck():
    return HEAD.coverage(SHAPE) + SPECK.coverage(SHAPE)


class TestMeasureMask:
    def test_post_processed_is_the_ellipse_of_the_largest_component(self):
        found = measure_mask(head_and_speck(), 0.2)
        assert isinstance(found, HeadOutline)
        assert found.failure == ""
        assert found.hc_px == pytest.approx(HEAD.circumference_px, rel=2e-4)
        assert found.hc_mm == pytest.approx(0.2 * found.hc_px, rel=1e-12)
        assert astuple(found.ellipse) == pytest.approx(astuple(fit_ellipse(HEAD.coverage(SHAPE))), rel=1e-9)

    def test_original_adds_the_circumference_of_every_component(self):
        found = measure_mask(head_and_speck(), 0.2, postprocess=False)
        assert found.hc_px == pytest.approx(HEAD.circumference_px + 63.4618, rel=5e-4)
        assert found.hc_mm == pytest.approx(0.2 * found.hc_px, rel=1e-12)
        assert found.ellipse.center_x_px == pytest.approx(160.0, abs=0.01)
        assert found.failure == ""

    def test_original_of_one_head_is_the_same_as_post_processed(self):
        coverage = HEAD.coverage(SHAPE)
        original, processed = (measure_mask(coverage, (0.2, 0.3), postprocess) for postprocess in (False, True))
        assert original.hc_mm == pytest.approx(processed.hc_mm, rel=1e-6)
        assert original.ellipse.center_y_px == pytest.approx(processed.ellipse.center_y_px, abs=1e-4)

    def test_original_leaves_out_what_no_ellipse_fits(self):
        mask = HEAD.mask(SHAPE)
        expected = measure_mask(mask, postprocess=False).hc_px
        mask[5, 5] = True
        mask[190, 20:200] = True
        assert measure_mask(mask, postprocess=False).hc_px == pytest.approx(expected, rel=1e-12)

    def test_original_takes_contours_of_more_than_5_pixels(self):
        mask = np.zeros(SHAPE, np.uint8)
        mask[50:52, 60:62] = 1  # a contour of 4 pixels, which post-processing fits all the same
        assert measure_mask(mask).hc_px > 0
        failed = measure_mask(mask, postprocess=False)
        assert failed.failure.startswith("no component of the mask has an outline of more than 5 points")
        assert math.isnan(failed.hc_mm)
        mask[50:53, 60:63] = 1  # of 8
        assert measure_mask(mask, postprocess=False).hc_px == pytest.approx(measure_mask(mask).hc_px, rel=1e-6)

    def test_original_counts_a_component_in_a_hole_but_no_hole(self):
        mask = HEAD.mask(SHAPE) & ~Ellipse(160.0, 90.0, 30.0, 25.0, 0.0).mask(SHAPE)
        whole = measure_mask(HEAD.mask(SHAPE), postprocess=False).hc_px
        assert measure_mask(mask, postprocess=False).hc_px == pytest.approx(whole, rel=1e-12)
        mask |= Ellipse(160.0, 90.0, 12.0, 8.0, 1.0).mask(SHAPE)
        assert measure_mask(mask, postprocess=False).hc_px == pytest.approx(whole + 63.46, rel=5e-3)
        assert measure_mask(mask).hc_px == pytest.approx(whole, rel=1e-6)

    def test_original_is_not_moved_by_a_component_in_the_corner_of_another_ones_box(self):
        mask = Ellipse(60.0, 60.0, 55.0, 15.0, math.pi / 4).coverage(SHAPE)
        alone = measure_mask(mask, postprocess=False).hc_px
        corner = Ellipse(88.0, 32.0, 12.0, 8.0, 1.0).coverage(SHAPE)
        both = measure_mask(mask + corner, postprocess=False).hc_px
        assert both - alone == pytest.approx(63.4618, rel=5e-3)

    @pytest.mark.parametrize("postprocess", [True, False])
    def test_masks_of_0_1_and_0_255_and_bool_measure_the_same(self, postprocess):
        mask = HEAD.mask(SHAPE)
        found = [
            measure_mask(kind, (0.1, 0.2), postprocess).hc_mm
            for kind in (mask, mask.astype(np.uint8), mask.astype(np.uint8) * 255, mask.astype(np.float16))
        ]
        assert found == pytest.approx([found[0]] * 4, rel=1e-9)
        assert found[0] == pytest.approx(HEAD.circumference_mm((0.1, 0.2)), rel=2e-3)

    @pytest.mark.parametrize("postprocess", [True, False])
    def test_smooth_grey_values_give_the_same_as_probabilities(self, postprocess):
        coverage = head_and_speck()
        grey = measure_mask(np.round(255 * coverage), 0.1, postprocess).hc_mm
        assert grey == pytest.approx(measure_mask(coverage, 0.1, postprocess).hc_mm, rel=1e-4)

    def test_spacing_is_x_then_y_and_applied_before_the_fit(self):
        # Semi-axes 40 px of 0.1 mm and 20 px of 0.2 mm: a disc of radius 4 mm.
        found = measure_mask(Ellipse(100.0, 60.0, 40.0, 20.0, 0.0).coverage(SHAPE), (0.1, 0.2))
        assert found.hc_mm == pytest.approx(8 * math.pi, rel=1e-3)
        assert found.hc_px == pytest.approx(Ellipse(0.0, 0.0, 40.0, 20.0, 0.0).circumference_px, rel=1e-3)

    def test_a_head_cut_by_the_border_is_completed(self):
        cut = Ellipse(40.0, 90.0, 70.0, 50.0, 0.4)
        for postprocess in (True, False):
            found = measure_mask(cut.coverage(SHAPE), postprocess=postprocess)
            assert found.hc_px == pytest.approx(cut.circumference_px, rel=2e-3)

    @pytest.mark.parametrize("postprocess", [True, False])
    @pytest.mark.parametrize(
        ("filled", "words"),
        [
            (np.s_[0:0, 0:0], "the mask is empty: no pixel of it lies above the threshold"),
            (np.s_[:, :], "has 0 boundary points inside the image; an ellipse needs 5. It is too small, or it fills"),
            (np.s_[50, 60], "has 4 boundary points inside the image; an ellipse needs 5"),
            (np.s_[50, 60:160], "too thin: its ellipse has the semi-axes"),
            (np.s_[50:52, 60], "too thin: its ellipse has the semi-axes"),
            (np.s_[:, 100:], "the 200 points are collinear"),
        ],
        ids=["background", "foreground", "pixel", "line", "two pixels", "half"],
    )
    def test_a_mask_without_a_usable_outline_gives_nan_and_the_reason(self, filled, words, postprocess):
        mask = np.zeros(SHAPE, np.uint8)
        mask[filled] = 1
        found = measure_mask(mask, 0.2, postprocess)
        assert math.isnan(found.hc_mm)
        assert math.isnan(found.hc_px)
        assert found.ellipse is None
        assert words in found.failure

    @pytest.mark.parametrize("postprocess", [True, False])
    def test_an_arc_whose_ellipse_exceeds_the_image_is_no_measurement(self, postprocess):
        # A parabola: 50 px high over the image's width.
        height = 100 + 50 * ((np.arange(300) - 150) / 150) ** 2
        mask = np.arange(200)[:, None] > height
        found = measure_mask(mask, postprocess=postprocess)
        assert math.isnan(found.hc_mm)
        assert "the best ellipse is larger than the image" in found.failure
        assert "the image's diagonal 361 px" in found.failure

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_a_map_that_is_not_finite_is_a_failure_and_counts_its_pixels(self, value):
        mask = HEAD.coverage(SHAPE)
        mask[:2, :3] = value
        found = measure_mask(mask)
        assert found.failure == "the mask is NaN or infinite in 6 of 60000 pixels."
        assert math.isnan(found.hc_mm)

    @PROPERTIES
    @given(
        arrays(np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(0, 1, width=32)),
        st.booleans(),
    )
    def test_any_small_map_is_measured_or_failed_in_words_and_never_raises(self, probabilities, postprocess):
        found = measure_mask(probabilities, (0.3, 0.2), postprocess)
        if found.failure:
            assert math.isnan(found.hc_mm)
            assert found.ellipse is None
        else:
            # no ellipse is thinner than 2 px, that is 0.4 mm
            assert found.hc_mm > 0.4 * math.pi
            assert found.hc_px >= found.ellipse.circumference_px - 1e-6

    @PROPERTIES
    @given(st.floats(20, 80), st.floats(0.66, 0.96), st.floats(0, 3.1), st.floats(0.05, 0.4))
    def test_millimetres_are_pixels_times_the_spacing(self, a, ratio, angle, spacing_mm):
        coverage = Ellipse.from_axes(150, 100, a, a * ratio, angle).coverage(SHAPE)
        found = measure_mask(coverage, spacing_mm)
        assert found.hc_mm == pytest.approx(spacing_mm * found.hc_px, rel=1e-9)

    def test_original_leaves_salt_noise_out(self):
        salt = np.random.default_rng(0).random(SHAPE) < 0.01
        around = cv2.dilate(HEAD.mask(SHAPE).view(np.uint8), np.ones((9, 9), np.uint8)).view(bool)
        found = measure_mask(HEAD.mask(SHAPE) | (salt & ~around), postprocess=False)
        assert found.hc_px == pytest.approx(measure_mask(HEAD.mask(SHAPE)).hc_px, rel=1e-6)

    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (
                np.zeros((20, 30, 3)),
                r"2-D, \(height, width\). Received shape: \(20, 30, 3\). Squeeze batch and channel",
            ),
            (np.zeros((20, 30, 1)), r"2-D, \(height, width\). Received shape: \(20, 30, 1\)"),
            (np.arange(600.0).reshape(20, 30), "0/1, 0/255 or probabilities.*from 0 to 599.*for logits their sigmoid"),
            (np.zeros((0, 30)), "the mask is empty: its shape is"),
        ],
    )
    def test_what_is_no_mask_is_refused(self, mask, words):
        for postprocess in (True, False):
            with pytest.raises(ValueError, match=words):
                measure_mask(mask, postprocess=postprocess)

    def test_a_spacing_that_is_none_is_refused_even_where_the_mask_is_empty(self):
        with pytest.raises(ValueError, match="spacing_mm must be positive and finite"):
            measure_mask(np.zeros(SHAPE), 0.0)

    def test_a_mask_of_another_size_than_its_image_is_refused(self):
        assert measure_mask(HEAD.mask(SHAPE), image_shape=SHAPE).failure == ""
        with pytest.raises(ValueError, match=r"must have its image's size, \(height, width\) = \(540, 800\)"):
            measure_mask(HEAD.mask(SHAPE), image_shape=(540, 800))


class TestRequireMaskOf:
    def test_takes_a_mask_of_the_images_size(self):
        assert require_mask_of((20, 30), np.zeros((20, 30))) is None  # raises where it does not fit
        assert require_mask_of((20, 30, 3), np.zeros((20, 30))) is None

    @pytest.mark.parametrize(
        ("shape", "words"),
        [
            ((96, 128), r"Received shape: \(96, 128\). Bring it to the image's size first.*map_to_image"),
            ((800, 540), "The axes are swapped: pass its transpose"),
            ((540, 800, 3), "Take one mask of a batch, and one channel"),
        ],
    )
    def test_refuses_others_with_the_remedy(self, shape, words):
        with pytest.raises(ValueError, match=r"the reference must have its image's size.*" + words):
            require_mask_of((540, 800), np.zeros(shape), "reference")


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(outline)
    assert results.attempted >= 3
    assert results.failed == 0
