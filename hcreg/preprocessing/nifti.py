"""Volumes from NIfTI files: whole or not at all, in one orientation, with the spacing of their own header."""

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from hcreg.files import written_whole

SPACING_TOLERANCE = 1e-3  # relative; files of one volume were rounded to five digits, some of them
_GZIP_MAGIC = b"\x1f\x8b"
_HEADERS = {348: (nib.Nifti1Header, nib.Nifti1Image), 540: (nib.Nifti2Header, nib.Nifti2Image)}
_LPS = nib.orientations.axcodes2ornt(("L", "P", "S"))
_FROM_ROW_COLUMN_SLICE = np.eye(4)[[1, 0, 2, 3]]  # takes (row, column, slice, 1) to (x, y, z, 1)
_NUM_SHOWN = 5
_ENDINGS = (".nii.gz", ".nii")
# What nibabel, NumPy and zlib raise over damaged files.
_DAMAGED = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    MemoryError,
    zlib.error,
    nib.filebasedimages.ImageFileError,
    nib.spatialimages.HeaderDataError,
)


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume and where its voxels lie.

    Attributes
    ----------
    array : ndarray of shape (height, width, slices)
        Rows go from anterior to posterior, columns from the patient's right to the left, as radiologists see a slice,
        and slices in the direction that the file's affine calls superior.
    spacing_mm : (float, float, float), mm
        From row to row, column to column, slice to slice.
    affine : ndarray of shape (4, 4), float64
        Takes (row, column, slice, 1) to the place in mm, on axes to the right, anterior and superior as nibabel's. Its
        columns are as long as `spacing_mm`.
    path : pathlib.Path
    """

    array: np.ndarray
    spacing_mm: tuple[float, float, float]
    affine: np.ndarray
    path: Path

    @property
    def spacing_words(self):
        """The spacing as people read it, such as ``1.5 x 1.5 x 10 mm``."""
        return _mm(self.spacing_mm)


def read_volume(path):
    """Read the intensities of one volume.

    Parameters
    ----------
    path : str or path-like
        A NIfTI file of three dimensions, ``.nii.gz`` or ``.nii``.

    Returns
    -------
    Volume
        With an array of float32, in the file's own unit of intensity.

    Raises
    ------
    FileNotFoundError
        If no file has this path.
    ValueError
        If the file is a folder, is no NIfTI file, is truncated or damaged, holds several frames or an axis without
        voxels, if its spacing is not positive or not the affine's, or if a voxel is NaN, infinite or too large for
        float32. Each has its own message, which names the file.

    Notes
    -----
    *Orientation.* Axes are flipped and permuted to left, posterior, superior, whichever is nearest for an oblique
    volume, and the first two exchanged, so that rows come first. Nothing is interpolated. A file that gives no
    orientation at all (both codes 0) is taken to be in this order already, as ACDC's are.

    *Spacing* is the header's ``pixdim``. ACDC's affines say only which way the axes go, with 1 mm to every voxel;
    such an affine is given the header's spacing. One that says another spacing is refused.

    The file is decompressed to its end, so that the checksum of gzip is compared: nibabel by itself stops at the last
    voxel, and a damaged byte gives wrong voxels without a word.
    """
    path, header, raw = _open(path)
    return image_volume(path, header, _voxels(path, header, raw))


def read_label_map(path, labels=(0, 1, 2, 3)):
    """Read the labels of one volume.

    Parameters
    ----------
    path : str or path-like
        As for `read_volume`.
    labels : sequence of int
        Those that may occur, 0 to 255.

    Returns
    -------
    Volume
        With an array of uint8.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_volume`, and if a voxel has any other value than these labels: which, and how many.
    """
    path, header, raw = _open(path)
    return label_volume(path, header, _voxels(path, header, raw), labels)


def read_spacing_mm(path):
    """Read the spacing alone, from the header.

    Parameters
    ----------
    path : str or path-like
        As for `read_volume`.

    Returns
    -------
    (float, float, float), mm
        From row to row, column to column, slice to slice of the array that `read_volume` would give.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_volume`, over what the header shows; damage beyond it goes unseen.
    """
    path, header, _ = _open(path, whole=False)
    return spacing_of(path, header)


def spacing_of(path, header):
    """Spacing of the array that a header's voxels give, (row, column, slice) in mm; the path is for messages."""
    x, y, z = _orientation(path, header)[2]
    return y, x, z


