"""Volumes from NIfTI files: one orientation whatever the file's, and each damage named with its file."""

import gzip
import itertools
import shutil

import nibabel as nib
import numpy as np
import pytest
from acdc_files import change_header

from hcreg.preprocessing.nifti import check_alike, read_label_map, read_spacing_mm, read_volume

# Of the array that is to come: (row, column, slice). All sizes and spacings differ, so that no two can be exchanged.
SHAPE, SPACING_MM = (5, 6, 4), (1.5, 1.25, 8.0)
ORIGIN_MM = (40.0, 30.0, -20.0)  # of the first voxel, on axes to the right, anterior and superior


def phantom(dtype=np.float32):
    return np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)


def lps_affine(scales=SPACING_MM):
    """From (x to the left, y to the back, z up) to mm, for an array of those axes."""
    row, column, slice_ = scales
    affine = np.diag([-column, -row, slice_, 1.0])
    affine[:3, 3] = ORIGIN_MM
    return affine


def lps_array(array=None):
    return (phantom() if array is None else array).transpose(1, 0, 2)


def write(path, array, affine, spacing_mm=None, code=1):
    """Write a file of an array in its own order, and of a spacing that may contradict the affine."""
    image = nib.Nifti1Image(array, affine)
    image.header.set_sform(affine, code)
    image.header.set_qform(None, 0)
    image.header["vox_offset"] = 352
    if spacing_mm is not None:
        image.header["pixdim"][1:4] = spacing_mm
    content = image.header.binaryblock + bytes(4) + np.asarray(array).tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


@pytest.fixture
def path(tmp_path):
    """The phantom as ACDC stores it."""
    return write(tmp_path / "patient001_frame01.nii.gz", lps_array(), lps_affine(), (1.25, 1.5, 8.0))


def test_a_file_as_acdc_stores_it_gives_rows_columns_slices(path):
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, phantom())
    assert volume.array.dtype == np.float32
    assert volume.array.flags.c_contiguous
    assert volume.array.flags.writeable
    assert volume.spacing_mm == SPACING_MM
    assert read_spacing_mm(path) == SPACING_MM
    assert volume.path == path


def test_affine_gives_the_place_of_each_voxel(path):
    # down a row is to the back (-y), right a column to the patient's left (-x), a slice up (+z)
    row, column, slice_ = 3, 2, 1
    place_mm = read_volume(path).affine @ (row, column, slice_, 1)
    np.testing.assert_allclose(place_mm, (40 - 2 * 1.25, 30 - 3 * 1.5, -20 + 8.0, 1))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((1, -1), repeat=3)))
def test_every_order_and_direction_of_axes_gives_one_volume(tmp_path, order, flips):
    array, affine = lps_array(), lps_affine()
    # another copy of the same voxels at the same places, made without nibabel's own functions
    stored = array[tuple(slice(None, None, flip) for flip in flips)].transpose(order)
    to_lps = np.eye(4)
    for axis, flip in enumerate(flips):
        to_lps[axis, axis] = flip
        to_lps[axis, 3] = array.shape[axis] - 1 if flip < 0 else 0
    permuted = np.zeros((4, 4))
    permuted[3, 3] = 1
    for new, old in enumerate(order):
        permuted[old, new] = 1
    spacing_mm = np.array((1.25, 1.5, 8.0))[list(order)]
    path = write(tmp_path / "copy.nii.gz", np.asfortranarray(stored), affine @ to_lps @ permuted, spacing_mm)
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.array, phantom())
    assert volume.spacing_mm == SPACING_MM
    assert read_spacing_mm(path) == SPACING_MM
    np.testing.assert_allclose(volume.affine @ (3, 2, 1, 1), (37.5, 25.5, -12.0, 1), atol=1e-5)
    labels = write(
        tmp_path / "labels.nii.gz", np.asfortranarray(stored % 4).astype(np.uint8), affine @ to_lps @ permuted
    )
    np.testing.assert_array_equal(read_label_map(labels).array, phantom() % 4)


