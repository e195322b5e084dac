"""The command ``hcreg``: quickstart, check, measure, explain.

::

    hcreg quickstart --data HC18
    hcreg check HC18
    hcreg measure image.png --pixel-size-mm 0.12 --model runs/hc18
    hcreg explain image.png --pixel-size-mm 0.12 --model runs/hc18 --output explanations

With the run of a segmentation network, the unlabelled test images of the HC18 challenge give its submission, and every
predicted mask can be looked at::

    hcreg measure test_set/*.png --pixel-size-csv test_set_pixel_size.csv --model runs/unet/fold_0 \
        --submission submission.csv --masks masks --output measured.csv
"""

import argparse
import faulthandler
import os
import sys
from pathlib import Path

from hcreg._version import __version__


def console():
    """Run `main` as the installed command, without the start-up log of TensorFlow's native code.

    That log goes to file descriptor 2, past Python, at any log level, and speaks of errors on every machine without a
    GPU. It is dropped; Python's own messages still go to the terminal, and a crash of native code shows where it was.
    """
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, errors="backslashreplace")
    faulthandler.enable(file=sys.stderr)
    dropped = os.open(os.devnull, os.O_WRONLY)
    os.dup2(dropped, 2)
    os.close(dropped)
    sys.exit(main())


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        ``sys.argv[1:]`` by default.

    Returns
    -------
    int
        0 for success, 1 where a problem was found, 130 after Ctrl-C.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        print("\nStopped. The same command goes on where it was.", file=sys.stderr)
        return 130
    except (ValueError, OSError, FloatingPointError, ImportError) as error:
        print(f"hcreg {options.name}: {error}", file=sys.stderr)
        return 1


def _parser():
    parser = argparse.ArgumentParser(
        prog="hcreg", description="Measure anatomy in medical images by regression networks, and show why."
    )
    parser.add_argument("--version", action="version", version=f"hcreg {__version__}")
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
    quickstart.set_defaults(command=_quickstart)

    check = commands.add_parser("check", help="list every problem of an HC18 folder at once")
    check.add_argument("folder", type=Path)
    check.set_defaults(command=_check)

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
    measure.set_defaults(command=_measure)

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
    explain.set_defaults(command=_explain)
    return parser


def _add_images(parser):
    """The images that a trained run is shown, and the size of their pixels."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder of a trained model")
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


def _quickstart(options):
    from hcreg.quickstart import quickstart

    output = options.output or Path("runs", "quickstart" if options.data is None else "hc18")
    result = quickstart(output, data=options.data, epochs=options.epochs, seed=options.seed)
    print(result)
    return 0


def _check(options):
    from hcreg.datasets import HC18
    from hcreg.progress import progress_bar

    num_checked = 0
    with progress_bar() as bar:
        task = bar.add_task("checking", total=None)

        def advance(done, total):
            nonlocal num_checked
            num_checked += 1
            bar.update(task, completed=done, total=total)

        problems = HC18.check_folder(options.folder, on_progress=advance)
    for problem in problems:
        print(f"{problem.path}: {problem.message}")
    print(f"{len(problems) or 'no'} problem(s) in {options.folder} ({num_checked} images read)")
    return 1 if problems else 0


def _measure(options):
    from hcreg.cli.measure_command import measure

    return measure(options)


def _explain(options):
    from hcreg.cli.explain_command import explain

    return explain(options)
