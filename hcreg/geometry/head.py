"""What is read off a fetal head: its circumference, and from that the gestational age."""

import warnings

import numpy as np

from hcreg.geometry.fitting import fit_ellipse

# Hadlock 1984: the regression and the menstrual ages, in weeks, of the fetuses it was made from.
_HADLOCK_COEFFICIENTS = (8.96, 0.540, 0.0003)
_HADLOCK_WEEKS = (14.0, 42.0)


def head_circumference_mm(mask, spacing_mm, method="boundary"):
    """Head circumference of a filled mask: largest component, ellipse, Ramanujan II.

    Parameters
    ----------
    mask : array-like of shape (height, width)
        As in :func:`fit_ellipse`.
    spacing_mm : float or (x, y), mm
        Size of the *mask's* pixels. For a mask of 128x128 of a 800x540 image at 0.135 mm that is
        ``(0.135 * 800 / 128, 0.135 * 540 / 128)``.
    method : {"boundary", "moments"}
        As in :func:`fit_ellipse`.

    Returns
    -------
    float, mm

    Raises
    ------
    ValueError
        As :func:`fit_ellipse`; and if the spacing is not positive.

    Examples
    --------
    >>> from hcreg.geometry import Ellipse
    >>> disc = Ellipse(60.0, 60.0, 50.0, 50.0, 0.0).mask((121, 121))
    >>> abs(head_circumference_mm(disc, 0.2) - 2 * np.pi * 50 * 0.2) < 0.1
    True
    """
    return fit_ellipse(mask, method=method, spacing_mm=spacing_mm).circumference_mm(spacing_mm)


def gestational_age_weeks(hc_mm):
    r"""Gestational age from the head circumference, by Hadlock's regression of 1984.

    .. math:: \mathrm{GA} = 8.96 + 0.540\,\mathrm{HC} + 0.0003\,\mathrm{HC}^3 \qquad (\text{HC in cm})

    Parameters
    ----------
    hc_mm : float or array-like, mm

    Returns
    -------
    float or ndarray, weeks
        Menstrual weeks. NaN outside 89.4 to 357.7 mm, the values that map to the 14 to 42 weeks the study
        covered; NaN for NaN.

    Warns
    -----
    UserWarning
        If a value lies outside that range. Smaller heads are dated by crown-rump length instead.

    References
    ----------
    .. [1] hadlock1984age: Hadlock, Deter, Harrist, Park: Estimating fetal age: computer-assisted analysis of
       multiple fetal growth parameters. Radiology 152, 497-501 (1984); the regression on HC alone.

    Examples
    --------
    >>> round(gestational_age_weeks(200.0), 2)
    22.16
    """
    hc_cm = np.asarray(hc_mm, dtype=np.float64) / 10.0
    constant, linear, cubic = _HADLOCK_COEFFICIENTS
    weeks = constant + linear * hc_cm + cubic * hc_cm**3
    # The regression grows with HC, so a range of weeks is a range of HC.
    outside = (weeks < _HADLOCK_WEEKS[0]) | (weeks > _HADLOCK_WEEKS[1])
    if outside.any():
        low_mm, high_mm = _hadlock_range_mm()
        warnings.warn(
            f"gestational age is NaN for {int(outside.sum())} of {outside.size} head circumferences outside "
            f"{low_mm:.1f} to {high_mm:.1f} mm, the 14 to 42 weeks that Hadlock 1984 covers.",
            UserWarning,
            stacklevel=2,
        )
    weeks = np.where(outside, np.nan, weeks)
    return float(weeks) if weeks.ndim == 0 else weeks


def _hadlock_range_mm():
    """Head circumferences, mm, that the regression maps to the ends of its range of weeks."""
    constant, linear, cubic = _HADLOCK_COEFFICIENTS
    ends_mm = []
    for weeks in _HADLOCK_WEEKS:
        roots = np.roots([cubic, 0.0, linear, constant - weeks])
        ends_mm.append(10.0 * float(roots[np.abs(roots.imag) < 1e-9].real[0]))
    return tuple(ends_mm)
