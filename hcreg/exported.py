"""Networks outside Keras: an ONNX file, and beside it what measuring with it needs.

``head.onnx`` holds the network, ``head.onnx.json`` the input's size and normalisation, the scale of its outputs, and
the scores that calibrate intervals.
"""

import importlib
from pathlib import Path

import keras
import numpy as np

from hcreg.files import read_json, write_json, written_whole
from hcreg.provenance import package_versions

ENDING = ".onnx"
DESCRIPTION = (
    "format_version",
    "name",
    "input_shape",
    "normalisation",
    "target_scale_px",
    "segments",
    "scores_px",
    "synthetic",
)
FORMAT_VERSION = 1


def write(model, path, **described):
    """Write a network as ONNX, with its description.

    Parameters
    ----------
    model : keras.Model
        Of one input and the outputs "mask", "hc_fraction" or both.
    path : path-like
        Ending in ``.onnx``.
    **described
        What `DESCRIPTION` names but the first: see `hcreg.measurement.TrainedRegressor`.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        If `path` ends otherwise, or the network cannot be written.
    ImportError
        If the packages for it are missing.
    """
    path = checked_path(path)
    _package("onnx")
    _package("tf2onnx")
    path.parent.mkdir(parents=True, exist_ok=True)
    # named, since a model of the functional API that was never called cannot be exported without
    signature = [keras.InputSpec(shape=(None, *model.input_shape[1:]), dtype="float32", name="image")]
    with written_whole(path, suffix=ENDING) as partial:
        try:
            model.export(str(partial), format="onnx", verbose=False, input_signature=signature)
        except (TypeError, NotImplementedError, RuntimeError) as error:
            raise ValueError(
                f"{path} was not written: the network has a part that ONNX cannot express. ({error})"
            ) from error
    record = {"format_version": FORMAT_VERSION, **described, "versions": package_versions(("onnx", "tf2onnx"))}
    write_json(description_path(path), record)
    return path


def checked_path(path):
    """The path, if it is that of an ONNX file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    pathlib.Path
    """
    path = Path(path)
    if path.suffix != ENDING:
        raise ValueError(f"An exported network is a file ending in {ENDING}. Received: {path}.")
    return path


def description_path(path):
    """Where the description of an exported network lies: beside it, ``head.onnx.json``."""
    return Path(f"{path}.json")


def read_description(path):
    """What measuring with an exported network needs.

    Parameters
    ----------
    path : path-like
        The ``.onnx`` file.

    Returns
    -------
    dict

    Raises
    ------
    FileNotFoundError
        If the network or its description is not there.
    ValueError
        If the description is damaged, or of a later version of hcreg.
    """
    path, described = Path(path), description_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}. `hcreg export RUN --output {path.name}` writes one.")
    if not described.is_file():
        raise FileNotFoundError(
            f"{path} lacks its description {described.name}, which says how an image is brought to it. Copy both, or "
            "export the run again."
        )
    record = read_json(described)
    missing = [name for name in DESCRIPTION if name not in record]
    if missing:
        raise ValueError(f"{described} is damaged: it lacks {', '.join(missing)}. Export the run again.")
    if record["format_version"] > FORMAT_VERSION:
        raise ValueError(
            f"{described} has the format {record['format_version']}, this version of hcreg reads up to "
            f"{FORMAT_VERSION}. Install a newer hcreg."
        )
    return record


class Session:
    """An ONNX network, ready to run on the processor.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    ValueError
        If the file is damaged.
    ImportError
        If onnxruntime is missing.
    """

    def __init__(self, path):
        runtime = _package("onnxruntime")
        try:
            self._session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors have no common class but this
            raise ValueError(f"{path} is no network that onnxruntime reads. Export the run again. ({error})") from error
        self._input = self._session.get_inputs()[0].name

    def outputs(self, images):
        """Run a batch.

        Parameters
        ----------
        images : ndarray of float32, shape (batch, height, width, channels)

        Returns
        -------
        dict of ndarray
            "mask" (batch, height, width, 1), "hc_fraction" (batch, 1), or both.
        """
        found = self._session.run(None, {self._input: np.ascontiguousarray(images, np.float32)})
        return {"mask" if array.ndim == 4 else "hc_fraction": array for array in found}


def _package(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f'ONNX needs the package {name}, which is not installed ({error}): pip install "hcreg[onnx]", or in a '
            'checkout pip install ".[onnx]".'
        ) from error
