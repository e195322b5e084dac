"""ACDC's folder as downloaded, or nearly so: where a split lies in it, its patients, and the files of a frame."""

import re

FOLDERS = {"train": "training", "test": "testing"}
PATIENT = re.compile(r"patient\d{3}")
_AROUND = "database"  # what the official archive has around both
_ENDINGS = (".nii.gz", ".nii")


def is_there(root, split):
    """Whether a root holds a split."""
    return split_folder(root, split) is not None


def split_folder(root, split):
    """Find the folder of a split's patients: below root or ``root/database``, root itself, or one folder further down.

    Parameters
    ----------
    root : pathlib.Path
    split : {"train", "test"}

    Returns
    -------
    pathlib.Path or None
    """
    name = FOLDERS[split]
    if not root.is_dir():
        return None
    if root.name == name and patient_folders(root):
        return root
    found = _below(root, name)
    if found is None:
        inside = [_below(path, name) for path in sorted(root.iterdir()) if _is_shown(path)]
        inside = [path for path in inside if path is not None]
        found = inside[0] if len(inside) == 1 else None
    if found is None:
        return root if root.name == name else None
    nested = found / name  # an archive unpacked into a folder of its own name
    return nested if nested.is_dir() and not patient_folders(found) else found


def no_folder(root, split):
    """Say why no folder of the split was found, and what to do."""
    if not root.exists():
        return "there is no such folder. Give the folder that holds training and testing."
    if not root.is_dir():
        return "is a file; expected the folder that holds training. Unpack the archive first."
    return f"holds no {FOLDERS[split]}. Expected ACDC's folder, with that and in it patient001 and so on."


def patient_folders(folder):
    """List the folders that are named as a patient is, in order."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and PATIENT.fullmatch(path.name)]


def other_folders(folder):
    """List the folders that are named otherwise, but for those that archives and systems add."""
    return [path for path in sorted(folder.iterdir()) if _is_shown(path) and not PATIENT.fullmatch(path.name)]


def frame_name(patient_id, frame, is_label_map=False):
    """Name the file of a frame, without its ending: ``patient001_frame01``, or ``patient001_frame01_gt``."""
    return f"{patient_id}_frame{frame:02d}{'_gt' if is_label_map else ''}"


def frame_path(folder, frame, is_label_map=False):
    """Path of a frame's file, compressed or not; None if there is none."""
    name = frame_name(folder.name, frame, is_label_map)
    return next((path for path in (folder / f"{name}{ending}" for ending in _ENDINGS) if path.is_file()), None)


def frames_there(folder):
    """Numbers of the frames whose image lies in a patient's folder."""
    pattern = re.compile(rf"{folder.name}_frame(\d+)\.nii(\.gz)?")
    return sorted({int(match[1]) for path in folder.iterdir() if (match := pattern.fullmatch(path.name))})


def _below(folder, name):
    return next((path for path in (folder / name, folder / _AROUND / name) if path.is_dir()), None)


def _is_shown(path):
    return path.is_dir() and not path.name.startswith(".") and path.name != "__MACOSX"
