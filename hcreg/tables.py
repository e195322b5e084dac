"""A paper's table as a script: train its rows fold by fold, and compute every cell from the saved predictions.

A script in ``experiments/`` states its rows as `hcreg.head_circumference.Recipe` and hands them to `main`, which gives
it the subcommands ``run`` and ``report``.
"""

import argparse
import shutil
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from hcreg import evaluation, runs, statistics
from hcreg.files import plain, read_rows, write_rows

KEPT_FILES = ("run.json", "split.csv", "history.csv", "validation_predictions.csv", "predictions.csv")
SMOKE_EXAMINATIONS = 14
NOT_GIVEN = "not given"

# column of the table -> (heading, digits)
COLUMNS = {
    "mae_mm": ("MAE (mm)", 2),
    "mae_sd_mm": ("SD over subjects (mm)", 2),
    "fold_sd_mm": ("SD over folds (mm)", 2),
    "median_ae_mm": ("median (mm)", 2),
    "bias_mm": ("bias (mm)", 2),
    "p95_ae_mm": ("95th percentile (mm)", 2),
    "mae_px": ("MAE (px)", 1),
    "pmae_percent": ("PMAE (%)", 2),
    "r2": ("R2", 3),
    "coverage": ("coverage of the 90 % interval", 3),
    "mean_interval_width_mm": ("mean interval (mm)", 1),
    "training_seconds": ("training (s a fold)", 0),
}