def test_an_oblique_volume_is_turned_to_the_nearest_axes(tmp_path):
    angle = np.deg2rad(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = lps_affine()
    affine[:3, :3] = turn @ affine[:3, :3]
    flipped = affine @ np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[:3, 3] += affine[:3, 0] * 5
    first = read_volume(write(tmp_path / "oblique.nii.gz", lps_array(), affine))
    second = read_volume(write(tmp_path / "flipped.nii.gz", lps_array()[::-1], flipped))
    for volume in (first, second):
        np.testing.assert_array_equal(volume.array, phantom())
        place_mm = turn @ (-2 * 1.25, -3 * 1.5, 8.0) + ORIGIN_MM
        np.testing.assert_allclose(volume.affine @ (3, 2, 1, 1), (*place_mm, 1), atol=1e-4)
        assert volume.spacing_mm == pytest.approx(SPACING_MM)


def test_an_affine_of_directions_only_is_given_the_headers_spacing(tmp_path):
    # as in every file of ACDC: 1 mm by the affine, the truth in pixdim
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    volume = read_volume(write(tmp_path / "a.nii.gz", lps_array(), affine, (1.25, 1.5, 8.0), code=2))
    assert volume.spacing_mm == SPACING_MM
    np.testing.assert_allclose(np.linalg.norm(volume.affine[:3, :3], axis=0), SPACING_MM)
    np.testing.assert_allclose(volume.affine @ (3, 2, 1, 1), (-2.5, -4.5, 8.0, 1))


def test_a_file_without_orientation_is_taken_as_it_lies(tmp_path):
    volume = read_volume(write(tmp_path / "a.nii.gz", lps_array(), lps_affine(), code=0))
    np.testing.assert_array_equal(volume.array, phantom())
    assert volume.spacing_mm == SPACING_MM


@pytest.mark.parametrize("qfac", [1, 0, -1])
def test_an_affine_by_quaternion_is_read_and_its_handedness_0_is_1(path, qfac):
    # half a turn about the third axis: the first two axes to the left and back, as in the phantom
    x, y, z = ORIGIN_MM
    place = {"qoffset_x": x, "qoffset_y": y, "qoffset_z": z}
    change_header(path, sform_code=0, qform_code=1, quatern_d=1, pixdim=[qfac, 1.25, 1.5, 8, 1, 1, 1, 1], **place)
    volume = read_volume(path)
    expected = phantom()[..., ::-1] if qfac == -1 else phantom()
    np.testing.assert_array_equal(volume.array, expected)
    np.testing.assert_allclose(volume.affine @ (3, 2, 0, 1), (37.5, 25.5, -44.0 if qfac == -1 else -20.0, 1), atol=1e-5)
    assert read_spacing_mm(path) == SPACING_MM


def test_uncompressed_files_and_a_fourth_axis_of_one_frame_are_read(tmp_path):
    plain = write(tmp_path / "plain.nii", lps_array(), lps_affine())
    np.testing.assert_array_equal(read_volume(plain).array, phantom())
    assert read_spacing_mm(plain) == SPACING_MM
    one_frame = write(tmp_path / "frame.nii.gz", lps_array()[..., None], lps_affine())
    np.testing.assert_array_equal(read_volume(one_frame).array, phantom())


def test_nifti_2_big_endian_and_scaled_intensities_are_read(tmp_path):
    nib.Nifti2Image(lps_array(), lps_affine()).to_filename(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "two.nii.gz").array, phantom())
    header = nib.Nifti1Header(endianness=">")
    big = nib.Nifti1Image(lps_array().astype(">i2"), lps_affine(), header=header)
    big.to_filename(tmp_path / "big.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "big.nii.gz").array, phantom())
    path = write(tmp_path / "scaled.nii.gz", lps_array(phantom(np.int16)), lps_affine())
    np.testing.assert_array_equal(
        read_volume(change_header(path, scl_slope=2.0, scl_inter=-7.0)).array, phantom() * 2 - 7
    )


def test_labels_of_any_type_become_uint8(tmp_path):
    labels = phantom() % 4
    for dtype in (np.uint8, np.int16, np.float32, np.float64):
        volume = read_label_map(write(tmp_path / "gt.nii.gz", lps_array(labels).astype(dtype), lps_affine()))
        assert volume.array.dtype == np.uint8
        np.testing.assert_array_equal(volume.array, labels)
        assert volume.spacing_mm == SPACING_MM


def test_other_labels_are_refused_with_their_numbers(tmp_path):
    labels = np.zeros(SHAPE, np.float32)
    labels.flat[:3] = 4
    labels.flat[3:5] = 0.5
    labels.flat[5] = -1
    path = write(tmp_path / "patient001_frame01_gt.nii.gz", lps_array(labels), lps_affine())
    words = (
        r"frame01_gt\.nii\.gz has 6 voxel\(s\) with labels other than 0, 1, 2, 3: "
        r"-1 \(1 voxels\), 0\.5 \(2 voxels\), 4 \(3 voxels\)\. It is an image"
    )
    with pytest.raises(ValueError, match=words):
        read_label_map(path)
    labels[labels == 0.5] = np.nan
    with pytest.raises(ValueError, match=r"has 6 voxel\(s\).*nan \(2 voxels\)"):
        read_label_map(write(path, lps_array(labels), lps_affine()))
    labels = phantom()
    with pytest.raises(ValueError, match=r"has 116 voxel\(s\).*8 \(1 voxels\) and 111 more values"):
        read_label_map(write(path, lps_array(labels), lps_affine()))
    assert read_label_map(path, labels=range(120)).array.max() == 119


def test_a_cine_is_refused_and_a_frame_named(tmp_path):
    cine = write(tmp_path / "patient001_4d.nii.gz", np.zeros((6, 5, 4, 7), np.float32), lps_affine())
    words = r"patient001_4d\.nii\.gz is 4-D, \(6, 5, 4, 7\): the whole cine of 7 frames\. Expected one frame, 3-D: "
    for read in (read_volume, read_label_map, read_spacing_mm):
        with pytest.raises(ValueError, match=words + r"patient001_frameMM\.nii\.gz, where MM is the frame that Info"):
            read(cine)
    for name in ("frame01", "frame01_gt", "frame12"):
        (tmp_path / f"patient001_{name}.nii.gz").touch()
    with pytest.raises(ValueError, match=words + r"patient001_frame01\.nii\.gz or patient001_frame12\.nii\.gz\."):
        read_volume(cine)


def test_other_numbers_of_axes_are_refused(tmp_path):
    path = write(tmp_path / "slice.nii.gz", lps_array()[..., 0], lps_affine())
    with pytest.raises(ValueError, match=r"slice\.nii\.gz is 2-D, \(6, 5\)\. Expected a volume of three axes"):
        read_volume(path)


def test_an_axis_without_voxels_is_refused(tmp_path):
    path = write(tmp_path / "thin.nii.gz", lps_array()[..., :0], lps_affine())
    with pytest.raises(ValueError, match=r"thin\.nii\.gz has the shape \(6, 5, 0\): an axis without voxels"):
        read_volume(path)


@pytest.mark.parametrize(
    ("spacing_mm", "words"),
    [
        ((1.25, 1.5, 0), "1.25 x 1.5 x 0 mm"),
        ((-1.25, 1.5, 8), "-1.25 x 1.5 x 8 mm"),
        ((1.25, np.nan, 8), "1.25 x nan x 8 mm"),
        ((1.25, 1.5, np.inf), "1.25 x 1.5 x inf mm"),
    ],
)
def test_an_impossible_spacing_is_refused_not_mended(path, spacing_mm, words):
    change_header(path, pixdim=[1, *spacing_mm, 1, 1, 1, 1])
    for read in (read_volume, read_label_map, read_spacing_mm):
        with pytest.raises(
            ValueError, match=rf"frame01\.nii\.gz has a spacing of {words} in its header. Expected three"
        ):
            read(path)


def test_two_spacings_in_one_header_are_refused(tmp_path):
    path = write(tmp_path / "two.nii.gz", lps_array(), lps_affine(), (1.25, 1.75, 8.0))
    words = (
        r"two\.nii\.gz has two spacings in its header: 1\.25 x 1\.75 x 8 mm \(pixdim\), and 1\.25 x 1\.5 x 8 mm by its"
    )
    with pytest.raises(ValueError, match=words):
        read_volume(path)
    # rounded to five digits, as in a part of ACDC
    affine = lps_affine((1.367188, 1.367188, 10.0))
    assert read_volume(write(path, lps_array(), affine, (1.36719, 1.36719, 10.0))).spacing_mm[0] == np.float32(1.36719)


def test_an_affine_without_places_is_refused(tmp_path):
    affine = lps_affine()
    affine[:3, 1] = affine[:3, 0] * 1.2
    path = write(tmp_path / "flat.nii.gz", lps_array(), affine, (1.25, 1.5, 8.0))
    with pytest.raises(ValueError, match=r"flat\.nii\.gz has an affine that gives its voxels no place: \[\[-1\.25"):
        read_volume(path)


def test_a_unit_other_than_mm_is_refused(path):
    change_header(path, xyzt_units=1)
    with pytest.raises(ValueError, match="gives its spacing in meter, expected mm"):
        read_volume(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300, -1e39])
