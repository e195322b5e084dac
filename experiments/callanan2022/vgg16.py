"""The thesis's own network: one VGG16 trained with each loss, as a check of the full-size path.

python -m experiments.callanan2022.vgg16 run --out runs/callanan2022 [--weights vgg16_notop.weights.h5]
python -m experiments.callanan2022.vgg16 report --out runs/callanan2022 --save experiments/callanan2022/results

A stopped run goes on after its last epoch.
"""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from experiments.callanan2022.measures import label_effect, overlap_rows
from experiments.callanan2022.protocol import CROSS_ENTROPY, DEFAULT, HEATMAP, THESIS, Data, fit, images
from hcreg import models
from hcreg.backend import seed_everything
from hcreg.files import plain, read_json, write_json, write_rows
from hcreg.provenance import provenance

TAP = "block5_conv3"
ARMS = {arm.name: arm for arm in (CROSS_ENTROPY, DEFAULT, HEATMAP, THESIS)}
_SMOKE = {"num_train": 4, "num_validation": 4, "num_test": 8}


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog="vgg16", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "report"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, required=True, help="folder of the models")
        command.add_argument(
            "--arms", nargs="+", choices=list(ARMS), default=["cross_entropy", "heatmap_default"], metavar="ARM"
        )
        if name == "report":
            command.add_argument("--save", type=Path, help="where the table goes, by default --out")
            continue
        command.add_argument("--experiment", type=int, choices=(1, 2), default=2)
        command.add_argument("--weights", help='"imagenet" to download, or a file; random weights by default')
        command.add_argument(
            "--images", type=int, default=10_000, help="training images, by default the thesis's 10,000"
        )
        command.add_argument("--epochs", type=int, default=10)
        command.add_argument("--learning-rate", type=float, default=1e-4)
        command.add_argument("--seed", type=int, default=0)
        command.add_argument("--smoke", action="store_true", help="a few images, for a look")
    options = parser.parse_args(arguments)
    folder = options.out / "vgg16"
    if options.command == "run":
        for name in options.arms:
            run_arm(ARMS[name], folder / name, options)
    else:
        report(folder, options)
    return 0


def run_arm(arm, folder, options):
    """Train and measure one network.

    Parameters
    ----------
    arm : experiments.callanan2022.protocol.Arm
    folder : pathlib.Path
    options : argparse.Namespace
    """
    if (folder / "run.json").is_file():
        return
    size = _SMOKE if options.smoke else {"num_train": options.images, "num_validation": 200, "num_test": 1000}
    data = Data(options.experiment, **size)
    epochs = 1 if options.smoke else options.epochs
    # The weight has grown when half of a short run is over.
    arm = replace(arm, ramp_steps=min(arm.ramp_steps, epochs * data.num_train // 32))
    seed_everything(options.seed)
    model = models.vgg16_classifier(weights=options.weights, seed=options.seed)
    history, seconds = fit(model, TAP, arm, data, folder, options.learning_rate, epochs, options.seed, progress=True)
    test = images(data, "test", options.seed)
    overlaps, accuracy = overlap_rows(model, TAP, test)
    write_rows(folder / "overlap.csv", overlaps)
    record = {
        "arguments": {"arm": asdict(arm), "data": asdict(data), "epochs": epochs, "seed": options.seed}
        | {"learning_rate": options.learning_rate, "weights": options.weights},
        "history": history,
        "seconds": seconds,
        "test_accuracy": accuracy,
        **label_effect(model, test),
        "overlaps": {row["region"]: row for row in overlaps if _is_shown(row)},
        **provenance(),
    }
    write_json(folder / "run.json", plain(record))


def report(folder, options):
    """Write and print the table.

    Parameters
    ----------
    folder : pathlib.Path
    options : argparse.Namespace

    Raises
    ------
    ValueError
        If an arm is missing.
    """
    rows = []
    for name in options.arms:
        path = folder / name / "run.json"
        if not path.is_file():
            raise ValueError(f"{path} is missing. Call run for this arm, or name the others with --arms.")
        record = read_json(path)
        arguments, history = record["arguments"], record["history"]
        rows.append(
            {
                "arm": name,
                "experiment": arguments["data"]["experiment"],
                "num_train": arguments["data"]["num_train"],
                "epochs": arguments["epochs"],
                "weights": arguments["weights"] or "random",
                "validation_accuracy": history["val_accuracy"][-1],
                "test_accuracy": record["test_accuracy"],
                "heart_share": record["overlaps"]["heart"]["pooled_share"],
                "fat_share": record["overlaps"]["fat"]["pooled_share"],
                "sex_label_share": record["overlaps"]["sex label"]["mean_share_where_present"],
                "logit_change": record["logit_change"],
                "inflation": history["val_inflation"][-1],
                "relevance": history["val_relevance"][-1],
                "seconds": record["seconds"],
                "commit": record["commit"],
            }
        )
    write_rows((options.save or folder) / "vgg16.csv", rows)
    print("\n".join(table_lines(rows)))


def table_lines(rows):
    """The table as text, as README.rst has it.

    Parameters
    ----------
    rows : list of dict
        Of ``vgg16.csv``.

    Returns
    -------
    list of str
    """
    lines = ["network and loss        accuracy   heart     fat   sex label  logit change"]
    for row in rows:
        shares = [row[f"{region}_share"] for region in ("heart", "fat", "sex_label")]
        shown = [
            f"{share:{form}}" if share is not None and np.isfinite(share) else "-"
            for share, form in zip(shares, (".3f", ".4f", ".5f"), strict=True)
        ]
        lines.append(
            f"{row['arm']:22s} {row['test_accuracy']:9.3f} {shown[0]:>7s} {shown[1]:>7s} {shown[2]:>11s} "
            f"{row['logit_change']:13.5f}"
        )
    return lines


def _is_shown(row):
    return row["part"] == "positive" and row["class_name"] == "mean of classes"


if __name__ == "__main__":
    sys.exit(main())
