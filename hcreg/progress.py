"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar(show=True):
    """A bar with count, elapsed and remaining time.

    Parameters
    ----------
    show : bool
        Whether it is wanted.

    Returns
    -------
    rich.progress.Progress
        Silent where it is not wanted, and where standard error is neither a terminal nor a notebook with ipywidgets.
    """
    console = Console(stderr=True)
    can_show = console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (show and can_show),
    )
