"Small changes of the metrics that must not go unnoticed: radii, denominators, names, oracles."

import math
import warnings

import pandas as pd
import pytest

from globe.evaluation.metrics import RADII, Evaluation, accuracy, frame, measured, oracle, predictions, score

HELSINKI, PARIS, LYON = (60.17, 24.94), (48.857, 2.352), (45.75, 4.85)


def photos(*rows, **columns):
    "True rows (lat, lon, city, country)."
    found = pd.DataFrame(rows, columns=["lat", "lon", "city", "country"])
    return found.assign(id=[str(i) for i in range(len(rows))], **columns)


def one(predicted, true=(*PARIS, "Paris", "France")):
    "Evaluation of one picture; prediction as columns."
    return score(pd.DataFrame([dict(id="0", **predicted)]), photos(true))


def test_radii_are_those_of_the_paper():
    assert RADII == (1, 25, 200, 750, 2500)


@pytest.mark.parametrize("radius", RADII)
def test_a_radius_counts_what_lies_on_it(radius):
    "An error of exactly the radius is inside, a hair more is outside."
    km = [radius, math.nextafter(radius, math.inf)]
    assert accuracy(km[:1], radius) == 1 and accuracy(km, radius) == 0.5
    assert measured(pd.DataFrame(dict(km=[float(k) for k in km])), radius).tolist() == [1, 0]


def test_no_answers_have_no_accuracy():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(accuracy([]))


def test_the_default_radius_is_that_of_a_city():
    assert accuracy([24.9, 25.1]) == 0.5


def test_a_city_is_right_only_in_the_right_country():
    e = one(dict(city="Paris", country="Germany"))
    assert (e.row()["city by name"], e.row()["country by name"]) == (0, 0)
    e = one(dict(city="Paris", country="France"))
    assert (e.row()["city by name"], e.row()["country by name"]) == (1, 1)
    e = one(dict(city="Lyon", country="France"))
    assert (e.row()["city by name"], e.row()["country by name"]) == (0, 1)


@pytest.mark.parametrize(
    "city,true,country",
    [("Newcastle upon Tyne", "Newcastle", "United Kingdom"), ("Santiago", "Santiago de Compostela", "Spain")],
)
def test_cities_are_compared_within_the_true_country(city, true, country):
    "Alone, these names mean cities of other countries."
    e = one(dict(city=city, country=country), (0.0, 0.0, true, country))
    assert e.row()["city by name"] == 1


def test_truth_without_one_of_the_names_is_judged_by_the_rest():
    said = pd.DataFrame([dict(id="0", city="Paris", country="France", lat=PARIS[0], lon=PARIS[1])])
    truth = photos((*PARIS, "Paris", "France"))
    e = score(said, truth.drop(columns="country"))
    assert not {"country by name", "city by name"} & set(e.row()) and e.row()["acc@1 km"] == 1
    e = score(said, truth.drop(columns="city"))
    assert e.row()["country by name"] == 1 and "city by name" not in e.row()
    assert "country by name" not in score(said, truth.drop(columns=["city", "country"])).row()


@pytest.mark.parametrize(
    "predicted,unread,not_placed",
    [
        (dict(country="France"), 0, 1),
        (dict(city="Paris"), 0, 1),
        (dict(city="", country=""), 1, 0),
        (dict(lat=PARIS[0], lon=PARIS[1]), 0, 0),
        (dict(lat=PARIS[0], lon=PARIS[1], parsed=False), 1, 0),
        (dict(lat=PARIS[0], lon=PARIS[1], parsed=None), 0, 0),
        (dict(lat=math.nan, lon=math.nan, parsed=True), 0, 1),
        (dict(lat=math.nan, lon=math.nan, parsed="1"), 0, 1),
    ],
)
def test_unread_and_not_placed_are_told_apart(predicted, unread, not_placed):
    row = one(predicted).row()
    assert (row["unread"], row["not placed"]) == (unread, not_placed)


