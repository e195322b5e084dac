"""Where the errors of a counting network come from: from which slices of the heart, and how much is the heart's extent.

python -m experiments.zhang2021.volume_errors run --data ACDC --runs runs/zhang2021_volumes/densenet121_counting
python -m experiments.zhang2021.volume_errors report --save experiments/zhang2021/results/volumes

``run`` measures the test stacks of each fold slice by slice and keeps true and predicted areas; ``report`` computes the
errors of the volumes again as if the network had known something of the truth: the area of a structure's most basal
slice, where it begins and ends, or both.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from experiments.zhang2021.volume_protocol import COUNTING, FOLDER
from hcreg.cardiac_volumes import FoldNetworks
from hcreg.cardiac_volumes.running import read_stacks
from hcreg.datasets.acdc import ACDC
from hcreg.datasets.splits import read_split
from hcreg.datasets.volume_batches import SliceBatches
from hcreg.files import read_rows, write_rows
from hcreg.preprocessing.cardiac import PHASES, STRUCTURES
from hcreg.runs import read_run
from hcreg.tables.comparing import aligned

SLICES = "slices.csv"
KNOWN = {
    "nothing": "nothing of the truth",
    "base": "the area of its most basal slice",
    "extent": "in which slices it lies",
    "both": "both",
}


def main(arguments=None):
    """Run the command line of the script.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog="python -m experiments.zhang2021.volume_errors")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure the test stacks slice by slice")
    run.add_argument("--data", type=Path, required=True, help="ACDC folder as downloaded")
    report = commands.add_parser("report", help="compute the errors from what run has kept")
    report.add_argument("--save", type=Path, metavar="DIR", help="write the table and the slices there")
    for command in (run, report):
        default = Path("runs") / FOLDER / COUNTING.name
        command.add_argument("--runs", type=Path, default=default, help=f"of {COUNTING.name}; default: {default}")
    options = parser.parse_args(arguments)
    try:
        if options.command == "run":
            write_rows(options.runs / SLICES, slice_rows(options.runs, ACDC(options.data)))
        else:
            rows = read_rows(options.runs / SLICES)
            table = error_table(rows)
            print(format_table(table))
            if options.save is not None:
                write_rows(options.save / "volume_errors.csv", table)
                write_rows(options.save / SLICES, rows)
    except (ValueError, OSError) as error:
        print(f"zhang2021.volume_errors: {error}", file=sys.stderr)
        return 1
    return 0


def slice_rows(folder, dataset):
    """True and predicted areas of each slice of the test stacks, each by the network that did not train on it.

    Parameters
    ----------
    folder : path-like
        Of the finished runs of a counting network.
    dataset : sequence of ACDCRecord

    Returns
    -------
    list of dict
        subject_id, patient_id, phase, fold, slice (0 is the most basal), slice_mm, ``RV_true_cm2``, ``RV_pred_cm2`` and
        so on.
    """
    folds = FoldNetworks(folder, [COUNTING])
    cache = read_stacks(dataset, folds.recipe.preparation)
    rows = []
    for path, network in zip(folds.folders, folds.networks, strict=True):
        fold = read_run(path)["arguments"]["fold"]
        indices = cache.index_of(read_split(path / "split.csv")["test"])
        for index, pred_cm2, _ in folds.recipe.look([network], cache, indices):
            record = cache.records[index]
            true_cm2 = SliceBatches(cache, [index]).arrays()[1]["areas_cm2"]
            for number, (true, pred) in enumerate(zip(true_cm2, pred_cm2, strict=True)):
                row = {name: getattr(record, name) for name in ("subject_id", "patient_id", "phase")}
                row |= {"fold": fold, "slice": number, "slice_mm": float(cache.slice_mm[index])}
                for name, of_true, of_pred in zip(STRUCTURES, true, pred, strict=True):
                    row |= {f"{name}_true_cm2": float(of_true), f"{name}_pred_cm2": float(of_pred)}
                rows.append(row)
    return rows


def error_table(rows):
    """Errors of the volumes, by what of the truth is taken as known.

    Parameters
    ----------
    rows : list of dict
        Of `slice_rows`.

    Returns
    -------
    list of dict
        structure, phase (of which there are stacks), known; ``mae_ml`` and ``bias_ml`` over the stacks.
    """
    stacks = {}
    for row in rows:
        stacks.setdefault((row["subject_id"], row["phase"]), []).append(row)
    table = []
    for name in STRUCTURES:
        for phase in (*PHASES, "both"):
            chosen = [stack for (_, own), stack in stacks.items() if phase in (own, "both")]
            for known in KNOWN if chosen else ():
                errors_ml = np.array([_error_ml(stack, name, known) for stack in chosen])
                errors = {"mae_ml": float(np.abs(errors_ml).mean()), "bias_ml": float(errors_ml.mean())}
                table.append({"structure": name, "phase": phase, "known": known, "num_stacks": len(chosen), **errors})
    return table


def _error_ml(stack, name, known):
    stack = sorted(stack, key=lambda row: row["slice"])
    true, pred = (np.array([row[f"{name}_{kind}_cm2"] for row in stack]) for kind in ("true", "pred"))
    there = np.flatnonzero(true > 0)
    if known in ("extent", "both"):
        pred = np.where(true > 0, pred, 0.0)
    if known in ("base", "both") and there.size:
        pred[there[0]] = true[there[0]]
    return float((pred - true).sum() * stack[0]["slice_mm"] / 10)


def format_table(table):
    """The table as text: the mean absolute error (ml) and the bias in brackets, by what is known.

    Parameters
    ----------
    table : list of dict

    Returns
    -------
    str
    """
    lines = [["", "phase", "n", *KNOWN.values()]]
    cells = {(row["structure"], row["phase"], row["known"]): row for row in table}
    for name, phase in dict.fromkeys((row["structure"], row["phase"]) for row in table):
        own = [cells[name, phase, known] for known in KNOWN]
        lines.append(
            [name, phase, str(own[0]["num_stacks"]), *(f"{row['mae_ml']:.1f} ({row['bias_ml']:+.1f})" for row in own)]
        )
    return aligned(lines)


if __name__ == "__main__":
    sys.exit(main())
