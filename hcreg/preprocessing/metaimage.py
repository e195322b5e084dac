"""Volumes from MetaImage files, .mhd and .mha, in the orientation and with the checks of `hcreg.preprocessing.nifti`.

They are read by SimpleITK, which comes with ``pip install "hcreg[metaimage]"`` and is loaded when a file is read.
"""

from pathlib import Path

import nibabel as nib
import numpy as np

from hcreg.preprocessing import nifti

ENDINGS = (".mhd", ".mha")
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's axes run to the left, posterior and superior
_HEADER_BYTES = 65536


def read_volume(path):
    """Read the intensities of one volume.

    Parameters
    ----------
    path : str or path-like
        A MetaImage file of three dimensions, ``.mhd`` with its data beside it or ``.mha``.

    Returns
    -------
    hcreg.preprocessing.nifti.Volume
        With an array of float32, in the file's own unit of intensity.

    Raises
    ------
    ModuleNotFoundError
        If SimpleITK is not installed; the message says how to install it.
    FileNotFoundError
        If no file has this path.
    ValueError
        If the file is no MetaImage file, is truncated or damaged, lacks its data or its spacing, has not three axes
        and one number a voxel, or if a voxel is NaN, infinite or too large for float32. The file is named.
    """
    path, header, array = _read(path)
    return nifti.image_volume(path, header, array)


def read_label_map(path, labels=(0, 1)):
    """Read the labels of one volume.

    Parameters
    ----------
    path : str or path-like
        As for `read_volume`.
    labels : sequence of int
        Those that may occur, 0 to 255.

    Returns
    -------
    hcreg.preprocessing.nifti.Volume
        With an array of uint8.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError, ValueError
        As `read_volume`, and if a voxel has any other value than these labels.
    """
    path, header, array = _read(path)
    return nifti.label_volume(path, header, array, labels)


def read_spacing_mm(path):
    """Read the spacing alone, from the header: (row, column, slice) of the array that `read_volume` would give, mm.

    Raises
    ------
    ModuleNotFoundError, FileNotFoundError, ValueError
        As `read_volume`, over what the header shows.
    """
    path, reader = _open(path)
    return nifti.spacing_of(path, _header(reader))


def _read(path):
    """Path, header as NIfTI would have it, and voxels with the axes x, y, z."""
    path, reader = _open(path)
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _damaged(path, error) from error
    import SimpleITK

    # A copy: a view would outlive the image, and show whatever comes to lie there.
    return path, _header(image), SimpleITK.GetArrayFromImage(image).transpose(2, 1, 0)


def _open(path):
    """Path, and a reader that has read the header, which is sound."""
    path = Path(path)
    try:
        import SimpleITK
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{path} is a MetaImage file, which SimpleITK reads; it is not installed. "
            'Install it with: pip install "hcreg[metaimage]". Or convert the file to NIfTI.'
        ) from error
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}. Check its spelling, and the ending: .mhd or .mha.")
    _check_spacing(path, _fields(path))
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("MetaImageIO")
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _damaged(path, error) from error
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    if len(size) != 3 or components != 1:
        raise ValueError(
            f"{path} has {len(size)} axes, {size}, and {components} number(s) a voxel. Expected a volume of three axes "
            "and one number a voxel."
        )
    return path, reader


def _fields(path):
    """What the header says, by name; its text ends where the data or their file's name begin."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected the path of one MetaImage file inside it.")
    with path.open("rb") as file:
        text = file.read(_HEADER_BYTES)
    fields = {}
    for line in text.split(b"\n"):
        name, equals, value = line.partition(b"=")
        if not equals:
            break
        fields[name.strip().decode("latin-1")] = value.strip().decode("latin-1")
        if name.strip() == b"ElementDataFile":
            return fields
    raise ValueError(f"{path} is not a MetaImage file, whatever its name says. Expected a header with ElementDataFile.")


def _check_spacing(path, fields):
    """Refuse what ITK would take for 1 mm, or for an axis that goes the other way."""
    given = fields.get("ElementSpacing", fields.get("ElementSize"))
    if given is None:
        raise ValueError(
            f"{path} gives no ElementSpacing in its header. Without it no volume can be told in ml, and 1 mm would be "
            "a guess. Export it again."
        )
    try:
        spacing = np.array(given.split(), float)
    except ValueError:
        spacing = np.array([np.nan])
    if not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ValueError(
            f"{path} has a spacing of {given!r} in its header. Expected three positive, finite numbers: without them "
            "no volume can be told in ml. Export it again."
        )


def _header(image):
    """The spacing and place of an image of SimpleITK, or of its reader, as a header of NIfTI."""
    spacing = np.array(image.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * spacing
    affine[:3, 3] = image.GetOrigin()
    header = nib.Nifti1Header()
    header.set_data_shape(image.GetSize())
    header.set_sform(_TO_RAS @ affine, 1)
    header["pixdim"][1:4] = spacing
    return header


def _damaged(path, error):
    words = " ".join(str(error).split()).split("ERROR: ")[-1]  # without ITK's source file and line
    return ValueError(f"{path} is damaged or lacks its data ({words}). Copy or download it again, with its data file.")
