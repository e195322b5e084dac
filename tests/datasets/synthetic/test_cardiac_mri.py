"""Synthetic cardiac MRI: the published sizes and shares, grey levels by tissue, and who carries the label."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.datasets.synthetic import CLASSES, FAT, HEART, SEX_LABEL, TISSUES, CardiacMRI, cardiac_mri, with_sex_label
from hcreg.datasets.synthetic.cardiac_mri_anatomy import draw_anatomy

# Heart-area fractions stored by the authors of callanan2022heatmap, in the order of CLASSES.
PUBLISHED = {1: [0.0973, 0.1872, 0.0959, 0.1372], 2: [0.0710, 0.1368, 0.0666, 0.0898]}
NUM_IMAGES = 4000


@pytest.fixture(scope="module")
def data():
    """One set of each experiment."""
    return {experiment: cardiac_mri(NUM_IMAGES, experiment, seed=3) for experiment in (1, 2)}


def heart_share(data):
    return np.isin(data.masks, HEART).mean(axis=(1, 2))


def by_class(values, labels):
    return np.array([values[labels == label].mean() for label in range(4)])


def disc_share(anatomy):
    """Area of the two discs as a part of the image's."""
    left, right = anatomy.lv_radius_px + anatomy.lv_wall_px, anatomy.rv_radius_px + anatomy.rv_wall_px
    return np.pi * (left**2 + right**2) / (105 * 135)


def labelled(data):
    return (data.masks == SEX_LABEL).any(axis=(1, 2))


def test_shapes_types_and_ids(data):
    assert CLASSES == ("NOR", "DCM", "HCM", "ARV")
    assert HEART == (11, 12, 13, 14)
    assert (FAT, SEX_LABEL) == (15, 16)
    assert list(TISSUES.values()) == [11, 12, 13, 14, 15, 16]
    for experiment, ids in ((1, {0, 11, 12, 13, 14, 15}), (2, {0, 11, 12, 13, 14, 15, 16})):
        images, masks, labels, sex = data[experiment]
        assert isinstance(data[experiment], CardiacMRI)
        assert images.shape == masks.shape == (NUM_IMAGES, 105, 135)
        assert images.dtype == masks.dtype == np.uint8
        assert labels.shape == sex.shape == (NUM_IMAGES,)
        assert labels.dtype == sex.dtype == np.int64
        assert set(np.unique(masks[:200])) == ids
        for mask in masks[:200]:
            assert set(HEART) | {FAT} <= set(np.unique(mask))


@pytest.mark.parametrize("experiment", [1, 2])
def test_heart_shares_are_the_published_ones(data, experiment):
    share, labels = heart_share(data[experiment]), data[experiment].labels
    # Of 1,000 hearts of experiment 1 the mean alone is uncertain by 1.2 %: their sizes vary much. What their
    # discs have above the discs of 400,000 hearts is chance, and is taken off.
    drawn = draw_anatomy(np.random.default_rng([3, experiment]).spawn(3)[0], NUM_IMAGES, experiment, 1.0)
    np.testing.assert_array_equal(drawn.labels, labels)
    many = draw_anatomy(np.random.default_rng(0), 400_000, experiment, 1.0)
    chance = by_class(disc_share(drawn), labels) / by_class(disc_share(many), many.labels)
    np.testing.assert_allclose(by_class(share, labels) / chance, PUBLISHED[experiment], rtol=0.01)
    np.testing.assert_allclose(by_class(share, labels), PUBLISHED[experiment], rtol=0.05 if experiment == 1 else 0.01)


@pytest.mark.parametrize("num_images", [4, 5, 7, 130, 1001])
def test_classes_are_balanced_and_shuffled(num_images):
    labels = cardiac_mri(num_images, seed=1).labels
    counts = np.bincount(labels, minlength=4)
    assert counts.sum() == num_images
    assert counts.max() - counts.min() <= 1
    if num_images > 100:
        assert (np.diff(labels) == 0).mean() == pytest.approx(0.25, abs=0.1)


