"""ACDC's Info.cfg: which frames are end-diastole and end-systole, and what is known of the patient."""

import math
from dataclasses import dataclass

from hcreg.datasets.problems import Problem

FILE = "Info.cfg"
GROUPS = ("NOR", "MINF", "DCM", "HCM", "RV")
_KEYS = ("ED", "ES", "Group", "Height", "NbFrame", "Weight")
_REQUIRED = {"train": _KEYS, "test": ("ED", "ES")}


@dataclass(frozen=True)
class PatientInfo:
    """What Info.cfg says of a patient.

    Attributes
    ----------
    frames : dict of str to int
        Number of the frame, from 1 on, for ``"ED"`` and ``"ES"``.
    group : str or None
        One of `GROUPS`; None where the test set does not tell it.
    height_cm : float or None, cm
    weight_kg : float or None, kg
    """

    frames: dict
    group: str | None
    height_cm: float | None
    weight_kg: float | None


def read_info(path, split):
    """Read a patient's Info.cfg.

    Parameters
    ----------
    path : pathlib.Path
    split : {"train", "test"}
        In the test set only ED and ES are indispensable: older downloads hide the group.

    Returns
    -------
    info : PatientInfo or None
        None if anything is wrong.
    problems : list of Problem
        All that is wrong with it.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        message = "there is no such file, and without it nobody knows which frame is ED and which ES. Copy it there."
        return None, [Problem(path, message, "no Info.cfg")]
    except (OSError, UnicodeDecodeError) as error:
        return None, [Problem(path, f"is not readable as text ({error}). Download it again.", "Info.cfg unreadable")]
    problems = []
    pairs = [(key.strip(), value.strip()) for key, colon, value in (line.partition(":") for line in lines) if colon]
    cells = dict(pairs)
    for key in _KEYS:
        values = [repr(value) for name, value in pairs if name == key]
        if len(values) > 1:
            message = f"has {len(values)} lines {key}, of {' and '.join(values)}. Expected one; remove what is wrong."
            problems.append(Problem(path, message, "key twice"))
    missing = [key for key in _REQUIRED[split] if key not in cells]
    if missing:
        message = f"has no {' and no '.join(missing)}. Expected lines {', '.join(_REQUIRED[split])}, such as 'ED: 1'."
        problems.append(Problem(path, f"{message} Found: {', '.join(cells) or 'nothing'}.", "missing key"))
    frames = {key: _frame(path, key, cells, problems) for key in ("ED", "ES", "NbFrame") if key in cells}
    height_cm, weight_kg = (_positive(path, key, cells, problems) for key in ("Height", "Weight"))
    group = cells.get("Group")
    if group is not None and group not in GROUPS:
        message = f"Group must be one of {', '.join(GROUPS)}. Received: {group!r}."
        problems.append(Problem(path, message, "group"))
    if not problems:
        _compare(path, frames, problems)
    if problems:
        return None, problems
    return PatientInfo({"ED": frames["ED"], "ES": frames["ES"]}, group, height_cm, weight_kg), problems


def _frame(path, key, cells, problems):
    try:
        number = int(cells[key])
    except ValueError:
        number = 0
    if number < 1:
        message = f"{key} must be a whole number, 1 or more. Received: {cells[key]!r}."
        problems.append(Problem(path, message, "no number"))
    return number


def _positive(path, key, cells, problems):
    if key not in cells:
        return None
    try:
        number = float(cells[key])
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        message = f"{key} must be a positive number. Received: {cells[key]!r}."
        problems.append(Problem(path, message, "no number"))
    return number


def _compare(path, frames, problems):
    """Compare the numbers of frames with each other."""
    if frames["ED"] == frames["ES"]:
        message = f"ED and ES are one frame, {frames['ED']}. Expected two: the heart fills and empties between them."
        problems.append(Problem(path, message, "one phase"))
    for phase in ("ED", "ES"):
        if frames[phase] > frames.get("NbFrame", math.inf):
            message = f"{phase} is frame {frames[phase]}, but NbFrame says that there are {frames['NbFrame']}."
            problems.append(Problem(path, message, "frame beyond the last"))
