"""What ``hcreg trials`` does: look into the studies of a database. Nothing here needs Keras, so that it is quick."""

import contextlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from textwrap import indent

from hcreg.cli.database_option import database_of
from hcreg.cli.printed import duration, first_line, number, print_fields, print_table, time_of_day

DATABASE_FOLDER = Path("runs", "tuning", "database")
_RANGE = ("min_value", "max_value", "step", "sampling", "values")
_STATES = ("completed", "diverged", "failed", "running", "waiting")


def trials(options):
    """List, show, draw or export the trials of a study.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command's parser, see `hcreg.cli.parser`.

    Returns
    -------
    int
        0.

    Raises
    ------
    ValueError
        If there is no such study, trial or database.
    OSError
        If the database cannot be reached, or a file not be written.
    """
    if options.action == "plot" and options.output.suffix.lower() != ".png":
        raise ValueError(f"--output takes a file that ends in .png. Received: {options.output}.")
    database = database_of(options.database, DATABASE_FOLDER)
    from hcreg.tuning.store import TrialStore

    with contextlib.closing(TrialStore(database)) as store:
        try:
            _ACTIONS[options.action](store, options)
            sys.stdout.flush()
        except BrokenPipeError:  # of `hcreg trials list STUDY | head`; what Python flushes at its end goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _list(store, options):
    if options.study is not None:
        _print_trials(store.study(options.study), store.table(options.study))
        return
    studies = store.studies()
    if not studies:
        print("no studies yet; hcreg tune STUDY starts one")
        return
    headings = ["study", *_STATES, "of", "objective", "best", "created"]
    lines = [
        [
            study["name"],
            *(str(study[state]) for state in _STATES),
            number(study["max_trials"]),
            f"{study['objective']} ({study['direction']})",
            number(study["best"]),
            time_of_day(study["created_at"]),
        ]
        for study in studies
    ]
    print_table(headings, lines, right=(*_STATES, "of", "best"))


def _best(store, options):
    study = store.study(options.study)
    rows = store.best(options.study, options.num_trials)
    if not rows:
        print(f"no trial of {options.study} has completed yet: {_counted(store.table(options.study))}")
        return
    _print_trials(study, rows)
    if rows[0]["model_path"]:
        print(f"model of the best: {rows[0]['model_path']}")


def _show(store, options):
    if options.number is None:
        _show_study(store, options.study)
    else:
        _show_trial(store, options.study, options.number)


def _show_study(store, name):
    study, rows = store.study(name), store.table(name)
    definition = dict(study["definition"])
    space, code = definition.pop("space", None), definition.pop("code", None)
    print_fields(
        {
            "study": name,
            "created": time_of_day(study["created_at"]),
            "objective": f"{definition.pop('objective', '?')} ({definition.pop('direction', '?')})",
            "trials": _counted(rows) + ("" if study["max_trials"] is None else f"; at most {study['max_trials']}"),
            "seed": study["seed"],
            **{key: _as_text(value) for key, value in definition.items()},
            **{key: _as_text(value) for key, value in study["attributes"].items()},
        }
    )
    if space is not None:
        print("\nsearch space")
        print_fields(_space_in_words(space), indent="  ")
    best = store.best(name)
    if best:
        found = ", ".join(f"{key[3:]} {number(value)}" for key, value in best[0].items() if key.startswith("hp_"))
        print(f"\nbest: {number(best[0]['objective'])} in trial {best[0]['number']}, with {found}")
    workers = Counter((row["host"] or "", row["device"] or "") for row in rows if row["host"])
    if workers:
        print("\nwho worked on it")
        lines = []
        for (host, device), count in sorted(workers.items()):
            spent_s = sum(row["seconds"] or 0 for row in rows if (row["host"], row["device"] or "") == (host, device))
            lines.append([host, device or "-", str(count), duration(spent_s)])
        print_table(["host", "device", "trials", "time"], lines, right=("trials", "time"))
    if code is not None:
        print("\ncode")
        print(indent(_as_text(code).rstrip(), "  "))


def _show_trial(store, study, trial_number):
    from hcreg.tuning.reader import device_in_words

    trial = dict(store.trial(study, trial_number))
    attempts, artifacts = trial.pop("attempt_records"), trial.pop("artifacts")
    message = trial.pop("message")
    for key in ("started_at", "finished_at"):
        trial[key] = time_of_day(trial[key]) if trial[key] is not None else None
    trial["seconds"] = None if trial["seconds"] is None else f"{trial['seconds']:.1f}"
    print_fields({"study": study, **{key: _as_text(value) for key, value in trial.items() if value is not None}})
    print("\nattempts")
    headings = ["attempt", "started", "ended", "outcome", "host", "pid", "device", "commit"]
    lines = [
        [
            str(attempt["number"]),
            time_of_day(attempt["started_at"]),
            time_of_day(attempt["ended_at"]),
            attempt["outcome"] or "under way",
            attempt["host"] or "-",
            str(attempt["pid"]),
            device_in_words(attempt["device"]) or "-",
            attempt["commit"] or "-",
        ]
        for attempt in attempts
    ]
    print_table(headings, lines, right=("attempt", "pid"))
    if artifacts:
        print("\nfiles")
        lines = [
            [
                item["name"],
                str(item["num_bytes"] if item["num_bytes"] is not None else "-"),
                item["sha256"] or "-",
                "in the database" if item["in_store"] else item["path"] or "-",
            ]
            for item in artifacts
        ]
        print_table(["name", "bytes", "sha256", "where"], lines, right=("bytes",))
    for attempt in attempts:
        if attempt["message"] and attempt["message"] != message:
            print(f"\nmessage of attempt {attempt['number']}\n{attempt['message'].rstrip()}")
    if message:
        print(f"\nmessage\n{message.rstrip()}")


