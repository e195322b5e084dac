"""ACDC's folder: read as downloaded, volumes by hand, and each fault named with its file."""

import shutil

import acdc_files
import numpy as np
import pytest

from hcreg import datasets
from hcreg.datasets.acdc import ACDC

PATIENTS = ("patient001", "patient019", "patient042")


@pytest.fixture
def root(tmp_path):
    """A sound folder of three patients; in one of them ED is not the first frame."""
    root = tmp_path / "ACDC"
    acdc_files.write_patient(root / "training", "patient001")
    acdc_files.write_patient(root / "training", "patient019", Group="NOR")
    acdc_files.write_patient(root / "training", "patient042", ED=4, ES=1, Group="RV", Height=170)
    return root


@pytest.fixture
def patient(root):
    """The folder of the first patient."""
    return root / "training" / "patient001"


def gt(patient, frame=1):
    return patient / f"{patient.name}_frame{frame:02d}_gt.nii.gz"


def only_problem(root, **kwargs):
    [problem] = ACDC(root, strict=False, **kwargs).check()
    return problem


def test_records_hold_what_the_folder_says(root, patient):
    data = datasets.ACDC(root)
    assert len(data) == 6
    assert data.subjects == [f"{name}_{phase}" for name in PATIENTS for phase in ("ED", "ES")]
    assert data.patients == list(PATIENTS)
    assert data.groups == {"patient001": "DCM", "patient019": "NOR", "patient042": "RV"}
    record = data[1]
    assert (record.patient_id, record.phase, record.frame) == ("patient001", "ES", 12)
    assert (record.group, record.height_cm, record.weight_kg) == ("DCM", 184.0, 95.0)
    assert record.image_path == patient / "patient001_frame12.nii.gz"
    assert record.label_map_path == patient / "patient001_frame12_gt.nii.gz"
    assert record.spacing_mm == (2.5, 2.0, 10.0)
    np.testing.assert_array_equal(record.image().array, acdc_files.image())
    np.testing.assert_array_equal(record.label_map().array, acdc_files.label_map(rv=4, lv=8))
    assert record.image().array.dtype == np.float32
    assert "3 patients, 6 volumes" in repr(data)
    assert data.check() == []


def test_ed_is_the_frame_that_info_names_first_or_not(root):
    ed, es = ACDC(root)[4:6]
    assert (ed.phase, ed.frame, ed.image_path.name) == ("ED", 4, "patient042_frame04.nii.gz")
    assert (es.phase, es.frame, es.image_path.name) == ("ES", 1, "patient042_frame01.nii.gz")
    assert ed.voxel_counts()["LV"] == 20
    assert es.voxel_counts()["LV"] == 8


def test_volumes_and_ejection_fraction_by_hand(root):
    data = ACDC(root)
    assert data[0].voxel_counts() == {"RV": 6, "MYO": 10, "LV": 20}
    # 50 cubic mm a voxel
    assert data[0].volumes_ml() == pytest.approx({"RV": 0.3, "MYO": 0.5, "LV": 1.0})
    assert data[1].volumes_ml() == pytest.approx({"RV": 0.2, "MYO": 0.5, "LV": 0.4})
    assert data.ejection_fraction_percent("patient001") == pytest.approx(60.0)  # 100 (20 - 8) / 20
    assert data.ejection_fraction_percent("patient042", "RV") == pytest.approx(100 / 3)  # 100 (6 - 4) / 6


def test_volumes_are_of_the_label_maps_own_header(root, patient):
    acdc_files.write_volume(gt(patient), acdc_files.label_map(), (2.5, 2.0, 5.0))
    record = ACDC(root)[0]
    assert record.spacing_mm == (2.5, 2.0, 5.0)
    assert record.volumes_ml()["LV"] == pytest.approx(0.5)
    to_image, to_other_phase = ACDC(root).check()
    assert to_image.path == gt(patient)
    assert "in spacing: 2.5 x 2 x 5 mm and 2.5 x 2 x 10 mm" in to_image.message
    assert "has a spacing of 2.5 x 2 x 10 mm at ES and 2.5 x 2 x 5 mm at ED" in to_other_phase.message


