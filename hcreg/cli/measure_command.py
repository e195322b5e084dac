"""What ``hcreg measure`` does: measure images one after another, write what was asked for, name what failed."""

import csv
import dataclasses
import math
import sys

from hcreg.cli.image_options import pixel_sizes, refuse_twins
from hcreg.progress import progress_bar


def measure(options):
    """Measure images with a trained run.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command's parser, see `hcreg.cli`.

    Returns
    -------
    int
        0, or 1 where an image could not be measured.

    Raises
    ------
    ValueError
        If the options do not go together, before any image is read; or if a submission would not be complete.
    """
    _check_options(options)
    sizes = pixel_sizes(options, whole_table=options.submission is not None)
    from hcreg.measurement import load_regressor  # and with it Keras, once the options are known to be good

    regressor = load_regressor(options.model)
    for option in ("submission", "masks"):
        if getattr(options, option) is not None and not regressor.segments:
            raise ValueError(
                f"--{option} needs a segmentation network: {regressor.folder} is a direct regressor "
                f"({regressor.name}), which finds no outline. Name a run of a network that "
                "predicts a mask, such as unet."
            )
    measurements, failures = _measure_all(regressor, options, sizes)
    for note in _notes(regressor, measurements):
        print(f"note: {note}", file=sys.stderr)
    _write_table(options.output, [_measurement_row(*pair, regressor.segments) for pair in measurements])
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(options.images)} image(s) could not be measured", file=sys.stderr)
    if options.submission is not None:
        _write_submission(options, dict(measurements), sizes)
    return 1 if failures else 0


def _measure_all(regressor, options, sizes):
    measurements, failures = [], []
    results = regressor.measure_each(options.images, sizes, options.coverage)
    with progress_bar() as bar:
        for path, measured in zip(bar.track(options.images, description="measuring"), results):
            if isinstance(measured, Exception):
                failures.append(f"{measured}")
                continue
            if options.masks is not None:
                _write_mask(options.masks, path, measured)
            if math.isfinite(measured.hc_mm):
                measurements.append((path, dataclasses.replace(measured, mask=None)))  # half a megabyte each
            else:
                failures.append(f"{path}: {measured.failure}")
    return measurements, failures


def _check_options(options):
    if options.output is not None and options.output.suffix not in (".csv", ".json"):
        raise ValueError(f"--output takes a file ending in .csv or .json. Received: {options.output}.")
    if not 0 < options.coverage < 1:
        raise ValueError(f"--coverage takes a number between 0 and 1. Received: {options.coverage}.")
    if options.submission is not None:
        if options.submission.suffix != ".csv":
            raise ValueError(f"--submission takes a file ending in .csv. Received: {options.submission}.")
        if isinstance(options.pixel_size_mm, tuple):
            raise ValueError("--submission is for the challenge's images, whose pixels are square: give one number.")
        refuse_twins("--submission", [path.name for path in options.images])
    if options.masks is not None:
        refuse_twins("--masks", [f"{path.stem}.png" for path in options.images])
    taken = {path.resolve() for path in [*options.images, options.pixel_size_csv] if path is not None}
    written = [path for path in (options.output, options.submission) if path is not None]
    if options.masks is not None:
        written += [path for image in options.images for path in _mask_paths(options.masks, image)]
    for path in written:
        if path.resolve() in taken:
            raise ValueError(f"{path} would be overwritten: it is read here, or written twice. Name another.")
        taken.add(path.resolve())


def _mask_paths(folder, image_path):
    name = f"{image_path.stem}.png"
    return folder / name, folder / "overlays" / name


def _write_mask(folder, path, measured):
    from hcreg.plotting.mask_files import write_mask, write_overlay
    from hcreg.preprocessing.images import read_image

    mask_path, overlay_path = _mask_paths(folder, path)
    write_mask(mask_path, measured.mask)
    write_overlay(overlay_path, read_image(path), measured.mask, measured.ellipse)


def _write_table(output, rows):
    from hcreg.files import write_json, write_rows

    if output is None or not rows:
        _print_rows(rows)
    elif output.suffix == ".json":
        write_json(output, rows)
    else:
        write_rows(output, rows)


def _write_submission(options, measured, sizes):
    from hcreg.datasets.hc18_submission import submission_row, write_submission

    missing = [path for path in options.images if path not in measured or measured[path].ellipse is None]
    if missing:
        raise ValueError(
            f"{options.submission} was not written: {len(missing)} of {len(options.images)} image(s) have no ellipse, "
            f"as listed above, the first: {missing[0]}. The challenge needs one for each: look at their masks "
            "(--masks DIR), or measure with another model."
        )
    rows = [submission_row(path.name, measured[path].ellipse, size) for path, size in zip(options.images, sizes)]
    write_submission(options.submission, rows)


def _notes(regressor, measurements):
    if regressor.trained_on_synthetic:
        yield f"{regressor.folder} was trained on synthetic images: what it says of a real one is no measurement"
    if any(measurement.interval_mm[1] == float("inf") for _, measurement in measurements):
        num_images = len(regressor.scores_px)
        num_failed = sum(score == float("inf") for score in regressor.scores_px)
        reason = (
            f"nothing could be measured in {num_failed} of the run's {num_images} validation images"
            if num_failed
            else f"the run's {num_images} validation images are too few for this coverage"
        )
        yield f"the interval is infinite: {reason}; ask for less with --coverage"
    for path, measurement in measurements:
        if measurement.hc_mm <= 0:
            yield f"{path}: no head has {measurement.hc_mm:.1f} mm; the network learned too little"


def _measurement_row(path, measurement, segments):
    row = {
        "filename": str(path),
        "hc_mm": measurement.hc_mm,
        "hc_px": measurement.hc_px,
        "interval_low_mm": measurement.interval_mm[0],
        "interval_high_mm": measurement.interval_mm[1],
        "coverage": measurement.coverage,
        "gestational_age_weeks": measurement.gestational_age_weeks,
    }
    if segments:
        from hcreg.geometry import Ellipse

        for column in dataclasses.fields(Ellipse):
            row[column.name] = getattr(measurement.ellipse, column.name, float("nan"))
    return row


def _print_rows(rows):
    if not rows:
        return
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(rows[0])
    for row in rows:
        writer.writerow([f"{value:.2f}" if isinstance(value, float) else value for value in row.values()])
