"""VGG16 and ResNet50 with one output, explained by iNNvestigate 2.1.2: a process that answers requests.

Run by `experiments.benchmarks.analyzers` under a Python that has TensorFlow, tf_keras
and iNNvestigate: ``python explain_innvestigate.py WEIGHTS.npz IMAGES.npy NUM_THREADS``. It reads one JSON request a
line and answers with one line (`main`). iNNvestigate needs a process without eager execution, so it has one of its own.
"""

import contextlib
import json
import os
import sys
import time
from importlib.metadata import version

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

tf.compat.v1.disable_eager_execution()

import innvestigate  # noqa: E402
import tf_keras  # noqa: E402


def network(weights, input_shape):
    """The network whose weights these are, of `tf_keras.applications`, averaged into one output.

    Parameters
    ----------
    weights : mapping of str ("layer/variable") to ndarray
    input_shape : tuple of int

    Returns
    -------
    tf_keras.Model
    """
    build = tf_keras.applications.VGG16 if "block1_conv1/kernel" in weights else tf_keras.applications.ResNet50
    base = build(weights=None, include_top=False, pooling="avg", input_shape=input_shape)
    output = tf_keras.layers.Dense(1, name="prediction")(base.output)
    model = tf_keras.Model(base.input, output)
    for layer in model.layers:
        names = [weight.name.split("/")[-1].split(":")[0] for weight in layer.weights]
        if names:
            layer.set_weights([weights[f"{layer.name}/{name}"] for name in names])
    return model


def main(arguments):
    """Answer requests until there are no more.

    Parameters
    ----------
    arguments : list of str
        Weights of a Keras network by layer and variable; images (batch, height, width, channels); threads.

    Notes
    -----
    The first line out tells the versions. Then for each request of what to ``do`` with so many ``images``:

    - "predict": outputs;
    - "build": a new analyzer named ``analyzer`` with ``options``, its first call included;
    - "explain": another call of the analyzer that was built last.

    The answer is the seconds of each of ``repeats`` calls, or a text where iNNvestigate fails; with a ``path``, what
    came of the last call is saved there.
    """
    weights_path, images_path, num_threads = arguments
    tf.config.threading.set_intra_op_parallelism_threads(int(num_threads))
    with np.load(weights_path) as stored:
        weights = dict(stored)
    images = np.load(images_path)
    model = network(weights, images.shape[1:])
    versions = {package: version(package) for package in ("innvestigate", "tensorflow", "tf_keras")}
    _answer({**versions, "python": sys.version.split()[0], "threads": int(num_threads)})
    analyzer = None
    for line in sys.stdin:
        request = json.loads(line)
        some = np.resize(images, (request["images"], *images.shape[1:]))
        seconds = []
        try:
            for _ in range(request["repeats"]):
                started = time.perf_counter()
                with contextlib.redirect_stdout(sys.stderr):  # bars of progress are no answers
                    if request["do"] == "predict":
                        found = model.predict(some)
                    else:
                        if request["do"] == "build":
                            options = request.get("options", {})
                            analyzer = innvestigate.create_analyzer(request["analyzer"], model, **options)
                        found = analyzer.analyze(some)
                seconds.append(time.perf_counter() - started)
        except Exception as error:  # its failures are a result like its times
            _answer(f"{type(error).__name__}: {error}"[:200])
            continue
        if "path" in request:
            np.save(request["path"], found)
        _answer(seconds)


def _answer(found):
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
