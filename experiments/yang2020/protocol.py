"""What the paper says once for all its rows, and the rows."""

import argparse
import sys
from collections import UserList
from dataclasses import replace
from functools import partial
from pathlib import Path

from experiments.yang2020.whole_heart import WholeHeart
from hcreg import losses, models, tables
from hcreg.datasets import VolumeFolder, synthetic
from hcreg.head_volumes import HeadPreparation, HeadRecipe, Patches, Slices, repeated_split
from hcreg.models.usegnet import ABLATIONS
from hcreg.tables.head_volumes import HeadLayout, report_heads, run_heads

PAPER = "yang2020"
FOLDER = "yang2020"  # one folder of runs for both tables
SEEDS = [0, 1, 2]
NUM_SEEDS = len(SEEDS)
SIZES = (0.7, 0.1, 0.2)  # shares of training, validation and test
# 60 heads of three scans. The paper's field of view in voxels of 1.2 mm, which its scale of 0.4 makes 48 x 32 x 56
DRAWN_SHAPE, NUM_DRAWN = (120, 80, 140), 180
SMOKE_SHAPE, NUM_SMOKE = (48, 40, 56), 18
# ACDC's stacks: whole heart against background. Slices 5 to 10 mm apart become 16, pixels some 4 mm
HEART = HeadPreparation(scale=None, size=(80, 80, 16))

# The paper: the whole volume, Adam 1e-5 with beta1 0.5, batch of 1, 30 epochs a level, initial weights of sigma 0.001,
# augmentation. A quarter of its filters and 882 steps on a CPU need larger ones, and in so few augmentation holds up
# more than it helps: after 504 steps a validation Dice of 0.879 with it, 0.905 without.
BASE = HeadRecipe(
    "USegNet-DS-HAS",
    models.usegnet,
    **losses.deep_supervision(),
    build_arguments={"filters": 8, **ABLATIONS["USegNet-DS-HAS"]},
    learning_rate=1e-3,
    beta_1=0.5,
    schedule="cosine",
    epochs=7,
    patience=7,
    augmentation="none",
)
ONE_OUTPUT = losses.deep_supervision(weights=(1.0,))


def ablation(name):
    """A row of the whole network, its branches as the ablation has them.

    Parameters
    ----------
    name : str
        Of `hcreg.models.usegnet.ABLATIONS`.

    Returns
    -------
    HeadRecipe
    """
    arguments = {"filters": BASE.build_arguments["filters"], **ABLATIONS[name]}
    row = replace(BASE, name=name, build_arguments=arguments)
    return row if arguments.get("deep_supervision", True) else replace(row, **ONE_OUTPUT)


PLAIN = ablation("USegNet")
# the paper's patches of 64 voxels are 0.4 of a volume's longest sides; so are these
BY_PATCHES = replace(PLAIN, name="p-USegNet", view=Patches((24, 16, 24), per_volume=4))
BY_SLICES = replace(
    PLAIN,
    name="2D-USegNet",
    build=models.usegnet_2d,
    build_arguments={**PLAIN.build_arguments, "momentum": 0.9},
    view=Slices(),
    batch_size=8,
)
WITHOUT_SKIPS = replace(PLAIN, name="3D-DeconvNet", build=models.deconvnet_3d, build_arguments={"filters": 8})
CONTEXT = replace(BASE, name="USegNet-DS-HAS-Ctx", context=True, first_of=BASE.name)
# the same two networks with more heads and seven times the steps of a level, tested on the same heads
NUM_LONGER, LONGER_EPOCHS = 600, 11
LONGER = [replace(row, epochs=LONGER_EPOCHS, patience=LONGER_EPOCHS) for row in (BASE, CONTEXT)]

TABLE1 = [
    BY_PATCHES,
    BY_SLICES,
    WITHOUT_SKIPS,
    PLAIN,
    *(ablation(name) for name in ("USegNet-DS", "USegNet-DS-UAM", "USegNet-DS-SAM")),
    BASE,
    CONTEXT,
]
# no attention, on more and more levels of one kind, on all of both
TABLE2 = [
    *(ablation(name) for name in ("USegNet-DS", "SAM-1", "SAM-12", "USegNet-DS-SAM")),
    *(ablation(name) for name in ("UAM-1", "UAM-12", "USegNet-DS-UAM")),
    BASE,
]


TABLES_SPLIT = partial(repeated_split, num_seeds=NUM_SEEDS, sizes=SIZES)


def draw_heads(root, seed, smoke=False, num_volumes=NUM_DRAWN):
    """Write the synthetic heads that a table without ``--data`` is of.

    Parameters
    ----------
    root : path-like
    seed : int
    smoke : bool
        A few, and small.
    num_volumes : int
        If they are not for a smoke run. More are the same and others.
    """
    shape, num_volumes = (SMOKE_SHAPE, NUM_SMOKE) if smoke else (DRAWN_SHAPE, num_volumes)
    synthetic.fetal_head_3d(root, num_volumes, seed, shape=shape)


