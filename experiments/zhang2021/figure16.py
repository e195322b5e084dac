"""Figure 16: how the error grows with the number of replaced regions, for the eight analyzers on each network.

python -m experiments.zhang2021.figure16 run --data HC18 --models-root runs/zhang2020 runs/zhang2021 --out runs/table8
python -m experiments.zhang2021.figure16 report --out runs/table8 --save figures

``run`` is that of table8: the curves are those its scores are the areas of, and are not computed twice.
"""

import sys
from types import SimpleNamespace

import numpy as np

from experiments.zhang2021 import table8
from experiments.zhang2021.explanations import execute, parser_of
from experiments.zhang2021.table8_report import LEAST, MOST, PROTOCOLS, RANDOM, read_curves
from hcreg import plotting
from hcreg.analyzers.perturbation import aopc_scores
from hcreg.plotting.perturbation import perturbation_curves

FIGURE = "figure16"
_NUM_COLOURS = 96


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser, run, report_parser = parser_of(FIGURE, "curves of the error against perturbed regions")
    table8.add_arguments(run, report_parser)
    return execute(FIGURE, parser, table8.run_cells, report, arguments)


def report(options):
    """Draw a chart for each network and protocol.

    Parameters
    ----------
    options : argparse.Namespace
    """
    chosen = table8.chosen_part(options)
    curves = read_curves(options.out, chosen)
    for model in chosen.models:
        for protocol, unit in PROTOCOLS.items():
            rows = [row for row in curves if (row["model"], row["protocol"]) == (model, protocol)]
            results = {name: _result(rows, name, unit) for name in chosen.analyzers}
            # the dashed lines of eight analyzers would hide the solid ones; table8.csv has their scores
            for result in results.values():
                result.baselines.pop(LEAST, None)
            drawn = perturbation_curves(results, title=f"{model}, {protocol} protocol")
            path = (options.save or options.out) / f"{FIGURE}_{model}_{protocol}.png"
            plotting.save(drawn, path, num_colours=_NUM_COLOURS)
            print(f"figure: {path}", flush=True)


def _result(rows, name, unit):
    """Curves in the form that `perturbation_curves` draws."""
    found = {
        order: _curve([row for row in rows if (row["analyzer"], row["order"]) == (analyzer, order)])
        for analyzer, order in ((name, MOST), (name, LEAST), (RANDOM, RANDOM))
    }
    baselines = {order: curve for order, curve in found.items() if order != MOST and curve is not None}
    curve = found[MOST]
    score = float(aopc_scores(curve.mean_errors[None])[0])
    return SimpleNamespace(**vars(curve), mean_score=score, unit=unit, baselines=baselines, confidence=0.95)


def _curve(rows):
    if not rows:
        return None
    rows = sorted(rows, key=lambda row: row["step"])
    return SimpleNamespace(
        mean_errors=np.array([row["mean_error"] for row in rows]),
        errors_interval=np.array([[row["lower"] for row in rows], [row["upper"] for row in rows]]),
    )


if __name__ == "__main__":
    sys.exit(main())
