"""Tables and numbers as the commands print them: with rules on a terminal, in plain columns in a file or a pipe."""

_LONGEST_MESSAGE = 80


def print_table(headings, lines, right=()):
    """Print a table.

    Parameters
    ----------
    headings : list of str
    lines : list of sequence of str
        As many cells each as there are headings.
    right : collection of str
        Headings of the columns that end flush right.
    """
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        for line in _plain_lines(headings, lines, right):
            print(line)
        return
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for place, column in enumerate(zip(headings, *lines)):
        heading = headings[place]
        # a narrow terminal cuts the last column, and leaves the numbers whole
        table.add_column(
            heading,
            justify="right" if heading in right else "left",
            min_width=None if place == len(headings) - 1 else max(map(len, column)),
            no_wrap=True,
            overflow="ellipsis",
        )
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)


def _plain_lines(headings, lines, right):
    widths = [max(map(len, column)) for column in zip(headings, *lines)]
    for line in (headings, *lines):
        cells = (
            cell.rjust(width) if heading in right else cell.ljust(width)
            for cell, width, heading in zip(line, widths, headings)
        )
        yield "  ".join(cells).rstrip()


def print_fields(fields, indent=""):
    """Print names and values, a line each; further lines of a value stand below its first.

    Parameters
    ----------
    fields : dict of str to object
    indent : str
    """
    width = max(map(len, fields), default=0)
    for name, value in fields.items():
        first, *more = str(value).splitlines() or [""]
        print(f"{indent}{name.ljust(width)}  {first}".rstrip())
        for line in more:
            print(f"{indent}{' ' * width}  {line}".rstrip())


def number(value):
    """A number in short, ``-`` for None.

    Parameters
    ----------
    value : float, int, str, bool or None

    Returns
    -------
    str

    Examples
    --------
    >>> number(0.00123456), number(20), number(None), number("relu")
    ('0.001235', '20', '-', 'relu')
    """
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds):
    """A duration in the unit that suits it.

    Parameters
    ----------
    seconds : float or None, s

    Returns
    -------
    str

    Examples
    --------
    >>> duration(4.25), duration(600), duration(9000), duration(None)
    ('4.2 s', '10.0 min', '2.5 h', '-')
    """
    if seconds is None:
        return "-"
    for limit, unit, divisor in ((120, "s", 1), (7200, "min", 60)):
        if seconds < limit:
            return f"{seconds / divisor:.1f} {unit}"
    return f"{seconds / 3600:.1f} h"


def time_of_day(moment):
    """Date and time in the clock of this machine.

    Parameters
    ----------
    moment : datetime.datetime, str or None

    Returns
    -------
    str
    """
    if moment is None or isinstance(moment, str):
        return moment or "-"
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"


def first_line(message):
    """What a message says in short: of a traceback its last line, of other text the first.

    Parameters
    ----------
    message : str or None

    Returns
    -------
    str

    Examples
    --------
    >>> first_line("Traceback (most recent call last):\\n  File ...\\nValueError: no units")
    'ValueError: no units'
    """
    lines = [line.strip() for line in (message or "").splitlines() if line.strip()]
    if not lines:
        return ""
    line = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return line if len(line) <= _LONGEST_MESSAGE else f"{line[: _LONGEST_MESSAGE - 1]}…"