def write_label_map(path, label_map, like=None):
    """Write a label map as a NIfTI file, whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Ends in ``.nii.gz`` or ``.nii``; missing folders are made.
    label_map : Volume
        With an array of labels 0 to 255.
    like : str or path-like, optional
        The NIfTI file that the labels belong to, of which they take the affine and the order of the axes, so that
        programs which look at voxels alone lay one over the other too. By default `label_map.path` if it is one, else
        the axes of the array and its affine.

    Raises
    ------
    ValueError
        If the path has another ending, a value is no label, or `like` is of another shape.
    FileNotFoundError, ValueError
        As `read_volume`, over the file `like`.
    OSError
        If it cannot be written; a file of before stays intact.
    """
    path = Path(path)
    if not path.name.endswith(_ENDINGS):
        raise ValueError(f"A label map is written as .nii.gz or .nii. Received: {path}.")
    array = np.asarray(label_map.array)
    labels = array.astype(np.uint8)
    if array.ndim != 3 or not np.array_equal(labels, array):
        raise ValueError(
            f"A label map holds whole numbers from 0 to 255 on three axes. Received: shape {array.shape}, values "
            f"from {array.min()} to {array.max()} of {array.dtype}."
        )
    if like is None and Path(label_map.path).name.endswith(_ENDINGS):
        like = label_map.path
    affine = label_map.affine
    if like is not None:
        like, header, _ = _open(like, whole=False)
        transform, affine, _ = _orientation(like, header)
        shape = _shape(like, header)[:3]
        as_read = tuple(int(shape[axis]) for axis in np.argsort(transform[:, 0]))
        if labels.shape != (as_read[1], as_read[0], as_read[2]):
            raise ValueError(
                f"{like} is read as a volume of {(as_read[1], as_read[0], as_read[2])}; the label map has the shape "
                f"{labels.shape}. Name the file it belongs to."
            )
        inverse = nib.orientations.ornt_transform(_LPS, nib.io_orientation(affine))
        labels = nib.orientations.apply_orientation(labels.swapaxes(0, 1), inverse)
    image = nib.Nifti1Image(np.ascontiguousarray(labels), affine)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    with written_whole(path) as partial:
        partial.write_bytes(gzip.compress(content, 6, mtime=0) if path.suffix == ".gz" else content)


def image_volume(path, header, array):
    """Make a volume of the intensities of any file, as `read_volume` does.

    Parameters
    ----------
    path : pathlib.Path
    header : nibabel.Nifti1Header
        For the spacing and the affine, in the file's own order of axes.
    array : ndarray of three axes
        In the same order.

    Returns
    -------
    Volume
        With an array of float32.

    Raises
    ------
    ValueError
        If a voxel is NaN, infinite or too large for float32.
    """
    with np.errstate(over="ignore"):  # refused below, with the file's name
        array = array.astype(np.float32)
    num_bad = array.size - np.count_nonzero(np.isfinite(array))
    if num_bad:
        raise ValueError(
            f"{path} has {num_bad} voxel(s) that are NaN or infinite as float32, of {array.size}. Expected finite "
            "intensities. Export or download it again."
        )
    return _as_volume(path, header, array, np.float32)


