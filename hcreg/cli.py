"""The command ``hcreg``: quickstart, check, measure."""

import argparse
import csv
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
        description="Measure the head circumference in ultrasound images with a trained run. Without --output the "
        "table is printed.",
    )
    measure.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    measure.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder of a trained model")
    size = measure.add_mutually_exclusive_group(required=True)
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
    measure.add_argument("--coverage", type=float, default=0.9, help="of the interval (default: %(default)s)")
    measure.add_argument("--output", type=Path, metavar="FILE", help="write a .csv or .json file instead of printing")
    measure.set_defaults(command=_measure)
    return parser


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text}")
    return int(text)


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
    if options.output is not None and options.output.suffix not in (".csv", ".json"):
        raise ValueError(f"--output takes a file ending in .csv or .json. Received: {options.output}.")
    if not 0 < options.coverage < 1:
        raise ValueError(f"--coverage takes a number between 0 and 1. Received: {options.coverage}.")
    sizes = _pixel_sizes(options)
    from hcreg.measurement import TrainedRegressor

    regressor = TrainedRegressor(options.model)
    measurements, failures = [], []
    for path, size in zip(options.images, sizes):
        try:
            measurements.append((path, regressor.measure(path, size, options.coverage)))
        except (ValueError, OSError) as error:
            failures.append(f"{error}")
    rows = [_measurement_row(path, measurement) for path, measurement in measurements]
    for note in _notes(regressor, measurements):
        print(f"note: {note}", file=sys.stderr)
    if options.output is None or not rows:
        _print_rows(rows)
    elif options.output.suffix == ".json":
        from hcreg.files import write_json

        write_json(options.output, rows)
    else:
        from hcreg.files import write_rows

        write_rows(options.output, rows)
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(options.images)} image(s) could not be measured", file=sys.stderr)
    return 1 if failures else 0


def _notes(regressor, measurements):
    if regressor.trained_on_synthetic:
        yield f"{regressor.folder} was trained on synthetic images: what it says of a real one is no measurement"
    if any(measurement.interval_mm[1] == float("inf") for _, measurement in measurements):
        yield (
            f"the interval is infinite: the run's {len(regressor.scores_px)} validation images are too few for this "
            "coverage; ask for less with --coverage"
        )
    for path, measurement in measurements:
        if measurement.hc_mm <= 0:
            yield f"{path}: no head has {measurement.hc_mm:.1f} mm; the network learned too little"


def _pixel_sizes(options):
    if options.pixel_size_csv is None:
        return [options.pixel_size_mm] * len(options.images)
    try:
        with open(options.pixel_size_csv, newline="", encoding="utf-8-sig") as file:
            table = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{options.pixel_size_csv} is not a CSV file of text ({error}).") from error
    names = {name.replace(" ", ""): name for name in (table[0] if table else {}) if name}
    if not {"filename", "pixelsize(mm)"} <= set(names):
        raise ValueError(
            f"{options.pixel_size_csv} needs the columns 'filename' and 'pixel size(mm)' and at least one row. "
            f"Found: {', '.join(names.values()) or 'nothing'}."
        )
    sizes = {(row[names["filename"]] or "").strip(): row[names["pixelsize(mm)"]] for row in table}
    missing = [path.name for path in options.images if path.name not in sizes]
    if missing:
        raise ValueError(f"{options.pixel_size_csv} has no row for {len(missing)} image(s), the first: {missing[0]}.")
    found = []
    for path in options.images:
        try:
            found.append(float(sizes[path.name]))
        except (TypeError, ValueError) as error:  # None where the line ends early
            raise ValueError(
                f"{options.pixel_size_csv}: the pixel size of {path.name} is not a number: {sizes[path.name]!r}."
            ) from error
    return found


def _measurement_row(path, measurement):
    return {
        "filename": str(path),
        "hc_mm": measurement.hc_mm,
        "hc_px": measurement.hc_px,
        "interval_low_mm": measurement.interval_mm[0],
        "interval_high_mm": measurement.interval_mm[1],
        "coverage": measurement.coverage,
        "gestational_age_weeks": measurement.gestational_age_weeks,
    }


def _print_rows(rows):
    if not rows:
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([f"{value:.2f}" if isinstance(value, float) else value for value in row.values()])


if __name__ == "__main__":
    console()
