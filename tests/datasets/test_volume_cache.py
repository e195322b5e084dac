"""Prepared stacks: found again by their content, made anew where it changed, and true to their files."""

import shutil
import threading
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from hcreg.datasets import ACDC
from hcreg.datasets.volume_cache import SHARE, FramePreparation, PaperPreparation, VolumeCache
from hcreg.preprocessing.volumes import Frame, paper_crop, paper_slices
from tests.helpers.acdc_files import SPACING_MM, image, label_map, write_patient, write_volume

PREPARE = FramePreparation(Frame(10, 12, 2.0))


class Counting:
    """A record that counts how often its image is read."""

    def __init__(self, record):
        self.record, self.reads = record, 0

    def __getattr__(self, name):
        return getattr(self.record, name)

    def image(self):
        self.reads += 1
        return self.record.image()


@pytest.fixture
def root(tmp_path):
    """Two patients, four stacks; patient002 lies in other intensities."""
    for patient_id in ("patient001", "patient002"):
        write_patient(tmp_path / "training", patient_id)
    for number, path in enumerate(sorted((tmp_path / "training").glob("*/*[0-9].nii.gz"))):
        write_volume(path, image() + number)
    return tmp_path


def records_of(root):
    return [Counting(record) for record in ACDC(root)]


def read(root, folder=None, prepare=PREPARE, **options):
    records = records_of(root)
    cache = VolumeCache(records, prepare, folder, **options)
    return cache, [record.reads for record in records]


def assert_equal(cache, other):
    for stack, other_stack in zip(cache.stacks, other.stacks, strict=True):
        assert set(stack) == set(other_stack)
        for name in stack:
            np.testing.assert_array_equal(stack[name], other_stack[name])
    for name in ("volumes_ml", "voxel_counts", "voxel_ml", "slice_mm"):
        np.testing.assert_array_equal(getattr(cache, name), getattr(other, name))


# What is read


def test_sizes_are_those_counted_by_hand(root):
    cache, _ = read(root)
    assert len(cache) == 4
    np.testing.assert_array_equal(cache.voxel_counts, [[6, 10, 20], [4, 10, 8]] * 2)
    np.testing.assert_allclose(cache.voxel_ml, 0.05)
    np.testing.assert_allclose(cache.volumes_ml[0], [0.3, 0.5, 1.0])
    np.testing.assert_allclose(cache.slice_mm, 10.0)
    assert cache.index_of(["patient002_ES", "patient001_ED"]).tolist() == [3, 0]


def test_a_stack_on_a_frame_is_standardised_and_its_shares_hold_its_volume(root):
    cache, _ = read(root, prepare=FramePreparation(Frame(30, 30, 1.0)))
    stack = cache.stacks[0]
    assert stack["image"].shape == (30, 30, 3)
    assert stack["image"].mean() == pytest.approx(0, abs=1e-5)
    assert stack["image"].std() == pytest.approx(1, abs=1e-5)
    assert stack["shares"].shape == (30, 30, 3, 4)
    assert stack["shares"].dtype == np.uint8
    # a frame of whole pixels over pixels of 2.5 x 2: the sum of all structures stays, in ml
    ml = stack["shares"][..., 1:].sum(dtype=float) / SHARE * 10.0 / 1000
    assert ml == pytest.approx(1.8, rel=0.02)


def test_records_without_label_maps_have_no_volumes(root, tmp_path):
    write_patient(root / "testing", "patient101", masks=False)
    records = ACDC(root, "test")
    cache = VolumeCache(records, PREPARE, tmp_path / "kept")
    assert np.isnan(cache.volumes_ml).all()
    assert set(cache.stacks[0]) == {"image"}
    np.testing.assert_allclose(cache.voxel_ml, 0.05)
    assert_equal(VolumeCache(records, PREPARE, tmp_path / "kept"), cache)
    with pytest.raises(ValueError, match=r"patient101_frame01\.nii\.gz has no label map, .* Use a FramePreparation"):
        VolumeCache(records, PaperPreparation())


def test_progress_counts_the_stacks(root):
    seen = []
    read(root, progress=seen.append)
    assert seen == [1, 2, 3, 4]


