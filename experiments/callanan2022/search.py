"""The thesis's search: the learning rate of each loss by Bayesian optimisation, trials kept in PostgreSQL.

python -m experiments.callanan2022.search run --out runs/callanan2022
python -m experiments.callanan2022.search report --out runs/callanan2022 --save experiments/callanan2022/results

``run`` may be called in any number of terminals, or with ``--database`` on any number of machines: they share the
trials, and what is stopped goes on. ``--network vgg16`` has the thesis's network and ranges.
"""

import argparse
import logging
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from experiments.callanan2022.comparison import SMOKE
from experiments.callanan2022.measures import overlap_rows
from experiments.callanan2022.protocol import (
    ACCEPTED_ACCURACY,
    ARMS,
    DEFAULT,
    Data,
    compiled,
    images,
    inputs_of,
)
from hcreg import models, statistics
from hcreg.files import write_json, write_rows
from hcreg.losses import HeatmapMonitor
from hcreg.plotting import save
from hcreg.plotting.trials import learning_rate_curve
from hcreg.provenance import provenance
from hcreg.tuning.search import learning_rate_search, open_store

OBJECTIVE = "val_accuracy"
SEARCHED = {arm.name: arm for arm in (*ARMS.values(), DEFAULT) if arm.start == "scratch"}
NUM_TRIALS = 30
EPOCHS = {1: 10, 2: 5}
BATCH_SIZE = 16
# Of the thesis, for VGG16, by arm; a small network takes rates a hundred times as large.
VGG16_RANGES = {"cross_entropy": (5e-6, 1e-3)}
VGG16_HEATMAP_RANGE = (5e-7, 5e-5)
SMALL_RANGE = (1e-4, 1e-1)
TAPS = {"small": "conv4", "vgg16": "block5_conv3"}


