"""Figures 4 and 5: where the surfaces of predicted heads are wrong, of several rows beside each other.

python -m experiments.yang2020.figures4_5 report --rows USegNet USegNet-DS-HAS USegNet-DS-HAS-Ctx
python -m experiments.yang2020.figures4_5 report --data ACDC --out runs/yang2020_acdc

Of the last row the volumes of best, median and worst average distance are drawn, of each row. The networks are those of
the runs, so the folder is one that has their weights.
"""

import sys
from pathlib import Path

import numpy as np

from experiments.yang2020.protocol import figure_command, predictions_of, read_dataset, recipe_of
from hcreg import plotting
from hcreg.head_volumes import as_run, load_network, segment
from hcreg.metrics.surface import point_distances

FIGURE = "figures4_5"
_NUM_COLOURS = 128


def main(arguments=None):
    """Run the script's command line; see `experiments.yang2020.protocol.figure_command`."""
    return figure_command(FIGURE, draw, arguments, more=_add_data)


def _add_data(parser):
    parser.add_argument("--data", type=Path, help="what the tables were run on; data below --out by default")


def draw(options):
    """Draw a picture of each volume, with a panel of each row.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    list of pathlib.Path
    """
    dataset = read_dataset(options.data or options.out / "data")
    records = {record.subject_id: record for record in dataset}
    chosen = chosen_volumes(predictions_of(options.rows[-1], options))
    networks = {}
    for name in options.rows:
        folder = options.out / name / f"fold_{options.seed_number}"
        recipe = as_run(recipe_of(name), folder)
        networks[name] = recipe, load_network(recipe, folder)
    paths = []
    for which, subject_id in chosen.items():
        if subject_id not in records:
            raise ValueError(
                f"{dataset!r} has no {subject_id}: it is not what the tables were run on. Name it by --data."
            )
        surfaces = {name: surface_of(records[subject_id], *networks[name]) for name in options.rows}
        figure = plotting.surface_errors(surfaces, title=f"{which}: {subject_id}")
        paths.append(plotting.save(figure, options.save / f"{FIGURE}_{which}.png", num_colours=_NUM_COLOURS))
    return paths


def chosen_volumes(rows):
    """The volumes of best, median and worst average distance.

    Parameters
    ----------
    rows : list of dict

    Returns
    -------
    dict of str to str
        Subject ids.
    """
    found = sorted((row for row in rows if not row["failure"]), key=lambda row: row["adb_mm"])
    if not found:
        raise ValueError("No head was found in any volume: there is no surface to draw.")
    places = {"best": 0, "median": len(found) // 2, "worst": len(found) - 1}
    return {which: found[place]["subject_id"] for which, place in places.items()}


def surface_of(record, recipe, network):
    """Points of a predicted surface, and their distance to the true one.

    Parameters
    ----------
    record : VolumeRecord
    recipe : HeadRecipe
    network : keras.Model

    Returns
    -------
    points_mm : ndarray of shape (num_points, 3)
    distances_mm : ndarray of shape (num_points,)
    """
    truth = record.label_map()
    options = {"preparation": recipe.preparation, "view": recipe.view, "keep_largest": recipe.keep_largest}
    labels = segment(record.image(), network, **options)
    points, distances_mm = point_distances(truth.array > 0, labels.array > 0, truth.spacing_mm[::-1])
    return points * np.array(truth.spacing_mm), distances_mm


if __name__ == "__main__":
    sys.exit(main())
