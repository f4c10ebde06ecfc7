"Places under the name of a state that claims or administers them; states without an ISO code."

import pytest

from globe.places import locate, same_country
from globe.places.gazetteer import gazetteer
from globe.places.match import locate_why
from globe.places.names import _CLAIMED, _TERRITORIES, holdings


@pytest.mark.parametrize(
    "city,claimant,label,name",
    [
        ("Sevastopol", "Russia", "UA", "Sevastopol"),
        ("Simferopol", "Russia", "UA", "Simferopol"),
        ("Simferopol", "Ukraine", "UA", "Simferopol"),
        ("Yalta, Crimea", "Russia", "UA", "Yalta"),
        ("Ceuta", "Morocco", "ES", "Ceuta"),
        ("Port Stanley", "Argentina", "FK", "Stanley"),
        ("Puerto Argentino", "Argentina", "FK", "Stanley"),
        ("Gibraltar", "Spain", "GI", "Gibraltar"),
        ("Taipei", "China", "TW", "Taipei"),
        ("Taipei, Taiwan", "China", "TW", "Taipei"),
        ("Pristina", "Serbia", "XK", "Pristina"),
        ("Laayoune", "Morocco", "EH", "Laayoune"),
        ("Ramallah", "Israel", "PS", "Ramallah"),
        ("Ramallah", "Palestine", "PS", "Ramallah"),
        ("Kyrenia", "Turkey", "CY", "Kyrenia"),
        ("Kyrenia", "Northern Cyprus", "CY", "Kyrenia"),
        ("North Nicosia", "TRNC", "CY", "Nicosia"),
        ("Hargeisa", "Somaliland", "SO", "Hargeysa"),
        ("Tiraspol", "Transnistria", "MD", "Tiraspol"),
        ("Sukhumi", "Abkhazia", "GE", "Sokhumi"),
        ("Srinagar", "Pakistan", "IN", "Srinagar"),
        ("Muzaffarabad", "India", "PK", "Muzaffarābād"),
    ],
)
def test_a_place_is_found_under_each_state_that_claims_it(city, claimant, label, name):
    place = locate(city, claimant)
    assert (place.city, place.country_code) == (name, label)


@pytest.mark.parametrize("claimant", sorted(_CLAIMED))
def test_a_claim_changes_no_country(claimant):
    "The place is found and says whose claim it was; for `same_country`, ISO counts."
    g = gazetteer()
    for scope in _CLAIMED[claimant]:
        towns = [
            i for i in range(len(g.name)) if f"{g.division_codes[g.division[i]]}.".startswith(f"{scope}.")
        ]
        largest = max(towns, key=lambda i: g.population[i])
        place, why = locate_why(g.name[largest], g.english[claimant])
        assert place.country_code == scope[:2] and why.endswith(f"claimed by {g.english[claimant]}"), scope
        assert not same_country(place.country, g.english[claimant])


def test_a_town_at_home_goes_first_unless_it_is_far_smaller():
    assert locate("Saint-Denis", "France").country_code == "FR"
    assert locate("Georgetown", "USA").country_code == "US"
    assert locate("San Juan", "USA").country_code == "PR" and locate("San Juan", "USA").ambiguous


def test_a_claimed_country_is_no_town_of_its_own():
    assert locate("Kosovo", "Serbia").kind == "country"
    assert locate("Taiwan", "China").country_code == "TW"
    assert holdings("FR") == tuple(_TERRITORIES["FR"]) and holdings("FI") == ("AX",)


@pytest.mark.parametrize("name", ["Somaliland", "Northern Cyprus", "Transnistria", "Abkhazia", "Artsakh"])
def test_a_state_without_an_iso_code_is_a_region_and_no_country(name):
    assert locate("", name).kind in ("area", "region")
    assert same_country(name, name) and not same_country(name, locate("", name).country)
