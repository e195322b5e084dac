"""Small patients in ACDC's layout, whose voxels are counted by hand."""

import gzip

import nibabel as nib
import numpy as np

SPACING_MM = (2.5, 2.0, 10.0)  # of the array: row, column, slice; a voxel has 50 cubic mm
INFO = {"ED": 1, "ES": 12, "Group": "DCM", "Height": "184.0", "NbFrame": 30, "Weight": "95.0"}


def label_map(rv=6, myocardium=10, lv=20):
    """A label map of (height, width, slices) with so many voxels of each structure."""
    labels = np.zeros((8, 9, 3), np.uint8)
    labels.flat[10 : 10 + rv + myocardium + lv] = np.repeat([1, 2, 3], [rv, myocardium, lv])
    return labels


def image():
    """Intensities of the same shape."""
    return np.random.default_rng(0).integers(0, 400, (8, 9, 3)).astype(np.int16)


def write_volume(path, array, spacing_mm=SPACING_MM):
    """Write an array of rows, columns and slices as ACDC stores one: columns first, 1 mm by the affine."""
    stored = nib.Nifti1Image(array.swapaxes(0, 1), np.diag([-1.0, -1.0, 1.0, 1.0]))
    row, column, slice_ = spacing_mm
    stored.header.set_zooms((column, row, slice_))
    stored.header.set_sform(np.diag([-1.0, -1.0, 1.0, 1.0]), 2)
    stored.header.set_qform(None, 0)
    # nibabel's own writer would set the spacing back to the affine's
    stored.header["vox_offset"] = 352
    content = stored.header.binaryblock + bytes(4) + stored.get_fdata().astype(array.dtype).tobytes(order="F")
    if path.suffix == ".gz":
        content = gzip.compress(content)
    path.write_bytes(content)


def change_header(path, **fields):
    """Give a compressed file other header fields, as they are: nibabel would mend some of them."""
    raw = gzip.decompress(path.read_bytes())
    header = nib.Nifti1Header(raw[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(gzip.compress(header.binaryblock + raw[348:]))
    return path


def write_info(folder, **changes):
    """Write Info.cfg; None leaves a key out."""
    lines = [f"{key}: {value}" for key, value in (INFO | changes).items() if value is not None]
    (folder / "Info.cfg").write_text("\n".join(lines) + "\n")


def write_patient(split_folder, patient_id="patient001", ending=".nii.gz", spacing_mm=SPACING_MM, masks=True, **info):
    """Write a sound patient: 20 voxels of LV at ED and 8 at ES; 6 and 4 of RV; 10 of myocardium."""
    folder = split_folder / patient_id
    folder.mkdir(parents=True)
    write_info(folder, **info)
    for phase, labels in (("ED", label_map()), ("ES", label_map(rv=4, lv=8))):
        name = f"{patient_id}_frame{(INFO | info)[phase]:02d}"
        write_volume(folder / f"{name}{ending}", image(), spacing_mm)
        if masks:
            write_volume(folder / f"{name}_gt{ending}", labels, spacing_mm)
    return folder
