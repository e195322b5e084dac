"""HC18: 2-D ultrasound of the fetal head with its outline and circumference, read as downloaded."""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from hcreg.geometry import fit_ellipse, fit_ellipse_outline
from hcreg.preprocessing.images import read_image, read_shape

_FOLDERS = {"train": "training_set", "test": "test_set"}
_CSV_FILES = {"train": "training_set_pixel_size_and_HC.csv", "test": "test_set_pixel_size.csv"}
_NAME = re.compile(r"(?P<subject>(?P<examination>\d{3})_[2-9]?HC)(?P<annotation>_Annotation)?\.png")
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
# Headers without case and spaces, for mirrors write `head circumference(mm)` and `head circumference (mm)`.
_COLUMNS = {
    "filename": "filename",
    "pixelsize(mm)": "pixel size(mm)",
    "headcircumference(mm)": "head circumference (mm)",
}
# Twice as far out as anything in HC18 (0.0494 to 0.3933 mm; 44.3 to 346.4 mm): a wrong unit, not a rare head.
_PIXEL_SIZE_RANGE_MM = (0.025, 0.8)
_HC_RANGE_MM = (20.0, 700.0)
_LAST_EXAMINATION_OF_TRIMESTER = ((132, 1), (696, 2))
_MISSING = {"no folder", "no CSV", "row without image", "image without annotation"}
_NUM_SHOWN = 5


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a data set.

    Attributes
    ----------
    path : pathlib.Path
        The file or folder to look at.
    message : str
        What is wrong with it and what to do, without the path.
    kind : str
        What problems of one sort share, for counting them.
    """

    path: Path
    message: str
    kind: str = ""

    def __str__(self):
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class HC18Record:
    """One image of HC18 and what is known of it; pixels are read when asked for.

    Attributes
    ----------
    subject_id : str
        File name without ending, such as ``010_2HC``: the second image of examination 010.
    examination_id : str
        Such as ``010``. Images of one examination show one head: never divide them between training and test.
    image_path : pathlib.Path
    annotation_path : pathlib.Path or None
        None in the test set.
    pixel_size_mm : float, mm
        Side of a square pixel.
    hc_mm : float or None, mm
        Head circumference; None in the test set.
    trimester : {1, 2, 3} or None
        Of the pregnancy, by the examination's number; None in the test set, which is numbered otherwise.
    """

    subject_id: str
    examination_id: str
    image_path: Path
    annotation_path: Path | None
    pixel_size_mm: float
    hc_mm: float | None
    trimester: int | None

    @property
    def hc_px(self):
        """Head circumference in pixels of this image (float), None in the test set."""
        return None if self.hc_mm is None else self.hc_mm / self.pixel_size_mm

    def image(self):
        """Read the image: (height, width) uint8, x to the right, y down. Raises as `read_image`."""
        return read_image(self.image_path)

    def ellipse(self):
        """Fit the annotated head.

        Returns
        -------
        hcreg.geometry.Ellipse
            In pixels of this image.

        Raises
        ------
        ValueError
            If this is a test image, the annotation is not of the image's size, or is neither the outline
            of an ellipse nor a filled one. The file is named.
        """
        return self._ellipse_and_mask()[0]

    def mask(self):
        """Give the head as a filled mask: (height, width) bool. An outline is filled by its ellipse."""
        return self._ellipse_and_mask()[1]

    def _ellipse_and_mask(self, image_shape=None):
        if self.annotation_path is None:
            raise ValueError(f"{self.image_path} has no annotation: the test set's are not public. Use split='train'.")
        annotation = read_image(self.annotation_path)
        shape = read_shape(self.image_path) if image_shape is None else image_shape
        if annotation.shape != shape:
            raise ValueError(
                f"{self.annotation_path} is {annotation.shape[1]} x {annotation.shape[0]} pixels but "
                f"its image {self.image_path.name} is {shape[1]} x {shape[0]}. Take both from one download."
            )
        try:
            return ellipse_of_annotation(annotation)
        except ValueError as error:
            raise ValueError(f"{self.annotation_path}: {error}") from error


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


class HC18(Sequence):
    """The HC18 data set, from its folder as downloaded.

    Parameters
    ----------
    root : str or path-like
        Folder that holds ``training_set`` and ``training_set_pixel_size_and_HC.csv`` (``test_set`` and
        ``test_set_pixel_size.csv`` for the test set). A zip unpacked into a folder of its own name
        (``training_set/training_set``), one folder around all, and the ``training_set`` folder itself are
        understood too.
    split : {"train", "test"}
        The training set has annotations and circumferences, the test set only pixel sizes.
    strict : bool
        Whether to raise at once when something is wrong. False leaves the faulty images out and keeps the
        reasons, which `check` returns: for looking at a broken folder, not for training on it.

    Attributes
    ----------
    subjects : list of str
        Subject ids, in the order of the CSV, which is that of the records.
    examinations : list of str
        Examination ids, each once, in the same order. For a split, group by each record's own id:
        ``[record.examination_id for record in data]``.

    Raises
    ------
    FileNotFoundError
        If the folder, the CSV, an image of a row or an annotation is missing.
    ValueError
        If the CSV's header or a number in it is wrong, a value is impossible, a row comes twice, an image
        has no row or a file's name is not HC18's. The file and the row are named.

    See Also
    --------
    HC18.check_folder : everything that is wrong with a folder, at once.

    Notes
    -----
    :Licence: CC BY 4.0; cite heuvel2018hc18.
    :Version: Zenodo record 1327317 (2018).
    :Size: 999 training images of 806 examinations (642, 141, 17, 6 with 1, 2, 3, 4 images), 335 test
        images. 975 training images are 800 x 540 pixels, the others a little larger or smaller.
    :Orientation: as on the machine's screen, x to the right, y down; the head lies at any angle.
    :Units: pixels are square, 0.0494 to 0.3933 mm; circumferences are 44.3 to 346.4 mm.
    :Trimester: by the examination's number, 000-132, 133-696, 697 and above: 165, 693 and 141 images.

    Facts seen in the data, none of them a fault: the images of one examination mostly differ in pixel
    size, up to a factor of 2 (zoom), and in circumference, up to a factor of 1.27; annotations are closed
    outlines 1 to 3 pixels thick, but where the head leaves the image the outline is an open arc.

    Constructing lists the folder and reads the CSV; images are read when a record is asked for them.

    References
    ----------
    .. [1] heuvel2018hc18
    """

    def __init__(self, root, split="train", strict=True):
        if split not in _FOLDERS:
            raise ValueError(f"split must be 'train' or 'test'. Received: {split!r}.")
        self.root = Path(root)
        self.split = split
        self._problems = []
        self._records = self._read()
        if strict and self._problems:
            raise self._error()

    def __len__(self):
        return len(self._records)

    def __getitem__(self, index):
        return self._records[index]

    def __repr__(self):
        return f"HC18({str(self.root)!r}, split={self.split!r}): {len(self)} images"

    @property
    def subjects(self):
        """Subject ids in the order of the records."""
        return [record.subject_id for record in self._records]

    @property
    def examinations(self):
        """Examination ids, each once."""
        return list(dict.fromkeys(record.examination_id for record in self._records))

    def check(self, on_progress=None):
        """Read every image and annotation and list all that is wrong.

        Parameters
        ----------
        on_progress : callable(num_done, num_images), optional
            Called after each image.

        Returns
        -------
        list of Problem
            Empty if all is well. Beyond what the constructor refuses: unreadable files, images of one
            single value, annotations of another size than their image, with no ellipse or several things
            in them, and circumferences that differ from the annotation's by more than 1 mm and more than
            1 %.
        """
        problems = list(self._problems)
        for number, record in enumerate(self._records, start=1):
            problems.extend(_problems_of(record))
            if on_progress is not None:
                on_progress(number, len(self._records))
        return problems

    @classmethod
    def check_folder(cls, root, split=None, on_progress=None):
        """List all that is wrong with a folder, however broken.

        Parameters
        ----------
        root, on_progress
            As above.
        split : {"train", "test"}, optional
            By default both, or the one of them that is there.

        Returns
        -------
        list of Problem
        """
        splits = [split] if split else [name for name in _FOLDERS if _is_there(Path(root), name)] or ["train"]
        return [p for name in splits for p in cls(root, name, strict=False).check(on_progress)]

    def _error(self):
        first = [problem for problem in self._problems if problem.kind == self._problems[0].kind]
        lines = [str(problem) for problem in first[:_NUM_SHOWN]]
        if len(self._problems) > len(lines):
            lines.append(f"{len(self._problems)} problems in all; `hcreg check {self.root}` lists every one.")
        return (FileNotFoundError if first[0].kind in _MISSING else ValueError)("\n".join(lines))

    def _problem(self, path, kind, message):
        self._problems.append(Problem(Path(path), message, kind))

    def _read(self):
        base = _base_folder(self.root, self.split)
        folder = base / _FOLDERS[self.split] if base else None
        if base is None or not folder.is_dir():
            self._problem(self.root, "no folder", _no_folder(self.root, self.split))
            return []
        nested = folder / folder.name
        if nested.is_dir() and not any(folder.glob("*.png")):
            folder = nested
        rows = self._read_csv(base, folder)
        images, annotations = self._list_images(folder)
        if rows is None:
            return []
        csv_path, rows = rows
        records = []
        for file_name, (line, pixel_size_mm, hc_mm) in rows.items():
            match = _NAME.fullmatch(file_name)
            image_path = images.pop(match["subject"], None)
            annotation_path = annotations.get(match["subject"])
            where = f"line {line} names {file_name}"
            if image_path is None:
                message = f"{where}, which is not in {folder}. Copy the image there, or remove the row."
                self._problem(csv_path, "row without image", message)
            elif self.split == "train" and annotation_path is None:
                message = f"has no annotation {match['subject']}_Annotation.png beside it. Copy it there."
                self._problem(image_path, "image without annotation", message)
            elif pixel_size_mm is not None:
                trimester = _trimester(match["examination"]) if self.split == "train" else None
                subject, examination = match["subject"], match["examination"]
                annotation_path = annotation_path if self.split == "train" else None
                records.append(
                    HC18Record(subject, examination, image_path, annotation_path, pixel_size_mm, hc_mm, trimester)
                )
        for image_path in images.values():
            message = f"has no row in {csv_path.name}. Add its row, or remove the image and its annotation."
            self._problem(image_path, "image without row", message)
        return records

    def _list_images(self, folder):
        """Paths of images and of annotations by subject; other names of images are a problem."""
        images, annotations = {}, {}
        for path in sorted(folder.iterdir()):
            # Names with a leading dot are what macOS adds to archives.
            if path.name.startswith(".") or path.suffix.lower() not in _IMAGE_SUFFIXES:
                continue
            match = _NAME.fullmatch(path.name)
            if match is None:
                message = "is not named as HC18's files are, NNN_HC.png, NNN_2HC.png or NNN_HC_Annotation.png."
                self._problem(path, "name", f"{message} Rename or move it.")
            elif match["annotation"]:
                annotations[match["subject"]] = path
            else:
                images[match["subject"]] = path
        for subject in sorted(annotations.keys() - images.keys()):
            message = f"has no image {subject}.png beside it. Copy the image there, or remove the annotation."
            self._problem(annotations[subject], "annotation without image", message)
        return images, annotations

    def _read_csv(self, base, folder):
        """Rows by file name, (line, pixel size, HC) with None for a wrong number; None if unreadable."""
        name = _CSV_FILES[self.split]
        path = next((p / name for p in (base, folder.parent, folder) if (p / name).is_file()), None)
        if path is None:
            self._problem(base / name, "no CSV", "there is no such file. Download it too, it lies beside the images.")
            return None
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                lines = [
                    (number, row) for number, row in enumerate(csv.reader(file), start=1) if any(map(str.strip, row))
                ]
        except (UnicodeDecodeError, csv.Error) as error:
            self._problem(path, "CSV unreadable", f"is not readable as a UTF-8 CSV ({error}). Download it again.")
            return None
        expected = list(_COLUMNS.values())[: 3 if self.split == "train" else 2]
        header = [_COLUMNS.get("".join(cell.split()).lower(), cell.strip()) for cell in lines[0][1]] if lines else []
        if any(header.count(column) != 1 for column in expected):
            message = f"expected the header '{','.join(expected)}'. Received: '{','.join(header)}'."
            self._problem(path, "header", f"{message} A spreadsheet may have changed it: download it again.")
            return None
        rows = {}
        for line, cells in lines[1:]:
            if len(cells) != len(header):
                message = f"line {line} has {len(cells)} fields, expected {len(header)}: {','.join(cells)!r}."
                self._problem(path, "fields", f"{message} Numbers need a decimal point, not a comma.")
                cells = (cells + [""] * len(header))[: len(header)]
                numbers = None
            else:
                numbers = dict(zip(header, cells))
            file_name = cells[header.index("filename")].strip()
            match = _NAME.fullmatch(file_name)
            if match is None or match["annotation"]:
                message = f"line {line}: {file_name!r} is no image of HC18, expected a name like 010_2HC.png."
                self._problem(path, "name in CSV", message)
            elif file_name in rows:
                first = rows[file_name][0]
                message = f"line {line}: {file_name} has a row already, in line {first}. Keep one of them."
                self._problem(path, "duplicate row", message)
            elif numbers is None:
                rows[file_name] = (line, None, None)
            else:
                rows[file_name] = (line, *self._numbers(path, line, file_name, numbers))
        return path, rows

    def _numbers(self, path, line, file_name, cells):
        """Pixel size and HC of a row; both None if either is wrong."""
        numbers = []
        ranges = (("pixel size(mm)", _PIXEL_SIZE_RANGE_MM), ("head circumference (mm)", _HC_RANGE_MM))
        for column, (low, high) in ranges[: 2 if self.split == "train" else 1]:
            cell = cells[column].strip()
            where = f"line {line} ({file_name}): {column}"
            try:
                value = float(cell)
            except ValueError:
                self._problem(path, "no number", f"{where} must be a number. Received: {cell!r}.")
                continue
            if math.isnan(value):
                self._problem(path, "NaN", f"{where} is NaN. Measure it, or remove the row and its image.")
            elif value <= 0:
                self._problem(path, "not positive", f"{where} must be positive. Received: {cell}.")
            elif not low <= value <= high:
                message = f"{where} is implausible, expected {low:g} to {high:g} mm. Received: {cell}."
                self._problem(path, "implausible", f"{message} Is it in another unit?")
            else:
                numbers.append(value)
        if self.split == "test":
            return (*numbers, None) if numbers else (None, None)
        return tuple(numbers) if len(numbers) == 2 else (None, None)


def _problems_of(record):
    """List what is wrong with one image and its annotation."""
    image, problems = None, []
    try:
        image = record.image()
        if image.min() == image.max():
            message = f"every pixel has the value {image.min()}, which cannot be standardised. Replace the image."
            problems.append(Problem(record.image_path, message, "constant image"))
    except (ValueError, OSError) as error:
        problems.append(Problem(record.image_path, _without(record.image_path, error), "image"))
    if record.annotation_path is None:
        return problems
    try:
        if image is None:
            read_image(record.annotation_path)
            return problems
        ellipse, _ = record._ellipse_and_mask(image.shape)
    except (ValueError, OSError) as error:
        problems.append(Problem(record.annotation_path, _without(record.annotation_path, error), "annotation"))
        return problems
    fitted_mm = ellipse.circumference_mm(record.pixel_size_mm)
    difference_mm = abs(fitted_mm - record.hc_mm)
    if difference_mm > max(1.0, 0.01 * record.hc_mm):
        message = (
            f"its ellipse has a circumference of {fitted_mm:.2f} mm, the CSV says {record.hc_mm:.2f} mm. "
            "Expected within 1 mm or 1 %: one of annotation, pixel size and circumference is another image's."
        )
        problems.append(Problem(record.annotation_path, message, "circumference"))
    return problems


def _without(path, error):
    """Give an error's words without the path that starts them: a `Problem` names it already."""
    return str(error).removeprefix(str(path)).lstrip(": ")


