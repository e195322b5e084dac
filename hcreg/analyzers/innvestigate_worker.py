"""The process that iNNvestigate lives in: run as a script by `hcreg.analyzers.innvestigate`, imported by nothing.

iNNvestigate needs the Keras of TensorFlow 2.15 and a process without eager execution, so it cannot share one with
Keras 3. Requests are read from the socket whose number is the first argument, as tuples (action, *arguments); each gets
one answer, ("done", value) or ("failed", description). The process ends when the other side of the socket is closed,
whatever it is computing then.
"""

import importlib.util
import os
import pickle
import queue
import sys
import threading
import traceback
import warnings
from contextlib import contextmanager
from importlib import metadata
from multiprocessing.connection import Connection
from pathlib import Path

PACKAGES = ("tensorflow", "tf_keras", "innvestigate")


class TranslatedModel:
    """A model rebuilt of the older Keras's layers in a graph and a session of its own, and at most one analyzer of it.

    Parameters
    ----------
    architecture : dict
        As `hcreg.analyzers.innvestigate_architecture.describe` gives it.
    weights : list of list of ndarray
        Of each layer.
    dtype : {"float32", "float64"}
    inference_only : bool
        Whether BatchNormalization and Dropout are plain inference. Else each is two branches, chosen at every call,
        as Keras makes them where nothing is said.

    Notes
    -----
    iNNvestigate writes into the layers of the model it explains. A graph for each analyzer keeps them from each other.
    """

    def __init__(self, architecture, weights, dtype, inference_only):
        import tensorflow as tf

        self._dtype = dtype
        self._tf = tf
        self._graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=self._graph)
        self._analyzer = None
        with self._entered():
            if inference_only:
                tf.keras.backend.set_learning_phase(0)
            self._model = _build(tf.keras, architecture, weights)

    @contextmanager
    def _entered(self):
        self._tf.keras.backend.set_floatx(self._dtype)
        with self._graph.as_default(), self._session.as_default():
            yield

    def predict(self, images):
        with self._entered():
            return self._model.predict_on_batch(images)

    def create_analyzer(self, name, options, neuron=None, noise=None):
        """Let iNNvestigate build its graph, which takes it seconds to minutes."""
        import innvestigate

        if neuron is not None:
            options = {**options, "neuron_selection_mode": "index"}
        with self._entered(), _given_noise(self._tf, noise):
            self._analyzer = innvestigate.create_analyzer(name, self._model, **options)
            self._analyzer.create_analyzer_model()
        self._arguments = {} if neuron is None else {"neuron_selection": neuron}

    def explain(self, images):
        with self._entered():
            return self._analyzer.analyze(images, **self._arguments)

    def close(self):
        self._session.close()


def _build(keras, architecture, weights):
    """The model, layer by layer; tensors go by the numbers of `hcreg.graph`."""
    start = keras.Input(architecture["input_shape"], name="image")
    tensors, layers = {architecture["input"]: start}, []
    for described in architecture["layers"]:
        with _named(described):
            layers.append(getattr(keras.layers, described["class"])(**described["config"], name=described["name"]))
    for number, inputs, output in architecture["calls"]:
        with _named(architecture["layers"][number]):
            read = [tensors[tensor] for tensor in inputs]
            tensors[output] = layers[number](read if architecture["layers"][number]["merges"] else read[0])
    for described, layer, arrays in zip(architecture["layers"], layers, weights, strict=True):
        with _named(described):
            layer.set_weights(arrays)
    end = tensors[architecture["output"]]
    if len(end.shape) > 2:  # iNNvestigate would flatten it too, but cannot select a neuron by its number then
        end = keras.layers.Flatten(name="all_elements")(end)
    return keras.Model(start, end)


@contextmanager
def _named(described):
    """Add to whatever is raised which layer it is about."""
    try:
        yield
    except Exception as error:
        error.hcreg_layer = f"{described['name'].removeprefix('model.')!r} ({described['class']})"
        raise


@contextmanager
def _given_noise(tf, noise):
    """In place of the random numbers that smoothgrad adds, given ones: (num_samples, *spatial, channels)."""
    if noise is None:
        yield
        return
    import innvestigate.layers as layers

    class AddGivenNoise(tf.keras.layers.Layer):
        def call(self, inputs):  # (num_images, num_samples, *spatial, channels)
            return inputs + tf.constant(noise[None], inputs.dtype)

    random_noise, layers.AddGaussianNoise = layers.AddGaussianNoise, AddGivenNoise
    try:
        yield
    finally:
        layers.AddGaussianNoise = random_noise


def _import_packages():
    """Versions of what is installed.

    Raises
    ------
    ImportError
        Naming all that is missing, before the others are imported.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"no package {', '.join(missing)}")
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the other process has most of the memory
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    tf.config.experimental.enable_tensor_float_32_execution(False)
    import innvestigate  # noqa: F401

    return {name: metadata.version(name.replace("_", "-")) for name in PACKAGES}


def _answer(models, action, *arguments):
    if action == "names":
        import innvestigate.analyzer

        return sorted(innvestigate.analyzer.analyzers)
    if action == "translate":
        number, *description = arguments
        models[number] = TranslatedModel(*description)
        return None
    if action == "forget":
        if arguments[0] in models:
            models.pop(arguments[0]).close()
        return None
    number, *rest = arguments
    return getattr(models[number], action)(*rest)


def _failure(error, caught):
    """What the other side can report: iNNvestigate often raises an empty error after a warning that has the reason."""
    text = str(error)
    if not text:
        text = "; ".join(str(warning.message) for warning in caught if "innvestigate" in warning.filename)
    return {
        "layer": getattr(error, "hcreg_layer", None),
        "text": f"{type(error).__name__}: {text or 'no message'}",
        "traceback": traceback.format_exc(),
    }


def _read(connection, requests):
    """Receive while the main thread computes, so that a closed socket ends the process at once."""
    try:
        while True:
            requests.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def main():
    """Answer requests until the other end closes."""
    connection, requests, models = Connection(int(sys.argv[1])), queue.Queue(), {}
    threading.Thread(target=_read, args=(connection, requests), daemon=True).start()
    # Beside this script lies a module named like the package that is to be imported.
    here = Path(__file__).resolve().parent
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != here]
    try:
        connection.send(("done", _import_packages()))
    except Exception as error:  # whatever prevents the import: a package's own failure too
        connection.send(("failed", {"text": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}))
        return
    while True:
        request = requests.get()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                answer = ("done", _answer(models, *pickle.loads(request)))
            except Exception as error:
                answer = ("failed", _failure(error, caught))
        del request
        connection.send(answer)


if __name__ == "__main__":
    main()
