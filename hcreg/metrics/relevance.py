"""How much of an attribution map's relevance lies inside a region: per image, and over a test set as a stream.

A map has the size of the tapped layer's cells and is enlarged linearly to the size of the mask, pixels being squares
about their centres; its positive part or absolute value is taken *before*, so that relevance of opposite signs in
neighbouring cells does not cancel between them.
"""

import cv2
import numpy as np

__all__ = ["RelevanceOverlap", "relevance_inside"]

PARTS = ("positive", "absolute")
MEAN_OF_CLASSES = "mean of classes"


def relevance_inside(maps, masks, part="positive"):
    r"""Share of each map's relevance that lies inside a mask.

    .. math:: s_i = \frac{\sum_p R_i(p)\, M_i(p)}{\sum_p R_i(p)}

    where R is the enlarged positive part or absolute value of the map.

    Parameters
    ----------
    maps : array-like of shape (num_images, height, width) or (num_images, height, width, 1)
        Relevance of any sign and unit, of the masks' size or smaller.
    masks : array-like of shape (num_images, mask_height, mask_width), optionally with a last axis of 1
        1 inside the region, 0 outside, or between the two: the share of the pixel that is inside.
    part : {"positive", "absolute"}
        Which relevance counts: what speaks for the class, or what speaks for and against it.

    Returns
    -------
    ndarray of float64, shape (num_images,)
        In [0, 1]; one is best for a region to look at, zero for one to look away from. NaN for a map that has no
        relevance of that part, so that the number of such maps is ``np.isnan(shares).sum()``.

    Raises
    ------
    ValueError
        If the two are not of as many images, the maps are larger than the masks, a map is not finite, a mask is all
        zero or has values outside [0, 1], or there are no images.

    References
    ----------
    .. [1] callanan2022heatmap, overlap of heat maps with heart, fat and sex label.

    Examples
    --------
    >>> maps = [[[3.0, 1.0]], [[-1.0, 0.0]]]
    >>> relevance_inside(maps, [[[1, 0]], [[1, 0]]]).tolist()
    [0.75, nan]
    >>> relevance_inside(maps, [[[1, 0]], [[1, 0]]], part="absolute").tolist()
    [0.75, 1.0]
    """
    if part not in PARTS:
        raise ValueError(f'`part` is "positive" or "absolute". Received: {part!r}.')
    maps = _checked_maps(maps)
    masks = _checked_masks(masks)
    _check_fit(maps, masks, "masks")
    shares = np.full(len(maps), np.nan)
    for index, (relevance, mask) in enumerate(zip(maps, masks, strict=True)):
        counted = _enlarged(relevance, mask.shape)[PARTS.index(part)]
        total = counted.sum()
        if total > 0:
            shares[index] = (counted * mask).sum() / total
    return shares


