"""The ring around a head, and a regressor of real heads told to look there."""

import math

import keras
import numpy as np
import pytest

from hcreg import losses, models
from hcreg.datasets import HC18
from hcreg.datasets.batches import ImageCache
from hcreg.geometry import Ellipse, resize_matrix
from hcreg.preprocessing.attention import attention_inputs
from hcreg.preprocessing.frames import REFERENCE_SHAPE, input_image, normalise
from hcreg.preprocessing.skull import skull_mask


def test_the_ring_has_its_area_and_leaves_the_middle_out():
    ring = skull_mask(Ellipse(32.0, 30.0, 20.0, 15.0, 0.4), (60, 64), inner=0.8, outer=1.2)
    assert ring.shape == (60, 64, 1)
    assert ring.sum() == pytest.approx(math.pi * 20 * 15 * (1.2**2 - 0.8**2), rel=1e-3)
    assert ring[30, 32, 0] == 0 and ring.max() <= 1 and ring.min() >= 0  # noqa: PT018


def test_a_ring_from_the_middle_is_the_ellipse():
    ellipse = Ellipse(32.0, 30.0, 20.0, 15.0, 0.4)
    assert np.array_equal(skull_mask(ellipse, (60, 64), 0.0, 1.0)[..., 0], ellipse.coverage((60, 64)))


def test_rings_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"0 <= inner < outer. Received: 1.2 and 1.1"):
        skull_mask(Ellipse(32.0, 30.0, 20.0, 15.0, 0.4), (60, 64), 1.2, 1.1)
    with pytest.raises(ValueError, match=r"No part of the ring .* lies within a frame of \(60, 64\) pixels. Bring"):
        skull_mask(Ellipse(400.0, 300.0, 20.0, 15.0, 0.4), (60, 64))


def test_a_regressor_of_real_heads_learns_to_look_at_the_skull(hc18_root):
    shape = (48, 72)
    cache = ImageCache(HC18(hc18_root)[:16], (*shape, 1))
    images = normalise(np.stack([input_image(image, shape) for image in cache.images]), "standardise", 1)
    to_input = resize_matrix(REFERENCE_SHAPE, shape)
    rings = np.stack([skull_mask(ellipse.transformed(to_input), shape) for ellipse in cache.ellipses])
    x, y = attention_inputs(images, rings, cache.hc_px / cache.hc_px.max())
    keras.utils.set_random_seed(0)
    network = models.cnn_263k((*shape, 1))
    taps = [layer.name for layer in network.layers if isinstance(layer, keras.layers.Conv2D)]
    guided = models.with_attention(network, tap=taps[-1])
    loss = losses.Heatmap(data=keras.losses.MeanAbsoluteError(), weight=3.0, ramp_steps=0)
    guided.compile(keras.optimizers.Adam(1e-3), loss=loss, metrics=losses.heatmap_metrics(regression=True))
    before = guided.evaluate(x, y, verbose=0, return_dict=True)
    guided.fit(x, y, batch_size=8, epochs=8, verbose=0, callbacks=[losses.HeatmapMonitor()])
    after = guided.evaluate(x, y, verbose=0, return_dict=True)
    assert after["loss"] < before["loss"]
    assert after["share_outside"] < before["share_outside"]
    assert after["relevance"] > 0
