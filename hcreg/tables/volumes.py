"""Tables of cardiac volumes: train their rows, and compute each structure's errors at each phase."""

import sys
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from hcreg import statistics
from hcreg.cardiac_volumes import SliceRecipe, run
from hcreg.cardiac_volumes.running import read_stacks
from hcreg.cardiac_volumes.summaries import by_phase, names_in, summarise, summarise_ejection_fraction
from hcreg.preprocessing.volumes import Frame
from hcreg.tables.comparing import aligned, with_holm
from hcreg.tables.reading import departures, read_table
from hcreg.tables.running import prepared
from hcreg.tables.saving import draw_figures, save_report

CONSTANT = "mean of the training part"
SMOKE_PATIENTS = 10
SMOKE_SIZE = (32, 32)
SMOKE_FRAME = Frame(64, 64, 4.4)
COLUMNS = {
    "dice": ("Dice", 3),
    "mae_ml": ("MAE (ml)", 1),
    "mae_sd_ml": ("SD", 1),
    "fold_sd_ml": ("SD over folds", 1),
    "bias_ml": ("bias", 1),
    "lower_limit_ml": ("lower limit", 1),
    "upper_limit_ml": ("upper limit", 1),
    "pearson_r": ("r", 3),
    "pmae_percent": ("PMAE (%)", 1),
    "training_seconds": ("training (s a fold)", 0),
}
FRACTION_COLUMNS = {
    "num_failed": ("without", 0),
    "mae_points": ("MAE (points)", 1),
    "mae_sd_points": ("SD", 1),
    "bias_points": ("bias", 1),
    "lower_points": ("lower limit", 1),
    "upper_points": ("upper limit", 1),
    "pearson_r": ("r", 3),
}


@dataclass(frozen=True)
class VolumeLayout:
    """What a table of volumes shows.

    Attributes
    ----------
    fractions : bool
        Whether errors of the ejection fraction follow.
    """

    fractions: bool = False


def run_volumes(script, recipes, splits_of, folds, options, read_dataset):
    """Train rows and folds that are not finished yet; as `hcreg.tables.running.run_table`.

    Parameters
    ----------
    script : str
    recipes : list of StackRecipe or SliceRecipe
    splits_of, read_dataset : callable
        As in `hcreg.tables.main`.
    folds : list of int
    options : argparse.Namespace
        ``data``, ``out``, ``weights``, ``epochs``, ``seed``, ``smoke``, ``log``.

    Notes
    -----
    Prepared stacks are kept in ``stacks`` below the table's folder: patients' images, as the originals are.
    """
    from hcreg.datasets import synthetic

    recipes, dataset, splits = prepared(
        script,
        recipes,
        splits_of,
        folds,
        options,
        read_dataset,
        made_small=_made_small,
        draw=lambda root: synthetic.cardiac_volumes(root, SMOKE_PATIENTS, options.seed),
        needed="the ACDC folder as downloaded (or --smoke, for synthetic hearts)",
    )
    cache = None
    for recipe in sorted(recipes, key=lambda recipe: repr(recipe.preparation)):
        if cache is None or cache.prepare != recipe.preparation:
            print(f"preparing {len(dataset)} stacks for {recipe.name}", file=sys.stderr)
            cache = read_stacks(dataset, recipe.preparation, options.out / "stacks")
        for fold in folds:
            folder = options.out / recipe.name / f"fold_{fold}"
            rows = run(recipe, cache, splits[fold], folder, fold=fold, seed=options.seed, loggers=options.log)
            errors = [f"{name} {summarise(rows, name)['mae_ml']:.1f}" for name in names_in(rows)]
            guesses = [f"{name} {summarise(rows, name, 'constant')['mae_ml']:.1f}" for name in names_in(rows)]
            print(f"{recipe.name}, fold {fold}: MAE {', '.join(errors)} ml (mean: {', '.join(guesses)})", flush=True)


def report_volumes(script, recipes, folds, options, layout=None, figures=None):
    """Compute the table from the run folders and print it, then compare its rows in pairs.

    Parameters
    ----------
    script : str
        Its last part names the files: ``table10.csv``, ``table10_fractions.csv`` and ``table10_comparisons.csv``.
    recipes : list of StackRecipe or SliceRecipe
    folds : list of int
    options : argparse.Namespace
        ``out``, and ``save``: a folder for the table and the runs' records, or None.
    layout : VolumeLayout, optional
    figures : callable, optional
        As in `hcreg.tables.main`.

    Returns
    -------
    list of dict
        A line for each row, route, structure and phase.

    Raises
    ------
    ValueError
        If a row, fold or seed is missing or unfinished, naming all that are, or if runs do not belong together.
    """
    layout = layout or VolumeLayout()
    predictions, records = read_table(recipes, folds, options.out)
    lines, fractions, routes = [], [], {}
    for recipe in recipes:
        rows, seconds = predictions[recipe.name], [record["training_seconds"] for record in records[recipe.name]]
        known = {"seed": records[recipe.name][0]["arguments"]["seed"], "training_seconds": float(np.mean(seconds))}
        if recipe is recipes[0] or names_in(rows) != names_in(predictions[recipes[0].name]):
            lines += volume_lines(CONSTANT, rows, "constant", {"seed": known["seed"]})
            fractions += fraction_lines(CONSTANT, rows, "constant")
        for route in routes_in(rows):
            title = title_of(recipe.name, route)
            routes[title] = (rows, route)
            lines += volume_lines(title, rows, route, known)
            fractions += fraction_lines(title, rows, route)
    print(format_lines(lines, COLUMNS))
    if layout.fractions and fractions:
        print(f"\nejection fraction\n{format_lines(fractions, FRACTION_COLUMNS)}")
    for recipe in recipes:
        for note in departures(recipe, records[recipe.name][0]["arguments"]):
            print(note)
    comparisons = compare_volumes(routes)
    if comparisons:
        print(f"\n{format_comparisons(comparisons)}")
    tables = {"": lines, "_fractions": fractions if layout.fractions else [], "_comparisons": comparisons}
    save_report(script, recipes, folds, options, tables)
    draw_figures(figures, predictions, options)
    return lines


