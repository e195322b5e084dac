"""Volumes of the paper's own size, 388 x 258 x 440 voxels, in and out through one call of `hcreg.head_volumes.segment`.

python -m experiments.yang2020.full_size report --rows USegNet-DS-HAS USegNet-DS-HAS-Ctx

Each row's network looks at the grid whose voxels it was trained on and answers for every voxel of the file. The last
lines are of the paper's own network at the paper's own grid, untrained: only their time and memory mean anything.
"""

import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from experiments.yang2020.protocol import figure_command, read_dataset, recipe_of
from hcreg import models
from hcreg.backend import peak_memory_mb
from hcreg.datasets import VolumeFolder, synthetic
from hcreg.files import write_rows
from hcreg.head_volumes import as_run, load_network, segment, write_label_map
from hcreg.head_volumes.measuring import measure
from hcreg.preprocessing.nifti import read_volume

FULL_SIZE = "full_size"
SHAPE = (388, 258, 440)
NUM_VOLUMES = 3
FIRST_SEED = 1000  # no head of the tables
UNTRAINED = "usegnet(), untrained"


def main(arguments=None):
    """Run the script's command line; see `experiments.yang2020.protocol.figure_command`."""
    return figure_command(FULL_SIZE, segmented, arguments, more=_add_size)


def _add_size(parser):
    parser.add_argument("--shape", type=int, nargs=3, default=SHAPE, metavar="N", help="default: %(default)s")
    parser.add_argument("--volumes", type=int, default=NUM_VOLUMES, help="scans of one new head (%(default)s)")
    parser.add_argument("--filters", type=int, default=32, help="of the untrained network (%(default)s)")


def segmented(options):
    """Segment, measure, print and write what was found.

    Parameters
    ----------
    options : argparse.Namespace

    Returns
    -------
    list of pathlib.Path
        The table.
    """
    drawn_at = read_dataset(options.out / "data")[0].spacing_mm  # of the tables' volumes
    data = options.out / "full_size_data"
    synthetic.fetal_head_3d(data, options.volumes, FIRST_SEED, shape=tuple(options.shape), num_workers=1)
    dataset, lines = VolumeFolder(data), []
    for name in options.rows:
        folder = options.out / name / f"fold_{options.seed_number}"
        recipe = as_run(recipe_of(name), folder)
        finer = _trained_on(recipe.preparation, drawn_at)
        call = partial(
            segment,
            model=load_network(recipe, folder),
            preparation=finer,
            view=recipe.view,
            keep_largest=recipe.keep_largest,
        )
        lines += [measured(name, record, call) for record in dataset]
    network = models.usegnet(filters=options.filters, seed=0)
    lines += [measured(UNTRAINED, record, partial(segment, model=network)) for record in dataset]
    for line in lines:
        print(
            f"{line['row']}, {line['subject_id']}: {line['shape']}, DSC {line['dice']:.4f}, "
            f"Adb {line['adb_mm']:.2f} mm, Hdb {line['hdb_mm']:.1f} mm, {line['seconds']:.1f} s, "
            f"{line['peak_memory_mb']:.0f} MB"
        )
    path = options.save / f"{FULL_SIZE}.csv"
    write_rows(path, lines)
    return [path]


def _trained_on(preparation, spacing_mm):
    """The preparation that gives voxels of the size that a network was trained on, whatever the file's own."""
    if preparation.scale is None:
        return preparation
    return replace(preparation, scale=None, spacing_mm=float(spacing_mm[0] / preparation.scale))


def measured(row, record, call):
    """Segment one file, write the label map, read it again, and measure what was read.

    Parameters
    ----------
    row : str
    record : VolumeRecord
    call : callable
        ``call(path)`` gives the label map.

    Returns
    -------
    dict

    Raises
    ------
    AssertionError
        If the file that was written does not lie on the image's voxels.
    """
    started = time.perf_counter()
    labels = call(record.image_path)
    seconds = time.perf_counter() - started
    truth = record.label_map()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.nii.gz"
        write_label_map(path, labels)
        written = read_volume(path)
    if written.array.shape != truth.array.shape or not np.allclose(written.affine, truth.affine):
        raise AssertionError(f"the label map of {record.image_path} is not on its voxels: {written.array.shape}")
    return {
        "row": row,
        "subject_id": record.subject_id,
        "shape": " x ".join(map(str, written.array.shape)),
        **measure(truth.array, written.array, truth.spacing_mm),
        "seconds": seconds,
        "peak_memory_mb": peak_memory_mb(),
    }


if __name__ == "__main__":
    sys.exit(main())
