"""Tables of whole heads: train their rows seed by seed, and compute every cell from the saved predictions."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np

from hcreg import statistics
from hcreg.head_volumes import Patches, read_volumes, run
from hcreg.head_volumes.summaries import summarise
from hcreg.tables.comparing import aligned, with_holm
from hcreg.tables.reading import departures, read_table
from hcreg.tables.running import prepared
from hcreg.tables.saving import draw_figures, save_report

CONSTANT = "where most training heads are"
COLUMNS = {
    "dice": ("DSC", 4),
    "dice_sd": ("SD", 4),
    "dice_fold_sd": ("SD over seeds", 4),
    "conformity": ("conformity", 4),
    "jaccard": ("Jaccard", 4),
    "adb_mm": ("Adb (mm)", 2),
    "adb_mm_fold_sd": ("SD over seeds", 2),
    "hdb_mm": ("Hdb (mm)", 2),
    "hdb_mm_fold_sd": ("SD over seeds", 2),
    "bias_ml": ("bias (ml)", 1),
    "pearson_r": ("r", 4),
    "num_parameters": ("parameters", 0),
    "training_seconds": ("training (s a seed)", 0),
    "seconds": ("s a volume", 2),
}


@dataclass(frozen=True)
class HeadLayout:
    """What a table of whole heads shows, and on what.

    Attributes
    ----------
    draw : callable
        ``draw(root, seed=seed, smoke=smoke)`` writes the synthetic heads that a table without ``--data`` is of.
    columns : dict
        Names of `hcreg.head_volumes.summaries.summarise` to (heading, digits).
    """

    draw: Callable
    columns: dict = field(default_factory=lambda: COLUMNS)


def run_heads(layout, script, recipes, splits_of, folds, options, read_dataset):
    """Train rows and seeds that are not finished yet; as `hcreg.tables.running.run_table`.

    Parameters
    ----------
    layout : HeadLayout
    script : str
    recipes : list of HeadRecipe
    splits_of, read_dataset : callable
        As in `hcreg.tables.main`; the data set that is read has the volumes and, if another than each recipe's own is
        due, their ``preparation``.
    folds : list of int
        One a seed.
    options : argparse.Namespace
        ``data``, ``out``, ``weights``, ``epochs``, ``seed``, ``smoke``, ``log``. Without ``data`` synthetic
        heads are drawn into ``data`` below the table's folder.
    """

    def draw(root):
        layout.draw(root, seed=options.seed, smoke=options.smoke)

    if options.data is None and not options.smoke:
        options.data = options.out / "data"
        draw(options.data)
    recipes, dataset, splits = prepared(
        script,
        recipes,
        splits_of,
        folds,
        options,
        read_dataset,
        made_small=made_small,
        draw=draw,
        needed="a folder of volumes",
    )
    preparation = getattr(dataset, "preparation", None)
    if preparation is not None:
        recipes = [replace(recipe, preparation=preparation) for recipe in recipes]
    cache = None
    for recipe in sorted(recipes, key=lambda recipe: repr(recipe.preparation)):
        if cache is None or cache.prepare != recipe.preparation:
            print(f"preparing {len(dataset)} volumes for {recipe.name}", file=sys.stderr)
            cache = read_volumes(dataset, recipe.preparation)
        for fold in folds:
            folder = options.out / recipe.name / f"fold_{fold}"
            rows = run(recipe, cache, splits[fold], folder, fold=fold, seed=options.seed, loggers=options.log)
            found = summarise(rows)
            print(
                f"{recipe.name}, seed {fold}: DSC {found['dice']:.4f}, Hdb {found['hdb_mm']:.2f} mm, "
                f"{found['seconds']:.2f} s a volume (constant: DSC {constant_dice(rows):.4f})",
                flush=True,
            )


def report_heads(script, recipes, folds, options, layout=None, figures=None):
    """Compute the table from the run folders and print it, then compare its rows in pairs.

    Parameters
    ----------
    script : str
        Its last part names the files: ``table1.csv`` and ``table1_comparisons.csv``.
    recipes : list of HeadRecipe
    folds : list of int
    options : argparse.Namespace
        ``out``, and ``save``: a folder for the table and the runs' records, or None.
    layout : HeadLayout, optional
    figures : callable, optional
        As in `hcreg.tables.main`.

    Returns
    -------
    list of dict
        A line for the constant and for each row.

    Raises
    ------
    ValueError
        If a row or seed is missing or unfinished, naming all that are, or if runs do not belong together.
    """
    columns = layout.columns if layout else COLUMNS
    predictions, records = read_table(recipes, folds, options.out)
    lines = [head_line(CONSTANT, {"dice": constant_dice(predictions[recipes[0].name])}, columns)]
    for recipe in recipes:
        known = records[recipe.name]
        facts = {
            "training_seconds": float(np.mean([record["training_seconds"] for record in known])),
            "num_parameters": known[0]["num_parameters"],
        }
        lines.append(head_line(recipe.name, {**summarise(predictions[recipe.name]), **facts}, columns))
    print(format_lines(lines, columns))
    for line in lines:
        if line["num_failed"] > 0:
            print(f"note: {line['row']} found no head in {line['num_failed']:.0f} prediction(s)")
    for recipe in recipes:
        for note in departures(recipe, records[recipe.name][0]["arguments"]):
            print(note)
    comparisons = compare_heads(predictions)
    if comparisons:
        print(f"\n{format_comparisons(comparisons)}")
    save_report(script, recipes, folds, options, {"": lines, "_comparisons": comparisons})
    draw_figures(figures, predictions, options)
    return lines


def constant_dice(rows):
    """Mean Dice of what one says without looking: float."""
    return float(np.mean([row["dice_constant"] for row in rows]))


def head_line(title, summary, columns):
    """One line of the table.

    Parameters
    ----------
    title : str
    summary : dict
        What is known; NaN stands for the rest.
    columns : dict

    Returns
    -------
    dict
        Lines of one table have the same keys.
    """
    unknown = float("nan")
    counts = {name: summary.get(name, 0) for name in ("num_subjects", "num_folds", "num_failed")}
    shown = ["mae_ml", "lower_limit_ml", "upper_limit_ml", "conformity_sd", "jaccard_sd", "adb_mm_sd", "hdb_mm_sd"]
    return {"row": title, **counts, **{name: summary.get(name, unknown) for name in dict.fromkeys([*columns, *shown])}}


def format_lines(lines, columns):
    """The table as text; a dash where there is no number.

    Parameters
    ----------
    lines : list of dict
    columns : dict
        Name to (heading, digits).

    Returns
    -------
    str
    """
    shown = [["row", "n", "seeds", *(heading for heading, _ in columns.values())]]
    for line in lines:
        cells = [
            f"{line[name]:.{digits}f}" if line[name] == line[name] else "-" for name, (_, digits) in columns.items()
        ]
        counts = [str(line[name]) if line["num_folds"] else "-" for name in ("num_subjects", "num_folds")]
        shown.append([line["row"], *counts, *cells])
    return aligned(shown)


def compare_heads(predictions):
    """Compare the Dice of every two rows, patient by patient, and hold the difference against what seeds do.

    Parameters
    ----------
    predictions : dict of str to list of dict

    Returns
    -------
    list of dict
        Of each pair: the mean difference of the Dice, the p-value of Wilcoxon's signed-rank test over patients, the
        same after Holm's correction, and the difference in units of the standard error that the seeds give it,
        ``seeds_z`` (NaN for one seed): below 2 it is not beyond seed noise.

    Notes
    -----
    A patient's Dice is the mean over the patient's scans and over the seeds.
    """
    found = []
    for first, second in combinations(predictions, 2):
        ours, others = (_patient_dice(predictions[name]) for name in (first, second))
        if ours.keys() != others.keys():
            continue
        pairs = np.array([(ours[patient], others[patient]) for patient in sorted(ours)])
        comparison = statistics.compare_paired(pairs[:, 0], pairs[:, 1])
        found.append(
            {
                "row": first,
                "other_row": second,
                "num_patients": comparison.num_pairs,
                "mean_difference": comparison.mean_difference,
                "p_value": comparison.p_value,
                "seeds_z": _seeds_z(predictions[first], predictions[second]),
            }
        )
    return with_holm(found)


def format_comparisons(comparisons):
    """The comparisons as text.

    Parameters
    ----------
    comparisons : list of dict
        Of `compare_heads`.

    Returns
    -------
    str
    """
    lines = [["DSC of", "minus that of", "mean", "p (Wilcoxon)", "p (Holm)", "in SE over seeds"]]
    for item in comparisons:
        p_values = [f"{item[name]:.2g}" for name in ("p_value", "p_value_holm")]
        seeds = f"{item['seeds_z']:+.1f}" if item["seeds_z"] == item["seeds_z"] else "-"
        lines.append([item["row"], item["other_row"], f"{item['mean_difference']:+.4f}", *p_values, seeds])
    return aligned(lines)


def made_small(recipe):
    """A row as ``--smoke`` trains it: one epoch, a sixteenth of the filters, patches of 16 voxels.

    Parameters
    ----------
    recipe : HeadRecipe

    Returns
    -------
    HeadRecipe
    """
    small = {"epochs": 1, "patience": 1, "build_arguments": {**recipe.build_arguments, "filters": 2}}
    if isinstance(recipe.view, Patches):
        small["view"] = replace(recipe.view, patch_shape=(16, 16, 16), per_volume=1)
    return replace(recipe, **small)


def _patient_dice(rows):
    values = {}
    for row in rows:
        values.setdefault(row["patient_id"], []).append(row["dice"])
    return {patient: float(np.mean(found)) for patient, found in values.items()}


def _seeds_z(rows, others):
    means = [
        np.array([np.mean([row["dice"] for row in part if row["fold"] == fold]) for fold in _folds(part)])
        for part in (rows, others)
    ]
    if min(map(len, means)) < 2:
        return float("nan")
    error = np.sqrt(sum(np.var(values, ddof=1) / len(values) for values in means))
    return float((means[0].mean() - means[1].mean()) / error) if error > 0 else float("nan")


def _folds(rows):
    return sorted({row["fold"] for row in rows})
