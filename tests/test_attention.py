"""Which channel of the prediction is what: one list, read by name."""

import doctest

import numpy as np
import pytest

import hcreg.attention as module
from hcreg.attention import CHANNELS, channel


def test_each_channel_is_read_by_its_name():
    predictions = np.random.default_rng(0).normal(size=(2, 3, 8))
    for number, name in enumerate(CHANNELS):
        np.testing.assert_array_equal(channel(predictions, name), predictions[:, :, number])
    assert len(set(CHANNELS)) == len(CHANNELS) == 8


@pytest.mark.parametrize("shape", [(2, 4), (2, 3, 6), (2, 3, 4, 8)])
def test_the_output_of_the_plain_network_is_refused(shape):
    with pytest.raises(
        ValueError,
        match=r"shape \(batch, classes, 7\), or 8 with swapping\. Received: shape .*Train ",
    ):
        channel(np.zeros(shape), "logit")


def test_an_unknown_channel_is_refused():
    with pytest.raises(ValueError, match=r"one of logit, outside, total, .*, swapped_logit\. Received: 'heat'\."):
        channel(np.zeros((1, 1, 8)), "heat")


def test_examples():
    assert doctest.testmod(module) == (0, 3)
