"""What a family cannot hold is refused in the words of the field, with the family, the field and what it can hold."""

import json
import re
from collections import Counter

import pytest

from converters import convert
from converters.config.cannot_hold import SETTINGS, cannot_hold
from converters.config.entries import Choice, Ours
from converters.errors import ConfigRefused
from converters.family import list_families
from converters.sample import write_sample

SENTENCE = re.compile(r"(\S+) cannot hold this model: (it uses|its) .+, \S+ needs .+ \(.+\)")


@pytest.fixture
def ours(tmp_path):
    return convert(write_sample(tmp_path / "source"), output=tmp_path / "ours").output


def refusal(ours, to, changes) -> str:
    file = ours / "config.json"
    config = json.loads(file.read_text())
    for section, name, value in changes:
        (config["architecture"][section] if section else config)[name] = value
    file.write_text(json.dumps(config))
    with pytest.raises(ConfigRefused) as refused:
        convert(ours, to=to, output=ours.parent / "back")
    return str(refused.value)


@pytest.mark.parametrize(
    ("to", "changes", "sentence"),
    [
        (
            "llama",
            [("mixer", "use_alibi", True)],
            "llama cannot hold this model: it uses ALiBi, LLaMA needs none (architecture.mixer.use_alibi false)",
        ),
        (
            "llama",
            [("", "resid_pdrop", 0.1)],
            "llama cannot hold this model: it uses dropout 0.1 on residuals, LLaMA needs none (resid_pdrop 0.0)",
        ),
        (
            "llama",
            [("mixer", "softmax_scale", 0.5)],
            "llama cannot hold this model: it uses attention scores scaled by 0.5, LLaMA needs attention scores scaled "
            "by 1/sqrt(head_dim) (architecture.mixer.softmax_scale null)",
        ),
    ],
    ids=["ALiBi", "dropout", "scale"],
)
def test_a_refusal_is_a_sentence_in_the_words_of_the_field(to, changes, sentence, ours):
    assert refusal(ours, to, changes) == sentence


def test_all_that_stands_in_the_way_is_said_at_once(ours):
    first, *lines = refusal(ours, "gpt2", [("", "resid_pdrop", 0.1), ("mixer", "use_alibi", True)]).splitlines()
    assert first == f"gpt2 cannot hold this model, for {len(lines)} reasons:" and len(lines) > 5
    assert "  - it uses rotary positions, GPT-2 needs learned ones (embd_layer 'positional')" in lines
    assert "  - it uses ALiBi, GPT-2 needs none (architecture.mixer.use_alibi false)" in lines
    assert "  - it uses a gated MLP, GPT-2 needs a plain MLP (architecture.mlp.mlp_cls 'mlp' or 'fused_mlp')" in lines


def test_a_family_without_a_name_for_people_is_called_by_its_own(ours):
    said = refusal(ours, "gpt2-gguf", ())
    assert said.startswith("gpt2-gguf cannot hold this model, for ")
    assert "it uses rotary positions, gpt2-gguf needs learned ones" in said


def test_a_setting_without_words_is_named_with_its_value():
    said = cannot_hold("architecture.mixer.new", None, (True, 2)).of("llama", "LLaMA")
    assert said == (
        "llama cannot hold this model: its architecture.mixer.new is null, LLaMA needs another value "
        "(architecture.mixer.new true or 2)"
    )


def test_every_setting_that_a_family_restricts_gives_a_sentence():
    entries = {
        e.path: e for f in list_families(plugins=False) for e in f.config.entries if isinstance(e, Ours | Choice)
    }
    assert len(entries) > 20
    for path, entry in entries.items():
        values = entry.values if isinstance(entry, Ours) else [ours for _, ours in entry.pairs]
        assert SENTENCE.fullmatch(cannot_hold(path, "strange", values).of("llama", "LLaMA")), path


def test_a_setting_that_several_families_restrict_has_words():
    """Only the names of classes of which there is one have none."""
    entries = [(f.name, e) for f in list_families(plugins=False) for e in f.config.entries if isinstance(e, Ours)]
    counts = Counter(path for _, path in {(name, entry.path) for name, entry in entries})
    shared = {path for path, count in counts.items() if count > 1}
    assert len(shared) > 20
    without = {path for _, entry in entries if (path := entry.path) not in SETTINGS} & shared
    assert without == {"architecture.mixer.mixer_cls", "architecture.head.head_cls"}
    for name, entry in entries:
        assert entry.path not in shared - without or SETTINGS[entry.path].called(entry.values[0]), (name, entry.path)
