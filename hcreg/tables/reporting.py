"""Compute a table from the saved predictions, and print it beside the paper's figures."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hcreg import evaluation
from hcreg.tables.comparing import aligned, compare_rows, format_comparisons
from hcreg.tables.reading import departures, read_table, read_validation
from hcreg.tables.saving import draw_figures, save_report
from hcreg.tables.views import as_predicted

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

MASK_COLUMNS = {
    "dice": ("Dice", 4),
    "dice_sd": ("SD", 4),
    "jaccard": ("Jaccard", 4),
    "hausdorff_px": ("Hausdorff (px)", 1),
    "hausdorff_mm": ("Hausdorff (mm)", 2),
    "boundary_distance_px": ("average distance (px)", 2),
    "boundary_distance_mm": ("average distance (mm)", 3),
}


@dataclass(frozen=True)
class Layout:
    """What a table shows of its rows.

    Attributes
    ----------
    columns : dict
        Names of `hcreg.evaluation.summarise` to (heading, digits).
    view : callable
        Of `hcreg.tables.views`: a recipe and its predictions to the table's lines.
    choose : callable, optional
        ``choose(recipes, validation)`` gives the names of the recipes to show, by the rows of their inner validation
        images; all by default.
    """

    columns: dict = field(default_factory=lambda: COLUMNS)
    view: Callable = as_predicted
    choose: Callable | None = None


def report_table(script, recipes, folds, options, layout=None, figures=None):
    """Compute the table from the run folders and print it beside the paper's figures, then compare its lines in pairs.

    Parameters
    ----------
    script : str
        Its last part names the files: ``table1.csv`` and ``table1_comparisons.csv`` for "zhang2020.table1".
    recipes : list of Recipe
    folds : list of int
    options : argparse.Namespace
        ``out``, and ``save``: a folder for the table and the runs' records, or None.
    layout : Layout, optional
    figures : callable, optional
        As in `hcreg.tables.main`.

    Returns
    -------
    list of dict
        The table: a line of the constant predictor for each set of images, then those of the recipes.

    Raises
    ------
    ValueError
        If a row, fold or seed is missing or unfinished, naming all that are, or if runs do not belong together.
    """
    layout = layout or Layout()
    if layout.choose is not None:
        read_table(recipes, folds, options.out)  # a choice among what is there would hide what is missing
        names = layout.choose(recipes, read_validation(recipes, folds, options.out))
        recipes = [recipe for recipe in recipes if recipe.name in names]
    predictions, records = read_table(recipes, folds, options.out)
    constant = layout.view(replace(recipes[0], name="constant median"), predictions[recipes[0].name])
    table = [_constant_line(name, rows, layout.columns) for name, rows in constant.items()]
    lines = {}
    for recipe in recipes:
        for name, rows in layout.view(recipe, predictions[recipe.name]).items():
            lines[name] = rows
            table.append(_line(name, recipe, rows, records[recipe.name], layout.columns))
    print(format_table(table, layout.columns))
    for row in table:
        if row["num_failed"]:
            print(f"note: {row['row']} measured nothing in {row['num_failed']} of {row['num_subjects']} images")
    for recipe in recipes:
        for note in departures(recipe, records[recipe.name][0]["arguments"]):
            print(note)
    comparisons = compare_rows(lines)
    if comparisons:
        print(f"\n{format_comparisons(comparisons)}")
    tables = {"": table, "_comparisons": comparisons}
    save_report(script, recipes, folds, options, tables, with_training=figures is not None)
    draw_figures(figures, predictions, options)
    return table


def format_table(table, columns):
    """The table as text: ours, and the paper's figure with the difference where it prints one.

    Parameters
    ----------
    table : list of dict
    columns : dict
        As in `Layout`.

    Returns
    -------
    str
    """
    headings = ["row", *(heading for heading, _ in columns.values()), "paper", "ours - paper"]
    lines = [headings]
    for row in table:
        cells = [f"{row[name]:.{digits}f}" if row[name] == row[name] else "-" for name, (_, digits) in columns.items()]
        paper, difference = [], []
        for name in columns:
            printed = row.get(f"paper_{name}", float("nan"))
            if printed == printed:
                heading, digits = columns[name]
                paper.append(f"{heading} {printed:g}")
                difference.append(f"{row[name] - printed:+.{digits}f}" if row[name] == row[name] else "-")
        lines.append([row["row"], *cells, ", ".join(paper) or "-", ", ".join(difference) or "-"])
    return aligned(lines)


def _line(name, recipe, rows, records, columns):
    summary = evaluation.summarise(rows)
    seconds = [record["training_seconds"] for record in records]
    summary["training_seconds"] = sum(seconds) / len(seconds)
    return {
        **_counts(name, summary, records[0]["arguments"]["seed"]),
        **{column: summary.get(column, float("nan")) for column in columns},
        **{f"paper_{column}": recipe.paper.get(column, float("nan")) for column in columns},
    }


def _constant_line(name, rows, columns):
    summary = evaluation.summarise(evaluation.constant_rows(rows))
    unknown = float("nan")
    return {
        **_counts(name, summary, unknown),
        **{column: summary.get(column, unknown) for column in columns},
        **{f"paper_{column}": unknown for column in columns},
    }


def _counts(name, summary, seed):
    counts = {key: summary[key] for key in ("num_subjects", "num_failed", "num_folds")}
    return {"row": name, **counts, "seed": seed}
