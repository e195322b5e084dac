"""Label-exact augmentation: drawing parameters is apart from applying them, and a label follows its image."""

from hcreg.augmentation.intensity import GainGamma, Speckle
from hcreg.augmentation.spatial import (
    Chain,
    CropResize,
    HorizontalFlip,
    Identity,
    OneOf,
    Rotation,
    Scaling,
    Translation,
    apply_to_image,
    compose,
    default_augmentation,
    draw_inside,
    zhang2021_augmentation,
)

__all__ = [
    "Chain",
    "CropResize",
    "GainGamma",
    "HorizontalFlip",
    "Identity",
    "OneOf",
    "Rotation",
    "Scaling",
    "Speckle",
    "Translation",
    "apply_to_image",
    "compose",
    "default_augmentation",
    "draw_inside",
    "zhang2021_augmentation",
]
