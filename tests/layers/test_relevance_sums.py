"""Sums of relevance in and outside a mask, worked by hand; masks brought to cells; images with another's outside."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg.attention import CHANNELS, channel
from hcreg.layers import RelevanceSums, SwapOutside
from hcreg.layers.relevance_sums import _area, _bilinear

LOGITS = np.array([[1.0, -2.0]], "float32")
# Two cells by two, one map for each of two classes.
MAPS = np.array([[[[4.0, -1.0], [-2.0, 0.0]], [[1.0, 3.0], [0.0, -5.0]]]], "float32")
LEFT = np.array([[[[1.0], [0.0]], [[1.0], [0.0]]]], "float32")


def sums(inputs, classes=(0, 1), **options):
    outputs = RelevanceSums(classes, **options)(inputs)
    return {name: np.asarray(channel(outputs, name)).tolist() for name in CHANNELS[: outputs.shape[-1]]}


def test_sums_by_hand():
    # Outside is the right column: -2 and 0 of class 0, 0 and -5 of class 1.
    found = sums([LOGITS, MAPS, LEFT])
    assert found["logit"] == LOGITS.tolist()
    assert "swapped_logit" not in found
    assert found["outside"] == [[2.0, 5.0]]
    assert found["total"] == [[7.0, 9.0]]
    assert found["signed_outside"] == [[-2.0, -5.0]]
    assert found["signed_total"] == [[3.0, -3.0]]
    assert found["positive_outside"] == [[0.0, 0.0]]
    assert found["step"] == [[0.0, 0.0]]


def test_positive_relevance_outside_by_hand():
    # Outside is the left column: 4/4 and 1/4 of class 0, 0 and 3/3 of class 1, each over four cells.
    found = sums([LOGITS, MAPS, 1 - LEFT])
    assert found["positive_outside"] == [[0.3125, 0.25]]
    assert found["signed_outside"] == [[5.0, 2.0]]


def test_swapped_logits_pass_through():
    assert sums([LOGITS, MAPS, LEFT, LOGITS + 1])["swapped_logit"] == [[2.0, -1.0]]


def test_each_class_its_own_mask():
    both = np.concatenate([LEFT, 1 - LEFT], axis=-1)
    found = sums([LOGITS, MAPS, both])
    assert found["outside"] == [[2.0, 4.0]]  # right of class 0, left (-1 and 3) of class 1
    assert found["signed_outside"] == [[-2.0, 2.0]]


def test_listed_classes_come_to_their_places_and_others_are_zero():
    logits = np.array([[1.0, 2.0, 3.0, 4.0]], "float32")
    found = sums([logits, MAPS, LEFT], classes=[3, 1])
    assert found["outside"] == [[0.0, 5.0, 0.0, 2.0]]
    assert found["total"] == [[0.0, 9.0, 0.0, 7.0]]
    assert found["logit"] == logits.tolist()


def test_listed_classes_take_their_own_masks():
    logits = np.array([[1.0, 2.0, 3.0, 4.0]], "float32")
    masks = np.concatenate([0 * LEFT, LEFT, 0 * LEFT, 1 - LEFT], axis=-1)
    assert sums([logits, MAPS, masks], classes=[3, 1])["outside"] == [[0.0, 5.0, 0.0, 5.0]]


def test_the_map_of_the_predicted_class_of_each_image():
    logits = np.array([[1.0, 5.0, 0.0], [4.0, 3.0, 2.0]], "float32")
    maps = np.stack([MAPS[0, ..., :1], MAPS[0, ..., 1:]])
    found = sums([logits, maps, np.repeat(LEFT, 2, axis=0)], classes=None)
    assert found["total"] == [[0.0, 7.0, 0.0], [9.0, 0.0, 0.0]]
    assert found["outside"] == [[0.0, 2.0, 0.0], [5.0, 0.0, 0.0]]


def test_a_mask_of_ones_restricts_nothing_and_a_map_of_zeros_sums_to_zero():
    ones = np.ones((1, 7, 5, 1), "float32")  # of a size that is no whole number of cells
    found = sums([LOGITS, MAPS, ones])
    for name in ("outside", "signed_outside", "positive_outside"):
        np.testing.assert_allclose(found[name], 0.0, atol=1e-6)
    found = sums([LOGITS, 0 * MAPS, LEFT])
    assert all(np.all(np.asarray(found[name]) == 0) for name in CHANNELS[1:6])


def test_maps_of_one_and_of_three_dimensions():
    found = sums([LOGITS, MAPS[:, 0], LEFT[:, 0]])
    assert found["outside"] == [[2.0, 0.0]]
    found = sums([LOGITS, np.stack([MAPS, MAPS], axis=1), np.stack([LEFT, 1 - LEFT], axis=1)])
    assert found["outside"] == [[7.0, 9.0]]


def test_a_half_covered_cell_counts_half():
    mask = np.zeros((1, 4, 4, 1), "float32")
    mask[:, :2, :2] = [[[1], [0]], [[1], [0]]]  # half of the first cell, none of the others
    np.testing.assert_allclose(sums([LOGITS, MAPS, mask])["outside"], [[2 + 2 + 1, 9 - 0.5]])


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12))
def test_shares_of_cells_sum_to_one_and_keep_the_area(pixels, cells):
    weights = _area(pixels, cells)
    assert weights.shape == (cells, pixels)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=0), cells / pixels, rtol=1e-5)
    mask = np.random.default_rng(pixels).random(pixels)
    np.testing.assert_allclose((weights @ mask).mean(), mask.mean(), rtol=1e-5)


def test_shares_are_exact_for_whole_ratios():
    np.testing.assert_allclose(_area(6, 2), [[1 / 3] * 3 + [0] * 3, [0] * 3 + [1 / 3] * 3], rtol=1e-7)
    np.testing.assert_array_equal(_area(8, 2), [[0.25] * 4 + [0] * 4, [0] * 4 + [0.25] * 4])
    np.testing.assert_array_equal(_area(3, 3), np.eye(3))
    np.testing.assert_allclose(_area(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6)


@pytest.mark.parametrize(("pixels", "cells"), [((105, 135), (6, 8)), ((7, 5), (7, 5)), ((3, 4), (8, 9))])
def test_interpolation_is_that_of_tensorflow(pixels, cells):
    tf = pytest.importorskip("tensorflow")
    mask = np.random.default_rng(0).random(pixels).astype("float32")
    ours = _bilinear(pixels[0], cells[0]) @ mask @ _bilinear(pixels[1], cells[1]).T
    theirs = tf.image.resize(mask[..., None], cells, "bilinear", antialias=False)
    np.testing.assert_allclose(ours, np.asarray(theirs)[..., 0], atol=1e-5)


def test_the_layer_resizes_as_asked():
    mask = np.zeros((1, 6, 6, 1), "float32")
    mask[:, 1:2] = 1  # the middle row of three, which interpolation takes for all of the cells
    assert sums([LOGITS, MAPS, mask], resize="bilinear")["outside"] == [[1.0, 8.0]]
    np.testing.assert_allclose(sums([LOGITS, MAPS, mask])["outside"], [[5.0, 8 + 2 / 3]], rtol=1e-6)


def test_steps_are_counted_in_training_alone_and_saved(tmp_path):
    def build():
        logits, maps, mask = keras.Input((2,)), keras.Input((2, 2, 2)), keras.Input((2, 2, 1))
        return keras.Model([logits, maps, mask], RelevanceSums([0, 1], name="attention")([logits, maps, mask]))

    model, inputs = build(), [LOGITS, MAPS, LEFT]
    steps = [float(channel(model(inputs, training=training), "step")[0, 1]) for training in (True, False, True, None)]
    assert steps == [0.0, 1.0, 1.0, 2.0]
    model.save_weights(tmp_path / "model.weights.h5")
    model.save(tmp_path / "model.keras")
    other = build()
    other.load_weights(tmp_path / "model.weights.h5")
    for again in (other, keras.saving.load_model(tmp_path / "model.keras")):
        assert float(channel(again(inputs), "step")[0, 0]) == 2.0
        np.testing.assert_array_equal(again(inputs), model(inputs))


def test_masks_of_other_kinds_are_refused():
    with pytest.raises(ValueError, match=r"one channel, or one for each of the 2 classes\. Received: 3\."):
        RelevanceSums([0, 1])([LOGITS, MAPS, np.ones((1, 2, 2, 3), "float32")])
    with pytest.raises(ValueError, match=r"map of shape \(1, 2, 2, 2\) needs a mask of as many.*Received: \(1, 2, 1\)"):
        RelevanceSums([0, 1])([LOGITS, MAPS, LEFT[:, 0]])
    with pytest.raises(ValueError, match=r"of a fixed size.*Received: \(None, None, 4, 1\)\. Build the network for"):
        RelevanceSums([0])([keras.Input((1,)), keras.Input((2, 2, 1)), keras.Input((None, 4, 1))])
    with pytest.raises(ValueError, match=r"'area' or 'bilinear'\. Received: 'nearest'\."):
        RelevanceSums(resize="nearest")


def test_outside_is_exchanged_by_hand():
    images = np.array([1.0, 2.0, 3.0]).repeat(4).reshape(3, 1, 4, 1)
    masks = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0.5, 0]]).reshape(3, 1, 4, 1)
    # The image before the first is the last. Inside either's mask an image keeps its own; the last pixel is in none.
    found = np.asarray(SwapOutside()([images, masks]))[:, 0, :, 0]
    np.testing.assert_allclose(found, [[1, 3, 2, 3], [2, 2, 1, 1], [2, 3, 2.5, 2]])


def test_nothing_is_exchanged_within_masks_of_ones_or_in_a_batch_of_one():
    images = np.random.default_rng(0).normal(size=(3, 4, 4, 2)).astype("float32")
    np.testing.assert_array_equal(SwapOutside()([images, np.ones((3, 4, 4, 1), "float32")]), images)
    np.testing.assert_array_equal(SwapOutside()([images[:1], np.zeros((1, 4, 4, 1), "float32")]), images[:1])


def test_a_mask_of_any_class_keeps_a_pixel():
    images = np.random.default_rng(0).normal(size=(2, 1, 2, 1)).astype("float32")
    masks = np.zeros((2, 1, 2, 3), "float32")
    masks[0, 0, 0, 2] = 1
    found = np.asarray(SwapOutside()([images, masks]))
    np.testing.assert_array_equal(found[:, 0, 0], images[:, 0, 0])
    np.testing.assert_array_equal(found[:, 0, 1], images[::-1, 0, 1])


def test_half_precision_leaves_the_images_as_they_are():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        images = np.random.default_rng(0).normal(size=(3, 4, 4, 1)).astype("float32")
        np.testing.assert_array_equal(SwapOutside()([images, np.ones_like(images)]), images)
        assert SwapOutside()([keras.Input((4, 4, 1)), keras.Input((4, 4, 1))]).dtype == "float32"
    finally:
        keras.config.set_dtype_policy("float32")
