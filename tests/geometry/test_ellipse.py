"""The ellipse against numerical integration, mapped points, and the definition by foci."""

import doctest
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate

from hcreg.geometry import Ellipse, ellipse, ellipse_circumference, resize_matrix

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True)

ellipses = st.builds(
    lambda x, y, a, ratio, angle: Ellipse.from_axes(x, y, a, a * ratio, angle),
    st.floats(-50, 50),
    st.floats(-50, 50),
    st.floats(5, 80),
    st.floats(0.5, 1.0),
    st.floats(-7, 7),
)


def integrated_circumference(a, b):
    """Arc length by quadrature: the definition, not the formula."""
    quarter, _ = integrate.quad(
        lambda t: math.hypot(a * math.sin(t), b * math.cos(t)), 0, math.pi / 2, epsabs=0, epsrel=1e-12
    )
    return 4 * quarter


class TestCircumference:
    def test_circle_is_two_pi_r(self):
        assert ellipse_circumference(3.0, 3.0) == pytest.approx(6 * math.pi, rel=1e-15)

    def test_hand_number(self):
        # a = 3, b = 1: h = 1/4, sqrt(4 - 3/4) = 1.8027756, 1 + 0.75 / 11.8027756 = 1.0635444; times 4 pi.
        assert ellipse_circumference(3.0, 1.0) == pytest.approx(13.364893, abs=1e-5)

    @pytest.mark.parametrize("ratio", [0.48, 0.5, 0.6, 0.75, 0.9, 1.0])
    def test_agrees_with_the_integral_to_1e9_from_axis_ratio_048(self, ratio):
        assert ellipse_circumference(1.0, ratio) == pytest.approx(integrated_circumference(1.0, ratio), rel=1e-9)

    @pytest.mark.parametrize(("ratio", "bound"), [(0.45, 1e-8), (0.1, 1.3e-5), (0.0, 4.1e-4)])
    def test_is_less_exact_for_thin_ellipses_as_documented(self, ratio, bound):
        error = abs(ellipse_circumference(1.0, ratio) / integrated_circumference(1.0, ratio) - 1)
        assert 1e-9 < error < bound

    def test_is_vectorised_and_symmetric(self):
        a, b = np.array([[1.0], [2.0]]), np.array([1.0, 2.0, 3.0])
        found = ellipse_circumference(a, b)
        assert found.shape == (2, 3)
        np.testing.assert_array_equal(found, ellipse_circumference(b, a))
        assert found[1, 2] == ellipse_circumference(2.0, 3.0)

    def test_of_a_point_is_zero(self):
        assert ellipse_circumference(0.0, 0.0) == 0.0

    @pytest.mark.parametrize("axes", [(-1.0, 2.0), (1.0, float("nan")), (float("inf"), 1.0)])
    def test_refuses_axes_that_are_none(self, axes):
        with pytest.raises(ValueError, match="semi-axes must be finite and not negative"):
            ellipse_circumference(*axes)


