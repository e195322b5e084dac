"""What happens to an image before a network sees it."""

from hcreg.preprocessing.images import read_image, read_shape

__all__ = ["read_image", "read_shape"]