def test_voxels_that_are_no_numbers_of_float32_are_counted(tmp_path, bad, recwarn):
    array = phantom(np.float64)
    array.flat[:3] = bad
    path = write(tmp_path / "holes.nii.gz", lps_array(array), lps_affine())
    with pytest.raises(
        ValueError, match=r"holes\.nii\.gz has 3 voxel\(s\) that are NaN or infinite as float32, of 120"
    ):
        read_volume(path)
    assert not recwarn.list
    array.flat[:3] = 3e38
    assert read_volume(write(path, lps_array(array), lps_affine())).array.max() == np.float32(3e38)


def test_colours_are_refused(tmp_path):
    colours = np.zeros((6, 5, 4), np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    path = write(tmp_path / "rgb.nii.gz", colours, lps_affine())
    with pytest.raises(ValueError, match=r"rgb\.nii\.gz holds colours"):
        read_volume(path)


@pytest.mark.parametrize("kept", [11, 60, 0.3, 0.9, -1, -7])
@pytest.mark.parametrize("read", [read_volume, read_label_map])
def test_a_truncated_file_is_named_wherever_it_ends(tmp_path, kept, read):
    noise = np.random.default_rng(0).integers(0, 4, (20, 20, 10)).astype(np.float32)
    path = write(tmp_path / "patient001_frame01.nii.gz", noise, lps_affine())
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(
        ValueError, match=r"patient001_frame01\.nii\.gz is truncated or damaged .*no part of it was used"
    ):
        read(path)


def test_missing_voxels_of_a_sound_archive_are_noticed(path):
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-8]))
    with pytest.raises(ValueError, match=r"is truncated or damaged \(Expected 480 bytes, got 472 bytes"):
        read_volume(path)