class RelevanceOverlap:
    """Share of relevance inside several regions, per class, over a test set of any size.

    Only sums are kept: the memory needed does not depend on the number of images.

    Parameters
    ----------
    regions : dict of str to sequence of int
        Label ids that make up each region, as ``{"heart": (11, 12, 13, 14), "fat": (15,)}``. Regions may overlap.
    class_names : sequence of str
        In the order of the labels 0, 1, ...

    Raises
    ------
    ValueError
        If there are no regions or classes, a name comes twice, or an id is no whole number, 0 or more.

    Notes
    -----
    Three answers to "how much of the relevance lies there", which differ where maps differ in strength:

    - ``pooled_share``: sum inside the region over sum anywhere, both over all images of the class. Maps weigh by their
      relevance, so that an image with next to none cannot decide.
    - ``mean_share``: mean of the images' own shares. An image without the region counts with a share of 0, one
      without relevance not at all.
    - ``mean_share_where_present``: the same, over the images that have the region. For a mark which only some of the
      images bear, this one does not depend on how many do.

    The figure of [1]_ is the mean over classes: the row "mean of classes", here of each of the three. It is NaN as soon
    as one class has no share, instead of silently being a mean of fewer classes.

    References
    ----------
    .. [1] callanan2022heatmap, overlap of heat maps with heart, fat and sex label.

    Examples
    --------
    >>> overlap = RelevanceOverlap({"heart": (11, 12)}, ["NOR", "DCM"])
    >>> label_maps = np.array([[[11, 0]], [[0, 12]]])
    >>> overlap.update([[[3.0, 1.0]], [[1.0, 1.0]]], label_maps, labels=[0, 1])
    >>> [(row["class_name"], row["pooled_share"]) for row in overlap.rows() if row["part"] == "positive"]
    [('NOR', 0.75), ('DCM', 0.5), ('mean of classes', 0.625)]
    """

    def __init__(self, regions, class_names):
        self.regions = _checked_regions(regions)
        self.class_names = _checked_class_names(class_names)
        self._ids = np.unique([label_id for ids in self.regions.values() for label_id in ids])
        self._members = np.array([np.isin(self._ids, ids) for ids in self.regions.values()], float)
        self._numbers_of_bytes = self._numbers(np.arange(256))  # a look-up more than halves the time of an update

        num_classes, num_parts, num_regions = len(self.class_names), len(PARTS), len(self.regions)
        self._num_images = np.zeros(num_classes, np.int64)
        self._num_with_region = np.zeros((num_classes, num_regions), np.int64)
        self._num_without_relevance = np.zeros((num_classes, num_parts), np.int64)
        self._num_present_shares = np.zeros((num_classes, num_parts, num_regions), np.int64)
        self._sum_total = np.zeros((num_classes, num_parts))
        self._sum_inside = np.zeros((num_classes, num_parts, num_regions))
        self._sum_shares = np.zeros((num_classes, num_parts, num_regions))

    def update(self, maps, label_maps, labels):
        """Add images.

        Parameters
        ----------
        maps : array-like of shape (num_images, height, width) or (num_images, height, width, 1)
            Relevance for the class in question, of any sign and unit, of the label maps' size or smaller.
        label_maps : array-like of int, shape (num_images, map_height, map_width), optionally with a last axis of 1
            A label id at every pixel; ids of no region are background.
        labels : array-like of int, shape (num_images,)
            Under which class to count each image: 0 to number of classes - 1.

        Raises
        ------
        ValueError
            If the three are not of as many images, the maps are larger than the label maps, a map is not finite, an id
            or label is no whole number, a label is out of range, or there are no images. Nothing is added then.
        """
        maps = _checked_maps(maps)
        label_maps = _checked_label_maps(label_maps)
        _check_fit(maps, label_maps, "label_maps")
        labels = self._checked_labels(labels, len(maps))
        for relevance, label_map, label in zip(maps, label_maps, labels, strict=True):
            self._add(relevance, label_map, label)

    def _add(self, relevance, label_map, label):
        number = self._numbers(label_map.ravel())
        num_pixels = np.bincount(number, minlength=len(self._ids) + 1)[1:]
        present = self._members @ num_pixels > 0

        self._num_images[label] += 1
        self._num_with_region[label] += present
        for part, counted in enumerate(_enlarged(relevance, label_map.shape)):
            total = counted.sum()
            if not total > 0:
                self._num_without_relevance[label, part] += 1
                continue
            inside = self._members @ np.bincount(number, counted.ravel(), len(self._ids) + 1)[1:]
            self._sum_total[label, part] += total
            self._sum_inside[label, part] += inside
            self._sum_shares[label, part] += inside / total
            self._num_present_shares[label, part] += present

    def _numbers(self, label_ids):
        """Place of each id among those in use, counted from 1; 0 for all others."""
        if label_ids.dtype == np.uint8:
            return self._numbers_of_bytes[label_ids]
        place = np.searchsorted(self._ids, label_ids)
        known = self._ids[np.minimum(place, len(self._ids) - 1)] == label_ids
        return np.where(known, place + 1, 0)

    def rows(self):
        """Results so far.

        Returns
        -------
        list of dict
            For each region, each part of the relevance ("positive", "absolute") and each class, and last the "mean of
            classes": ``region``, ``part``, ``class_name``, ``num_images``, ``num_without_relevance``,
            ``num_with_region`` (in the last row sums over the classes), ``pooled_share``, ``mean_share``,
            ``mean_share_where_present`` (in the last row means over the classes). A share of nothing is NaN.

        Raises
        ------
        ValueError
            If no image was added yet.
        """
        if not self._num_images.sum():
            raise ValueError("RelevanceOverlap has no images yet. Call update(maps, label_maps, labels) first.")
        rows = []
        for region, name in enumerate(self.regions):
            for part, part_name in enumerate(PARTS):
                rows += self._rows_of(region, name, part, part_name)
        return rows

    def _rows_of(self, region, name, part, part_name):
        num_without = self._num_without_relevance[:, part]
        counts = {
            "num_images": self._num_images,
            "num_without_relevance": num_without,
            "num_with_region": self._num_with_region[:, region],
        }
        # an image without the region has a share of 0: the sum over the images that have it is the sum over all
        sum_shares = self._sum_shares[:, part, region]
        shares = {
            "pooled_share": _ratio(self._sum_inside[:, part, region], self._sum_total[:, part]),
            "mean_share": _ratio(sum_shares, self._num_images - num_without),
            "mean_share_where_present": _ratio(sum_shares, self._num_present_shares[:, part, region]),
        }
        rows = []
        for index, class_name in enumerate((*self.class_names, MEAN_OF_CLASSES)):
            last = index == len(self.class_names)
            row = {"region": name, "part": part_name, "class_name": class_name}
            row |= {key: int(values.sum() if last else values[index]) for key, values in counts.items()}
            row |= {key: float(values.mean() if last else values[index]) for key, values in shares.items()}
            rows.append(row)
        return rows

    def _checked_labels(self, labels, num_images):
        labels = np.asarray(labels)
        if labels.shape != (num_images,):
            raise ValueError(
                f"`labels` has one class number for each of the {num_images} maps. Received: shape {labels.shape}. "
                "Take argmax(axis=-1) of one-hot labels first."
            )
        if labels.dtype.kind not in "iu":
            raise ValueError(f"`labels` are whole numbers. Received: {labels.dtype}. Convert with astype(int).")
        wrong = np.flatnonzero((labels < 0) | (labels >= len(self.class_names)))
        if len(wrong):
            raise ValueError(
                f"A label is 0 to {len(self.class_names) - 1}, for the classes {', '.join(self.class_names)}. "
                f"Received: {labels[wrong[0]]} for image {wrong[0]}."
            )
        return labels