def test_ejection_fractions_that_cannot_be(root, patient):
    data = ACDC(root)
    with pytest.raises(
        ValueError, match=r"there is no 'patient007' in ACDC\(.*; patients are named as \['patient001'\]"
    ):
        data.ejection_fraction_percent("patient007")
    with pytest.raises(ValueError, match=r"structure must be a cavity, 'LV' or 'RV'\. Received: 'MYO'"):
        data.ejection_fraction_percent("patient001", "MYO")
    acdc_files.write_volume(gt(patient), acdc_files.label_map(lv=0))
    with pytest.raises(ValueError, match=r"frame01_gt\.nii\.gz has no voxel of LV: nothing could be ejected"):
        data.ejection_fraction_percent("patient001")
    (patient / "patient001_frame12.nii.gz").unlink()
    with pytest.raises(ValueError, match="patient001 has only ED; an ejection fraction needs ED and ES"):
        ACDC(root, strict=False).ejection_fraction_percent("patient001")


def test_the_six_of_table_9_can_be_left_out_faulty_or_not(root):
    assert ACDC(root, exclude_abnormal=True).patients == ["patient001", "patient042"]
    (root / "training" / "patient019" / "Info.cfg").unlink()
    assert ACDC(root, exclude_abnormal=True).patients == ["patient001", "patient042"]
    with pytest.raises(FileNotFoundError, match="patient019"):
        ACDC(root)


def test_folders_around_and_within_are_understood(root, tmp_path):
    assert len(ACDC(root / "training")) == 6
    assert len(ACDC(tmp_path)) == 6
    around = tmp_path / "archive" / "database"
    around.mkdir(parents=True)
    shutil.move(root / "training", around / "training")
    for given in (around, around.parent, around.parent.parent, around / "training"):
        assert len(ACDC(given)) == 6, given
        assert ACDC.check_folder(given) == []
    nested = around / "training" / "training"
    nested.mkdir()
    for name in PATIENTS:
        shutil.move(around / "training" / name, nested / name)
    for given in (around, around.parent, around / "training", nested):
        assert len(ACDC(given)) == 6, given


def test_uncompressed_files_are_understood(tmp_path):
    acdc_files.write_patient(tmp_path / "training", ending=".nii")
    data = ACDC(tmp_path)
    assert data[0].image_path.name == "patient001_frame01.nii"
    assert data.check() == []


def test_the_cine_and_what_systems_add_are_ignored(root, patient):
    (patient / "patient001_4d.nii.gz").write_bytes(b"never read")
    (root / "training" / "MANDATORY_CITATION.md").touch()
    (root / "training" / "__MACOSX").mkdir()
    (root / "training" / ".ipynb_checkpoints").mkdir()
    assert ACDC.check_folder(root) == []


@pytest.mark.parametrize("masks", [True, False])
def test_the_test_set_may_lack_groups_and_label_maps(root, masks):
    acdc_files.write_patient(root / "testing", "patient101", masks=masks, Group=None if masks else "MINF", Weight=None)
    data = ACDC(root, split="test")
    assert data.patients == ["patient101"]
    assert data.groups == {"patient101": None if masks else "MINF"}
    assert data[0].weight_kg is None
    assert data[0].spacing_mm == (2.5, 2.0, 10.0)
    assert ACDC.check_folder(root) == []
    if masks:
        assert data[0].voxel_counts() == {"RV": 6, "MYO": 10, "LV": 20}
    else:
        assert data[0].label_map_path is None
        with pytest.raises(ValueError, match=r"frame01\.nii\.gz has no label map patient101_frame01_gt beside it"):
            data[0].volumes_ml()


def test_unknown_split(root):
    with pytest.raises(ValueError, match=r"split must be 'train' or 'test'\. Received: 'testing'"):
        ACDC(root, split="testing")


def test_missing_folders(root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"nowhere: there is no such folder. Give the folder that holds training"
    ):
        ACDC(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"holds no testing\. Expected ACDC's folder, with that and in it"):
        ACDC(root, split="test")
    with pytest.raises(FileNotFoundError, match=r"Info\.cfg: is a file; expected the folder that holds training"):
        ACDC(root / "training" / "patient001" / "Info.cfg")
    (tmp_path / "empty" / "training").mkdir(parents=True)
    for given in ("empty", "empty/training"):
        with pytest.raises(FileNotFoundError, match=r"training: holds no folder patient001 or the like"):
            ACDC(tmp_path / given)
    assert "there is no such folder" in str(*ACDC.check_folder(tmp_path / "nowhere"))


def test_a_folder_of_another_name(root):
    (root / "training" / "patient42").mkdir()
    with pytest.raises(ValueError, match="patient42: is not named as ACDC's folders are, patient001 and so on"):
        ACDC(root)
    assert len(ACDC(root, strict=False)) == 6


