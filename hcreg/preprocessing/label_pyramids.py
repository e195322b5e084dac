"""Label maps at a half and a quarter of their size, for the auxiliary outputs of a network of deep supervision.

>>> import numpy as np
>>> label_map = np.zeros((4, 4), np.uint8)
>>> label_map[:2, :3] = 1
>>> [level.tolist() for level in label_pyramid(label_map, 2)[1:]]
[[[1, 1], [0, 0]]]
"""

import numpy as np

METHODS = ("majority", "nearest")
OUTPUTS = ("mask", "mask_half", "mask_quarter")  # of full size, a half, a quarter


def label_pyramid(label_map, num_levels=3, method="majority", vanishing="refuse"):
    """A label map at full size, a half, a quarter and so on.

    Parameters
    ----------
    label_map : ndarray of int of shape (height, width) or (height, width, slices)
        Classes from 0, the background; sides multiples of ``2 ** (num_levels - 1)``.
    num_levels : int
        1 or more, the full size counted in.
    method : {"majority", "nearest"}
        A voxel's label is the one that most of the voxels it stands for have, of equally many the largest, so that half
        a voxel of foreground is not lost; or that of the voxel after its middle.
    vanishing : {"refuse", "accept"}
        What if a class is at full size and not at a smaller one. In patches, the rim of a structure may be so.

    Returns
    -------
    list of ndarray of the label map's type
        From full size down.

    Raises
    ------
    ValueError
        For sides that cannot be halved so often, unknown methods, labels that are not whole numbers from 0 on, and a
        class other than the background that a level has lost.

    Notes
    -----
    The original interpolates label maps and casts to whole numbers, which takes all shares below 1 for background and
    can leave a level without any foreground. Each level here is computed from the full size, not from the one before: a
    majority of majorities is another thing.
    """
    label_map = np.asarray(label_map)
    _check(label_map, num_levels, method, vanishing)
    classes = np.unique(label_map)
    levels = [label_map]
    for number in range(1, num_levels):
        step = 2**number
        level = _majority(label_map, step, classes) if method == "majority" else _nearest(label_map, step)
        lost = sorted(set(classes[classes > 0].tolist()) - set(np.unique(level).tolist()))
        if lost and vanishing == "refuse":
            raise ValueError(
                f"At 1/{step} of the size the label map has lost its foreground: class {', '.join(map(str, lost))} of "
                f"{' x '.join(map(str, label_map.shape))} voxels is on none of {' x '.join(map(str, level.shape))} "
                f'({method}). Use fewer levels or smaller voxels, or vanishing="accept" for patches.'
            )
        levels.append(level)
    return levels


def pyramid_targets(label_map, classes=2, num_levels=3, method="majority", vanishing="refuse"):
    """What a network of deep supervision is trained on, by the names of its outputs.

    Parameters
    ----------
    label_map : ndarray of int of shape (height, width) or (height, width, slices)
    classes : int
        The background among them; labels are below it.
    num_levels : int
        1 to 3: "mask" alone, with "mask_half", with "mask_quarter".
    method, vanishing
        As of `label_pyramid`.

    Returns
    -------
    dict of str to ndarray of shape (..., classes), float32
        One for the class of a voxel, else zero.

    Raises
    ------
    ValueError
        As `label_pyramid`; for a label that is not one of the classes, and more levels than there are outputs.

    Examples
    --------
    >>> import numpy as np
    >>> targets = pyramid_targets(np.eye(4, dtype=int), num_levels=2)
    >>> targets["mask"][0].tolist(), targets["mask_half"].shape
    ([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], (2, 2, 2))
    """
    if num_levels not in (1, 2, 3):
        raise ValueError(f"There are outputs for 1 to 3 levels, {', '.join(OUTPUTS)}. Received: {num_levels!r}.")
    levels = label_pyramid(label_map, num_levels, method, vanishing)
    largest = int(levels[0].max())
    if largest >= classes:
        raise ValueError(
            f"A network of {classes} classes is trained on labels from 0 to {classes - 1}. Received: a label "
            f"{largest}. Join classes first, or build the network with more of them."
        )
    return {name: (level[..., None] == np.arange(classes)).astype(np.float32) for name, level in zip(OUTPUTS, levels)}


def _check(label_map, num_levels, method, vanishing):
    if isinstance(num_levels, bool) or not isinstance(num_levels, (int, np.integer)) or num_levels < 1:
        raise ValueError(f"num_levels of a label pyramid is a whole number, 1 or more. Received: {num_levels!r}.")
    for argument, value, allowed in (("method", method, METHODS), ("vanishing", vanishing, ("refuse", "accept"))):
        if value not in allowed:
            raise ValueError(
                f"{argument} of a label pyramid is {' or '.join(map(repr, allowed))}. Received: {value!r}."
            )
    if label_map.ndim not in (2, 3) or label_map.size == 0:
        raise ValueError(
            "A label pyramid is of a label map (height, width) or (height, width, slices). Received: an array of shape "
            f"{label_map.shape}."
        )
    if not (np.issubdtype(label_map.dtype, np.integer) or label_map.dtype == bool) or label_map.min() < 0:
        raise ValueError(
            "Labels are whole numbers from 0, the background. Received: an array of "
            f"{label_map.dtype} from {label_map.min()} on."
        )
    multiple = 2 ** (num_levels - 1)
    if any(side % multiple for side in label_map.shape):
        raise ValueError(
            f"To be halved {num_levels - 1} times, every side of a label map is a multiple of {multiple}. Received: "
            f"{' x '.join(map(str, label_map.shape))}. Pad it with hcreg.preprocessing.padding, as its volume."
        )


def _nearest(label_map, step):
    return label_map[(slice(step // 2, None, step),) * label_map.ndim]


def _majority(label_map, step, classes):
    best = counted = None
    for label in classes[::-1]:
        counts = _sum_of_blocks(label_map == label, step)
        if best is None:
            best, counted = np.full(counts.shape, label, label_map.dtype), counts
        else:
            more = counts > counted  # of equally many the largest label, which came first
            best[more], counted[more] = label, counts[more]
    return best


def _sum_of_blocks(inside, step):
    """How many voxels of each block of `step` along every axis; by slices, many times faster than one large sum."""
    counts = inside.astype(np.int32)
    for axis in range(inside.ndim):
        parts = [counts[(slice(None),) * axis + (slice(start, None, step),)] for start in range(step)]
        counts = sum(parts[1:], parts[0].copy())
    return counts
