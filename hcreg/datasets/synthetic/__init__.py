"""Data sets made by rules and written in the layout of the real ones: every truth is known."""

from hcreg.datasets.synthetic.fetal_head_2d import fetal_head, is_synthetic

__all__ = ["fetal_head", "is_synthetic"]
