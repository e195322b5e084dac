"""An annotation, outline or filled, gives the drawn ellipse; what is neither is refused."""

import cv2
import numpy as np
import pytest

from hcreg.datasets.hc18_annotations import ellipse_of_annotation
from hcreg.geometry import Ellipse

ELLIPSE = Ellipse(60.0, 45.0, 40.0, 30.0, 0.4)
SHAPE = (96, 130)


def outline():
    """The ellipse, of circumference 221.034 px by Ramanujan II, drawn one pixel thick."""
    drawn = np.zeros(SHAPE, np.uint8)
    points = np.round(ELLIPSE.contour(2000)).astype(np.int32)
    cv2.polylines(drawn, [points.reshape(-1, 1, 2)], True, 255, 1)
    return drawn


@pytest.mark.parametrize("high", [1, 128, 255])
def test_filled_mask_is_detected_whatever_its_value(high):
    mask = ELLIPSE.mask(SHAPE)
    ellipse, found = ellipse_of_annotation(mask.astype(np.uint8) * high)
    np.testing.assert_array_equal(found, mask)
    assert ellipse.circumference_px == pytest.approx(221.034, abs=0.3)


@pytest.mark.parametrize("pen", [1, 3, 5])
def test_outline_is_detected_whatever_the_pen(pen):
    drawn = cv2.dilate(outline(), np.ones((pen, pen), np.uint8))
    ellipse, mask = ellipse_of_annotation(drawn)
    assert ellipse.circumference_px == pytest.approx(221.034, abs=1)
    assert mask[45, 60]


def test_outline_cut_by_the_border_into_two_arcs_is_fitted():
    drawn = outline()[:, 30:90]
    assert cv2.connectedComponents(drawn, connectivity=8)[0] == 3
    ellipse, _ = ellipse_of_annotation(drawn)
    assert ellipse.center_x_px == pytest.approx(30, abs=0.5)
    assert ellipse.circumference_px == pytest.approx(221.034, rel=0.01)


def open_ring(ellipse, shape, degrees, pen=1):
    """The ellipse drawn over so many degrees of it from its major axis on, at sixteenths of a pixel."""
    points = ellipse.contour(3600)[: 10 * degrees + 1]
    drawn = np.zeros(shape, np.uint8)
    return cv2.polylines(drawn, [np.round(points * 16).astype(np.int32).reshape(-1, 1, 2)], False, 255, pen, shift=4)


@pytest.mark.parametrize("pen", [1, 3])
@pytest.mark.parametrize("gap_degrees", [10, 30, 90])
def test_a_ring_with_a_gap_is_closed_by_its_ellipse(gap_degrees, pen):
    head = Ellipse(400.0, 270.0, 200.0, 150.0, 0.4)
    ellipse, mask = ellipse_of_annotation(open_ring(head, (540, 800), 360 - gap_degrees, pen))
    assert ellipse.circumference_px == pytest.approx(head.circumference_px, abs=0.3)
    # filled, the gap's side too, where filling the drawing would leak out
    expected = head.mask((540, 800))
    assert np.count_nonzero(mask ^ expected) < 1e-3 * expected.sum()


@pytest.mark.parametrize(("center_x_px", "abs_px"), [(150.0, 0.1), (50.0, 0.3), (0.0, 0.6)])
def test_a_ring_cut_by_the_border_is_completed_outside_the_image(center_x_px, abs_px):
    head = Ellipse(center_x_px, 270.0, 200.0, 150.0, 0.4)
    ellipse, mask = ellipse_of_annotation(open_ring(head, (540, 800), 360))
    assert ellipse.circumference_px == pytest.approx(head.circumference_px, abs=abs_px)
    assert ellipse.bounding_box()[0] < 0
    assert mask[270, 0]
    assert mask.shape == (540, 800)


def test_a_ring_in_two_pieces_inside_the_image_is_refused():
    head = Ellipse(400.0, 270.0, 200.0, 150.0, 0.4)
    drawn = open_ring(head, (540, 800), 330)
    drawn[:, 380:420] = 0
    with pytest.raises(ValueError, match=r"holds [23] separate things; expected one head"):
        ellipse_of_annotation(drawn)


def test_annotation_of_other_shapes_is_refused():
    square = np.zeros(SHAPE, np.uint8)
    square[20:70, 20:70] = 255
    with pytest.raises(ValueError, match="neither the thin outline of an ellipse nor a filled one"):
        ellipse_of_annotation(square)
    thick = (ELLIPSE.mask(SHAPE) & ~Ellipse(60.0, 45.0, 24.0, 14.0, 0.4).mask(SHAPE)).astype(np.uint8)
    with pytest.raises(ValueError, match="neither the thin outline of an ellipse nor a filled one"):
        ellipse_of_annotation(thick)
    frame = cv2.rectangle(np.zeros(SHAPE, np.uint8), (20, 20), (80, 70), 255, 1)
    with pytest.raises(ValueError, match="neither the thin outline of an ellipse nor a filled one"):
        ellipse_of_annotation(frame)
    line = np.zeros(SHAPE, np.uint8)
    line[40, 10:90] = 255
    with pytest.raises(ValueError, match="neither the thin outline of an ellipse nor a filled one"):
        ellipse_of_annotation(line)
    with pytest.raises(ValueError, match="nothing is drawn"):
        ellipse_of_annotation(np.zeros(SHAPE, np.uint8))
    with pytest.raises(ValueError, match="one single value"):
        ellipse_of_annotation(np.full(SHAPE, 255, np.uint8))
    two = outline()
    two[2:5, 2:5] = 255
    with pytest.raises(ValueError, match="holds 2 separate things; expected one head"):
        ellipse_of_annotation(two)
