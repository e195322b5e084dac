"""Train a Keras model so that a stop at any moment loses at most the current epoch.

After each epoch `fit` writes the whole state of training (weights, optimiser, random-number states, history) and,
where the validation loss fell, the best weights. Called again on the same folder it goes on from there, and ends
with the same weights to the bit as a run that was never stopped.
"""

import contextlib
import sys
import time
from pathlib import Path

import keras
import numpy as np

from hcreg import model_state, presets
from hcreg.files import remove_leftovers, write_rows, written_whole
from hcreg.loggers import callbacks as logger_callbacks
from hcreg.models import weights_file
from hcreg.progress import progress_bar

BEST_WEIGHTS = presets.WEIGHTS_FILE
STATE = "training_state.npz"
HISTORY = "history.csv"


def fit(
    model,
    training,
    validation,
    folder,
    *,
    loss,
    loss_weights=None,
    learning_rate=1e-3,
    schedule="constant",
    beta_1=0.9,
    epochs=200,
    patience=90,
    target_scale_px=1.0,
    shown=None,
    background=False,
    loggers=(),
    progress=True,
):
    """Train with Adam until the validation loss has not fallen for `patience` epochs, and keep the best weights.

    Parameters
    ----------
    model : keras.Model
        Uncompiled; its outputs are a head circumference over `target_scale_px` ("hc_fraction"), a mask ("mask"), or a
        dict of both.
    training : hcreg.datasets.batches.Batches
        Serves targets of the same names. Or any `keras.utils.PyDataset` of one worker with attributes ``batch_size``,
        ``num_batches`` and ``epoch``; the latter is set before each epoch, from 0.
    validation : tuple of ndarray (images, targets)
    folder : path-like
        Where ``checkpoint.weights.h5`` (best weights), ``history.csv`` and, until training ends,
        ``training_state.npz`` go. If a state is there, training goes on from it.
    loss : keras.losses.Loss, or dict of them by output
        Outputs without a loss are not trained on, and count nothing in ``val_loss``, by which the weights are chosen.
    loss_weights : dict of str to float, optional
        Weights of several losses in their sum, by output; 1 where none is given.
    learning_rate : float
    schedule : {"constant", "cosine"}
        Cosine falls to zero over `epochs`, after a warm-up over the first 5 % of the steps.
    beta_1 : float in [0, 1)
        Of Adam: the share of itself that the moving mean of gradients keeps at each step.
    epochs : int
        At most so many, those before an interruption counted in.
    patience : int
        Stop when so many epochs have gone by since the lowest validation loss.
    target_scale_px : float, reference px
        Turns the mean absolute error of the history into pixels; not looked at where `shown` is given.
    shown : dict of str to (str, float), optional
        What the history shows beside the losses: Keras's name of a metric (``mae``, or ``mask_dice_score`` where there
        are several outputs) to its column and a factor. By default those of a head circumference and of a mask.
    background : bool
        Whether the first class of a mask is the background, which the history's Dice leaves out then.
    loggers : sequence of {"tensorboard", "wandb", "mlflow"}
        Follow training there too, see `hcreg.loggers.callbacks`.
    progress : bool or str
        Show a progress bar; a string names the run in it.

    Returns
    -------
    list of dict
        One row an epoch: epoch (from 1), loss and val_loss; mae_px and val_mae_px of a circumference; dice_score and
        val_dice_score of a mask, thresholded, at the network's size (or what `shown` names); learning_rate, seconds.
        The model holds the best weights.

    Raises
    ------
    FloatingPointError
        If a loss is not finite, naming the epoch and what to do; the best weights so far stay in `folder`.
    ValueError
        If the saved state does not fit the model; if losses or their weights are not those of the model's outputs.
    OSError
        If the disk is full: the state and best weights of the epoch before stay intact.

    Notes
    -----
    One process may train a folder at a time; leftovers of a killed one are removed.

    With targets in [0, 1] and delta >= 1 the Huber loss is exactly half the MSE: equal gradients up to a factor
    that Adam ignores, so the two rows of a table then differ by chance only.
    """
    folder = Path(folder)
    if epochs < 1 or patience < 1:
        raise ValueError(f"Training needs epochs and patience of at least 1. Received: {epochs} and {patience}.")
    rate = _learning_rate(schedule, learning_rate, epochs * training.num_batches)
    weights = _loss_weights(model, loss, loss_weights)
    optimizer = keras.optimizers.Adam(rate, beta_1=beta_1)
    model.compile(optimizer=optimizer, loss=loss, loss_weights=weights, metrics=_metrics(model, background))
    keeper = _Keeper(folder, patience, _shown_of_a_head(target_scale_px) if shown is None else shown, learning_rate)
    keeper.restore(model)
    if not keeper.finished(epochs):
        followers = logger_callbacks(loggers, folder)
        callbacks = [keeper, *followers]
        with contextlib.ExitStack() as stack:
            for follower in followers:
                stack.callback(getattr(follower, "close", lambda: None))
            if progress:
                bar = _EpochProgress(keeper, epochs, training.num_batches, progress)
                stack.callback(bar.close)
                callbacks.append(bar)
            model.fit(
                _Endless(training, first_epoch=len(keeper.history)),
                steps_per_epoch=training.num_batches,
                validation_data=validation,
                validation_batch_size=training.batch_size,
                initial_epoch=len(keeper.history),
                epochs=epochs,
                shuffle=False,  # the data set draws its own order from seed and epoch
                verbose=0,
                callbacks=callbacks,
            )
    load_weights(model, folder / BEST_WEIGHTS)
    return keeper.history


