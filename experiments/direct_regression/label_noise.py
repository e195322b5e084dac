"""How much of an error is the annotation's: two images of one examination show one head.

python -m experiments.direct_regression.label_noise report

Of the images of one examination, annotation and prediction differ from their means over the examination by what the
head's section really differs, and by an error of their own. Where the two errors are independent, the covariance is the
variance of the true differences, and what each has beyond it is its own error (Grubbs' estimator). An error that all
images of an examination share does not show, nor one that network and annotator make alike.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.direct_regression.train import FOLDER, FOLDS, OWN_ROWS
from hcreg import tables
from hcreg.files import write_rows

NUM_RESAMPLES = 2000


@dataclass(frozen=True)
class ErrorParts:
    """Variances within examinations, over ``num_degrees`` degrees of freedom.

    Attributes
    ----------
    num_examinations, num_degrees : int
    true_variance : float
        Of what both see.
    annotation_variance, prediction_variance : float
        Of what one of them alone has; below zero by chance where there is next to none.
    """

    num_examinations: int
    num_degrees: int
    true_variance: float
    annotation_variance: float
    prediction_variance: float

    @property
    def annotation_share(self):
        """Share of the annotation in the variance of the difference of both."""
        return self.annotation_variance / (self.annotation_variance + self.prediction_variance)


def error_parts(examinations, annotated, predicted):
    """Split the disagreement within examinations into the errors of both.

    Parameters
    ----------
    examinations : array-like of shape (n,)
        Whose image it is. Those of one image say nothing and are left out.
    annotated, predicted : array-like of float, shape (n,)
        Any one unit.

    Returns
    -------
    ErrorParts

    Raises
    ------
    ValueError
        If no examination has two images.
    """
    examinations = np.asarray(examinations)
    _, members, counts = np.unique(examinations, return_inverse=True, return_counts=True)
    several = counts[members] > 1
    if not several.any():
        raise ValueError("No examination has two images: what differs within one cannot be known.")
    deviations = []
    for values in (annotated, predicted):
        values = np.asarray(values, float)
        means = np.bincount(members, values) / counts
        deviations.append((values - means[members])[several])
    num_examinations = int((counts > 1).sum())
    num_degrees = int(several.sum()) - num_examinations
    of_annotation, of_prediction = (float(np.sum(part**2)) / num_degrees for part in deviations)
    common = float(np.sum(deviations[0] * deviations[1])) / num_degrees
    return ErrorParts(num_examinations, num_degrees, common, of_annotation - common, of_prediction - common)


def line_of(name, rows, num_resamples=NUM_RESAMPLES, seed=0):
    """One row's numbers, with intervals that resample examinations.

    Parameters
    ----------
    name : str
    rows : list of dict
        Of ``predictions.csv``, all folds.
    num_resamples, seed : int

    Returns
    -------
    dict
        Standard deviations in mm, the annotation's share, and their 95 % intervals; the mean absolute error in
        examinations of several images and of one, which says whether the former stand for all.
    """
    rows = [row for row in rows if row["y_pred_mm"] == row["y_pred_mm"]]
    columns = [np.array([row[key] for row in rows]) for key in ("examination_id", "y_true_mm", "y_pred_mm")]
    found = error_parts(*columns)
    names, members, counts = np.unique(columns[0], return_inverse=True, return_counts=True)
    errors_mm, several = np.abs(columns[2] - columns[1]), counts[members] > 1
    rng = np.random.default_rng(seed)
    of_name = [np.flatnonzero(members == number) for number in range(len(names))]
    drawn = []
    for _ in range(num_resamples):
        chosen = rng.integers(len(names), size=len(names))
        positions = np.concatenate([of_name[number] for number in chosen])
        as_drawn = np.repeat(np.arange(len(chosen)), [len(of_name[number]) for number in chosen])
        drawn.append(error_parts(as_drawn, columns[1][positions], columns[2][positions]))
    line = {
        "row": name,
        "num_examinations": found.num_examinations,
        "num_degrees": found.num_degrees,
        "mae_several_mm": float(errors_mm[several].mean()),
        "mae_single_mm": float(errors_mm[~several].mean()) if not several.all() else float("nan"),
    }
    for key, value_of in {
        "true_sd_mm": lambda parts: _root(parts.true_variance),
        "annotation_sd_mm": lambda parts: _root(parts.annotation_variance),
        "prediction_sd_mm": lambda parts: _root(parts.prediction_variance),
        "annotation_share": lambda parts: parts.annotation_share,
    }.items():
        low, high = np.percentile([value_of(parts) for parts in drawn], [2.5, 97.5])
        line |= {key: float(value_of(found)), f"{key}_low": float(low), f"{key}_high": float(high)}
    return line


def _root(variance):
    return max(variance, 0.0) ** 0.5


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.direct_regression.label_noise")
    report = parser.add_subparsers(dest="command", required=True).add_parser(
        "report", help="from the saved predictions"
    )
    names = [row.name for row in OWN_ROWS]
    report.add_argument("--out", type=Path, default=Path("runs") / FOLDER, help="folder of the runs (%(default)s)")
    report.add_argument("--rows", nargs="+", choices=names, default=names)
    report.add_argument("--folds", type=int, nargs="+", default=FOLDS, metavar="K")
    report.add_argument("--save", type=Path, metavar="DIR", help="write label_noise.csv there")
    options = parser.parse_args(arguments)
    try:
        chosen = [row for row in OWN_ROWS if row.name in options.rows]
        predictions, _ = tables.read_table(chosen, options.folds, options.out)
        lines = [line_of(name, found) for name, found in predictions.items()]
    except (ValueError, OSError) as error:
        print(f"{FOLDER}.label_noise: {error}", file=sys.stderr)
        return 1
    for line in lines:
        shown = {
            name: f"{line[name]:.2f} ({line[f'{name}_low']:.2f} to {line[f'{name}_high']:.2f})"
            for name in ("annotation_sd_mm", "prediction_sd_mm")
        }
        print(
            f"{line['row']}: {line['num_examinations']} examinations of several images; SD within one (mm): true "
            f"{line['true_sd_mm']:.2f}, annotation's error {shown['annotation_sd_mm']}, prediction's "
            f"{shown['prediction_sd_mm']}; of their difference {100 * line['annotation_share']:.0f} % is the "
            f"annotation's. MAE in these examinations {line['mae_several_mm']:.2f} mm, in the others "
            f"{line['mae_single_mm']:.2f}"
        )
    if options.save is not None:
        write_rows(options.save / "label_noise.csv", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
