"""Distances of boundaries: hand numbers, brute force, SimpleITK, properties, speed, and every error by its words."""

import doctest
import itertools
import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hcreg import metrics
from hcreg.metrics import surface

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True)

spacings_mm = st.floats(0.05, 3.0)


def is_volume(shape):
    """Neither one slice thick nor, to the checks, an image of 2 to 4 channels."""
    return len(shape) == 2 or (1 not in shape and not (2 <= shape[2] <= 4 and min(shape[:2]) > shape[2]))


@st.composite
def masks_and_spacing(draw, count=2):
    """Masks of one shape that are not empty, up to 8x8 or 5x5x5, and a spacing of (x, y) or (x, y, z)."""
    planes = array_shapes(min_dims=2, max_dims=2, max_side=8)
    volumes = array_shapes(min_dims=3, max_dims=3, min_side=2, max_side=5).filter(is_volume)
    shape = draw(planes | volumes)
    masks = [draw(arrays(bool, shape).filter(np.any)) for _ in range(count)]
    return masks, tuple(draw(spacings_mm) for _ in shape)


def ellipsoid(shape, center, radii):
    axes = np.ogrid[tuple(slice(0, size) for size in shape)]
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radii)) <= 1


def square(left, size=8, shape=(20, 30)):
    mask = np.zeros(shape, bool)
    mask[5 : 5 + size, left : left + size] = True
    return mask


def boundary_by_loops(mask):
    """Indexes of foreground pixels one step from a background pixel, or from outside the image."""
    found = []
    for point in itertools.product(*map(range, mask.shape)):
        neighbours = [
            tuple(np.add(point, step * np.eye(mask.ndim, dtype=int)[axis]))
            for axis in range(mask.ndim)
            for step in (-1, 1)
        ]
        within = [all(0 <= i < size for i, size in zip(neighbour, mask.shape)) for neighbour in neighbours]
        if mask[point] and not all(w and mask[n] for w, n in zip(within, neighbours)):
            found.append(point)
    return found


def directed_by_loops(mask_true, mask_pred, spacing=None):
    """Every distance of a boundary pixel to the other boundary; the spacing is (x, y) or (x, y, z)."""
    step = [1.0] * mask_true.ndim if spacing is None else list(spacing)[::-1]
    boundaries = [
        [tuple(i * s for i, s in zip(point, step)) for point in boundary_by_loops(mask)]
        for mask in (mask_true, mask_pred)
    ]
    return [
        [min(math.dist(point, other) for other in there) for point in here]
        for here, there in (boundaries, boundaries[::-1])
    ]


def measured_by_simpleitk(mask_true, mask_pred, spacing):
    """Hausdorff and average distance as SimpleITK measures them on its own contours.

    A rim of background makes the image's border a boundary.
    """
    contours = []
    for mask in (mask_true, mask_pred):
        image = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))
        image.SetSpacing(spacing)
        contours.append(sitk.LabelContour(image))
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*contours)
    distances = []
    for here, there in (contours, contours[::-1]):
        away = sitk.Abs(sitk.SignedMaurerDistanceMap(there, squaredDistance=False, useImageSpacing=True))
        distances.append(sitk.GetArrayFromImage(away)[sitk.GetArrayFromImage(here).astype(bool)])
    return hausdorff.GetHausdorffDistance(), np.concatenate(distances).mean()


