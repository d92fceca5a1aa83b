"""The house rules that a machine can hold: imports go one way, and converting loads neither torch nor transformers."""

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "converters": set(),
    "mixformer": set(),
    "golden": {"converters", "mixformer"},
    "cli": {"converters", "golden"},
}
# Each package from the top to the ground, one floor a line. A module may import what stands on its own floor or below,
# without circles. A name is a room (a folder with all it holds) or a file; the longest name that fits decides.
FLOORS = {
    "converters": """
        converters
        converters.conversion converters.alignment converters.config_alignment converters.readable_sides \
            converters.provenance \
            converters.verdict_record converters.plain_copy converters.sample converters.support_matrix \
            converters.coverage converters.norms
        converters.forms
        converters.families
        converters.families.shared
        converters.engine
        converters.plan
        converters.family_of
        converters.family
        converters.plugins converters.small_models
        converters.config
        converters.checkpoint
        converters.generations
        converters.algebra converters.remote_code
        converters.errors converters.counts converters.version converters.card_marks \
            converters.paging
    """,
    "golden": """
        golden.conformance
        golden
        golden.comparison golden.session golden.case golden.inputs golden.report
        golden.diagnosis
        golden.weights
        golden.faults
        golden.levels
        golden.evidence
        golden.models
        golden.references
        golden.watching
        golden.verdict golden.errors golden.wording
    """,
}
LARGEST_ROOM = 20  # files
UNBOUNDED = {"converters.families"}  # a flat list, one file a family
FIXED = {"mixformer.blocks.embeddings"}  # paths that users of the SDK import


def module_name(file: Path, root: Path) -> str:
    """`a.b` of a/b.py and of a/b/__init__.py."""
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def import_graph(package: str, root: Path = ROOT) -> dict[str, set[str]]:
    """Module -> the modules of our packages that it imports anywhere, also inside functions and for types alone."""
    files = {module_name(file, root): file for name in PACKAGES for file in (root / name).rglob("*.py")}
    mine = {name: file for name, file in files.items() if name.split(".")[0] == package}
    return {name: {found for found in imported(file, set(files)) if found != name} for name, file in mine.items()}


def imported(file: Path, known: set[str]) -> set[str]:
    """Modules of ours that a file names in an import."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else node.module for name in names}
    return {name for name in found if name.split(".")[0] in PACKAGES}


def floor_of(module: str, order: str) -> int:
    """The number of a module's floor, counted from the street."""
    floors = [line.split() for line in order.replace("\\\n", "").strip().splitlines()]
    fitting = {
        name: k for k, names in enumerate(floors) for name in names if module == name or module.startswith(f"{name}.")
    }
    return fitting[max(fitting, key=len)]


def upward(graph: dict[str, set[str]], order: str) -> list[str]:
    """Imports that go up, in words that say what to mend."""
    return [
        f"{module} imports {other}, which stands above it: move what it asks for down, or itself up"
        for module, others in sorted(graph.items())
        for other in sorted(others & set(graph))
        if floor_of(other, order) < floor_of(module, order)
    ]


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Circles of imports, one for each set of modules that reach each other."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return [" imports ".join(reversed(error.args[1]))]
    return []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package):
    for module, others in import_graph(package).items():
        assert {other.split(".")[0] for other in others} <= PACKAGES[package] | {package}, module


@pytest.mark.parametrize("package", FLOORS)
def test_rooms_import_downwards(package):
    assert upward(import_graph(package), FLOORS[package]) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_have_no_circles(package):
    assert circles(import_graph(package)) == []


@pytest.mark.parametrize("package", FLOORS)
def test_every_room_and_file_has_a_floor_and_every_floor_exists(package):
    graph = import_graph(package)
    named = FLOORS[package].replace("\\\n", "").split()
    assert set(named) <= set(graph)
    tops = {".".join(name.split(".")[:2]) for name in graph}
    assert tops <= set(named), "a new room or file needs a floor in FLOORS"