class TestEllipse:
    def test_from_axes_takes_them_in_either_order(self):
        ellipse = Ellipse.from_axes(1, 2, 3, 5, 0.25)
        assert (ellipse.semi_axis_a_px, ellipse.semi_axis_b_px) == (5.0, 3.0)
        assert ellipse.angle_rad == pytest.approx(0.25 + math.pi / 2)

    @PROPERTIES
    @given(st.floats(-1e-12, 1e-12) | st.floats(-50, 50) | st.just(math.pi) | st.just(-5e-324))
    def test_from_axes_brings_any_angle_into_half_a_turn(self, angle):
        found = Ellipse.from_axes(0, 0, 2, 1, angle).angle_rad
        assert 0 <= found < math.pi
        assert abs(math.sin(found - angle)) < 1e-9

    @PROPERTIES
    @given(ellipses)
    def test_contour_lies_on_the_ellipse_and_touches_the_bounding_box(self, ellipse):
        x, y = (ellipse.contour(3600) - (ellipse.center_x_px, ellipse.center_y_px)).T
        cos, sin = math.cos(ellipse.angle_rad), math.sin(ellipse.angle_rad)
        along, across = x * cos + y * sin, -x * sin + y * cos
        radius = np.hypot(along / ellipse.semi_axis_a_px, across / ellipse.semi_axis_b_px)
        np.testing.assert_allclose(radius, 1.0, rtol=1e-12)
        points = ellipse.contour(3600)
        np.testing.assert_allclose(ellipse.bounding_box(), [*points.min(axis=0), *points.max(axis=0)], atol=1e-4)

    @PROPERTIES
    @given(
        ellipses,
        st.floats(0.3, 3),
        st.floats(0.3, 3),
        st.floats(-3, 3),
        st.floats(-0.8, 0.8),
        st.booleans(),
    )
    def test_an_affine_map_agrees_with_mapped_contour_points(self, ellipse, scale_x, scale_y, turn, shear, flip):
        rotation = [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
        linear = np.array(rotation) @ [[scale_x, shear], [0, -scale_y if flip else scale_y]]
        matrix = np.column_stack([linear, [7.0, -3.0]])
        mapped = ellipse.transformed(matrix)
        points = ellipse.contour(4000) @ linear.T + (7.0, -3.0)
        # Mapped points lie on the mapped ellipse: the sum of distances to its foci is the major axis.
        focal = math.sqrt(mapped.semi_axis_a_px**2 - mapped.semi_axis_b_px**2)
        direction = np.array([math.cos(mapped.angle_rad), math.sin(mapped.angle_rad)])
        center = np.array([mapped.center_x_px, mapped.center_y_px])
        distances = sum(np.linalg.norm(points - center - sign * focal * direction, axis=1) for sign in (-1, 1))
        np.testing.assert_allclose(distances, 2 * mapped.semi_axis_a_px, rtol=1e-6)
        polygon = np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1).sum()
        exact = integrated_circumference(mapped.semi_axis_a_px, mapped.semi_axis_b_px)
        assert polygon == pytest.approx(exact, rel=1e-5)

    def test_circumference_in_mm_scales_each_axis_before_measuring(self):
        # Semi-axes 20 px and 10 px of 0.1 mm and 0.2 mm: a disc of radius 2 mm.
        upright = Ellipse(5.0, 5.0, 20.0, 10.0, 0.0)
        assert upright.circumference_mm((0.1, 0.2)) == pytest.approx(4 * math.pi, rel=1e-12)
        assert upright.circumference_mm(0.1) == pytest.approx(0.1 * upright.circumference_px, rel=1e-15)
        assert upright.circumference_mm((0.1, 0.1)) == upright.circumference_mm(0.1)

    @PROPERTIES
    @given(ellipses, st.floats(0.05, 2), st.floats(0.05, 2))
    def test_a_resize_with_its_spacing_keeps_the_circumference_in_mm(self, ellipse, scale_x, scale_y):
        resized = ellipse.transformed([[scale_x, 0, 1], [0, scale_y, 2]])
        spacing_mm = (0.2 / scale_x, 0.2 / scale_y)
        assert resized.circumference_mm(spacing_mm) == pytest.approx(ellipse.circumference_mm(0.2), rel=1e-9)

    def test_mask_by_hand(self):
        expected = [[0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]
        np.testing.assert_array_equal(Ellipse(2.0, 1.0, 2.0, 1.0, 0.0).mask((3, 5)), np.array(expected, dtype=bool))

    @PROPERTIES
    @given(ellipses)
    def test_mask_agrees_with_the_foci_definition_and_is_cut_by_the_image(self, ellipse):
        mask = ellipse.mask((40, 60))
        y, x = np.mgrid[:40, :60]
        focal = math.sqrt(ellipse.semi_axis_a_px**2 - ellipse.semi_axis_b_px**2)
        dx, dy = focal * math.cos(ellipse.angle_rad), focal * math.sin(ellipse.angle_rad)
        distances = np.hypot(x - ellipse.center_x_px - dx, y - ellipse.center_y_px - dy)
        distances += np.hypot(x - ellipse.center_x_px + dx, y - ellipse.center_y_px + dy)
        away = distances / (2 * ellipse.semi_axis_a_px) - 1
        np.testing.assert_array_equal(mask[np.abs(away) > 1e-9], (away < 0)[np.abs(away) > 1e-9])

    def test_coverage_by_hand(self):
        # A disc of radius 0.5 in the middle of a pixel fills pi / 4 of it; on a corner, a quarter of that in each.
        whole = Ellipse(1.0, 1.0, 0.5, 0.5, 0.0).coverage((3, 3))
        np.testing.assert_allclose(whole, np.diag([0, math.pi / 4, 0]), atol=5e-3)
        quarters = Ellipse(1.5, 0.5, 0.5, 0.5, 0.0).coverage((2, 4))
        np.testing.assert_allclose(quarters, [[0, math.pi / 16, math.pi / 16, 0]] * 2, atol=1e-3)
        assert whole.dtype == np.float32

    @PROPERTIES
    @given(ellipses)
    def test_coverage_agrees_with_a_fine_mask_and_is_cut_by_the_image(self, ellipse):
        fine = ellipse.transformed(resize_matrix((40, 60), (400, 600))).mask((400, 600))
        averaged = fine.reshape(40, 10, 60, 10).mean(axis=(1, 3))
        coverage = ellipse.coverage((40, 60))
        assert 0 <= coverage.min() <= coverage.max() <= 1
        # A pixel of 10 x 10 points misses by half a row of them along each crossing edge.
        np.testing.assert_allclose(coverage, averaged, atol=0.08)
        assert abs(coverage.mean() - averaged.mean()) < 2e-3

    @PROPERTIES
    @given(ellipses.filter(lambda ellipse: ellipse.semi_axis_b_px >= 10))
    def test_coverage_sums_to_the_area_and_its_moments_to_the_ellipse(self, ellipse):
        inside = ellipse.transformed([[1, 0, 135], [0, 1, 135]])
        coverage = inside.coverage((270, 270)).astype(np.float64)
        a, b = inside.semi_axis_a_px, inside.semi_axis_b_px
        area = coverage.sum()
        # Lines h = 1/16 px apart: the midpoint rule misses at most 0.208 h^1.5 times 2 a sqrt(2 / b) at either end,
        # where the chord's length goes as a square root.
        assert area == pytest.approx(math.pi * a * b, rel=6e-3 / b**1.5)
        x = np.arange(270) - inside.center_x_px
        y = np.arange(270) - inside.center_y_px
        columns, rows = coverage.sum(axis=0), coverage.sum(axis=1)
        np.testing.assert_allclose([x @ columns / area, y @ rows / area], 0, atol=2e-3)
        # a²/4 and b²/4, and 1/12 of the pixel over which each value is a mean.
        xy = y @ coverage @ x
        variances = np.linalg.eigvalsh(np.array([[x**2 @ columns, xy], [xy, y**2 @ rows]]) / area)
        np.testing.assert_allclose(2 * np.sqrt(variances - 1 / 12), [b, a], atol=0.02)

    def test_coverage_of_a_part_of_the_image_is_that_part(self):
        ellipse = Ellipse.from_axes(50.3, 40.8, 45.0, 30.0, 0.6)
        whole = ellipse.coverage((96, 128))
        part = ellipse.transformed([[1, 0, -30], [0, 1, -25]]).coverage((40, 50))
        np.testing.assert_allclose(part, whole[25:65, 30:80], atol=1e-6)
        assert not ellipse.transformed([[1, 0, 500], [0, 1, 0]]).coverage((96, 128)).any()
        assert not ellipse.transformed([[1, 0, 0], [0, 1, -500]]).coverage((96, 128)).any()
        assert (Ellipse(10.0, 10.0, 90.0, 90.0, 0.0).coverage((20, 20)) == 1).all()

    @pytest.mark.parametrize(
        ("numbers", "words"),
        [
            ((0.0, 0.0, 1.0, 2.0, 0.0), "semi_axis_a_px >= semi_axis_b_px > 0. Received: 1.0 and 2.0"),
            ((0.0, 0.0, 1.0, 0.0, 0.0), "semi_axis_a_px >= semi_axis_b_px > 0"),
            ((0.0, 0.0, 2.0, 1.0, math.pi), r"must lie in \[0, pi\)"),
            ((0.0, float("nan"), 2.0, 1.0, 0.0), "numbers must be finite"),
        ],
    )
    def test_refuses_numbers_that_are_no_ellipse(self, numbers, words):
        with pytest.raises(ValueError, match=words):
            Ellipse(*numbers)

    @pytest.mark.parametrize(
        ("matrix", "words"),
        [
            (np.eye(3), r"shape \(2, 3\). Received: \(3, 3\)"),
            ([[1, 0, 0], [0, float("nan"), 0]], "affine map must be finite"),
            ([[1, 1, 0], [0, 0, 0]], "singular"),
        ],
    )
    def test_refuses_a_map_that_is_none(self, matrix, words):
        with pytest.raises(ValueError, match=words):
            Ellipse(0.0, 0.0, 2.0, 1.0, 0.0).transformed(matrix)

    def test_refuses_a_contour_of_no_points(self):
        with pytest.raises(ValueError, match="num_points must be at least 1"):
            Ellipse(0.0, 0.0, 2.0, 1.0, 0.0).contour(0)


class TestResizeMatrix:
    def test_follows_what_an_area_resize_does(self):
        image = np.zeros((60, 90), dtype=np.float32)
        image[30:36, 60:69] = 1.0
        resized = cv2.resize(image, (30, 20), interpolation=cv2.INTER_AREA)
        before = [64.0, 32.5, 1.0]
        y, x = np.nonzero(resized)
        np.testing.assert_allclose(resize_matrix((60, 90), (20, 30)) @ before, [x.mean(), y.mean()])

    def test_refuses_a_shape_that_is_none(self):
        with pytest.raises(ValueError, match=r"to_shape must be \(height, width\), both positive"):
            resize_matrix((10, 10), (0, 10))
        with pytest.raises(ValueError, match="from_shape"):
            resize_matrix((10, 10, 3), (10, 10))


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(ellipse)
    assert results.attempted >= 4
    assert results.failed == 0
