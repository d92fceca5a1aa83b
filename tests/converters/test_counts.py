"""Counts in messages have a noun that fits."""

import pytest

from converters.counts import counted


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 differences"), (1, "1 difference"), (2, "2 differences"), (1200, "1,200 differences")]
)
def test_a_count_has_a_noun_that_fits(count, words):
    assert counted(count, "difference") == words


def test_a_plural_that_is_no_singular_and_s_is_given():
    assert counted(1, "copy", "copies") == "1 copy"
    assert counted(2, "copy", "copies") == "2 copies"
