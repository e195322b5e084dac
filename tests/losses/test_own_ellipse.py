"""A mask's distance from its own ellipse: zero for filled ellipses, no matter what the truth is, and well drawn."""

import keras
import numpy as np
import pytest

from hcreg import backend
from hcreg.geometry import Ellipse
from hcreg.layers import EllipseMoments
from hcreg.losses import OwnEllipse
from hcreg.losses.own_ellipse import filled_ellipse

SHAPE = (64, 96)


def fine(ellipse, factor=16):
    """Shares of pixels inside, by counting a grid of points in each."""
    a, b = np.array([ellipse.semi_axis_a_px, ellipse.semi_axis_b_px]) * factor
    large = Ellipse(
        *((np.array([ellipse.center_x_px, ellipse.center_y_px]) + 0.5) * factor - 0.5), a, b, ellipse.angle_rad
    )
    mask = large.mask((SHAPE[0] * factor, SHAPE[1] * factor)).astype(float)
    return mask.reshape(SHAPE[0], factor, SHAPE[1], factor).mean((1, 3))


def value(mask, truth=None, **arguments):
    mask = np.asarray(mask, np.float32)[None, ..., None]
    truth = np.zeros_like(mask) if truth is None else np.asarray(truth, np.float32)[None, ..., None]
    return float(OwnEllipse(**arguments)(truth, mask))


HEAD = Ellipse(45.3, 30.6, 25.0, 17.0, 0.6)


def test_an_ellipse_is_drawn_as_counted_points_draw_it():
    moments = {
        "center": np.array([[HEAD.center_x_px, HEAD.center_y_px]], np.float32),
        "semi_axes": np.array([[HEAD.semi_axis_a_px, HEAD.semi_axis_b_px]], np.float32),
        "angle": np.array([[HEAD.angle_rad]], np.float32),
    }
    drawn = keras.ops.convert_to_numpy(filled_ellipse(moments, SHAPE))[0, ..., 0]
    # along a diagonal edge the true share is no straight line of the distance: 0.08 at most
    assert np.abs(drawn - fine(HEAD)).max() < 0.12
    assert drawn.sum() == pytest.approx(np.pi * HEAD.semi_axis_a_px * HEAD.semi_axis_b_px, rel=1e-3)


def test_a_drawn_ellipse_is_measured_as_itself_and_costs_nothing():
    found = EllipseMoments()(fine(HEAD)[None].astype(np.float32))
    again = EllipseMoments()(filled_ellipse(found, SHAPE))
    for name in found:
        np.testing.assert_allclose(again[name], found[name], rtol=2e-3)
    hard = keras.ops.convert_to_numpy(filled_ellipse(found, SHAPE))[0, ..., 0]
    hole = Ellipse(HEAD.center_x_px, HEAD.center_y_px, 18.0, 12.0, HEAD.angle_rad).mask(SHAPE)
    assert value(hard) < 0.02  # the entropy of shares along the outline
    assert value(HEAD.mask(SHAPE) & ~hole) > 1


def test_the_truth_is_not_looked_at():
    mask = fine(HEAD) * 0.8 + 0.05
    assert value(mask, truth=np.ones(SHAPE)) == value(mask, truth=np.random.default_rng(0).random(SHAPE))


def test_a_speck_beside_a_trimmed_ellipse_costs_and_does_not_pull():
    mask = fine(HEAD).astype(np.float32)
    speck = mask.copy()
    speck[2:6, 88:92] = 0.9
    assert value(speck, trim=1.25) > value(mask, trim=1.25) + 0.005
    gradient = backend.gradient(lambda p: OwnEllipse(trim=1.25)(p, p), speck[None, ..., None])
    assert np.asarray(gradient)[0, 2:6, 88:92].min() > 0  # descent takes the speck away


def test_it_loads_again_with_its_arguments():
    loss = OwnEllipse(sharpness=2.0, trim=1.25, name="round")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert again.get_config() == loss.get_config()
    with pytest.raises(ValueError, match=r"trim must be from 1\.1 to 4"):
        OwnEllipse(trim=0.5)
