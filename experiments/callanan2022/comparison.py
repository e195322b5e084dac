"""Many models of several arms, trained and measured: what the two experiments share."""

import argparse
import logging
import sys
from pathlib import Path

import keras
import numpy as np

from experiments.callanan2022.figures import map_grid
from experiments.callanan2022.measures import label_effect, overlap_rows
from experiments.callanan2022.pretraining import pretrained_features
from experiments.callanan2022.protocol import (
    ACCEPTED_ACCURACY,
    ARMS,
    TAP,
    WEIGHTS,
    Data,
    as_network_input,
    images,
    learning_rates,
    train,
)
from experiments.callanan2022.reporting import report
from hcreg import models
from hcreg.files import plain, read_json, read_rows, write_json, write_rows
from hcreg.plotting import save
from hcreg.progress import progress_bar

NUM_MODELS = 12
EPOCHS = {1: 10, 2: 5}  # sizes tell the classes of experiment 2 apart, and are learned in one epoch
SMOKE = {"num_train": 64, "num_validation": 16, "num_test": 16}
_SMOKE_MODELS, _SMOKE_EPOCHS = 3, 1
_GRAD_CAM_IMAGES, _EFFECT_IMAGES, _GRID_IMAGES = 2000, 2000, 64


def main(experiment, arguments=None):
    """Command line of an experiment.

    Parameters
    ----------
    experiment : {1, 2}
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog=f"experiment{experiment}", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "report"):
        options = commands.add_parser(command)
        options.add_argument("--out", type=Path, required=True, help="folder of the models")
        options.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
        options.add_argument("--models", type=int, help=f"of each arm, by default {NUM_MODELS}")
        options.add_argument("--smoke", action="store_true", help="few images, models and epochs, for a look")
        if command == "run":
            options.add_argument("--epochs", type=int, help=f"by default {EPOCHS[experiment]}")
            options.add_argument("--seed", type=int, default=0, help="of the first model")
        else:
            options.add_argument("--save", type=Path, help="where tables and figures go, by default --out")
    options = parser.parse_args(arguments)
    options.models = options.models or (_SMOKE_MODELS if options.smoke else NUM_MODELS)
    folder = options.out / ("smoke" if options.smoke else "") / f"experiment{experiment}"
    if options.command == "run":
        run(experiment, folder, options)
    else:
        rows = read_models(folder, options.arms, options.models)
        report(experiment, rows, options.arms, options.save or folder)
        save(_grid(experiment, folder, rows, options), (options.save or folder) / f"experiment{experiment}_maps.png")
    return 0


def run(experiment, folder, options):
    """Train and measure the models that are not there yet.

    Parameters
    ----------
    experiment : {1, 2}
    folder : pathlib.Path
    options : argparse.Namespace
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of many models, each traced once
    data = Data(experiment, **(SMOKE if options.smoke else {}))
    epochs = options.epochs or (_SMOKE_EPOCHS if options.smoke else EPOCHS[experiment])
    rates = learning_rates(options.models)
    arms = [ARMS[name] for name in options.arms]
    features = None
    if any(arm.start != "scratch" for arm in arms):
        size = {"examinations": 14, "epochs": 1} if options.smoke else {}
        features = pretrained_features(folder.parent / "pretrained", **size)
    with progress_bar() as bar:
        task = bar.add_task(f"experiment {experiment}", total=len(arms) * len(rates))
        for number, rate in enumerate(rates):
            for arm in arms:
                run_model(
                    arm, data, folder / arm.name / f"model_{number}", rate, epochs, options.seed + number, features
                )
                bar.advance(task)


def run_model(arm, data, folder, learning_rate, epochs, seed, features=None):
    """Train one model and measure it on the test images, unless that was done.

    Parameters
    ----------
    arm, data, folder, learning_rate, epochs, seed, features
        As of `protocol.train`.
    """
    measured = folder / "measures.json"
    if measured.is_file():
        return
    keras.utils.clear_session()
    model, record = train(arm, data, folder, learning_rate, epochs, seed, features)
    test = images(data, "test", seed)
    overlaps, accuracy = overlap_rows(model, TAP, test)
    overlaps += overlap_rows(model, TAP, first(test, _GRAD_CAM_IMAGES), "grad_cam")[0]
    write_rows(folder / "overlap.csv", overlaps)
    measures = {"test_accuracy": accuracy, **label_effect(model, first(test, _EFFECT_IMAGES))}
    write_json(measured, plain(measures))
    print(
        f"{folder.parent.name} {folder.name}: validation accuracy {record['validation_accuracy']:.3f}, "
        f"test {accuracy:.3f}, {record['seconds']:.0f} s",
        file=sys.stderr,
        flush=True,
    )


def first(part, num_images):
    """The first images of a part.

    Parameters
    ----------
    part : hcreg.datasets.synthetic.CardiacMRI
    num_images : int

    Returns
    -------
    hcreg.datasets.synthetic.CardiacMRI
    """
    return type(part)(*(array[:num_images] for array in part))


def _grid(experiment, folder, rows, options):
    """Maps of the first accepted model of each arm."""
    data = Data(experiment, **(SMOKE if options.smoke else {"num_test": _GRID_IMAGES}))
    networks = {}
    for arm in options.arms:
        chosen = next((row for row in rows if row["arm"] == arm and row["accepted"]), None)
        if chosen is not None or options.smoke:
            networks[arm] = models.cnn_classifier()
            networks[arm].load_weights(folder / arm / f"model_{chosen['model'] if chosen else 0}" / WEIGHTS)
    return map_grid(networks, TAP, images(data, "test", 0), as_network_input)


def read_models(folder, arms, num_models):
    """One row for each model of an experiment.

    Parameters
    ----------
    folder : pathlib.Path
    arms : list of str
    num_models : int

    Returns
    -------
    list of dict

    Raises
    ------
    ValueError
        If a model is missing, naming it and the command that makes it.
    """
    rows = []
    for arm in arms:
        for number in range(num_models):
            place = folder / arm / f"model_{number}"
            if not (place / "measures.json").is_file():
                raise ValueError(
                    f"{place} is not finished: the table needs {num_models} models of each of {', '.join(arms)}. "
                    "Call run again, which goes on; or name fewer with --arms and --models."
                )
            rows.append(_row(arm, number, place))
    return rows


def _row(arm, number, place):
    record, measures = read_json(place / "run.json"), read_json(place / "measures.json")
    history = record["history"]
    row = {
        "arm": arm,
        "model": number,
        "seed": record["arguments"]["seed"],
        "learning_rate": record["arguments"]["learning_rate"],
        "epochs": record["arguments"]["epochs"],
        "validation_accuracy": record["validation_accuracy"],
        "accepted": int(record["validation_accuracy"] > ACCEPTED_ACCURACY),
        "finite": int(all(np.isfinite(values).all() for values in history.values())),
        **measures,
        "inflation": history["val_inflation"][-1],
        "relevance": history["val_relevance"][-1],
        "seconds": record["seconds"],
        "commit": record["commit"],
    }
    columns = ("method", "region", "part", "class_name")
    for overlap in read_rows(place / "overlap.csv", text=columns, integers=("num_images",)):
        if overlap["class_name"] == "mean of classes":
            name = f"{overlap['region']} {overlap['part']} {overlap['method']}".replace(" ", "_")
            is_label = overlap["region"] == "sex label"
            row[name] = overlap["mean_share_where_present" if is_label else "pooled_share"]
    return row
