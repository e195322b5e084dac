"""Options of the commands of ``hcreg``, and their help texts."""

import argparse
import json
import math
import os
import platform
import re
from pathlib import Path

HEAD_MODELS = ("cnn_1m", "cnn_263k", "vgg16_regressor", "resnet50_regressor")
_STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def command_line():
    """The parser of the command line.

    Returns
    -------
    argparse.ArgumentParser
        What it parses has the command's ``name`` and its options.
    """
    parser = argparse.ArgumentParser(
        prog="hcreg", description="Measure anatomy in medical images by regression networks, and show why."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="versions of hcreg and of what it runs on")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    quickstart = commands.add_parser(
        "quickstart",
        help="train a head-circumference regressor and write a report",
        description="Train a direct head-circumference regressor, on synthetic ultrasound made for the occasion or on "
        "the real HC18 folder, and write a report of how well it measures images it has not seen.",
    )
    quickstart.add_argument("--data", type=Path, help="HC18 folder as downloaded; synthetic images are made without it")
    quickstart.add_argument("--output", type=Path, help="default: runs/quickstart, or with --data runs/hc18")
    quickstart.add_argument("--epochs", type=_positive, help="passes over the training images")
    quickstart.add_argument("--seed", type=int, default=0, help="fixes data, split, weights (default: %(default)s)")

    check = commands.add_parser("check", help="list every problem of a folder of HC18, of ACDC or of volumes at once")
    check.add_argument("folder", type=Path)
    check.add_argument(
        "--labels",
        nargs="+",
        type=int,
        default=[0, 1],
        help="values that the label maps of other volumes may have (default: 0 1)",
    )

    measure = commands.add_parser(
        "measure",
        help="measure the head in new images",
        description="Measure the head circumference in ultrasound images with a trained run, of a direct regressor or "
        "of a segmentation network. Without --output the table is printed; a segmentation network's has the fitted "
        "ellipse too, in pixels. Images that could not be measured are listed, and the exit status is then 1.",
    )
    _add_images(measure)
    measure.add_argument("--coverage", type=float, default=0.9, help="of the interval (default: %(default)s)")
    measure.add_argument("--output", type=Path, metavar="FILE", help="write a .csv or .json file instead of printing")
    measure.add_argument(
        "--submission",
        type=Path,
        metavar="FILE",
        help="with a segmentation network: write the ellipses in mm as the CSV that the HC18 challenge takes; only "
        "whole, nothing is written if an image has none",
    )
    measure.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="with a segmentation network: write each image's mask (PNG of 0 and 255, of the image's size and name) "
        "into this folder, and the image with its outline into its subfolder overlays",
    )

    explain = commands.add_parser(
        "explain",
        help="show what in an image a measurement comes from",
        description="Explain the head circumference that a trained run measures in ultrasound images, of a direct "
        "regressor or, through the circumference of its mask, of a segmentation network. For each image a picture "
        "(IMAGE.png: the image and each analyzer's map on it), the maps in mm (IMAGE.npz) and lines of summary.csv. "
        "Images that could not be explained are listed, and the exit status is then 1.",
    )
    _add_images(explain)
    explain.add_argument(
        "--analyzers",
        type=_names,
        metavar="A,B,...",
        help="names of hcreg.analyzers.ANALYZERS, with commas and no spaces, or all (default: six that differ). One "
        "that cannot explain the network is named with its reason and does not stop the others",
    )
    explain.add_argument(
        "--output", type=Path, default=Path("explanations"), metavar="DIR", help="folder (default: %(default)s)"
    )
    explain.add_argument(
        "--compat",
        choices=["innvestigate"],
        help="the numbers of iNNvestigate 2.1.2, its defects included, in the unit of the network's output",
    )
    explain.add_argument(
        "--batch-size",
        type=_positive,
        default=8,
        metavar="N",
        help="images, or perturbed copies of one, at a time: memory grows with it (default: %(default)s)",
    )
    _add_tune(commands)
    _add_trials(commands)
    return parser


