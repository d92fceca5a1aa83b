"""The guide to a family of one's own: every name in it exists, nothing that families share is missing from it."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import signature
from itertools import product
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest

from converters.algebra.moves import Vanish
from converters.config import layout, ngpt_layout
from converters.families import shared
from converters.family import GROUP, Family
from mixformer.plugins import GROUP as PARTS

ROOT = Path(__file__).parent.parent
GUIDE = ROOT / "docs" / "adding-a-family.md"
PLUGINS = ROOT / "tests" / "plugins"
SHARED = shared.__name__
DOTTED = re.compile(r"\b(?:converters|golden|mixformer)(?:\.\w+)+")
ENTRY_POINTS = {GROUP, PARTS}  # dotted names of groups, not of modules
LENGTH = 150


@pytest.fixture(scope="module")
def guide() -> str:
    return GUIDE.read_text()


def located(name: str) -> str:
    """The module of a dotted name: itself, or the one that holds what it names.

    Raises:
        ImportError, AttributeError: there is no such module or name.
    """
    try:
        import_module(name)
        return name
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        getattr(import_module(module), attribute)
        return module


def modules_named(text: str) -> set[str]:
    """The modules that a text names, by themselves or in the name of what they hold."""
    return {located(name) for name in DOTTED.findall(text) if name not in ENTRY_POINTS}


def listed(text: str) -> dict[str, set[str]]:
    """Module -> names that section 4 lists for it, each of them in the module, with arguments that it takes."""
    found: dict[str, set[str]] = {}
    module = ""
    for span in re.findall(r"`([^`\n]+)`", text.split("\n## 4.")[1].split("\n## ")[0]):
        name, _, arguments = span.partition("(")
        if span.startswith(SHARED):
            module = span
            found.setdefault(module, set())
        elif name.isidentifier():
            group = getattr(import_module(module), name)
            taken = set(signature(group).parameters) if arguments else set()
            assert set(re.findall(r"\w+", arguments)) <= taken, span
            found[module].add(name)
    return found


def groups(module: str) -> set[str]:
    """What a shared module holds for families: its functions and classes, and its entries, moves and buffer rules."""
    holder = import_module(module)
    body = ast.parse(Path(holder.__file__).read_text()).body
    names = {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    for node in (node for node in body if isinstance(node, ast.Assign)):
        names |= {part.id for target in node.targets for part in ast.walk(target) if isinstance(part, ast.Name)}
    return {name for name in names if not name.startswith("_") and is_group(getattr(holder, name))}


def is_group(value: object) -> bool:
    """Whether it is a function, a class, an entry, a move or a buffer rule, or several of them."""
    if isinstance(value, tuple):
        return bool(value) and all(map(is_group, value))
    duties = (("read", "write"), ("inverse", "takes"), ("content", "holds"))
    return callable(value) or any(all(hasattr(value, name) for name in names) for names in duties)


def missing(text: str) -> dict[str, set[str]]:
    """Module -> groups that the guide does not list."""
    known = listed(text)
    modules = [f"{SHARED}.{module.name}" for module in iter_modules(shared.__path__)]
    gaps = {module: groups(module) - known.get(module, set()) for module in modules}
    return {module: names for module, names in gaps.items() if names or module not in known}


def test_the_guide_is_short(guide):
    assert len(guide.splitlines()) <= LENGTH


def test_every_module_and_name_of_ours_can_be_imported(guide):
    assert len(modules_named(guide)) > 20
    assert set(DOTTED.findall(guide)) >= ENTRY_POINTS


def test_every_shared_group_is_listed_with_its_module(guide):
    assert missing(guide) == {}


def test_a_group_that_is_not_listed_is_found(guide):
    assert missing(guide.replace("`LayerWindows`", "`tokens_of`")) == {f"{SHARED}.windows": {"LayerWindows"}}
    assert missing(guide.replace("`UP_GATE`", "both")) == {f"{SHARED}.transformers_rules": {"UP_GATE"}}
    without = "".join(line for line in guide.splitlines(True) if f"`{SHARED}.rope`" not in line)
    assert missing(without) == {f"{SHARED}.rope": {"Rope"}}


def test_a_name_or_an_argument_that_does_not_exist_is_found(guide):
    with pytest.raises(AttributeError, match="AllWindows"):
        missing(guide.replace("`LayerWindows`", "`AllWindows`"))
    with pytest.raises(AssertionError, match=r"mlp\(activation, name\)"):
        missing(guide.replace("`mlp(act, name)`", "`mlp(activation, name)`"))
    with pytest.raises(ModuleNotFoundError, match="kindz"):
        modules_named(guide.replace("converters.config.kinds", "converters.config.kindz.Kind"))


def test_what_counts_as_a_group():
    own = {"written", "tokens_of", "one_size", "SlidingWindow", "LayerWindows", "LocalLayers", "SwitchedWindow"}
    assert groups(f"{SHARED}.windows") == own
    assert {"GLU", "NO_DROPOUT", "model"} <= groups(f"{SHARED}.transformers_fields")
    assert {"COSINES", "SINES"} <= groups(f"{SHARED}.sinusoids")
    assert is_group(Vanish(("n_embd",), "F32"))
    assert not any(map(is_group, ("architecture.mixer.", 3, (), {"rope_type": "yarn"})))


def test_every_field_of_a_family_is_said(guide):
    words = set(re.findall(r"`(\w+)=?`", guide))
    assert set(signature(Family).parameters) - words == {"dialect_of", "safetensors"}  # of dialects alone


def imports_of(file: Path) -> set[str]:
    """Modules of ours that a file imports from."""
    nodes = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
    names = (f"{node.module}.{alias.name}" for node in nodes for alias in node.names)
    return {located(name) for name in names if DOTTED.fullmatch(name)}


def test_plug_ins_import_from_the_modules_alone_that_the_guide_names(guide):
    used = {module for file in PLUGINS.rglob("*.py") for module in imports_of(file)}
    assert len(used) > 10
    assert used <= modules_named(guide)
    assert not used <= modules_named(guide.replace("converters.config.kinds", "kinds"))


def code(text: str, language: str) -> list[str]:
    """The blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_its_code_runs(guide):
    from mixformer.blocks import BLOCKS

    names: dict[str, Any] = {}
    for block in code(guide, "python"):
        exec(compile(block, str(GUIDE), "exec"), names)
    assert BLOCKS.pop("mixformer-duet/duet") is names["DuetBlock"]
    rope, fields = names["NeoxRope"](0.5), {"rotary_emb_base": 5e5, "rotary_pct": 0.5}
    ours = rope.read({"hidden_size": 48, "num_attention_heads": 4, **fields})
    assert ours["architecture.mixer.rotary_dim"] == 6 and ours["architecture.mixer.rotary_base"] == 5e5
    assert rope.write({**ours, "architecture.mixer.head_dim": 12}) == fields


