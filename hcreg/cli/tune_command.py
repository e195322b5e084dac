"""What ``hcreg tune`` does: take part in a learning-rate search, and say what it has found so far."""

import contextlib
import logging
import shlex
import signal
import sys
import threading
from collections import Counter

from hcreg.cli.database_option import database_of, holds_password
from hcreg.cli.printed import number
from hcreg.cli.search_script import check_model, check_script, load_script
from hcreg.cli.turns import only_one

_OF_THE_REGRESSOR = ("model", "data", "num_examinations", "augmentation")
_FINISHED = ("completed", "diverged", "failed")


def tune(options):
    """Take part in the search that the options describe, until it is at its end.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command's parser, see `hcreg.cli.parser`.

    Returns
    -------
    int
        0; 1 where no trial completed; 130 after Ctrl-C, SIGTERM or the end of the terminal.

    Raises
    ------
    ValueError
        If the options do not go together, the script is not one, or the study is another search.
    OSError
        If the database cannot be reached, or a file not be read or written.
    """
    _check_options(options)
    with _signals_as_ctrl_c():
        try:
            return _search(options)
        except KeyboardInterrupt:  # which trial was released has been said
            print("\nStopped. The same command goes on.", file=sys.stderr)
            return 130


def _check_options(options):
    if options.low >= options.high:
        raise ValueError(f"--low must be below --high. Received: {options.low:g} and {options.high:g}.")
    if options.output.exists() and not options.output.is_dir():
        raise ValueError(f"--output takes a folder. Received a file: {options.output}.")
    if options.script is not None:
        given = [name for name in _OF_THE_REGRESSOR if getattr(options, name) is not None]
        if given:
            named = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise ValueError(f"{named} belong(s) to the head-circumference regressor; --script brings its own.")
        check_script(options.script)
    elif options.data is not None and options.num_examinations is not None:
        raise ValueError("--num-examinations is the size of the synthetic cohort; --data names a real one.")
    options.model = options.model or "cnn_1m"
    options.augmentation = options.augmentation or "default"


def _search(options):
    # each trial builds a model anew, and TensorFlow warns that functions are traced again
    logging.getLogger("tensorflow").addFilter(_is_not_of_retracing)
    database = _database_of(options)
    from hcreg.tuning.search import learning_rate_search

    if options.script is not None:
        target = load_script(options.script)
        check_model(options.script, target.build_model, options.low)
    else:
        from hcreg.cli.search_regressor import head_target

        target = head_target(options)
    objective = options.objective or target.objective
    _say(
        f"Study {options.study}: at most {options.max_trials} trials of {options.epochs} epochs, learning rates from "
        f"{options.low:g} to {options.high:g}, judged by {objective}. Others who give this command work on it too."
    )
    try:
        result = learning_rate_search(
            target.build_model,
            target.train,
            target.validation,
            options.low,
            options.high,
            options.max_trials,
            options.epochs,
            options.study,
            database,
            folder=options.output,
            checkpoints=options.output / "trials" if options.shared else None,
            objective=objective,
            direction=options.direction or (target.direction if objective == target.objective else None),
            algorithm=options.algorithm,
            seed=options.seed,
            batch_size=options.batch_size or target.batch_size,
            patience=options.patience,
            measures=target.measures,
            callbacks=target.callbacks,
            definition={name: target.attributes[name] for name in target.deciding},
            attributes=target.attributes,
            accept_code_change=options.accept_code_change,
        )
    except RuntimeError as error:  # trials that fail one after the other
        raise ValueError(str(error)) from error
    with contextlib.closing(result.store) as store:
        return _report(store, options)


def _is_not_of_retracing(record):
    return "retracing" not in record.getMessage()


def _database_of(options):
    """What the search is given; None stands for its own embedded server, whose trials' files lie in the folder."""
    if options.database is None:
        return None
    return database_of(options.database, options.output / "database", may_make=True)


def _report(store, options):
    """Write figure and table, say what was found and what can be done next."""
    folder = options.output / options.study
    study = store.study(options.study)
    # one at a time: the last who writes has read last, so that what stays is of the whole search
    with only_one(folder / "report.lock", f"the figure of {folder} is being drawn"):
        rows = store.table(options.study)
        table, figure = folder / "trials.csv", folder / "learning_rate.png"
        store.write_csv(options.study, table)
        _draw(figure, rows, study)
        best = next(iter(store.best(options.study)), None)
        model = None if best is None else _model_of(store, options.study, best, folder)
    counts = Counter(row["state"] for row in rows)
    print(f"{options.study}: {', '.join(f'{counts[state]} {state}' for state in _FINISHED)}")
    unfinished = counts["running"] + counts["waiting"]
    if unfinished:
        print(f"{unfinished} more under way elsewhere or waiting for a worker; the figure does not have them yet")
    where = _database_words(options)
    if best is None:
        print(f"table: {table}\nNo trial completed, so there is no best learning rate.")
        if counts["diverged"]:
            print(f"Those that diverged tell of a range too high: name a new study with --high below {options.high:g}.")
        print(f"Why each ended:\n  hcreg trials list {options.study}{where}")
        return 1
    epoch = "" if best["best_epoch"] is None else f", epoch {best['best_epoch']}"
    print(
        f"best learning rate: {best['hp_learning_rate']:.4g}, with {study['definition']['objective']} "
        f"{number(best['objective'])} (trial {best['number']}{epoch})"
    )
    if best.get("metric_val_mae_mm") is not None:
        print(f"  mean absolute error of its validation images: {best['metric_val_mae_mm']:.2f} mm", end="")
        print(f"; a constant guess {best['metric_val_constant_mae_mm']:.2f} mm")
    print(f"figure: {figure}\ntable: {table}")
    if model is not None:
        print(f"weights of the best model: {model}")
    print("Look closer with")
    print(f"  hcreg trials show {options.study} {best['number']}{where}\n  hcreg trials best {options.study}{where}")
    return 0


def _draw(path, rows, study):
    from hcreg import plotting
    from hcreg.files import written_whole

    definition = study["definition"]
    figure = plotting.learning_rate_curve(
        rows, direction=definition["direction"], label=definition["objective"], title=study["name"]
    )
    with written_whole(path, suffix=".png") as partial:
        plotting.save(figure, partial)


def _model_of(store, study, best, folder):
    """Where the best trial's weights lie; those kept in the database are written beside the figure."""
    from hcreg.files import written_whole

    if best["model_path"]:
        return best["model_path"]
    if best["model_sha256"] is None:
        return None
    path = folder / "best_model.weights.h5"
    with written_whole(path) as partial:
        partial.write_bytes(store.load_artifact(study, best["number"], "model"))
    return path


def _database_words(options):
    """The option that names the same database to `hcreg trials`; a password is left out."""
    if options.database is not None:
        shown = "DSN" if holds_password(options.database) else shlex.quote(options.database)
        return f" --database {shown}"
    folder = options.output / "database"
    return (
        f" --database {shlex.quote(str(folder))}" if str(folder) != "runs/tuning/database" and folder.is_dir() else ""
    )


@contextlib.contextmanager
def _signals_as_ctrl_c():
    """A stop from outside ends like Ctrl-C: the trial is given back at once and not when its lease runs out."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {}
    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) is not signal.SIG_IGN:  # of nohup
            former[name] = signal.signal(name, signal.default_int_handler)
    try:
        yield
    finally:
        for name, handler in former.items():
            signal.signal(name, handler)


def _say(text):
    print(text, file=sys.stderr, flush=True)
