"""Losses beside Keras's own: of masks ``Dice`` and its like, ``OwnEllipse``; ``RelativeError`` of lengths, ``Heatmap``.

All are `keras.losses.Loss` objects, give one value per image, and load again with the ``.keras`` file of a model
compiled with them. ``deep_supervision`` gives one for each output of a network that has several masks.
"""

from hcreg.losses.deep_supervision import deep_supervision
from hcreg.losses.heatmap import Heatmap
from hcreg.losses.heatmap_monitoring import HeatmapMetric, HeatmapMonitor, heatmap_metrics
from hcreg.losses.own_ellipse import OwnEllipse
from hcreg.losses.regression import RelativeError
from hcreg.losses.segmentation import Dice, DiceCrossEntropy, Focal, FocalKappa, Kappa

__all__ = [
    "Dice",
    "DiceCrossEntropy",
    "Focal",
    "FocalKappa",
    "Heatmap",
    "HeatmapMetric",
    "HeatmapMonitor",
    "Kappa",
    "OwnEllipse",
    "RelativeError",
    "deep_supervision",
    "heatmap_metrics",
]
