"""Images, masks and labels made ready for training on where a network looks, and refused where they do not fit."""

import numpy as np

__all__ = ["attention_inputs", "region_mask"]


def region_mask(label_maps, labels):
    """Masks of some of the structures of label maps.

    Parameters
    ----------
    label_maps : array-like of int, shape (num_images, *spatial)
        Number of the structure of each pixel.
    labels : int or sequence of int
        Of the structures inside the mask.

    Returns
    -------
    ndarray of uint8, shape (num_images, *spatial, 1)
        1 inside.

    Raises
    ------
    ValueError
        If an image has none of the structures, or the label maps are not whole numbers.

    Examples
    --------
    >>> region_mask([[[0, 11], [12, 15]]], (11, 12))[0, :, :, 0].tolist()
    [[0, 1], [1, 0]]
    """
    label_maps = np.asarray(label_maps)
    if not np.issubdtype(label_maps.dtype, np.integer) or label_maps.ndim < 3:
        raise ValueError(
            "Label maps are whole numbers of shape (num_images, height, width). "
            f"Received: {label_maps.dtype} of shape {label_maps.shape}."
        )
    masks = np.isin(label_maps, np.atleast_1d(labels)).astype(np.uint8)[..., None]
    empty = ~masks.any(axis=tuple(range(1, masks.ndim)))
    if empty.any():
        raise ValueError(
            f"Every image needs a pixel of the structures {np.atleast_1d(labels).tolist()}. {_which(empty)} "
            "have none. Leave them out, or give them a mask of ones, which allows the whole image."
        )
    return masks


def attention_inputs(images, masks, labels=None, num_classes=None):
    """Arguments ``x`` and ``y`` of `fit` for a network made by `hcreg.models.with_attention`, all checked.

    Parameters
    ----------
    images : array-like of shape (num_images, *spatial, channels)
        As the network takes them.
    masks : array-like of shape (num_images, *spatial), (..., 1) or (..., num_classes), or sequence with None
        1 where the network may look, 0 outside; 0 to 255 is not taken for it. None stands for an image without a mask:
        it gets a mask of ones, which restricts nothing.
    labels : array-like of shape (num_images,) or (num_images, num_classes), optional
        Classes from 0, one-hot classes, or the numbers of a regression.
    num_classes : int, optional
        For classes; they are then checked.

    Returns
    -------
    x : dict
        ``"image"`` float32 and ``"mask"`` uint8 where masks are 0 and 1, else float32.
    y : ndarray or None
        The labels.

    Raises
    ------
    ValueError
        If numbers or sizes differ, an image or label is not finite, a mask is all zero, a class's mask is, values lie
        outside [0, 1], or a label is no class.

    Examples
    --------
    >>> x, y = attention_inputs(np.zeros((2, 4, 4, 1)), [np.eye(4), None], [0, 3], num_classes=4)
    >>> x["mask"].shape, x["mask"].sum(axis=(1, 2, 3)).tolist()
    ((2, 4, 4, 1), [4.0, 16.0])
    """
    images = np.asarray(images, np.float32)
    if images.ndim < 4:
        raise ValueError(
            f"Images are of shape (num_images, height, width, channels). Received: {images.shape}. "
            "Give grey images their last axis: images[..., None]."
        )
    if len(masks) != len(images):
        raise ValueError(f"There is one mask for each image. Received: {len(images)} images, {len(masks)} masks.")
    not_finite = ~np.isfinite(images).all(axis=tuple(range(1, images.ndim)))
    if not_finite.any():
        raise ValueError(f"Images must be finite. {_which(not_finite)} hold NaN or infinity.")
    masks = _checked_masks(masks, images.shape[1:-1], num_classes)
    return {"image": images, "mask": masks}, _checked_labels(labels, len(images), num_classes)


def _checked_masks(masks, spatial, num_classes):
    if not isinstance(masks, np.ndarray) or masks.dtype == object:  # of None among masks, NumPy makes objects
        given = [np.asarray(mask) for mask in masks if mask is not None]
        shape = given[0].shape if given else spatial
        if any(mask.shape != shape for mask in given):
            raise ValueError(f"Masks are of one shape. Received: {sorted({mask.shape for mask in given})}.")
        masks = np.stack([np.ones(shape, np.uint8) if mask is None else np.asarray(mask) for mask in masks])
    if masks.shape[1:] == spatial:
        masks = masks[..., None]
    channels = {1, num_classes} - {None}
    if masks.shape[1:-1] != spatial or masks.shape[-1] not in channels:
        raise ValueError(
            f"A mask has the size of its image, {spatial}, and {' or '.join(map(str, sorted(channels)))} channels. "
            f"Received: {masks.shape[1:]}. Resize masks with their images, by the same map."
        )
    pixels = tuple(range(1, masks.ndim - 1))
    low, high = masks.min(axis=pixels), masks.max(axis=pixels)
    wrong = ~((low >= 0) & (high <= 1))  # NaN too
    if wrong.any():
        raise ValueError(
            f"Masks lie in [0, 1]. {_which(wrong.any(axis=-1))} hold values from {np.nanmin(masks):g} to "
            f"{np.nanmax(masks):g}, or NaN. Divide a 0/255 mask by 255; take a structure of a label map by region_mask."
        )
    empty = high == 0
    if empty.any():
        where = "" if masks.shape[-1] == 1 else f" for class {np.flatnonzero(empty.any(axis=0)).tolist()}"
        raise ValueError(
            f"A mask that is zero everywhere forbids the whole image. {_which(empty.any(axis=-1))} have one{where}. "
            "Pass None, or ones, where nothing is to be forbidden."
        )
    return masks.astype(np.uint8 if masks.dtype.kind in "biu" else np.float32)


def _checked_labels(labels, num_images, num_classes):
    if labels is None:
        return None
    labels = np.asarray(labels)
    if len(labels) != num_images:
        raise ValueError(f"There is one label for each image. Received: {num_images} images, {len(labels)} labels.")
    if not np.isfinite(labels).all():
        raise ValueError("Labels must be finite. Received: NaN or infinity among them.")
    if num_classes is None or labels.shape == (num_images, num_classes):
        return labels
    if labels.shape not in ((num_images,), (num_images, 1)):
        raise ValueError(
            f"Labels are classes of shape ({num_images},), or one-hot ({num_images}, {num_classes}). "
            f"Received: shape {labels.shape}."
        )
    wrong = ~np.isin(labels, np.arange(num_classes)).reshape(num_images, -1).all(axis=1)
    if wrong.any():
        raise ValueError(
            f"Labels are classes from 0 to {num_classes - 1}. {_which(wrong)} have others: "
            f"{np.unique(labels[wrong])[:5].tolist()}."
        )
    return labels


def _which(wrong):
    numbers = np.flatnonzero(wrong)
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return f"{len(numbers)} of {len(wrong)} images ({shown})"
