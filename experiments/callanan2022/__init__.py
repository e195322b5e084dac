"""Classifiers told where not to look: callanan2022heatmap, its two experiments and its open questions."""
