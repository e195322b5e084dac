"""Data sets made by rules, written in the layout of the real ones: every truth is known, nothing is private."""

from hcreg.datasets.synthetic.fetal_head_2d import fetal_head

__all__ = ["fetal_head"]
