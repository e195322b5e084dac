"""Explain what a trained run measures in an image: maps of relevance in millimetres, by several analyzers.

Direct regressors and segmentation networks are explained alike, the latter through the circumference of their mask::

    from hcreg.explanation import explain

    (found,) = explain(["image.png"], "runs/hc18", pixel_sizes_mm=[0.12], analyzers=["gradient", "lrp.epsilon"])
    found.prediction_mm, found.maps["lrp.epsilon"], found.reasons  # why an analyzer gave no map

`explanation_section` is the part of a run's report that says where its predictions come from, and whether such maps are
to be trusted.
"""

from hcreg.explanation.explainer import ALL_ANALYZERS, DEFAULT_ANALYZERS, Explainer, Explanation, explain
from hcreg.explanation.report_section import explanation_section

__all__ = ["ALL_ANALYZERS", "DEFAULT_ANALYZERS", "Explainer", "Explanation", "explain", "explanation_section"]
