"""Files are written whole or not at all, and read back as they were."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hcreg import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_content_and_nothing_beside_it(tmp_path):
    files.write_text(tmp_path / "new" / "folder" / "a.txt", "Größe 1 mm\n")
    assert (tmp_path / "new" / "folder" / "a.txt").read_text(encoding="utf-8") == "Größe 1 mm\n"
    assert names(tmp_path / "new" / "folder") == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_while_writing_leaves_the_former_file_and_no_leftover(tmp_path, error):
    files.write_text(tmp_path / "a.txt", "before")
    with pytest.raises(error, match="in the middle"), files.written_whole(tmp_path / "a.txt") as partial:  # noqa: PT012
        partial.write_text("half")
        raise error("in the middle")
    assert (tmp_path / "a.txt").read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_reader_sees_the_former_file_until_the_new_one_is_whole(tmp_path):
    files.write_text(tmp_path / "a.txt", "before")
    with files.written_whole(tmp_path / "a.txt", suffix=".txt") as partial:
        assert partial.name.endswith(".txt")
        partial.write_text("after")
        assert (tmp_path / "a.txt").read_text() == "before"
    assert (tmp_path / "a.txt").read_text() == "after"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o002, 0o664)])
def test_permissions_follow_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        files.write_rows(tmp_path / "a.csv", [{"x": 1}])
    finally:
        os.umask(before)
    assert (tmp_path / "a.csv").stat().st_mode & 0o777 == mode


def test_a_full_disk_is_named_with_the_file_and_the_remedy(tmp_path):
    """A limit on the size of files, in a process of its own: the write fails part-way as on a full disk."""
    files.write_text(tmp_path / "old.txt", "before")
    script = """
        import resource, sys
        from hcreg import files
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        for name in ("old.txt", "new.txt"):
            try:
                files.write_text(f"{sys.argv[1]}/{name}", "x" * 100_000)
            except OSError as error:
                print(error)
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(files.__file__).parent.parent,
        check=True,
    )
    old, new = answer.stdout.splitlines()
    assert f"could not write {tmp_path / 'old.txt'} (File too large); the file of before is intact" in old
    assert f"could not write {tmp_path / 'new.txt'} (File too large); no such file is left behind" in new
    assert "Free some disk space" in old
    assert (tmp_path / "old.txt").read_text() == "before"
    assert names(tmp_path) == ["old.txt"]


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match=r"could not write .*taken/a\.txt .*check the folder's permissions"):
        files.write_text(tmp_path / "taken" / "a.txt", "text")


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    for name in (".a.csv.123.part", ".a.csv.77.weights.h5", "a.csv", ".b.csv.123.part"):
        (tmp_path / name).write_text("")
    files.remove_leftovers(tmp_path / "a.csv")
    assert names(tmp_path) == [".b.csv.123.part", "a.csv"]


def test_json_knows_numpy_and_makes_what_is_not_finite_null(tmp_path):
    value = {
        "int": np.int64(3),
        "float": np.float32(0.5),
        "bool": np.bool_(True),
        "nan": float("nan"),
        "numpy_nan": np.float64("nan"),
        "inf": -np.inf,
        "array": np.array([[1.0, np.nan]]),
        "tuple": (1, "a"),
        4: None,
    }
    files.write_json(tmp_path / "a.json", value)
    assert files.read_json(tmp_path / "a.json") == {
        "int": 3,
        "float": 0.5,
        "bool": True,
        "nan": None,
        "numpy_nan": None,
        "inf": None,
        "array": [[1.0, None]],
        "tuple": [1, "a"],
        "4": None,
    }
    json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)  # no NaN literal, which is not JSON


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe\x00"])
def test_damaged_json_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not readable as JSON .*Restore it, or remove its folder"):
        files.read_json(tmp_path / "a.json")


rows = st.lists(
    st.fixed_dictionaries(
        {
            "subject_id": st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"))) | st.just('a,"b"\nc'),
            "fold": st.integers(),
            "y_true_mm": st.floats(allow_nan=False),
            "y_pred_mm": st.floats(allow_nan=False, width=32).map(np.float32),
        }
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(rows=rows)
def test_rows_come_back_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    files.write_rows(path, rows)
    read = files.read_rows(path)
    assert read == rows
    assert [np.signbit(row["y_true_mm"]) for row in read] == [np.signbit(row["y_true_mm"]) for row in rows]


def test_nan_and_none_are_empty_cells_and_come_back_as_nan(tmp_path):
    files.write_rows(tmp_path / "a.csv", [{"subject_id": "010", "x": float("nan"), "y": None, "z": np.float32("nan")}])
    assert (tmp_path / "a.csv").read_text() == "subject_id,x,y,z\n010,,,\n"
    (row,) = files.read_rows(tmp_path / "a.csv")
    assert row["subject_id"] == "010"
    assert np.isnan([row["x"], row["y"], row["z"]]).all()


def test_no_rows_come_back_as_no_rows(tmp_path):
    files.write_rows(tmp_path / "a.csv", [])
    assert files.read_rows(tmp_path / "a.csv") == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a,1,x1", r"a\.csv, line 3: column 'y_true_mm' should hold a number. Received: 'x1'"),
        ("a,one,1.0", r"a\.csv, line 3: column 'fold' should hold a number. Received: 'one'"),
        ("a,,1.0", r"a\.csv, line 3: column 'fold' should hold a number. Received: ''"),
        ("a,1", r"a\.csv, line 3: ends before column 'y_true_mm'\. Restore the file"),
        ("a,1,2.0,9", r"a\.csv, line 3: more cells than the header has"),
    ],
)
def test_a_damaged_table_is_named_with_line_and_column(tmp_path, line, words):
    (tmp_path / "a.csv").write_text(f"subject_id,fold,y_true_mm\nb,0,1.5\n{line}\n")
    with pytest.raises(ValueError, match=words):
        files.read_rows(tmp_path / "a.csv")
