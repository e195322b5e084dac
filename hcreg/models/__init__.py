"""Builders of networks: each returns an uncompiled `keras.Model` with named layers.

Imported plainly, not lazily: a builder and its module may share a name (``unet``), and then the builder has
to win.
"""

from hcreg.models.attention import with_attention
from hcreg.models.auto_context import AutoContext
from hcreg.models.backbone import backbone_names, backbone_regressor
from hcreg.models.backbone_unet import backbone_unet
from hcreg.models.cnn import cnn_1m, cnn_263k
from hcreg.models.cnn_classifier import cnn_classifier
from hcreg.models.deconvnet_3d import deconvnet_3d
from hcreg.models.direct_hc import direct_hc, direct_hc_ensemble
from hcreg.models.mask_output import with_ellipse
from hcreg.models.preset import from_preset
from hcreg.models.resnet50 import resnet50_regressor
from hcreg.models.unet import unet
from hcreg.models.unet3d import unet3d
from hcreg.models.unet3d_classifier import unet3d_classifier
from hcreg.models.usegnet import usegnet
from hcreg.models.usegnet_2d import usegnet_2d
from hcreg.models.vgg2d import vgg2d
from hcreg.models.vgg3d import vgg3d
from hcreg.models.vgg16 import vgg16_regressor
from hcreg.models.vgg16_classifier import vgg16_classifier
from hcreg.models.vgg16_unet import vgg16_unet
from hcreg.models.voxel_counting import volumes_of_slices, with_areas

__all__ = [
    "AutoContext",
    "backbone_names",
    "backbone_regressor",
    "backbone_unet",
    "cnn_1m",
    "cnn_263k",
    "cnn_classifier",
    "deconvnet_3d",
    "direct_hc",
    "direct_hc_ensemble",
    "from_preset",
    "resnet50_regressor",
    "unet",
    "unet3d",
    "unet3d_classifier",
    "usegnet",
    "usegnet_2d",
    "vgg2d",
    "vgg3d",
    "vgg16_classifier",
    "vgg16_regressor",
    "vgg16_unet",
    "volumes_of_slices",
    "with_areas",
    "with_attention",
    "with_ellipse",
]
