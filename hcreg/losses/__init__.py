"""Losses beside Keras's own: ``losses.Dice()`` and its like for masks, ``losses.RelativeError()`` for a length.

All are `keras.losses.Loss` objects, give one value per image, and load again with the ``.keras`` file of a model
compiled with them.
"""

from hcreg.losses.regression import RelativeError
from hcreg.losses.segmentation import Dice, DiceCrossEntropy, Focal, FocalKappa, Kappa

__all__ = ["Dice", "DiceCrossEntropy", "Focal", "FocalKappa", "Kappa", "RelativeError"]
