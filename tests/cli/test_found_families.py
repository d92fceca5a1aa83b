"""`convert SOURCE`: the family is found, a verb wins over a folder of its name, and an unknown word is refused."""

import json
import os
import subprocess
import sys

import pytest

from converters.sample import write_sample

CONVERT = [sys.executable, "-c", "from cli.main import main; main()"]


def run(*words, cwd, **more):
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **more}
    return subprocess.run(
        [*CONVERT, *map(str, words)], capture_output=True, text=True, cwd=cwd, env=environment, check=False
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("found")
    write_sample(folder / "my-llama")
    write_sample(folder / "my-gpt2", "gpt2")
    write_sample(folder / "plan")  # the name of a verb
    write_sample(folder / "gpt2")  # the name of a family, and a LLaMA inside
    return folder


def test_a_conversion_without_the_family_is_that_with_it(place):
    named = run("gpt2", "my-gpt2", "--to", "mixformer", "-o", "named", "--no-parity", cwd=place)
    found = run("my-gpt2", "--to", "mixformer", "-o", "found", "--no-parity", cwd=place)
    assert (named.returncode, found.returncode) == (0, 0), found.stderr
    assert found.stdout.startswith("gpt2 -> mixformer")
    for name in ("model.safetensors", "config.json"):
        assert (place / "named" / name).read_bytes() == (place / "found" / name).read_bytes()
    again = run("my-gpt2", "--to", "mixformer", "-o", "named", "--no-parity", cwd=place)
    assert "named is up to date" in again.stdout
    back = run("./found", "--to", "gpt2", "-o", "back", "--no-parity", cwd=place)
    assert back.returncode == 0 and run("diff", "my-gpt2", "back", cwd=place).returncode == 0


def test_a_plan_without_the_family_is_that_with_it(place):
    named, found = (
        run("plan", *words, "--to", "mixformer", "--json", cwd=place).stdout
        for words in (["llama", "my-llama"], ["my-llama"])
    )
    assert json.loads(found)["family"] == "llama" and found == named


def test_a_source_alone_says_what_it_is_and_could_become(place):
    before = sorted(place.iterdir())
    done = run("my-llama", "--json", cwd=place)
    content = json.loads(done.stdout)
    assert done.returncode == 0 and content["family"] == "llama" and content["parameters"] == 243_936
    assert {"mixformer", "mistral"} <= set(content["could_become"])
    assert "gated MLP" in content["could_not"]["gpt2"]
    text = run("my-llama", cwd=place).stdout
    assert "could become: mixformer" in text and "for example: convert my-llama --to mixformer" in text
    assert sorted(place.iterdir()) == before


@pytest.mark.parametrize("to", ["mixformer", "mistral", "gpt2"])
def test_what_it_could_become_is_what_a_plan_says(to, place):
    content = json.loads(run("my-llama", "--json", cwd=place).stdout)
    planned = run("plan", "my-llama", "--to", to, cwd=place).returncode == 0
    assert (to in content["could_become"], to in content["could_not"]) == (planned, not planned)


def test_a_verb_and_a_family_win_over_folders_of_their_names(place):
    verb = run("plan", cwd=place)
    assert verb.returncode == 2 and "the argument SOURCE is missing" in verb.stderr
    assert json.loads(run("./plan", "--json", cwd=place).stdout)["family"] == "llama"
    family = run("gpt2", "--to", "mixformer", "--no-parity", "-o", "sample-of-gpt2", cwd=place)
    assert family.returncode == 0 and "gpt2-sample" in family.stdout
    folder = run("./gpt2", "--to", "mixformer", "--no-parity", "-o", "from-folder", cwd=place)
    assert folder.returncode == 0 and folder.stdout.startswith("llama -> mixformer")


@pytest.mark.parametrize("word", ["my-lama", "nothing.bin", "plann"])
def test_a_word_that_is_nothing_is_refused(word, place):
    done = run(word, "--to", "mixformer", cwd=place)
    assert done.returncode == 2 and f"there is no family or command '{word}'" in done.stderr
    assert "no file or folder of that name" in done.stderr and done.stdout == ""


def test_what_looks_like_a_path_is_missed_as_one(place):
    done = run("./nowhere", "--to", "mixformer", cwd=place)
    assert done.returncode == 2 and "nowhere does not exist" in done.stderr


def test_what_looks_like_a_repo_is_asked_of_the_hub(place, tmp_path):
    done = run("some-org/some-model", "--to", "mixformer", cwd=place, HF_HOME=str(tmp_path))
    assert done.returncode == 6 and "some-org/some-model" in done.stderr


@pytest.mark.parametrize("option", [["-o", "x"], ["--update"], ["--format", "gguf"], ["--dialect", "tutorial"]])
def test_options_of_an_output_need_a_target(option, place):
    done = run("my-llama", *option, cwd=place)
    assert done.returncode == 2 and "the option --to is missing" in done.stderr
    assert done.stderr.splitlines()[1] == "  for help: convert --help"


def test_naming_the_family_decides_where_two_fit(place, tmp_path):
    """A config without a type: nothing tells its family, and a named one is taken."""
    source = write_sample(tmp_path / "old")
    config = json.loads((source / "config.json").read_text())
    del config["model_type"], config["architectures"]
    (source / "config.json").write_text(json.dumps(config))
    unsure = run(source, "--to", "mixformer", "--no-parity", "-o", "x", cwd=tmp_path)
    assert unsure.returncode == 3 and "say which family it is" in unsure.stderr
    assert run("llama", source, "--to", "mixformer", "--no-parity", "-o", "x", cwd=tmp_path).returncode == 0


def test_the_version_and_the_completion_of_shells(place, tmp_path):
    from converters.version import __version__

    assert run("--version", cwd=place).stdout == f"convert {__version__}\n"
    script = run("--show-completion", "bash", cwd=place, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert script.returncode == 0 and "_CONVERT_COMPLETE=complete_bash" in script.stdout
    asked = {"_CONVERT_COMPLETE": "complete_bash", "COMP_WORDS": "convert insp", "COMP_CWORD": "1"}
    assert run(cwd=place, **asked).stdout.split() == ["inspect"]
    home = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert run("--install-completion", "bash", cwd=place, **home).returncode == 0
    assert (tmp_path / ".bash_completions" / "convert.sh").is_file()


@pytest.mark.parametrize(
    ("words", "code", "kind"),
    [
        (["llama", "nowhere", "--to", "mixformer", "--json"], 2, "UsageError"),
        (["llama", "--json"], 2, "BadParameter"),
        (["my-llama", "--to", "gpt2", "--json"], 3, "ConfigRefused"),
        (["frob", "--json"], 2, "UsageError"),
        (["my-llama", "--to", "mixformer", "--threads", "x", "--json"], 2, "BadParameter"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_json_object_and_the_sentence_as_ever(words, code, kind, place):
    done, plain = run(*words, cwd=place), run(*words[:-1], cwd=place)
    content = json.loads(done.stdout)
    assert (done.returncode, content["exit_code"], content["type"]) == (code, code, kind)
    assert done.stderr == plain.stderr and plain.stdout == ""
    assert done.stderr.startswith(f"error: {content['error']}")


def test_the_list_of_verbs_says_what_each_family_is_in_whole_words(place):
    from converters.family import list_families

    shown = " ".join(run("--help", cwd=place, COLUMNS="80").stdout.split())
    titles = [family.title for family in list_families(plugins=False) if not family.dialect_of]
    assert len(titles) > 30 and [title for title in titles if f" Convert {title}." not in shown] == []