def test_a_changed_byte_is_noticed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 4, (40, 40, 20)).astype(np.float32)
    path = write(tmp_path / "frame.nii.gz", noise, lps_affine())
    content = bytearray(path.read_bytes())
    content[-6] ^= 1  # of the checksum: nibabel by itself reads such a file
    path.write_bytes(content)
    np.testing.assert_array_equal(nib.load(path).get_fdata(), noise)
    with pytest.raises(ValueError, match=r"is truncated or damaged \(CRC check failed"):
        read_volume(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": [-1] * 8},
        {"dim": [3, 6, -5, 4, 1, 1, 1, 1]},
        {"dim": [3, 6, 5, 3000, 1, 1, 1, 1]},
        {"datatype": 12345},
        {"vox_offset": np.nan},
        {"xyzt_units": 5},
        {"sform_code": 0, "qform_code": 1, "quatern_b": 2},
        {"sform_code": 0, "qform_code": 1, "pixdim": [2, 1.25, 1.5, 8, 1, 1, 1, 1]},
    ],
)
def test_a_damaged_header_is_named(path, fields):
    change_header(path, **fields)
    of_voxels_too = fields.keys() & {"datatype", "vox_offset"} or fields.get("dim", [0] * 4)[3] == 3000
    for read in (read_volume, read_label_map) if of_voxels_too else (read_volume, read_label_map, read_spacing_mm):
        with pytest.raises(
            ValueError, match=r"patient001_frame01\.nii\.gz is truncated or damaged \(.*no part of it was"
        ):
            read(path)


