"""Figure 9: how alike the scans of one head are measured.

python -m experiments.yang2020.figure9 report

The test part has all scans of its heads. The number is the mean over heads of the SD over a head's scans. The phases of
hearts are no repeated scans: the figure is of heads alone.
"""

import sys

from experiments.yang2020.protocol import figure_command, predictions_of
from hcreg import plotting
from hcreg.files import write_rows
from hcreg.head_volumes.summaries import reproducibility

FIGURE = "figure9"


def main(arguments=None):
    """Run the script's command line; see `experiments.yang2020.protocol.figure_command`."""
    return figure_command(FIGURE, draw, arguments)


def draw(options):
    """Draw a chart of each row, and write and print the numbers of all.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    list of pathlib.Path
    """
    paths, lines = [], []
    for name in options.rows:
        rows = predictions_of(name, options)
        found = reproducibility(rows)
        lines.append({"row": name, **found})
        print(
            f"{name}: SD over the scans of a head {found['pred_sd_ml']:.2f} ml of the predicted volumes, "
            f"{found['true_sd_ml']:.2f} ml of the true ones, {found['num_patients']} heads"
        )
        figure = plotting.repeated_scans(rows, title=name)
        paths.append(plotting.save(figure, options.save / f"{FIGURE}_{name}.png"))
    write_rows(options.save / f"{FIGURE}.csv", lines)
    return paths


if __name__ == "__main__":
    sys.exit(main())
