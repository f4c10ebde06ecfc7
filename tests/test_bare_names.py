"Names without a country or with decorations mean the place that people mean."

import pytest

from globe.places.match import locate, same_city
from globe.places.sphere import distance_km


@pytest.mark.parametrize(
    "name,code,kind",
    [
        ("Ontario", "CA", "region"),
        ("Montana", "US", "region"),
        ("Paraná", "BR", "region"),
        ("Kent", "GB", "region"),
        ("Salamanca", "ES", "city"),
        ("León", "ES", "city"),
        ("Odessa", "UA", "city"),
        ("Westminster", "GB", "city"),
    ],
)
def test_the_better_known_country_wins_and_the_name_stays_ambiguous(name, code, kind):
    place = locate(name)
    assert (place.country_code, place.kind, place.ambiguous) == (code, kind, True)


@pytest.mark.parametrize(
    "name,code",
    [
        ("New York", "US"),
        ("Paris", "FR"),
        ("Santander", "ES"),
        ("Lyon", "FR"),
        ("Córdoba", "AR"),
        ("Tokyo", "JP"),
    ],
)
def test_a_well_known_town_stays_the_town(name, code):
    place = locate(name)
    assert (place.country_code, place.kind) == (code, "city")


def test_within_a_country_the_town_goes_first():
    assert locate("Santa Catarina", "Mexico").kind == "city"
    assert locate("Victoria", "Canada").kind == locate("Kent", "USA").kind == "city"


@pytest.mark.parametrize(
    "name,country,lat,lon,km",
    [
        ("Pueblo, Colorado", "USA", 38.25, -104.61, 20),
        ("Mesa, Arizona", "USA", 33.42, -111.83, 20),
        ("Central Valley, California", "USA", 36.8, -119.9, 60),
        ("Tatarstan Republic", "Russia", 55.5, 50.9, 130),
        ("NRW", "Germany", 51.5, 7.5, 60),
        ("KZN", "South Africa", -28.7, 30.8, 100),
        ("Rural Bavaria", "Germany", 48.9, 11.4, 60),
        ("Old Havana", "Cuba", 23.13, -82.36, 10),
        ("Old Town, Dubrovnik", "Croatia", 42.64, 18.11, 10),
        ("Historic center of Quito", "Ecuador", -0.22, -78.51, 15),
        ("Old Quarter Hanoi", "Vietnam", 21.03, 105.85, 15),
        ("Borneo", "Malaysia", 3.7, 114.6, 60),
        ("Transnistria", "Moldova", 47.0, 29.4, 40),
        ("Merzouga", "Morocco", 31.1, -4.0, 15),
    ],
)
def test_decorated_names_are_near_what_they_mean(name, country, lat, lon, km):
    place = locate(name, country)
    assert place.kind != "country" and distance_km(place.lat, place.lon, lat, lon) < km


def test_a_county_is_none_of_the_towns_of_its_name():
    assert locate("Wayne County", "USA").kind != "city"
    assert locate("Jefferson County", "USA").kind == "country"


def test_towns_of_one_name_in_two_countries_are_not_the_same():
    assert not same_city("Vancouver", "Vancouver, Washington")
    assert not same_city("London", "London, Ontario")
    assert same_city("Vancouver", "Vancouver, British Columbia")
