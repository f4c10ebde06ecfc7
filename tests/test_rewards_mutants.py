"Small changes of the rewards that must not go unnoticed."

import pytest

from globe.training.rewards import elsewhere, one_name
from globe.training.visual_grounding import class_of


@pytest.mark.parametrize("city", ["Tokyo 東京", "Tokyo (東京)", "東京 (Tokyo)"])
def test_one_name_in_two_scripts_is_one_name(city):
    assert one_name("Japan", city)[1] == "Tokyo"


@pytest.mark.parametrize(
    "country, city, other",
    [
        ("United States", "Nowhereville, Georgia", False),  # the state
        ("Finland", "Nowhereville, Georgia", True),
        ("Finland", "Nowhereville, Finland", False),
    ],
)
def test_a_state_of_the_country_is_not_elsewhere(country, city, other):
    assert elsewhere(country, city) is other


@pytest.mark.parametrize("tag, name", [("house", "house"), ("houses", "house"), ("xyz", "")])
def test_a_tag_stands_for_a_class_of_the_segmenter(tag, name):
    assert class_of(tag, ("background", "house")) == name