def _enlarged(relevance, shape):
    """Positive part and absolute value of one map, each enlarged: (parts, height, width), float64."""
    both = np.stack([np.maximum(relevance, 0.0), np.abs(relevance)], axis=-1)
    if relevance.shape != shape:
        both = cv2.resize(both, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return np.moveaxis(both, -1, 0)


def _ratio(numerators, denominators):
    """Quotient, NaN for nothing over nothing."""
    result = np.full(np.shape(numerators), np.nan)
    return np.divide(numerators, denominators, out=result, where=np.asarray(denominators) > 0)


def _stack(arrays, name):
    """(num_images, height, width) of an array that may have a last axis of 1."""
    arrays = np.asarray(arrays)
    shape = arrays.shape
    if arrays.ndim == 4 and shape[-1] == 1:
        arrays = arrays[..., 0]
    if arrays.ndim != 3:
        raise ValueError(
            f"`{name}` is of shape (num_images, height, width) or (num_images, height, width, 1). Received: {shape}. "
            "Take one class of several, maps[..., k], and give a single image an axis: array[None]."
        )
    if not arrays.size:
        raise ValueError(f"`{name}` has no images or no pixels. Received: shape {shape}. Leave empty batches out.")
    return arrays


def _checked_maps(maps):
    maps = _stack(maps, "maps")
    if maps.dtype.kind not in "iufb":
        maps = maps.astype(np.float64)  # bfloat16 is no kind of NumPy's own
    finite = np.isfinite(maps).all(axis=(1, 2))
    if not finite.all():
        wrong = np.flatnonzero(~finite)
        raise ValueError(
            f"The map of image {wrong[0]} holds NaN or infinity, as do those of {len(wrong)} of {len(maps)} images. "
            "A network that diverged gives such maps: check its logits, and leave it out."
        )
    return maps.astype(np.float64)


def _checked_masks(masks):
    masks = _stack(masks, "masks").astype(np.float64)
    low, high = masks.min(axis=(1, 2)), masks.max(axis=(1, 2))
    outside = np.flatnonzero(~((low >= 0) & (high <= 1)))
    if len(outside):
        index = outside[0]
        raise ValueError(
            f"A mask is 1 inside, 0 outside or between the two. Received: values from {low[index]:g} to "
            f"{high[index]:g} in the mask of image {index}. Divide a 0/255 mask by 255; of a label map take "
            "numpy.isin(label_map, ids)."
        )
    empty = np.flatnonzero(high == 0)
    if len(empty):
        raise ValueError(
            f"The mask of image {empty[0]} is all zero, as are those of {len(empty)} of {len(masks)} images: a share "
            "inside nothing says nothing. Leave these images out; RelevanceOverlap counts images without a region."
        )
    return masks


def _checked_label_maps(label_maps):
    label_maps = _stack(label_maps, "label_maps")
    if label_maps.dtype.kind not in "iu":
        raise ValueError(
            f"`label_maps` hold whole numbers, the ids of tissues. Received: {label_maps.dtype}. Convert with "
            "astype(int), after nearest-neighbour resizing if any."
        )
    negative = np.flatnonzero((label_maps < 0).any(axis=(1, 2)))
    if len(negative):
        raise ValueError(
            f"Ids of a label map are 0 or more. Received: {label_maps[negative[0]].min()} in the label map of image "
            f"{negative[0]}."
        )
    return label_maps


def _check_fit(maps, masks, name):
    if len(maps) != len(masks):
        raise ValueError(
            f"`maps` and `{name}` are of as many images. Received: {len(maps)} and {len(masks)}. Pass one for each "
            "image, in one order."
        )
    if maps.shape[1] > masks.shape[1] or maps.shape[2] > masks.shape[2]:
        raise ValueError(
            f"`maps` are of the size of `{name}` or smaller, and are enlarged. Received: {maps.shape[1:]} cells and "
            f"{masks.shape[1:]} pixels. Pass the `{name}` of the images that the network saw, unresized."
        )


def _checked_regions(regions):
    regions = {str(name): tuple(np.atleast_1d(ids).tolist()) for name, ids in dict(regions).items()}
    for name, ids in regions.items():
        if not ids or not all(type(label_id) is int and label_id >= 0 for label_id in ids):
            raise ValueError(
                f"A region is one or more label ids, whole numbers of 0 or more. Received: {ids!r} for {name!r}."
            )
    if not regions:
        raise ValueError('`regions` is empty. Pass for example {"heart": (11, 12, 13, 14)}.')
    return regions


def _checked_class_names(class_names):
    names = () if isinstance(class_names, str) else tuple(class_names)
    if not names or len(set(names)) < len(names) or MEAN_OF_CLASSES in names:
        raise ValueError(
            f"`class_names` are the names of the labels 0, 1, ..., each one once, none of them {MEAN_OF_CLASSES!r}. "
            f"Received: {class_names!r}."
        )
    return names
