"""A paper's table as a script: train its rows fold by fold, and compute every cell from the saved predictions.

A script in ``experiments/`` states its rows as `hcreg.head_circumference.Recipe` and hands them to `main`, which gives
it the subcommands ``run`` and ``report``.
"""

from hcreg.tables import views
from hcreg.tables.command import main
from hcreg.tables.comparing import compare_rows, format_comparisons
from hcreg.tables.reading import read_table
from hcreg.tables.reporting import COLUMNS, MASK_COLUMNS, Layout, report_table

__all__ = [
    "COLUMNS",
    "MASK_COLUMNS",
    "Layout",
    "compare_rows",
    "format_comparisons",
    "main",
    "read_table",
    "report_table",
    "views",
]
