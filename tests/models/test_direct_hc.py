"""The direct network measures what its mask shows, and an ensemble is the mean of its members' logits."""

import keras
import numpy as np
import pytest

from hcreg import models
from hcreg.geometry import Ellipse

SMALL = {"input_shape": (32, 48, 1), "filters": (2, 4)}


def outputs_of(model, images):
    outputs = model(images)
    if not isinstance(outputs, dict):
        return keras.ops.convert_to_numpy(outputs)
    return {name: keras.ops.convert_to_numpy(values) for name, values in outputs.items()}


def logits_of(model, images):
    return outputs_of(keras.Model(model.inputs, model.get_layer("mask_logits").output), images)


@pytest.fixture
def images(rng):
    return rng.normal(size=(2, 32, 48, 1)).astype(np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_it_has_the_parameters_that_its_docstring_says():
    assert models.direct_hc().count_params() == 454_225


@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_mask_and_circumference_have_the_images_size(stem_stride, images):
    model = models.direct_hc(**SMALL, stem_stride=stem_stride, seed=0)
    outputs = outputs_of(model, images)
    assert outputs["mask"].shape == (2, 32, 48, 1)
    assert outputs["hc_fraction"].shape == (2, 1)
    first = next(layer for layer in model.layers if layer.name == "level1_1_conv")
    assert first.input.shape[1:3] == (32 // stem_stride, 48 // stem_stride)


def test_the_circumference_is_that_of_the_mask():
    model = models.direct_hc((64, 96, 1), seed=0)
    head = Ellipse(48.0, 30.0, 25.0, 18.0, 0.4)
    mask = head.mask((64, 96))[None, ..., None].astype(np.float32)
    measured = keras.Model(model.get_layer("mask").output, model.get_layer("hc_fraction").output)
    # the frame of 800 x 540 squeezes the rows a little
    expected = Ellipse(48.0, 30.0, 25.0, 18.0, 0.4).transformed([[1, 0, 0], [0, 540 / 800 * 96 / 64, 0]])
    assert outputs_of(measured, mask).item() * 96 == pytest.approx(expected.circumference_px, rel=2e-3)


def test_a_speck_far_off_is_left_out_of_a_trimmed_circumference():
    mask = Ellipse(60.0, 30.0, 20.0, 15.0, 0.4).mask((64, 128))[None, ..., None].astype(np.float32)
    with_speck = mask.copy()
    with_speck[:, 50:56, 110:116] = 1
    lengthened = {}
    for trim in (None, 1.25):
        model = models.direct_hc((64, 128, 1), (2, 4), trim=trim, seed=0)
        measured = keras.Model(model.get_layer("mask").output, model.get_layer("hc_fraction").output)
        lengthened[trim] = outputs_of(measured, with_speck).item() / outputs_of(measured, mask).item() - 1
    assert lengthened[None] > 0.1
    assert abs(lengthened[1.25]) < 1e-3


def test_another_object_is_left_out_of_the_main_pieces_circumference():
    head = Ellipse(40.0, 30.0, 20.0, 15.0, 0.4).mask((64, 128))
    both = head | Ellipse(100.0, 30.0, 17.0, 15.0, 0.4).mask((64, 128))  # too large for a window about both
    lengthened = {}
    for main_piece in (False, True):
        model = models.direct_hc((64, 128, 1), (2, 4), trim=1.25, main_piece=main_piece, seed=0)
        measured = keras.Model(model.get_layer("mask").output, model.get_layer("hc_fraction").output)
        found = [outputs_of(measured, mask[None, ..., None].astype(np.float32)).item() for mask in (head, both)]
        lengthened[main_piece] = found[1] / found[0] - 1
        assert lengthened[main_piece] > 0.5 or lengthened[main_piece] == 0
    assert lengthened[False] > lengthened[True]
    ensemble = models.direct_hc_ensemble([models.direct_hc(**SMALL, main_piece=True, seed=seed) for seed in (0, 1)])
    assert "main_piece" in {layer.name for layer in ensemble.layers}


def test_with_a_mask_head_it_gives_the_same_mask_alone(images):
    both, mask = (models.direct_hc(**SMALL, head=head, seed=3) for head in ("ellipse", "mask"))
    np.testing.assert_array_equal(outputs_of(mask, images), outputs_of(both, images)["mask"])


def test_a_seed_fixes_the_weights_and_a_file_restores_them(tmp_path, images):
    first, second, other = (models.direct_hc(**SMALL, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(logits_of(first, images), logits_of(second, images))
    assert np.abs(logits_of(first, images) - logits_of(other, images)).max() > 1e-3
    first.save_weights(tmp_path / "a.weights.h5")
    loaded = models.direct_hc(**SMALL, weights=tmp_path / "a.weights.h5", seed=2)
    np.testing.assert_array_equal(logits_of(first, images), logits_of(loaded, images))


@pytest.mark.parametrize("head", ["ellipse", "mask"])
@pytest.mark.parametrize("stem_stride", [1, 2, 4])
def test_an_ensemble_is_the_mean_of_its_members_logits(images, head, stem_stride):
    members = [models.direct_hc(**SMALL, stem_stride=stem_stride, head=head, trim=1.5, seed=seed) for seed in range(3)]
    ensemble = models.direct_hc_ensemble(members)
    mean = np.mean([logits_of(member, images) for member in members], axis=0)
    np.testing.assert_allclose(logits_of(ensemble, images), mean, rtol=1e-5, atol=1e-6)
    assert ensemble.count_params() == 3 * members[0].count_params()
    assert isinstance(ensemble.output, dict) == (head == "ellipse")
    assert head == "mask" or ensemble.get_layer("ellipse").trim == 1.5


def test_what_cannot_be_built_is_said(tmp_path):
    for arguments, words in (
        ({"filters": (4,)}, "two levels or more"),
        ({"stem_stride": 3}, "stem_stride is 1, 2 or 4. Received: 3"),
        ({"num_members": 0}, "one member or more"),
        ({"input_shape": (30, 48, 1)}, "multiples of 4"),
        ({"head": "length"}, 'head="mask" or head="ellipse"'),
    ):
        with pytest.raises(ValueError, match=words):
            models.direct_hc(**{**SMALL, **arguments})
    with pytest.raises(FileNotFoundError, match="no weights file"):
        models.direct_hc(**SMALL, weights=tmp_path / "none.weights.h5")


def test_an_ensemble_refuses_what_is_none():
    one, wider = models.direct_hc(**SMALL, seed=0), models.direct_hc((32, 48, 1), (4, 8), seed=0)
    with pytest.raises(ValueError, match=r"two members or more\. Received: 1"):
        models.direct_hc_ensemble([one])
    with pytest.raises(ValueError, match="with the same arguments; these are not"):
        models.direct_hc_ensemble([one, wider])
    with pytest.raises(ValueError, match="with the same arguments; these are not"):
        models.direct_hc_ensemble([one, models.direct_hc((64, 48, 1), (2, 4), seed=0)])
    with pytest.raises(ValueError, match="with the same arguments; these are not"):
        models.direct_hc_ensemble([one, models.direct_hc(**SMALL, trim=2.0, seed=0)])