def test_files_of_other_kinds(tmp_path, path):
    text = tmp_path / "text.nii.gz"
    text.write_text("<html>not found</html>")
    with pytest.raises(ValueError, match=r"text\.nii\.gz is not compressed with gzip, whatever its name says"):
        read_volume(text)
    plain = shutil.copy(write(tmp_path / "a.nii", lps_array(), lps_affine()), tmp_path / "plain.nii.gz")
    with pytest.raises(ValueError, match=r"plain\.nii\.gz is not compressed with gzip.*name it \.nii if it is"):
        read_volume(plain)
    for name, content in (("zip.nii.gz", gzip.compress(b"PK" * 300)), ("short.nii", b"\x5c\x01\0\0")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is not a NIfTI file, whatever its name says"):
            read_volume(tmp_path / name)
    (tmp_path / "empty.nii.gz").touch()
    with pytest.raises(ValueError, match=r"empty\.nii\.gz is empty \(0 bytes\)"):
        read_volume(tmp_path / "empty.nii.gz")
    with pytest.raises(ValueError, match="is a folder; expected the path of one NIfTI file"):
        read_volume(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no file .*nowhere\.nii\.gz"):
        read_label_map(tmp_path / "nowhere.nii.gz")


def pair(tmp_path, **label_map):
    """The phantom's image, and a label map written as asked."""
    image = write(tmp_path / "patient001_frame01.nii.gz", lps_array(), lps_affine())
    arguments = {"array": lps_array(phantom() % 4), "affine": lps_affine()} | label_map
    return read_volume(image), read_label_map(write(tmp_path / "patient001_frame01_gt.nii.gz", **arguments))


def test_alike_volumes_pass_stored_in_whatever_order(tmp_path):
    check_alike(*pair(tmp_path))
    flipped = lps_affine() @ np.diag([-1.0, 1.0, 1.0, 1.0])
    flipped[:3, 3] += lps_affine()[:3, 0] * 5
    check_alike(*pair(tmp_path, array=lps_array(phantom() % 4)[::-1], affine=flipped))
    check_alike(*pair(tmp_path, affine=lps_affine((1.5, 1.25 * 1.0005, 8.0))))


def test_another_shape_is_refused_with_both_files(tmp_path):
    words = (
        r"patient001_frame01_gt\.nii\.gz differs from its image patient001_frame01\.nii\.gz in shape: \(5, 6, 3\) "
        r"and \(5, 6, 4\) \(rows, columns, slices\)\. Take both from one download"
    )
    with pytest.raises(ValueError, match=words):
        check_alike(*pair(tmp_path, array=lps_array(phantom() % 4)[..., :3]))


def test_another_spacing_is_refused_with_both_numbers(tmp_path):
    words = r"frame01_gt.*differs from its image .* in spacing: 1\.5 x 1\.25 x 10 mm and 1\.5 x 1\.25 x 8 mm by their"
    with pytest.raises(ValueError, match=words):
        check_alike(*pair(tmp_path, affine=lps_affine((1.5, 1.25, 10.0))))
    with pytest.raises(ValueError, match="in spacing"):
        check_alike(*pair(tmp_path, affine=lps_affine((1.5, 1.25 * 1.002, 8.0))))


def test_another_place_is_refused_with_the_distance(tmp_path):
    affine = lps_affine()
    affine[:3, 3] += (3.0, 0.0, 4.0)
    words = (
        r"patient001_frame01_gt\.nii\.gz differs from its image patient001_frame01\.nii\.gz in its affine: their "
        r"corners lie up to 5\.00 mm apart\. Affine of the label map: \[\[.*43\.0.*, of the image: \[\[.*40\.0"
    )
    with pytest.raises(ValueError, match=words):
        check_alike(*pair(tmp_path, affine=affine))


def test_a_place_may_differ_by_a_thousandth_of_the_diagonal(tmp_path):
    # of 7.5, 7.5 and 32 mm: 33.7 mm, so that 0.03 mm pass and 0.04 mm do not
    for shift_mm in (0.03, 0.04, 0.15):
        affine = lps_affine()
        affine[1, 3] += shift_mm
        volumes = pair(tmp_path, affine=affine)
        if shift_mm == 0.03:
            check_alike(*volumes)
        else:
            with pytest.raises(ValueError, match=f"corners lie up to {shift_mm:.2f} mm apart"):
                check_alike(*volumes)
