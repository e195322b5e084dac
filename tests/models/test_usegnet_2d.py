"""USegNet in two dimensions: parameters by hand, that it is one with the three-dimensional one, errors."""

import doctest
import importlib

import keras
import numpy as np
import pytest

from hcreg.models import usegnet_2d

PLAIN = {"deep_supervision": False, "skip_attention": (), "upsample_attention": ()}


def test_parameters_of_the_plain_network_by_hand():
    """Blocks of (1, 2, 2) and (2, 4, 4) of 3 x 3, twice (4, 4, 4) of 5 x 5; up 4-4, 8-4 of 5 x 5, 8-2 of 3 x 3; 4-2."""
    model = usegnet_2d(filters=2, **PLAIN)
    convolutions = (9 * 2 + 2, 9 * 4 + 2, 9 * 8 + 4, 9 * 16 + 4, *[25 * 16 + 4] * 4)
    upwards = (25 * 16 + 4, 25 * 32 + 4, 9 * 16 + 2)
    normalisations = 2 * (2 + 2 + 4 * 6 + 4 + 4 + 2)
    trainable = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    assert trainable == sum(convolutions) + sum(upwards) + normalisations + (4 * 2 + 2)
    assert model.output_shape == (None, None, None, 2)
    assert model.name == "usegnet_2d"


def test_it_is_trained_on_slices():
    model = usegnet_2d((16, 8, 1), filters=2, momentum=0.5, seed=0)
    rng = np.random.default_rng(0)
    slices = rng.uniform(size=(3, 16, 8, 1)).astype("float32")
    masks = model(slices)
    assert {name: mask.shape for name, mask in masks.items()} == {
        "mask": (3, 16, 8, 2),
        "mask_half": (3, 8, 4, 2),
        "mask_quarter": (3, 4, 2, 2),
    }
    # with moving statistics a slice's mask is its own
    np.testing.assert_allclose(model(slices[:1])["mask"][0], masks["mask"][0], atol=1e-5)
    loss = dict.fromkeys(masks, keras.losses.CategoricalCrossentropy())
    model.compile(keras.optimizers.SGD(0.05), loss, run_eagerly=True)
    targets = {name: np.eye(2)[(np.asarray(mask)[..., 0] > 0.5).astype(int)] for name, mask in masks.items()}
    found = [float(model.train_on_batch(slices, targets, return_dict=True)["loss"]) for _ in range(3)]
    assert found[-1] < found[0]


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"usegnet_2d halves its input 3 times: .*multiples of 8\. .*\(16, 12, 1\)"):
        usegnet_2d((16, 12, 1))
    with pytest.raises(ValueError, match=r"skip_attention of usegnet_2d names the levels"):
        usegnet_2d(skip_attention=(4,))


def test_examples():
    result = doctest.testmod(importlib.import_module("hcreg.models.usegnet_2d"))
    assert (result.failed, result.attempted) == (0, 1)
