"""What a fit takes from a mask: what counts as inside, the largest component, and where its boundary runs."""

import math

import cv2
import numpy as np


def checked_mask(mask):
    """The mask as an array, and the level above which a pixel is inside."""
    mask = np.asarray(mask)
    if mask.ndim != 2:
        raise ValueError(
            f"a mask must be 2-D, (height, width). Received shape: {mask.shape}. "
            "Squeeze batch and channel axes first, or pass one mask at a time."
        )
    if mask.size == 0:
        raise ValueError(f"the mask is empty: its shape is {mask.shape}.")
    if mask.dtype == bool:
        return mask.view(np.uint8), 0.5
    low, high = float(mask.min()), float(mask.max())
    if math.isnan(low) or math.isnan(high):
        raise ValueError(f"the mask holds NaN in {int(np.isnan(mask).sum())} of {mask.size} pixels.")
    # Cubic and Lanczos resizing take probabilities a little outside [0, 1].
    if low >= -0.25 and high <= 1.25:
        return mask, 0.5
    if low >= 0 and high == 255:
        return mask, 127.5
    raise ValueError(
        "a mask must hold 0/1, 0/255 or probabilities in [0, 1]. "
        f"Received values from {low:g} to {high:g}. "
        "For a label map pass `label_map == label`, for logits their sigmoid."
    )


def largest_component(inside):
    """Component of the largest area, holes filled, cut to its bounding box; and the box's (x, y) offset."""
    inside = inside.view(np.uint8)
    left, top, width, height = cv2.boundingRect(inside)
    if width == 0:
        raise ValueError("the mask is empty: no pixel of it lies above the threshold.")
    window = inside[top : top + height, left : left + width]
    contours, _ = cv2.findContours(window, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    # Pick's theorem: the number of pixels enclosed, the boundary's included.
    areas = [cv2.contourArea(contour) + len(contour) / 2 + 1 for contour in contours]
    contour = contours[int(np.argmax(areas))]
    x, y, width, height = cv2.boundingRect(contour)
    component = np.zeros((height, width), dtype=np.uint8)
    cv2.drawContours(component, [contour], -1, 1, cv2.FILLED, offset=(-x, -y))
    return component, (left + x, top + y)


def boundary_points(values, level, inside, offset):
    """Where the component's boundary crosses the lines through pixel centres: (n, 2) of (x, y), px."""
    image_height, image_width = values.shape
    left, top = offset
    # One pixel more on each side, where the image has one: what touches the image's border is no boundary.
    before_x, before_y = min(left, 1), min(top, 1)
    after_x = min(image_width - left - inside.shape[1], 1)
    after_y = min(image_height - top - inside.shape[0], 1)
    inside = np.pad(inside, ((before_y, after_y), (before_x, after_x)))
    left, top = left - before_x, top - before_y
    window = values[top : top + inside.shape[0], left : left + inside.shape[1]]
    points = []
    for step_x, step_y in ((1, 0), (0, 1)):
        first = inside[: inside.shape[0] - step_y, : inside.shape[1] - step_x]
        second = inside[step_y:, step_x:]
        if first.size == 0:  # a window one pixel wide has no neighbours that way, and OpenCV refuses it
            continue
        changes = cv2.findNonZero(cv2.bitwise_xor(np.ascontiguousarray(first), np.ascontiguousarray(second)))
        if changes is None:
            continue
        x, y = changes.reshape(-1, 2).T
        here = window[y, x].astype(np.float64)
        there = window[y + step_y, x + step_x].astype(np.float64)
        fraction = (here - level) / (here - there)
        points.append(np.stack([left + x + step_x * fraction, top + y + step_y * fraction], axis=1))
    return np.concatenate(points) if points else np.zeros((0, 2))
