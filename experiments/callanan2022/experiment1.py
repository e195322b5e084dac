"""Experiment 1: does a heatmap loss move a classifier's eyes to the heart?

python -m experiments.callanan2022.experiment1 run --out runs/callanan2022
python -m experiments.callanan2022.experiment1 report --out runs/callanan2022 --save experiments/callanan2022/results

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
    return compare(1, arguments)


if __name__ == "__main__":
    sys.exit(main())
