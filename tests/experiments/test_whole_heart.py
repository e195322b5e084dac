"""ACDC's hearts as one structure: by hand on small patients, and on the real ones."""

import acdc_files
import numpy as np
import pytest

from experiments.yang2020.whole_heart import WholeHeart


@pytest.fixture
def root(tmp_path):
    for patient_id in ("patient001", "patient002"):
        acdc_files.write_patient(tmp_path / "training", patient_id)
    return tmp_path


def test_all_structures_are_the_heart(root):
    data = WholeHeart(root)
    assert data.subjects == ["patient001_ED", "patient001_ES", "patient002_ED", "patient002_ES"]
    assert [record.subject for record in data] == ["patient001"] * 2 + ["patient002"] * 2
    image, label_map = data[0].pair()
    np.testing.assert_array_equal(image.array, acdc_files.image())
    np.testing.assert_array_equal(label_map.array, acdc_files.label_map() > 0)
    assert label_map.array.dtype == np.uint8
    assert set(np.unique(label_map.array)) == set(data[0].labels)
    assert data[0].spacing_mm == label_map.spacing_mm == acdc_files.SPACING_MM
    # 6 + 10 + 20 voxels of 50 cubic mm; 4 + 10 + 8 at end-systole.
    assert [record.volume_ml() for record in data[:2]] == pytest.approx([1.8, 1.1])
    assert data[1].image_path.name.replace(".nii", "_gt.nii") == data[1].label_map_path.name


def test_one_phase_alone(root):
    assert WholeHeart(root, phases=("ED",)).subjects == ["patient001_ED", "patient002_ED"]


@pytest.mark.data
def test_real_hearts_come_to_the_volumes_of_table_9(acdc_root):
    data = {record.subject_id: record for record in WholeHeart(acdc_root, phases=("ED",))}
    # zhang2021biometrics, Table 9: ED foreground, voxels and ml.
    for patient, voxels, volume_ml in (("patient019", 32269, 673.8), ("patient093", 23491, 401.7)):
        record = data[f"{patient}_ED"]
        assert np.count_nonzero(record.label_map().array) == voxels
        assert record.volume_ml() == pytest.approx(volume_ml, abs=0.5)