def main(arguments=None):
    """Run the script's command line.

    Parameters
    ----------
    arguments : list of str, optional

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "report"):
        options = commands.add_parser(command)
        options.add_argument("--out", type=Path, required=True, help="folder of the weights, and of the database")
        options.add_argument("--database", help="DSN, or name of an environment variable that holds one")
        options.add_argument("--experiment", type=int, choices=(1, 2), default=2)
        options.add_argument("--arms", nargs="+", choices=list(SEARCHED), default=["cross_entropy", "heatmap_default"])
        options.add_argument("--network", choices=list(TAPS), default="small")
        options.add_argument("--smoke", action="store_true", help="few images, trials and epochs, for a look")
        if command == "run":
            options.add_argument("--trials", type=int, default=NUM_TRIALS, help="of each arm (default: %(default)s)")
            options.add_argument("--epochs", type=int, help="by default 10, of experiment 2 five")
            options.add_argument("--seed", type=int, default=0)
        else:
            options.add_argument("--save", type=Path, help="where tables and figures go, by default --out")
    options = parser.parse_args(arguments)
    if options.command == "run":
        run(options)
    else:
        report(options)
    return 0


def study_of(options, arm):
    """Name of an arm's search.

    Parameters
    ----------
    options : argparse.Namespace
    arm : str

    Returns
    -------
    str
    """
    return f"callanan2022_experiment{options.experiment}_{options.network}_{arm}{'_smoke' if options.smoke else ''}"


def run(options):
    """Search the learning rate of each arm, with whoever else searches it.

    Parameters
    ----------
    options : argparse.Namespace
    """
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of many models, each traced once
    data = Data(options.experiment, **(SMOKE if options.smoke else {}))
    epochs = options.epochs or (1 if options.smoke else EPOCHS[options.experiment])
    channels = 3 if options.network == "vgg16" else 1
    parts = {part: images(data, part, options.seed) for part in ("train", "validation", "test")}
    train, validation = (inputs_of(parts[part], channels) for part in ("train", "validation"))
    steps = epochs * -(-data.num_train // BATCH_SIZE)
    for name in options.arms:
        trained = Trained(options.network, SEARCHED[name], steps)
        low, high = _range_of(options.network, name)
        learning_rate_search(
            partial(build, trained),
            train,
            validation,
            low,
            high,
            3 if options.smoke else options.trials,
            epochs,
            study_of(options, name),
            options.database,
            folder=options.out / "search",
            objective=OBJECTIVE,
            direction="max",
            seed=options.seed,
            batch_size=BATCH_SIZE,
            measures=partial(measure, trained, parts),
            callbacks=[HeatmapMonitor()],
            attributes={"experiment": options.experiment, "arm": asdict(SEARCHED[name]), "data": asdict(data)}
            | {"network": options.network, "learning_rates": [low, high], "weights_folder": str(options.out)},
        )


class Trained:
    """The network that is trained now, and how.

    Parameters
    ----------
    network : {"small", "vgg16"}
    arm : experiments.callanan2022.protocol.Arm
    steps : int
        Of training.
    """

    def __init__(self, network, arm, steps):
        self.network, self.arm, self.steps = network, arm, steps
        self.model = None

    @property
    def tap(self):
        """Layer whose maps the loss weighs."""
        return TAPS[self.network]


def build(trained, learning_rate):
    """Build a network of an arm, ready to be trained with this learning rate.

    Parameters
    ----------
    trained : Trained
        Gets the network itself.
    learning_rate : float

    Returns
    -------
    keras.Model
        Its twin that is trained, sharing its weights.
    """
    trained.model = models.vgg16_classifier() if trained.network == "vgg16" else models.cnn_classifier()
    return compiled(trained.model, trained.tap, trained.arm, learning_rate, trained.steps)


def measure(trained, parts, guided):
    """The record of a trial: accuracies, and the share of relevance in each region, class by class.

    Parameters
    ----------
    trained : Trained
        Of whose network `guided` is the twin.
    parts : dict of str to hcreg.datasets.synthetic.CardiacMRI
    guided : keras.Model

    Returns
    -------
    dict of str to float
        ``<part>_accuracy`` of all three parts, ``<region>_<class>`` of the test images, ``<region>`` their mean over
        classes: the pooled share of positive relevance.
    """
    if {id(variable) for variable in trained.model.variables} - {id(variable) for variable in guided.variables}:
        raise ValueError("the network measured is not the one that was trained")
    measures = {}
    for part, those in parts.items():
        rows, measures[f"{part}_accuracy"] = overlap_rows(trained.model, trained.tap, those)
    for row in rows:  # of the test images, the last
        is_mean = row["class_name"] == "mean of classes"
        if row["part"] == "positive" and np.isfinite(row["pooled_share"]):
            region = row["region"].replace(" ", "_")
            measures[region if is_mean else f"{region}_{row['class_name']}"] = row["pooled_share"]
    return measures


def report(options):
    """Write the trials of each arm and their figure; print how the arms compare.

    Parameters
    ----------
    options : argparse.Namespace
    """
    store, folder = open_store(options.database, options.out / "search"), options.save or options.out
    hearts = {}
    for name in options.arms:
        study = study_of(options, name)
        rows = store.table(study)
        stem = f"search{options.experiment}_{name}"
        write_rows(folder / f"{stem}.csv", [_committed(row) for row in rows])
        figure = learning_rate_curve(rows, direction="max", label="validation accuracy", title=f"{study}")
        save(figure, folder / f"{stem}.png")
        accepted = [row for row in rows if row["state"] == "completed" and row["objective"] > ACCEPTED_ACCURACY]
        hearts[name] = [row["metric_heart"] for row in accepted if row["metric_heart"] is not None]
        print(summary_line(name, rows, accepted))
    write_json(folder / f"search{options.experiment}.json", {"command": f"python -m {__spec__.name}", **provenance()})
    if len(hearts) == 2 and min(map(len, hearts.values())) >= 3:
        first, second = hearts.values()
        found = statistics.compare_groups(first, second)
        print(
            f"relevance in the heart, {' against '.join(hearts)}: U = {found.u:.0f}, p {found.p_value:.2g} "
            f"({found.method}), d {found.cohens_d:.2f}"
        )


def summary_line(name, rows, accepted):
    """One arm in a line of the README.

    Parameters
    ----------
    name : str
    rows, accepted : list of dict
        Of `TrialStore.table`, or of the committed table.

    Returns
    -------
    str
    """
    states = [row["state"] for row in rows]
    rates = [row["hp_learning_rate"] for row in accepted]
    hearts = [row["metric_heart"] for row in accepted]
    line = f"{name:20s} {len(rows):3d} trials, {states.count('diverged')} diverged, {len(accepted)} accepted"
    if not accepted:
        return line
    return (
        f"{line}: learning rates {min(rates):.1e} to {max(rates):.1e}, "
        f"heart {np.mean(hearts):.4f} ± {np.std(hearts, ddof=1) if len(hearts) > 1 else 0:.4f}"
    )


def _committed(row):
    """A trial without what tells where it ran."""
    return {name: value for name, value in row.items() if name not in ("host", "model_path", "message")}


def _range_of(network, arm):
    if network == "small":
        return SMALL_RANGE
    return VGG16_RANGES.get(arm, VGG16_HEATMAP_RANGE)


if __name__ == "__main__":
    sys.exit(main())
