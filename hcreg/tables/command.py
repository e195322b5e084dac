"""The command line of a table script: ``run`` and ``report``."""

import argparse
import sys
from pathlib import Path

from hcreg.loggers import NAMES as LOGGERS
from hcreg.loggers import checked as check_loggers
from hcreg.tables.reporting import report_table
from hcreg.tables.running import check_backbones, run_table


def main(
    script,
    recipes,
    splits_of,
    *,
    default_folds,
    read_dataset,
    smoke_recipes=None,
    folder=None,
    layout=None,
    figures=None,
    arguments=None,
    run=run_table,
    report=report_table,
    data_help="HC18 folder as downloaded",
):
    """Run a table script's command line.

    Parameters
    ----------
    script : str
        Name of the experiment, for messages and the default folder: ``runs/<experiment>/<table>``, and with
        ``--smoke`` another beside it.
    recipes : list of Recipe
        The rows, in the table's order.
    splits_of : callable
        ``splits_of(dataset, seed=seed)`` gives the list of folds, each a dict of subject ids by part.
    default_folds : list of int
    read_dataset : callable
        ``read_dataset(folder)`` gives the records.
    smoke_recipes : list of str, optional
        Names of the rows that ``--smoke`` runs; all by default.
    folder : str, optional
        Below ``runs``, for tables that share their runs; by default the script's own.
    layout : Layout, optional
    figures : callable, optional
        ``figures(folder, rows_by_recipe, output)`` draws a report's figures, and returns their paths.
    arguments : list of str, optional
    run, report : callable
        What trains the rows, and what computes the table: by default those of head circumference,
        `hcreg.tables.volumes` has those of cardiac volumes.
    data_help : str
        What ``--data`` is.

    Returns
    -------
    int
    """
    options = _parser(script, recipes, folder or script.replace(".", "/"), data_help).parse_args(arguments)
    if options.out is None:
        options.out = _default_folder(folder or script.replace(".", "/"), options.smoke)
    try:
        chosen = _chosen(recipes, options.rows or (smoke_recipes if options.smoke else None))
        folds = options.folds if options.folds is not None else ([0] if options.smoke else default_folds)
        if options.command == "run":
            check_backbones(recipes, options.weights)
            check_loggers(options.log)
            run(script, chosen, splits_of, folds, options, read_dataset)
        else:
            report(script, chosen, folds, options, layout, figures)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 1
    return 0


def _chosen(recipes, names):
    if not names:
        return recipes
    known = {recipe.name: recipe for recipe in recipes}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"There is no row {', '.join(unknown)}. The rows: {', '.join(known)}.")
    return [recipe for recipe in recipes if recipe.name in names]


def _default_folder(folder, smoke):
    # smoke runs lie apart: nobody must take them for results
    return Path("runs") / (folder + ("_smoke" if smoke else ""))


def _parser(script, recipes, folder, data_help):
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{script}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train the rows; what is finished is not repeated")
    run.add_argument("--data", type=Path, help=data_help)
    run.add_argument(
        "--weights",
        nargs="+",
        metavar="BACKBONE=PATH",
        help="local files of ImageNet weights; BACKBONE=imagenet downloads them, BACKBONE=none goes without",
    )
    run.add_argument("--epochs", type=int, help="instead of each row's own")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument(
        "--log", nargs="+", choices=LOGGERS, default=[], help="follow training there too; wandb and mlflow are extras"
    )
    report = commands.add_parser("report", help="compute the table from the saved predictions")
    report.add_argument("--save", type=Path, metavar="DIR", help="write the table and copy the runs' records there")
    for command in (run, report):
        command.add_argument("--out", type=Path, help=f"default: {_default_folder(folder, smoke=False)}")
        command.add_argument("--rows", nargs="+", metavar="ROW", help=f"of {', '.join(r.name for r in recipes)}")
        command.add_argument("--folds", type=int, nargs="+", metavar="K")
        command.add_argument(
            "--smoke", action="store_true", help="a little synthetic data, one epoch: does it run at all?"
        )
    return parser
