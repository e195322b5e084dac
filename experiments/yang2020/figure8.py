"""Figure 8: predicted against true volumes, and their agreement by Bland and Altman.

python -m experiments.yang2020.figure8 report
"""

import sys

from experiments.yang2020.protocol import figure_command, predictions_of
from hcreg import plotting

FIGURE = "figure8"


def main(arguments=None):
    """Run the script's command line; see `experiments.yang2020.protocol.figure_command`."""
    return figure_command(FIGURE, draw, arguments)


def draw(options):
    """Draw a chart of each row.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    list of pathlib.Path
    """
    return [
        plotting.save(
            plotting.head_volumes(predictions_of(name, options), title=name), options.save / f"{FIGURE}_{name}.png"
        )
        for name in options.rows
    ]


if __name__ == "__main__":
    sys.exit(main())
