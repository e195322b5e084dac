"""Follow a training from outside, by name: TensorBoard, Weights & Biases, MLflow.

Each is a Keras callback that gets what the history gets, epoch by epoch. A training that goes on in its folder goes on
in the same curve: the identity of its run is kept in ``loggers.json`` there.
"""

import importlib
import os
from pathlib import Path

import keras

from hcreg.files import RUN_FILE, read_json, write_json

NAMES = ("tensorboard", "wandb", "mlflow")
IDENTITIES = "loggers.json"
PROJECT = "hcreg"


def callbacks(names, folder) -> list[keras.callbacks.Callback]:
    """Callbacks that log a training.

    Parameters
    ----------
    names : sequence of {"tensorboard", "wandb", "mlflow"}
        TensorBoard writes into ``folder/tensorboard``. Where the other two write, their own settings say
        (``WANDB_MODE``, ``WANDB_PROJECT``, ``MLFLOW_TRACKING_URI``, ``MLFLOW_EXPERIMENT_NAME``).
    folder : path-like
        Run folder; its last two parts name the run, and the arguments in its ``run.json`` are the run's configuration.

    Returns
    -------
    list of keras.callbacks.Callback

    Raises
    ------
    ValueError
        For an unknown name.
    ImportError
        If a logger's package is not installed, saying how to install it.
    """
    folder = Path(folder)
    return [_MAKERS[name](folder) for name in checked(names)]


def checked(names) -> tuple[str, ...]:
    """The names, once each, or an error for one that is unknown or not installed; before hours of training.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    tuple of str
    """
    names = (names,) if isinstance(names, str) else tuple(dict.fromkeys(names))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"A logger is one of {', '.join(NAMES)}. Received: {', '.join(map(repr, unknown))}.")
    for name in names:
        _package(name)
    return names


def _package(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Logging to {name} needs its package, which is not installed ({error}): "
            f'pip install "hcreg[{name}]", or in a checkout pip install ".[{name}]".'
        ) from error


class _Run(keras.callbacks.Callback):
    """What the loggers with a server share: a run that is opened, fed after each epoch and closed, even by an error."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder
        self.name = "/".join(folder.resolve().parts[-2:])
        self._open = False

    @property
    def arguments(self):
        """What the run was made with, by dotted names: dict."""
        record = read_json(self.folder / RUN_FILE) if (self.folder / RUN_FILE).is_file() else {}
        return dict(_flat(record.get("arguments", {})))

    def on_train_begin(self, logs=None):
        identities = read_json(self.folder / IDENTITIES) if (self.folder / IDENTITIES).is_file() else {}
        identity = self.opened(identities.get(self.key))
        self._open = True
        write_json(self.folder / IDENTITIES, {**identities, self.key: identity})

    def on_epoch_end(self, epoch, logs=None):
        self.log({name: float(value) for name, value in (logs or {}).items()}, epoch + 1)

    def on_train_end(self, logs=None):
        self.close()

    def close(self):
        """Close the run, unless it is closed."""
        if self._open:
            self._open = False
            self.closed()


class _WeightsAndBiases(_Run):
    key = "wandb"

    def opened(self, identity):
        wandb = _package(self.key)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self.name,
            dir=str(self.folder),
            config=self.arguments,
            id=identity,
            resume="allow" if identity else None,
        )
        return self._run.id

    def log(self, values, epoch):
        self._run.log(values, step=epoch)

    def closed(self):
        self._run.finish()


class _MLflow(_Run):
    key = "mlflow"

    def opened(self, identity):
        mlflow = _package(self.key)
        self._run = mlflow.start_run(run_id=identity, run_name=None if identity else self.name, nested=True)
        if identity is None and self.arguments:
            mlflow.log_params(self.arguments)
        return self._run.info.run_id

    def log(self, values, epoch):
        _package(self.key).log_metrics(values, step=epoch)

    def closed(self):
        _package(self.key).end_run()


def _flat(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _tensorboard(folder):
    return keras.callbacks.TensorBoard(str(folder / "tensorboard"))


_MAKERS = {"tensorboard": _tensorboard, "wandb": _WeightsAndBiases, "mlflow": _MLflow}
