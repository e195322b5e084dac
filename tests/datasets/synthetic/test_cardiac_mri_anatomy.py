"""What is drawn about each heart: published sizes at large numbers, and hearts that fit the image."""

import numpy as np
import pytest

from hcreg.datasets.synthetic.cardiac_mri_anatomy import draw_anatomy

PUBLISHED = {1: [0.0973, 0.1872, 0.0959, 0.1372], 2: [0.0710, 0.1368, 0.0666, 0.0898]}


def draw(experiment, difference=1.0, num_images=200_000, seed=0):
    return draw_anatomy(np.random.default_rng(seed), num_images, experiment, difference)


@pytest.mark.parametrize("experiment", [1, 2])
def test_areas_of_the_discs_come_to_the_published_shares(experiment):
    anatomy = draw(experiment)
    left, right = anatomy.lv_radius_px + anatomy.lv_wall_px, anatomy.rv_radius_px + anatomy.rv_wall_px
    share = np.pi * (left**2 + right**2) / (105 * 135)
    means = [share[anatomy.labels == label].mean() for label in range(4)]
    # The column that the discs share is not subtracted here.
    np.testing.assert_allclose(means, PUBLISHED[experiment], rtol=0.01)


def test_lengths_are_twice_the_stated_ones_with_one_percent_of_spread():
    anatomy = draw(2)
    normal = anatomy.labels == 0
    # 2 * 25 * (2.5, 1, 3.5, 1.5) / 17.
    for name, length in (("rv_radius", 7.353), ("rv_wall", 2.941), ("lv_radius", 10.294), ("lv_wall", 4.412)):
        values = getattr(anatomy, f"{name}_px")[normal]
        assert values.mean() == pytest.approx(length, rel=1e-3)
        assert values.std() == pytest.approx(0.01 * length, rel=0.02)


@pytest.mark.parametrize(
    ("label", "name", "length"),
    [
        (1, "rv_radius", 8.824),
        (1, "rv_wall", 2.647),
        (1, "lv_radius", 18.529),
        (1, "lv_wall", 3.529),
        (2, "rv_radius", 7.588),  # 7.353 * (.84 + .16 * 1.2)
        (2, "lv_radius", 4.118),
        (2, "lv_wall", 9.706),
        (3, "rv_radius", 11.029),
        (3, "lv_radius", 10.397),  # 10.294 * (.5 + .5 * (.9 + .1 * 1.2))
        (3, "lv_wall", 4.191),  # 4.412 * (.5 + .5 * .9)
    ],
)
def test_lengths_of_the_diseases(label, name, length):
    anatomy = draw(2)
    assert getattr(anatomy, f"{name}_px")[anatomy.labels == label].mean() == pytest.approx(length, rel=2e-3)


def test_only_fibro_fatty_hearts_have_a_thin_or_large_left_ventricle():
    anatomy = draw(2)
    diseased = anatomy.labels == 3
    part = anatomy.rv_span[diseased] / 178.5
    thin = anatomy.lv_wall_px[diseased] < 0.95 * 4.412
    large = anatomy.lv_radius_px[diseased] > 1.1 * 10.294
    assert part[thin].min() == pytest.approx(0.3, abs=0.01)
    assert part[thin].max() == pytest.approx(0.8, abs=0.01)
    assert part[~thin].min() == pytest.approx(0.7, abs=0.01)
    assert part[~thin].max() == pytest.approx(0.9, abs=0.01)
    assert thin.mean() == pytest.approx(0.5, abs=0.02)
    assert large[thin].mean() == pytest.approx(0.1, abs=0.02)
    assert not large[~thin].any()


def test_difference_leaves_what_is_drawn_by_chance():
    alike, thesis = draw(1, 0.0), draw(1, 1.0)
    for name in ("labels", "sex"):
        np.testing.assert_array_equal(getattr(alike, name), getattr(thesis, name))
    normal = thesis.labels == 0
    for one, other in zip(alike, thesis, strict=True):
        np.testing.assert_array_equal(one[normal], other[normal])
    assert not alike.rv_span.any()
    assert not alike.lv_span.any()
    assert not thesis.rv_span[thesis.labels != 3].any()


@pytest.mark.parametrize("difference", [0.0, 1.0, 1.5])
def test_every_heart_fits_and_keeps_off_the_label(difference):
    anatomy = draw(1, difference, 400_000)
    assert anatomy.height_px.max() <= 103 + 1e-9
    assert anatomy.width_px.max() <= 133 + 1e-9
    assert anatomy.gap_px.min() > 2
    if difference == 1.5:
        assert (anatomy.height_px > 103 - 1e-9).any(), "the limit is never reached: it tests nothing"
    # Distance of the right ventricle's centre from the nearest corner of the label's block, (94.5, 124.5).
    left, right = anatomy.lv_radius_px + anatomy.lv_wall_px, anatomy.rv_radius_px + anatomy.rv_wall_px
    center_y = (105 - anatomy.height_px) / 2 + 3.5 + anatomy.gap_px + left
    center_x = (135 + anatomy.width_px) / 2 - 0.5 - right
    clearance = np.hypot(np.maximum(94.5 - center_y, 0), np.maximum(124.5 - center_x, 0)) - right
    assert clearance.min() > 2
