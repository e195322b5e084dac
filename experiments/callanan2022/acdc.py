"""Healthy (NOR) against diseased on ACDC: does the heatmap loss keep a network of real stacks to the heart?

python -m experiments.callanan2022.acdc run --data ACDC --out runs/callanan2022
python -m experiments.callanan2022.acdc report --out runs/callanan2022 --save experiments/callanan2022/results

``run`` skips what is there and goes on with what was stopped, so that processes can share arms and folds.
"""

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from experiments.callanan2022.acdc_protocol import ARMS, SMOKE, TAP, Protocol, folds_of
from experiments.callanan2022.acdc_reporting import (
    ArmRuns,
    arm_row,
    commits_of,
    comparisons,
    constant_row,
    table_lines,
    with_correction,
)
from experiments.callanan2022.acdc_training import HISTORY, PREDICTIONS, TRAINING_PREDICTIONS, WEIGHTS, train
from hcreg import runs
from hcreg.cardiac_volumes.running import read_stacks
from hcreg.datasets import synthetic
from hcreg.datasets.acdc import ACDC
from hcreg.datasets.volume_cache import FramePreparation, VolumeCache
from hcreg.files import read_rows, write_json, write_rows
from hcreg.layers import HiResCAM
from hcreg.plotting import saliency_grid, save
from hcreg.preprocessing.volumes import Frame
from hcreg.progress import progress_bar
from hcreg.provenance import provenance
from hcreg.training import load_weights