def test_missing_info(root, patient):
    (patient / "Info.cfg").unlink()
    with pytest.raises(FileNotFoundError, match=r"patient001/Info\.cfg: there is no such file, and without it nobody"):
        ACDC(root)
    assert ACDC(root, strict=False).patients == ["patient019", "patient042"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ED": None}, r"has no ED\. Expected lines ED, ES, Group, Height, NbFrame, Weight.*Found: ES, Group"),
        ({"ES": None, "Group": None}, r"has no ES and no Group\."),
        ({"ED": "one"}, r"ED must be a whole number, 1 or more\. Received: 'one'"),
        ({"ES": "12.5"}, r"ES must be a whole number, 1 or more\. Received: '12.5'"),
        ({"ED": 0}, r"ED must be a whole number, 1 or more\. Received: '0'"),
        ({"NbFrame": ""}, r"NbFrame must be a whole number, 1 or more\. Received: ''"),
        ({"Height": "tall"}, r"Height must be a positive number\. Received: 'tall'"),
        ({"Weight": "nan"}, r"Weight must be a positive number\. Received: 'nan'"),
        ({"Weight": -3}, r"Weight must be a positive number\. Received: '-3'"),
        ({"Group": "DMC"}, r"Group must be one of NOR, MINF, DCM, HCM, RV\. Received: 'DMC'"),
        ({"Group": "DCM\nED: 12"}, r"has 2 lines ED, of '1' and '12'\. Expected one; remove what is wrong"),
        ({"Weight": "95.0\nWeight: 95.0"}, r"has 2 lines Weight, of '95.0' and '95.0'\."),
        ({"ES": 1}, r"ED and ES are one frame, 1\. Expected two"),
        ({"NbFrame": 11}, r"ES is frame 12, but NbFrame says that there are 11"),
    ],
)
def test_each_fault_of_info_is_named(root, patient, changes, words):
    acdc_files.write_info(patient, **changes)
    with pytest.raises(ValueError, match=r"patient001/Info\.cfg: .*" + words):
        ACDC(root)
    assert ACDC(root, strict=False).patients == ["patient019", "patient042"]
    assert only_problem(root).path == patient / "Info.cfg"


def test_info_that_is_no_text(root, patient):
    (patient / "Info.cfg").write_bytes(b"\xff\xfe\x00ED")
    with pytest.raises(ValueError, match=r"Info\.cfg: is not readable as text"):
        ACDC(root)


def test_info_written_on_windows_or_with_more_in_it(root, patient):
    text = (patient / "Info.cfg").read_text().replace("\n", "\r\n") + "\r\nScanner: 1.5 T: new\r\n"
    (patient / "Info.cfg").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert ACDC(root)[0].frame == 1


def test_missing_frame(root, patient):
    (patient / "patient001_frame12.nii.gz").unlink()
    words = (
        r"patient001: holds no patient001_frame12\.nii\.gz, the frame that Info\.cfg names for ES\. Frames there: 1\."
    )
    with pytest.raises(FileNotFoundError, match=words):
        ACDC(root)
    assert ACDC(root, strict=False).subjects[:2] == ["patient001_ED", "patient019_ED"]


def test_image_without_label_map(root, patient):
    gt(patient).unlink()
    words = r"patient001_frame01\.nii\.gz: has no label map patient001_frame01_gt\.nii\.gz beside it"
    with pytest.raises(FileNotFoundError, match=words):
        ACDC(root)
    assert ACDC(root, strict=False).subjects[0] == "patient001_ES"


def test_many_problems_are_five_names_and_a_way_to_see_all(root, patient):
    for number in range(300, 308):
        (root / "training" / f"patient{number}").mkdir()
    with pytest.raises(FileNotFoundError, match=r"8 problems in all; `hcreg check .*` lists every one") as error:
        ACDC(root)
    assert str(error.value).count("there is no such file") == 5


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (acdc_files.label_map(0, 0, 0), "has no foreground: every voxel is 0, background"),
        (acdc_files.label_map(rv=0), "has no voxel of RV. Expected RV, MYO, LV"),
        (acdc_files.label_map(rv=0, myocardium=0), "has no voxel of RV and none of MYO."),
        (acdc_files.label_map() * 85, "with labels other than 0, 1, 2, 3: 85 (6 voxels), 170 (10 voxels)"),
        (
            acdc_files.label_map()[:, :, :2],
            "differs from its image patient001_frame01.nii.gz in shape: (8, 9, 2) and (8, 9, 3)",
        ),
        (acdc_files.label_map(lv=4), "its LV cavity holds 0.4 ml at ES, more than the 0.2 ml at ED"),
    ],
)
def test_check_names_each_fault_of_a_label_map(root, patient, labels, words):
    if "in shape" in words:  # the voxels that are left must still hold a heart that empties
        labels = np.where(labels == 0, 3, labels)
    acdc_files.write_volume(gt(patient), labels)
    problem = only_problem(root)
    assert words in problem.message
    assert problem.path == gt(patient, 12 if "at ES" in words else 1)
    assert not problem.message.startswith(str(patient))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"srow_x": [-1, 0, 0, 5]},
            "differs from its image patient001_frame01.nii.gz in its affine: their corners lie up",
        ),
        ({"pixdim": [1, 2, 2.5, 0, 1, 1, 1, 1]}, "has a spacing of 2 x 2.5 x 0 mm in its header"),
        ({"xyzt_units": 5}, "is truncated or damaged (its header gives the units 5"),
    ],
)
def test_check_names_each_fault_of_a_header(root, patient, fields, words):
    acdc_files.change_header(gt(patient), **fields)
    problem = only_problem(root)
    assert problem.path == gt(patient)
    assert problem.message.startswith(words)


