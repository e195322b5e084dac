"""What a mask is worth, on discs whose overlap, distance and circumference are known in closed form."""

import math

import numpy as np
import pytest

from hcreg.geometry import Ellipse
from hcreg.mask_measures import ellipse_of_row, mask_columns

SHAPE = (540, 800)
HEAD = Ellipse(400.0, 270.0, 150.0, 150.0, 0.0)
ROUTES = ("original", "ellipse")


def disc(x=400.0, y=270.0, radius=150.0, shape=SHAPE):
    return Ellipse(x, y, radius, radius, 0.0).coverage(shape)[..., None]


def measured(probabilities, reference=HEAD, shape=SHAPE, pixel_size_mm=0.2):
    return mask_columns(probabilities, reference, shape, pixel_size_mm)


def lens_dice(radius, distance):
    """Dice of two discs: the area of a lens over that of a disc."""
    lens = 2 * radius**2 * math.acos(distance / (2 * radius)) - distance / 2 * math.sqrt(4 * radius**2 - distance**2)
    return lens / (math.pi * radius**2)


def test_a_perfect_mask():
    columns = measured(disc())
    for route in ROUTES:
        assert columns[f"hc_{route}_mm"] == pytest.approx(2 * math.pi * 150 * 0.2, abs=0.01)
        assert columns[f"dice_{route}"] > 0.9995
        assert columns[f"jaccard_{route}"] > 0.999
        assert columns[f"hausdorff_{route}_px"] <= 1
        assert columns[f"boundary_distance_{route}_px"] < 0.05
    assert columns["failure"] == columns["failure_original"] == ""


def test_a_shifted_disc_by_hand():
    columns = measured(disc(x=412.0))
    for route in ROUTES:
        dice = lens_dice(150, 12)
        assert columns[f"dice_{route}"] == pytest.approx(dice, abs=1e-3)
        assert columns[f"jaccard_{route}"] == pytest.approx(dice / (2 - dice), abs=1e-3)
        assert columns[f"hausdorff_{route}_px"] == pytest.approx(12, abs=1)  # whole pixels
        # a circle's point at the angle t lies 12 |cos t| from the other circle, whose mean is 2 / pi
        assert columns[f"boundary_distance_{route}_px"] == pytest.approx(12 * 2 / math.pi, abs=0.3)
        assert columns[f"hc_{route}_mm"] == pytest.approx(60 * math.pi, abs=0.01)  # a length does not see the shift
    assert columns["ellipse_center_x_px"] == pytest.approx(412, abs=0.01)
    assert columns["ellipse_center_y_px"] == pytest.approx(270, abs=0.01)
    assert columns["ellipse_semi_axis_a_px"] == pytest.approx(150, abs=0.01)


def test_millimetres_are_pixels_times_their_size():
    fine, coarse = (measured(disc(x=412.0), pixel_size_mm=size) for size in (0.1, 0.3))
    for route in ROUTES:
        assert coarse[f"hc_{route}_mm"] == pytest.approx(3 * fine[f"hc_{route}_mm"])
        for name in ("hausdorff", "boundary_distance"):
            assert coarse[f"{name}_{route}_px"] == fine[f"{name}_{route}_px"]
            assert coarse[f"{name}_{route}_mm"] == pytest.approx(0.3 * coarse[f"{name}_{route}_px"])


def test_a_second_component_counts_as_it_is_and_is_dropped_by_post_processing():
    columns = measured(disc() + disc(x=700.0, y=100.0, radius=50.0))
    assert columns["hc_original_mm"] == pytest.approx(2 * math.pi * (150 + 50) * 0.2, abs=0.05)
    assert columns["hc_ellipse_mm"] == pytest.approx(2 * math.pi * 150 * 0.2, abs=0.01)
    # all of the head found, and 1/9 of its area too much
    assert columns["dice_original"] == pytest.approx(2 / (2 + 1 / 9), abs=1e-3)
    assert columns["jaccard_original"] == pytest.approx(9 / 10, abs=1e-3)
    assert columns["hausdorff_original_px"] == pytest.approx(math.hypot(300, 170) + 50 - 150, abs=1)
    assert columns["dice_ellipse"] > 0.9995
    assert columns["hausdorff_ellipse_px"] <= 1


