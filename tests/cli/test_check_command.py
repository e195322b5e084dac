"""``hcreg check`` on ACDC's folder, and on folders that are none."""

import acdc_files
import numpy as np
import pytest

from hcreg import cli


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data"
    acdc_files.write_patient(root / "training")
    return root


def test_acdcs_folder_is_recognised(root, capsys):
    for given in (root, root / "training", root.parent):
        assert cli.main(["check", str(given)]) == 0
        assert capsys.readouterr().out == f"no problem(s) in {given} (2 volumes read), as ACDC\n"


def test_problems_of_acdcs_folder_are_printed(root, capsys):
    patient = root / "training" / "patient001"
    (patient / "patient001_frame01_gt.nii.gz").write_bytes(b"")
    (patient / "patient001_frame12.nii.gz").unlink()
    assert cli.main(["check", str(root)]) == 1
    *problems, summary = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in problems] == [str(patient), f"{patient}/patient001_frame01_gt.nii.gz"]
    assert summary == f"2 problem(s) in {root} (1 volumes read), as ACDC"


def test_a_damaged_header_is_a_problem_among_others(root, capsys):
    first, second = (root / "training" / "patient001" / f"patient001_frame{frame}_gt.nii.gz" for frame in ("01", "12"))
    acdc_files.change_header(first, xyzt_units=5)
    acdc_files.change_header(second, sform_code=0, qform_code=1, quatern_b=2)
    assert cli.main(["check", str(root)]) == 1
    *problems, summary = capsys.readouterr().out.splitlines()
    for line, path in zip(problems, (first, second), strict=True):
        assert line.startswith(f"{path}: is truncated or damaged (")
    assert summary == f"2 problem(s) in {root} (2 volumes read), as ACDC"


def test_a_folder_of_neither_says_what_was_expected(root, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    assert cli.main(["check", str(tmp_path / "photos")]) == 1
    words = "photos is no data set's folder. Expected one that holds training_set (HC18) or training (ACDC) "
    words += "or pairs of images and label maps (VolumeFolder). As HC18: "
    assert words in capsys.readouterr().err
    assert cli.main(["check", str(tmp_path / "nowhere")]) == 1
    assert "nowhere. Give the one that holds training_set (HC18) or training (ACDC) or " in capsys.readouterr().err


def test_a_folder_of_both_asks_for_one(root, capsys):
    (root / "training_set").mkdir()
    assert cli.main(["check", str(root)]) == 1
    assert "data holds HC18 and ACDC both. Give the folder of one of them." in capsys.readouterr().err


def test_pairs_of_volumes_are_recognised_and_their_labels_declared(tmp_path, capsys):
    acdc_files.write_volume(tmp_path / "head001.nii.gz", acdc_files.image())
    acdc_files.write_volume(tmp_path / "head001_label.nii.gz", acdc_files.label_map().clip(0, 2).astype(np.uint8))
    assert cli.main(["check", str(tmp_path), "--labels", "0", "1", "2"]) == 0
    assert capsys.readouterr().out == f"no problem(s) in {tmp_path} (1 volumes read), as VolumeFolder\n"
    assert cli.main(["check", str(tmp_path)]) == 1
    assert "head001_label.nii.gz: has 30 voxel(s) with labels other than 0, 1: 2 (30 voxels)" in capsys.readouterr().out
    assert cli.main(["check", str(tmp_path), "--labels", "1"]) == 1
    assert "labels must be different whole numbers from 0 to 255: 0 for background" in capsys.readouterr().err