def _add_tune(commands):
    export = commands.add_parser(
        "export",
        help="write a trained network as ONNX",
        description="Write the network of a run folder as ONNX, and beside it what measuring needs: `hcreg measure` "
        "takes the file as --model, and so does any other program that runs ONNX.",
    )
    export.add_argument("model", type=Path, metavar="RUN", help="run folder of a trained model, or hc18_direct")
    export.add_argument("--output", type=Path, required=True, metavar="FILE.onnx")

    tune = commands.add_parser(
        "tune",
        help="search for the best learning rate, in as many terminals as you like",
        description="Search for the learning rate with the best result on validation images. Each trial trains one "
        "network; everything it does is kept in a PostgreSQL database, so that the same command started in several "
        "terminals, or on several machines with one --database, works on one study without doing anything twice, and "
        "goes on where it was after Ctrl-C, a crash or a reboot. Without a script a head-circumference regressor is "
        "trained on synthetic ultrasound made for the occasion, or on the real HC18 folder.",
        epilog="Three terminals with `hcreg tune night` share the study night. What came out: hcreg trials list night.",
    )
    tune.add_argument("study", type=_study_name, metavar="STUDY", help="its name; workers of one name work together")
    what = tune.add_argument_group("what is trained: a script, or a head-circumference regressor")
    what.add_argument(
        "--script",
        type=Path,
        metavar="FILE.py",
        help="defines build_model(learning_rate), which returns a compiled keras.Model; data(), which returns "
        "(train, validation); and, if wanted, measures(model), a dict of further numbers to keep of each trial",
    )
    what.add_argument("--model", choices=HEAD_MODELS, help=f"regressor (default: {HEAD_MODELS[0]})")
    what.add_argument(
        "--data",
        type=Path,
        metavar="HC18",
        help="HC18 folder as downloaded; synthetic images are made without it. Of its grouped split the training and "
        "validation parts are used, the test part is not touched",
    )
    what.add_argument(
        "--num-examinations", type=_positive, metavar="N", help="size of the synthetic cohort (default: 220)"
    )
    what.add_argument(
        "--augmentation",
        choices=("none", "zhang2021", "default", "strong"),
        help="of the regressor's training images (default: default)",
    )
    search = tune.add_argument_group("the search")
    search.add_argument("--low", type=_learning_rate, default=1e-5, help="lowest learning rate (default: %(default)s)")
    search.add_argument("--high", type=_learning_rate, default=1e-1, help="highest (default: %(default)s)")
    search.add_argument("--max-trials", type=_positive, default=30, metavar="N", help="default: %(default)s")
    search.add_argument("--epochs", type=_positive, default=20, metavar="N", help="of a trial (default: %(default)s)")
    search.add_argument("--patience", type=_positive, metavar="N", help="end a trial N epochs after its best one")
    search.add_argument("--batch-size", type=_positive, metavar="N", help="default: 8, with --script 32")
    search.add_argument(
        "--objective",
        metavar="NAME",
        help="what a trial is judged by, as Keras logs it (default: val_loss; of the regressor val_mae_px, the mean "
        "absolute error of the validation images in pixels)",
    )
    search.add_argument(
        "--direction",
        choices=("min", "max"),
        help="whether a low or a high objective is good; needed where Keras does not know it from the name",
    )
    search.add_argument(
        "--algorithm", choices=("bayesian", "random", "grid"), default="bayesian", help="default: %(default)s"
    )
    search.add_argument("--seed", type=_natural, default=0, help="of data, split and search (default: %(default)s)")
    search.add_argument(
        "--accept-code-change", action="store_true", help="go on with a study whose script or model was another"
    )
    _add_database(search)
    search.add_argument(
        "--output", type=Path, default=Path("runs", "tuning"), metavar="DIR", help="folder (default: %(default)s)"
    )
    search.add_argument(
        "--shared",
        action="store_true",
        help="the folder is one that all machines reach: weights and states of training go there; without it, and with "
        "a database that was named, they go into the database",
    )


