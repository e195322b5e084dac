"""The images with the largest errors of each fold, with the head as annotated and as predicted, to look at.

python -m experiments.direct_regression.worst --data HC18

The pictures show patients' images, so that they are not among the committed results; README.rst says what is on them.
"""

import argparse
import sys
from pathlib import Path

from experiments.direct_regression.train import FOLDER, FOLDS, OWN_ROWS, TRIMMED
from hcreg import plotting, tables
from hcreg.datasets import HC18


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{FOLDER}.worst")
    parser.add_argument("--data", type=Path, required=True, help="HC18 folder as downloaded")
    parser.add_argument("--out", type=Path, default=Path("runs") / FOLDER, help="folder of the runs (%(default)s)")
    parser.add_argument("--row", choices=[row.name for row in OWN_ROWS], default=TRIMMED.name)
    parser.add_argument("--folds", type=int, nargs="+", default=FOLDS, metavar="K")
    parser.add_argument("--number", type=int, default=10, help="of images a fold (default: %(default)s)")
    parser.add_argument("--save", type=Path, metavar="DIR", help="default: the folder worst beside the runs")
    options = parser.parse_args(arguments)
    try:
        draw(options)
    except (ValueError, OSError) as error:
        print(f"{FOLDER}.worst: {error}", file=sys.stderr)
        return 1
    return 0


def draw(options):
    """Draw a picture a fold, and print its errors."""
    (recipe,) = [row for row in OWN_ROWS if row.name == options.row]
    records = {record.subject_id: record for record in HC18(options.data)}
    for fold in options.folds:
        predictions, _ = tables.read_table([recipe], [fold], options.out)
        rows = predictions[recipe.name]
        figure = plotting.cases(
            rows,
            lambda subject: records[subject].image(),
            lambda subject: records[subject].ellipse(),
            num=options.number,
        )
        path = (options.save or options.out / "worst") / f"{recipe.name}_fold_{fold}.png"
        plotting.save(figure, path)
        print(f"{path}:")
        for row in plotting.rank_cases(rows, num=options.number):
            error_mm, by_outline_mm = (row[name] - row["y_true_mm"] for name in ("y_pred_mm", "hc_ellipse_mm"))
            of_mm = f"{error_mm:+.1f} mm of {row['y_true_mm']:.1f}"
            print(f"  {row['subject_id']}: {of_mm}, by the ellipse fitted to its mask {by_outline_mm:+.1f}")


if __name__ == "__main__":
    sys.exit(main())
