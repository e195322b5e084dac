"""What came of a trial: its best epoch, or that it diverged."""

import numpy as np


def outcome_of(results, objective):
    """Metrics of the best epoch, averaged over executions.

    Parameters
    ----------
    results : list
        One an execution: a `keras.callbacks.History`, a dict of lists over epochs, a dict of numbers, or the number
        itself.
    objective : keras_tuner.Objective

    Returns
    -------
    metrics : dict of str to float
    step : int
        Best epoch, from 0; the mean over executions, rounded down.
    divergence : str
        Empty, or in words where the objective was not finite: the trial diverged, though epochs before were better.

    Raises
    ------
    ValueError
        If the objective is not among the metrics.

    Examples
    --------
    >>> import keras_tuner
    >>> objective = keras_tuner.Objective("val_loss", "min")
    >>> outcome_of([{"loss": [3.0, 2.0, 1.0], "val_loss": [3.0, 1.5, 2.0]}], objective)
    ({'loss': 2.0, 'val_loss': 1.5}, 1, '')
    >>> outcome_of([float("nan")], objective)[2]
    'val_loss is nan'
    """
    chosen = [_best_epoch(_as_history(result, objective), objective) for result in results]
    names = {name: None for metrics, _, _ in chosen for name in metrics}
    metrics = {name: float(np.mean([metrics[name] for metrics, _, _ in chosen if name in metrics])) for name in names}
    step = int(np.mean([step for _, step, _ in chosen]))
    return metrics, step, next((divergence for _, _, divergence in chosen if divergence), "")


def _as_history(result, objective):
    result = getattr(result, "history", result)
    if not isinstance(result, dict):
        return {objective.name: [float(result)]}
    return {name: [float(v) for v in np.atleast_1d(values)] for name, values in result.items()}


def _best_epoch(history, objective):
    epochs = [
        {name: values[epoch] for name, values in history.items() if epoch < len(values)}
        for epoch in range(max(map(len, history.values()), default=0))
    ]
    # Where validation is not done in every epoch (validation_freq), only those count that have the objective.
    measured = {n: float(objective.get_value(epoch)) for n, epoch in enumerate(epochs) if objective.has_value(epoch)}
    if not measured:
        raise ValueError(
            f"The objective {objective.name!r} is not among the metrics of training: {', '.join(history) or 'none'}. "
            "Name one of these, or give fit validation data if it begins with val_."
        )
    best = None
    for epoch, value in measured.items():
        if np.isfinite(value) and (best is None or objective.better_than(value, measured[best])):
            best = epoch
    last = max(measured)
    when = f" in epoch {last + 1}" if len(epochs) > 1 else ""
    divergence = "" if np.isfinite(measured[last]) else f"{objective.name} is {measured[last]}{when}"
    best = last if best is None else best
    return {**epochs[best], objective.name: measured[best]}, best, divergence
