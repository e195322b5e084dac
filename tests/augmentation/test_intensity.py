"""Gain, contrast and speckle: the exact table, what leaves an image alone, and what depends on the draw only."""

import numpy as np
import pytest

from hcreg.augmentation import GainGamma, Speckle

ALL_VALUES = np.arange(256, dtype=np.uint8).reshape(16, 16)


def test_gain_and_gamma_by_hand():
    image = np.array([[0, 51, 102, 153, 204, 255]], np.uint8)  # 0, 0.2, ... 1
    # squared 0, 0.04, 0.16, 0.36, 0.64, 1; times 255 x 1.25 = 318.75, to the nearest and at most 255
    assert GainGamma.apply(image, (1.25, 2.0)).tolist() == [[0, 13, 51, 115, 204, 255]]
    # square roots 0, 0.4472, 0.6325, 0.7746, 0.8944, 1; times 255 x 0.8 = 204
    assert GainGamma.apply(image, (0.8, 0.5)).tolist() == [[0, 91, 129, 158, 182, 204]]


@pytest.mark.parametrize("seed", range(20))
def test_gain_and_gamma_keep_the_order_of_grey_values(seed):
    transform = GainGamma()
    result = transform.apply(ALL_VALUES, transform.draw(np.random.default_rng(seed))).ravel().astype(int)
    assert np.all(np.diff(result) >= 0)
    assert result[0] == 0
    assert result[-1] > 200


def test_unit_gain_and_gamma_leave_the_image_alone():
    transform = GainGamma((1.0, 1.0), (1.0, 1.0))
    parameters = transform.draw(np.random.default_rng(0))
    assert parameters == (1.0, 1.0)
    assert np.array_equal(transform.apply(ALL_VALUES, parameters), ALL_VALUES)


def test_gain_and_gamma_are_drawn_log_uniformly():
    transform, rng = GainGamma((0.5, 2.0), (0.25, 4.0)), np.random.default_rng(0)
    gains, gammas = np.array([transform.draw(rng) for _ in range(2000)]).T
    for drawn, low, high in ((gains, 0.5, 2.0), (gammas, 0.25, 4.0)):
        assert low <= drawn.min() < 1.05 * low
        assert high / 1.05 < drawn.max() <= high
        assert 0.45 < np.mean(drawn < 1.0) < 0.55  # 1 is the geometric middle
    assert abs(np.corrcoef(gains, gammas)[0, 1]) < 0.1


def test_no_speckle_leaves_the_image_alone():
    transform = Speckle((0.0, 0.0))
    assert np.array_equal(transform.apply(ALL_VALUES, transform.draw(np.random.default_rng(0))), ALL_VALUES)


def test_speckle_multiplies():
    grey = np.full((200, 200), 100, np.uint8)
    result = Speckle(grain_px=1).apply(grey, (0.1, 7)).astype(float)
    assert result.mean() == pytest.approx(100, abs=0.3)  # 10 / sqrt(40000) is its standard error
    assert result.std() == pytest.approx(10, rel=0.03)
    assert not Speckle().apply(np.zeros((20, 20), np.uint8), (0.5, 7)).any()  # black stays black


@pytest.mark.parametrize("grain", [1, 2, 5])
@pytest.mark.parametrize("shape", [(20, 30), (13, 17)])
def test_a_grain_has_one_factor(grain, shape):
    result = Speckle(grain_px=grain).apply(np.full(shape, 100, np.uint8), (0.2, 3))
    assert result.shape == shape
    rows, columns = np.indices(shape) // grain
    for row, column in np.ndindex(rows[-1, 0] + 1, columns[0, -1] + 1):
        assert len(np.unique(result[(rows == row) & (columns == column)])) == 1
    assert len(np.unique(result)) > 5


def test_strong_speckle_saturates_and_does_not_overflow():
    bright = np.full((100, 100), 240, np.uint8)
    grains = np.random.default_rng(9).standard_normal((100, 100), dtype=np.float32)
    result = Speckle(grain_px=1).apply(bright, (1.0, 9))
    assert np.all(result[grains > 0.1] == 255)
    assert np.all(result[grains < -1.01] == 0)


@pytest.mark.parametrize("transform", [GainGamma(), Speckle(), Speckle(grain_px=3)])
def test_applying_draws_nothing(transform):
    image = np.random.default_rng(0).integers(0, 256, (33, 44), dtype=np.uint8)
    before = image.copy()
    parameters = transform.draw(np.random.default_rng(5))
    assert parameters == transform.draw(np.random.default_rng(5))
    assert parameters != transform.draw(np.random.default_rng(6))
    first = transform.apply(image, parameters)
    assert (first.shape, first.dtype) == (image.shape, np.uint8)
    assert np.array_equal(first, transform.apply(image, parameters))
    assert not np.array_equal(first, transform.apply(image, transform.draw(np.random.default_rng(6))))
    assert np.array_equal(image, before)


@pytest.mark.parametrize("transform", [GainGamma(), Speckle()])
def test_only_eight_bits(transform):
    with pytest.raises(ValueError, match=r"dtype uint8, 0 to 255. Received: float32"):
        transform.apply(np.zeros((4, 4), np.float32), transform.draw(np.random.default_rng(0)))


@pytest.mark.parametrize("limits", [(0.0, 1.0), (1.2, 0.8), (-1.0, 1.0), (float("nan"), 1.0)])
@pytest.mark.parametrize("name", ["gain_range", "gamma_range"])
def test_range_of_gain_or_gamma_that_is_none(name, limits):
    with pytest.raises(ValueError, match=rf"{name} needs 0 < low <= high. Received: \("):
        GainGamma(**{name: limits})


@pytest.mark.parametrize("arguments", [{"sd_range": (-0.1, 0.1)}, {"sd_range": (0.2, 0.1)}, {"grain_px": 0}])
def test_speckle_that_is_none(arguments):
    with pytest.raises(ValueError, match=r"Speckle needs 0 <= low <= high and a grain of 1 px or more"):
        Speckle(**arguments)