def label_volume(path, header, array, labels):
    """Make a volume of the labels of any file, as `read_label_map` does.

    Parameters
    ----------
    path, header, array
        As for `image_volume`.
    labels : sequence of int

    Returns
    -------
    Volume
        With an array of uint8.

    Raises
    ------
    ValueError
        If a voxel has any other value than these labels: which, and how many.
    """
    values, counts = np.unique(array, return_counts=True)
    wrong = ~np.isin(values, labels)
    if wrong.any():
        values, counts = values[wrong], counts[wrong]
        shown = ", ".join(f"{value:g} ({count} voxels)" for value, count in zip(values[:_NUM_SHOWN], counts))
        more = f" and {len(values) - _NUM_SHOWN} more values" if len(values) > _NUM_SHOWN else ""
        raise ValueError(
            f"{path} has {counts.sum()} voxel(s) with labels other than {', '.join(map(str, labels))}: {shown}{more}. "
            "It is an image, a map of other labels, or was interpolated; take the label map as downloaded."
        )
    return _as_volume(path, header, array, np.uint8)


def check_alike(image, label_map):
    """Refuse an image and a label map whose voxels are not at the same places.

    Parameters
    ----------
    image, label_map : Volume

    Raises
    ------
    ValueError
        If they differ in shape, in spacing by more than a thousandth, or in place by more than a thousandth of the
        volume's diagonal. Both files and the numbers are named.
    """
    files = f"{label_map.path} differs from its image {image.path.name}"
    remedy = "Take both from one download."
    if image.array.shape != label_map.array.shape:
        raise ValueError(
            f"{files} in shape: {label_map.array.shape} and {image.array.shape} (rows, columns, slices). {remedy}"
        )
    if not np.allclose(image.spacing_mm, label_map.spacing_mm, rtol=SPACING_TOLERANCE, atol=0):
        raise ValueError(
            f"{files} in spacing: {label_map.spacing_words} and {image.spacing_words} by their headers. {remedy}"
        )
    corners = np.stack(np.meshgrid(*((0, size) for size in image.array.shape), [1], indexing="ij")).reshape(4, -1)
    places_mm = image.affine @ corners
    away_mm = np.linalg.norm(places_mm - label_map.affine @ corners, axis=0).max()
    diagonal_mm = np.linalg.norm(places_mm[:, -1] - places_mm[:, 0])
    if away_mm > SPACING_TOLERANCE * diagonal_mm:
        raise ValueError(
            f"{files} in its affine: their corners lie up to {away_mm:.2f} mm apart. Affine of the label map: "
            f"{label_map.affine.round(3).tolist()}, of the image: {image.affine.round(3).tolist()}. {remedy}"
        )


def _open(path, whole=True):
    """Path, checked header and decompressed bytes (those of the header alone unless the whole is asked for)."""
    path = Path(path)
    raw = _read_bytes(path, whole)
    for byte_order in ("little", "big"):
        size = int.from_bytes(raw[:4], byte_order)
        if size in _HEADERS and len(raw) >= size:
            # unchecked: nibabel would set a zero spacing to 1 mm, and drop the sign of a negative one, with a log line
            header = _HEADERS[size][0](raw[:size], endianness="<" if byte_order == "little" else ">", check=False)
            if header["pixdim"][0] == 0:
                header["pixdim"][0] = 1  # the standard's own reading
            _check_header(path, header)
            return path, header, raw
    raise ValueError(f"{path} is not a NIfTI file, whatever its name says. Expected one volume, .nii.gz or .nii.")


def _read_bytes(path, whole):
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Check its spelling, and the ending: .nii.gz or .nii.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the path of one NIfTI file inside it.")
    with path.open("rb") as file:
        content = file.read() if whole else file.read(4096)
    if not content:
        raise ValueError(f"{path} is empty (0 bytes). Copy or download it again.")
    if content[:2] != _GZIP_MAGIC:
        if path.suffix == ".gz":
            raise ValueError(
                f"{path} is not compressed with gzip, whatever its name says. Download it again, or name it .nii if "
                "it is an uncompressed NIfTI file."
            )
        return content
    try:
        if whole:
            return gzip.decompress(content)
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(content)
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _damaged(path, error):
    words = " ".join(str(error).split())
    return ValueError(f"{path} is truncated or damaged ({words}). Copy or download it again; no part of it was used.")