def _add_trials(commands):
    trials = commands.add_parser(
        "trials",
        help="show what searches have found, while they run and after",
        description="Look into the studies of hcreg tune, hcreg.tuning.learning_rate_search and the other tuners of "
        "hcreg.tuning. Nothing is changed, and searches under way are not disturbed.",
    )
    actions = trials.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name, text, **options):
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", **options)
        _add_database(action)
        return action

    listing = add("list", "list the studies, or the trials of one")
    listing.add_argument("study", nargs="?", metavar="STUDY")
    show = add("show", "show what a study searches for and who works on it, or everything about one of its trials")
    show.add_argument("study", metavar="STUDY")
    show.add_argument("number", nargs="?", type=_natural, metavar="NUMBER", help="of a trial")
    best = add("best", "list the best trials of a study, best first")
    best.add_argument("study", metavar="STUDY")
    best.add_argument("-n", type=_positive, default=5, dest="num_trials", metavar="N", help="default: %(default)s")
    plot = add("plot", "draw the objective against the learning rate")
    plot.add_argument("study", metavar="STUDY")
    plot.add_argument("--output", type=Path, required=True, metavar="FILE.png")
    plot.add_argument("--history", action="store_true", help="draw the objective against the epoch instead")
    plot.add_argument("--hyperparameter", metavar="NAME", help="draw against another one than learning_rate")
    export = add("export", "write the trials of a study as CSV, or as an Optuna study for its dashboard")
    export.add_argument("study", metavar="STUDY")
    target = export.add_mutually_exclusive_group(required=True)
    target.add_argument("--csv", type=Path, metavar="FILE")
    target.add_argument("--optuna", metavar="URL", help="Optuna storage, such as sqlite:///trials.db")


class _Version(argparse.Action):
    """Print the versions, looked up when asked for and not before, and end."""

    def __call__(self, parser, namespace, values, option_string=None):
        from hcreg.provenance import package_versions

        versions = package_versions(more=("keras-tuner", "torch"))
        settings = Path.home() / ".keras" / "keras.json"
        written = json.loads(settings.read_text()).get("backend") if settings.is_file() else None
        backend = os.environ.get("KERAS_BACKEND") or written or "tensorflow"
        print(f"hcreg {versions.pop('hcreg')}, Python {platform.python_version()}, {platform.platform()}")
        print(", ".join(f"{package} {number}" for package, number in versions.items()))
        print(f"backend: {backend}")
        parser.exit()


def _add_database(parser):
    parser.add_argument(
        "--database",
        metavar="D",
        help="PostgreSQL of the studies: the name of an environment variable that holds a DSN such as "
        "postgresql://user@host/name, a DSN itself, or the folder of an embedded server. By default the variable "
        "HCREG_DATABASE is read; where it is not set the server is the embedded one in runs/tuning/database (of tune: "
        "in the folder database of its --output)",
    )


def _add_images(parser):
    """The images that a trained run is shown, and the size of their pixels."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("hc18_direct"),
        metavar="RUN",
        help="run folder of a trained model, or %(default)s, the default, which comes with the package",
    )
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument(
        "--pixel-size-mm",
        type=_pixel_size,
        metavar="X",
        help="size of a pixel in mm, of all images; 0.14x0.12 is its width and height",
    )
    size.add_argument(
        "--pixel-size-csv",
        type=Path,
        metavar="FILE",
        help="CSV with the columns filename and pixel size(mm), as HC18's",
    )


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text}")
    return int(text)


def _names(text):
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise argparse.ArgumentTypeError(f"expected names with commas between them, received {text!r}")
    return names


def _pixel_size(text):
    try:
        sizes = tuple(float(part) for part in text.split("x"))
    except ValueError:
        sizes = ()
    if len(sizes) not in (1, 2):
        raise argparse.ArgumentTypeError(
            f"expected mm such as 0.14, or width x height such as 0.14x0.12, received {text}"
        )
    return sizes[0] if len(sizes) == 1 else sizes


def _natural(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, received {text}")
    return int(text)


def _learning_rate(text):
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0 such as 1e-4, received {text}")
    return value


def _study_name(text):
    if not _STUDY.fullmatch(text):
        raise argparse.ArgumentTypeError(
            "expected a name of letters, digits, '.', '_' and '-' that begins with a letter or digit and has at most "
            f"100 of them, since a folder is named after it; received {text!r}"
        )
    return text
