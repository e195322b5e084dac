"""What the paper says once for its section on explanations: networks, analyzers with their settings, images.

Departures from the paper, each for a reason given in README.rst: networks that stand in for VGG16 and ResNet50, images
of the networks' own sizes, a sound protocol beside the paper's.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.zhang2021.protocol import FOLDER
from hcreg import runs
from hcreg.analyzers import create_analyzer
from hcreg.datasets import HC18
from hcreg.datasets.batches import Batches, ImageCache
from hcreg.datasets.splits import read_split
from hcreg.files import read_rows
from hcreg.measurement import TrainedRegressor
from hcreg.training import BEST_WEIGHTS

FOLD = 0
NUM_SAMPLES = 64  # of SmoothGrad and IntegratedGradients
# the regressors, then the networks that measure their own mask: explained is the circumference in either case
MODELS = (
    "cnn_1m_mae",
    "cnn_1m_mse",
    "cnn_1m_huber",
    "densenet121_mae",
    "unet_ellipse",
    "densenet121_unet_ellipse",
)
# the paper's settings; SmoothGrad's noise is made in `make_analyzer`
ANALYZERS = {
    "gradient": {"postprocess": "abs"},
    "smoothgrad": {"postprocess": "square"},
    "deconvnet": {},
    "guided_backprop": {},
    "deep_taylor.bounded": {"low": -1.0, "high": 1.0},
    "input_t_gradient": {},
    "integrated_gradients": {"reference_inputs": -1.0},
    "lrp.z": {},
}
SMOOTHGRAD_NOISE = 0.2

_EXAMPLE = "runs/zhang2020 runs/zhang2021"


@dataclass(frozen=True, eq=False)
class Explained:
    """A trained network and the images on which it is explained.

    Attributes
    ----------
    name : str
        Of the row that trained it.
    network : keras.Model
    images : ndarray of float32, shape (num_images, height, width, channels)
        As the network takes them.
    records : list of hcreg.datasets.HC18Record
    mm_per_output : ndarray of shape (num_images,), mm
        What one unit of the network's output is in each image.
    """

    name: str
    network: object
    images: np.ndarray
    records: list
    mm_per_output: np.ndarray

    @property
    def hc_mm(self):
        """Annotated head circumference of each image, mm."""
        return np.array([record.hc_mm for record in self.records])

    @property
    def pixel_size_mm(self):
        """Of each image, mm."""
        return np.array([record.pixel_size_mm for record in self.records])

    @property
    def examinations(self):
        """Examination of each image: (num_images,) of str."""
        return np.array([record.examination_id for record in self.records])


def make_analyzer(name, network, num_samples=NUM_SAMPLES):
    """An analyzer with the paper's settings.

    Parameters
    ----------
    name : str
        Of `ANALYZERS`.
    network : keras.Model
    num_samples : int
        Of SmoothGrad and IntegratedGradients.

    Returns
    -------
    hcreg.analyzers.base.Analyzer

    Notes
    -----
    SmoothGrad's noise of 0.2 is in grey values of the network's input, standard deviations of an image here, as it was
    in the version of iNNvestigate that the paper used; hcreg's own default is a fraction of the image's range, which is
    five to ten times as much on standardised images.
    """
    options = dict(ANALYZERS[name])
    if name == "smoothgrad":
        shape = (num_samples, *network.inputs[0].shape[1:])
        noise = SMOOTHGRAD_NOISE * np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        options |= {"noise": noise, "augment_by_n": num_samples, "compat": "innvestigate"}  # noise as it is
    if name == "integrated_gradients":
        options["steps"] = num_samples
    return create_analyzer(name, network, **options)


def find_model(roots, name, fold=FOLD):
    """The run folder of a trained network, with its weights.

    Parameters
    ----------
    roots : sequence of path-like
        Folders of runs, ``<root>/<name>/fold_<k>``; the first that has it counts.
    name : str
    fold : int

    Returns
    -------
    pathlib.Path

    Raises
    ------
    FileNotFoundError
        If none has a finished run with weights.
    """
    for root in roots:
        folder = Path(root) / name / f"fold_{fold}"
        if (folder / runs.RUN_FILE).is_file() and (folder / BEST_WEIGHTS).is_file():
            return folder
    raise FileNotFoundError(
        f"There is no trained {name} with its weights: expected {name}/fold_{fold}/{BEST_WEIGHTS} in "
        f"{', '.join(map(str, roots)) or 'a folder of --models-root'}. Train it with its table's script "
        f"(zhang2020.table1, zhang2021.table1 or table4) and name the folders of runs: --models-root {_EXAMPLE}."
    )


def choose_images(records, num_images, seed):
    """Images drawn by seed, each trimester in its proportion; fewer are the first of more.

    Parameters
    ----------
    records : sequence of HC18Record
    num_images : int or None
        All where None.
    seed : int

    Returns
    -------
    list of HC18Record

    Raises
    ------
    ValueError
        If there are fewer.
    """
    records = sorted(records, key=lambda record: record.subject_id)
    if num_images is None:
        num_images = len(records)
    if not 1 <= num_images <= len(records):
        raise ValueError(f"--images takes 1 to {len(records)}, the test images of the fold. Received: {num_images}.")
    generator = np.random.default_rng(seed)
    places = {}
    for trimester in sorted({record.trimester for record in records}):
        members = [record for record in records if record.trimester == trimester]
        for rank, member in enumerate(generator.permutation(len(members))):
            places[members[member].subject_id] = (rank + 0.5) / len(members)  # the trimesters interleaved
    return sorted(records, key=lambda record: (places[record.subject_id], record.subject_id))[:num_images]


def test_images(data, folders, num_images, seed):
    """Images of the fold's test part, the same for every network.

    Parameters
    ----------
    data : path-like
        HC18 folder.
    folders : dict of str to path-like
        Run folder of each network.
    num_images, seed
        As in `choose_images`.

    Returns
    -------
    list of HC18Record

    Raises
    ------
    ValueError
        If the networks were trained on different splits, or the data lack a test image.
    """
    checksums = {name: runs.read_run(folder)["split_checksum"] for name, folder in folders.items()}
    if len(set(checksums.values())) > 1:
        raise ValueError(
            f"The networks were trained on different splits: {checksums}. A test image of one may be a training image "
            "of another; name runs of one split in --models-root."
        )
    tested = read_split(next(iter(folders.values())) / "split.csv")["test"]
    records = {record.subject_id: record for record in HC18(data)}
    missing = [subject_id for subject_id in tested if subject_id not in records]
    if missing:
        raise ValueError(
            f"{data} lacks {len(missing)} test image(s) of the networks, the first: {', '.join(missing[:5])}. Name the "
            "folder they were trained on in --data."
        )
    return choose_images([records[subject_id] for subject_id in tested], num_images, seed)


def explained(folder, records, check=True):
    """A trained network with its images.

    Parameters
    ----------
    folder : path-like
        Run folder.
    records : list of HC18Record
    check : bool
        Compare its predictions with those the run has written.

    Returns
    -------
    Explained

    Raises
    ------
    ValueError
        If the weights do not predict what the run's ``predictions.csv`` says.
    """
    regressor = TrainedRegressor(folder)
    name = Path(folder).parent.name
    cache = ImageCache(records, regressor.input_shape, with_ellipses=False)
    batches = Batches(
        cache,
        range(len(records)),
        regressor.scale_px,
        normalisation=regressor.normalisation,
        num_channels=regressor.input_shape[2],
    )
    images, _ = batches.arrays()
    found = Explained(name, regressor.model, images, list(records), regressor.scale_px / cache.reference_px_per_mm)
    if check:
        _check_predictions(found, folder)
    return found


def _check_predictions(found, folder):
    outputs = found.network.predict(found.images, batch_size=8, verbose=0)
    fractions = outputs["hc_fraction"] if isinstance(outputs, dict) else outputs
    predicted_mm = np.asarray(fractions, float).reshape(-1) * found.mm_per_output
    written = {row["subject_id"]: row["y_pred_mm"] for row in read_rows(Path(folder) / "predictions.csv")}
    for record, hc_mm in zip(found.records, predicted_mm):
        expected_mm = written.get(record.subject_id, float("nan"))  # NaN where its mask had no outline
        if abs(hc_mm - expected_mm) > 0.05:
            raise ValueError(
                f"{folder}: its weights predict {hc_mm:.2f} mm for {record.subject_id}, its predictions.csv says "
                f"{expected_mm:.2f} mm. Weights, table and data do not belong together; train the run again."
            )


def parser_of(script, description, *, pictures=False):
    """A command line of ``run`` and ``report``.

    Parameters
    ----------
    script : str
        "table8" and so on.
    description : str
    pictures : bool
        Whether the script draws one image, which may be named.

    Returns
    -------
    parser, run, report : argparse.ArgumentParser
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{FOLDER}.{script}", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="compute; what is there is not computed again")
    given = "without it a synthetic head is drawn" if pictures else "the HC18 folder as downloaded"
    run.add_argument("--data", type=Path, help=f"the HC18 folder; {given}" if pictures else given)
    run.add_argument(
        "--models-root",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help=f"folders of trained runs, such as {_EXAMPLE}",
    )
    run.add_argument("--seed", type=int, default=0)
    if pictures:
        run.add_argument("--subject", help="the test image to draw, such as 138_HC; with --data only")
    report = commands.add_parser("report", help="tables and charts from what run has written")
    report.add_argument("--save", type=Path, metavar="DIR", help="write them there, by default into --out")
    for command in (run, report):
        command.add_argument("--out", type=Path, help=f"by default runs/{FOLDER}_explanations")
        command.add_argument("--smoke", action="store_true", help="tiny networks on synthetic images: does it run?")
    return parser, run, report


def execute(script, parser, run, report, arguments):
    """Parse a command line and run it, with errors as messages.

    Parameters
    ----------
    script : str
    parser : argparse.ArgumentParser
    run, report : callable
        Each takes the options.
    arguments : list of str or None

    Returns
    -------
    int
    """
    options = parser.parse_args(arguments)
    if options.out is None:
        options.out = Path("runs") / (f"{FOLDER}_explanations" + ("_smoke" if options.smoke else ""))
    try:
        if options.command == "run" and options.smoke:
            from experiments.zhang2021.smoke_models import train

            trained = train(options.out)
            options.data = options.data or trained["data"]
            options.models_root = options.models_root or [trained["models"]]
        (run if options.command == "run" else report)(options)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"{FOLDER}.{script}: {error}", file=sys.stderr)
        return 1
    return 0