# The folder


def test_kept_stacks_are_found_again(root, tmp_path):
    first, reads = read(root, tmp_path / "kept")
    assert reads == [1, 1, 1, 1]
    again, reads = read(root, tmp_path / "kept")
    assert reads == [0, 0, 0, 0]
    assert_equal(again, first)
    assert_equal(first, read(root)[0])


def test_nothing_is_written_unless_asked(root):
    before = sorted(root.rglob("*"))
    read(root)
    assert sorted(root.rglob("*")) == before


def test_renamed_and_moved_files_are_found(root, tmp_path):
    first, _ = read(root, tmp_path / "kept")
    moved = tmp_path / "elsewhere" / "training"
    for patient_id, other in (("patient001", "patient007"), ("patient002", "patient008")):
        shutil.copytree(root / "training" / patient_id, moved / other)
        for path in (moved / other).glob("*.nii.gz"):
            path.rename(path.with_name(path.name.replace(patient_id, other)))
    again, reads = read(tmp_path / "elsewhere", tmp_path / "kept")
    assert reads == [0, 0, 0, 0]
    assert_equal(again, first)


def test_a_changed_image_or_label_map_is_read_again(root, tmp_path):
    read(root, tmp_path / "kept")
    changed = image()
    changed[0, 0, 0] += 1
    write_volume(root / "training" / "patient001" / "patient001_frame01.nii.gz", changed)
    labels = label_map(rv=4, lv=9)
    write_volume(root / "training" / "patient002" / "patient002_frame12_gt.nii.gz", labels)
    again, reads = read(root, tmp_path / "kept")
    assert reads == [1, 0, 0, 1]
    np.testing.assert_array_equal(again.voxel_counts[3], [4, 10, 9])


@pytest.mark.parametrize(
    "other",
    [
        FramePreparation(Frame(10, 12, 2.5)),
        FramePreparation(Frame(10, 12, 2.0, 3)),
        PaperPreparation((10, 12), 3),
    ],
)
def test_another_preparation_is_made_anew(root, tmp_path, other):
    read(root, tmp_path / "kept")
    assert read(root, tmp_path / "kept", other)[1] == [1, 1, 1, 1]
    assert read(root, tmp_path / "kept", other)[1] == [0, 0, 0, 0]
    assert read(root, tmp_path / "kept")[1] == [0, 0, 0, 0]


def test_preparations_of_one_size_differ_in_all_their_choices(root, tmp_path):
    prepare = PaperPreparation((10, 12), 2)
    read(root, tmp_path / "kept", prepare)
    for changes in ({"removed": "tail"}, {"source": "mask"}, {"num_slices": 1}, {"size": (12, 10)}):
        assert read(root, tmp_path / "kept", replace(prepare, **changes))[1] == [1, 1, 1, 1]


@pytest.mark.parametrize("keep", [0, 3, 100, -1, -30])
def test_a_file_cut_off_is_made_anew(root, tmp_path, keep):
    first, _ = read(root, tmp_path / "kept")
    path = sorted((tmp_path / "kept").glob("*.npz"))[0]
    path.write_bytes(path.read_bytes()[:keep])
    again, reads = read(root, tmp_path / "kept")
    assert sum(reads) == 1
    assert_equal(again, first)
    assert sum(read(root, tmp_path / "kept")[1]) == 0