def test_check_compares_a_patients_phases_before_it_reads_the_next(root, patient):
    acdc_files.write_volume(gt(patient), acdc_files.label_map(lv=4))
    acdc_files.write_volume(gt(root / "training" / "patient042"), acdc_files.label_map(lv=0))
    first, second = ACDC(root).check()
    assert "more than the 0.2 ml at ED" in first.message
    assert "has no voxel of LV" in second.message


def test_check_names_phases_of_two_spacings(root, patient):
    for ending in ("", "_gt"):
        path = patient / f"patient001_frame12{ending}.nii.gz"
        acdc_files.write_volume(path, acdc_files.label_map(lv=8) if ending else acdc_files.image(), (2.5, 2.0, 8.0))
    assert "has a spacing of 2.5 x 2 x 8 mm at ES and 2.5 x 2 x 10 mm at ED" in only_problem(root).message


def test_check_names_an_image_of_one_value(root, patient):
    acdc_files.write_volume(patient / "patient001_frame01.nii.gz", np.full((8, 9, 3), 7, np.int16))
    assert "every voxel has the value 7" in only_problem(root).message


def test_check_folder_lists_faults_of_every_kind_at_once(root, patient):
    image, other = patient / "patient001_frame12.nii.gz", root / "training" / "patient042"
    image.write_bytes(image.read_bytes()[:200])
    gt(patient).write_bytes(b"")
    acdc_files.write_info(root / "training" / "patient019", Height=None)
    gt(other, 4).unlink()
    acdc_files.write_volume(gt(other), acdc_files.label_map(lv=0))
    acdc_files.write_patient(root / "testing", "patient101", ED=40)
    seen = []
    problems = ACDC.check_folder(root, on_progress=lambda done, total: seen.append((done, total)))
    found = [(problem.path.name, problem.message) for problem in problems]
    expected = [
        ("Info.cfg", "has no Height"),
        ("patient042_frame04.nii.gz", "has no label map"),
        (gt(patient).name, "is empty (0 bytes)"),
        (image.name, "is truncated or damaged"),
        (gt(other).name, "has no voxel of LV"),
        ("Info.cfg", "ED is frame 40, but NbFrame says that there are 30"),
    ]
    assert [name for name, _ in found] == [name for name, _ in expected]
    for (_, message), (_, words) in zip(found, expected):
        assert words in message
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.data
def test_check_of_the_real_data_finds_nothing(acdc_root):
    assert ACDC.check_folder(acdc_root) == []


@pytest.mark.data
def test_real_volumes_are_of_a_heart(acdc_root):
    data = ACDC(acdc_root)
    assert len(data) == 2 * len(data.patients)
    limits = {"NOR": (50, 75), "DCM": (5, 40), "MINF": (15, 45)}  # of the left ventricle, percent, with some margin
    seen = set()
    for patient_id, group in data.groups.items():
        if group in limits and group not in seen:
            seen.add(group)
            low, high = limits[group]
            assert low < data.ejection_fraction_percent(patient_id) < high
    assert seen == set(limits)


@pytest.mark.data
def test_real_stacks_run_from_base_to_apex_with_the_right_ventricle_at_the_left(acdc_root):
    for record in ACDC(acdc_root):
        labels = record.label_map().array
        columns = np.arange(labels.shape[1])
        rv, lv = ((labels == label).sum(axis=(0, 2)) for label in (1, 3))
        assert columns @ rv / rv.sum() < columns @ lv / lv.sum(), record.subject_id
        area = (labels >= 2).sum(axis=(0, 1))  # of myocardium and LV in each slice
        third = len(area) // 3
        assert area[:third].sum() > area[-third:].sum(), record.subject_id
