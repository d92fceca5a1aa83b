"""`convert diff` counts in words: 1 difference, 2 differences."""

import shutil

import pytest
from typer.testing import CliRunner

from cli.main import app
from converters.sample import write_sample


@pytest.mark.parametrize(
    ("changed", "code", "said"), [(0, 0, "are equal"), (1, 4, "1 difference:"), (2, 4, "2 differences:")]
)
def test_differences_are_counted_in_words(changed, code, said, tmp_path):
    one = write_sample(tmp_path / "one")
    other = shutil.copytree(one, tmp_path / "other")
    file = other / "model.safetensors"
    data = bytearray(file.read_bytes())
    for place in (-1, 8 + int.from_bytes(data[:8], "little"))[:changed]:  # in the last tensor, in the first one
        data[place] ^= 1
    file.write_bytes(data)
    result = CliRunner().invoke(app, ["diff", str(one), str(other)])
    assert result.exit_code == code
    first = result.output.splitlines()[0]
    assert first == said or (not changed and first.endswith(said))
