"""Overlap of masks: hand numbers, an independent library, properties, and every error by its words."""

import doctest
import math

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from hcreg import metrics
from hcreg.metrics import segmentation

# Slow, shared machines have no deadline; fixed seeds make a failure repeat.
PROPERTIES = settings(deadline=None, derandomize=True)

ALL = [getattr(segmentation, name) for name in segmentation.__all__]
# The metrics of boundaries take the same masks and must refuse the same ones.
EVERY_MASK_METRIC = [
    *ALL,
    metrics.hausdorff_distance,
    metrics.average_boundary_distance,
    metrics.boundary_distances,
]


@st.composite
def mask_pairs(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=5).filter(lambda shape: shape[-1] not in (2, 3, 4)))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape))


def square(left, size=4, shape=(10, 12)):
    mask = np.zeros(shape, bool)
    mask[3 : 3 + size, left : left + size] = True
    return mask


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        # Squares of 16 px, moved by 1 column: 12 px in common, 20 in the union, 8 wrong.
        (metrics.dice_score, 24 / 32),
        (metrics.jaccard_score, 12 / 20),
        (metrics.conformity_score, 1 - 8 / 12),
    ],
)
def test_hand_numbers(metric, expected):
    found = metric(square(2), square(3))
    assert type(found) is float
    assert found == pytest.approx(expected, rel=1e-15)


def test_hand_numbers_of_volumes():
    # Cubes of 8 voxels in a corner, moved by one slice: 4 in common, 12 in the union, 8 wrong.
    mask_true, mask_pred = np.zeros((2, 6, 6, 6), bool)
    mask_true[:2, :2, :2] = True
    mask_pred[1:3, :2, :2] = True
    assert metrics.dice_score(mask_true, mask_pred) == 0.5
    assert metrics.jaccard_score(mask_true, mask_pred) == pytest.approx(1 / 3)
    assert metrics.conformity_score(mask_true, mask_pred) == -1.0


@pytest.mark.parametrize(
    ("metric", "apart"),
    [(metrics.dice_score, 0.0), (metrics.jaccard_score, 0.0), (metrics.conformity_score, -math.inf)],
)
def test_empty_masks(metric, apart):
    empty, mask = np.zeros((10, 12), bool), square(2)
    assert metric(empty, empty) == 1.0
    assert metric(mask, empty) == apart
    assert metric(empty, mask) == apart
    assert metric(mask, square(7)) == apart
    assert {type(metric(*pair)) for pair in [(empty, empty), (mask, empty), (mask, square(7))]} == {float}


@PROPERTIES
@given(mask_pairs())
def test_relations_between_the_three(pair):
    dice, jaccard, conformity = (metric(*pair) for metric in (metrics.dice_score, metrics.jaccard_score, ALL[0]))
    assert ALL[0] is metrics.conformity_score
    assert 0 <= jaccard <= dice <= 1
    assert dice == pytest.approx(2 * jaccard / (1 + jaccard), rel=1e-12)
    assume(dice > 0)
    assert conformity == pytest.approx((3 * dice - 2) / dice, rel=1e-12, abs=1e-12)


@PROPERTIES
@given(mask_pairs())
def test_symmetric_and_one_for_equal_masks(pair):
    mask_true, mask_pred = pair
    for metric in ALL:
        assert metric(mask_true, mask_pred) == metric(mask_pred, mask_true)
        assert metric(mask_true, mask_true.copy()) == 1.0


@PROPERTIES
@given(mask_pairs())
def test_agree_with_sets_and_with_simpleitk(pair):
    true_points, pred_points = (set(map(tuple, np.argwhere(mask))) for mask in pair)
    assume(true_points | pred_points)
    jaccard = len(true_points & pred_points) / len(true_points | pred_points)
    assert metrics.jaccard_score(*pair) == pytest.approx(jaccard, rel=1e-12)
    if pair[0].ndim > 1:
        measures = sitk.LabelOverlapMeasuresImageFilter()
        measures.Execute(*(sitk.GetImageFromArray(mask.astype(np.uint8)) for mask in pair))
        assert metrics.dice_score(*pair) == pytest.approx(measures.GetDiceCoefficient(), rel=1e-12)
        assert metrics.jaccard_score(*pair) == pytest.approx(measures.GetJaccardCoefficient(), rel=1e-12)


@pytest.mark.parametrize("metric", EVERY_MASK_METRIC)
def test_0_1_and_0_255_and_bool_are_the_same(metric):
    mask_true, mask_pred = square(2), square(4, size=5)
    expected = metric(mask_true, mask_pred)
    for dtype in (np.uint8, np.int64, np.float32, np.float16):
        for top in (1, 255):
            assert metric(mask_true, (mask_pred * top).astype(dtype)) == expected
            assert metric((mask_true * top).astype(dtype), mask_pred) == expected
    assert metric((mask_true * 255).astype(np.uint8).tolist(), mask_pred.tolist()) == expected


