"""Volumes from MetaImage files: as NIfTI gives them, and each damage named with its file."""

import sys

import numpy as np
import pytest
import SimpleITK as sitk

from hcreg.preprocessing import metaimage, nifti

SHAPE, SPACING_MM = (5, 6, 4), (1.5, 1.25, 8.0)  # rows, columns, slices


def phantom(dtype=np.int16):
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


def stored(array):
    """An image of SimpleITK of an array of rows, columns, slices, some way from the origin."""
    image = sitk.GetImageFromArray(array.transpose(2, 0, 1))
    image.SetSpacing((1.25, 1.5, 8.0))
    image.SetOrigin((-40.0, -30.0, -20.0))
    return image


@pytest.fixture
def path(tmp_path):
    sitk.WriteImage(stored(phantom()), str(tmp_path / "head001.mha"))
    return tmp_path / "head001.mha"


def replaced(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    return path


def test_it_is_the_volume_that_its_arrays_say(path):
    volume = metaimage.read_volume(path)
    np.testing.assert_array_equal(volume.array, phantom())
    assert volume.array.dtype == np.float32
    assert volume.spacing_mm == metaimage.read_spacing_mm(path) == SPACING_MM
    # On axes to the right, anterior and superior, from the origin: down a row is to the back, a column to the left.
    np.testing.assert_allclose(volume.affine @ (3, 2, 1, 1), (40 - 2 * 1.25, 30 - 3 * 1.5, -20 + 8, 1))
    assert volume.path == path


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True)])
def test_turned_files_give_what_nifti_gives(tmp_path, order, flips):
    image = sitk.Flip(sitk.PermuteAxes(stored(phantom()), order), flips)
    for name in ("a.mhd", "a.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    meta, reference = metaimage.read_volume(tmp_path / "a.mhd"), nifti.read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(meta.array, reference.array)
    np.testing.assert_allclose(meta.spacing_mm, reference.spacing_mm, rtol=1e-6)
    np.testing.assert_allclose(meta.affine, reference.affine, atol=1e-5)


def test_labels_are_whole_and_declared(tmp_path):
    path = tmp_path / "labels.mha"
    sitk.WriteImage(stored((phantom() % 2).astype(np.uint8)), str(path))
    assert metaimage.read_label_map(path).array.sum() == 60
    with pytest.raises(ValueError, match=r"labels.mha has 60 voxel\(s\) with labels other than 0, 2: 1 \(60 voxels\)"):
        metaimage.read_label_map(path, labels=(0, 2))


def test_voxels_that_are_nan_are_counted(tmp_path):
    array = phantom(np.float32)
    array[0, 0, :3] = np.nan, np.inf, -np.inf
    sitk.WriteImage(stored(array), str(tmp_path / "a.mha"))
    with pytest.raises(ValueError, match=r"a.mha has 3 voxel\(s\) that are NaN or infinite as float32, of 120"):
        metaimage.read_volume(tmp_path / "a.mha")


def test_a_cut_file_is_named(path):
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"head001.mha is damaged or lacks its data \(.*\). Copy or download it again"):
        metaimage.read_volume(path)


def test_data_that_are_not_beside_are_missed(tmp_path):
    sitk.WriteImage(stored(phantom()), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(ValueError, match=r"a.mhd is damaged or lacks its data \(.*\). .* with its data file"):
        metaimage.read_volume(tmp_path / "a.mhd")


@pytest.mark.parametrize("spacing", ["1.25 0 8", "1.25 -1.5 8", "1.25 nan 8", "wide"])
def test_a_spacing_that_is_none_is_refused(path, spacing):
    replaced(path, b"ElementSpacing = 1.25 1.5 8", f"ElementSpacing = {spacing}".encode())
    words = f"has a spacing of '{spacing}' in its header. Expected three positive, finite numbers"
    for read in (metaimage.read_volume, metaimage.read_spacing_mm):
        with pytest.raises(ValueError, match=words):
            read(path)


def test_a_header_without_spacing_is_not_taken_for_1_mm(path):
    replaced(path, b"ElementSpacing = 1.25 1.5 8\n", b"")
    with pytest.raises(ValueError, match=r"head001\.mha gives no ElementSpacing in its header.*1 mm would be a guess"):
        metaimage.read_volume(path)


def test_other_numbers_of_axes_or_channels_are_refused(tmp_path):
    path = tmp_path / "a.mha"
    flat = sitk.GetImageFromArray(np.zeros((4, 5), np.uint8))
    colours = sitk.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    for image, words in ((flat, r"has 2 axes, \(5, 4\), and 1 number"), (colours, r"has 3 axes, \(6, 5, 4\), and 3")):
        sitk.WriteImage(image, str(path))
        with pytest.raises(ValueError, match=words):
            metaimage.read_volume(path)


def test_what_is_no_file_or_no_metaimage(tmp_path):
    (tmp_path / "text.mha").write_text("once upon a time")
    (tmp_path / "folder.mha").mkdir()
    with pytest.raises(ValueError, match=r"text\.mha is not a MetaImage file, whatever its name says"):
        metaimage.read_volume(tmp_path / "text.mha")
    with pytest.raises(ValueError, match=r"folder\.mha is a folder"):
        metaimage.read_volume(tmp_path / "folder.mha")
    with pytest.raises(
        FileNotFoundError, match=r"There is no file .*none\.mha\. Check its spelling, and the ending: \.mhd"
    ):
        metaimage.read_volume(tmp_path / "none.mha")


def test_without_simpleitk_the_error_says_what_to_install(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(ModuleNotFoundError, match=r'SimpleITK reads; it is not installed. .*"hcreg\[metaimage\]"'):
        metaimage.read_volume(path)