def _plot(store, options):
    from hcreg import plotting
    from hcreg.files import written_whole

    study = store.study(options.study)
    definition = study["definition"]
    look = {"direction": definition["direction"], "title": options.study}
    if options.history:
        best = store.best(options.study)
        history = store.history(options.study)
        metric = definition["objective"]
        has_best = best and any(row["number"] == best[0]["number"] and metric in row for row in history)
        figure = plotting.trial_histories(history, metric, best=best[0]["number"] if has_best else None, **look)
    else:
        rows = store.table(options.study)
        column = f"hp_{(options.hyperparameter or 'learning_rate').removeprefix('hp_')}"
        searched = sorted({key[3:] for row in rows for key in row if key.startswith("hp_")})
        if rows and column[3:] not in searched:
            raise ValueError(
                f"{options.study} has no hyperparameter {column[3:]!r}; it searches for {', '.join(searched)}. "
                "Choose one with --hyperparameter."
            )
        figure = plotting.learning_rate_curve(rows, hyperparameter=column, label=definition["objective"], **look)
    with written_whole(options.output, suffix=".png") as partial:
        plotting.save(figure, partial)
    print(f"{options.output} written")


def _export(store, options):
    rows = store.table(options.study)
    if options.csv is not None:
        store.write_csv(options.study, options.csv)
        print(f"{len(rows)} trials of {options.study} written to {options.csv}")
        return
    store.export_optuna(options.study, options.optuna)
    num_finished = sum(row["state"] in _STATES[:3] for row in rows)
    print(f"{num_finished} finished trials of {options.study} written as an Optuna study", end="")
    print("" if "@" in options.optuna else f"; look at it with optuna-dashboard {options.optuna}")  # no passwords


_ACTIONS = {"list": _list, "show": _show, "best": _best, "plot": _plot, "export": _export}


def _print_trials(study, rows):
    if not rows:
        print(f"{study['name']} has no trials yet")
        return
    columns = {
        "trial": [str(row["number"]) for row in rows],
        "state": [row["state"] for row in rows],
        **{key[3:]: [number(row[key]) for row in rows] for key in sorted(rows[0]) if key.startswith("hp_")},
        study["definition"]["objective"]: [number(row["objective"]) for row in rows],
        "best epoch": [f"{number(row['best_epoch'])} of {row['num_epochs']}" for row in rows],
        "time": [duration(row["seconds"]) for row in rows],
        "attempts": [number(row["attempts"]) for row in rows],
        "host": [row["host"] or "-" for row in rows],
        "message": [first_line(row["message"]) for row in rows],
    }
    if all(row["attempts"] <= 1 for row in rows):
        del columns["attempts"]
    if not any(columns["message"]):
        del columns["message"]
    words = ("state", "host", "message")
    print_table(list(columns), list(zip(*columns.values())), right=tuple(name for name in columns if name not in words))


def _counted(rows):
    counts = Counter(row["state"] for row in rows)
    return ", ".join(f"{counts[state]} {state}" for state in _STATES if counts[state]) or "none yet"


def _space_in_words(space):
    """A line for each hyperparameter, whatever the study keeps of it."""
    if isinstance(space, dict):
        return {name: _as_text(value) for name, value in space.items()}
    found = {}
    for place, item in enumerate(space):
        config = item.get("config", item) if isinstance(item, dict) else {}
        named = [*(key for key in _RANGE if key in config), *sorted(set(config) - {*_RANGE, "name", "conditions"})]
        rest = {key: config[key] for key in named if config[key] is not None}
        found[config.get("name", str(place))] = ", ".join(f"{key} {_as_text(value)}" for key, value in rest.items())
    return found


def _as_text(value):
    if isinstance(value, dict):
        return ", ".join(f"{name} {_as_text(item)}" for name, item in _flat(value))
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _flat(value, prefix=""):
    """Names and values of a dict, those of dicts in it as "outer.inner"; what is None is left out."""
    for name, item in sorted(value.items()):
        if isinstance(item, dict):
            yield from _flat(item, f"{prefix}{name}.")
        elif item is not None:
            yield f"{prefix}{name}", item