class TestHandNumbers:
    def test_squares_moved_by_3_px(self):
        # 8x8 squares with 28 boundary px each, the second 3 columns further right. Of the second: the right column
        # (8 px) lies 3 px off; of the top and the bottom row, 5 px lie on the first square's rows, 2 px lie 1 and
        # 2 px off; the left column without its ends (6 px) runs inside the first square, 1 2 3 3 2 1 px from its
        # top row, left column or bottom row. The first square mirrors it.
        total = 8 * 3 + 2 * (1 + 2) + (1 + 2 + 3 + 3 + 2 + 1)
        assert metrics.hausdorff_distance(square(4), square(7)) == 3.0
        assert metrics.average_boundary_distance(square(4), square(7)) == pytest.approx(2 * total / 56)

    def test_discs_of_radius_10_and_12(self):
        small, large = (ellipsoid((41, 41), (20, 20), (radius, radius)) for radius in (10, 12))
        distances = metrics.boundary_distances(small, large, 0.5)
        assert distances.hausdorff_px == pytest.approx(2.0, abs=0.5)
        assert distances.average_px == pytest.approx(2.0, abs=0.3)  # the grid's corners come nearer
        assert distances.hausdorff_mm == distances.hausdorff_px * 0.5
        assert distances.average_mm == distances.average_px * 0.5

    def test_spheres_of_radius_10_and_12(self):
        small, large = (ellipsoid((31, 31, 31), (15, 15, 15), (radius,) * 3) for radius in (10, 12))
        assert metrics.hausdorff_distance(small, large) == pytest.approx(2.0, abs=0.6)
        assert metrics.average_boundary_distance(small, large) == pytest.approx(2.0, abs=0.2)

    def test_the_spacing_is_x_then_y(self):
        # Three columns apart, then four rows apart: width is the first number.
        one = np.zeros((6, 6), bool)
        other = one.copy()
        one[0, 0] = other[0, 3] = True
        assert metrics.hausdorff_distance(one, other, (0.5, 100.0)) == 1.5
        other = np.roll(one, 4, axis=0)
        assert metrics.hausdorff_distance(one, other, (0.5, 100.0)) == 400.0

    def test_the_spacing_of_a_volume_is_x_y_z(self):
        one = np.zeros((6, 6, 6), bool)
        one[0, 0, 0] = True
        for axis, spacing_mm in ((2, 2.0), (1, 3.0), (0, 5.0)):
            for metric in (metrics.hausdorff_distance, metrics.average_boundary_distance):
                assert metric(one, np.roll(one, 1, axis), (2.0, 3.0, 5.0)) == spacing_mm

    def test_the_average_is_over_the_pixels_of_both(self):
        # One px against three in a row: distances 0 and 0, 1, 2, so 3/4, not the mean (0 + 1) / 2 of the directions.
        assert metrics.average_boundary_distance([[1, 0, 0]], [[1, 1, 1]]) == 0.75

    def test_hausdorff_is_of_boundaries_not_of_filled_masks(self):
        # A hole of one px at the centre of a disc adds boundary 9 to 10 px from the rim; as sets of pixels the two
        # differ by 1 px.
        disc = ellipsoid((31, 31), (15, 15), (10, 10))
        holed = disc.copy()
        holed[15, 15] = False
        assert 8 <= metrics.hausdorff_distance(disc, holed) <= 10

    def test_a_diagonal_neighbour_makes_no_boundary(self):
        mask = np.ones((5, 5), bool)
        mask[0, 0] = False
        # (1, 1) touches (0, 0) by its corner alone: the boundary is that of the full square without its corner.
        assert len(surface._boundary_points(mask)) == 15
        assert metrics.hausdorff_distance(mask, np.ones((5, 5), bool)) == 1.0

    def test_percentile_of_an_outlier(self):
        # 101 px in a row, one of which reaches 40 px further: 95 % of it is on the other boundary.
        mask_true = np.zeros((60, 101), bool)
        mask_true[10] = True
        mask_pred = mask_true.copy()
        mask_pred[50, 0] = True
        assert metrics.hausdorff_distance(mask_true, mask_pred) == 40.0
        assert metrics.hausdorff_distance(mask_true, mask_pred, percentile=95) == 0.0
        assert metrics.hausdorff_distance(mask_pred, mask_true, percentile=95) == 0.0

    def test_percentile_is_of_the_worse_direction(self):
        # 1 px against 11 in a row: 0 one way, 0 ... 10 the other, whose median is 5; of all 12 together 4.5.
        one, row = np.zeros((2, 3, 11), bool)
        one[1, 0] = row[1] = True
        assert metrics.hausdorff_distance(one, row, percentile=50) == 5.0


class TestBruteForce:
    @PROPERTIES
    @given(masks_and_spacing())
    def test_px_and_mm(self, case):
        pair, spacing = case
        found = metrics.boundary_distances(*pair, spacing)
        for unit, directed in (
            ("px", directed_by_loops(*pair)),
            ("mm", directed_by_loops(*pair, spacing)),
        ):
            hausdorff, average = max(map(max, directed)), sum(map(sum, directed)) / sum(map(len, directed))
            assert getattr(found, f"hausdorff_{unit}") == pytest.approx(hausdorff, rel=1e-12)
            assert getattr(found, f"average_{unit}") == pytest.approx(average, rel=1e-12)

    @PROPERTIES
    @given(masks_and_spacing(), st.sampled_from([5, 50, 95, 100]))
    def test_percentile(self, case, percentile):
        pair, spacing = case
        directed = directed_by_loops(*pair, spacing)
        expected = max(np.percentile(distances, percentile) for distances in directed)
        assert metrics.hausdorff_distance(*pair, spacing, percentile) == pytest.approx(expected, rel=1e-12)


