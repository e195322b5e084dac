"""Progress of long work: a bar on a terminal, a line now and then in a log file."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar():
    """A bar with count, elapsed and remaining time.

    Returns
    -------
    rich.progress.Progress
        Silent where standard error is neither a terminal nor a notebook.
    """
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (console.is_terminal or console.is_jupyter),
    )
