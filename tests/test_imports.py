"""Who may import whom (one table of layers), and that importing hcreg is quick, quiet and light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hcreg

ROOT = Path(hcreg.__file__).parent
EXPERIMENTS = ROOT.parent / "experiments"
# Other people's frameworks to measure against: scripts of their own processes, run and never imported.
PEERS = EXPERIMENTS / "benchmarks" / "peers"
# Run as a script in a process of its own, where another version of Keras is loaded; imported by nothing.
WORKER = ROOT / "analyzers" / "innvestigate_worker.py"

# Lowest first. A module imports modules of lower layers and of its own package, nothing else.
LAYERS = (
    {"_version", "attention", "backend", "files", "geometry", "graph", "model_state", "presets", "progress"},
    {"augmentation", "layers", "loggers", "metrics", "preprocessing", "provenance", "statistics"},
    {"datasets", "losses", "mask_measures", "models"},
    {"plotting"},
    {"analyzers", "evaluation", "exported", "recipe_arguments", "runs", "training", "tuning"},
    {"fold_runs"},
    {"cardiac_volumes", "head_circumference", "head_volumes"},
    {"measurement", "report"},
    {"explanation"},
    {"quickstart", "tables"},
    {"cli"},
)
LAYER_OF = {module: number for number, layer in enumerate(LAYERS) for module in layer}
# They are handed a keras.Model, or a function that builds one, and know none by name.
RESTRICTED = {
    "analyzers": {"_version", "backend", "files", "graph", "progress", "statistics"},
    "tuning": {"_version", "backend", "files", "model_state", "plotting", "progress", "provenance"},
}
FRAMEWORKS = {"tensorflow", "jax", "torch"}
WITHOUT_KERAS = (
    "augmentation",
    "cli",
    "datasets",
    "datasets.acdc",
    "datasets.hc18",
    "datasets.splits",
    "datasets.synthetic",
    "datasets.volume_folder",
    "evaluation",
    "files",
    "geometry",
    "mask_measures",
    "metrics",
    "plotting",
    "preprocessing",
    "preprocessing.cardiac",
    "preprocessing.frames",
    "preprocessing.images",
    "preprocessing.metaimage",
    "preprocessing.nifti",
    "presets",
    "progress",
    "provenance",
    "report",
    "runs",
    "statistics",
    "tuning",
    "tuning.reader",
    "tuning.server",
    "tuning.store",
)


def imported_names(path):
    """Full dotted names of everything a file imports, wherever in the file, import_module("...") included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}, line {node.lineno}: write the import from hcreg on, not a relative one"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in {"import_module", "__import__"}:
                names.add(str(node.args[0].value))
    return names


def part_of(path):
    """First name below hcreg: "datasets" for hcreg/datasets/hc18.py, "" for hcreg/__init__.py."""
    first = path.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def modules():
    return sorted(ROOT.rglob("*.py"))


def forbidden(part, names):
    """What of the imported names a part of hcreg may not import."""
    targets = {name.split(".")[1] for name in names if name.startswith("hcreg.")} - {part, "__version__"}
    if part in RESTRICTED:
        return targets - RESTRICTED[part]
    return {target for target in targets if not LAYER_OF.get(target, len(LAYERS)) < LAYER_OF[part]}


def run_python(code, *arguments):
    return subprocess.run(
        [sys.executable, *arguments, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT.parent,
        check=False,
    )


def test_every_module_stands_in_a_layer():
    parts = {part_of(path) for path in modules()} - {""}
    assert not parts - set(LAYER_OF), f"place these in LAYERS of {__file__}: {sorted(parts - set(LAYER_OF))}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_arrows_point_one_way(path):
    part, names = part_of(path), imported_names(path)
    if not part:
        assert {name for name in names if name.startswith("hcreg")} <= {
            "hcreg._version.__version__",
            "hcreg.measurement",
        }
    else:
        assert not forbidden(part, names)


def test_the_table_forbids_what_it_should():
    assert forbidden("geometry", {"hcreg.statistics.power"}) == {"statistics"}
    assert forbidden("models", {"hcreg.datasets.HC18", "hcreg.layers"}) == {"datasets"}
    assert forbidden("analyzers", {"hcreg.models", "hcreg.backend.gradient"}) == {"models"}
    assert forbidden("cli", {"hcreg.unheard_of"}) == {"unheard_of"}


@pytest.mark.parametrize("framework", sorted(FRAMEWORKS))
def test_only_backend_imports_a_framework(framework):
    files = [*modules(), *EXPERIMENTS.rglob("*.py")]
    importing = {path for path in files if framework in {name.split(".")[0] for name in imported_names(path)}}
    assert {path for path in importing if path.parent != PEERS} <= {ROOT / "backend.py", WORKER}


def test_the_worker_of_innvestigate_stands_alone():
    assert not {name.split(".")[0] for name in imported_names(WORKER)} & {"hcreg", "keras", "experiments"}
    for path in [*modules(), *EXPERIMENTS.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert not any(WORKER.stem in name.split(".") for name in imported_names(path)), path


def test_peers_of_a_benchmark_stand_alone():
    peers = {path.stem for path in PEERS.glob("*.py")}
    assert "unet_torch" in peers
    for path in PEERS.glob("*.py"):
        assert not {name.split(".")[0] for name in imported_names(path)} & {"hcreg", "keras", "experiments"}, path
    for path in [*modules(), *EXPERIMENTS.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert not {part for name in imported_names(path) for part in name.split(".")} & {"peers", *peers}, path


def test_backend_does_import_tensorflow_so_that_the_search_finds_something():
    assert "tensorflow" in imported_names(ROOT / "backend.py")


def test_experiments_import_hcreg_and_nothing_in_hcreg_imports_them():
    for path in modules():
        assert not {name for name in imported_names(path) if name.split(".")[0] in {"experiments", "tests"}}, path
    users = [path for path in EXPERIMENTS.rglob("*.py") if any(n.startswith("hcreg.") for n in imported_names(path))]
    assert users


@pytest.mark.parametrize("name", hcreg.__all__)
def test_every_public_name_resolves(name):
    assert getattr(hcreg, name) is not None
    assert name in dir(hcreg)


def test_measure_is_the_function_not_the_module():
    assert callable(hcreg.measure)


def test_an_unknown_name_is_refused_by_words():
    with pytest.raises(AttributeError, match=r"'hcreg' has no attribute 'mesure'; it has .*measure"):
        hcreg.mesure  # noqa: B018


def test_import_takes_less_than_half_a_second():
    code = "import time; start = time.perf_counter(); import hcreg; print(time.perf_counter() - start)"
    seconds = [float(run_python(code).stdout) for _ in range(3)]
    assert min(seconds) < 0.5


def test_import_is_silent_light_and_opens_no_connection():
    answer = run_python(
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    if event.startswith('socket.'): raise RuntimeError(event)\n"
        "sys.addaudithook(refuse)\n"
        "import hcreg\n"
        "heavy = {'tensorflow', 'jax', 'torch', 'keras', 'scipy', 'sklearn', 'cv2', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


def test_modules_of_plain_numpy_import_no_deep_learning_framework():
    code = "import importlib, sys\n" + "".join(f"importlib.import_module('hcreg.{name}')\n" for name in WITHOUT_KERAS)
    code += "heavy = {'tensorflow', 'jax', 'torch', 'keras'} & set(sys.modules)\n"
    answer = run_python(code + "sys.exit(f'imported {heavy}' if heavy else 0)")
    assert (answer.returncode, answer.stderr) == (0, "")
