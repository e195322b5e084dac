"""What ``hcreg explain`` does: a picture, the maps and lines of a table for each image; names what failed."""

import sys

from hcreg.cli.image_options import pixel_sizes, refuse_twins
from hcreg.progress import progress_bar

SUMMARY = "summary.csv"


def explain(options):
    """Explain images with a trained run.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command's parser, see `hcreg.cli`.

    Returns
    -------
    int
        0, or 1 where an image could not be explained, or no analyzer could explain the network.

    Raises
    ------
    ValueError
        If the options do not go together, before any image is read.
    """
    _check_options(options)
    sizes = pixel_sizes(options)
    from hcreg.explanation import ALL_ANALYZERS, DEFAULT_ANALYZERS, Explainer  # and with it Keras

    names = {None: DEFAULT_ANALYZERS, ("all",): ALL_ANALYZERS}.get(options.analyzers, options.analyzers)
    explainer = Explainer(options.model, names, options.compat)
    for name, reason in explainer.reasons.items():
        print(f"note: {name} cannot explain this network: {reason}", file=sys.stderr)
    if not explainer.analyzers:
        raise ValueError(f"none of the analyzers named can explain the network of {explainer.regressor.folder}.")
    if explainer.regressor.trained_on_synthetic:
        note = "was trained on synthetic images: what it looks at in a real one says nothing about real ultrasound"
        print(f"note: {explainer.regressor.folder} {note}", file=sys.stderr)
    rows, failures = _explain_all(explainer, options, sizes)
    if rows:
        from hcreg.files import write_rows

        write_rows(options.output / SUMMARY, rows)
        print(f"{len(options.images) - len(failures)} image(s) explained in {options.output}, in numbers in {SUMMARY}")
    for failure in failures:
        print(f"not explained: {failure}", file=sys.stderr)
    if failures:
        print(f"{len(failures)} of {len(options.images)} image(s) could not be explained", file=sys.stderr)
    return 1 if failures else 0


def _explain_all(explainer, options, sizes):
    rows, failures = [], []
    results = explainer.explain_each(options.images, sizes, options.batch_size)
    with progress_bar() as bar:
        tracked = bar.track(options.images, description="explaining")
        for path, size, found in zip(tracked, sizes, results):
            if isinstance(found, Exception):
                failures.append(str(found))
                continue
            _write_picture(options.output / f"{path.stem}.png", path, size, found)
            _write_maps(options.output / f"{path.stem}.npz", path, found)
            rows += [_row(path, found, name) for name in (*found.maps, *found.reasons)]
    return rows, failures


def _check_options(options):
    if options.output.suffix in (".csv", ".json", ".png", ".npz") or options.output.is_file():
        raise ValueError(
            f"--output takes a folder, for a picture and a file of maps an image. Received: {options.output}."
        )
    refuse_twins("explain", [f"{path.stem}.png" for path in options.images])
    read = {path.resolve() for path in [*options.images, options.pixel_size_csv] if path is not None}
    written = [options.output / f"{path.stem}{ending}" for path in options.images for ending in (".png", ".npz")]
    for path in [*written, options.output / SUMMARY]:
        if path.resolve() in read:
            raise ValueError(f"{path} would be overwritten: it is read here. Name another folder with --output.")


def _write_picture(target, path, pixel_size_mm, found):
    from hcreg import plotting
    from hcreg.plotting.explanations import explanation_panels

    figure = explanation_panels(
        found.image,
        {name: found.at_image(name) for name in found.maps},
        f"{path.name}: predicted head circumference {found.prediction_mm:.1f} mm",
        pixel_size_mm[0] if isinstance(pixel_size_mm, tuple) else pixel_size_mm,
        units=found.units,
        ellipse=found.measurement.ellipse,
        reasons=found.reasons,
    )
    plotting.save(figure, target)


def _write_maps(target, path, found):
    import numpy as np

    from hcreg.files import written_whole

    with written_whole(target, suffix=".npz") as partial:
        np.savez_compressed(
            partial,
            **found.maps,
            image_id=str(path),
            prediction_mm=found.prediction_mm,
            analyzers=list(found.maps),
            units=[found.units[name] for name in found.maps],
            inputs=found.inputs,
            frame_matrix=found.frame_matrix,
        )


def _row(path, found, name):
    """A line of the summary; numbers are empty where they are not known."""
    nothing = float("nan")
    has_map, unit = name in found.maps, found.units.get(name, "")
    adds_up = has_map and " per " not in unit
    return {
        "filename": str(path),
        "analyzer": name,
        "prediction_mm": found.prediction_mm,
        "measured_mm": found.measurement.hc_mm,
        "unit": unit,
        "sum": found.maps[name].sum(dtype=float) if adds_up else nothing,
        "sum_of_absolutes": found.sum_of_absolutes(name) if adds_up else nothing,
        "share_inside_head": found.share_inside(name) if has_map else nothing,
        "area_inside_head": found.area_inside(),
        "share_on_border": found.share_on_border(name) if has_map else nothing,
        "reason": found.reasons.get(name, ""),
    }
