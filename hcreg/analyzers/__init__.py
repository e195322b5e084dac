"""Explanations of regressors: where in the image a prediction comes from, and how good such a map is.

Imported plainly, not lazily: the function `deep_dream` and its module share a name, and the function has to win.
"""

from hcreg.analyzers.deep_dream import deep_dream
from hcreg.analyzers.perturbation import AOPC, PAPER_PROTOCOL, aopc, compare_analyzers, perturbation_sequence
from hcreg.analyzers.registry import ANALYZERS, create_analyzer

__all__ = [
    "ANALYZERS",
    "AOPC",
    "PAPER_PROTOCOL",
    "aopc",
    "compare_analyzers",
    "create_analyzer",
    "deep_dream",
    "perturbation_sequence",
]
