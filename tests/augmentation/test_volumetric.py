"""Augmentation of stacks: labels follow exactly, slices move alike or each on its own, one draw gives one result."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.augmentation import (
    Chain,
    ElasticDeformation,
    HorizontalFlip,
    MRIContrast,
    ReverseSlices,
    Rotation,
    SliceShifts,
    Translation,
    cardiac_augmentation,
    size_factor,
    volumetric,
    warp_shares,
    warp_stack,
    with_background,
    zhang2021_volume_augmentation,
)
from hcreg.augmentation.volumetric import window

SHAPE = (140, 150)
QUIET = {"gamma_range": (1, 1), "gain_range": (1, 1), "offset_sd": 0, "bias_sd": 0, "noise_sd": 0, "blur_px": 0}


def rng(seed=0):
    return np.random.default_rng(seed)


def heart(shape=SHAPE, radius_px=20.0, x=72.0, y=68.0):
    """Shares (height, width, 3, 4) of an LV within its wall and an RV beside it, smooth at the edges."""
    row, column = np.indices(shape)
    shares = np.zeros((*shape, 3, 4), np.float32)
    for number, size in enumerate((1.0, 0.9, 0.7)):
        distance, beside = (np.hypot(row - y, column - left) for left in (x, x - 1.5 * radius_px))
        whole = np.clip(size * radius_px - distance + 0.5, 0, 1)
        shares[:, :, number, 3] = np.clip(0.6 * size * radius_px - distance + 0.5, 0, 1)
        shares[:, :, number, 2] = whole - shares[:, :, number, 3]
        shares[:, :, number, 1] = np.minimum(1 - whole, np.clip(0.6 * radius_px - beside + 0.5, 0, 1))
    shares[..., 0] = 1 - shares[..., 1:].sum(-1)
    return shares


def areas(shares):
    return shares[..., 1:].sum((0, 1), dtype=np.float64)


def middles(shares):
    """Centre (x, y) of the heart in each slice."""
    structures = shares[..., 1:].sum(-1)
    row, column = np.indices(structures.shape[:2])
    return [
        tuple(float((structures[..., n] * place).sum() / structures[..., n].sum()) for place in (column, row))
        for n in range(structures.shape[2])
    ]


# Maps of the plane


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_an_area_is_enlarged_by_the_maps_factor(seed):
    matrix = Chain((HorizontalFlip(), cardiac_augmentation())).draw(rng(seed), SHAPE)
    shares = heart(radius_px=16.0)
    moved = warp_shares(shares, matrix, SHAPE)
    np.testing.assert_allclose(areas(moved), size_factor(matrix) * areas(shares), rtol=0.015)
    np.testing.assert_allclose(areas(moved).sum(), size_factor(matrix) * areas(shares).sum(), rtol=0.003)
    np.testing.assert_allclose(moved.sum(-1), 1, atol=1e-5)
    assert moved.min() >= 0


@pytest.mark.parametrize("seed", range(3))
def test_image_label_map_and_shares_go_to_one_place(seed):
    shares = heart()
    matrix = cardiac_augmentation().draw(rng(seed), SHAPE)
    image = warp_stack(shares[..., 3].copy(), matrix, SHAPE, "zero")
    moved = warp_shares(shares, matrix, SHAPE)
    np.testing.assert_allclose(moved[..., 3], image, atol=1e-6)  # the image is the cavity's share itself
    labels = warp_stack(shares.argmax(-1).astype(np.uint8), matrix, SHAPE, "zero", nearest=True)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) == {0, 1, 2, 3}
    assert np.mean(labels == moved.argmax(-1)) > 0.99
    assert (labels > 0).sum() == pytest.approx(size_factor(matrix) * (shares.argmax(-1) > 0).sum(), rel=0.03)


def test_each_of_many_channels_moves_as_it_would_alone():
    stack = rng().normal(size=(30, 40, 11)).astype(np.float32)
    matrix = Rotation(20.0, 20.0).draw(rng(), (30, 40))
    moved = warp_stack(stack, matrix, (25, 35))
    assert moved.shape == (25, 35, 11)
    for channel in range(11):
        np.testing.assert_array_equal(moved[..., channel], warp_stack(stack[..., [channel]], matrix, (25, 35))[..., 0])
    four_dimensional = warp_stack(stack[..., :10].reshape(30, 40, 5, 2), matrix, (25, 35))
    np.testing.assert_array_equal(four_dimensional, moved[..., :10].reshape(25, 35, 5, 2))


def test_a_shift_of_whole_pixels_by_hand():
    stack = np.arange(6, dtype=np.float32).reshape(2, 3, 1)
    shift = [[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]
    assert warp_stack(stack, shift, (2, 3))[..., 0].tolist() == [[0, 0, 1], [3, 3, 4]]
    assert warp_stack(stack, shift, (2, 3), "zero")[..., 0].tolist() == [[0, 0, 1], [0, 3, 4]]
    assert warp_shares(np.dstack([1 - stack[..., 0] / 5, stack[..., 0] / 5]), shift, (2, 3))[1, 0].tolist() == [1, 0]


def test_flipping_twice_is_nothing():
    stack = rng(1).normal(size=(11, 14, 3)).astype(np.float32)
    flip = HorizontalFlip(1.0).draw(rng(), (11, 14))
    np.testing.assert_allclose(warp_stack(stack, flip, (11, 14)), stack[:, ::-1], atol=1e-5)


def test_a_factor_is_the_area_of_the_moved_unit_square():
    matrix = np.array([[2.0, 1.0, 7.0], [0.5, -3.0, -4.0]])
    corners = [matrix @ (x, y, 1) for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))]
    shoelace = sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(corners, corners[1:] + corners[:1])) / 2
    assert size_factor(matrix) == pytest.approx(abs(shoelace))


def test_a_window_shows_its_point_in_the_middle():
    identity = np.eye(2, 3)
    seen = window(identity, (100, 80), (21, 31), (50.0, 60.0))
    np.testing.assert_allclose(seen @ (50.0, 60.0, 1), (15.0, 10.0))
    np.testing.assert_allclose(seen @ (53.0, 58.0, 1), (18.0, 8.0))
    np.testing.assert_array_equal(window(identity, (100, 80), (100, 80), (39.5, 49.5)), identity)


def test_a_window_keeps_a_maps_shift_and_size():
    shift = Translation(9.0, 9.0).draw(rng(), (100, 80))
    np.testing.assert_allclose(window(shift, (100, 80), (21, 31), (50.0, 60.0)) @ (50, 60, 1), (15, 10) + shift[:, 2])
    matrix = cardiac_augmentation().draw(rng(2), (100, 80))
    moved = window(matrix, (100, 80), (64, 64), (50.0, 60.0))
    assert size_factor(moved) == pytest.approx(size_factor(matrix))
    shares = heart(radius_px=8.0)
    cut = warp_shares(shares, window(np.eye(2, 3), SHAPE, (64, 64), middles(shares)[0]), (64, 64))
    np.testing.assert_allclose(areas(cut), areas(shares), rtol=0.005)
    np.testing.assert_allclose(middles(cut)[0], (31.5, 31.5), atol=0.1)


def test_the_papers_augmentation_flips_and_shifts_by_up_to_five_pixels():
    matrices = [zhang2021_volume_augmentation().draw(rng(seed), SHAPE) for seed in range(60)]
    assert {size_factor(matrix) for matrix in matrices} == {1.0}
    assert {matrix[0, 0] for matrix in matrices} == {1.0, -1.0}
    x, y = np.array([matrix @ (74.5, 69.5, 1) for matrix in matrices]).T - np.array([[74.5], [69.5]])
    assert 3 < np.abs(x).max() <= 5
    assert 3 < np.abs(y).max() <= 5


def test_shifts_keep_their_proportion_at_another_size():
    whole, half = (zhang2021_volume_augmentation(size) for size in ((224, 224), (112, 56)))
    for seed in range(5):
        moved, moved_half = (transform.draw(rng(seed), (8, 8))[:, 2] for transform in (whole, half))
        flip = 7.0 * (whole.draw(rng(seed), (8, 8))[0, 0] < 0)  # of eight columns
        np.testing.assert_allclose(moved_half - (flip, 0), (moved - (flip, 0)) * (0.25, 0.5))


def test_no_mirror_images_by_default():
    signs = [np.linalg.det(cardiac_augmentation().draw(rng(seed), SHAPE)[:, :2]) for seed in range(40)]
    assert min(signs) > 0


# Bending, shifting, reversing


def test_bending_moves_a_pixel_by_its_standard_deviation():
    bend = ElasticDeformation(20.0, 2.0)
    drawn = np.stack([bend.draw(rng(seed), SHAPE) for seed in range(40)])
    assert drawn.shape == (40, *SHAPE, 2)
    assert drawn.std() == pytest.approx(2.0, rel=0.06)  # a little below: large movements are cut off
    assert drawn.mean() == pytest.approx(0.0, abs=0.15)
    neighbours = np.abs(np.diff(drawn, axis=2)).max()
    assert neighbours < 1.0


@pytest.mark.parametrize("seed", range(3))
def test_the_plane_never_folds(seed):
    field = ElasticDeformation(10.0, 1.0).draw(rng(seed), (120, 130)).astype(float)
    x_down, x_across = np.gradient(field[..., 0])
    y_down, y_across = np.gradient(field[..., 1])
    assert ((1 + x_across) * (1 + y_down) - x_down * y_across).min() > 0


def test_bent_labels_lie_where_the_bent_image_does():
    shares = heart()
    bend = ElasticDeformation(24.0, 2.4).draw(rng(4), (*SHAPE, 3))
    image = ElasticDeformation.apply(shares[..., 3].copy(), bend, "zero")
    moved = with_background(ElasticDeformation.apply(shares[..., 1:], bend, "zero"))
    np.testing.assert_allclose(moved[..., 3], image, atol=1e-6)
    np.testing.assert_allclose(moved.sum(-1), 1, atol=1e-5)
    labels = ElasticDeformation.apply(shares.argmax(-1).astype(np.uint8), bend, "zero", nearest=True)
    assert np.mean(labels == moved.argmax(-1)) > 0.98
    assert np.abs(moved - shares).max() > 0.9


def test_bending_looks_where_its_movement_says():
    """A slope at a pixel becomes the slope there plus the movement, in every slice."""
    across = np.broadcast_to(np.arange(80, dtype=np.float32)[None, :, None], (60, 80, 6))
    bend = ElasticDeformation(20.0, 2.0).draw(rng(), (60, 80))
    moved = ElasticDeformation.apply(across, bend)
    expected = np.arange(80)[None, :] + bend[..., 0]
    for number in range(6):
        np.testing.assert_allclose(moved[:, 12:-12, number], expected[:, 12:-12], atol=0.02)


def test_no_bend_is_no_change():
    stack = rng().normal(size=(20, 24, 5)).astype(np.float32)
    bend = ElasticDeformation(8.0, 0.0).draw(rng(), stack.shape)
    np.testing.assert_array_equal(ElasticDeformation.apply(stack, bend), stack)


def test_each_slice_shifts_on_its_own_and_its_labels_with_it():
    shares = heart()
    shifts = SliceShifts(2.0).draw(rng(3), shares.shape)
    assert shifts.shape == (3, 2)
    moved = with_background(SliceShifts.apply(shares[..., 1:], shifts, "zero"))
    np.testing.assert_allclose(np.array(middles(moved)) - middles(shares), shifts, atol=0.03)
    np.testing.assert_allclose(areas(moved), areas(shares), rtol=0.002)
    image = SliceShifts.apply(shares[..., 3].copy(), shifts, "zero")
    np.testing.assert_allclose(image, moved[..., 3], atol=1e-6)
    labels = SliceShifts.apply(shares.argmax(-1).astype(np.uint8), np.array([[2, 0], [0, -1], [0, 0]]), nearest=True)
    np.testing.assert_array_equal(labels[:, 2:, 0], shares.argmax(-1)[:, :-2, 0])
    np.testing.assert_array_equal(labels[:-1, :, 1], shares.argmax(-1)[1:, :, 1])


def test_shifts_spread_as_asked():
    assert SliceShifts(1.5).draw(rng(), (4, 4, 2000)).std() == pytest.approx(1.5, rel=0.05)


def test_reversed_slices_are_the_same_slices():
    shares = heart()
    back = ReverseSlices.apply(shares, True)
    np.testing.assert_array_equal(back[:, :, 0], shares[:, :, 2])
    np.testing.assert_array_equal(ReverseSlices.apply(shares, False), shares)
    drawn = [ReverseSlices(0.25).draw(rng(seed)) for seed in range(400)]
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.07)


@pytest.mark.parametrize("transform", [ElasticDeformation(16.0, 1.5), SliceShifts(1.0), MRIContrast()])
def test_one_draw_gives_one_result(transform):
    stack = rng().normal(size=(24, 20, 9)).astype(np.float32)
    before = stack.copy()

    def once(seed):
        drawn = (
            transform.draw(rng(seed)) if isinstance(transform, MRIContrast) else transform.draw(rng(seed), stack.shape)
        )
        np.testing.assert_array_equal(transform.apply(stack, drawn), transform.apply(stack, drawn))
        return transform.apply(stack, drawn)

    np.testing.assert_array_equal(once(5), once(5))
    assert np.abs(once(5) - once(6)).max() > 0
    assert once(5).shape == stack.shape
    assert once(5).dtype == np.float32
    np.testing.assert_array_equal(stack, before)


# Grey values


def test_a_quiet_contrast_changes_nothing():
    image = rng().normal(size=(16, 18, 3)).astype(np.float32)
    np.testing.assert_allclose(MRIContrast.apply(image, MRIContrast(**QUIET).draw(rng())), image, atol=1e-5)


def test_gain_and_offset_by_hand():
    image = np.array([[[-1.0], [0.0], [3.0]]], np.float32)
    drawn = {**MRIContrast(**QUIET).draw(rng()), "gain": 2.0, "offset": 0.5}
    np.testing.assert_allclose(MRIContrast.apply(image, drawn)[0, :, 0], [-1.5, 0.5, 6.5])
    drawn = {**MRIContrast(**QUIET).draw(rng()), "gamma": 2.0}
    np.testing.assert_allclose(MRIContrast.apply(image, drawn)[0, :, 0], [-1, -0.75, 3])  # a quarter, squared, of 4


def test_the_bias_is_a_plane():
    drawn = {**MRIContrast(**QUIET).draw(rng()), "bias": (0.1, -0.2)}
    changed = MRIContrast.apply(np.ones((3, 5, 2), np.float32) * 2, drawn)
    np.testing.assert_allclose(changed[:, :, 0], 2 * (1 + np.array([[-0.1], [0], [0.1]]) - 0.2 * np.linspace(-1, 1, 5)))
    np.testing.assert_array_equal(changed[..., 1], changed[..., 0])


def test_noise_alone_has_its_standard_deviation_in_every_slice():
    drawn = MRIContrast(**{**QUIET, "noise_sd": 0.4}).draw(rng(1))
    noise = MRIContrast.apply(np.zeros((90, 90, 8), np.float32), drawn)
    assert 0 < drawn["noise_sd"] <= 0.4
    np.testing.assert_allclose(noise.std((0, 1)), drawn["noise_sd"], rtol=0.05)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.05


def test_blur_keeps_slices_apart_and_means():
    image = np.zeros((31, 31, 9), np.float32)
    image[15, 15, 4] = 1.0
    blurred = MRIContrast.apply(image, {**MRIContrast(**QUIET).draw(rng()), "blur_px": 1.2})
    assert blurred.shape == image.shape
    assert blurred[..., 4].sum() == pytest.approx(1.0, abs=1e-4)
    assert blurred[15, 15, 4] < 0.2
    assert np.abs(np.delete(blurred, 4, axis=2)).max() == 0


# Errors


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: MRIContrast(gamma_range=(0, 1)), r"gamma_range with 0 < low <= high\. Received: \(0, 1\)"),
        (lambda: MRIContrast(gain_range=(2, 1)), r"gain_range with 0 < low <= high\. Received: \(2, 1\)"),
        (lambda: MRIContrast(noise_sd=-1), r"MRIContrast needs sizes of 0 or more\. Received: .*'noise_sd': -1"),
        (lambda: ElasticDeformation(0.0), r"positive spacing_px\. Received: 0\.0"),
        (lambda: ElasticDeformation(10.0, 1.1), r"would fold\. Received: sd_px=1\.1, spacing_px=10\.0"),
        (lambda: SliceShifts(-1.0), r"SliceShifts needs an sd_px of 0 or more\. Received: -1\.0"),
        (lambda: ReverseSlices(1.5), r"ReverseSlices needs a probability of 0 to 1\. Received: 1\.5"),
        (lambda: SliceShifts().draw(rng(), (4, 5)), r"the shape \(height, width, slices\)\. Received: \(4, 5\)"),
        (lambda: SliceShifts.apply(np.zeros((4, 5, 2)), np.zeros((3, 2))), "drawn for 3 slices; the stack has 2"),
        (
            lambda: ElasticDeformation.apply(np.zeros((4, 5, 2)), np.zeros((4, 4, 2))),
            r"drawn for a frame of \(4, 4\); the stack has \(4, 5\) rows and columns",
        ),
        (
            lambda: warp_stack(np.zeros((4, 5, 2)), np.eye(2, 3), (4, 5), "mirror"),
            r"'edge' again, or 'zero'\. Received: border='mirror'",
        ),
    ],
)
def test_what_cannot_be_is_refused(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_examples():
    result = doctest.testmod(volumetric)
    assert (result.failed, result.attempted) == (0, 3)
