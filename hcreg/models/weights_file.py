"""Load a weights file wholly, or say which file did not fit which network."""

from pathlib import Path

import h5py
import numpy as np


def load(model, path):
    """Load a whole network's weights.

    Parameters
    ----------
    model : keras.Model
    path : path-like
        A ``.weights.h5`` file of the same architecture.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or was written by another architecture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no weights file {path} for the model {model.name!r}. Check its spelling.")
    try:
        num_stored = _num_parameters(path)
        if num_stored > model.count_params():  # Keras would load what fits and leave the rest in silence
            raise ValueError(f"the file holds {num_stored:,} parameters")
        model.load_weights(str(path))
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        raise ValueError(
            f"{path} does not fit the model {model.name!r} of {model.count_params():,} parameters: it is damaged or "
            f"was written by another architecture. Use the run folder's own run.json, or train again. ({error})"
        ) from error


def _num_parameters(path):
    sizes = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and not name.startswith("optimizer/") and "seed_generator" not in name:
            sizes.append(int(np.prod(item.shape, dtype=np.int64)))

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return sum(sizes)
