"""The gradient family against Xplique 2, another implementation of it on the same Keras."""

import keras
import numpy as np
import pytest

from hcreg import backend
from hcreg.analyzers import create_analyzer

attributions = pytest.importorskip(
    "xplique.attributions", reason='Xplique 2 is not installed: pip install "hcreg[xplique]"', exc_type=ImportError
)
pytestmark = pytest.mark.skipif(backend.name() != "tensorflow", reason="Xplique is written for TensorFlow")

METHODS = {
    "gradient": (attributions.Saliency, {"postprocess": "abs"}),  # Xplique's is the absolute gradient
    "input_t_gradient": (attributions.GradientInput, {}),
    "guided_backprop": (attributions.GuidedBackprop, {}),
    "deconvnet": (attributions.DeconvNet, {}),
}


@pytest.fixture(scope="module")
def explained(networks):
    """A network by its name, with images, built once."""
    built = {}

    def explain(name):
        if name not in built:
            model = networks.build(name)
            built[name] = model, networks.images(model)
        return built[name]

    return explain


@pytest.mark.parametrize("network", ["vgg", "resnet", "densenet", "cnn_263k"])
@pytest.mark.parametrize("name", METHODS)
def test_agrees_with_xplique(name, network, explained, eager):
    model, images = explained(network)
    method, options = METHODS[name]
    expected = method(model, batch_size=None, reducer=None)(images, np.ones((len(images), 1), "float32"))
    found = create_analyzer(name, model, **options).analyze(images)
    expected = keras.ops.convert_to_numpy(expected)
    assert np.linalg.norm(expected) > 0
    assert np.linalg.norm(found - expected) <= 1e-5 * np.linalg.norm(expected)


def test_xplique_does_tell_the_methods_apart(explained):
    model, images = explained("vgg")
    maps = [
        keras.ops.convert_to_numpy(method(model, reducer=None)(images, np.ones((len(images), 1), "float32")))
        for method, _ in METHODS.values()
    ]
    differences = [np.linalg.norm(a - b) for number, a in enumerate(maps) for b in maps[:number]]
    assert min(differences) > 1e-2
