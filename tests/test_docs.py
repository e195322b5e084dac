"""The documentation says what is there: code runs, files exist, figures are those of the committed results."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.benchmarks import __main__ as benchmarks

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.rst")), DOCS / "tutorials" / "index.rst"]
RESULTS = ROOT / "experiments"


def test_code_of_the_how_to_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", (DOCS / "how_to.rst").read_text())
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(re.sub(r"^    ", "", block, flags=re.MULTILINE), "how_to.rst", "exec"), {"__name__": "how_to"})
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "(2, 64, 96, 1)"
    num_images, sizes = re.fullmatch(r"(\d+) \[(.*)\]", printed[-1]).groups()
    assert sum(map(int, sizes.split(", "))) == int(num_images)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_files_that_a_page_names_exist(page):
    named = re.findall(r"``((?:docs|experiments|hcreg|tests|tutorials)/[\w/.-]+)``", page.read_text())
    missing = [name for name in named if not any((folder / name).exists() for folder in (ROOT, DOCS))]
    assert [name for name in missing if not (DOCS / f"{name}.ipynb").exists()] == []


def test_every_page_and_tutorial_is_in_the_table_of_contents():
    listed = re.findall(r"^   ([\w/]+)$", (DOCS / "index.rst").read_text(), flags=re.MULTILINE)
    written = {path.stem for path in DOCS.glob("*.rst")} - {"index"} | {"tutorials/index", "reference/index"}
    assert set(listed) == written
    tutorials = re.findall(r"^   (\w+)$", (DOCS / "tutorials" / "index.rst").read_text(), flags=re.MULTILINE)
    assert {path.stem for path in (DOCS / "tutorials").glob("*.ipynb")} == set(tutorials)


def test_every_command_of_the_results_is_a_module():
    commands = re.findall(r"``([\w.]+) report``", (DOCS / "results.rst").read_text())
    assert len(commands) > 5
    for name in commands:
        assert (RESULTS / f"{name.replace('.', '/')}.py").is_file(), name


def test_the_randomisation_table_is_the_committed_one():
    with (RESULTS / "zhang2021/results/explanations/randomisation.csv").open() as file:
        found = {(row["analyzer"], row["part"]): float(row["mean"]) for row in csv.DictReader(file)}
    text = (DOCS / "attribution.rst").read_text()
    for name in {analyzer for analyzer, _ in found}:
        cells = [f"{found[name, part]:.2f}" for part in ("abs_image", "head", "block1")]
        assert re.search(rf"^{re.escape(name)} +{' +'.join(map(re.escape, cells))}$", text, flags=re.MULTILINE), name


def test_the_results_are_those_of_the_committed_tables():
    text = (DOCS / "results.rst").read_text()
    printed = {}
    for path in ("zhang2020/results/table1.csv", "direct_regression/results/train.csv"):
        with (RESULTS / path).open() as file:
            printed |= {row["row"]: row for row in csv.DictReader(file)}
    for row in ("cnn_263k_mae", "cnn_1m_mae"):
        assert f"{float(printed[row]['mae_px']):.1f} px, {float(printed[row]['pmae_percent']):.2f} %" in text
    for row in ("direct_main_piece", "direct_hc_main_piece"):
        assert f"{float(printed[row]['mae_mm']):.2f} mm (five folds)" in text


def test_the_benchmarks_table_is_that_of_their_results(tmp_path, monkeypatch, capsys):
    rows = benchmarks.summary_rows(benchmarks.common.RESULTS)
    with (benchmarks.common.RESULTS / benchmarks.SUMMARY).open() as file:
        assert list(csv.DictReader(file)) == rows
    assert {path.stem for path in benchmarks.common.RESULTS.glob("*.json")} == {row["benchmark"] for row in rows}
    missed = [row for row in rows if row["met"] == "missed"]
    assert any("usegnet() over the same network in PyTorch" in row["what"] for row in missed)


def test_all_benchmarks_run_in_turn_and_a_failure_stops_none(tmp_path, monkeypatch, capsys):
    run = []

    def called(command):
        run.append(command[2:])
        return subprocess.CompletedProcess(command, returncode=int(command[2].endswith("masks")))

    monkeypatch.setattr(benchmarks.subprocess, "run", called)
    monkeypatch.setattr(benchmarks.common, "RESULTS", tmp_path)
    assert benchmarks.main(["--data", "HC18", "--only", "training", "masks", "surface", "usegnet"]) == 1
    names = ["training", "masks", "surface"]
    assert [command[0] for command in run] == [f"experiments.benchmarks.{name}" for name in names]
    assert run[0][1:] == ["--data", "HC18"]
    said = capsys.readouterr()
    assert "usegnet: left out, it needs --torch-python" in said.out
    assert "failed: masks" in said.err
    modules = {path.stem for path in (RESULTS / "benchmarks").glob("*.py")}
    assert set(benchmarks.BENCHMARKS) <= modules


@pytest.mark.proof
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("sphinx", reason='needs pip install -e ".[docs]"')
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", tmp_path]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr[-4000:]
    assert (tmp_path / "reference" / "losses.html").read_text().count("<dt") > 10
