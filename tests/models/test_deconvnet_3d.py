"""3D-DeconvNet: USegNet's layers without skip connections; errors."""

import doctest
import importlib

import numpy as np
import pytest

from hcreg.models import deconvnet_3d, usegnet


def test_it_has_usegnets_layers_but_for_what_reads_skips():
    def shapes(model):
        return {weight.path: tuple(weight.shape) for weight in model.trainable_weights}

    ours = shapes(deconvnet_3d(filters=2))
    theirs = shapes(usegnet(filters=2, deep_supervision=False, skip_attention=(), upsample_attention=()))
    changed = {path for path in theirs if ours[path] != theirs[path]}
    assert set(ours) == set(theirs)
    assert changed == {"up2_upconv/kernel", "up1_upconv/kernel", "mask_logits/kernel"}
    assert ours["up2_upconv/kernel"] == (5, 5, 5, 4, 4)
    assert ours["up1_upconv/kernel"] == (3, 3, 3, 2, 4)
    assert ours["mask_logits/kernel"] == (1, 1, 1, 2, 2)


def test_only_the_bottom_joins_encoder_and_decoder():
    model = deconvnet_3d((16, 8, 24, 1), filters=2, seed=0)
    volume = np.random.default_rng(0).uniform(size=(1, 16, 8, 24, 1)).astype("float32")
    mask = np.asarray(model(volume))
    assert mask.shape == (1, 16, 8, 24, 2)
    np.testing.assert_allclose(mask.sum(axis=-1), 1.0, rtol=1e-5)
    kernel = model.get_layer("bottom_conv2").kernel
    kernel.assign(0 * kernel)
    np.testing.assert_array_equal(model(volume), model(volume[:, ::-1]))
    assert not any("concat" in layer.name for layer in model.layers)


def test_wrong_arguments():
    with pytest.raises(ValueError, match=r"deconvnet_3d halves its input .*: height a multiple of 8"):
        deconvnet_3d((12, 8, 8, 1))
    with pytest.raises(ValueError, match=r"normalization of deconvnet_3d is one of"):
        deconvnet_3d(normalization=None)


def test_examples():
    result = doctest.testmod(importlib.import_module("hcreg.models.deconvnet_3d"))
    assert (result.failed, result.attempted) == (0, 1)
