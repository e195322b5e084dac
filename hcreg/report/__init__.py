"""A run as one HTML page that a clinician or researcher can read, print and send, with nothing beside it.

The page is data: `Section` objects that hold text, `Table` and `Picture` objects, in reading order.
`write_report` turns them into one file with its style and pictures inside; it loads nothing and needs no
JavaScript. `regression_report` says what a regression run is told with; a further section, such as an
explanation of the network, is handed in as one more `Section` and disturbs no other.

This module computes no result: numbers come from the summaries of the per-subject rows, which the page
repeats, and each keeps its full precision in the page, as ``<data value="...">``.
"""

from hcreg.report.page import Number, Picture, Section, Table, write_report
from hcreg.report.regression import SUMMARY_KEYS, headline, regression_report
from hcreg.report.wording import FIGURES, GLOSSARY

__all__ = [
    "FIGURES",
    "GLOSSARY",
    "SUMMARY_KEYS",
    "Number",
    "Picture",
    "Section",
    "Table",
    "headline",
    "regression_report",
    "write_report",
]
