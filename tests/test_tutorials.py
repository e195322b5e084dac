"""The tutorials' code runs from top to bottom, here on little data; their committed output has no error."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hcreg.datasets import synthetic

TUTORIALS = sorted((Path(__file__).parent.parent / "docs" / "tutorials").glob("*.ipynb"))
# As many images, epochs and samples as let all of a tutorial's code run within a minute.
SMALL = {
    "cardiac_volumes": {"NUM_PATIENTS": "15", "EPOCHS": "1"},
    "explain_a_head": {"EPOCHS": "1", "NUM_TESTED": "6", "NUM_SAMPLES": "2"},
    "measure_a_head": {"NUM_IMAGES": "4"},
    "overnight_search": {
        "NUM_TRAINED": "48",
        "NUM_VALIDATED": "16",
        "NUM_TESTED": "8",
        "EPOCHS": "2",
        "MAX_TRIALS": "5",
    },
    "train_on_hc18": {"NUM_EXAMINATIONS": "16", "EPOCHS": "1"},
    "whole_head_3d": {"NUM_VOLUMES": "12", "EPOCHS": "1"},
    "tell_it_where_to_look": {"NUM_TRAINED": "64", "NUM_TESTED": "32", "NUM_EXPLAINED": "2", "EPOCHS": "1"},
}


def cells_of(path):
    return [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_committed_output_is_that_of_a_whole_run(path):
    cells = cells_of(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 2
    assert not re.search(r"/(home|root|tmp|work)/", json.dumps(outputs))


def run_small(name, **more):
    """What the tutorial's code leaves behind, run with small numbers."""
    (path,) = (path for path in TUTORIALS if path.stem == name)
    known, changed = {"__name__": "__tutorial__"}, set()
    for cell in cells_of(path):
        source = "".join(line for line in cell["source"] if not line.startswith("%"))  # of the notebook alone
        for constant, value in (SMALL[name] | more).items():
            pattern = rf"^{constant} = \S+"
            source, count = re.subn(pattern, f"{constant} = {value}", source, flags=re.MULTILINE)
            changed |= {constant} if count else set()
        exec(compile(source, f"{path.name}: {source[:40]!r}", "exec"), known)  # figures are objects, and not shown
    assert changed == {*SMALL[name], *more}
    return known


def test_every_tutorial_is_run():
    assert {path.stem for path in TUTORIALS} == set(SMALL)


@pytest.mark.proof
@pytest.mark.slow
def test_explain_a_head_runs_from_top_to_bottom(tmp_path, monkeypatch):
    synthetic.fetal_head(tmp_path / "HC18", 40, seed=0)
    monkeypatch.chdir(tmp_path)
    known = run_small("explain_a_head", DATA=repr(str(tmp_path / "HC18")))
    # what the text says of the numbers
    assert known["likeness"]("lrp.z", "input_t_gradient") > 0.9999
    assert set(known["found"].maps) | set(known["found"].reasons) == set(known["analyzers"].ANALYZERS)
    assert np.isfinite([result.mean_score for result in known["results"].values()]).all()


@pytest.mark.proof
def test_measure_a_head_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    known = run_small("measure_a_head")
    assert np.abs(known["errors_mm"]).max() < 15
    printed = capsys.readouterr().out
    assert "noise: nan mm, the mask is empty" in printed
    assert "it looks like an annotation or a mask" in printed
    assert "Is it in another unit? 135 µm are 0.135 mm." in printed


@pytest.mark.proof
@pytest.mark.slow
def test_train_on_hc18_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = run_small("train_on_hc18")
    assert {row["subject_id"] for row in known["rows"]} == set(known["split"]["test"])
    assert not known["parts"]["training"] & known["parts"]["test"]


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_cardiac_volumes_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = run_small("cardiac_volumes")
    assert {row["subject_id"] for row in known["rows"]} == set(known["split"]["test"])
    assert np.isfinite(known["fractions"]["mae_points"])


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whole_head_3d_runs_from_top_to_bottom(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = run_small("whole_head_3d")
    assert len(known["surfaces"]) == 3
    assert known["labels"].array.shape == known["truth"].shape


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # after one epoch on few images the monitor has its reasons
def test_tell_it_where_to_look_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    known = run_small("tell_it_where_to_look")
    assert list(known["checked"]) == list(known["networks"]) == ["biased", "guided", "all classes", "swap"]
    assert {method for method, _ in known["shares"]} == set(known["METHODS"])
    assert np.isfinite([number for found in known["checked"].values() for number in found.values()]).all()
    mistakes = capsys.readouterr().out
    assert "Divide a 0/255 mask by 255" in mistakes
    assert "Received: 'conv_4'. Is it one of conv4" in mistakes


@pytest.mark.proof
@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_overnight_search_runs_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # of hearts.py, which the tutorial writes
    monkeypatch.delenv("HCREG_DATABASE", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))  # of the second process
    known = run_small("overnight_search")
    rows, said = known["store"].table("hearts"), capsys.readouterr()
    assert known["exit_code"] == 0
    assert [row["number"] for row in rows] == list(range(7))
    assert {row["state"] for row in rows} <= {"completed", "diverged"}
    (resumed,) = [row for row in rows if row["attempts"] == 2]
    assert resumed["num_epochs"] == 2
    assert f"trial {resumed['number']} goes back" in said.err
    assert f"trial {resumed['number']}: going on after epoch 1" in said.out
    assert "attempt 1, by the notebook: released" in said.out
    assert "attempt 2, by the other process: completed" in said.out
    assert len((tmp_path / "hearts.csv").read_text().splitlines()) == 8
