"""The network trained on real heads, measured where labels are exact: on synthetic heads, which it has never seen.

python -m experiments.direct_regression.exact_labels run

The heads are drawn by a program (`hcreg.datasets.synthetic.fetal_head`), so that their circumference is known and no
annotator's hand is in the error. Their tissue is easier than real tissue, and foreign to the network: what it misses
here is a look at its own error, not a bound of it.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from experiments.direct_regression.learning_curve import errors_of
from experiments.direct_regression.train import FOLDER
from hcreg.datasets import HC18, synthetic
from hcreg.files import write_rows
from hcreg.measurement import load_regressor

PRESET = "hc18_direct"


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{FOLDER}.exact_labels")
    run = parser.add_subparsers(dest="command", required=True).add_parser("run", help="draw heads and measure them")
    run.add_argument("--model", type=Path, default=Path(PRESET), help="run folder or preset (default: %(default)s)")
    run.add_argument("--examinations", type=int, default=200)
    run.add_argument("--seed", type=int, default=5, help="of the heads (default: %(default)s)")
    run.add_argument("--save", type=Path, metavar="DIR", help="write exact_labels.csv there")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            synthetic.fetal_head(folder, options.examinations, options.seed)
            records = list(HC18(folder))
            sizes = [record.pixel_size_mm for record in records]
            measured = load_regressor(options.model).measure_many([record.image_path for record in records], sizes)
    except (ValueError, OSError) as error:
        print(f"{FOLDER}.exact_labels: {error}", file=sys.stderr)
        return 1
    rows = [
        {"trimester": record.trimester, "y_true_mm": record.hc_mm, "y_pred_mm": found.hc_mm}
        for record, found in zip(records, measured)
    ]
    parts = {"all": rows} | {
        f"trimester {number}": [row for row in rows if row["trimester"] == number] for number in (1, 2, 3)
    }
    lines = [
        {"part": name, "num_images": len(part), "seed": options.seed, **errors_of(part)}
        for name, part in parts.items()
        if len(part) > 1
    ]
    for line in lines:
        print(
            f"{line['part']}: {line['num_measured']} of {line['num_images']} measured, MAE {line['mae_mm']:.2f} mm, "
            f"median {line['median_ae_mm']:.2f}, bias {line['bias_mm']:+.2f}"
        )
    if options.save is not None:
        write_rows(options.save / "exact_labels.csv", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