class TestSimpleITK:
    """The field's own library; its distance maps are float32."""

    @settings(PROPERTIES, max_examples=40)
    @given(masks_and_spacing())
    def test_random_masks(self, case):
        self.assert_same(*case)

    def test_heads_cut_by_the_border(self):
        mask_true = ellipsoid((108, 160), (20, 80), (50, 70))
        mask_pred = ellipsoid((108, 160), (24, 77), (52, 66))
        self.assert_same((mask_true, mask_pred), (0.135, 0.19))

    def test_volumes(self):
        mask_true = ellipsoid((40, 52, 44), (19, 25, 22), (15, 20, 17))
        mask_pred = ellipsoid((40, 52, 44), (20, 27, 21), (16, 18, 18))
        self.assert_same((mask_true, mask_pred), (0.38, 0.4, 0.95))

    @staticmethod
    def assert_same(pair, spacing):
        hausdorff, average = measured_by_simpleitk(*pair, spacing)
        assert metrics.hausdorff_distance(*pair, spacing) == pytest.approx(hausdorff, rel=1e-5, abs=1e-5)
        assert metrics.average_boundary_distance(*pair, spacing) == pytest.approx(average, rel=1e-5, abs=1e-5)


class TestProperties:
    @PROPERTIES
    @given(masks_and_spacing())
    def test_symmetric_ordered_and_zero_for_equal_masks(self, case):
        (mask_true, mask_pred), spacing = case
        found = metrics.boundary_distances(mask_true, mask_pred, spacing)
        swapped = metrics.boundary_distances(mask_pred, mask_true, spacing)
        assert (found.hausdorff_px, found.hausdorff_mm) == (swapped.hausdorff_px, swapped.hausdorff_mm)
        assert found.average_mm == pytest.approx(swapped.average_mm, rel=1e-12)
        assert 0 <= found.average_px <= found.hausdorff_px + 1e-12
        assert 0 <= found.average_mm <= found.hausdorff_mm + 1e-12
        assert (found.hausdorff_px == 0) == np.array_equal(mask_true, mask_pred)
        assert metrics.boundary_distances(mask_true, mask_true, spacing).hausdorff_mm == 0

    @PROPERTIES
    @given(masks_and_spacing(count=3))
    def test_triangle_inequality(self, case):
        (one, two, three), spacing = case
        direct = metrics.hausdorff_distance(one, three, spacing)
        detour = metrics.hausdorff_distance(one, two, spacing) + metrics.hausdorff_distance(two, three, spacing)
        assert direct <= detour * (1 + 1e-12)

    @PROPERTIES
    @given(masks_and_spacing(), spacings_mm)
    def test_mm_are_px_times_an_isotropic_spacing(self, case, spacing_mm):
        pair, _ = case
        found = metrics.boundary_distances(*pair, spacing_mm)
        for kind, metric in (
            ("hausdorff", metrics.hausdorff_distance),
            ("average", metrics.average_boundary_distance),
        ):
            in_px, in_mm = getattr(found, f"{kind}_px"), getattr(found, f"{kind}_mm")
            assert in_mm == in_px * spacing_mm
            assert metric(*pair) == in_px
            assert metric(*pair, spacing_mm) == pytest.approx(in_mm, rel=1e-12)
            assert (
                metric(*pair, (spacing_mm,) * pair[0].ndim) == metric(*pair, spacing_mm) == metric(*pair, [spacing_mm])
            )

    @PROPERTIES
    @given(masks_and_spacing(), spacings_mm)
    def test_a_spacing_twice_as_large_gives_twice_the_distance(self, case, factor):
        pair, spacing = case
        scaled = [factor * size for size in spacing]
        for metric in (metrics.hausdorff_distance, metrics.average_boundary_distance):
            assert metric(*pair, scaled) == pytest.approx(factor * metric(*pair, spacing), rel=1e-9)

    @PROPERTIES
    @given(masks_and_spacing())
    @example(((np.ones((5, 5), bool), np.eye(5, dtype=bool)), (0.5, 2.0)))
    def test_padding_with_zeros_changes_nothing(self, case):
        pair, spacing = case
        found = metrics.boundary_distances(*pair, spacing)
        padded = metrics.boundary_distances(*(np.pad(mask, ((2, 1),) * mask.ndim) for mask in pair), spacing)
        for name in ("hausdorff_px", "average_px", "hausdorff_mm", "average_mm"):
            assert getattr(padded, name) == pytest.approx(getattr(found, name), rel=1e-12)

    @PROPERTIES
    @given(masks_and_spacing())
    def test_transposed_with_its_spacing_reversed(self, case):
        pair, spacing = case
        for metric in (metrics.hausdorff_distance, metrics.average_boundary_distance):
            turned = metric(*(np.moveaxis(mask, (0, 1), (1, 0)) for mask in pair), _swapped(spacing))
            assert turned == pytest.approx(metric(*pair, spacing), rel=1e-12)

    @PROPERTIES
    @given(masks_and_spacing(count=1))
    def test_boundary_points_are_those_of_the_definition(self, case):
        (mask,), _ = case
        assert list(map(tuple, surface._boundary_points(mask).tolist())) == boundary_by_loops(mask)


