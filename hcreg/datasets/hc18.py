"""HC18: 2-D ultrasound of the fetal head with its outline and circumference, read as downloaded."""

from dataclasses import dataclass
from pathlib import Path

from hcreg.datasets.folder_dataset import FolderDataset
from hcreg.datasets.hc18_annotations import ellipse_of_annotation
from hcreg.datasets.hc18_folder import CSV_FILES, FOLDERS, NAME, base_folder, is_there, list_images, no_folder
from hcreg.datasets.hc18_table import read_table
from hcreg.datasets.problems import Problem, tried
from hcreg.preprocessing.images import read_image, read_shape

_LAST_EXAMINATION_OF_TRIMESTER = ((132, 1), (696, 2))


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


class HC18(FolderDataset):
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

    FOLDERS = FOLDERS
    MISSING = frozenset({"no folder", "no CSV", "row without image", "image without annotation"})
    _is_there = staticmethod(is_there)

    def __repr__(self):
        return f"HC18({str(self.root)!r}, split={self.split!r}): {len(self)} images"

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

    def _read(self):
        base = base_folder(self.root, self.split)
        folder = base / FOLDERS[self.split] if base else None
        if base is None or not folder.is_dir():
            self._problem(self.root, "no folder", no_folder(self.root, self.split))
            return []
        nested = folder / folder.name
        if nested.is_dir() and not any(folder.glob("*.png")):
            folder = nested
        csv_path, rows = self._read_table(base, folder)
        images, annotations, problems = list_images(folder)
        self._problems.extend(problems)
        if rows is None:
            return []
        records = []
        for file_name, (line, pixel_size_mm, hc_mm) in rows.items():
            match = NAME.fullmatch(file_name)
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

    def _read_table(self, base, folder):
        """Path of the CSV file and its rows by file name, None where there are none to read."""
        name = CSV_FILES[self.split]
        path = next((p / name for p in (base, folder.parent, folder) if (p / name).is_file()), None)
        if path is None:
            self._problem(base / name, "no CSV", "there is no such file. Download it too, it lies beside the images.")
            return None, None
        rows, problems = read_table(path, self.split)
        self._problems.extend(problems)
        return path, rows


def _problems_of(record):
    """List what is wrong with one image and its annotation."""
    problems = []
    image = tried(record.image_path, "image", record.image, problems)
    if image is not None and image.min() == image.max():
        message = f"every pixel has the value {image.min()}, which cannot be standardised. Replace the image."
        problems.append(Problem(record.image_path, message, "constant image"))
    path = record.annotation_path
    if path is None:
        return problems
    if image is None:  # the annotation's pixels can be compared with nothing, but should be readable
        tried(path, "annotation", lambda: read_image(path), problems)
        return problems
    found = tried(path, "annotation", lambda: record._ellipse_and_mask(image.shape), problems)
    if found is None:
        return problems
    ellipse, _ = found
    fitted_mm = ellipse.circumference_mm(record.pixel_size_mm)
    difference_mm = abs(fitted_mm - record.hc_mm)
    if difference_mm > max(1.0, 0.01 * record.hc_mm):
        message = (
            f"its ellipse has a circumference of {fitted_mm:.2f} mm, the CSV says {record.hc_mm:.2f} mm. "
            "Expected within 1 mm or 1 %: one of annotation, pixel size and circumference is another image's."
        )
        problems.append(Problem(path, message, "circumference"))
    return problems


def _trimester(examination_id):
    number = int(examination_id)
    return next((trimester for last, trimester in _LAST_EXAMINATION_OF_TRIMESTER if number <= last), 3)
