"""The competition: volumes counted softly, of a segmentation, and by the paper's networks without a mask at test time.

python -m experiments.zhang2021.volumes run --data ACDC --weights DenseNet121=FILE
python -m experiments.zhang2021.volumes report --save results
python -m experiments.zhang2021.volumes predict --data OTHER_ACDC --models runs/zhang2021_volumes/densenet121_counting

``densenet121_counting`` gives two rows of one run: the soft count, and the volumes of its label map. ``predict``
measures other patients with the mean of the networks of all folds.
"""

import argparse
import sys
import time
from pathlib import Path

from experiments.zhang2021.volume_protocol import COMPETITION, recipes_by_name, volume_table
from hcreg import plotting
from hcreg.cardiac_volumes import FoldNetworks
from hcreg.datasets.acdc import ACDC
from hcreg.files import write_rows
from hcreg.tables.volumes import (
    COLUMNS,
    CONSTANT,
    FRACTION_COLUMNS,
    VolumeLayout,
    format_lines,
    fraction_lines,
    routes_in,
    title_of,
    volume_lines,
)


def main(arguments=None):
    """Run the script's command line: ``run`` and ``report`` of `hcreg.tables.main`, and ``predict``."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["predict"]:
        return predict(arguments[1:])
    return volume_table(
        "volumes",
        COMPETITION,
        smoke_recipes=["densenet121_counting", "vgg2d_frame"],
        layout=VolumeLayout(fractions=True),
        figures=figures,
        arguments=arguments,
    )


def figures(folder, predictions, output):
    """Draw prediction against truth, and their agreement, of each row and route.

    Parameters
    ----------
    folder : path-like
        Of the runs; not read.
    predictions : dict of str to list of dict
    output : path-like

    Returns
    -------
    list of pathlib.Path
    """
    paths = []
    for name, rows in predictions.items():
        for route in routes_in(rows):
            stem = name if route == "pred" else f"{name}_label_map"
            for kind, draw in (("agreement", plotting.volume_agreement), ("scatter", plotting.volume_scatter)):
                figure = draw(rows, route, title_of(name, route))
                paths.append(plotting.save(figure, Path(output) / f"volumes_{kind}_{stem}.png"))
    return paths


def predict(arguments):
    """Measure the stacks of another folder in ACDC's layout, and print the errors where it has label maps.

    Parameters
    ----------
    arguments : list of str

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(
        prog="python -m experiments.zhang2021.volumes predict",
        description="Measure the stacks of another folder in ACDC's layout with networks that were trained before.",
    )
    parser.add_argument("--data", type=Path, required=True, help="folder in ACDC's layout; label maps may be missing")
    parser.add_argument("--models", type=Path, required=True, help="runs of one row: the mean of their networks counts")
    parser.add_argument("--output", type=Path, default=Path("volumes.csv"), help="default: %(default)s")
    parser.add_argument("--split", choices=("train", "test"), default="train", help="default: %(default)s")
    parser.add_argument("--unseen", action="store_true", help="leave out who bears the name of a training patient")
    options = parser.parse_args(arguments)
    try:
        networks = FoldNetworks(options.models, recipes_by_name().values())
        dataset = list(ACDC(options.data, split=options.split))
        seen = [record for record in dataset if record.subject_id in networks.subjects]
        if options.unseen:
            dataset = [record for record in dataset if record.subject_id not in networks.subjects]
            if not dataset:
                raise ValueError(
                    f"every stack of {options.data} bears the name of one that the networks were trained on or chosen "
                    "by. Without --unseen they are measured all the same."
                )
        started = time.perf_counter()
        rows = networks.measure(dataset)
        seconds = time.perf_counter() - started
        write_rows(options.output, rows)
    except (ValueError, OSError) as error:
        print(f"zhang2021.volumes: {error}", file=sys.stderr)
        return 1
    print(
        f"{len(rows)} stacks in {seconds:.1f} s, by the mean of {len(networks.networks)} network(s) of "
        f"{networks.recipe.name}: {options.output}"
    )
    if seen and not options.unseen:
        print(
            f"note: {len(seen)} of them bear the name of a stack that the networks were trained on or chosen by. If "
            "they are the same, this is no test: --unseen leaves them out."
        )
    known = [row for row in rows if all(row[name] == row[name] for name in row if name.endswith("_true_ml"))]
    if known:
        print(_as_text(networks.recipe.name, known))
    return 0


def _as_text(name, rows):
    routes = [(CONSTANT, "constant"), *((title_of(name, route), route) for route in routes_in(rows))]
    lines = [line for title, route in routes for line in volume_lines(title, rows, route)]
    fractions = [line for title, route in routes for line in fraction_lines(title, rows, route)]
    text = format_lines(lines, COLUMNS)
    return f"{text}\n\nejection fraction\n{format_lines(fractions, FRACTION_COLUMNS)}" if fractions else text


if __name__ == "__main__":
    sys.exit(main())