NAME = "acdc"
SMOKE_PATIENTS = 10
_FIGURE_PATIENTS, _FIGURE_SEED = 4, 20  # of synthetic hearts: NOR, DCM, HCM, MINF
_PREDICTION_COLUMNS = {"text": ("subject_id", "patient_id", "phase", "group"), "integers": ("fold", "seed", "diseased")}


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit status, 0.

    Raises
    ------
    SystemExit
        If the arguments are none, saying on standard error what is expected.
    """
    parser = argparse.ArgumentParser(prog=NAME, description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("run", "report"):
        command = commands.add_parser(name)
        command.add_argument("--out", type=Path, required=True, help="folder of the runs")
        command.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS), metavar="ARM")
        command.add_argument("--folds", nargs="+", type=int, help="numbers from 0, by default all")
        command.add_argument("--seeds", nargs="+", type=int, default=[0], metavar="SEED")
        command.add_argument("--smoke", action="store_true", help="small stacks and one epoch, for a look")
        if name == "run":
            command.add_argument("--data", type=Path, help="ACDC's folder; with --smoke by default a synthetic cohort")
            command.add_argument("--epochs", type=int, help=f"by default {Protocol.epochs}")
            command.add_argument("--cache", type=Path, help="folder to keep prepared stacks in, patients' images")
        else:
            command.add_argument("--save", type=Path, help="where tables and the figure go, by default --out")
    options = parser.parse_args(arguments)
    protocol = SMOKE if options.smoke else Protocol()
    options.folds = options.folds or list(range(protocol.num_folds))
    wrong = [fold for fold in options.folds if not 0 <= fold < protocol.num_folds]
    if wrong:
        parser.error(f"--folds are numbers from 0 to {protocol.num_folds - 1}. Received: {' '.join(map(str, wrong))}.")
    if getattr(options, "epochs", None) is not None and options.epochs < 1:
        parser.error(f"--epochs is 1 or more. Received: {options.epochs}.")
    if options.command == "run" and options.data is None and not options.smoke:
        parser.error("--data is needed, ACDC's folder as downloaded; or --smoke, for a look at a synthetic cohort.")
    folder = options.out / ("smoke" if options.smoke else "") / NAME
    if options.command == "run":
        run(folder, protocol if options.epochs is None else replace(protocol, epochs=options.epochs), options)
    else:
        report(folder, options)
    return 0


def run(folder, protocol, options):
    """Train and test the networks that are not there yet.

    Parameters
    ----------
    folder : pathlib.Path
        Of the runs; see `run_folder`.
    protocol : Protocol
    options : argparse.Namespace
        ``data``, ``cache``, ``arms``, ``seeds`` and ``folds`` of the command line.

    Raises
    ------
    ValueError
        If the data cannot be used, or a folder holds a run of other settings.
    FloatingPointError
        If a training diverged.
    """
    root = options.data or synthetic.cardiac_volumes(folder / "cohort", SMOKE_PATIENTS, seed=1)
    dataset = ACDC(root)
    folds = folds_of(dataset, protocol)
    cache = read_stacks(dataset, FramePreparation(protocol.frame), options.cache)
    turns = [(seed, fold, arm) for seed in options.seeds for fold in options.folds for arm in options.arms]
    with progress_bar() as bar:
        task = bar.add_task("acdc", total=len(turns) * protocol.epochs)
        for number, (seed, fold, arm) in enumerate(turns, start=1):
            bar.update(task, description=f"{arm}, seed {seed}, fold {fold}")
            record = train(
                ARMS[arm],
                protocol,
                cache,
                folds[fold],
                run_folder(folder, arm, seed, fold),
                fold,
                seed,
                on_epoch=lambda: bar.advance(task),
            )
            bar.update(task, completed=number * protocol.epochs)
            seconds = [f"{record[f'{part}_seconds']:.0f} s of {part}" for part in ("training", "measuring")]
            print(f"{arm}, seed {seed}, fold {fold}: {', '.join(seconds)}", file=sys.stderr, flush=True)


def run_folder(folder, arm, seed, fold):
    """Where the run of one arm, seed and fold lies.

    Parameters
    ----------
    folder : pathlib.Path
        Of all runs.
    arm : str
    seed, fold : int

    Returns
    -------
    pathlib.Path
    """
    return folder / arm / f"seed_{seed}" / f"fold_{fold}"


def report(folder, options):
    """Write the tables and the figure, and print them.

    Parameters
    ----------
    folder : pathlib.Path
        Of the runs.
    options : argparse.Namespace
        ``save``, ``arms``, ``seeds`` and ``folds`` of the command line; the first arm is compared with each other.

    Raises
    ------
    ValueError
        If a run is missing or not finished, or runs are of different data or settings.
    """
    found = {arm: read_runs(folder, arm, options.seeds, options.folds) for arm in options.arms}
    records = [record for runs_of_arm in found.values() for record in runs_of_arm.records]
    check_alike(records)
    settings = {name: records[0]["arguments"][name] for name in ("protocol", "augmentation", "data")}
    # before anything is written: tables written into a checkout would count as changes since its commit
    made = {"command": _command(options), "commits_of_runs": commits_of(records), **settings, **provenance()}
    saved = options.save or folder
    table = [arm_row(arm, of_arm) for arm, of_arm in found.items()]
    table.append(constant_row(table[0]))
    first, *others = found
    pairs = [test for other in others for test in comparisons(found[first].rows, found[other].rows, first, other)]
    tests = with_correction(pairs)
    write_rows(saved / "acdc.csv", table)
    write_rows(saved / "acdc_tests.csv", tests)
    write_rows(saved / "acdc_predictions.csv", [{"arm": arm, **row} for arm in found for row in found[arm].rows])
    write_rows(saved / "acdc_history.csv", [{"arm": arm, **row} for arm in found for row in found[arm].history])
    write_json(saved / "acdc.json", made)
    print("\n".join(table_lines(table, tests)))
    protocol = records[0]["arguments"]["protocol"]
    protocol = Protocol(**{**protocol, "frame": Frame(**protocol["frame"])})
    fold, seed = options.folds[0], options.seeds[0]
    places = {arm: run_folder(folder, arm, seed, fold) / WEIGHTS for arm in options.arms}
    save(map_figure(places, protocol), saved / "acdc_maps.png")


def read_runs(folder, arm, seeds, folds):
    """What the runs of an arm left.

    Parameters
    ----------
    folder : pathlib.Path
        Of all runs.
    arm : str
    seeds, folds : sequence of int

    Returns
    -------
    ArmRuns

    Raises
    ------
    ValueError
        If a run is missing or not finished, naming it and the command that makes it.
    """
    found = ArmRuns([], [], [], [])
    for seed in seeds:
        for fold in folds:
            place = run_folder(folder, arm, seed, fold)
            record = runs.read_run(place) if (place / runs.RUN_FILE).is_file() else {"status": "missing"}
            if record["status"] != "finished":
                raise ValueError(
                    f"{place} is not finished: the table needs seeds {', '.join(map(str, seeds))} and folds "
                    f"{', '.join(map(str, folds))} of {arm}. Call run again, which goes on; or name fewer with --arms, "
                    "--seeds and --folds."
                )
            found.records.append(record)
            found.rows.extend(read_rows(place / PREDICTIONS, **_PREDICTION_COLUMNS))
            found.training_rows.extend(read_rows(place / TRAINING_PREDICTIONS, **_PREDICTION_COLUMNS))
            found.history.extend({"seed": seed, "fold": fold, **row} for row in read_rows(place / HISTORY))
    return found


def check_alike(records):
    """Refuse to put runs into one table that differ in more than arm, seed and fold.

    Parameters
    ----------
    records : list of dict
        Of ``run.json``.

    Raises
    ------
    ValueError
        If settings, augmentation or data of two of them differ, naming which.
    """
    for name in ("protocol", "augmentation", "data"):
        if any(record["arguments"][name] != records[0]["arguments"][name] for record in records):
            raise ValueError(
                f"The runs are not alike in their {name}, so that a difference between arms would not be the loss's. "
                "Give each setting an --out of its own."
            )


def map_figure(weights, protocol):
    """HiResCAM maps of synthetic hearts, by networks of each arm: patients' images are not to be shown.

    Parameters
    ----------
    weights : dict of str to path
        Weights of a network of each arm.
    protocol : Protocol

    Returns
    -------
    matplotlib.figure.Figure
        The slice next to the middle, at ED.
    """
    with tempfile.TemporaryDirectory() as root:
        dataset = ACDC(synthetic.cardiac_volumes(root, _FIGURE_PATIENTS, _FIGURE_SEED, num_workers=1))
        records = [record for record in dataset if record.phase == "ED"]
        cache = VolumeCache(records, FramePreparation(protocol.frame), num_workers=1)
    images = np.stack([stack["image"] for stack in cache.stacks])
    middle = images.shape[3] // 2
    maps = {}
    for arm, path in weights.items():
        model = protocol.network(seed=0)
        load_weights(model, path)
        found = keras.ops.convert_to_numpy(HiResCAM.tap(model, TAP)(images[..., None])["maps"])[..., middle, 0]
        scale = images.shape[1] // found.shape[1], images.shape[2] // found.shape[2]
        maps[arm.replace("_", " ")] = [np.kron(cells, np.ones(scale)) for cells in found]
    return saliency_grid({record.group: image[..., middle] for record, image in zip(records, images)}, maps)


def _command(options):
    lists = {"arms": options.arms, "seeds": options.seeds, "folds": options.folds}
    words = [f"--out {options.out}"] + ["--smoke"] * options.smoke
    words += [f"--{name} {' '.join(map(str, values))}" for name, values in lists.items()]
    words += [] if options.save is None else [f"--save {options.save}"]
    return f"python -m experiments.callanan2022.acdc report {' '.join(words)}"


if __name__ == "__main__":
    sys.exit(main())