def main(
    script,
    recipes,
    splits_of,
    *,
    default_folds,
    read_dataset,
    smoke_recipes=None,
    figures=None,
    arguments=None,
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
    figures : callable, optional
        ``figures(folder, rows_by_recipe, output)`` draws a report's figures, and returns their paths.
    arguments : list of str, optional

    Returns
    -------
    int
    """
    options = _parser(script, recipes).parse_args(arguments)
    if options.out is None:
        options.out = _default_folder(script, options.smoke)
    try:
        chosen = _chosen(recipes, options.rows or (smoke_recipes if options.smoke else None))
        folds = options.folds if options.folds is not None else ([0] if options.smoke else default_folds)
        if options.command == "run":
            _check_backbones(recipes, options.weights)
            run_table(script, chosen, splits_of, folds, options, read_dataset)
        else:
            report_table(chosen, folds, options, figures)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{script}: {error}", file=sys.stderr)
        return 1
    return 0


def run_table(script, recipes, splits_of, folds, options, read_dataset):
    """Train rows and folds that are not finished yet.

    Parameters
    ----------
    script : str
    recipes : list of Recipe
    splits_of, read_dataset : callable
        As in `main`.
    folds : list of int
    options : argparse.Namespace
        ``data``, ``out``, ``weights``, ``epochs``, ``seed``, ``smoke``, ``tensorboard``.
    """
    from hcreg import head_circumference
    from hcreg.datasets.batches import read_images

    recipes = [_adapted(_made_small(recipe) if options.smoke else recipe, options) for recipe in recipes]
    _check_weights(recipes)  # before hours of training, not after
    if options.smoke:
        from hcreg.datasets import synthetic

        data = options.out / "data"
        synthetic.fetal_head(data, SMOKE_EXAMINATIONS, options.seed)
    elif options.data is None:
        raise ValueError("run needs --data, the HC18 folder as downloaded (or --smoke, for synthetic images).")
    else:
        data = options.data
    dataset = read_dataset(data)
    splits = splits_of(dataset, seed=options.seed)
    unknown = [fold for fold in folds if not 0 <= fold < len(splits)]
    if unknown:
        raise ValueError(f"{script} has the folds 0 to {len(splits) - 1}. Received: {unknown}.")
    cache = None
    for recipe in sorted(recipes, key=lambda recipe: recipe.input_shape[:2]):
        if cache is None or cache.input_shape != recipe.input_shape[:2]:
            print(
                f"reading {len(dataset)} images for {recipe.input_shape[1]} x {recipe.input_shape[0]}",
                file=sys.stderr,
            )
            cache = read_images(dataset, recipe.input_shape)
        for fold in folds:
            folder = options.out / recipe.name / f"fold_{fold}"
            rows = head_circumference.run(
                recipe,
                cache,
                splits[fold],
                folder,
                fold=fold,
                seed=options.seed,
                tensorboard=options.tensorboard,
            )
            summary = evaluation.summarise(rows)
            print(
                f"{recipe.name}, fold {fold}: MAE {summary['mae_mm']:.2f} ± {summary['mae_sd_mm']:.2f} mm on "
                f"{summary['num_subjects']} images (constant {summary['constant_mae_mm']:.1f} mm)",
                flush=True,
            )


def report_table(recipes, folds, options, figures=None):
    """Compute the table from the run folders and print it beside the paper's figures, then compare its rows in pairs.

    Parameters
    ----------
    recipes : list of Recipe
    folds : list of int
    options : argparse.Namespace
        ``out``, and ``save``: a folder for the table and the runs' records, or None.
    figures : callable, optional
        As in `main`.

    Returns
    -------
    list of dict
        The table: one row a recipe and one for the constant predictor.

    Raises
    ------
    ValueError
        If a row, fold or seed is missing or unfinished, naming all that are, or if runs do not belong together.
    """
    predictions, records = read_table(recipes, folds, options.out)
    table = [_table_row(recipe, predictions[recipe.name], records[recipe.name]) for recipe in recipes]
    table.insert(0, _constant_row(predictions[recipes[0].name]))
    print(format_table(table))
    for recipe in recipes:
        for note in _departures(recipe, records[recipe.name][0]["arguments"]):
            print(note)
    comparisons = compare_rows(predictions)
    if comparisons:
        print(f"\n{format_comparisons(comparisons)}")
    if options.save is not None:
        write_rows(options.save / "table.csv", table)
        if comparisons:
            write_rows(options.save / "comparisons.csv", comparisons)
        for recipe in recipes:
            for fold in folds:
                part = Path(recipe.name) / f"fold_{fold}"
                _copy_record(options.out / part, options.save / "runs" / part, with_training=figures is not None)
    if figures is not None:
        for path in figures(options.out, predictions, (options.save or options.out) / "figures"):
            print(f"figure: {path}")
    return table


def read_table(recipes, folds, folder):
    """Read the predictions of every row and fold, or say which are missing.

    Parameters
    ----------
    recipes : list of Recipe
    folds : list of int
    folder : path-like

    Returns
    -------
    predictions : dict of str to list of dict
        Of each recipe, pooled over the folds.
    records : dict of str to list of dict
        The ``run.json`` of each fold.

    Raises
    ------
    ValueError
        If runs are missing or unfinished; if they are of several seeds or splits, or were tested on different images;
        if the folds of one row were trained with different arguments.
    """
    predictions, records, missing = {}, {}, []
    for recipe in recipes:
        predictions[recipe.name], records[recipe.name] = [], []
        for fold in folds:
            run_folder = Path(folder) / recipe.name / f"fold_{fold}"
            try:
                record = runs.read_run(run_folder)
            except FileNotFoundError:
                missing.append(f"{recipe.name} fold {fold} (not run)")
                continue
            if record["status"] != "finished":
                missing.append(f"{recipe.name} fold {fold} (not finished)")
                continue
            predictions[recipe.name] += read_rows(run_folder / "predictions.csv")
            records[recipe.name].append(record)
    if missing:
        raise ValueError(
            f"{folder} lacks {len(missing)} run(s): {', '.join(missing)}. Run them, or name the rows and folds to "
            "report with --rows and --folds."
        )
    seeds = {record["arguments"]["seed"] for found in records.values() for record in found}
    if len(seeds) > 1:
        raise ValueError(f"{folder} mixes runs of the seeds {sorted(seeds)}; a table is of one seed.")
    for name, found in records.items():
        unlike = {key for record in found for key in _unlike(record["arguments"], found[0]["arguments"], ("fold",))}
        if unlike:
            raise ValueError(
                f"{Path(folder) / name} mixes runs of different arguments: its folds differ in "
                f"{', '.join(sorted(unlike))}. Run the odd ones again, in another folder."
            )
    for position, fold in enumerate(folds):
        if len({found[position]["split_checksum"] for found in records.values()}) > 1:
            raise ValueError(
                f"The rows in {folder} were trained on different splits in fold {fold}; they cannot stand in one table."
            )
    subjects = {frozenset(row["subject_id"] for row in rows) for rows in predictions.values()}
    if len(subjects) > 1:
        raise ValueError(f"The rows in {folder} were tested on different images; they cannot stand in one table.")
    return predictions, records


def compare_rows(predictions):
    """Compare the absolute errors of every two rows, image by image.

    Parameters
    ----------
    predictions : dict of str to list of dict
        As `read_table` gives it: the rows were tested on the same images.

    Returns
    -------
    list of dict
        For each pair: mean and median of the first's error minus the second's (mm), the p-value of Wilcoxon's
        signed-rank test, and the same after Holm's correction for all pairs. Empty for a table of one row.

    Notes
    -----
    Several images of one examination count as several pairs, so p-values are a little too small.
    """
    errors = {}
    for name, rows in predictions.items():
        by_subject = {row["subject_id"]: abs(row["y_pred_mm"] - row["y_true_mm"]) for row in rows}
        errors[name] = [by_subject[subject_id] for subject_id in sorted(by_subject)]
    pairs = list(combinations(errors, 2))
    if not pairs:
        return []
    found = [statistics.compare_paired(errors[first], errors[second]) for first, second in pairs]
    corrected = statistics.holm([comparison.p_value for comparison in found])
    return [
        {
            "row": first,
            "other_row": second,
            "num_pairs": comparison.num_pairs,
            "mean_difference_mm": comparison.mean_difference,
            "median_difference_mm": comparison.median_difference,
            "p_value": comparison.p_value,
            "p_value_holm": float(p_value_holm),
        }
        for (first, second), comparison, p_value_holm in zip(pairs, found, corrected)
    ]


def format_comparisons(comparisons):
    """The comparisons as text.

    Parameters
    ----------
    comparisons : list of dict
        Of `compare_rows`.

    Returns
    -------
    str
    """
    lines = [["absolute error of", "minus that of", "mean (mm)", "median (mm)", "p (Wilcoxon)", "p (Holm)"]]
    for item in comparisons:
        differences = [f"{item[name]:+.2f}" for name in ("mean_difference_mm", "median_difference_mm")]
        p_values = [f"{item[name]:.2g}" for name in ("p_value", "p_value_holm")]
        lines.append([item["row"], item["other_row"], *differences, *p_values])
    return _aligned(lines)


def format_table(table):
    """The table as text: ours, and the paper's figure with the difference where it prints one.

    Parameters
    ----------
    table : list of dict

    Returns
    -------
    str
    """
    headings = ["row", *(heading for heading, _ in COLUMNS.values()), "paper", "ours - paper"]
    lines = [headings]
    for row in table:
        cells = [f"{row[name]:.{digits}f}" if row[name] == row[name] else "-" for name, (_, digits) in COLUMNS.items()]
        paper, difference = [], []
        for name in COLUMNS:
            printed = row.get(f"paper_{name}", float("nan"))
            if printed == printed:
                heading, digits = COLUMNS[name]
                paper.append(f"{heading} {printed:g}")
                difference.append(f"{row[name] - printed:+.{digits}f}")
        lines.append([row["row"], *cells, ", ".join(paper) or "-", ", ".join(difference) or "-"])
    return _aligned(lines)


def _aligned(lines):
    widths = [max(map(len, column)) for column in zip(*lines)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def _table_row(recipe, rows, records):
    summary = evaluation.summarise(rows)
    seconds = [record["training_seconds"] for record in records]
    paper = {f"paper_{name}": recipe.paper.get(name, float("nan")) for name in COLUMNS}
    return {
        "row": recipe.name,
        "num_subjects": summary["num_subjects"],
        "num_folds": summary["num_folds"],
        "seed": records[0]["arguments"]["seed"],
        **{name: summary[name] for name in COLUMNS if name != "training_seconds"},
        "training_seconds": sum(seconds) / len(seconds),
        **paper,
    }


def _constant_row(rows):
    summary = evaluation.summarise(evaluation.constant_rows(rows))
    unknown = float("nan")
    return {
        "row": "constant median",
        "num_subjects": summary["num_subjects"],
        "num_folds": summary["num_folds"],
        "seed": unknown,
        **{name: summary.get(name, unknown) for name in COLUMNS},
        **{f"paper_{name}": unknown for name in COLUMNS},
    }


def _copy_record(source, target, with_training):
    if source.resolve() == target.resolve():
        return
    target.mkdir(parents=True, exist_ok=True)
    for name in (*KEPT_FILES, *(["training_predictions.csv"] if with_training else [])):
        shutil.copyfile(source / name, target / name)


def _chosen(recipes, names):
    if not names:
        return recipes
    known = {recipe.name: recipe for recipe in recipes}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"There is no row {', '.join(unknown)}. The rows: {', '.join(known)}.")
    return [recipe for recipe in recipes if recipe.name in names]


def _adapted(recipe, options):
    changes = {}
    if options.epochs is not None:
        if options.epochs < 1:
            raise ValueError(f"--epochs takes a whole number of at least 1. Received: {options.epochs}.")
        changes.update(epochs=options.epochs, patience=min(recipe.patience, options.epochs))
    if "weights" in recipe.build_arguments:
        weights = _weights(options.weights).get(_backbone(recipe))
        if weights is None:
            stated = recipe.build_arguments["weights"]
            weights = NOT_GIVEN if stated == "imagenet" else stated
        changes["build_arguments"] = {**recipe.build_arguments, "weights": None if weights == "none" else weights}
    return replace(recipe, **changes)


def _backbone(recipe):
    """Name of a recipe's backbone in lower case, None for a network that takes no weights."""
    if "weights" not in recipe.build_arguments:
        return None
    return recipe.build_arguments.get("backbone", recipe.build.__name__.removesuffix("_regressor")).lower()


def _check_backbones(recipes, pairs):
    known = {_backbone(recipe) for recipe in recipes} - {None}
    unknown = sorted(_weights(pairs).keys() - known)
    if unknown:
        raise ValueError(
            f"--weights names {', '.join(unknown)}, which no row is built on. "
            f"The backbones of this table: {', '.join(sorted(known)) or 'none'}."
        )


def _check_weights(recipes):
    for recipe in recipes:
        weights = recipe.build_arguments.get("weights")
        if weights == NOT_GIVEN:
            raise ValueError(
                f"{recipe.name} starts from ImageNet weights, and nothing is downloaded unless asked. Pass --weights "
                f"{_backbone(recipe)}=PATH for a local file without top layers, {_backbone(recipe)}=imagenet to "
                f"download it, or {_backbone(recipe)}=none for random weights; or leave the row out with --rows."
            )
        if weights not in (None, "imagenet") and not Path(weights).is_file():
            raise FileNotFoundError(f"--weights: there is no file {weights} for {_backbone(recipe)} ({recipe.name}).")


def _departures(recipe, arguments):
    """In words, where a run was made otherwise than the script states now."""
    stated = {**arguments, **plain(recipe.arguments())}
    stated["build_arguments"] = {**stated["build_arguments"]}
    if "weights" in arguments["build_arguments"]:  # --weights names them; the script does not
        stated["build_arguments"]["weights"] = arguments["build_arguments"]["weights"]
    unlike = _unlike(arguments, stated, ("row", "fold", "seed"))
    return [
        f"note: {recipe.name} was made with {key} {arguments.get(key)}; its row says {stated[key]}" for key in unlike
    ]


def _unlike(arguments, others, besides):
    return [key for key in others if key not in besides and arguments.get(key) != others[key]]


def _weights(pairs):
    found = {}
    for pair in pairs or ():
        backbone, separator, path = pair.partition("=")
        if not separator or not path:
            raise ValueError(
                f"--weights takes BACKBONE=PATH, such as VGG16=weights.h5, or BACKBONE=none. Received: {pair}."
            )
        found[backbone.lower()] = path
    return found


def _made_small(recipe):
    build_arguments = dict(recipe.build_arguments)
    if "weights" in build_arguments:
        build_arguments["weights"] = None
    small = (64, 64, recipe.input_shape[2]) if recipe.input_shape[2] == 3 else recipe.input_shape
    return replace(recipe, epochs=1, patience=1, batch_size=8, input_shape=small, build_arguments=build_arguments)


def _default_folder(script, smoke):
    # smoke runs lie apart: nobody must take them for results
    return Path("runs") / (script.replace(".", "/") + ("_smoke" if smoke else ""))


def _parser(script, recipes):
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{script}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train the rows; what is finished is not repeated")
    run.add_argument("--data", type=Path, help="HC18 folder as downloaded")
    run.add_argument(
        "--weights",
        nargs="+",
        metavar="BACKBONE=PATH",
        help="local files of ImageNet weights; BACKBONE=imagenet downloads them, BACKBONE=none goes without",
    )
    run.add_argument("--epochs", type=int, help="instead of each row's own")
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--tensorboard", action="store_true", help="write TensorBoard logs into the run folders")
    report = commands.add_parser("report", help="compute the table from the saved predictions")
    report.add_argument("--save", type=Path, metavar="DIR", help="write the table and copy the runs' records there")
    for command in (run, report):
        command.add_argument("--out", type=Path, help=f"default: {_default_folder(script, smoke=False)}")
        command.add_argument("--rows", nargs="+", metavar="ROW", help=f"of {', '.join(r.name for r in recipes)}")
        command.add_argument("--folds", type=int, nargs="+", metavar="K")
        command.add_argument(
            "--smoke", action="store_true", help="a few synthetic images, one epoch: does it run at all?"
        )
    return parser
