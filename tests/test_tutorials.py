"""The tutorials' code runs from top to bottom, here on little data; their committed output has no error."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from hcreg.datasets import synthetic

TUTORIALS = sorted((Path(__file__).parent.parent / "docs" / "tutorials").glob("*.ipynb"))
SMALL = {"EPOCHS": "1", "NUM_TESTED": "6", "NUM_SAMPLES": "2"}


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


@pytest.mark.slow
@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    synthetic.fetal_head(tmp_path / "HC18", 40, seed=0)
    monkeypatch.chdir(tmp_path)
    known = {"__name__": "__tutorial__"}
    changed = set()
    for cell in cells_of(path):
        source = "".join(line for line in cell["source"] if not line.startswith("%"))  # of the notebook alone
        for name, value in (SMALL | {"DATA": repr(str(tmp_path / "HC18"))}).items():
            source, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", source, flags=re.MULTILINE)
            changed |= {name} if count else set()
        exec(compile(source, f"{path.name}: {source[:40]!r}", "exec"), known)  # figures are objects, and not shown
    assert changed == {*SMALL, "DATA"}
    # what the text says of the numbers
    assert known["likeness"]("lrp.z", "input_t_gradient") > 0.9999
    assert set(known["found"].maps) | set(known["found"].reasons) == set(known["analyzers"].ANALYZERS)
    assert np.isfinite([result.mean_score for result in known["results"].values()]).all()