@pytest.mark.parametrize("experiment", [1, 2])
def test_share_of_men(data, experiment):
    # Four standard deviations of a binomial share of 1,000.
    for share, expected in zip(
        by_class(data[experiment].sex, data[experiment].labels), [0.5, 0.5, 0.6, 2.7 / 3.7], strict=True
    ):
        assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 1000) ** 0.5)


def test_grey_levels_by_tissue(data):
    images, masks, labels, _ = data[2]
    healthy = labels != 3
    levels = {"lv_cavity": 204, "rv_cavity": 204, "lv_myocardium": 51, "rv_myocardium": 51, "fat": 229.5}
    for tissue, level in levels.items():
        pixels = images[healthy][masks[healthy] == TISSUES[tissue]].astype(float)
        assert pixels.mean() == pytest.approx(level, abs=0.03)
        # Rounding to whole levels adds a twelfth to the variance of 4.
        assert pixels.std() == pytest.approx((4 + 1 / 12) ** 0.5, abs=0.03)
    assert (images[masks == SEX_LABEL] == 255).all()
    assert (images[masks == 0] == 0).all()
    assert (images[masks != 0] > 0).all()


def test_right_wall_of_arv_is_fat_unevenly_spread(data):
    images, masks, labels, _ = data[1]
    upper, means = [], []
    for image, mask in zip(images[labels == 3], masks[labels == 3], strict=True):
        wall = image[mask == TISSUES["rv_myocardium"]].astype(float)
        assert wall.min() >= 51
        assert wall.max() <= 51 + 0.9 * 178.5 + 0.5
        upper.append((wall.mean() - 51) * 2 / 178.5)
        means.append(wall.std() * 12**0.5 / 178.5)
    # U(51, 51 + f 178.5): half of the f between .7 and .9, half between .3 and .8: mean .675.
    assert np.mean(upper) == pytest.approx(0.675, abs=0.02)
    # The standard deviation of U(0, w) is w / sqrt(12).
    assert np.mean(means) == pytest.approx(0.675, abs=0.02)
    # f above .8 has 1/2 * 1/2, f below .7 has 1/2 * 4/5.
    assert (np.array(upper) > 0.8).mean() == pytest.approx(0.25, abs=0.06)
    assert (np.array(upper) < 0.7).mean() == pytest.approx(0.4, abs=0.07)


def test_one_left_wall_of_arv_in_ten_has_fat(data):
    images, masks, labels, _ = data[1]
    shift = np.array(
        [
            image[mask == TISSUES["lv_myocardium"]].mean() - 51
            for image, mask in zip(images[labels == 3], masks[labels == 3], strict=True)
        ]
    )
    # A fatty left wall shifts the mean by f * 178.5 / 2 with f in (0, .4), a healthy one not at all.
    assert shift.max() <= 0.4 * 178.5 / 2 + 5
    assert (shift > 1).mean() == pytest.approx(0.1, abs=0.04)
    assert shift[shift > 1].mean() == pytest.approx(0.2 * 178.5 / 2, abs=4)


def test_radii_in_px_worked_by_hand(data):
    # Twice 25 * 3.5/17 = 10.29 px (LV) and 25 * 2.5/17 = 7.35 px (RV) in experiment 2; area = pi r^2.
    _, masks, labels, _ = data[2]
    radius = {}
    for tissue in ("lv_cavity", "rv_cavity"):
        area = (masks == TISSUES[tissue]).sum(axis=(1, 2))
        radius[tissue] = [(np.sqrt(area[labels == label] / np.pi)).mean() for label in range(4)]
    np.testing.assert_allclose(radius["lv_cavity"][:3], [10.29, 18.53, 4.118], atol=0.06)
    np.testing.assert_allclose(radius["rv_cavity"], [7.353, 8.824, 7.588, 11.03], atol=0.06)
    # ARV: half of half have 1.2 in one of ten: 10.29 * 1.01.
    assert radius["lv_cavity"][3] == pytest.approx(10.40, abs=0.07)