def test_a_picture_without_prediction_is_missing_and_wrong():
    truth = photos((*PARIS, "Paris", "France"), (*LYON, "Lyon", "France"))
    said = pd.DataFrame([dict(id="0", lat=PARIS[0], lon=PARIS[1], parsed=True)])
    e = score(said, truth)
    assert (e.row()["acc@25 km"], e.row()["missing"], e.row()["median km"]) == (0.5, 0.5, math.inf)
    assert e.row()["unread"] == 0
    assert len(e.notes) == 1 and "1 of 2" in e.notes[0]
    extra = pd.concat([said.assign(id=i) for i in ("0", "1", "x")])
    assert len(score(extra, truth).notes) == 1 and len(score(extra, truth)) == 2


def test_one_impossible_coordinate_is_noted_and_counts_as_missing():
    e = one(dict(lat=91.0, lon=2.0, parsed=True))
    assert (e.row()["not placed"], len(e.notes)) == (1, 1)
    assert not one(dict(lat=math.nan, lon=math.nan, parsed=True)).notes


def test_truth_of_names_alone_is_judged_by_names():
    truth = photos((*PARIS, "Paris", "France")).drop(columns=["lat", "lon"])
    row = score(pd.DataFrame([dict(id="0", city="Paris", country="France")]), truth).row()
    assert (row["country by name"], row["not placed"]) == (1, 0) and "acc@25 km" not in row
    assert (
        score(pd.DataFrame([dict(id="0", city="", country="", parsed=True)]), truth).row()["not placed"] == 1
    )


def test_as_many_texts_as_ids():
    with pytest.raises(ValueError, match="2"):
        predictions(["country: France"], ["0", "1"])
    with pytest.raises(ValueError, match="twice"):
        predictions(["country: France"] * 2, ["0", "0"])


def test_predictions_keep_what_could_not_be_read():
    rows = predictions([None, "country: France\ncity: Paris"], ["0", "1"])
    assert rows.parsed.tolist() == [False, True] and rows.text.tolist() == [
        "",
        "country: France\ncity: Paris",
    ]
    assert rows.lat.isna().tolist() == [True, False]


def test_truth_may_be_a_dataset_with_pictures():
    from datasets import Dataset

    truth = photos((*PARIS, "Paris", "France"))
    rows = Dataset.from_pandas(truth.assign(image=["picture"], mask=["mask"]))
    assert not {"image", "mask"} & set(frame(rows))
    assert score(pd.DataFrame([dict(id=0, lat=PARIS[0], lon=PARIS[1])]), rows).row()["acc@1 km"] == 1


@pytest.mark.parametrize(
    "lat,lon,valid", [(90, 180, True), (-90, -180, True), (90.1, 0, False), (0, 180.1, False)]
)
def test_true_coordinates_are_on_the_globe(lat, lon, valid):
    said, truth = pd.DataFrame([dict(id="0", lat=0.0, lon=0.0)]), photos((lat, lon, "", ""))
    if valid:
        assert len(score(said, truth)) == 1
    else:
        with pytest.raises(ValueError, match="coordinate"):
            score(said, truth)


def test_the_named_oracle_names_the_city_of_the_truth():
    "A picture in Paris labelled Lyon: the named oracle says Lyon, the point oracle the nearest city."
    truth = photos((*PARIS, "Lyon", "France"), country_code="FR")
    assert oracle(truth, by="name").row()["acc@200 km"] == 0
    assert oracle(truth, by="point").row()["acc@25 km"] == 1
    for city in ("", None):
        unnamed = photos((*PARIS, city, "France"))
        assert oracle(unnamed, by="name").row()["acc@25 km"] == 1, (
            "the nearest city where the truth names none"
        )


def test_an_evaluation_shows_itself():
    e = one(dict(city="Paris", country="France", lat=PARIS[0], lon=PARIS[1]))
    e.name = "model 1"
    assert "model 1" in repr(e) and "100.0" in repr(e)
    assert e.row()["model"] == "model 1" and e.row("other")["model"] == "other"
    assert {"intervals", "named-city oracle", "notes"} <= set(e.to_dict()) and e.to_dict()["acc@25 km"] == 1
    assert e.row()["n"] == 1 and e.to_dict()["named-city oracle"]["acc@25 km"] == 1
    nowhere = one(dict(city="", country="")).to_dict()
    assert nowhere["median km"] is None and nowhere["acc@25 km"] == 0, "JSON has no infinity"
    assert Evaluation(e.rows).row()["model"] == "", "a model has no name unless it gets one"
    table = e._repr_markdown_()
    assert "model 1 (n = 1)" in table and "| city by name (%) | 100.0 |" in table