def split_of_more(dataset, num_seeds=NUM_SEEDS, seed=0, sizes=SIZES):
    """The tables' own split, every further volume added to its training part.

    Parameters
    ----------
    dataset : sequence of records
        The tables' volumes first.
    num_seeds, seed : int
    sizes : tuple of three float

    Returns
    -------
    list of dict
        See `hcreg.head_volumes.repeated_split`.
    """
    records = list(dataset)
    tables_own, further = records[:NUM_DRAWN], records[NUM_DRAWN:]
    split = repeated_split(tables_own, num_seeds=num_seeds, seed=seed, sizes=sizes)
    added = [record.subject_id for record in further]
    return [{**parts, "training": [*parts["training"], *added]} for parts in split]


class Hearts(WholeHeart):
    """ACDC's hearts with the preparation that they need."""

    preparation = HEART


class SmallHeads(UserList):
    """The heads of ``--smoke``, which are small already."""

    preparation = HeadPreparation(scale=0.5)


def read_dataset(root):
    """Volumes of a folder: pairs of image and label map, or ACDC as downloaded.

    Parameters
    ----------
    root : path-like

    Returns
    -------
    sequence of records
    """
    if next(iter((Path(root) / "training").glob("patient*")), None) is not None:
        return Hearts(root)
    dataset = VolumeFolder(root)
    if synthetic.is_synthetic(root) and tuple(dataset[0].label_map().array.shape) == SMOKE_SHAPE:
        return SmallHeads(dataset)
    return dataset


def head_table(
    script,
    recipes,
    *,
    smoke_recipes,
    arguments=None,
    folder=FOLDER,
    draw=draw_heads,
    splits_of=TABLES_SPLIT,
    seeds=SEEDS,
):
    """Run the command line of one of the paper's tables.

    Parameters
    ----------
    script : str
        "table1", "table2" or "longer".
    recipes : list of HeadRecipe
    smoke_recipes : list of str
        Rows of ``--smoke``.
    arguments : list of str, optional
    folder : str
        Name of the folder of runs.
    draw, splits_of : callable
        As `draw_heads` and `hcreg.head_volumes.repeated_split`.
    seeds : list of int
        Those of a call without ``--folds``.

    Returns
    -------
    int
    """
    layout = HeadLayout(draw=draw)
    return tables.main(
        f"{PAPER}.{script}",
        recipes,
        splits_of,
        default_folds=seeds,
        read_dataset=read_dataset,
        smoke_recipes=smoke_recipes,
        folder=folder,
        layout=layout,
        arguments=arguments,
        run=partial(run_heads, layout),
        report=report_heads,
        data_help="folder of volumes with label maps, or ACDC as downloaded; synthetic heads by default",
    )


def figure_command(script, draw, arguments=None, more=None):
    """Run the command line of a figure, which is drawn from the runs of the tables.

    Parameters
    ----------
    script : str
        "figure8" and so on.
    draw : callable
        ``draw(options)`` gives the paths of what it drew.
    arguments : list of str, optional
    more : callable, optional
        ``more(parser)`` adds arguments.

    Returns
    -------
    int
    """
    parser = argparse.ArgumentParser(prog=f"python -m experiments.{PAPER}.{script}")
    report = parser.add_subparsers(dest="command", required=True).add_parser("report", help="draw from the saved runs")
    report.add_argument("--out", type=Path, default=Path("runs") / FOLDER, help="the tables' folder (%(default)s)")
    report.add_argument("--rows", nargs="+", metavar="ROW", default=[CONTEXT.name], help="default: %(default)s")
    report.add_argument("--seed-number", type=int, default=0, metavar="K", help="which of the seeds (%(default)s)")
    report.add_argument("--save", type=Path, metavar="DIR", help="default: figures below --out")
    if more is not None:
        more(report)
    options = parser.parse_args(arguments)
    if options.save is None:
        options.save = options.out / "figures"
    try:
        for path in draw(options):
            print(f"written: {path}", flush=True)
    except (ValueError, OSError) as error:
        print(f"{PAPER}.{script}: {error}", file=sys.stderr)
        return 1
    return 0


def recipe_of(name):
    """A row of either table by its name.

    Parameters
    ----------
    name : str

    Returns
    -------
    HeadRecipe

    Raises
    ------
    ValueError
        If there is none.
    """
    known = {recipe.name: recipe for recipe in (*TABLE1, *TABLE2)}
    if name not in known:
        raise ValueError(f"There is no row {name}. The rows: {', '.join(known)}.")
    return known[name]


def predictions_of(name, options):
    """What a row predicted, of the seed that was asked for.

    Parameters
    ----------
    name : str
    options : argparse.Namespace
        Of `figure_command`.

    Returns
    -------
    list of dict
    """
    predictions, _ = tables.read_table([recipe_of(name)], [options.seed_number], options.out)
    return predictions[name]
