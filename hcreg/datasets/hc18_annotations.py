"""An annotation of HC18, be it an outline or a filled head: its ellipse and its mask."""

from dataclasses import replace

import cv2
import numpy as np

from hcreg.geometry import fit_ellipse, fit_ellipse_outline


def ellipse_of_annotation(annotation):
    """Fit an ellipse to an annotation, be it a thin outline or a filled mask.

    Parameters
    ----------
    annotation : array of shape (height, width), uint8
        Two values, such as 0 and 255; between them, whatever a JPEG or a smooth pen left. The head is bright.

    Returns
    -------
    ellipse : hcreg.geometry.Ellipse
        In pixels of `annotation`.
    mask : ndarray of shape (height, width), bool
        The head, filled.

    Raises
    ------
    ValueError
        If nothing is drawn, all is, there are several things, or what is drawn is no ellipse.

    Notes
    -----
    Which of the two it is, is told by the thickest place of what is drawn, in proportion to its extent:
    below 1/4 for an outline (0.02 at most in HC18), above 1/2 for a filled ellipse. A head that the
    image's border cuts leaves open arcs, which filling would miss (4 of 806 in HC18): their ellipse is
    fitted all the same.
    """
    drawn = annotation > annotation.max() / 2
    if not drawn.any():
        raise ValueError("nothing is drawn in this annotation: every pixel is black. Replace it.")
    if drawn.all():
        raise ValueError("this annotation is one single value; expected a head on a black ground. Replace it.")
    x, y, width, height = cv2.boundingRect(drawn.astype(np.uint8))
    window = np.pad(drawn[y : y + height, x : x + width], 1).astype(np.uint8)
    thickness = 2 * cv2.distanceTransform(window, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max() - 1
    filling = thickness / min(width, height)
    _require_one_head(drawn, is_outline=filling < 0.25)
    try:
        if filling < 0.25:
            ellipse = fit_ellipse_outline(drawn)
            if _share_near(drawn, ellipse, thickness) > 0.95:
                return ellipse, ellipse.mask(drawn.shape)
        elif filling > 0.5:
            ellipse = fit_ellipse(drawn)
            of_ellipse = ellipse.mask(drawn.shape)
            if 2 * np.count_nonzero(of_ellipse & drawn) / (of_ellipse.sum() + drawn.sum()) > 0.95:
                return ellipse, drawn
        reason = ""
    except ValueError as error:
        reason = f" ({error})"
    raise ValueError(
        "this annotation is neither the thin outline of an ellipse nor a filled one. "
        f"Expected HC18's own annotation, or a mask of the head alone, bright on black.{reason}"
    )


def _share_near(drawn, ellipse, thickness_px):
    """Give the share of the drawn pixels near the ellipse: within 5 % of its radius, or a pen's width."""
    a, b = ellipse.semi_axis_a_px, ellipse.semi_axis_b_px
    width = min(max(0.05, (thickness_px + 2) / b), 0.5)
    outer = replace(ellipse, semi_axis_a_px=a * (1 + width), semi_axis_b_px=b * (1 + width)).mask(drawn.shape)
    inner = replace(ellipse, semi_axis_a_px=a * (1 - width), semi_axis_b_px=b * (1 - width)).mask(drawn.shape)
    return np.count_nonzero(drawn & outer & ~inner) / np.count_nonzero(drawn)


def _require_one_head(drawn, is_outline):
    num_labels, labels, boxes, _ = cv2.connectedComponentsWithStats(drawn.astype(np.uint8), connectivity=8)
    if num_labels <= 2:
        return
    height, width = labels.shape
    left, top = boxes[1:, cv2.CC_STAT_LEFT], boxes[1:, cv2.CC_STAT_TOP]
    right, bottom = left + boxes[1:, cv2.CC_STAT_WIDTH], top + boxes[1:, cv2.CC_STAT_HEIGHT]
    cut = (left == 0) | (top == 0) | (right == width) | (bottom == height)
    # The border may cut one outline into several arcs; whether these lie on one ellipse, the fit tells.
    if not (is_outline and cut.all()):
        raise ValueError(
            f"this annotation holds {num_labels - 1} separate things; expected one head. Remove marks, text and specks."
        )