def project(name: str) -> Mapping[str, Any]:
    """What the pyproject.toml of a plug-in says."""
    return tomllib.loads((PLUGINS / name / "pyproject.toml").read_text())["project"]


def test_its_entry_points_are_those_of_the_plug_ins(guide):
    (block,) = code(guide, "toml")
    said = tomllib.loads(block)["project"]
    assert said == {name: project("jais2")[name] for name in said}
    ((name, module),) = project("duet")["entry-points"][PARTS].items()
    assert f'`{name} = "{module}"`' in guide


def models() -> Iterator[Mapping[str, Any]]:
    """Resolved configs of every kind of block, MLP, embedding and norm."""
    embeddings, norms = ("default", "positional"), ("rms", "torch")
    blocks, mlps = {*layout.BLOCK_NORMS} - {ngpt_layout.BLOCK}, {*layout.MLPS} - {ngpt_layout.SCALED_GLU}
    for block, mlp, embedding, norm in product(sorted(blocks), sorted(mlps), embeddings, norms):
        mixer = {"mixer_cls": "mha", "qk_norm": True}
        parts = {"norm": {"norm_cls": norm}, "mixer": mixer, "mlp": {"mlp_cls": mlp}}
        sizes = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 16, "embd_layer": embedding}
        yield layout.resolve({**sizes, "architecture": {"block_cls": block, **parts}})


def unsaid(text: str) -> set[str]:
    """Parts of our keys, and names of our sizes and parts, that the guide does not have."""
    known = set(re.findall(r"\w+", text))
    parts = {part for ours in models() for key in layout.tensors(ours) for part in key.split(".") if not part.isdigit()}
    sizes = {name for ours in models() for name in layout.dims_of(ours)}
    return {*parts, *sizes, *layout.MLPS, *layout.BLOCK_NORMS, *layout.BIASED_NORMS, *layout.UNBIASED_NORMS} - known


def test_our_keys_and_sizes_are_said(guide):
    assert unsaid(guide) == set()
    assert unsaid(guide.replace("q_norm", "").replace("glu_rows", "")) == {"q_norm", "glu_rows"}
