"""What a person sees on a terminal of 80 columns: a first line at once, colours, progress, whole words."""

import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from fcntl import ioctl

import pytest

from converters.sample import write_sample

CONVERT = [sys.executable, "-c", "from cli.start import main; main()"]
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(words, cwd, columns=80, **more):
    """(exit code, all that a terminal got, seconds until the first byte) of a command."""
    leader, follower = pty.openpty()
    ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1", **more}
    begun, first, found = time.monotonic(), None, b""
    run = subprocess.Popen(
        [*CONVERT, *map(str, words)], stdin=follower, stdout=follower, stderr=follower, cwd=cwd, env=environment
    )
    os.close(follower)
    while True:
        ready, _, _ = select.select([leader], [], [], 0.2)
        try:
            data = os.read(leader, 65536) if ready else b""
        except OSError:  # the other end is closed
            break
        if data and first is None:
            first = time.monotonic() - begun
        found += data
        if not data and run.poll() is not None:
            break
    os.close(leader)
    return run.wait(), found.decode(), first


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("terminal")
    write_sample(folder / "my-llama")
    code, _, _ = on_a_terminal(["my-llama", "--to", "mixformer", "-o", "ours", "--no-parity"], folder)
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def judged(place):
    """A parity on a terminal: exit code, raw output, the lines of the verdict without escapes."""
    code, raw, first = on_a_terminal(["parity", "ours", "--reference", "my-llama"], place)
    lines = ESCAPE.sub("", raw).replace("\r\n", "\n").split("\n")
    start = max(k for k, line in enumerate(lines) if "PASS  ours" in line)
    return code, raw, first, [line.split("\r")[-1] for line in lines[start:]]


def test_a_verdict_on_a_terminal_says_what_runs_and_each_level_as_it_is_reached(judged):
    code, raw, _, _ = judged
    assert code == 0
    plain = ESCAPE.sub("", raw)
    for said in ("judging by running both models", "loading torch", "function: ", "kernels: ", "behaviour: "):
        assert said in plain
    assert re.search(r"function: [^\n]*\d of \d", plain)
    reached = plain.index("L0        structure  PASS")
    assert reached < plain.index("function: ") < plain.rindex("L0        structure  PASS")


def test_the_verdict_comes_with_its_summary_first_in_colour_and_whole_words(judged):
    _, raw, _, lines = judged
    text = "\n".join(lines)
    assert text.index("all 5 levels that ran passed") < text.index("L0 ") < text.index("L4 ")
    assert "\x1b[1;32mPASS" in raw
    assert max(map(len, lines)) <= 80
    whole = " ".join(text.split())
    assert "1.00 x the reference's own rounding error, 1.5 x allowed" in whole
    assert len(re.findall(r"^ +bfloat16: .*allowed$", text, re.MULTILINE)) >= 5


def test_a_pipe_gets_neither_colours_nor_progress(place):
    words = [*CONVERT, "parity", "ours", "--reference", "my-llama", "--levels", "L0,L1"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=place, check=False)
    assert done.returncode == 0 and "\x1b" not in done.stdout + done.stderr
    assert done.stderr.splitlines()[0] == "judging by running both models ..." and "loading" not in done.stderr


def test_without_colours_where_they_are_not_wanted(place):
    for words in (["families"], ["plan", "my-llama", "--to", "mixformer"]):
        _, raw, _ = on_a_terminal(words, place, NO_COLOR="1")
        assert not re.search(r"\x1b\[[0-9;]*m", raw), "no colour, and no bold or dim text either"
        assert re.search(r"\x1b\[[0-9;]*m", on_a_terminal(words, place)[1])


@pytest.mark.parametrize("columns", [60, 80, 120])
@pytest.mark.parametrize("words", [["families"], ["plan", "my-llama", "--to", "mixformer"], ["inspect", "my-llama"]])
def test_tables_fit_the_terminal(words, columns, place):
    code, raw, _ = on_a_terminal(words, place, columns)
    lines = ESCAPE.sub("", raw).replace("\r", "").split("\n")
    assert code == 0 and max(map(len, lines)) <= max(columns, 78)  # a key is not broken


def test_layers_are_folded_unless_all_are_asked_for(place):
    _, raw, _ = on_a_terminal(["plan", "my-llama", "--to", "mixformer"], place)
    plain = ESCAPE.sub("", raw)
    assert "layers.{1..3}.mlp.fc1 <- up_proj + gate_proj, x 3" in plain and "layers.2." not in plain
    assert plain.index("proved") < plain.index("layers.")
    _, raw, _ = on_a_terminal(["plan", "my-llama", "--to", "mixformer", "--all"], place)
    rows = re.findall(r"^layers\.(\d+)\.", ESCAPE.sub("", raw).replace("\r", ""), re.MULTILINE)
    assert len(rows) == 21 and rows == sorted(rows, key=int)


COMMANDS = [
    ["my-llama"],
    ["plan", "my-llama", "--to", "mixformer"],
    ["inspect", "my-llama"],
    ["diff", "my-llama", "ours"],
    ["parity", "ours", "--reference", "my-llama", "--levels", "L0"],
    ["parity", "--self-test"],
    ["golden", "record", "my-llama", "-o", "x.safetensors"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_says_something_at_once(words, place):
    """A first line within a second of its own work: what Python needs to start is measured and taken off."""
    started = time.monotonic()
    subprocess.run([*CONVERT, "--version"], capture_output=True, check=True)
    start = time.monotonic() - started
    assert first_line(words, place) <= 1.0 + 3 * start  # a busy machine is slower


def first_line(words, place):
    """Seconds until the first byte; the command is ended then."""
    leader, follower = pty.openpty()
    begun = time.monotonic()
    run = subprocess.Popen([*CONVERT, *words], stdout=follower, stderr=follower, cwd=place, start_new_session=True)
    os.close(follower)
    try:
        ready, _, _ = select.select([leader], [], [], 30)
        assert ready and os.read(leader, 1)
        return time.monotonic() - begun
    finally:
        run.kill()
        run.wait()
        os.close(leader)
