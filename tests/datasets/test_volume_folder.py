"""Pairs of image and label map: every naming scheme, both formats, and each problem by its words."""

import nibabel as nib
import numpy as np
import pytest

from hcreg import datasets
from hcreg.datasets import VolumeFolder
from hcreg.datasets.volume_folder_layout import LABEL_SUFFIXES, subject_of

SHAPE, SPACING_MM = (5, 6, 4), (1.5, 1.25, 8.0)  # rows, columns, slices; a voxel has 15 cubic mm
NUM_FOREGROUND = 20


def image(seed=0):
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def label_map(value=1):
    labels = np.zeros(SHAPE, np.uint8)
    labels.flat[30 : 30 + NUM_FOREGROUND] = value
    return labels


def write(path, array, spacing_mm=SPACING_MM):
    """Write an array of rows, columns, slices in the format that the path's ending names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row, column, slice_ = spacing_mm
    if path.suffix in (".mhd", ".mha"):
        sitk = pytest.importorskip("SimpleITK")
        stored = sitk.GetImageFromArray(array.transpose(2, 0, 1))  # slices, rows, columns: z, y, x
        stored.SetSpacing((column, row, slice_))
        sitk.WriteImage(stored, str(path))
    else:
        nib.save(nib.Nifti1Image(array.swapaxes(0, 1), np.diag([-column, -row, slice_, 1.0])), path)
    return path


def write_pair(root, image_name="head001.nii.gz", label_name="head001_label.nii.gz", seed=0):
    write(root / image_name, image(seed))
    write(root / label_name, label_map())
    return root


def messages(root, **arguments):
    return [str(problem) for problem in VolumeFolder.check_folder(root, **arguments)]


@pytest.mark.parametrize(
    ("scheme", "image_name", "label_name"),
    [
        *(("suffix", "a.nii.gz", f"a{suffix}.nii.gz") for suffix in LABEL_SUFFIXES),
        ("suffix", "a.nii", "a_gt.nii.gz"),
        ("suffix", "deeper/still/a.nii.gz", "deeper/still/a_SEG.nii.gz"),
        ("suffix", "a.mhd", "a_label.mha"),
        ("suffix", "a.mha", "a_label.nii.gz"),
        ("folders", "images/a.nii.gz", "labels/a.nii.gz"),
        ("folders", "images/a.nii.gz", "labels/a_label.nii"),
        ("folders", "images/a.mha", "labels/a.mhd"),
        ("nnunet", "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"),
    ],
)
def test_a_pair_of_every_scheme_is_read(tmp_path, scheme, image_name, label_name):
    write_pair(tmp_path, image_name, label_name)
    data = VolumeFolder(tmp_path)
    assert (data.scheme, len(data), data.subjects) == (scheme, 1, ["a"])
    record = data[0]
    found, labels = record.pair()
    np.testing.assert_array_equal(found.array, image())
    np.testing.assert_array_equal(labels.array, label_map())
    assert found.spacing_mm == labels.spacing_mm == record.spacing_mm == SPACING_MM
    assert record.volume_ml() == pytest.approx(20 * 0.015)
    assert (record.image_path, record.label_map_path) == (tmp_path / image_name, tmp_path / label_name)
    assert data.check() == []


def test_records_come_in_the_order_of_their_ids_and_repeated_scans_have_one_subject(tmp_path):
    for seed, name in enumerate(("head002_scan1", "head001_scan2", "head001_scan1", "head003")):
        write_pair(tmp_path, f"images/{name}.nii.gz", f"labels/{name}.nii.gz", seed)
    data = VolumeFolder(tmp_path)
    assert data.subjects == ["head001_scan1", "head001_scan2", "head002_scan1", "head003"]
    assert [record.subject for record in data] == ["head001", "head001", "head002", "head003"]
    assert repr(data) == f"VolumeFolder({str(tmp_path)!r}, labels=(0, 1)): 4 volumes of 3 subjects"
    np.testing.assert_array_equal(data[2].image().array, image(0))
    assert [subject_of(name) for name in ("a-Scan12", "a_scan", "scan1", "a_scan1_late")] == [
        "a",
        "a_scan",
        "scan1",
        "a_scan1_late",
    ]


def test_one_name_in_several_folders_is_told_by_the_folder(tmp_path):
    for folder in ("one", "two"):
        write_pair(tmp_path / folder, "image.nii.gz", "image_label.nii.gz")
    assert VolumeFolder(tmp_path).subjects == ["one/image", "two/image"]


def test_other_files_are_let_be(tmp_path):
    write_pair(tmp_path)
    for name in ("dataset.json", "notes.txt", "._head001.nii.gz", "true_volumes.csv"):
        (tmp_path / name).write_text("no volume")
    assert messages(tmp_path) == []


def test_labels_are_those_declared(tmp_path):
    write_pair(tmp_path)
    write(tmp_path / "head001_label.nii.gz", label_map(3))
    assert VolumeFolder(tmp_path, labels=(0, 3))[0].volume_ml() == pytest.approx(20 * 0.015)
    assert messages(tmp_path, labels=(0, 1, 3)) == []
    (problem,) = messages(tmp_path)
    assert "head001_label.nii.gz: has 20 voxel(s) with labels other than 0, 1: 3 (20 voxels)" in problem


@pytest.mark.parametrize("labels", [(), (0,), (1, 2), (0, 1, 1), (0, 256), (0, -1), (0, 0.5)])
def test_labels_that_are_none_are_refused(tmp_path, labels):
    with pytest.raises(ValueError, match="labels must be different whole numbers from 0 to 255: 0 for background, and"):
        VolumeFolder(tmp_path, labels=labels)


@pytest.mark.parametrize(
    ("scheme", "image_name", "expected"),
    [
        ("suffix", "b.nii", "b_label.nii beside it"),
        ("folders", "images/b.nii.gz", "labels/b.nii.gz"),
        ("nnunet", "imagesTr/b_0000.nii.gz", "labelsTr/b.nii.gz"),
    ],
)
def test_an_image_without_a_label_map(tmp_path, scheme, image_name, expected):
    pairs = {
        "suffix": ("a.nii.gz", "a_gt.nii.gz"),
        "folders": ("images/a.nii.gz", "labels/a.nii.gz"),
        "nnunet": ("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz"),
    }
    write_pair(tmp_path, *pairs[scheme])
    write(tmp_path / image_name, image())
    with pytest.raises(FileNotFoundError, match=f"{image_name}: has no label map. Expected {expected}. Copy it there."):
        VolumeFolder(tmp_path)
    assert VolumeFolder(tmp_path, strict=False).subjects == ["a"]


@pytest.mark.parametrize("name", ["b_seg.nii.gz", "labels/b.nii.gz"])
def test_a_label_map_without_an_image(tmp_path, name):
    write(tmp_path / name, label_map())
    with pytest.raises(FileNotFoundError, match=r"is a label map without an image: there is none of b\. Copy it"):
        VolumeFolder(tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("head001_gt.nii.gz", "head001 has 2 label maps: head001_gt.nii.gz, head001_label.nii.gz. Expected one."),
        (
            "head001.nii",
            "head001 has 2 images: head001.nii, head001.nii.gz. Expected one. Remove or rename",
        ),
    ],
)
def test_several_files_for_one_are_no_pair(tmp_path, more, words):
    write_pair(tmp_path)
    write(tmp_path / more, label_map())
    with pytest.raises(ValueError, match="Expected one") as error:
        VolumeFolder(tmp_path)
    assert words in str(error.value)


def test_two_schemes_in_one_folder_ask_for_one(tmp_path):
    write_pair(tmp_path)
    write_pair(tmp_path, "images/b.nii.gz", "labels/b.nii.gz")
    words = r"several naming schemes, of suffix \(X.nii.gz beside .*\) and of folders \(images.* Give one as scheme="
    with pytest.raises(ValueError, match=words):
        VolumeFolder(tmp_path)
    assert VolumeFolder(tmp_path, scheme="suffix").subjects == ["head001"]
    assert VolumeFolder(tmp_path, scheme="folders").subjects == ["b"]
    with pytest.raises(ValueError, match=r"scheme must be one of suffix, folders, nnunet, or None\. Received: 'bids'"):
        VolumeFolder(tmp_path, scheme="bids")


@pytest.mark.parametrize("name", ["a_0001", "a"])
def test_other_channels_of_nnunet_are_named(tmp_path, name):
    write_pair(tmp_path, "imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    write(tmp_path / f"imagesTr/{name}.nii.gz", image())
    with pytest.raises(ValueError, match=f"{name}.nii.gz: is not named as an image of one channel, X_0000. Rename it"):
        VolumeFolder(tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nowhere", "there is no such folder. Give the folder that holds the pairs"),
        ("file", "is a file; expected a folder of pairs"),
        ("empty", "holds no pairs of image and label map. Expected X.nii.gz beside X_label.nii.gz"),
    ],
)
def test_a_root_without_pairs(tmp_path, name, words):
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=f"{name}: {words}"):
        VolumeFolder(tmp_path / name)


def change(root, what):
    """Damage one of a sound pair."""
    if what == "nan":
        array = image()
        array[1, 2, 3] = np.nan
        write(root / "head001.nii.gz", array)
    elif what == "constant":
        write(root / "head001.nii.gz", np.full(SHAPE, 7, np.float32))
    elif what == "empty":
        write(root / "head001_label.nii.gz", label_map(0))
    elif what == "size":
        write(root / "head001_label.nii.gz", label_map()[:, :5])
    elif what == "spacing":
        write(root / "head001_label.nii.gz", label_map(), (1.5, 1.25, 7.0))
    elif what == "truncated":
        path = root / "head001.nii.gz"
        path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", "head001.nii.gz: has 1 voxel(s) that are NaN or infinite as float32, of 120"),
        ("constant", "head001.nii.gz: every voxel has the value 7, which cannot be standardised"),
        ("empty", "head001_label.nii.gz: has no foreground: every voxel is 0, background. Draw it again"),
        ("size", "differs from its image head001.nii.gz in shape: (5, 5, 4) and (5, 6, 4) (rows, columns, slices)"),
        ("spacing", "in spacing: 1.5 x 1.25 x 7 mm and 1.5 x 1.25 x 8 mm by their headers"),
        ("truncated", "head001.nii.gz: is truncated or damaged"),
    ],
)
def test_check_lists_what_is_wrong_with_the_voxels(tmp_path, what, words):
    write_pair(tmp_path)
    write_pair(tmp_path, "head002.nii.gz", "head002_label.nii.gz")
    change(tmp_path, what)
    seen = []
    (problem,) = messages(tmp_path, on_progress=lambda *counts: seen.append(counts))
    assert words in problem
    assert seen == [(1, 2), (2, 2)]


def test_a_pair_of_other_places_is_refused_when_read(tmp_path):
    write_pair(tmp_path)
    change(tmp_path, "spacing")
    with pytest.raises(ValueError, match=r"head001_label\.nii\.gz differs from its image head001\.nii\.gz in spacing"):
        VolumeFolder(tmp_path)[0].pair()


def test_it_is_exported():
    assert "VolumeFolder" in datasets.__all__