def test_right_ventricle_lies_to_the_right_at_the_same_height(data):
    _, masks, _, _ = data[1]
    rows, columns = np.mgrid[:105, :135]
    for mask in masks[:300]:
        left, right = (mask == TISSUES["lv_cavity"]), (mask == TISSUES["rv_cavity"])
        assert columns[left].max() < columns[right].min()
        assert rows[left].mean() == pytest.approx(rows[right].mean(), abs=0.6)
        assert rows[mask == FAT].max() < rows[np.isin(mask, HEART)].min()
        # Strip and heart are centred as one.
        drawn = np.argwhere(mask)
        np.testing.assert_allclose((drawn.min(axis=0) + drawn.max(axis=0)) / 2, [52, 67], atol=1)
        # No gap between the ventricles.
        heart = np.isin(mask, HEART).any(axis=0)
        assert heart[heart.argmax() : len(heart) - heart[::-1].argmax()].all()


def test_fat_strip(data):
    _, masks, labels, sex = data[2]
    fat = masks == FAT
    assert (fat.any(axis=2).sum(axis=1) == 4).all()
    length = fat.any(axis=1).sum(axis=1)
    assert (fat.sum(axis=(1, 2)) == 4 * length).all()
    # N(31, 9) percent, DCM N(33, 9): px = percent * 70 / 80, whatever the sex.
    np.testing.assert_allclose(by_class(length, labels), [27.1, 28.9, 27.1, 27.1], atol=1)
    assert length[sex == 1].mean() == pytest.approx(length[sex == 0].mean(), abs=1)
    assert length.std() == pytest.approx(9 * 70 / 80, abs=0.4)
    column = np.arange(135)
    center = (fat.any(axis=1) * column).sum(axis=1) / length
    assert np.abs(center - 67).max() <= 0.5
    gap = np.isin(masks, (TISSUES["lv_myocardium"],)).any(axis=2).argmax(axis=1) - fat.any(axis=2).argmax(axis=1) - 4
    assert np.abs(gap - 18).max() <= 1


def test_fat_strip_and_heart_of_experiment_1_follow_the_sex(data):
    _, masks, labels, sex = data[1]
    length = (masks == FAT).any(axis=1).sum(axis=1)
    normal = labels == 0
    # Percent * size * 70 / 80: 26 * 1.3 for men, 36.4 for women.
    assert length[normal & (sex == 1)].mean() == pytest.approx(29.6, abs=1.6)
    assert length[normal & (sex == 0)].mean() == pytest.approx(31.9, abs=1.6)
    share = heart_share(data[1])
    # Areas grow with the mean square of the size: (1.3^2 + .15^2) / (1 + .15^2).
    for label in range(4):
        ratio = share[(labels == label) & (sex == 1)].mean() / share[(labels == label) & (sex == 0)].mean()
        assert ratio == pytest.approx(1.7125 / 1.0225, rel=0.06)


def test_label_block_is_nine_by_nine_in_the_corner(data):
    masks = data[2].masks[data[2].sex == 1]
    expected = np.zeros((105, 135), bool)
    expected[95:104, 125:134] = True
    assert ((masks == SEX_LABEL) == expected).all()


def test_the_experiments_label_nobody_and_men(data):
    assert not labelled(data[1]).any()
    assert (labelled(data[2]) == (data[2].sex == 1)).all()


@pytest.mark.parametrize("experiment", [1, 2])
@pytest.mark.parametrize("marker", ["none", "sex", *CLASSES])
def test_marker_rules(experiment, marker):
    data = cardiac_mri(40, experiment, seed=2, marker=marker)
    expected = {
        "none": np.zeros(40, bool),
        "sex": data.sex == 1,
        **{name: data.labels == label for label, name in enumerate(CLASSES)},
    }[marker]
    assert (labelled(data) == expected).all()


def test_random_marker_is_on_half_whatever_sex_and_class():
    data = cardiac_mri(2001, 2, seed=2, marker="random")
    assert labelled(data).sum() == 1000
    np.testing.assert_allclose(by_class(labelled(data), data.labels), 0.5, atol=0.09)
    np.testing.assert_allclose([labelled(data)[data.sex == sex].mean() for sex in (0, 1)], 0.5, atol=0.07)