def _check_header(path, header):
    shape = _shape(path, header)
    if len(shape) == 4 and shape[3] > 1:
        raise ValueError(
            f"{path} is 4-D, {shape}: the whole cine of {shape[3]} frames. Expected one frame, 3-D: {_frames(path)}."
        )
    if len(shape) not in (3, 4):
        raise ValueError(f"{path} is {len(shape)}-D, {shape}. Expected a volume of three axes.")
    if 0 in shape:
        raise ValueError(f"{path} has the shape {shape}: an axis without voxels. Export or download it again.")
    spacing = header["pixdim"][1:4]
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(
            f"{path} has a spacing of {_mm(spacing)} in its header. Expected three positive, finite numbers: without "
            "them no volume can be told in ml. Download it again."
        )
    try:
        unit = header.get_xyzt_units()[0]
    except _DAMAGED as error:
        raise _damaged(path, f"its header gives the units {header['xyzt_units']}, no code of NIfTI") from error
    if unit not in ("mm", "unknown"):
        raise ValueError(f"{path} gives its spacing in {unit}, expected mm. Write its header anew.")
    _orientation(path, header)  # an affine of no use is refused before any voxel is looked at


def _shape(path, header):
    num_axes = int(header["dim"][0])
    if not 0 <= num_axes <= 7 or (header["dim"][1 : num_axes + 1] < 0).any():
        raise _damaged(path, f"its header claims the dimensions {header['dim'].tolist()}")
    return tuple(int(size) for size in header["dim"][1 : num_axes + 1])


def _frames(path):
    """Name the single frames that lie beside a cine, or how they would be named."""
    subject = path.name.split("_")[0].split(".")[0]
    beside = [p.name for p in sorted(path.parent.glob(f"{subject}_frame*.nii*")) if "_gt" not in p.name and p != path]
    if beside:
        return " or ".join(beside)
    return f"{subject}_frameMM.nii.gz, where MM is the frame that Info.cfg names for ED or ES, from 01 on"


def _voxels(path, header, raw):
    """Voxels in the file's own order, scaled as its header says."""
    image_class = _HEADERS[int(header["sizeof_hdr"])][1]
    try:
        array = np.asanyarray(image_class.from_bytes(raw).dataobj)
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    if array.dtype.names or not np.isrealobj(array):
        raise ValueError(f"{path} holds colours or complex numbers ({array.dtype}). Expected one number a voxel.")
    return array.reshape(array.shape[:3])


def _orientation(path, header):
    """How to bring the file's axes to LPS, its affine with the header's spacing, and the spacing of the LPS axes."""
    spacing = header["pixdim"][1:4].astype(float)
    if header["sform_code"] or header["qform_code"]:
        try:
            affine = header.get_best_affine().astype(float)
        except _DAMAGED as error:
            raise _damaged(path, error) from error
    else:
        affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-3 * lengths.prod():
        raise ValueError(f"{path} has an affine that gives its voxels no place: {affine.tolist()}. Download it again.")
    if np.allclose(lengths, 1, rtol=SPACING_TOLERANCE):
        affine[:3, :3] *= spacing
    elif not np.allclose(lengths, spacing, rtol=SPACING_TOLERANCE, atol=0):
        raise ValueError(
            f"{path} has two spacings in its header: {_mm(spacing)} (pixdim), and {_mm(lengths)} by its affine. "
            "Expected one. Download it again."
        )
    transform = nib.orientations.ornt_transform(nib.io_orientation(affine), _LPS)
    return transform, affine, tuple(float(spacing[axis]) for axis in np.argsort(transform[:, 0]))


def _as_volume(path, header, array, dtype):
    transform, affine, (x, y, z) = _orientation(path, header)
    affine = affine @ nib.orientations.inv_ornt_aff(transform, array.shape) @ _FROM_ROW_COLUMN_SLICE
    array = nib.orientations.apply_orientation(array, transform).swapaxes(0, 1)
    return Volume(np.ascontiguousarray(array, dtype=dtype), (y, x, z), affine, path)


def _mm(spacing):
    return " x ".join(f"{float(side):g}" for side in spacing) + " mm"