def _trimester(examination_id):
    number = int(examination_id)
    return next((trimester for last, trimester in _LAST_EXAMINATION_OF_TRIMESTER if number <= last), 3)


def _is_there(root, split):
    base = _base_folder(root, split)
    return base is not None and ((base / _FOLDERS[split]).is_dir() or (base / _CSV_FILES[split]).is_file())


def _base_folder(root, split):
    """Find the folder that holds the split's folder: root, its parent, or the only such folder inside it."""
    name = _FOLDERS[split]
    if (root / name).is_dir() and not (root.name == name and any(root.glob("*.png"))):
        # `training_set/training_set`, given as root: the CSV lies above.
        return root.parent if root.name == name and not (root / _CSV_FILES[split]).is_file() else root
    if root.name == name and root.is_dir():
        return root.parent
    if not root.is_dir():
        return None
    inside = [path for path in sorted(root.iterdir()) if (path / name).is_dir() and path.name != "__MACOSX"]
    return inside[0] if len(inside) == 1 else None


def _no_folder(root, split):
    if not root.exists():
        return "there is no such folder. Give the folder that holds training_set and test_set."
    if not root.is_dir():
        return "is a file; expected the folder that holds training_set. Unpack the archive first."
    message = f"holds no {_FOLDERS[split]}. Expected HC18's folder, with that and {_CSV_FILES[split]} in it."
    if (root / f"{_FOLDERS[split]}.zip").is_file():
        message += f" Unpack {_FOLDERS[split]}.zip there."
    return message
