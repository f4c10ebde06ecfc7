"""Postcards: that every cue is a fact, that masks and cues agree, that seeds hold, and what bad input does."""

import subprocess, sys
import numpy as np, pytest
from globe.places.match import locate
from globe.places.sphere import distance_km
from globe.answers.vocabulary import CLASSES
from globe.world.facts import cities, facts, vegetation
from globe.world.postcards import VISIBLE, batch, describe, draw, postcards
from globe.world.placeless import SCENES

TOWNS = cities()
PLACES = list(TOWNS.itertuples(index=False))
EVERYWHERE = {"background", "sky", "ground", "road", "house"}


def test_the_world_is_as_large_as_promised():
    assert TOWNS.country.nunique() >= 40 and len(TOWNS) >= 320
    assert set(TOWNS.continent) == {"Africa", "Asia", "Europe", "North America", "Oceania", "South America"}
    assert (TOWNS.groupby("country").city.nunique() == 8).all()
    assert TOWNS.groupby("country").held_out.nunique().eq(1).all()


def test_cities_of_a_country_are_apart():
    for _, g in TOWNS.groupby("country"):
        i, j = np.triu_indices(8, 1)
        lat, lon = g.lat.to_numpy(), g.lon.to_numpy()
        assert distance_km(lat[i], lon[i], lat[j], lon[j]).min() > 50


def test_the_gazetteer_finds_every_city_where_the_postcard_says():
    for p in PLACES:
        found = locate(p.city, p.country)
        assert found and found.kind == "city" and distance_km(found.lat, found.lon, p.lat, p.lon) < 25, (
            p.city,
            found,
        )


@pytest.mark.parametrize("style", ["summer", "winter", "any"])
def test_cues_are_what_the_mask_shows(style):
    for seed, place in enumerate(PLACES):
        card = draw(place, seed, style)
        seen = {
            CLASSES[i]
            for i in np.flatnonzero(np.bincount(card.mask.ravel(), minlength=len(CLASSES)) >= VISIBLE)
        }
        assert {c.class_name for c in card.cues} == seen - EVERYWHERE
        assert set(card.cues) <= set(facts(place).values())


def test_localizable_follows_from_the_cues():
    for seed, place in enumerate(PLACES):
        card = draw(place, seed)
        names = {c.name for c in card.cues}
        assert card.localizable == ("flag" in names or {"script", "vegetation"} <= names)


@pytest.mark.parametrize("scene", [s for s in SCENES if s != "street"])
def test_quiet_scenes_tell_nothing(scene):
    a, b = (draw(p, 3, scene=scene) for p in (PLACES[0], PLACES[-1]))
    assert not a.cues and not a.localizable and a.image.tobytes() == b.image.tobytes()


def test_dropped_cues_leave_no_trace():
    _, rows = batch(300, 0, localizable_share=1)
    without = [r for r in rows if "flag" not in r["cues"]]
    assert without and all((r["mask"] == CLASSES.index("flag")).sum() < VISIBLE for r in without)


@pytest.mark.parametrize("style", ["summer", "winter", "any"])
def test_a_seed_gives_the_same_bytes(style):
    a, b, c = postcards(6, 4, style), postcards(6, 4, style), postcards(6, 5, style)
    raw = lambda ds: [ds.data.column(k).to_pylist() for k in ("image", "mask", "id")]
    assert raw(a) == raw(b) and raw(a)[0] != raw(c)[0]


def test_a_row_does_not_depend_on_how_many_follow():
    assert batch(3, 9)[0].tobytes() == batch(8, 9)[0][:3].tobytes()


def test_batch_and_dataset_are_the_same_pictures():
    pictures, rows = batch(5, 2, "winter", None)
    ds = postcards(5, 2, "winter", None)
    for i, row in enumerate(ds):
        assert np.array_equal(row["image"], pictures[i]) and np.array_equal(row["mask"], rows[i]["mask"])
        assert {k: rows[i][k] for k in ("id", "city", "cues", "sentences", "localizable")} == {
            k: row[k] for k in ("id", "city", "cues", "sentences", "localizable")
        }


@pytest.mark.parametrize("held_out", [False, True])
def test_held_out_countries_stay_apart(held_out):
    allowed = set(TOWNS[TOWNS.held_out == held_out].country)
    assert {r["country"] for r in batch(120, 1, held_out=held_out)[1]} <= allowed


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_share_of_streets(share):
    streets = np.mean([r["scene"] == "street" for r in batch(200, 7, localizable_share=share)[1]])
    assert abs(streets - share) <= (0.12 if share == 0.5 else 0)


def test_pictures_come_in_other_sizes():
    card = draw(PLACES[0], 0, size=224)
    assert card.image.size == (224, 224) and card.mask.shape == (224, 224)
    assert {c.name for c in card.cues} == {c.name for c in draw(PLACES[0], 0).cues}


def test_describe_shuffles_but_loses_nothing():
    cues = draw(PLACES[0], 0).cues
    assert sorted(describe(cues, np.random.default_rng(1))) == sorted(describe(cues))


def test_none_asked_none_given():
    assert len(postcards(0, 0)) == 0 and batch(0, 0)[0].shape == (0, 112, 112, 3)


@pytest.mark.parametrize("bad", [dict(style="autumn"), dict(scene="beach")])
def test_an_unknown_name_is_refused_and_the_choice_named(bad):
    with pytest.raises(ValueError, match="choose one of"):
        draw(PLACES[0], 0, **bad)


def test_every_climate_grows_something():
    assert {vegetation(k) for k in TOWNS.koppen} == {
        "palm tree",
        "cactus",
        "shrub",
        "broadleaf tree",
        "conifer",
        "rock",
    }


def test_postcards_import_without_torch():
    code = "import sys, globe.world.postcards; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
