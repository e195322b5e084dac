"""Experiment 2: does it make a classifier blind to a label that tells the sex?

python -m experiments.callanan2022.experiment2 run --out runs/callanan2022
python -m experiments.callanan2022.experiment2 report --out runs/callanan2022 --save experiments/callanan2022/results

``run`` skips the models that are there, so that several processes can share the arms (``--arms``).
"""

import sys

from experiments.callanan2022.comparison import main as compare


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    return compare(2, arguments)


if __name__ == "__main__":
    sys.exit(main())
