"""A synthetic cohort's folder: what a killed call left in it goes, what another call is writing stays."""

import os
import time

from hcreg.datasets.synthetic import cohort

ARGUMENTS = {"generator": "of a test", "seed": 3}


def test_stale_half_written_files_go_from_any_depth_and_young_ones_stay(tmp_path):
    assert cohort.claim(tmp_path, ARGUMENTS) is False
    deep = tmp_path / "training" / "patient001"
    deep.mkdir(parents=True)
    two_minutes_ago = time.time() - 120
    stale, whole = deep / ".frame01.nii.gz.4321.part", deep / "frame01.nii.gz"
    above = tmp_path / ".true_volumes.csv.4321.part"
    young = deep / ".frame12.nii.gz.1234.part"
    for path in (stale, above, whole, young):
        path.write_bytes(b"half")
        if path != young:
            os.utime(path, (two_minutes_ago, two_minutes_ago))
    assert cohort.claim(tmp_path, ARGUMENTS) is False
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {cohort.FILE, whole.name, young.name}
