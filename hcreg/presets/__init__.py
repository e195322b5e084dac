"""Trained networks that come with the package: a finished run folder each, with a model card."""

from pathlib import Path

NAMES = ("hc18_direct",)
WEIGHTS_FILE = "checkpoint.weights.h5"
_ROOT = Path(__file__).parent


def folder(name):
    """Run folder of a preset.

    Parameters
    ----------
    name : str

    Returns
    -------
    pathlib.Path

    Raises
    ------
    ValueError
        For another name than those in ``NAMES``.
    """
    if name not in NAMES:
        raise ValueError(f"There is no preset {name!r}. The package comes with: {', '.join(NAMES)}.")
    return _ROOT / name


def located(path):
    """The run folder that a path or a preset's name means: a folder of that name, where there is one, is the user's.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    pathlib.Path

    Raises
    ------
    FileNotFoundError
        If one word is neither.
    """
    path = Path(path)
    if path.exists() or len(path.parts) != 1:
        return path
    if str(path) not in NAMES:
        raise FileNotFoundError(
            f"There is no folder {path}, so no run in it, and no preset of that name (there is {', '.join(NAMES)}). "
            "Check its spelling."
        )
    return folder(str(path))
