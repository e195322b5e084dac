"""Data sets made by rules: every truth is known.

Fetal heads and cardiac volumes are written in the layouts of the real ones, volumes of heads as pairs of files.
"""

from hcreg.datasets.synthetic.cardiac_mri_2d import (
    CLASSES,
    FAT,
    HEART,
    SEX_LABEL,
    TISSUES,
    CardiacMRI,
    cardiac_mri,
    with_sex_label,
)
from hcreg.datasets.synthetic.cardiac_volumes_3d import cardiac_volumes
from hcreg.datasets.synthetic.cohort import is_synthetic
from hcreg.datasets.synthetic.fetal_head_2d import fetal_head
from hcreg.datasets.synthetic.fetal_head_3d_cohort import fetal_head_3d

__all__ = [
    "CLASSES",
    "FAT",
    "HEART",
    "SEX_LABEL",
    "TISSUES",
    "CardiacMRI",
    "cardiac_mri",
    "cardiac_volumes",
    "fetal_head",
    "fetal_head_3d",
    "is_synthetic",
    "with_sex_label",
]
