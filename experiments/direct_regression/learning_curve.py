"""What more images would give: the same network and the same number of steps on parts of the training images.

python -m experiments.direct_regression.learning_curve run --data HC18
python -m experiments.direct_regression.learning_curve report

Whole examinations are left out of the training part of a fold; validation and test parts stay as they are. The whole
training part is the row ``direct_trimmed`` of ``train``, which runs into the same folder.
"""

import sys
from dataclasses import replace
from functools import partial

import numpy as np

from experiments.direct_regression.train import FOLDER, LONGER_EPOCHS, TRIMMED
from hcreg import fold_runs, tables
from hcreg.datasets import HC18
from hcreg.files import read_rows, write_rows
from hcreg.head_circumference import grouped_folds
from hcreg.tables.comparing import aligned
from hcreg.tables.running import run_table
from hcreg.tables.saving import copy_record

SHARES_PERCENT = {"direct_25_percent": 25, "direct_50_percent": 50}
ROWS = [
    replace(TRIMMED, name=name, epochs=LONGER_EPOCHS * 100 // percent, patience=LONGER_EPOCHS * 100 // percent)
    for name, percent in SHARES_PERCENT.items()
]
DEFAULT_FOLDS = [0]


def main(arguments=None):
    """Run the script's command line; see `hcreg.tables.main`."""
    return tables.main(
        f"{FOLDER}.learning_curve",
        ROWS,
        grouped_folds,
        default_folds=DEFAULT_FOLDS,
        read_dataset=HC18,
        folder=FOLDER,
        arguments=arguments,
        run=run,
        report=report,
    )


def run(script, recipes, splits_of, folds, options, read_dataset):
    """Train the rows; see `hcreg.tables.running.run_table`."""
    for recipe in recipes:
        thinned = partial(thinned_folds, splits_of, SHARES_PERCENT[recipe.name])
        run_table(script, [recipe], thinned, folds, options, read_dataset)


def thinned_folds(splits_of, percent, dataset, seed=0):
    """Folds with a part of the training examinations, the smaller part inside the larger.

    Parameters
    ----------
    splits_of : callable
    percent : int
        Of the training examinations.
    dataset : sequence of HC18Record
    seed : int
        Of the folds; with the number of the fold also of the order in which examinations are taken.

    Returns
    -------
    list of dict
    """
    examination_of = {record.subject_id: record.examination_id for record in dataset}
    thinned = []
    for fold, split in enumerate(splits_of(dataset, seed=seed)):
        examinations = sorted({examination_of[subject] for subject in split["training"]})
        order = np.random.default_rng((seed, fold)).permutation(len(examinations))
        kept = {examinations[position] for position in order[: round(len(order) * percent / 100)]}
        training = [subject for subject in split["training"] if examination_of[subject] in kept]
        thinned.append({**split, "training": training})
    return thinned


def report(script, recipes, folds, options, layout=None, figures=None):
    """Errors by the number of training images, on validation and test images.

    Returns
    -------
    list of dict
    """
    recipes = [*recipes, TRIMMED]
    lines, tested = [], None
    for recipe in recipes:
        predictions, records = tables.read_table([recipe], folds, options.out)  # each by itself: training parts differ
        subjects = {row["subject_id"] for row in predictions[recipe.name]}
        if tested not in (None, subjects):
            raise ValueError(
                f"{recipe.name} was tested on other images than {recipes[0].name}. Run both on one data set."
            )
        tested = subjects
        num_training = sum(record["num_images"]["training"] for record in records[recipe.name])
        validation = [
            row
            for fold in folds
            for row in read_rows(options.out / recipe.name / f"fold_{fold}" / fold_runs.VALIDATION_PREDICTIONS)
        ]
        for part, rows in (("validation", validation), ("test", predictions[recipe.name])):
            lines.append(
                {"row": recipe.name, "num_training": num_training // len(folds), "part": part, **errors_of(rows)}
            )
    cells = [[f"{value:.2f}" if isinstance(value, float) else str(value) for value in line.values()] for line in lines]
    print(aligned([list(lines[0]), *cells]))
    if options.save is not None:
        write_rows(options.save / "learning_curve.csv", lines)
        for recipe in recipes[:-1]:
            for fold in folds:
                part = f"{recipe.name}/fold_{fold}"
                copy_record(options.out / part, options.save / "runs" / part, with_training=False)
    return lines


def errors_of(rows):
    """How far off the measured ones of some rows are, with the standard error of their mean.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    dict
    """
    errors_mm = np.array([row["y_pred_mm"] - row["y_true_mm"] for row in rows])
    measured_mm = errors_mm[np.isfinite(errors_mm)]
    return {
        "num_measured": len(measured_mm),
        "mae_mm": float(np.abs(measured_mm).mean()),
        "mae_standard_error_mm": float(np.abs(measured_mm).std(ddof=1) / len(measured_mm) ** 0.5),
        "median_ae_mm": float(np.median(np.abs(measured_mm))),
        "bias_mm": float(measured_mm.mean()),
    }


if __name__ == "__main__":
    sys.exit(main())
