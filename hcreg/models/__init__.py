"""Builders of networks: each returns an uncompiled `keras.Model` with named layers.

Imported plainly, not lazily: a builder and its module may share a name (``unet``), and then the builder has
to win.
"""

from hcreg.models.backbone import backbone_names, backbone_regressor
from hcreg.models.cnn import cnn_1m, cnn_263k
from hcreg.models.resnet50 import resnet50_regressor
from hcreg.models.vgg16 import vgg16_regressor

__all__ = [
    "backbone_names",
    "backbone_regressor",
    "cnn_1m",
    "cnn_263k",
    "resnet50_regressor",
    "vgg16_regressor",
]
