"""What a report leaves behind: its tables, the records of the runs they are of, and figures."""

import shutil
from pathlib import Path

from hcreg.files import write_rows

KEPT_FILES = ("run.json", "split.csv", "history.csv", "validation_predictions.csv", "predictions.csv")


def save_report(script, recipes, folds, options, tables, with_training=False):
    """Write the tables of a report and copy the records of its runs, where ``--save`` names a folder.

    Parameters
    ----------
    script : str
        Its last part names the files.
    recipes : list of recipes
    folds : list of int
    options : argparse.Namespace
        ``out``, and ``save``: a folder, or None.
    tables : dict of str to list of dict
        Rows by the ending of the file's name; "" is the table itself. Without rows there is no file.
    with_training : bool
        As of `copy_record`.
    """
    if options.save is None:
        return
    name = script.rpartition(".")[2]
    for ending, rows in tables.items():
        if rows:
            write_rows(options.save / f"{name}{ending}.csv", rows)
    for recipe in recipes:
        for fold in folds:
            part = Path(recipe.name) / f"fold_{fold}"
            copy_record(options.out / part, options.save / "runs" / part, with_training)


def draw_figures(figures, predictions, options):
    """Draw what goes with a table, and say where it is.

    Parameters
    ----------
    figures : callable or None
        As in `hcreg.tables.main`.
    predictions : dict of str to list of dict
    options : argparse.Namespace
        ``out``, ``save``.
    """
    if figures is not None:
        for path in figures(options.out, predictions, (options.save or options.out) / "figures"):
            print(f"figure: {path}")


def copy_record(source, target, with_training):
    """Copy what is kept of a run: its record, split, history and predictions, not its weights.

    Parameters
    ----------
    source, target : pathlib.Path
        Run folders; nothing is done where they are one.
    with_training : bool
        Whether the predictions of the training part are kept too.
    """
    if source.resolve() == target.resolve():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in (*KEPT_FILES, *(["training_predictions.csv"] if with_training else [])):
        shutil.copyfile(source / name, target / name)
