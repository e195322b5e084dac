"""Every table script runs, from synthetic images to its report, and its committed table is what its records give."""

from pathlib import Path

import pytest

from experiments.chi2025 import table1 as chi2025_table1
from experiments.zhang2020 import table1 as zhang2020_table1
from hcreg.files import read_rows

SCRIPTS = {"zhang2020": zhang2020_table1, "chi2025": chi2025_table1}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_smoke(name, tmp_path, capsys):
    script = SCRIPTS[name]
    assert script.main(["run", "--smoke", "--out", str(tmp_path)]) == 0
    assert script.main(["report", "--smoke", "--out", str(tmp_path)]) == 0
    assert "constant median" in capsys.readouterr().out


@pytest.mark.parametrize("results", sorted(Path(__file__).parents[2].glob("experiments/*/results*/table.csv")), ids=str)
def test_committed_table_is_recomputed_from_the_committed_predictions(results, tmp_path, capsys):
    script = SCRIPTS[results.parents[1].name]
    rows = [row["row"] for row in read_rows(results, text=("row",))][1:]
    folds = sorted(int(path.name[5:]) for path in (results.parent / "runs" / rows[0]).glob("fold_*"))
    arguments = ["report", "--out", str(results.parent / "runs"), "--save", str(tmp_path), "--rows", *rows]
    assert script.main([*arguments, "--folds", *map(str, folds)]) == 0
    assert (tmp_path / "table.csv").read_text() == results.read_text()
