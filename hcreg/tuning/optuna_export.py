"""Finished trials as an Optuna study, for its dashboard and its plots."""

from collections import defaultdict

ABOUT = ("number", "state", "message", "best_epoch", "seconds", "attempts", "host", "device", "commit", "model_path")


def export(store, study, storage):
    """Copy the finished trials of a study into a new Optuna study of the same name.

    Parameters
    ----------
    store : hcreg.tuning.reader.TrialReader
    study : str
    storage : str or optuna.storages.BaseStorage
        Such as ``sqlite:///trials.db``.

    Returns
    -------
    optuna.Study
        Trials in order of number. Completed ones are ``COMPLETE``, with the objective by epoch as intermediate values;
        diverged and failed ones are ``FAIL``. User attributes hold ``number``, ``state``, ``message``, ``host`` and
        the like, and every final metric.

    Raises
    ------
    ImportError
        If Optuna is not installed.
    ValueError
        If the storage has a study of that name, or the store has none.

    Notes
    -----
    Trials that wait or run are left out: Optuna would take them for its own. An epoch of several executions has the
    mean of their objectives. A range on a reversed logarithmic scale, or with steps on a logarithmic one, becomes a
    plain one, for Optuna has none.
    """
    try:
        import optuna
    except ImportError:
        raise ImportError("The export needs Optuna: pip install optuna") from None
    definition = store.study(study)
    rows = [row for row in store.table(study) if row["finished_at"] is not None]
    curves = _objective_by_epoch(store.history(study), definition["objective"])
    found = _distributions(optuna, definition["space"], rows)
    trials = [_frozen(optuna, row, found, curves[row["number"]]) for row in rows]
    direction = {"min": "minimize", "max": "maximize"}[definition["direction"]]
    try:
        exported = optuna.create_study(study_name=study, storage=storage, direction=direction)
    except optuna.exceptions.DuplicatedStudyError:  # the storage is not named: its address may hold a password
        raise ValueError(
            f"The storage has a study {study!r} already. Name another storage, or delete that study first with "
            f"optuna.delete_study(study_name={study!r}, storage=...)."
        ) from None
    try:
        exported.set_user_attr("objective", definition["objective"])
        exported.add_trials(trials)
    except BaseException:
        optuna.delete_study(study_name=study, storage=exported._storage)  # all of it or none
        raise
    return exported


def _objective_by_epoch(history, objective):
    """For each trial, epoch -> mean of the objective over executions."""
    values = defaultdict(lambda: defaultdict(list))
    for row in history:
        if row.get(objective) is not None:
            values[row["number"]][row["epoch"]].append(row[objective])
    means = defaultdict(dict)
    for number, epochs in values.items():
        for epoch, found in epochs.items():
            means[number][epoch] = sum(found) / len(found)
    return means


def _distributions(optuna, space, rows):
    """Each hyperparameter's distribution; one that the space does not know takes the values it had."""
    known = {entry["config"]["name"]: _distribution(optuna, entry["class_name"], entry["config"]) for entry in space}
    tried = defaultdict(list)
    for row in rows:
        for name, value in _values(row).items():
            if value not in tried[name]:
                tried[name].append(value)
    for name, values in tried.items():
        distribution = known.get(name)
        if distribution is None or not all(_contains(distribution, value) for value in values):
            known[name] = optuna.distributions.CategoricalDistribution(tuple(values))
    return known


def _distribution(optuna, kind, config):
    kinds = optuna.distributions
    if kind == "Choice":
        return kinds.CategoricalDistribution(tuple(config["values"]))
    if kind == "Boolean":
        return kinds.CategoricalDistribution((False, True))
    if kind == "Fixed":
        return kinds.CategoricalDistribution((config["value"],))
    if kind not in ("Float", "Int"):
        return None
    low, high, is_log = config["min_value"], config["max_value"], config.get("sampling") == "log"
    step = config.get("step") if config.get("sampling") in (None, "linear") else None
    if kind == "Float":
        return kinds.FloatDistribution(low, high, log=is_log, step=step)
    step = step or 1
    return kinds.IntDistribution(low, low + (high - low) // step * step, log=is_log, step=step)


def _contains(distribution, value):
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:
        return False


def _frozen(optuna, row, distributions, curve):
    params = _values(row)
    attributes = {name: row[name] for name in ABOUT if row[name] is not None}
    prefix = "metric_"
    attributes |= {name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix)}
    is_complete = row["state"] == "completed"
    return optuna.trial.FrozenTrial(
        number=row["number"],
        trial_id=row["number"],
        state=optuna.trial.TrialState.COMPLETE if is_complete else optuna.trial.TrialState.FAIL,
        value=row["objective"],
        datetime_start=_local(row["started_at"] or row["finished_at"]),
        datetime_complete=_local(row["finished_at"]),
        params=params,
        distributions={name: distributions[name] for name in params},
        user_attrs={name: value for name, value in attributes.items() if value is not None},
        system_attrs={},
        intermediate_values=curve,
    )


def _values(row):
    prefix = "hp_"
    return {name.removeprefix(prefix): row[name] for name in row if name.startswith(prefix) and row[name] is not None}


def _local(moment):
    return moment.astimezone().replace(tzinfo=None)  # Optuna keeps local times without a zone
