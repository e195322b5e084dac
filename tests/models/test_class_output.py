"""What every classifier ends with: names, precision, and errors by their words."""

import keras
import numpy as np
import pytest

from hcreg.models.class_output import class_output

FEATURES = np.array([[1.0, -2.0, 0.5]], "float32")


def built(num_classes, activation):
    features = keras.Input((3,))
    return keras.Model(features, class_output(features, num_classes, activation))


@pytest.mark.parametrize(
    ("num_classes", "activation", "names"),
    [
        (2, "softmax", ["logits", "probabilities"]),
        (1, "sigmoid", ["logits", "probabilities"]),
        (1, None, ["logits"]),
    ],
)
def test_names_and_shape(num_classes, activation, names):
    model = built(num_classes, activation)
    assert [layer.name for layer in model.layers[1:]] == names
    assert model.output_shape == (None, num_classes)


def test_hand_numbers():
    model = built(2, "softmax")
    model.get_layer("logits").set_weights([np.array([[1, 0], [0, 1], [2, 0]], "float32"), np.array([0, 2], "float32")])
    # logits 1 + 2 * 0.5 = 2 and -2 + 2 = 0
    np.testing.assert_allclose(model(FEATURES), [[0.880797, 0.119203]], atol=1e-6)


@pytest.mark.parametrize("activation", ["relu", "linear", "", 0])
def test_an_unknown_activation(activation):
    with pytest.raises(ValueError, match=r'"softmax", "sigmoid" or None, which leaves the logits\. Received: '):
        built(4, activation)


@pytest.mark.parametrize(
    ("num_classes", "activation", "smallest"),
    [(1, "softmax", 2), (0, "sigmoid", 1), (2.0, "softmax", 2), (True, None, 1), ("4", "softmax", 2)],
)
def test_a_number_of_classes_that_is_none(num_classes, activation, smallest):
    with pytest.raises(ValueError, match=rf"at least {smallest} with .*Received: .*num_classes=1 and activation"):
        built(num_classes, activation)
