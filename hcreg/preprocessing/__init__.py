"""What happens to an image before a network sees it."""

from hcreg.preprocessing.images import read_image

__all__ = ["read_image"]