def test_an_import_that_goes_up_and_a_circle_are_named(tmp_path):
    """The control: moves that ask a plan, and two files that ask each other."""
    for name in PACKAGES:
        (tmp_path / name).mkdir()
    for name, text in {
        "algebra/moves.py": "def f():\n    from converters.plan.plan import Plan\n",
        "plan/plan.py": "from converters.plan import naming\n",
        "plan/naming.py": "import converters.plan.plan\n",
        "engine/steps.py": "from converters.plan import plan\n",
    }.items():
        file = tmp_path / "converters" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    graph = import_graph("converters", tmp_path)
    (line,) = upward(graph, FLOORS["converters"])
    assert line.startswith("converters.algebra.moves imports converters.plan.plan")
    (circle,) = circles(graph)
    assert set(circle.split(" imports ")) == {"converters.plan.plan", "converters.plan.naming"}


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_are_small_and_say_their_job(package):
    for opening in (ROOT / package).rglob("__init__.py"):
        room, name = opening.parent, module_name(opening, ROOT)
        files = [file for file in room.glob("*.py") if file != opening]
        folders = [folder for folder in room.iterdir() if (folder / "__init__.py").is_file()]
        assert len(files) <= LARGEST_ROOM or name in UNBOUNDED, f"{name} holds {len(files)} files"
        assert len(files) + len(folders) > 1 or name in FIXED, f"{name} is a room with one file"
        assert ast.get_docstring(ast.parse(opening.read_text())), f"{name} does not say what its job is"


@pytest.mark.parametrize("package", PACKAGES)
def test_files_are_short(package):
    for file in (ROOT / package).rglob("*.py"):
        assert len(file.read_text().splitlines()) <= 300, file


HEAVY = {"torch", "transformers", "numpy", "huggingface_hub"}


def loaded_after(code: str, where: Path) -> set[str]:
    """Heavy modules that a fresh interpreter has loaded after some code."""
    tail = f"import sys, json; print(json.dumps(sorted({HEAVY} & set(sys.modules))))"
    result = subprocess.run(
        [sys.executable, "-c", f"{code}\n{tail}"], capture_output=True, text=True, cwd=where, check=True
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


RUN = """
import sys
from cli.main import app
def run(*words):
    try:
        app(list(words), standalone_mode=False)
    except SystemExit:
        pass
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["llama", "--help"],
        ["push", "--help"],
        ["families"],
        ["llama", "--to", "mixformer", "--no-parity", "--no-hash"],
        ["mixformer", "--to", "llama", "--no-parity", "--no-hash"],
    ],
    ids=" ".join,
)
def test_help_and_bare_conversions_load_nothing_heavy(words, tmp_path):
    assert loaded_after(f"{RUN}\nrun(*{words})", tmp_path) == set()


def test_a_hashed_conversion_loads_numpy_alone(tmp_path):
    assert loaded_after(f"{RUN}\nrun('llama', '--to', 'mixformer', '--no-parity')", tmp_path) == {"numpy"}


def test_plan_inspect_and_diff_load_nothing_heavy(tmp_path):
    steps = [
        ["llama", "--to", "mixformer", "--no-parity", "--no-hash"],
        ["plan", "llama", "llama-sample", "--to", "mixformer"],
        ["inspect", "llama-sample-mixformer"],
        ["diff", "llama-sample", "llama-sample-mixformer"],
    ]
    code = RUN + "".join(f"\nrun(*{words})" for words in steps)
    assert loaded_after(code, tmp_path) == set()
    assert (tmp_path / "llama-sample-mixformer" / "model.safetensors").is_file()


def test_the_check_for_heavy_modules_would_notice(tmp_path):
    assert loaded_after("import numpy", tmp_path) == {"numpy"}


def test_family_files_hold_facts_and_little_else():
    files = list((ROOT / "converters" / "families").glob("*.py"))
    assert len(files) > 10
    assert all(len(file.read_text().splitlines()) <= 150 for file in files)