def _swapped(spacing):
    """The spacing of an array whose first two axes are swapped: these are its last two numbers."""
    return (*spacing[:-2], spacing[-1], spacing[-2])


class TestEmptyMasks:
    @pytest.mark.parametrize("spacing_mm", [None, 0.2, (0.2, 0.3)])
    def test_one_empty_is_nan_and_named(self, spacing_mm):
        mask, empty = square(4), np.zeros((20, 30), bool)
        for pair, failure in (
            ((mask, empty), "the predicted mask is empty"),
            ((empty, mask), "the true mask is empty"),
        ):
            assert math.isnan(metrics.hausdorff_distance(*pair, spacing_mm))
            assert math.isnan(metrics.average_boundary_distance(*pair, spacing_mm))
            found = metrics.boundary_distances(*pair, spacing_mm)
            assert found.failure == failure
            assert math.isnan(found.hausdorff_px)
            assert math.isnan(found.average_px)
            in_mm = (found.hausdorff_mm, found.average_mm)
            assert in_mm == (None, None) if spacing_mm is None else all(map(math.isnan, in_mm))

    def test_both_empty_agree(self):
        empty = np.zeros((20, 30), bool)
        assert metrics.hausdorff_distance(empty, empty) == 0.0
        assert metrics.average_boundary_distance(empty, empty, 0.2) == 0.0
        assert metrics.boundary_distances(empty, empty) == metrics.BoundaryDistances(0.0, 0.0)
        assert metrics.boundary_distances(empty, empty, 0.2) == metrics.BoundaryDistances(0.0, 0.0, 0.0, 0.0)

    def test_mm_is_none_without_a_spacing(self):
        found = metrics.boundary_distances(square(4), square(7))
        assert (found.hausdorff_px, found.hausdorff_mm, found.average_mm, found.failure) == (3.0, None, None, "")

    def test_a_mask_that_fills_the_image_has_a_boundary(self):
        centre = np.zeros((9, 9), bool)
        centre[4, 4] = True
        assert metrics.hausdorff_distance(np.ones((9, 9), bool), centre) == pytest.approx(math.hypot(4, 4))


@pytest.mark.parametrize(
    "metric", [metrics.hausdorff_distance, metrics.average_boundary_distance, metrics.boundary_distances]
)
class TestErrors:
    @pytest.mark.parametrize("shape", [(7,), (1, 6, 7), (6, 7, 1), (2, 6, 7, 7)])
    def test_neither_image_nor_volume(self, metric, shape):
        words = r"shape \(height, width\) or \(depth, height, width\), depth above one\. Received shape: "
        with pytest.raises(ValueError, match=words + r"\(.*\)\. Squeeze batch and channel axes first"):
            metric(np.ones(shape, bool), np.ones(shape, bool))

    @pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (), [[0.1, 0.1]]])
    def test_spacing_of_another_number_of_axes(self, metric, spacing_mm):
        with pytest.raises(
            ValueError, match=r"must be one number or \(x, y\) for a mask of 2 axes\. Received shape: \("
        ):
            metric(square(4), square(7), spacing_mm)

    def test_spacing_of_two_numbers_for_a_volume(self, metric):
        mask = np.ones((5, 5, 5), bool)
        with pytest.raises(ValueError, match=r"or \(x, y, z\) for a mask of 3 axes\. Received shape: \(2,\)"):
            metric(mask, mask, (1.0, 2.0))

    @pytest.mark.parametrize("spacing_mm", [0, -0.1, float("nan"), (0.1, float("inf")), (0.1, 0.0)])
    def test_spacing_not_positive(self, metric, spacing_mm):
        with pytest.raises(ValueError, match=r"spacing_mm must be positive and finite\. Received: "):
            metric(square(4), square(7), spacing_mm)

    def test_a_wrong_spacing_is_refused_for_empty_masks_too(self, metric):
        empty = np.zeros((20, 30), bool)
        with pytest.raises(ValueError, match="spacing_mm must be positive"):
            metric(empty, empty, -1)


@pytest.mark.parametrize("percentile", [0, -5, 100.5, -0.05, float("nan")])
def test_percentile_out_of_range(percentile):
    with pytest.raises(ValueError, match=r"percentile must be above 0 and at most 100\. Received: "):
        metrics.hausdorff_distance(square(4), square(7), percentile=percentile)


def test_every_name_is_exported():
    for name in surface.__all__:
        assert getattr(metrics, name) is getattr(surface, name)
        assert name in metrics.__all__


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(surface)
    assert results.attempted == 9
    assert results.failed == 0
