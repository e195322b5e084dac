"""What a graph knows of shapes and values, and what the losses do where it does not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from hcreg.losses import Dice, RelativeError
from hcreg.losses.inputs import as_float32, concrete_range, known_shape

Y_TRUE = np.array([1.0, 1.0, 0.0, 0.0], "float32").reshape(1, 2, 2, 1)
Y_PRED = np.array([1.0, 0.0, 0.0, 0.0], "float32").reshape(1, 2, 2, 1)


def traced(function, *specs):
    return tf.function(function, input_signature=[tf.TensorSpec(shape) for shape in specs])


def test_only_half_precision_is_cast():
    for dtype, expected in {"float16": "float32", "bfloat16": "float32", "float32": "float32"}.items():
        assert as_float32(keras.ops.ones((2,), dtype)).dtype == expected
    assert as_float32(tf.ones((2,), "float64")).dtype == "float64"


def test_range_of_numbers_and_of_a_graph():
    seen = []

    def look(x):
        seen.append(concrete_range(x))
        return x

    assert concrete_range(tf.constant([3.0, -1.0])) == (-1.0, 3.0)
    tf.function(look)(tf.constant([1.0]))  # with AutoGraph, which gives float() another meaning
    tf.function(look, autograph=False)(tf.constant([1.0]))
    assert seen == [None, None]


def test_known_shape_of_a_graph():
    seen = []
    for shape in (None, (None, 2)):
        traced(lambda x: seen.append(known_shape(x)) or x, shape).get_concrete_function()
    assert seen[:1] + seen[-1:] == [None, (None, 2)]


@pytest.mark.parametrize("shape", [None, (None, None, None, None), (None, 2, 2, 1)])
def test_a_truth_of_unknown_shape_is_taken_as_the_predictions(shape):
    loss = traced(lambda g, p: Dice()(g, p), shape, (None, None, None, 1))
    assert float(loss(Y_TRUE, Y_PRED)) == pytest.approx(1 / 3)
    length = traced(lambda g, p: RelativeError()(g, p), None if shape is None else (None, None), (None, 1))
    assert float(length([[2.0], [4.0]], [[1.0], [4.0]])) == pytest.approx(0.25)


def test_a_three_channel_mask_of_unknown_shape_stops_the_run_instead_of_being_broadcast():
    loss = traced(lambda g, p: Dice()(g, p), (None, None, None, None), (None, None, None, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="reshape"):
        loss(np.repeat(Y_TRUE, 3, -1), Y_PRED)