def test_no_pictures_have_no_numbers():
    e = Evaluation(one(dict(city="Paris", country="France")).rows[:0])
    assert e.row()["n"] == 0 and math.isnan(e.row()["acc@25 km"]) and "n = 0" in e._repr_markdown_()


def test_groups_are_judged_apart():
    truth = photos((*PARIS, "Paris", "France"), (*HELSINKI, "Helsinki", "Finland"), country_code=["FR", "FI"])
    said = pd.DataFrame([dict(id=i, lat=PARIS[0], lon=PARIS[1]) for i in ("0", "1")])
    table = score(said, truth).by("country")
    of = table[table.measure == "acc@25 km"].set_index("country")
    assert of.index.tolist() == ["Finland", "France"], "in alphabetical order"
    assert of.value.to_dict() == {"Finland": 0, "France": 1} and (of.n == 1).all()
    assert set(score(said, truth).by("continent").continent) == {"Europe"}
    unnamed = score(said, truth.assign(country=["France", None])).by("country")
    assert len(unnamed[unnamed.measure == "acc@25 km"]) == 2, "pictures of no group are a group"
    with pytest.raises(KeyError, match="planet"):
        score(said, truth).by("planet")


# --- columns, oracles, groups ---

AWAY = pd.DataFrame([dict(id="a", lat=48.70, lon=2.00, city="Paris", country="France")])


def test_what_a_model_wrote_and_how_it_was_placed_stay_in_the_rows():
    said = pd.DataFrame([dict(id="a", lat=48.7, lon=2.0, text="Paris", placed_by="city", parsed="1.0")])
    rows = score(said, AWAY).rows
    assert rows[["text", "placed_by", "parsed"]].values.tolist() == [["Paris", "city", True]]


def test_the_named_city_oracle_names_the_city_of_the_truth():
    e = score(pd.DataFrame([dict(id="a", lat=48.7, lon=2.0)]), AWAY)
    by_name, by_point = e.named_city_oracle, oracle(AWAY)
    assert by_name.km[0] > 20 > by_point.km[0] and by_point.name == "oracle"
    assert by_name.rows.pred_city[0] == "Paris" and by_point.row()["unread"] == 0
    assert by_name.rows.pred_lon[0] == pytest.approx(2.35, abs=0.05)


def test_a_refusal_is_counted_once_and_only_as_such():
    truth = pd.DataFrame([dict(id=i, lat=48.7, lon=2.0) for i in "abc"])
    said = [dict(id="a", lat=48.7, lon=2.0), dict(id="b", refused=True), dict(id="c", refused=False)]
    row = score(pd.DataFrame(said), truth).row()
    assert (row["refused"], row["unread"]) == pytest.approx((1 / 3, 1 / 3))
    assert row["GeoScore"] == pytest.approx(5000 / 3)


def test_no_pictures_have_no_score_and_one_picture_may_have_names_only():
    empty = score(AWAY[:0], AWAY[:0])
    assert math.isnan(empty.row()["GeoScore"])
    named = score(AWAY, AWAY.assign(lat=math.nan, lon=math.nan))
    assert not named.has_coordinates and named.row()["city by name"] == 1


def test_a_group_that_is_not_there_is_named_and_so_is_the_table_with_two_rows():
    with pytest.raises(KeyError, match="nix"):
        score(AWAY, AWAY[["id", "lat", "lon"]]).by("nix")
    twice = pd.concat([AWAY, AWAY.assign(lat=1.0)])
    for tables, which in [((AWAY, twice), "truth"), ((twice, AWAY), "predictions")]:
        with pytest.raises(ValueError, match=f"^{which}: .*two different rows"):
            score(*tables)
    assert score(AWAY, AWAY).to_dict()["warnings"] == []


def test_the_named_city_oracle_takes_the_country_of_the_truth_across_a_border():
    truth = pd.DataFrame([dict(id="a", lat=46.2, lon=6.15, city="Lyon", country="France")])  # in Geneva
    by_name = oracle(truth, "name")
    assert by_name.rows.pred_country[0] == "France" and by_name.km[0] == pytest.approx(113, abs=5)
