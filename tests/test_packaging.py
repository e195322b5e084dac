"""What is shipped is whole: metadata agree, every file of the package is packed, importing warns of nothing."""

import configparser
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import hcreg

ROOT = Path(hcreg.__file__).parent.parent
PACKAGE = ROOT / "hcreg"


@pytest.fixture(scope="module")
def settings():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def data_files():
    """Everything below the package that is no code of Python's."""
    found = [path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted(path.relative_to(PACKAGE) for path in found if path.suffix not in (".py", ".pyc", ".pyi"))


def test_citation_and_changelog_are_of_this_version():
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {hcreg.__version__}\n" in citation
    assert re.search(rf"^{re.escape(hcreg.__version__)}\b", (ROOT / "CHANGELOG.rst").read_text(), flags=re.MULTILINE)


def test_every_file_of_the_package_is_declared(settings):
    patterns = settings["options.package_data"]["hcreg"].split()
    undeclared = [path for path in data_files() if not any(path.match(pattern) for pattern in patterns)]
    assert not undeclared
    assert len(data_files()) > 3


def test_every_extra_that_the_code_or_the_readme_names_exists(settings):
    extras = set(settings["options.extras_require"])
    texts = [*PACKAGE.rglob("*.py"), *(ROOT / "docs").rglob("*.rst"), ROOT / "README.rst"]
    named = {name for path in texts for name in re.findall(r"pip install (?:-e )?\"\.\[(\w+)\]", path.read_text())}
    assert named - {"name"} <= extras
    assert {"jax", "metaimage"} <= named


@pytest.mark.parametrize("module", ["hcreg", "hcreg.cli", "hcreg.presets"])
def test_importing_warns_of_nothing(module):
    subprocess.run([sys.executable, "-W", "error", "-c", f"import {module}"], check=True, cwd=ROOT)


@pytest.mark.proof
def test_wheel_and_sdist_hold_the_whole_package(tmp_path):
    pytest.importorskip("build", reason="needs pip install build twine check-wheel-contents")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    source = tmp_path / "source"
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([sys.executable, "-m", "build", "--outdir", tmp_path / "dist", source], check=True)
    (wheel,), (sdist,) = (list((tmp_path / "dist").glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    expected = {name for name in tracked if name.startswith("hcreg/")}
    with zipfile.ZipFile(wheel) as file:
        assert {name for name in file.namelist() if name.startswith("hcreg/")} == expected
    with tarfile.open(sdist) as file:
        packed = {name.partition("/")[2] for name in file.getnames()}
    assert expected | {"CHANGELOG.rst", "CITATION.cff", "LICENSE", "README.rst", "setup.cfg"} <= packed
    for command in (["twine", "check", "--strict"], ["check_wheel_contents"]):
        subprocess.run([sys.executable, "-m", *command, wheel], check=True)
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", sdist], check=True)


def test_type_checkers_see_the_names_that_load_when_first_used():
    stub = (PACKAGE / "__init__.pyi").read_text()
    named = set(re.findall(r"import \w+ as (\w+)$", stub, flags=re.MULTILINE)) | {"__version__"}
    assert named == set(hcreg.__all__)


@pytest.mark.proof
def test_a_type_checker_knows_what_measuring_and_building_give(tmp_path):
    pytest.importorskip("mypy", reason="needs pip install mypy")
    client = tmp_path / "client.py"
    client.write_text(
        "import hcreg\n"
        "reveal_type(hcreg.measure('a.png', 'hc18_direct', 0.1).hc_mm)\n"
        "reveal_type(hcreg.models.unet())\n"
    )
    command = [sys.executable, "-m", "mypy", "--ignore-missing-imports", "--follow-imports=silent", str(client)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    assert 'Revealed type is "float"' in found.replace("builtins.", "")
    assert "Model" in found.split("\n")[1] or "Any" in found.split("\n")[1]  # Keras itself is typed or not
