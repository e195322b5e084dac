"""What figures 14, 15 and 17 share: one image for several networks, and arrays that are kept between run and report.

Pictures of patients' images must not be published with the code: without ``--data`` a synthetic head is drawn, and with
it the picture goes into ``--out`` only.
"""

from pathlib import Path

import numpy as np

from experiments.zhang2021.explanations import FOLD, MODELS, choose_images, explained, find_model, test_images
from hcreg import plotting
from hcreg.datasets import HC18, synthetic
from hcreg.files import written_whole

SYNTHETIC = "synthetic"
_NUM_EXAMINATIONS = 14
_NUM_COLOURS = 128


def material(options, names=MODELS):
    """Networks, and one image: a synthetic head, or a test image where ``--data`` is given.

    Parameters
    ----------
    options : argparse.Namespace
    names : sequence of str

    Returns
    -------
    subject : str
        The image's id, or "synthetic".
    networks : iterator of Explained
        One after the other, since some are large.
    """
    folders = {name: find_model(options.models_root, name) for name in names}
    if options.data is None:
        cohort = synthetic.fetal_head(options.out / "synthetic_heads", _NUM_EXAMINATIONS, options.seed)
        records = choose_images([record for record in HC18(cohort) if record.trimester == 2], 1, options.seed)
        subject = SYNTHETIC
    else:
        records = test_images(options.data, folders, None, options.seed)
        subject = options.subject or next(record.subject_id for record in records if record.trimester == 2)
        records = [record for record in records if record.subject_id == subject]
        if not records:
            raise ValueError(f"{subject} is no test image of fold {FOLD}. Name one of its split.csv in --subject.")
    check = options.data is not None
    return subject, (explained(folder, records, check) for folder in folders.values())


def path_of(options, figure, subject, part=""):
    """Where the arrays of a figure are kept: pathlib.Path."""
    return options.out / figure / f"{subject}{part and '__' + part}.npz"


def keep(path, arrays):
    """Write arrays, whole.

    Parameters
    ----------
    path : path-like
    arrays : dict of str to array-like
    """
    with written_whole(path) as partial, open(partial, "wb") as file:
        np.savez_compressed(file, **arrays)


def kept(path):
    """Arrays of `keep`: dict of str to ndarray."""
    with np.load(path) as arrays:
        return dict(arrays)


def subjects(options, figure):
    """Subjects of a figure that ``run`` has computed, with their files.

    Parameters
    ----------
    options : argparse.Namespace
    figure : str

    Returns
    -------
    dict of str to list of pathlib.Path

    Raises
    ------
    ValueError
        If there is none.
    """
    found = {}
    for path in sorted((options.out / figure).glob("*.npz")):
        found.setdefault(path.stem.partition("__")[0], []).append(path)
    if not found:
        raise ValueError(
            f"{options.out} holds nothing of {figure}. Run it first: python -m experiments.zhang2021.{figure} run."
        )
    return found


def draw(options, figure, subject, picture, num_colours=_NUM_COLOURS):
    """Save a picture of a subject; of a patient's image into ``--out`` only.

    Parameters
    ----------
    options : argparse.Namespace
    figure, subject : str
    picture : matplotlib.figure.Figure
    num_colours : int
        As in `hcreg.plotting.save`.
    """
    save = getattr(options, "save", None)
    folder = Path(save) if save is not None and subject == SYNTHETIC else options.out
    path = plotting.save(picture, folder / f"{figure}_{subject}.png", num_colours=num_colours)
    print(f"figure: {path}", flush=True)