@pytest.mark.parametrize("metric", EVERY_MASK_METRIC)
def test_masks_are_left_as_they_are(metric):
    mask_true, mask_pred = square(2), square(4)
    mask_true.flags.writeable = mask_pred.flags.writeable = False
    before = mask_true.copy(), mask_pred.copy()
    expected = metric(mask_true, mask_pred)  # writing to a read-only array would raise
    assert metric(mask_true.T, np.asfortranarray(mask_pred).T) == pytest.approx(expected)
    assert np.array_equal(before, (mask_true, mask_pred))


@pytest.mark.parametrize("metric", EVERY_MASK_METRIC)
class TestErrors:
    def test_another_size_than_the_truth(self, metric):
        words = (
            r"`mask_true` and `mask_pred` must be of one shape\. Received: \(54, 80\) and \(22, 22\)\. "
            "Resize the prediction to the size of the original image"
        )
        with pytest.raises(ValueError, match=words):
            metric(np.zeros((54, 80), bool), np.zeros((22, 22), bool))

    def test_a_channel_axis_is_to_be_squeezed(self, metric):
        with pytest.raises(ValueError, match=r"\(10, 12\) and \(10, 12, 1\)\..*squeeze batch and channel axes first"):
            metric(square(2), square(2)[..., None])

    @pytest.mark.parametrize("channels", [2, 3, 4])
    def test_channels(self, metric, channels):
        mask = np.repeat(square(2)[..., None], channels, axis=-1)
        words = (
            rf"`mask_pred` must be one mask.*Received shape: \(10, 12, {channels}\), whose last axis looks like "
            rf"{channels} channels or classes\. Pass one of them, such as `mask\[\.\.\., 0\]`; if they are slices, "
        )
        with pytest.raises(ValueError, match=words):
            metric(square(2), mask)
        with pytest.raises(ValueError, match=r"`mask_true` must be one mask.*np\.moveaxis\(mask, -1, 0\)"):
            metric(mask, mask)

    def test_no_pixels(self, metric):
        with pytest.raises(ValueError, match=r"`mask_true` has no pixels\. Received shape: \(0, 12\)"):
            metric(np.zeros((0, 12)), np.zeros((0, 12)))
        with pytest.raises(ValueError, match=r"`mask_true` has no pixels\. Received shape: \(\)"):
            metric(1, 1)

    def test_probabilities(self, metric):
        mask = np.where(square(2), 1.0, 0.25)
        words = r"`mask_pred` must hold 0/1 or 0/255\. Received values from 0\.25 to 1, among them 0\.25\. "
        with pytest.raises(ValueError, match=words + r"For probabilities pass `probabilities >= 0\.5`"):
            metric(square(2), mask)

    def test_a_label_map(self, metric):
        mask = square(2).astype(np.uint8)
        mask[0, 0] = 3
        words = (
            r"`mask_true` must hold 0/1 or 0/255\. Received values from 0 to 3, among them 3\..*`label_map == label`"
        )
        with pytest.raises(ValueError, match=words):
            metric(mask, square(2))

    def test_logits(self, metric):
        with pytest.raises(ValueError, match=r"values from -4 to 1, among them -4\..*for logits `logits >= 0`"):
            metric(np.where(square(2), 1.0, -4.0), square(2))

    @pytest.mark.parametrize("odd", [1, 127, 254])
    def test_grey_beside_255(self, metric, odd):
        mask = square(2).astype(np.uint8) * 255
        mask[0, 0] = odd
        with pytest.raises(ValueError, match=rf"Received values from 0 to 255, among them {odd}\."):
            metric(square(2), mask)

    def test_infinity(self, metric):
        mask = square(2).astype(float)
        mask[0, 0] = np.inf
        with pytest.raises(ValueError, match=r"Received values from 0 to inf, among them inf\."):
            metric(mask, mask)

    def test_nan_is_counted(self, metric):
        mask = square(2).astype(float)
        mask[0, :3] = np.nan
        with pytest.raises(ValueError, match=r"`mask_pred` holds NaN in 3 of 120 pixels\. Find out why"):
            metric(square(2), mask)

    def test_no_numbers(self, metric):
        with pytest.raises(ValueError, match=r"`mask_true` must be bool or hold numbers\. Received dtype: <U1"):
            metric(np.full((10, 12), "1"), square(2))


def test_a_volume_of_three_slices_is_one_if_the_slices_come_first():
    mask = np.repeat(square(2)[None], 3, axis=0)
    assert metrics.dice_score(mask, mask) == 1.0


def test_every_metric_is_exported():
    for name in segmentation.__all__:
        assert getattr(metrics, name) is getattr(segmentation, name)
        assert name in metrics.__all__


def test_examples_of_the_docstrings_run():
    results = doctest.testmod(segmentation)
    assert results.attempted == len(ALL)
    assert results.failed == 0