def _shown_of_a_head(target_scale_px):
    """What the history shows of a head; Keras puts the output's name before a metric's where there are two."""
    length, overlap = ("mae_px", target_scale_px), ("dice_score", 1.0)
    return {
        "mae": length,
        "hc_fraction_mae": length,
        "dice_score": overlap,
        "mask_dice_score": overlap,
    }


def outputs_of(model):
    """Names of what a network predicts.

    Parameters
    ----------
    model : keras.Model

    Returns
    -------
    tuple of str
        "mask", "hc_fraction" or both of a network of `hcreg.models`; else the names of its output layers, "output"
        where it has none before it is called (a subclass of `keras.Model`).
    """
    if _has_named_outputs(model):
        return tuple(model.output)
    if isinstance(model, keras.Sequential):
        return (model.layers[-1].name,)
    return tuple(getattr(model, "output_names", None) or ("output",))


def _has_named_outputs(model):
    return isinstance(getattr(model, "output", None), dict)  # a keras.Sequential has no output before it is called


def discard_state(folder):
    """Remove what only a resume needs, once a run is finished.

    Parameters
    ----------
    folder : path-like
    """
    (Path(folder) / STATE).unlink(missing_ok=True)


def load_weights(model, path):
    """Load a weights file, and say which file it was if it does not fit.

    Parameters
    ----------
    model : keras.Model
    path : path-like
        A ``.weights.h5`` file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or was written by another architecture.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path} does not exist: the run was stopped before its first epoch ended, or the file was removed. "
            f"Run it again, without the folder's {STATE} if there is one."
        )
    weights_file.load(model, path)


def _learning_rate(schedule, learning_rate, num_steps):
    if not learning_rate > 0:
        raise ValueError(f"The learning rate must be positive. Received: {learning_rate}.")
    if schedule == "constant":
        return learning_rate
    if schedule == "cosine":
        warmup = max(1, round(0.05 * num_steps))
        return keras.optimizers.schedules.CosineDecay(
            learning_rate / 10, max(1, num_steps - warmup), warmup_target=learning_rate, warmup_steps=warmup
        )
    raise ValueError(f"A schedule is 'constant' or 'cosine'. Received: {schedule!r}.")


def _loss_weights(model, loss, weights):
    """A weight for each loss, as Keras wants; by the name of its output, where Keras may go by its position."""
    outputs = outputs_of(model)
    if _has_named_outputs(model) and not isinstance(loss, dict):
        raise ValueError(
            f"The network has the outputs {', '.join(outputs)}: name the loss of each that is trained on, as in "
            f"loss={{{outputs[0]!r}: ...}}. Received: {loss!r}."
        )
    trained = tuple(loss) if isinstance(loss, dict) else outputs
    weights = weights or {}
    for what, names, known in (("loss", trained, outputs), ("loss weight", tuple(weights), trained)):
        unknown = [name for name in names if name not in known]
        if unknown or (isinstance(loss, dict) and not trained):
            raise ValueError(
                f"Each {what} goes by the name of one of the outputs {', '.join(known or outputs)}. "
                f"Received: {', '.join(unknown) or 'no name'}."
            )
    if not weights:
        return None
    return {name: float(weights.get(name, 1.0)) for name in trained}


def _metrics(model, background):
    def metric_of(name):
        if name == "mask":
            return keras.metrics.MeanMetricWrapper(dice_score, name="dice_score", background=background)
        return keras.metrics.MeanAbsoluteError("mae")

    metrics = {name: [metric_of(name)] for name in outputs_of(model)}
    return metrics if _has_named_outputs(model) else next(iter(metrics.values()))


@keras.saving.register_keras_serializable(package="hcreg")  # or a trained model's .keras file could not be read
def dice_score(y_true, y_pred, background=False):
    """Dice of each image's masks after a threshold at 0.5, for Keras to average over an epoch.

    Parameters
    ----------
    y_true, y_pred : tensor of shape (batch, height, width, [slices,] classes), in [0, 1]
    background : bool
        Whether the first class is the background, which does not count.

    Returns
    -------
    tensor of shape (batch,), in [0, 1]
        One is best; two empty masks agree. The mean over the classes.
    """
    first = 1 if background else 0
    inside, found = (keras.ops.cast(mask[..., first:] > 0.5, "float32") for mask in (y_true, y_pred))
    pixels = tuple(range(1, len(inside.shape) - 1))
    total = keras.ops.sum(inside, pixels) + keras.ops.sum(found, pixels)
    both_empty = keras.ops.cast(total == 0, "float32")
    return keras.ops.mean((2 * keras.ops.sum(inside * found, pixels) + both_empty) / (total + both_empty), -1)


class _Endless(keras.utils.PyDataset):
    """All epochs of a data set in one stream, which the backend need not set up and tear down for each epoch."""

    def __init__(self, training, first_epoch):
        super().__init__()
        self.training, self.first_epoch = training, first_epoch

    @property
    def num_batches(self):
        return None

    def __getitem__(self, index):
        epochs, batch = divmod(index, self.training.num_batches)
        self.training.epoch = self.first_epoch + epochs
        return self.training[batch]


class _Keeper(keras.callbacks.Callback):
    """Writes history, best weights and the state of training after each epoch; stops at the end of patience."""

    def __init__(self, folder, patience, shown, learning_rate):
        super().__init__()
        self.folder, self.patience, self.shown = folder, patience, shown
        self.highest_rate = learning_rate
        self.history = []

    @property
    def best(self):
        """The history row of the lowest validation loss, None before the first epoch."""
        return min(self.history, key=lambda row: row["val_loss"], default=None)

    def finished(self, epochs):
        """Whether there is nothing left to train."""
        if not self.history:
            return False
        return len(self.history) >= epochs or len(self.history) - self.best["epoch"] >= self.patience

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        for name in ("loss", "val_loss"):
            if not np.isfinite(logs[name]):
                kept = f"the weights of epoch {self.best['epoch']} are kept" if self.history else "no weights are kept"
                raise FloatingPointError(
                    f"{name} became {logs[name]} in epoch {epoch + 1} of {self.folder}: training diverged; {kept}. "
                    f"Try a learning rate below {self.highest_rate:.3g}, and run `hcreg check` on the data."
                )
        row = {
            "epoch": epoch + 1,
            "loss": float(logs["loss"]),
            "val_loss": float(logs["val_loss"]),
            **self._shown(logs),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": time.perf_counter() - self.started,
        }
        self.history.append(row)
        if self.best is row:
            with written_whole(self.folder / BEST_WEIGHTS) as partial:
                partial.write_bytes(model_state.weights_bytes(self.model))
        self._write_state()
        write_rows(self.folder / HISTORY, self.history)
        if len(self.history) - self.best["epoch"] >= self.patience:
            self.model.stop_training = True

    def _shown(self, logs):
        """The metrics by the names of the history."""
        return {
            f"{prefix}{column}": float(logs[f"{prefix}{name}"]) * factor
            for prefix in ("", "val_")
            for name, (column, factor) in self.shown.items()
            if f"{prefix}{name}" in logs
        }

    def _write_state(self):
        with written_whole(self.folder / STATE) as partial, open(partial, "wb") as file:
            model_state.save_state(file, self.model, self.history)

    def restore(self, model):
        """Set the model to the saved state, if there is one."""
        for name in (BEST_WEIGHTS, STATE, HISTORY):
            remove_leftovers(self.folder / name)
        path = self.folder / STATE
        if not path.is_file():
            return
        arrays, history = model_state.load_state(path, path)
        model_state.restore(model, arrays, path)
        self.history = history
        write_rows(self.folder / HISTORY, history)  # a kill after the state was written left it an epoch behind


class _EpochProgress(keras.callbacks.Callback):
    """Shows epochs and batches as they pass, with the best validation error so far."""

    def __init__(self, keeper, epochs, num_batches, title):
        super().__init__()
        self.keeper, self.epochs, self.num_batches = keeper, epochs, num_batches
        self.title = title if isinstance(title, str) else "training"
        self.bar = progress_bar()

    def on_train_begin(self, logs=None):
        done = len(self.keeper.history)
        if done:
            print(f"{self.title}: going on after epoch {done}", file=sys.stderr)
        total = self.epochs * self.num_batches
        self.task = self.bar.add_task(self.title, total=total, completed=done * self.num_batches)
        self.bar.start()

    def on_train_batch_end(self, batch, logs=None):
        self.bar.advance(self.task)

    def on_epoch_end(self, epoch, logs=None):
        last, best = self.keeper.history[-1], self.keeper.best
        text = (
            f"{self.title}: epoch {last['epoch']}/{self.epochs}, validation {_in_words(last)} "
            f"(best loss in epoch {best['epoch']}: {_in_words(best)})"
        )
        self.bar.update(self.task, description=text)
        if self.bar.disable and last["epoch"] % max(1, self.epochs // 10) == 0:
            print(text, file=sys.stderr, flush=True)

    def close(self):
        """Give the terminal back; called when training was interrupted too."""
        self.bar.stop()


def _in_words(row):
    parts = []
    if "val_mae_px" in row:
        parts.append(f"error {row['val_mae_px']:.1f} px")
    if "val_dice_score" in row:
        parts.append(f"Dice {row['val_dice_score']:.4f}")
    return ", ".join(parts) or f"loss {row['val_loss']:.4g}"
