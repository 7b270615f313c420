"""What is wrong with a setting is told by what was given, except where nobody should read it."""

import pytest

from retrieval.setting_words import in_words


@pytest.mark.parametrize("place", [("token",), ("engine", "api_key"), ("retriever", "url", "token")])
def test_a_secret_is_not_shown(place):
    told = in_words({"type": "string_type", "input": 123456789, "msg": "Input should be a valid string", "loc": place})
    assert told == "what was given is no text; put it in quotes"


def test_of_a_mapping_only_the_names_are_shown():
    given = {"urls": "http://here", "token": "s3cret"}
    told = in_words({"type": "union_tag_invalid", "input": given, "msg": "Input should be one of", "loc": ("index",)})
    assert "s3cret" not in told
    assert "{urls, token}" in told


def test_another_value_is_shown():
    assert in_words({"type": "int_parsing", "input": "abc", "msg": "", "loc": ("k",)}) == "'abc' is not a whole number"
