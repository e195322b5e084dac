"""Statistics for comparing measurements: agreement, repeated scans, paired tests, two groups, intervals.

NumPy and SciPy only. NaN is refused everywhere: a subject that is missing is a fact to explain, and SciPy
would pass the NaN on or drop the pair in silence.
"""

from hcreg.statistics.agreement import BlandAltman, bland_altman
from hcreg.statistics.groups import GroupComparison, GroupSummary, compare_groups
from hcreg.statistics.intervals import BootstrapInterval, bootstrap_interval, conformal_quantile
from hcreg.statistics.outliers import tukey_fences, without_outliers
from hcreg.statistics.paired import PairedComparison, compare_paired, holm
from hcreg.statistics.planning import SampleSizes, power, sample_size
from hcreg.statistics.repeated import Reproducibility, reproducibility

__all__ = [
    "BlandAltman",
    "BootstrapInterval",
    "GroupComparison",
    "GroupSummary",
    "PairedComparison",
    "Reproducibility",
    "SampleSizes",
    "bland_altman",
    "bootstrap_interval",
    "compare_groups",
    "compare_paired",
    "conformal_quantile",
    "holm",
    "power",
    "reproducibility",
    "sample_size",
    "tukey_fences",
    "without_outliers",
]