def test_a_hole_is_filled_by_post_processing_only():
    columns = measured(disc() - disc(radius=50.0))
    assert columns["dice_original"] == pytest.approx(2 * (8 / 9) / (1 + 8 / 9), abs=1e-3)
    assert columns["dice_ellipse"] > 0.9995
    assert columns["hc_original_mm"] == pytest.approx(columns["hc_ellipse_mm"], abs=0.01)  # the inner border is no head


def test_a_map_is_thresholded_at_a_half():
    weak = measured(0.51 * disc())
    assert weak["dice_original"] > 0.99
    assert measured(0.49 * disc())["failure"] == "the mask is empty: no pixel of it lies above the threshold."
    assert measured(np.maximum(disc(), 0.49))["dice_original"] > 0.99


@pytest.mark.parametrize("shape", [(540, 400), (270, 400), (1080, 1600), (541, 738)])
def test_a_map_of_the_padded_frame_is_measured_in_the_images_own_pixels(shape):
    """The network's frame is 96 x 128 whatever the image; the head is an ellipse of the image."""
    from hcreg.preprocessing.frames import place

    head = Ellipse(0.5 * shape[1] + 4, 0.5 * shape[0] - 7, 0.4 * min(shape), 0.3 * min(shape), 0.9)
    at_network = head.transformed(place(shape).matrix_to((96, 128)))
    columns = measured(at_network.coverage((96, 128))[..., None], head, shape, 0.13)
    assert columns["hc_ellipse_mm"] == pytest.approx(head.circumference_px * 0.13, rel=1e-3)
    assert columns["dice_ellipse"] > 0.995
    assert columns["dice_original"] > 0.99
    found = ellipse_of_row(columns)
    assert found.center_x_px == pytest.approx(head.center_x_px, abs=0.3)
    assert found.center_y_px == pytest.approx(head.center_y_px, abs=0.3)
    assert found.angle_rad == pytest.approx(0.9, abs=0.01)


# --- nothing to measure ---


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        (np.zeros((54, 80, 1)), "the mask is empty"),
        (np.full((54, 80, 1), np.nan), "NaN or infinite in 432000 of 432000 pixels"),
    ],
)
def test_a_mask_without_an_outline_is_named_and_overlaps_nothing(probabilities, words):
    columns = measured(probabilities)
    assert words in columns["failure"]
    assert words in columns["failure_original"]
    for route in ROUTES:
        assert columns[f"dice_{route}"] == columns[f"jaccard_{route}"] == 0
        lengths = (
            "hc_{}_mm",
            "hausdorff_{}_px",
            "hausdorff_{}_mm",
            "boundary_distance_{}_px",
            "boundary_distance_{}_mm",
        )
        assert all(math.isnan(columns[name.format(route)]) for name in lengths)
    assert ellipse_of_row(columns) is None


def test_a_full_mask_has_no_outline_but_overlaps():
    """As it is, it covers the head; after post-processing there is no ellipse, and so no mask."""
    columns = measured(np.ones((54, 80, 1)))
    assert columns["failure"]
    assert columns["failure_original"]
    assert math.isnan(columns["hc_original_mm"])
    assert math.isnan(columns["hc_ellipse_mm"])
    share = math.pi * 150**2 / (540 * 800)
    assert columns["dice_original"] == pytest.approx(2 * share / (1 + share), abs=1e-3)
    assert columns["hausdorff_original_px"] > 100
    assert columns["dice_ellipse"] == 0
    assert math.isnan(columns["hausdorff_ellipse_px"])


# --- the ellipse of a row ---


def test_a_rows_ellipse_is_the_one_that_was_fitted():
    head = Ellipse(380.0, 260.0, 180.0, 140.0, 2.4)
    columns = measured(head.coverage(SHAPE)[..., None], head)
    found = ellipse_of_row({"subject_id": "010_HC", **columns})
    assert found.circumference_px * 0.2 == pytest.approx(columns["hc_ellipse_mm"], rel=1e-9)
    assert found.angle_rad == columns["ellipse_angle_rad"] == pytest.approx(2.4, abs=1e-3)


def test_a_regressors_row_has_no_ellipse():
    assert ellipse_of_row({"subject_id": "010_HC", "y_pred_mm": 170.0}) is None
