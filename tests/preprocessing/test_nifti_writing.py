"""Label maps as NIfTI files: read again they are the same, and voxel by voxel they lie where their image does."""

import itertools
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from acdc_files import write_volume

from hcreg.preprocessing.nifti import Volume, check_alike, read_label_map, read_volume, write_label_map

LABELS = np.random.default_rng(0).integers(0, 4, (4, 5, 6)).astype(np.uint8)


def image_file(path, order=(0, 1, 2), flips=(1, 1, 1)):
    """An image whose intensities are the labels plus 10, in any order of axes."""
    turned = np.eye(4)[:, [*order, 3]] @ np.diag([*flips, 1])
    affine = turned @ np.diag([0.5, 0.75, 2.0, 1.0])
    affine[:3, 3] = (7.0, -3.0, 11.0)
    nib.save(nib.Nifti1Image((LABELS + 10).astype(np.float32), affine), path)
    return path


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_labels_lie_on_the_voxels_of_their_image(tmp_path, order, flips):
    path = image_file(tmp_path / "image.nii.gz", order, flips)
    image = read_volume(path)
    labels = replace(image, array=(image.array - 10).astype(np.uint8))
    write_label_map(tmp_path / "made" / "labels.nii.gz", labels)
    written = nib.load(tmp_path / "made" / "labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), LABELS)
    np.testing.assert_allclose(written.affine, nib.load(path).affine, atol=1e-5)
    assert written.get_data_dtype() == np.uint8
    again = read_label_map(tmp_path / "made" / "labels.nii.gz")
    np.testing.assert_array_equal(again.array, labels.array)
    check_alike(image, again)


def test_an_affine_of_directions_only_is_written_with_the_headers_spacing(tmp_path):
    write_volume(tmp_path / "image.nii.gz", LABELS.astype(np.int16), (2.5, 2.0, 10.0))
    image = read_volume(tmp_path / "image.nii.gz")
    write_label_map(tmp_path / "labels.nii", replace(image, array=LABELS))
    again = read_label_map(tmp_path / "labels.nii")
    assert again.spacing_mm == pytest.approx((2.5, 2.0, 10.0))
    np.testing.assert_array_equal(again.array, LABELS)
    check_alike(image, again)


def test_a_volume_of_no_nifti_file_is_written_by_its_own_affine(tmp_path):
    affine = read_volume(image_file(tmp_path / "image.nii.gz")).affine
    volume = Volume(LABELS, (0.75, 0.5, 2.0), affine, Path("scan.mha"))
    write_label_map(tmp_path / "labels.nii.gz", volume)
    written = nib.load(tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), LABELS)
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)


def test_what_is_no_label_map_is_refused(tmp_path):
    volume = read_volume(image_file(tmp_path / "image.nii.gz"))
    labels = replace(volume, array=np.zeros(volume.array.shape, np.uint8))
    with pytest.raises(ValueError, match=r"written as .nii.gz or .nii. Received: labels.mha"):
        write_label_map("labels.mha", labels)
    with pytest.raises(ValueError, match=r"whole numbers from 0 to 255 .* values from 0.5 to 0.5 of float64"):
        write_label_map(tmp_path / "labels.nii", replace(labels, array=np.full((2, 2, 2), 0.5)))
    with pytest.raises(ValueError, match=r"image.nii.gz is read as a volume of \(5, 4, 6\); .* shape \(2, 2, 2\)"):
        write_label_map(tmp_path / "labels.nii", replace(labels, array=np.zeros((2, 2, 2), np.uint8)))
    with pytest.raises(FileNotFoundError, match="There is no file"):
        write_label_map(tmp_path / "labels.nii", labels, like=tmp_path / "gone.nii")
    assert not (tmp_path / "labels.nii").exists()