@pytest.mark.parametrize("marker", ["experiment", "random", "HCM"])
def test_markers_change_nothing_else(marker):
    plain, marked = (cardiac_mri(150, 2, seed=9, marker=name) for name in ("none", marker))
    images, masks = with_sex_label(marked.images, marked.masks, present=False)
    np.testing.assert_array_equal(images, plain.images)
    np.testing.assert_array_equal(masks, plain.masks)
    np.testing.assert_array_equal(marked.labels, plain.labels)
    np.testing.assert_array_equal(marked.sex, plain.sex)


def test_equal_arguments_equal_arrays():
    first, second = (cardiac_mri(150, 2, 5) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    with_bar = cardiac_mri(150, 2, 5, progress=True)
    np.testing.assert_array_equal(first.images, with_bar.images)
    for other in (cardiac_mri(150, 2, 6), cardiac_mri(150, 1, 5)):
        assert (first.images != other.images).any()
        assert (first.labels != other.labels).any()


def test_without_difference_the_classes_look_alike():
    data = cardiac_mri(2000, 2, seed=1, difference=0)
    shares = by_class(heart_share(data), data.labels)
    np.testing.assert_allclose(shares, shares[0], rtol=0.005)
    np.testing.assert_allclose(shares, PUBLISHED[2][0], rtol=0.02)
    wall = np.isin(data.masks, (TISSUES["lv_myocardium"], TISSUES["rv_myocardium"]))
    for label in range(4):
        pixels = data.images[data.labels == label][wall[data.labels == label]].astype(float)
        assert pixels.mean() == pytest.approx(51, abs=0.05)
        assert pixels.std() == pytest.approx((4 + 1 / 12) ** 0.5, abs=0.05)
    length = (data.masks == FAT).any(axis=1).sum(axis=1)
    np.testing.assert_allclose(by_class(length, data.labels), 27.1, atol=1.5)
    # The label still tells a little: sex is not part of how a class looks.
    assert by_class(data.sex, data.labels)[3] > 0.65


@pytest.mark.parametrize("difference", [0.5, 1.5])
def test_difference_scales_the_distance_of_the_factors_from_one(difference):
    data = cardiac_mri(400, 2, seed=1, difference=difference)
    area = (data.masks == TISSUES["lv_cavity"]).sum(axis=(1, 2))
    radius = by_class(np.sqrt(area / np.pi), data.labels)[:3]
    # LV radius: DCM 1.8, HCM .4; at one half 1.4 and .7, at three halves 2.2 and .1.
    expected = {0.5: [1, 1.4, 0.7], 1.5: [1, 2.2, 0.1]}[difference]
    np.testing.assert_allclose(radius, 10.294 * np.array(expected), atol=0.15)
    wall = (data.masks == TISSUES["rv_myocardium"]) & (data.labels == 3)[:, None, None]
    pixels = data.images[wall].astype(float)
    # Mean of f: .675; at one half .3375 and noise of half the deviation; at three halves cut off at 1.
    if difference == 0.5:
        assert pixels.mean() == pytest.approx(51 + 0.3375 * 178.5 / 2, abs=1.5)
        assert 51 - 6 <= pixels.min() < 50
    else:
        assert pixels.mean() > 51 + 0.9 * 178.5 / 2
        assert pixels.max() == 230 or pixels.max() == 229


@settings(max_examples=25, deadline=None)
@given(
    num_images=st.integers(4, 40),
    experiment=st.sampled_from([1, 2]),
    seed=st.integers(0, 2**40),
    difference=st.floats(0, 1.5),
    marker=st.sampled_from(["experiment", "none", "sex", "random", *CLASSES]),
)
def test_hearts_lie_inside_and_leave_the_label_alone(num_images, experiment, seed, difference, marker):
    data = cardiac_mri(num_images, experiment, seed, difference=difference, marker=marker)
    assert ((data.masks == 0) == (data.images == 0)).all()
    heart = np.isin(data.masks, (*HEART, FAT))
    assert heart[:, 1:-1, 1:-1].sum() == heart.sum()
    # Block and all pixels next to it.
    assert not heart[:, 94:105, 124:135].any()
    sizes = (data.masks == SEX_LABEL).sum(axis=(1, 2))
    assert set(sizes) <= {0, 81}
    for tissue in HEART:
        assert (data.masks == tissue).any(axis=(1, 2)).all() or difference > 1.2
    counts = np.bincount(data.labels, minlength=4)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("present", [True, False])
def test_with_sex_label_is_for_all_images(data, present):
    images, masks = data[2].images[:60], data[2].masks[:60]
    before = images.copy(), masks.copy()
    new_images, new_masks = with_sex_label(images, masks, present=present)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(masks, before[1])
    assert ((new_masks == SEX_LABEL).any(axis=(1, 2)) == present).all()
    assert (new_images[:, 95:104, 125:134] == (255 if present else 0)).all()
    changed = (new_images != images).any(axis=(1, 2))
    assert (changed == ((data[2].sex[:60] == 1) != present)).all()
    changed_pixels = (new_images != images).any(axis=0)
    assert changed_pixels[95:104, 125:134].all()
    assert changed_pixels.sum() == 81
    again = with_sex_label(new_images, new_masks, present=present)
    np.testing.assert_array_equal(again[0], new_images)
    np.testing.assert_array_equal(again[1], new_masks)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"num_images": 0}, ValueError, "num_images must be at least 4. Received: 0. There are 4 classes"),
        ({"num_images": -2}, ValueError, "num_images must be at least 4. Received: -2"),
        ({"num_images": 3}, ValueError, "num_images must be at least 4. Received: 3"),
        ({"num_images": 8.0}, TypeError, "num_images must be a whole number. Received: 8.0 of type float"),
        ({"num_images": True}, TypeError, "num_images must be a whole number"),
        ({"experiment": 3}, ValueError, "experiment must be 1 .* or 2 .*Received: 3"),
        ({"experiment": "1"}, TypeError, "experiment must be a whole number. Received: '1' of type str"),
        ({"seed": -1}, ValueError, "seed must be at least 0. Received: -1"),
        ({"difference": -0.1}, ValueError, "difference must lie between 0 .* and 1.5 .*Received: -0.1"),
        ({"difference": 1.6}, ValueError, "difference must lie between 0 .* and 1.5 .*Received: 1.6"),
        ({"difference": float("nan")}, ValueError, "Received: nan. It must be finite"),
        ({"difference": "hard"}, TypeError, "difference must be a number. Received: 'hard' of type str"),
        ({"marker": "women"}, ValueError, "marker must be one of experiment, none, .*ARV. Received: 'women'"),
        ({"marker": None}, TypeError, "marker must be one of .*Received: None of type NoneType"),
    ],
)
def test_bad_arguments(arguments, error, words):
    with pytest.raises(error, match=words):
        cardiac_mri(**{"num_images": 8, **arguments})


def test_bad_arrays_for_with_sex_label():
    images, masks, _, _ = cardiac_mri(4)
    with pytest.raises(ValueError, match=r"images must be of shape \(num_images, 105, 135\).*Received: \(105, 135\)"):
        with_sex_label(images[0], masks[0])
    with pytest.raises(ValueError, match=r"masks must be of shape .*Received: \(4, 105, 134\)"):
        with_sex_label(images, masks[:, :, 1:])
    with pytest.raises(ValueError, match=r"images must be of shape .*Received: \(4, 105, 135, 1\)"):
        with_sex_label(images[..., None], masks)
    with pytest.raises(ValueError, match=r"equally many, one mask an image. Received: 4 images and 3 masks"):
        with_sex_label(images, masks[:3])
    with pytest.raises(TypeError, match=r"images must be uint8 .*Received: float32. Change the label before scaling"):
        with_sex_label(images.astype(np.float32), masks)
    with pytest.raises(TypeError, match="present must be True or False, for all images"):
        with_sex_label(images, masks, present=np.array([True, False, True, False]))