def test_a_flipped_byte_or_a_foreign_file_is_made_anew(root, tmp_path):
    first, _ = read(root, tmp_path / "kept")
    paths = sorted((tmp_path / "kept").glob("*.npz"))
    assert len(paths) == 4
    content = bytearray(paths[0].read_bytes())
    content[len(content) // 2] ^= 0xFF
    paths[0].write_bytes(content)
    paths[1].write_text("not an archive")
    with open(paths[2], "wb") as file:
        np.save(file, np.zeros(3))
    with open(paths[3], "wb") as file:
        np.savez(file, image=np.zeros(3))
    again, reads = read(root, tmp_path / "kept")
    assert reads == [1, 1, 1, 1]
    assert_equal(again, first)


def test_a_file_twice_in_a_data_set_is_written_once_and_no_race(root, tmp_path):
    expected, _ = read(root)
    for attempt in range(5):
        records = list(ACDC(root)) * 3
        cache = VolumeCache(records, PREPARE, tmp_path / f"kept{attempt}", num_workers=8)
        for number, stack in enumerate(cache.stacks):
            np.testing.assert_array_equal(stack["image"], expected.stacks[number % 4]["image"])
        assert len(list((tmp_path / f"kept{attempt}").iterdir())) == 4


def test_caches_of_two_threads_share_a_folder(root, tmp_path):
    found, errors = [None] * 4, []

    def make(number):
        try:
            found[number] = read(root, tmp_path / "kept")[0]
        except Exception as error:  # whatever it is, the test tells it
            errors.append(error)

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for cache in found:
        assert_equal(cache, found[0])
    assert len(list((tmp_path / "kept").iterdir())) == 4


# The paper's preparation


def test_the_papers_stack_is_the_resized_crop(root):
    """At the box's own size nothing is interpolated."""
    prepare = PaperPreparation((186, 147), 3)
    record = ACDC(root)[0]
    stack = VolumeCache([record], prepare).stacks[0]
    image_, labels = record.image().array, record.label_map().array
    crop = paper_crop(image_, labels)[:, :, paper_slices(labels, 3)]
    assert set(stack) == {"image"}
    np.testing.assert_allclose(stack["image"], (crop - crop.mean()) / crop.std(), atol=1e-4)


def test_the_mask_as_input_is_the_label_map_over_three(root):
    record = ACDC(root)[0]
    stack = VolumeCache([record], PaperPreparation((186, 147), 3, source="mask")).stacks[0]
    labels = record.label_map().array
    crop = paper_crop(labels, labels)[:, :, paper_slices(labels, 3)]
    np.testing.assert_array_equal(np.rint(stack["image"] * 3), crop)
    assert stack["image"].max() == 1.0


def test_nine_slices_of_224_pixels_by_default(root):
    assert VolumeCache([ACDC(root)[0]], PaperPreparation()).stacks[0]["image"].shape == (224, 224, 9)


# Errors


def test_no_records_are_refused():
    with pytest.raises(ValueError, match="no stack to read: the list of records is empty"):
        VolumeCache([], PREPARE)


def test_an_unknown_source_is_refused():
    with pytest.raises(ValueError, match=r"the 'image' or the 'mask'\. Received: source='labels'"):
        PaperPreparation(source="labels")


def test_an_image_of_one_value_is_named(root):
    path = root / "training" / "patient002" / "patient002_frame01.nii.gz"
    write_volume(path, np.full((8, 9, 3), 7, np.int16))
    with pytest.raises(ValueError, match=r"patient002_frame01\.nii\.gz: Every voxel of the stack has the value 7"):
        read(root)


@pytest.mark.parametrize("prepare", [PaperPreparation(), FramePreparation(Frame(8, 8, 2.0))])
def test_a_label_map_without_a_heart_is_named(root, prepare):
    write_volume(root / "training" / "patient002" / "patient002_frame01_gt.nii.gz", np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(ValueError, match=r"patient002_frame01_gt\.nii\.gz holds background alone: there is no heart"):
        read(root, prepare=prepare)


def test_an_image_and_a_label_map_of_two_places_are_named(root):
    path = root / "training" / "patient001" / "patient001_frame12_gt.nii.gz"
    write_volume(path, label_map(), (2.5, 2.0, 8.0))
    with pytest.raises(ValueError, match=r"patient001_frame12_gt\.nii\.gz.*spacing"):
        read(root)


def test_a_truncated_file_is_named(root):
    path = root / "training" / "patient001" / "patient001_frame12.nii.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"patient001_frame12\.nii\.gz"):
        read(root)


def test_the_helper_writes_what_nibabel_reads(root):
    """Rows, columns and slices of the helper's files lie as ACDC's do."""
    stored = nib.load(root / "training" / "patient001" / "patient001_frame01_gt.nii.gz")
    assert stored.header.get_zooms() == (SPACING_MM[1], SPACING_MM[0], SPACING_MM[2])
    np.testing.assert_array_equal(stored.get_fdata().swapaxes(0, 1), label_map())
