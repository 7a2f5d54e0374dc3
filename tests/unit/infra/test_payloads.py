"""Texts that are made up for a pattern match it, and what cannot be made up is said."""

import re
from random import Random

import pytest

from infra.evolution.payloads import PatternTooRich, text_of_pattern


@pytest.mark.parametrize(
    "pattern", [r"^[A-Z]{3}$", r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", r"^(a|bc)+\d?$", r"^x{2,}.$"]
)
def test_a_text_that_is_made_of_a_pattern_matches_it(pattern: str) -> None:
    for seed in range(50):
        text = text_of_pattern(pattern, Random(seed))
        assert re.fullmatch(pattern, text), (text, seed)


@pytest.mark.parametrize("pattern", [r"^(?=.*\d)[a-z]+$", r"^(?<!a)b$", r"^(a)\1$"])
def test_a_pattern_that_looks_around_or_back_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(PatternTooRich, match="of which no text is made"):
        text_of_pattern(pattern, Random(0))
