"""SideCheck: multiples pass as they are; others are refused eagerly, in a graph of known and of open sides."""

import doctest
import importlib

import keras
import numpy as np
import pytest

from hcreg import backend
from hcreg.layers import SideCheck

WORDS = r"every side is a multiple of 4\. Pad the input, and crop the output back, with hcreg\.preprocessing\.padding"


def zeros(*sides):
    return np.zeros((1, *sides, 1), "float32")


def test_multiples_pass():
    x = np.arange(32.0).reshape(1, 4, 8, 1)
    np.testing.assert_array_equal(SideCheck(4)(x), x)


@pytest.mark.parametrize("sides", [(4, 6), (4, 8, 5), (4, 0)], ids=str)
def test_other_sides_are_refused(sides):
    with pytest.raises(ValueError, match=rf"{WORDS}\. Received: sides of {', '.join(map(str, sides))}\."):
        SideCheck(4)(zeros(*sides))


def test_open_sides_of_a_graph_are_checked_when_it_runs():
    model = keras.Sequential([keras.Input((None, None, 1)), SideCheck(4)])
    for sides in ((4, 4), (8, 4), (4, 8), (12, 12)):  # from the second on, TensorFlow leaves them open
        assert model.predict(zeros(*sides), verbose=0).shape == (1, *sides, 1)
    with pytest.raises(Exception, match=WORDS):
        model.predict(zeros(6, 4), verbose=0)


def test_keras_file_keeps_it(tmp_path):
    keras.Sequential([keras.Input((4, 4, 1)), SideCheck(4)]).save(tmp_path / "model.keras")
    assert keras.models.load_model(tmp_path / "model.keras").layers[0].multiple == 4


def test_required_by_hand():
    assert backend.required("x", [True, True], "words") == "x"
    with pytest.raises(ValueError, match="words"):
        backend.required("x", [True, False], "words")


def test_examples():
    if backend.name() == "tensorflow":
        result = doctest.testmod(importlib.import_module("hcreg.layers.side_check"))
        assert (result.failed, result.attempted) == (0, 1)
