"""Ellipses fitted to analytic masks, drawn rings, noisy points and real annotations."""

import csv
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg import geometry
from hcreg.geometry import (
    Ellipse,
    ellipse_circumference,
    fit_ellipse,
    fit_ellipse_outline,
    fit_ellipse_points,
    head_circumference_mm,
    resize_matrix,
)

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True)

FULL_SHAPE = (540, 800)
PIXEL_SIZE_MM = 0.135


def random_heads(num, seed=0):
    """Heads wholly inside a 800x540 image, with HC18's range of axis ratios."""
    generator = np.random.default_rng(seed)
    for _ in range(num):
        a = generator.uniform(120, 245)
        yield Ellipse.from_axes(
            400 + generator.uniform(-20, 20),
            270 + generator.uniform(-10, 10),
            a,
            a * generator.uniform(0.66, 0.96),
            generator.uniform(0, np.pi),
        )


def errors_mm(heads, shape, measure):
    """Measured minus true circumference of heads drawn at a shape that their image was resized to."""
    matrix = resize_matrix(FULL_SHAPE, shape)
    spacing_mm = (PIXEL_SIZE_MM / matrix[0, 0], PIXEL_SIZE_MM / matrix[1, 1])
    found = [measure(head.transformed(matrix), spacing_mm) for head in heads]
    return np.array(found) - [head.circumference_mm(PIXEL_SIZE_MM) for head in heads]


def drawn_ring(ellipse, shape, thickness):
    """The ellipse drawn with a pen, finer than cv2.ellipse does, which draws a 72-sided polygon."""
    ring = np.zeros(shape, dtype=np.uint8)
    points = np.round(ellipse.contour(720) * 16).astype(np.int32).reshape(-1, 1, 2)
    cv2.polylines(ring, [points], True, 255, thickness, shift=4)
    return ring


