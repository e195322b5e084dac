"""HC18's folder as downloaded, or nearly so: where a split lies in it, and what its files are named."""

import re

from hcreg.datasets.problems import Problem

FOLDERS = {"train": "training_set", "test": "test_set"}
CSV_FILES = {"train": "training_set_pixel_size_and_HC.csv", "test": "test_set_pixel_size.csv"}
NAME = re.compile(r"(?P<subject>(?P<examination>\d{3})_[2-9]?HC)(?P<annotation>_Annotation)?\.png")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}


def is_there(root, split):
    """Whether a root holds anything of a split."""
    base = base_folder(root, split)
    return base is not None and ((base / FOLDERS[split]).is_dir() or (base / CSV_FILES[split]).is_file())


def base_folder(root, split):
    """Find the folder that holds the split's folder: root, its parent, or the only such folder inside it."""
    name = FOLDERS[split]
    if (root / name).is_dir() and not (root.name == name and any(root.glob("*.png"))):
        # `training_set/training_set`, given as root: the CSV lies above.
        return root.parent if root.name == name and not (root / CSV_FILES[split]).is_file() else root
    if root.name == name and root.is_dir():
        return root.parent
    if not root.is_dir():
        return None
    inside = [path for path in sorted(root.iterdir()) if (path / name).is_dir() and path.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 else None


def no_folder(root, split):
    """Say why no folder of the split was found, and what to do."""
    if not root.exists():
        return "there is no such folder. Give the folder that holds training_set and test_set."
    if not root.is_dir():
        return "is a file; expected the folder that holds training_set. Unpack the archive first."
    message = f"holds no {FOLDERS[split]}. Expected HC18's folder, with that and {CSV_FILES[split]} in it."
    if (root / f"{FOLDERS[split]}.zip").is_file():
        message += f" Unpack {FOLDERS[split]}.zip there."
    return message


def list_images(folder):
    """List the images and annotations of a split's folder.

    Returns
    -------
    images, annotations : dict of str to pathlib.Path
        By subject id.
    problems : list of Problem
        Images named otherwise, and annotations without an image.
    """
    images, annotations, problems = {}, {}, []
    for path in sorted(folder.iterdir()):
        # Names with a leading dot are what macOS adds to archives.
        if path.name.startswith(".") or path.suffix.lower() not in _IMAGE_SUFFIXES:
            continue
        match = NAME.fullmatch(path.name)
        if match is None:
            message = "is not named as HC18's files are, NNN_HC.png, NNN_2HC.png or NNN_HC_Annotation.png."
            problems.append(Problem(path, f"{message} Rename or move it.", "name"))
        elif match["annotation"]:
            annotations[match["subject"]] = path
        else:
            images[match["subject"]] = path
    for subject in sorted(annotations.keys() - images.keys()):
        message = f"has no image {subject}.png beside it. Copy the image there, or remove the annotation."
        problems.append(Problem(annotations[subject], message, "annotation without image"))
    return images, annotations, problems
