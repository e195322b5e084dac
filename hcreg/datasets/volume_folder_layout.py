"""How folders name their pairs of image and label map: the schemes there are, which a folder has, what is paired."""

import re
from dataclasses import dataclass, field

from hcreg.preprocessing import metaimage

ENDINGS = (".nii.gz", ".nii", *metaimage.ENDINGS)
LABEL_SUFFIXES = ("_label", "_labels", "_gt", "_seg", "_segmentation", "_mask")
FOLDERS = {"train": "pairs of images and label maps"}
# Scheme: what it looks like, for messages.
SCHEMES = {
    "suffix": "X.nii.gz beside X_label.nii.gz (or " + ", ".join(LABEL_SUFFIXES[1:]) + ")",
    "folders": "images/X.nii.gz and labels/X.nii.gz",
    "nnunet": "imagesTr/X_0000.nii.gz and labelsTr/X.nii.gz",
}
_PARTS = {"folders": ("images", "labels"), "nnunet": ("imagesTr", "labelsTr")}
_SCAN = re.compile(r"[_-]scan\d+$", re.IGNORECASE)
_CHANNEL = re.compile(r"_(\d{4})$")


@dataclass
class Pair:
    """What files there are for one subject: one image and one label map if all is well."""

    images: list = field(default_factory=list)
    label_maps: list = field(default_factory=list)


def subject_of(subject_id):
    """Whom a volume is of: its id without ``_scan1`` or the like, so that repeated scans have one subject."""
    return _SCAN.sub("", subject_id)


def is_there(root, split):
    """Whether a root holds such pairs, or one half of them."""
    return root.is_dir() and bool(schemes_there(root))


def no_folder(root, split):
    """Say why no pairs were found, and what to do."""
    if not root.exists():
        return "there is no such folder. Give the folder that holds the pairs."
    if not root.is_dir():
        return "is a file; expected a folder of pairs of image and label map."
    return f"holds no pairs of image and label map. Expected {'; or '.join(SCHEMES.values())}."


def schemes_there(root):
    """Schemes of which a folder has files: list of names."""
    found = ["suffix"] if any(_without_suffix(stem_of(path)) for path in _beside(root)) else []
    for scheme, parts in _PARTS.items():
        if any(_volumes(root / part) for part in parts):
            found.append(scheme)
    return found


def pairs_of(root, scheme):
    """Pair a folder's files.

    Parameters
    ----------
    root : pathlib.Path
    scheme : str
        One of `SCHEMES`.

    Returns
    -------
    pairs : dict of str to Pair
        By subject id, sorted.
    misnamed : list of pathlib.Path
        Images whose name the scheme does not know.
    """
    pairs, misnamed = {}, []
    if scheme == "suffix":
        files = _beside(root)
        stems = [_without_suffix(stem_of(path)) or stem_of(path) for path in files]
        folders = {}
        for path, stem in zip(files, stems):
            folders.setdefault(stem, set()).add(path.parent)
        for path, stem in zip(files, stems):
            # One name in several folders: the folder is part of the id.
            name = stem if len(folders[stem]) == 1 else (path.parent.relative_to(root) / stem).as_posix()
            pair = pairs.setdefault(name, Pair())
            (pair.label_maps if _without_suffix(stem_of(path)) else pair.images).append(path)
    else:
        images, label_maps = (_volumes(root / part) for part in _PARTS[scheme])
        for path in images:
            name = stem_of(path)
            if scheme == "nnunet":
                channel = _CHANNEL.search(name)
                if channel is None or channel[1] != "0000":
                    misnamed.append(path)
                    continue
                name = name[: channel.start()]
            pairs.setdefault(name, Pair()).images.append(path)
        for path in label_maps:
            name = stem_of(path)
            if name not in pairs:
                name = _without_suffix(name) or name
            pairs.setdefault(name, Pair()).label_maps.append(path)
    return dict(sorted(pairs.items())), misnamed


def expected_label_map(image_path, scheme):
    """Where the label map of an image should be, for a message."""
    stem, ending = stem_of(image_path), image_path.name[len(stem_of(image_path)) :]
    if scheme == "suffix":
        return f"{stem}_label{ending} beside it"
    if scheme == "nnunet":
        stem = _CHANNEL.sub("", stem)
    return f"{_PARTS[scheme][1]}/{stem}{ending}"


def stem_of(path):
    """Name of a file without its ending."""
    return next(path.name[: -len(ending)] for ending in ENDINGS if path.name.lower().endswith(ending))


def _without_suffix(stem):
    """Name of the image that a label map's name says, or None if it is no label map's."""
    lower = stem.lower()
    return next((stem[: -len(s)] for s in LABEL_SUFFIXES if lower.endswith(s) and len(stem) > len(s)), None)


def _is_volume(path):
    return path.name.lower().endswith(ENDINGS) and not path.name.startswith(".") and path.is_file()


def _volumes(folder):
    return [path for path in sorted(folder.iterdir()) if _is_volume(path)] if folder.is_dir() else []


def _beside(root):
    """Volumes anywhere below a folder but in the folders of other schemes."""
    others = [root / part for parts in _PARTS.values() for part in parts]
    found = (path for path in sorted(root.rglob("*")) if not any(other in path.parents for other in others))
    return [path for path in found if _is_volume(path)]
