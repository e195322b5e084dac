"""The main piece of a mask is what a connected-component finder says it is, and nothing of it is lost."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from hcreg import backend
from hcreg.geometry import Ellipse
from hcreg.layers import EllipseMoments, MainPiece

SHAPE = (64, 96)


def kept(mask):
    mask = np.asarray(mask, np.float32)
    return keras.ops.convert_to_numpy(MainPiece()(mask[None, ..., None]))[0, ..., 0]


HEAD = Ellipse(30.0, 34.0, 20.0, 15.0, 0.4)


def test_another_object_nearly_as_large_is_left_out():
    other = Ellipse(76.0, 34.0, 18.0, 13.0, 2.0)
    head = HEAD.coverage(SHAPE)
    found = kept(head + other.coverage(SHAPE))
    np.testing.assert_array_equal(found, head.astype(np.float32))
    measured, alone = (
        float(EllipseMoments()(mask[None].astype(np.float32))["circumference"][0, 0]) for mask in (found, head)
    )
    assert measured == alone


def test_a_soft_edge_and_a_hole_stay():
    soft = ndimage.gaussian_filter(HEAD.coverage(SHAPE).astype(float), 1.5)
    soft[30:38, 26:34] = 0.1
    speck = soft.copy()
    speck[4:7, 88:93] = 0.9
    found = kept(speck)
    near = ndimage.binary_dilation(HEAD.mask(SHAPE), iterations=4)
    np.testing.assert_allclose(found[near], soft[near], atol=1e-7)
    assert found[:10, 80:].max() == 0


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5])
def test_what_is_nowhere_inside_is_left_as_it_is(level):
    np.testing.assert_array_equal(kept(np.full(SHAPE, level)), np.float32(level))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(8, 88), st.floats(8, 56), st.floats(3, 14), st.floats(0.5, 1.0), st.floats(0, 3.1)),
        min_size=1,
        max_size=4,
    )
)
def test_it_is_the_largest_component_of_the_cells(heads):
    mask = np.zeros(SHAPE)
    for x, y, a, ratio, angle in heads:
        mask = np.maximum(mask, Ellipse(x, y, a, a * ratio, angle).mask(SHAPE))
    found = kept(mask)
    cells = mask.reshape(16, 4, 24, 4).max((1, 3)) > 0.5
    labels, _ = ndimage.label(cells, structure=np.ones((3, 3)))
    of_pixel = labels.repeat(4, 0).repeat(4, 1) * (mask > 0)
    whole = [label for label in np.unique(labels) if label and (found > 0)[of_pixel == label].all()]
    assert len(whole) == 1  # one component whole, and of no other a pixel
    assert found.sum() == mask[of_pixel == whole[0]].sum()
    sizes = np.bincount(of_pixel.ravel())[1:]
    assert sizes[whole[0] - 1] == sizes.max()


def test_no_gradient_reaches_what_was_left_out_and_all_of_it_what_was_kept():
    mask = HEAD.coverage(SHAPE).astype(np.float32)
    mask[4:8, 88:92] = 0.9
    gradient = np.asarray(backend.gradient(MainPiece(), mask[None, ..., None]))[0, ..., 0]
    assert gradient[HEAD.mask(SHAPE)].min() == gradient[HEAD.mask(SHAPE)].max() == 1
    assert gradient[4:8, 88:92].max() == 0


def test_it_says_what_it_takes_and_loads_again(tmp_path):
    for shape in ((1, 64, 96), (1, 64, 96, 2), (1, 62, 96, 1)):
        with pytest.raises(ValueError, match=r"sides are multiples of 4\. Received: \("):
            MainPiece()(np.zeros(shape, np.float32))
    image = keras.Input((8, 12, 1))
    model = keras.Model(image, MainPiece(name="piece")(image))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    mask = np.zeros((1, 8, 12, 1), np.float32)
    mask[0, :4, :4], mask[0, 7, 11] = 1, 1
    np.testing.assert_array_equal(again.predict(mask, verbose=0), model.predict(mask, verbose=0))
    assert again.predict(mask, verbose=0).sum() == 16
