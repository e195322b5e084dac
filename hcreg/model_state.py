"""The whole state of a model in training, as bytes: its variables, those of its optimiser, and what goes with them."""

import io
import json

import h5py
import keras
import numpy as np

_EXTRA = "extra"


class _MemoryFile(io.BytesIO):
    """A buffer with the name that Keras asks of a weights file."""

    def __str__(self):
        return "memory.weights.h5"


def weights_bytes(model, with_optimizer=True):
    """What a ``.weights.h5`` file of a model holds.

    Parameters
    ----------
    model : keras.Model
    with_optimizer : bool
        Keras keeps the optimiser's variables in such a file, two thirds of it with Adam. Without them it serves to
        predict, not to go on training.

    Returns
    -------
    memoryview
        Made in memory: the HDF5 library ends the process with a segmentation fault when the disk is full.
    """
    buffer = _MemoryFile()
    model.save_weights(buffer)
    if with_optimizer:
        return buffer.getbuffer()
    kept = io.BytesIO()
    with h5py.File(buffer, "r") as source, h5py.File(kept, "w") as target:
        target.attrs.update(source.attrs)
        for name in source:
            if name != "optimizer":
                source.copy(name, target)
    return kept.getbuffer()


def save_state(file, model, extra):
    """Write the state of training.

    Parameters
    ----------
    file : binary file
        Open for writing.
    model : keras.Model
        Compiled.
    extra : JSON-like
        Whatever else a resume needs: epochs done, history.
    """
    arrays = {
        f"variable_{index}": keras.ops.convert_to_numpy(variable) for index, variable in enumerate(_variables_of(model))
    }
    np.savez(file, **{_EXTRA: json.dumps(extra)}, **arrays)


def load_state(file, name):
    """Read what `save_state` wrote.

    Parameters
    ----------
    file : binary file or path-like
    name : str
        What errors call it.

    Returns
    -------
    arrays : list of ndarray
        For `restore`.
    extra : JSON-like

    Raises
    ------
    ValueError
        If it is damaged.
    """
    try:
        with np.load(file) as state:
            extra = json.loads(str(state[_EXTRA]))
            return [state[f"variable_{index}"] for index in range(len(state.files) - 1)], extra
    except Exception as error:
        raise ValueError(f"{name} cannot be read ({error}). Remove it to train this run from its start.") from error


def restore(model, arrays, name):
    """Set the variables of a model and of its optimiser to a saved state.

    Parameters
    ----------
    model : keras.Model
        Compiled.
    arrays : list of ndarray
        Of `load_state`.
    name : str
        What errors call the state.

    Raises
    ------
    ValueError
        If they are of another architecture or optimiser.
    """
    variables = _variables_of(model)
    found = [array.shape for array in arrays]
    expected = [tuple(variable.shape) for variable in variables]
    if found != expected:
        raise ValueError(
            f"{name} does not fit the model {model.name!r}: it holds {len(found)} variables of "
            f"{_count(found):,} numbers, the model and its optimiser have {len(expected)} of "
            f"{_count(expected):,}. It is a run of another model or schedule: choose another folder, or "
            "remove this one."
        )
    for variable, array in zip(variables, arrays):
        variable.assign(array)


def _variables_of(model):
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def _count(shapes):
    return sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes)