def routes_in(rows):
    """How the rows' volumes came about: "pred", and "mask" where a label map was predicted.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    tuple of str
    """
    return ("pred", "mask") if any(f"{name}_mask_ml" in rows[0] for name in names_in(rows)) else ("pred",)


def title_of(name, route):
    """What a line of the table is called: a recipe's name, and the route where it has two.

    Parameters
    ----------
    name : str
    route : {"pred", "mask"}

    Returns
    -------
    str
    """
    return name if route == "pred" else f"{name}, label map"


def volume_lines(title, rows, route, known=None):
    """Lines of a table: each structure at each phase and at both.

    Parameters
    ----------
    title : str
    rows : list of dict
    route : str
        As for `hcreg.cardiac_volumes.summaries.summarise`.
    known : dict, optional
        ``seed`` and ``training_seconds``; NaN where not given.

    Returns
    -------
    list of dict
        All with the same keys.
    """
    unknown = float("nan")
    lines = []
    for name in names_in(rows):
        for phase, part in by_phase(rows).items():
            summary = {"dice": unknown, "dice_sd": unknown, **summarise(part, name, route)}
            # the mean predictor has neither seconds nor, where folds vary, one number
            facts = {"seed": unknown, "training_seconds": unknown, **(known or {})}
            lines.append({"row": title, "structure": name, "phase": phase, "route": route, **summary, **facts})
    return lines


def fraction_lines(title, rows, route):
    """Lines of the errors of the ejection fraction, of each ventricle that the rows have.

    Parameters
    ----------
    title, rows, route
        As for `volume_lines`.

    Returns
    -------
    list of dict
    """
    return [
        {
            "row": title,
            "structure": name,
            "phase": "ED to ES",
            "route": route,
            **summarise_ejection_fraction(rows, name, route),
        }
        for name in names_in(rows)
        if name in ("LV", "RV")
    ]


def compare_volumes(routes):
    """Compare the absolute errors of every two rows, patient by patient.

    Parameters
    ----------
    routes : dict of str to tuple (rows, route)

    Returns
    -------
    list of dict
        Of each structure and pair: the mean difference of the absolute errors (ml), the p-value of Wilcoxon's
        signed-rank test, and the same after Holm's correction for all pairs and structures.

    Notes
    -----
    A patient's error is the mean of those at his two phases: the phases of one heart are not two witnesses.
    """
    found = []
    for (first, (rows, route)), (second, (others, other_route)) in combinations(routes.items(), 2):
        for name in [name for name in names_in(rows) if name in names_in(others)]:
            errors, other_errors = _patient_errors(rows, name, route), _patient_errors(others, name, other_route)
            if errors.keys() != other_errors.keys():
                continue
            pairs = np.array([(errors[patient], other_errors[patient]) for patient in sorted(errors)])
            comparison = statistics.compare_paired(pairs[:, 0], pairs[:, 1])
            found.append(
                {
                    "row": first,
                    "other_row": second,
                    "structure": name,
                    "num_patients": comparison.num_pairs,
                    "mean_difference_ml": comparison.mean_difference,
                    "p_value": comparison.p_value,
                }
            )
    return with_holm(found)


def format_comparisons(comparisons):
    """The comparisons as text.

    Parameters
    ----------
    comparisons : list of dict
        Of `compare_volumes`.

    Returns
    -------
    str
    """
    lines = [["absolute error of", "minus that of", "", "mean (ml)", "p (Wilcoxon)", "p (Holm)"]]
    for item in comparisons:
        p_values = [f"{item[name]:.2g}" for name in ("p_value", "p_value_holm")]
        difference = f"{item['mean_difference_ml']:+.1f}"
        lines.append([item["row"], item["other_row"], item["structure"], difference, *p_values])
    return aligned(lines)


def format_lines(lines, columns):
    """A table as text; a dash where there is no number.

    Parameters
    ----------
    lines : list of dict
    columns : dict
        Name to (heading, digits).

    Returns
    -------
    str
    """
    columns = {name: column for name, column in columns.items() if any(_known(line, name) for line in lines)}
    headings = ["row", "", "phase", "n", *(heading for heading, _ in columns.values())]
    shown = [headings]
    for line in lines:
        cells = [f"{line[name]:.{digits}f}" if _known(line, name) else "-" for name, (_, digits) in columns.items()]
        shown.append([line["row"], line["structure"], line["phase"], str(line["num_subjects"]), *cells])
    return aligned(shown)


def _patient_errors(rows, name, route):
    errors = {}
    for row in rows:
        error = abs(row[f"{name}_{route}_ml"] - row[f"{name}_true_ml"])
        errors.setdefault(row["patient_id"], []).append(error)
    return {patient: float(np.mean(values)) for patient, values in errors.items()}


def _known(line, name):
    return line.get(name, float("nan")) == line.get(name, float("nan"))


def _made_small(recipe):
    build_arguments = dict(recipe.build_arguments)
    if "weights" in build_arguments:
        build_arguments["weights"] = None
    small = {"epochs": 1, "patience": 1, "build_arguments": build_arguments}
    if isinstance(recipe, SliceRecipe):
        crop_px = None if recipe.crop_px is None else 32
        return replace(recipe, frame=SMOKE_FRAME, crop_px=crop_px, **small)
    return replace(recipe, size=SMOKE_SIZE, batch_size=4, **small)
