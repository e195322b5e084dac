"""What ``hcreg check`` does: recognise the data set of a folder, read all of it, and print every problem."""

from hcreg.datasets import acdc_folder, hc18_folder, volume_folder_layout
from hcreg.progress import progress_bar

# By the name in hcreg.datasets: the module that knows its folder, and what one record is.
_NAMED = {"HC18": (hc18_folder, "images"), "ACDC": (acdc_folder, "volumes")}
# Asked for last: ACDC's files are pairs of this kind as well.
_PAIRS = "VolumeFolder"
_DATA_SETS = {**_NAMED, _PAIRS: (volume_folder_layout, "volumes")}
_EXPECTED = " or ".join(f"{module.FOLDERS['train']} ({name})" for name, (module, _) in _DATA_SETS.items())


def check(options):
    """List every problem of a folder.

    Parameters
    ----------
    options : argparse.Namespace
        Of the command's parser, see `hcreg.cli`.

    Returns
    -------
    int
        0, or 1 where a problem was found.

    Raises
    ------
    ValueError
        If the folder is none of a data set that hcreg knows, or of several at once, or the labels are no labels.
    """
    from hcreg import datasets

    name = _recognised(options.folder)
    num_checked = 0
    with progress_bar() as bar:
        task = bar.add_task("checking", total=None)

        def advance(done, total):
            nonlocal num_checked
            num_checked += 1
            bar.update(task, completed=done, total=total)

        given = {"labels": options.labels} if name == _PAIRS else {}
        problems = getattr(datasets, name).check_folder(options.folder, **given, on_progress=advance)
    for problem in problems:
        print(f"{problem.path}: {problem.message}")
    noun = _DATA_SETS[name][1]
    print(f"{len(problems) or 'no'} problem(s) in {options.folder} ({num_checked} {noun} read), as {name}")
    return 1 if problems else 0


def _recognised(root):
    """Name of the data set that lies in a folder."""
    found = [name for name, (module, _) in _NAMED.items() if any(module.is_there(root, s) for s in module.FOLDERS)]
    if not found and volume_folder_layout.is_there(root, "train"):
        return _PAIRS
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"{root} holds {' and '.join(found)} both. Give the folder of one of them.")
    if not root.exists():
        raise ValueError(f"there is no folder {root}. Give the one that holds {_EXPECTED}.")
    reasons = " ".join(f"As {name}: {module.no_folder(root, 'train')}" for name, (module, _) in _DATA_SETS.items())
    raise ValueError(f"{root} is no data set's folder. Expected one that holds {_EXPECTED}. {reasons}")
