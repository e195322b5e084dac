"""Explanations of regressors: where in the image a prediction comes from, and how good such a map is."""

from hcreg.analyzers.registry import ANALYZERS, create_analyzer

__all__ = ["ANALYZERS", "create_analyzer"]