class TestFitEllipse:
    @pytest.mark.parametrize("method", geometry.FIT_METHODS)
    def test_measures_perfect_masks_at_full_size_within_005_mm(self, method):
        heads = list(random_heads(30))
        errors = errors_mm(
            heads,
            FULL_SHAPE,
            lambda head, spacing: head_circumference_mm(head.mask(FULL_SHAPE), spacing, method),
        )
        assert np.abs(errors).max() < 0.05

    @pytest.mark.parametrize("method", geometry.FIT_METHODS)
    def test_is_unbiased_at_128_where_contour_points_are_2_mm_short(self, method):
        shape = (128, 128)

        def contour_points(head, spacing):
            contours, _ = cv2.findContours(head.mask(shape).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            return fit_ellipse_points(contours[0].reshape(-1, 2), spacing).circumference_mm(spacing)

        heads = list(random_heads(100))
        errors = errors_mm(heads, shape, lambda head, spacing: head_circumference_mm(head.mask(shape), spacing, method))
        assert abs(errors.mean()) < 0.05
        assert np.abs(errors).mean() < 0.1
        assert errors_mm(heads, shape, contour_points).mean() < -1.5

    def test_probabilities_carry_the_boundary_between_pixels(self):
        shape, finer = (128, 128), 8

        def measure(head, spacing):
            large = tuple(finer * size for size in shape)
            covered = head.transformed(resize_matrix(shape, large)).mask(large)
            probabilities = covered.reshape(shape[0], finer, shape[1], finer).mean(axis=(1, 3))
            return head_circumference_mm(probabilities, spacing)

        assert np.abs(errors_mm(list(random_heads(20)), shape, measure)).mean() < 0.03

    def test_completes_a_head_cut_by_the_border_and_moments_do_not(self):
        errors = {method: [] for method in geometry.FIT_METHODS}
        for head in random_heads(10):
            cut = head.transformed([[1, 0, 320], [0, 1, 0]])
            assert cut.bounding_box()[2] > FULL_SHAPE[1]
            for method, found in errors.items():
                measured = head_circumference_mm(cut.mask(FULL_SHAPE), PIXEL_SIZE_MM, method)
                found.append(measured - head.circumference_mm(PIXEL_SIZE_MM))
        assert np.abs(errors["boundary"]).max() < 0.1
        assert np.mean(errors["moments"]) < -0.3

    @settings(PROPERTIES, max_examples=30)
    @given(st.floats(25, 60), st.floats(0.6, 1.0), st.floats(0, 3.1), st.sampled_from(geometry.FIT_METHODS))
    def test_finds_every_number_of_the_ellipse(self, a, ratio, angle, method):
        ellipse = Ellipse.from_axes(70.3, 65.8, a, a * ratio, angle)
        found = fit_ellipse(ellipse.mask((140, 140)), method)
        assert found.center_x_px == pytest.approx(70.3, abs=0.1)
        assert found.center_y_px == pytest.approx(65.8, abs=0.1)
        assert found.semi_axis_a_px == pytest.approx(a, abs=0.25)
        assert found.semi_axis_b_px == pytest.approx(a * ratio, abs=0.25)
        if ratio < 0.9:
            assert abs(math.sin(found.angle_rad - ellipse.angle_rad)) < 0.05

    @pytest.mark.parametrize("method", geometry.FIT_METHODS)
    def test_turning_or_flipping_the_mask_turns_the_ellipse_with_it(self, method):
        mask = Ellipse(70.0, 50.0, 40.0, 28.0, 0.4).mask((110, 150))
        reference = fit_ellipse(mask, method)
        turned = fit_ellipse(np.rot90(mask), method)
        assert turned.circumference_px == pytest.approx(reference.circumference_px, abs=1e-3)
        assert abs(math.cos(turned.angle_rad - reference.angle_rad)) < 1e-4
        assert fit_ellipse(mask[:, ::-1], method).center_x_px == pytest.approx(149 - reference.center_x_px, abs=1e-3)

    def test_every_kind_of_mask_gives_the_same_ellipse(self):
        mask = Ellipse(40.0, 30.0, 25.0, 20.0, 1.0).mask((64, 80))
        reference = fit_ellipse(mask)
        for other in (
            mask.astype(np.uint8),
            mask * np.uint8(255),
            mask.astype(np.float16),
            mask.astype(np.int64),
        ):
            assert fit_ellipse(other) == reference
        assert fit_ellipse(mask.tolist()) == reference
        assert fit_ellipse(np.asfortranarray(mask)) == reference

    @pytest.mark.parametrize("method", geometry.FIT_METHODS)
    def test_keeps_the_component_of_the_largest_area_and_fills_its_holes(self, method):
        head = Ellipse(40.0, 40.0, 25.0, 20.0, 1.0).mask((120, 200))
        noisy = head.copy()
        noisy[38:43, 36:44] = False
        # A comb with a longer contour than the head's, and a smaller area.
        noisy[90:110, 10:190:4] = True
        noisy[110, 10:190] = True
        assert fit_ellipse(noisy, method) == fit_ellipse(head, method)

    def test_points_are_scaled_to_mm_before_the_fit(self):
        generator = np.random.default_rng(3)
        spacing_mm = np.array([0.8, 0.2])
        scaled, unscaled = [], []
        for _ in range(40):
            noisy_mm = Ellipse(0.0, 0.0, 20.0, 20.0, 0.0).contour(200) + generator.normal(0, 1.0, (200, 2))
            arc_mm = noisy_mm[noisy_mm[:, 0] > -10]
            scaled.append(fit_ellipse_points(arc_mm / spacing_mm, spacing_mm).circumference_mm(spacing_mm))
            in_mm = fit_ellipse_points(arc_mm).circumference_px
            assert scaled[-1] == pytest.approx(in_mm, rel=1e-5)
            unscaled.append(fit_ellipse_points(arc_mm / spacing_mm).circumference_mm(spacing_mm))
        truth = 40 * np.pi
        assert np.abs(np.subtract(scaled, truth)).mean() < 0.6 * np.abs(np.subtract(unscaled, truth)).mean()

    @PROPERTIES
    @given(st.integers(0, 10_000), st.integers(1, 24), st.integers(1, 24), st.sampled_from(geometry.FIT_METHODS))
    def test_any_mask_gives_an_ellipse_or_a_worded_error(self, seed, height, width, method):
        noise = np.random.default_rng(seed).random((height, width)).astype(np.float32)
        probabilities = cv2.GaussianBlur(noise, (0, 0), 2) if seed % 2 else noise
        try:
            found = fit_ellipse(probabilities, method)
        except ValueError as error:
            message = str(error)
        else:
            assert found.semi_axis_b_px >= 1
            return
        assert any(words in message for words in ("empty", "collinear", "thin", "boundary points"))


class TestFitEllipseErrors:
    @pytest.mark.parametrize(
        ("mask", "words"),
        [
            (np.zeros((8, 8)), "the mask is empty: no pixel"),
            (np.zeros((0, 8)), r"the mask is empty: its shape is \(0, 8\)"),
            (np.ones((1, 8, 8)), r"must be 2-D.*Received shape: \(1, 8, 8\). Squeeze"),
            (np.full((8, 8), np.nan), "holds NaN in 64 of 64 pixels"),
            (np.arange(64).reshape(8, 8), "Received values from 0 to 63. For a label map"),
            (np.linspace(-4, 4, 64).reshape(8, 8), "for logits their sigmoid"),
            (np.ones((8, 8)), "has 0 boundary points inside the image"),
            (np.eye(40, dtype=bool), "too thin"),
        ],
    )
    def test_what_is_no_mask_is_refused(self, mask, words):
        with pytest.raises(ValueError, match=words):
            fit_ellipse(mask)

    def test_a_line_has_no_moments_ellipse(self):
        line = np.zeros((9, 9), dtype=bool)
        line[4, 1:8] = True
        with pytest.raises(ValueError, match="the mask's 7 pixels are collinear"):
            fit_ellipse(line, "moments")

    def test_an_unknown_method_is_refused(self):
        with pytest.raises(ValueError, match=r"method must be one of .*'boundary', 'moments'.*Received: 'hull'"):
            fit_ellipse(np.ones((8, 8)), "hull")

    @pytest.mark.parametrize(
        ("spacing_mm", "words"),
        [
            (0.0, "must be positive and finite"),
            ((0.1, -0.1), "must be positive and finite"),
            (float("nan"), "must be positive and finite"),
            ((0.1, 0.1, 1.0), r"one number or \(x, y\). Received shape: \(3,\)"),
        ],
    )
    def test_a_spacing_that_is_none_is_refused(self, spacing_mm, words):
        mask = Ellipse(10.0, 10.0, 8.0, 6.0, 0.0).mask((20, 20))
        with pytest.raises(ValueError, match=words):
            head_circumference_mm(mask, spacing_mm)
        with pytest.raises(ValueError, match=words):
            fit_ellipse(mask).circumference_mm(spacing_mm)

    @pytest.mark.parametrize(
        ("points", "words"),
        [
            (np.zeros((4, 2)), "at least 5 points. Received: 4"),
            (np.zeros((5, 3)), r"shape \(num_points, 2\). Received: \(5, 3\)"),
            (np.column_stack([np.arange(9), 2 * np.arange(9)]), "the 9 points are collinear"),
            (np.ones((9, 2)), "collinear"),
            (np.full((9, 2), np.nan), "points must be finite"),
        ],
    )
    def test_points_that_hold_no_ellipse_are_refused(self, points, words):
        with pytest.raises(ValueError, match=words):
            fit_ellipse_points(points)


class TestFitEllipseOutline:
    @pytest.mark.parametrize("thickness", [1, 3, 5])
    def test_drawn_rings_at_full_size_are_measured_within_005_mm(self, thickness):
        errors = errors_mm(
            list(random_heads(15)),
            FULL_SHAPE,
            lambda head, spacing: fit_ellipse_outline(
                drawn_ring(head, FULL_SHAPE, thickness), spacing
            ).circumference_mm(spacing),
        )
        assert np.abs(errors).max() < 0.05

    def test_a_thick_pen_at_128_does_not_widen_the_ellipse(self):
        shape = (128, 128)
        ellipses_128 = [head.transformed(resize_matrix(FULL_SHAPE, shape)) for head in random_heads(30)]
        rings = [drawn_ring(ellipse, shape, 5) for ellipse in ellipses_128]
        truth = np.array([ellipse.circumference_px for ellipse in ellipses_128])
        pixels = [fit_ellipse_points(np.argwhere(ring)[:, ::-1]).circumference_px for ring in rings]
        found = [fit_ellipse_outline(ring).circumference_px for ring in rings]
        assert np.mean(pixels - truth) > 0.5
        assert abs(np.mean(found - truth)) < 0.25

    def test_cv2_ellipse_rings_are_measured_as_the_polygons_they_are(self):
        ring = cv2.ellipse(np.zeros(FULL_SHAPE, np.uint8), (400, 270), (200, 150), 30, 0, 360, 255, 3)
        found = fit_ellipse_outline(ring)
        assert found.circumference_px == pytest.approx(ellipse_circumference(200, 150), abs=1.1)
        assert found.angle_rad == pytest.approx(math.radians(30), abs=0.01)

    def test_the_border_may_cut_the_outline(self):
        head = Ellipse(90.0, 200.0, 180.0, 130.0, 0.3)
        assert head.bounding_box()[0] < 0
        found = fit_ellipse_outline(drawn_ring(head, FULL_SHAPE, 3))
        assert found.circumference_px == pytest.approx(head.circumference_px, abs=0.5)

    @pytest.mark.parametrize("ratio", [0.5, 0.7, 1.0])
    def test_a_filled_mask_is_refused(self, ratio):
        filled = Ellipse(60.0, 50.0, 40.0, 40.0 * ratio, 0.2).mask((100, 120))
        with pytest.raises(ValueError, match=r"do not lie along one ellipse.*If the mask is filled, use fit_ellipse"):
            fit_ellipse_outline(filled)

    def test_an_empty_outline_is_refused(self):
        with pytest.raises(ValueError, match="the outline is empty"):
            fit_ellipse_outline(np.zeros((20, 20)))

    @pytest.mark.data
    def test_agrees_with_the_csv_on_every_real_annotation(self, hc18_root):
        errors = []
        with open(hc18_root / "training_set_pixel_size_and_HC.csv", newline="") as file:
            rows = list(csv.reader(file))[1:]
        for filename, pixel_size_mm, hc_mm in rows:
            path = hc18_root / "training_set" / filename.replace(".png", "_Annotation.png")
            outline = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            errors.append(fit_ellipse_outline(outline).circumference_mm(float(pixel_size_mm)) - float(hc_mm))
        errors = np.array(errors)
        assert len(errors) >= 800
        assert np.abs(errors).mean() < 0.01
        assert np.abs(errors).max() < 0.07
        assert abs(errors.mean()) < 0.005
