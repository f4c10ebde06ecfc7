"What other people's files and hostile answers do to the scores, and the golden numbers of published predictions."

import io
import csv, json, math, os, subprocess, sys, threading, unicodedata, zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from globe.evaluation.calibration import reliability, risk_coverage
from globe.evaluation.compare import compare, results, wide
from globe.evaluation.leakage import near_ratio
from globe.evaluation.metrics import RADII, accuracy, geoscore, oracle, predictions, score
from globe.evaluation.claims import claim_verdict
from globe.evaluation.files import read_truth
from globe.evaluation.score import score_each, score_files
from globe.csv_files import write_csv
from globe.intervals import bootstrap, interval, share_intervals, wilson
from globe.places.sphere import degrees

REAL = Path(
    os.environ.get("GLOBE_REAL") or Path(__file__).resolve().parents[2] / "shared" / "real"
)  # see tests/README.md


def real(*parts):
    path = REAL.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


TRUTH = (
    "IMG_ID,LAT,LON,city,country\na.jpg,60.1699,24.9384,Helsinki,Finland\n"
    "b.jpg,35.0116,135.7681,Kyoto,Japan\nc.jpg,-22.5609,17.0658,Windhoek,NA\n"
)


@pytest.fixture
def scored(tmp_path):
    def run(predicted, truth=TRUTH, name="p.csv", **options):
        content = predicted if isinstance(predicted, bytes) else predicted.encode()
        (tmp_path / name).write_bytes(content)
        (tmp_path / "truth.csv").write_text(truth, encoding="utf-8")
        return score_files(tmp_path / name, tmp_path / "truth.csv", **options)

    return run


def shares(e, *keys):
    return [e.row()[k] for k in keys or [f"acc@{r} km" for r in RADII]]


def said(e):
    "All that an evaluation says beside its numbers."
    return e.warnings + e.notes


# golden: 50 OSV-5M pictures, two models, distances and shares as published


@pytest.mark.parametrize("suffix, percent", [("", [2, 12, 36, 66, 86]), ("_base", [0, 0, 2, 26, 62])])
def test_published_predictions_give_the_published_numbers(suffix, percent):
    raw = pd.read_csv(
        real("osv5m_select_predictions", "select.csv"), dtype={"id": str}, keep_default_na=False
    )
    assert len(raw) == 50
    said = pd.DataFrame(
        {
            "id": raw.id,
            "lat": raw["pred_lat" + suffix],
            "lon": raw["pred_lon" + suffix],
            "city": raw["pred_city" + suffix],
            "country": raw["pred_country" + suffix],
        }
    )
    e = score(
        said,
        pd.DataFrame(
            {"id": raw.id, "lat": raw.true_lat, "lon": raw.true_lon, "city": raw.city, "country": raw.country}
        ),
    )
    np.testing.assert_allclose(e.km, raw["distance" + suffix], rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(geoscore(e.km), raw["score" + suffix], rtol=1e-12, atol=1e-9)
    assert [round(100 * s, 10) for s in shares(e)] == percent
    assert e.row()["country by name"] == pytest.approx(
        raw["country_hit" + suffix].astype(str).eq("True").mean()
    )


def test_one_file_can_hold_truth_and_prediction():
    file = real("osv5m_select_predictions", "select.csv")
    assert [round(100 * s) for s in shares(score_files(file, file))] == [2, 12, 36, 66, 86]
    base = {what: f"pred_{what}_base" for what in ("lat", "lon", "city", "country")}
    e = score_files(file, file, columns=base)
    assert [round(100 * s) for s in shares(e)] == [0, 0, 2, 26, 62]


@pytest.mark.parametrize("table, n, at_25", [("im2gps", 237, (0.90, 0.94)), ("im2gps3k", 2997, (0.94, 0.97))])
def test_an_oracle_that_names_cities_is_far_from_all_at_1_km(table, n, at_25):
    found = read_truth(real("gt_im2gps_im2gps3k_yfcc25600", f"{table}_places365.csv"))
    truth, e = found.rows, oracle(found.rows)
    assert len(e) == n and not found.notes and not found.warnings
    assert (
        0.1 < e.row()["acc@1 km"] < 0.4
        and at_25[0] < e.row()["acc@25 km"] < at_25[1]
        and e.row()["country by name"] == 1
    )
    assert (np.array(shares(oracle(truth, by="name"))) <= np.array(shares(e)) + 1e-9).all()


def test_recorded_oracles_are_what_the_gazetteer_gives():
    import runpy

    made = runpy.run_path(str(Path(__file__).parents[1] / "data" / "make_oracle.py"))["record"](
        real("gt_im2gps_im2gps3k_yfcc25600")
    )
    pd.testing.assert_frame_equal(made, pd.read_csv(Path(__file__).parents[1] / "data" / "oracle.csv"))


# answers


def test_unread_and_unplaced_answers_stay_in_the_denominator(tmp_path):
    truth = pd.DataFrame(
        {"id": list("abcd"), "lat": 60.17, "lon": 24.94, "city": "Helsinki", "country": "Finland"}
    )
    said = predictions(
        [
            "<answer>country: Finland\ncity: Helsinki</answer>",
            "",
            None,
            "<answer>country: Xyzzyland\ncity: Qwxkzt</answer>",
        ],
        truth.id,
    )
    e = score(said, truth)
    assert said.id.tolist() == list("abcd") and said.parsed.tolist() == [True, False, False, True]
    assert shares(e, "acc@2500 km", "unread", "not placed") == [1 / 4, 2 / 4, 1 / 4]
    assert math.isinf(e.row()["median km"]) and e.to_dict()["median km"] is None
    assert math.isinf(e.row()["mean km"]) and e.row()["mean km of placed answers"] < 25
    json.dumps(e.to_dict(), allow_nan=False)
    said.to_csv(tmp_path / "said.csv", index=False)  # survives a trip through a file, "False" included
    again = pd.read_csv(tmp_path / "said.csv", dtype=str, keep_default_na=False)
    again = again.assign(lat=pd.to_numeric(again.lat), lon=pd.to_numeric(again.lon))
    assert score(again, truth).row() == e.row()


def test_raw_answers_and_their_predictions_score_alike(scored):
    text = lambda c, t: f'"<think>I see, ""signs"".\n</think><answer>\ncountry: {c}\ncity: {t}\n</answer>"'
    e = scored(
        f"id,response\na,{text('Finland', 'Helsinki')}\nb,{text('Japan', 'Tokyo')}\nc,I cannot help with that.\n"
    )
    assert shares(e, "acc@25 km", "acc@750 km", "country by name") == pytest.approx([1 / 3, 2 / 3, 2 / 3])
    assert sum(shares(e, "unread", "refused")) == pytest.approx(1 / 3)


def test_answers_pasted_beside_the_truth_are_not_scored_as_the_truth(scored):
    e = scored(
        "IMG_ID,LAT,LON,response\na.jpg,60.1699,24.9384,<answer>country: Peru city: Lima</answer>\nb.jpg,35.0116,135.7681,none\nc.jpg,-22.5609,17.0658,none\n"
    )
    assert e.row()["acc@25 km"] == 0
    assert any("truth itself" in n for n in scored(TRUTH).warnings)


# files


def test_names_with_bom_semicolons_and_codes(scored):
    e = scored("\ufeffid;city;country\na;Helsinki;FI\nb;京都市;Japan\nc;Windhoek;NA\n")
    assert shares(e, "acc@25 km", "country by name") == [1, 1]


def test_degree_signs_dms_and_jpg_endings(scored):
    e = scored(
        "image_id,latitude,longitude\na,60.1699° N,24.9384° E\nb.JPG,35°0'42\"N,135°46'5\"E\nfolder/c.png,22.5609° S,17.0658° E\n".replace(
            "folder/", ""
        )
    )
    assert shares(e, "acc@1 km") == [1]


def test_folders_are_dropped_when_ids_do_not_meet_otherwise(scored):
    assert shares(
        scored("path,lat,lon\ntest/a.jpg,60.17,24.94\ntest/b.jpg,35,135.77\ntest/c.jpg,-22.56,17.07\n"),
        "acc@25 km",
    ) == [1]


def workbook(rows, **texts):
    "An .xlsx file with one sheet of inline texts and numbers."
    cell = lambda v: f"<c><v>{v}</v></c>" if isinstance(v, float) else inline(v)
    inline = lambda v: f'<c t="inlineStr"><is><t>{v}</t></is></c>'
    sheet = "".join(f"<row>{''.join(map(cell, row))}</row>" for row in rows)
    names = "".join(f'<sheet name="{n}" r:id="rId1"/>' for n in ("predictions", *texts))
    parts = {
        "xl/workbook.xml": f'<workbook xmlns:r="urn:r"><sheets>{names}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<r><Relationship Id="rId1" Target="worksheets/sheet1.xml"/></r>',
        "xl/worksheets/sheet1.xml": f"<worksheet><sheetData>{sheet}</sheetData></worksheet>",
    }
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in parts.items():
            archive.writestr(path, text)
    return file.getvalue()


def test_a_workbook_is_read_as_the_table_of_its_first_sheet(scored):
    rows = [
        ["id", "lat", "lon"],
        ["a", 60.170000000000002, 24.94],
        ["b", 35.01, 135.77],
        ["c", -22.56, 17.07],
    ]
    e = scored(workbook(rows, other=""), name="p.xlsx")
    assert shares(e, "acc@25 km") == [1] and any("first of 2 sheets" in n for n in e.notes)
    with pytest.raises(ValueError, match="holds no cells"):
        scored(workbook([]), name="p.xlsx")
    with pytest.raises(ValueError, match="p.xlsx cannot be read.*CSV"):
        scored(workbook(rows)[:100], name="p.xlsx")


def test_damaged_workbooks_and_parquet_files_are_one_line(scored, tmp_path):
    rows = [["id", "lat", "lon"], ["a", 60.17, 24.94]]
    locked = bytearray(workbook(rows))
    for signature, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := locked.find(signature, at + 1)) >= 0:
            locked[at + flag] |= 0x41  # encrypted
    with pytest.raises(ValueError, match="p.xlsx cannot be read"):
        scored(bytes(locked), name="p.xlsx")
    far = workbook(rows).replace(b"<c><v>60.17", b'<c r="ZZZZZZ2"><v>60.17')
    with pytest.raises(ValueError, match="p.xlsx cannot be read"):
        scored(far, name="p.xlsx")
    with pytest.raises(ValueError, match="as a parquet file"):
        scored(b"PAR1" + bytes(99) + b"PAR1", name="p.parquet")


def test_decimal_commas_and_what_was_done_to_ids_are_said(scored):
    e = scored("id;lat;lon\n1.0;60,17;24,94\n2.0;35,01;135,77\n", "id,lat,lon\n01,60.17,24.94\n02,35,135.8\n")
    assert shares(e, "acc@25 km") == [1] and any("decimal commas" in n for n in e.notes)
    assert any("7.0 as 7 and without leading zeros" in n for n in e.notes)


def test_summary_rows_behind_a_second_header_are_left_out(scored):
    e = scored(
        "id,lat,lon\na,60.17,24.94\nb,35.01,135.77\nc,-22.56,17.07\n\nid,lat,lon\nmean,0.5,0.7\nacc@25,66.7,\n"
    )
    assert shares(e, "acc@25 km") == [1] and any("summary" in n for n in e.notes)


def test_swapped_columns_are_put_right_or_named(scored):
    truth = "id,lat,lon\na,60.17,24.94\nb,35.01,135.77\nc,-33.87,151.21\n"
    e = scored("id,lat,lon\na,24.94,60.17\nb,135.77,35.01\nc,151.21,-33.87\n", truth)
    assert shares(e, "acc@25 km") == [1] and any("swapped" in n for n in e.notes)
    e = scored("id,lat,lon\na,24.94,60.17\nb,135.77,35.01\nc,17.07,-22.56\n")  # one may be a typing error
    assert shares(e, "acc@25 km") == [0] and any("check the columns" in n for n in e.warnings)
    e = scored(
        "id,lat,lon\na,24.94,60.17\n",
        TRUTH.replace("b.jpg,35.0116,135.7681,Kyoto,Japan\n", "").replace(
            "c.jpg,-22.5609,17.0658,Windhoek,NA\n", ""
        ),
    )
    assert shares(e, "acc@25 km") == [0] and any("check the columns" in n for n in e.warnings)
    swapped = "IMG_ID,LAT,LON\na,24.94,60.17\nb,135.77,35.01\nc,151.21,-33.87\n"
    notes = scored("id,lat,lon\na,60.17,24.94\n", swapped).notes
    assert any("truth.csv" in n and "swapped" in n for n in notes)


def test_a_typing_error_in_a_small_file_turns_nothing_round(scored):
    truth = "id,lat,lon\na,60.17,24.94\nb,35.01,35.77\nc,-22.56,17.07\nd,50.1,8.7\n"
    e = scored("id,lat,lon\na,160.17,24.94\nb,35.01,35.77\nc,-22.56,17.07\nd,50.1,8.7\n", truth)
    assert shares(e, "acc@25 km") == [0.75] and not any("swapped" in n for n in e.notes)


def test_a_coordinate_that_contradicts_the_named_place_counts_and_is_said(scored):
    e = scored("id,lat,lon,city,country\na,60.17,24.94,Lima,Peru\nb,35.01,135.77,Kyoto,Japan\n")
    assert any("1 stated coordinates are far" in n and "Lima" in n for n in e.notes)
    assert e.rows.km.iloc[0] < 25
    e = scored("id,lat,lon,city,country\na,60.17,24.94,,Finland\nb,35.01,135.77,Kyoto,Japan\n")
    assert not any("far from the place" in n for n in e.notes)


def test_missing_extra_and_out_of_range_rows_are_counted(scored):
    e = scored("id,lat,lon\na,60.17,24.94\nb,135,200\nzz,1,2\n")
    assert shares(e, "acc@25 km") == pytest.approx([1 / 3]) and len(e) == 3
    assert [n.split(" ")[0] for n in e.notes if "have no prediction" in n or "left out" in n] == ["1", "1"]
    assert any("out of range" in n for n in e.notes)
    assert "1 prediction has no picture in the truth and is left out" in e.notes
    e = scored("id,lat,lon\na,60.17,24.94\nb,1,2\ny,1,2\nzz,1,2\n")
    assert "2 predictions have no picture in the truth and are left out" in e.notes


def test_repeated_rows_count_once_and_contradictions_are_an_error(scored):
    assert len(scored("id,lat,lon\na,60.17,24.94\na,60.17,24.94\nb,0,0\nc,0,0\n")) == 3
    with pytest.raises(ValueError, match="two different rows"):
        scored("id,lat,lon\na,60.17,24.94\na,0,0\n")
    with pytest.raises(ValueError, match="two different rows"):
        scored("id,lat,lon\na,60.17,24.94\n", TRUTH + "a.jpg,0,0,x,y\n")


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "is empty"),
        ("id,colour\na,red\n", "no prediction among"),
        ("lat,lon\n1,2\n", "no column for id"),
        ("id,lat,lon\nq,1,2\n", "no id of"),
        ("id,lat,lon\n", "no id of"),
    ],
)
def test_files_that_cannot_be_scored_say_why(scored, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        scored(text)
    assert "\n" not in str(caught.value)


def test_truth_rows_without_coordinate_are_named(scored):
    e = scored("id,lat,lon\na,60.17,24.94\n", TRUTH + "d.jpg,,,Oslo,Norway\n")
    assert len(e) == 3 and any("1 rows without a coordinate" in n for n in e.notes)


def test_json_lines_and_very_long_answers(scored, tmp_path):
    lines = [
        {"id": i, "text": "x" * 200_000 + "<answer>country: Finland\ncity: Helsinki</answer>"} for i in "abc"
    ]
    e = scored("\n".join(map(json.dumps, lines)) + '\n{"id": "torn', name="p.jsonl")
    assert shares(e, "acc@25 km") == pytest.approx([1 / 3])
    assert any("1 lines are not JSON" in n for n in e.warnings)
    e = scored("id,text\n" + "\n".join(f'{r["id"]},"{r["text"]}"' for r in lines))
    assert shares(e, "acc@25 km") == pytest.approx([1 / 3])


def test_ids_are_text(scored):
    truth = "id,lat,lon\n00012345678901234567,60.17,24.94\n12345678901234567,35.01,135.77\n"
    assert len(scored("id,lat,lon\n00012345678901234567,60.17,24.94\n12345678901234567,0,0\n", truth)) == 2


def test_model_text_cannot_break_the_table(scored):
    (e := scored("id,lat,lon\na,60.17,24.94\n")).name = "<script>|x"
    assert "<script>" not in e._repr_markdown_() and "\\|x" in e._repr_markdown_()


# intervals


@given(st.integers(0, 400), st.integers(1, 400))
@settings(max_examples=200, deadline=None)
def test_wilson_contains_the_share_and_stays_inside(k, n):
    k = min(k, n)
    low, high = wilson(k, n)
    assert 0 <= low <= k / n + 1e-12 and k / n - 1e-12 <= high <= 1 and low < high


def test_wilson_covers():
    "Of 4,000 experiments with 60 pictures and any true share, about 95 % of the intervals hold it."
    p = np.random.default_rng(0).random(4000)
    held = [
        wilson(k, 60)[0] <= q <= wilson(k, 60)[1] for k, q in zip(np.random.default_rng(1).binomial(60, p), p)
    ]
    assert 0.94 < np.mean(held) < 0.965


def test_interval_over_seeds_and_pictures_covers():
    "Five seeds that differ: the crossed bootstrap holds the true mean far more often than one over pictures alone."
    rng, both, pictures = np.random.default_rng(1), 0, 0
    for trial in range(150):
        p = np.clip(0.5 + rng.normal(0, 0.08, (5, 1)), 0, 1)
        hits = rng.random((5, 200)) < p
        inside = lambda samples: interval(samples)[0] <= 0.5 <= interval(samples)[1]
        both, pictures = (
            both + inside(bootstrap(hits, draws=300)),
            pictures + inside(bootstrap(hits.mean(0), draws=300)),
        )
    assert both / 150 > 0.8 and both > pictures + 20


def coverage(seed_sd, place_sd, trials=150, seeds=3, draws=200):
    """How often the interval of the true share .5 holds it, (without, with) the stretch of seeds.

    80 places of six pictures, seeds and places differ by so much."""
    rng, place, held = np.random.default_rng(5), np.arange(80).repeat(6), np.zeros(2)
    for trial in range(trials):
        hits = rng.random((seeds, 480)) < np.clip(
            0.5 + rng.normal(0, seed_sd, (seeds, 1)) + rng.normal(0, place_sd, 80)[place], 0, 1
        )
        narrow = hits.mean(0) + (hits - hits.mean(0)) * math.sqrt((seeds - 1) / seeds)  # undoes the stretch
        for i, values in enumerate((narrow, hits)):
            low, high = interval(bootstrap(values, place, draws, seed=trial))
            held[i] += low <= 0.5 <= high
    return held / trials


def test_stretched_seeds_hold_the_truth_more_often():
    (narrow, stretched), (_, places) = coverage(0.08, 0), coverage(0, 0.15)
    assert 0.75 < narrow < stretched < 0.95  # three seeds, and little else that varies: the room says so
    assert places >= 0.95


def test_resampled_seeds_vary_as_their_mean_does():
    seeds = np.random.default_rng(0).normal(size=3)
    got = bootstrap(seeds[:, None].repeat(4, 1), draws=20_000)
    assert got.var() == pytest.approx(seeds.var(ddof=1) / 3, rel=0.03) and got.mean() == pytest.approx(
        seeds.mean(), abs=0.01
    )
    paired = bootstrap(
        np.stack([seeds, seeds + 0.1]).T @ [[-1], [1]], draws=50
    )  # pairs that all differ by .1
    assert paired == pytest.approx(0.1)


def test_shares_stay_shares():
    truth = made(40, 0, 0)
    runs = [score(made(40, 0, 1), truth), score(made(40, 0, 2), truth), score(truth.assign(lat=50.0), truth)]
    row = results({"m": runs}, [25, "geoscore"])
    assert (row.low >= 0).all() and row.high[0] <= 1 and row.high[1] <= 5000


def test_curves_draw_places_together():
    rng, place = np.random.default_rng(2), np.arange(40).repeat(10)
    held, wilsons = 0, 0
    for trial in range(100):
        hits = (rng.random(40) < 0.6).repeat(10)[:, None]
        (low,), (high,) = share_intervals(hits, cluster=place, draws=200)
        held, wilsons = (
            held + (low <= 0.6 <= high),
            wilsons + (wilson(hits.sum(), 400)[0] <= 0.6 <= wilson(hits.sum(), 400)[1]),
        )
    assert held >= 90 > 70 > wilsons
    p, right = rng.random(400), hits[:, 0]
    for curve in (reliability(p, right, 5, place), risk_coverage(p, right, place)):
        value = curve.frequency if "frequency" in curve else curve.risk
        assert ((curve.low <= value) & (value <= curve.high)).all()
    assert (
        len(risk_coverage(p, right)) == 200
        and risk_coverage(p, right).kept.max() == 400
        and len(reliability([], [])) == len(reliability([np.nan], [1])) == 0
    )
    near = near_ratio(
        made(5, 0.1, 0), made(200, 0.3, 1).assign(lat=0.0, lon=np.arange(20).repeat(10) / 30), (5,)
    ).iloc[0]
    assert near.high - near.low > 2 * np.diff(wilson(near.share * 200, 200))[0]


def made(n, scale, seed):
    r = np.random.default_rng(seed)
    return pd.DataFrame(
        {"id": [str(i) for i in range(n)], "lat": r.normal(0, scale, n), "lon": r.normal(0, scale, n)}
    )


def test_compare_of_seeds_and_wrong_pairings():
    truth = made(150, 0, 0)
    a, b = (
        [score(made(150, 0.4, s), truth) for s in (1, 2, 3)],
        [score(made(150, 0.15, s), truth) for s in (4, 5, 6)],
    )
    diff = compare(a, b).set_index("measure").loc["acc@25 km"]
    assert (
        diff.low > 0
        and diff.low < diff.difference < diff.high
        and diff.difference == pytest.approx(diff.b - diff.a)
    )
    assert compare(a[0], b).set_index("measure").low["acc@25 km"] > 0
    with pytest.raises(ValueError, match="cannot be paired"):
        compare(a[:2], b)
    with pytest.raises(ValueError, match="different pictures"):
        compare(a[0], score(made(149, 0.1, 1), truth[:149]))
    with pytest.raises(ValueError, match="different pictures"):
        results({"x": [a[0], score(made(149, 0.1, 1), truth[:149])]})


def test_clustering_by_place_widens_the_interval():
    truth = made(200, 0, 0).assign(lat=np.repeat(np.arange(20), 10))
    good = np.repeat(np.random.default_rng(0).random(20) < 0.5, 10)
    a, b = (
        score(truth.assign(lat=50.0), truth),
        score(truth.assign(lat=np.where(good, truth.lat, 50.0)), truth),
    )
    width = lambda **k: (lambda d: d.high - d.low)(compare(a, b, **k).set_index("measure").loc["acc@25 km"])
    assert width(cluster="place") > 2 * width() and width(cluster="lat") == width(cluster="place")


def test_one_lucky_outcome_has_no_empty_interval():
    truth = made(30, 0, 0)
    row = results({"m": [score(truth, truth)] * 3}, [25]).iloc[0]
    assert (
        row.value == 1 and row.low == pytest.approx(wilson(30, 30)[0]) and row.seed_sd == 0 and row.seeds == 3
    )
    assert wide(results({"m": score(truth, truth)}, [25, "geoscore"])).columns.tolist() == [
        "model",
        "n",
        "seeds",
        "acc@25 km (%)",
        "GeoScore",
    ]


@given(st.lists(st.one_of(st.floats(0, 20037), st.just(math.nan)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_accuracy_grows_with_the_radius(km):
    got = [accuracy(km, r) for r in RADII]
    assert got == sorted(got) and accuracy(km, 20040) == pytest.approx(np.mean(~np.isnan(km)))


@given(st.text(max_size=20))
@settings(max_examples=300, deadline=None)
def test_degrees_never_fails(text):
    assert isinstance(degrees(text), float)


def test_no_torch_is_imported():
    code = (
        "import sys, globe.evaluation.metrics as e; e.predictions(['country: Finland'], ['a']); "
        "print('torch' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


# what a reviewer tried


def test_one_typo_does_not_turn_a_file_round(scored):
    truth = "id,lat,lon\n" + "\n".join(f"p{i},{40 + i / 10},{5 + i}" for i in range(20))
    good = [f"p{i},{40 + i / 10},{5 + i}" for i in range(20)]
    e = scored("id,lat,lon\n" + "\n".join(["p0,145.7,5", *good[1:]]), truth)
    assert shares(e, "acc@25 km") == [0.95] and any("out of range" in n for n in e.notes)
    far = lambda i: f"p{i},{100 + i},{40 + i / 10}"  # east of 90°, so that the swap shows
    truth = "id,lat,lon\n" + "\n".join(f"p{i},{40 + i / 10},{100 + i}" for i in range(20))
    e = scored("id,lat,lon\n" + "\n".join(["p0,999,40", *(far(i) for i in range(1, 20))]), truth)
    assert shares(e, "acc@25 km") == [0.95] and any("swapped" in n for n in e.notes)


def test_the_truth_beside_predicted_names_is_not_the_prediction(scored):
    rows = ["a,60.17,24.9384,Lima,Peru", "b,35.0116,135.7681,Lima,Peru", "c,,,Lima,Peru"]
    assert shares(scored("id,lat,lon,pred_city,pred_country\n" + "\n".join(rows)), "acc@2500 km") == [0]


def test_names_stand_in_for_coordinates_only_on_request(scored):
    text = "id,lat,lon,city,country\na,60.17,24.94,Helsinki,Finland\nb,,,Kyoto,Japan\nc,,,Windhoek,Namibia\n"
    e = scored(text)
    assert shares(e, "acc@25 km", "not placed", "country by name") == pytest.approx([1 / 3, 2 / 3, 1])
    assert any("2 rows name a place" in n for n in e.notes)
    e = scored(text, names="fill")
    assert shares(e, "acc@25 km", "not placed") == [1, 0]
    assert any("1 stated coordinate, 2 cities" in n for n in e.notes)
    assert any("3 cities" in n for n in scored(text, names="only").notes)


def test_a_model_that_refuses_every_time_scores_0(scored):
    e = scored(
        "id,response\na,I cannot help with that.\nb,I cannot tell where this is.\nc,The location cannot be determined.\n"
    )
    assert shares(e, "acc@2500 km", "refused", "unread") == [0, 1, 0]
    assert len(e.warnings) == 1 and "refusals" in e.warnings[0]  # or is it another column?
    assert any("3 refused" in n for n in e.notes)


def test_a_model_that_abstains_every_time_scores_0(scored):
    lines = [dict(photo=f"{i}.jpg", lat=None, lon=None, city="", country="", abstains=True) for i in "abc"]
    e = scored("\n".join(map(json.dumps, lines)), name="located.jsonl")
    assert shares(e, "acc@2500 km", "country by name", "refused") == [0, 0, 1] and not e.warnings
    e = scored("id,lat,lon\na,,\nb,,\nc,,\n")  # nobody says why they are empty
    assert shares(e, "acc@2500 km") == [0] and any("empty everywhere" in w for w in e.warnings)


@pytest.mark.parametrize("mark", ["\u2028", "\x85", "\f"])
def test_odd_line_separators_within_an_answer_part_nothing(scored, mark):
    say = lambda i, c, t: json.dumps(
        {"id": i, "text": f"<think>one{mark}two</think><answer>country: {c}\ncity: {t}</answer>"},
        ensure_ascii=False,
    )
    assert shares(
        scored(
            "\n".join(
                [say("a", "Finland", "Helsinki"), say("b", "Japan", "Kyoto"), say("c", "Namibia", "Windhoek")]
            ),
            name="p.jsonl",
        ),
        "acc@25 km",
    ) == [1]


def test_doubled_headers_utf16_whole_numbers_and_case(scored, tmp_path):
    assert shares(
        scored("id,lat,lon,lat\na,60.17,24.94,0\nb,35.01,135.77,0\nc,-22.56,17.07,0\n"), "acc@25 km"
    ) == [1]
    assert shares(
        scored(
            "id,lat,lon\n1.0,60.17,24.94\n2.0,35.01,135.77\n", "id,lat,lon\n1,60.17,24.94\n2,35.01,135.77\n"
        ),
        "acc@25 km",
    ) == [1]
    assert shares(
        scored("id,lat,lon\nA.JPG,60.17,24.94\nB.JPG,35.01,135.77\nC.JPG,-22.56,17.07\n"), "acc@25 km"
    ) == [1]
    (tmp_path / "u.csv").write_bytes("id,lat,lon\na,60.17,24.94\n".encode("utf-16"))
    assert len(score_files(tmp_path / "u.csv", tmp_path / "u.csv")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="folder"):
        score_files(tmp_path / "u.csv", tmp_path / "empty")


def test_recorded_readings_are_what_the_reader_reads():
    import runpy

    made = runpy.run_path(str(Path(__file__).parents[1] / "data" / "make_readings.py"))["record"](
        real("geocomp_reasoning")
    )
    pd.testing.assert_frame_equal(made, pd.read_csv(Path(__file__).parents[1] / "data" / "readings.csv"))


def test_raw_answers_that_are_coordinates(tmp_path):
    (tmp_path / "p.csv").write_text(
        'id,prediction\na,"48.9, 2.35"\nb,"(35.7° N, 139.7° E)"\nc,"country: Finland\ncity: Helsinki"\nd,I cannot tell\n'
    )
    (tmp_path / "t.csv").write_text("id,lat,lon\na,48.86,2.35\nb,35.69,139.69\nc,60.17,24.94\nd,0.3,32.6\n")
    e = score_files(tmp_path / "p.csv", tmp_path / "t.csv")
    assert e.row()["acc@25 km"] == 0.5 and any("2 stated coordinates" in n for n in e.notes)
    assert any("1 rows name a place" in n for n in e.notes)
    e = score_files(tmp_path / "p.csv", tmp_path / "t.csv", names="fill")
    assert e.row()["acc@25 km"] == 0.75 and any("2 stated coordinates, 1 city" in n for n in e.notes)


# files as people have them

POINTS = [("a.jpg", 60.17, 24.94), ("b.jpg", 35.01, 135.77), ("c.jpg", -22.56, 17.07)]
RECORDS = [dict(id=i, lat=lat, lon=lon) for i, lat, lon in POINTS]
JSON = {
    "list": RECORDS,
    "envelope": {"model": "m", "results": RECORDS},
    "ids as keys": {r["id"]: dict(lat=r["lat"], lon=r["lon"]) for r in RECORDS},
    "columns": {k: [r[k] for r in RECORDS] for k in ("id", "lat", "lon")},
    "nested": [
        {"image": r["id"], "answer": {"gps": {"latitude": r["lat"], "lng": r["lon"]}}} for r in RECORDS
    ],
    "beside the truth": [
        {"id": r["id"], "prediction": {"lat": r["lat"], "lon": r["lon"]}, "truth": {"lat": 0, "lon": 0}}
        for r in RECORDS
    ],
    "answers by id": {i: f"{lat}, {lon}" for i, lat, lon in POINTS},
    "batch of an endpoint": [
        {"custom_id": i, "response": {"body": {"choices": [{"message": {"content": f"({lat}, {lon})"}}]}}}
        for i, lat, lon in POINTS
    ],
    "GeoJSON": {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "geometry": {"coordinates": [lon, lat]}, "properties": {"photo": i}}
            for i, lat, lon in POINTS
        ],
    },
}


@pytest.mark.parametrize("form", JSON)
def test_json_in_all_its_layouts(scored, form):
    e = scored(json.dumps(JSON[form]), name="p.json")
    assert shares(e, "acc@25 km") == [1] and not e.warnings


def test_json_lines_under_another_name_and_json_that_was_cut_off(scored):
    assert shares(scored("\n".join(map(json.dumps, RECORDS)), name="p.json"), "acc@25 km") == [1]
    with pytest.raises(ValueError, match="cut off"):
        scored(json.dumps(RECORDS)[:-9], name="p.json")


def test_parquet_keeps_ids_and_skips_pictures(tmp_path):
    frame = pd.DataFrame([{**r, "id": f"00{i}"} for i, r in enumerate(RECORDS)])
    frame["image"] = [{"bytes": b"\xff", "path": "x"}] * 3
    frame.to_parquet(tmp_path / "p.parquet")
    e = score_files(tmp_path / "p.parquet", frame.drop(columns="image"))
    assert shares(e, "acc@1 km") == [1] and any("equal the truth" in w for w in e.warnings)


def test_names_in_parquet_that_are_not_marked_as_text_count(tmp_path):
    from pyarrow import parquet, table

    truth = pd.DataFrame([("a", "France", 48.85, 2.35), ("b", "Finland", 60.17, 24.94)])
    truth.columns = ["id", "country", "lat", "lon"]
    rates = []
    for spain in ("Spain", b"Spain"):
        said = dict(id=list("ab"), lat=[48.85, 60.17], lon=[2.35, 24.94], country=[spain] * 2)
        parquet.write_table(table(said), tmp_path / "p.parquet")
        rates.append(score_files(tmp_path / "p.parquet", truth).row())
    assert rates[0] == rates[1] and "country by name" in rates[0] and rates[1]["country by name"] == 0


COMMAS = "sep=;\r\nID;Latitude;Longitude;City;Country\r\n" + "".join(
    f"{i};{lat};{lon};{city};{country}\r\n".replace(".", ",", 5).replace(",jpg", ".jpg")
    for (i, lat, lon), (city, country) in zip(
        POINTS, [("Helsinki", "Finland"), ("Kyōto", "Japan"), ("São Paulo", "Brazil")]
    )
)


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8-sig", "mac_roman"])
def test_tables_of_spreadsheets(scored, encoding):
    text = COMMAS if encoding.startswith("utf") else COMMAS.replace("ō", "o")
    e = scored(text.encode(encoding), TRUTH.replace("Windhoek,NA", "São Paulo,BR"))
    assert shares(e, "acc@25 km", "city by name") == [1, 1]
    assert any("São Paulo" in w for w in e.warnings) == (not encoding.startswith("utf"))


def test_decimal_commas_between_commas_and_a_tail_without_quotation_marks(scored):
    text = "id,lat,lon\n" + "".join(
        f"{i},{lat},{lon}\n".replace(".", ",").replace(",jpg", "") for i, lat, lon in POINTS
    )
    e = scored(text)
    assert shares(e, "acc@25 km") == [1] and any("decimal commas" in n for n in e.notes)
    e = scored("id,text\na,country: Finland, city: Helsinki\nb,country: Japan, city: Kyoto\n")
    assert shares(e, "acc@25 km") == pytest.approx([2 / 3])


def test_bytes_that_no_encoding_fits_are_an_error(scored):
    with pytest.raises(ValueError, match="line 3"):
        scored("id;city\na;Malmö\n".encode() + "b;Málaga\n".encode("cp1252"))
    e = scored("id;city;country\na;Malm�;Sweden\nb;Kyoto;Japan\n")
    assert any("replacement" in w for w in e.warnings)


def test_an_open_quotation_mark_is_an_error(scored):
    with pytest.raises(ValueError, match="line 3.*quotation"):
        scored('id,text\na,"country: Finland"\nb,"country: Japan\nc,country: Namibia\n')


def test_headers_that_stand_again_keep_the_rows_below(scored):
    e = scored(
        "id,lat,lon\nID,LAT,LON\na,60.17,24.94\n\nid,lat,lon\nb,35.01,135.77\nid,lat,lon\nc,-22.56,17.07\n"
    )
    assert shares(e, "acc@25 km") == [1] and any("header is repeated" in n for n in e.notes)


def test_columns_by_option_and_under_more_names(scored):
    text = "nr;breite;laenge\na;60.17;24.94\nb;35.01;135.77\nc;-22.56;17.07\n"
    e = scored(text, columns=dict(id="nr", lat="breite", lon="Laenge"))
    assert shares(e, "acc@25 km") == [1]
    with pytest.raises(ValueError, match="has no column 'Höhe'"):
        scored(text, columns=dict(id="nr", lat="Höhe"))
    assert shares(scored("uid,GPS Latitude,gps_lng\na,60.17,24.94\n"), "acc@25 km") == pytest.approx([1 / 3])
    assert shares(scored('id,coordinates\na,"60.17, 24.94"\n'), "acc@25 km") == pytest.approx([1 / 3])
    e = scored(
        "id,lat,lon\na,60.17,24.94\n",
        "key;breite;laenge\na;60.17;24.94\n",
        truth_columns=dict(lat="breite", lon="laenge"),
    )
    assert shares(e, "acc@25 km") == [1]


IDS = {
    "leading zeros": (["007", "008"], ["7", "8"]),
    "floats": (["7", "8"], ["7.0", "8.0"]),
    "floats without zeros": (["007", "008"], ["7.0", "8.0"]),
    "folders": (["test/x.jpg", "test/y.jpg"], ["/data/x", "/data/y"]),
    "Unicode": (["Köln.jpg", "Málaga.jpg"], [unicodedata.normalize("NFD", i) for i in ("Köln", "Málaga")]),
    "case": (["X.JPG", "Y.JPG"], ["x.jpg", "y.jpg"]),
    "formulas": (["007", "008"], ['="007"', '="008"']),
}


@pytest.mark.parametrize("kind", IDS)
def test_ids_that_are_meant_to_be_the_same(scored, kind):
    true, given = IDS[kind]
    rows = lambda ids: "id,lat,lon\n" + "".join(f"{i},{10 + k},{20 + k}\n" for k, i in enumerate(ids))
    e = scored(rows(given), rows(true))
    assert shares(e, "acc@1 km") == [1] and set(e.rows.id) == set(true)
    assert kind == "formulas" or any("match the truth's" in n for n in e.notes)


def test_an_id_that_fits_two_pictures_fits_none(scored):
    with pytest.raises(ValueError, match="no id of"):
        scored("id,lat,lon\n1,10,20\n", "id,lat,lon\na/1.jpg,10,20\nb/1.jpg,11,21\n")
    truth = "id,lat,lon\n" + "".join(f"{i},{i},{i}\n" for i in range(10, 20))
    e = scored(truth.replace("\n10,10,10", "\n010,80,80"), truth)  # a stray id is not forced
    assert len(e) == 10 and shares(e, "unread") == [0]


def test_output_of_globe_locate_and_of_globe_distill(tmp_path):
    truth = pd.DataFrame(dict(id=["a.jpg", "b.jpg"], lat=[60.17, 35.01], lon=[24.94, 135.77]))
    located = [
        dict(
            photo="a.jpg",
            city="Helsinki",
            country="Finland",
            lat=60.17,
            lon=24.94,
            abstains=False,
            error="",
            localizability=0.9,
            answers=[dict(city="Rome", lat=41.9)],
            reasoning="x",
        ),
        dict(photo="b.jpg", city="", country="", lat=None, lon=None, abstains=True, error="", answers=[]),
    ]
    (tmp_path / "located.jsonl").write_text("\n".join(map(json.dumps, located)))
    e = score_files(tmp_path / "located.jsonl", truth)
    assert shares(e, "acc@25 km", "refused") == [0.5, 0.5]
    folder = tmp_path / "answers"
    folder.mkdir()
    record = dict(teacher="qwen", country="Peru", city="", lat=None, lon=None, error="", text="")
    rows = [
        record | dict(id="a.jpg", error="HTTP 500"),
        record | dict(id="a.jpg", text="<answer>country: Finland\ncity: Helsinki</answer>"),
        record | dict(id="b.jpg", error="HTTP 500"),
    ]
    for i, row in enumerate(rows):
        (folder / f"qwen.shard-{i + 1}-of-3.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "geoclip.jsonl").write_text(
        "\n".join(
            json.dumps(record | dict(id=i, teacher="geoclip", country="", lat=35.0, lon=135.8))
            for i in truth.id
        )
    )
    found = score_each(folder, truth)
    assert {name: e.row()["acc@25 km"] for name, e in found.items()} == {"geoclip": 0.5, "qwen": 0.5}
    assert any("1 requests failed (HTTP 500)" in w for w in found["qwen"].warnings)
    with pytest.raises(ValueError, match="geoclip, qwen"):
        score_files(folder, truth)


def test_a_truth_with_names_only(scored):
    e = scored(
        "id,city,country\na,Helsinki,FI\nb,Tokyo,Japan\n", "id,city,country\na,Helsinki,Finland\nb,Kyoto,JP\n"
    )
    assert e.measures == ["country", "city"] and shares(e, "country by name", "city by name") == [1, 0.5]
    assert "median km" not in e.row() and "acc@" not in e._repr_markdown_() and json.dumps(e.to_dict())
    assert e.by("continent").n.sum() == 4


def test_radii_are_a_choice(scored):
    e = scored("id,lat,lon\na,60.17,24.94\nb,35.01,135.77\nc,-20,17.07\n", radii=(0.5, 300))
    assert e.measures[:2] == [0.5, 300] and shares(e, "acc@300 km") == [1]


def test_nothing_that_can_be_read_is_an_error(scored):
    with pytest.raises(ValueError, match="none of 3"):
        scored("id,lat,lon\na,x,y\nb,x,y\nc,x,y\n")
    with pytest.raises(ValueError, match="none of 2 answers"):
        scored("id,text\na,bla\nb,blub\n")
    e = scored("id,text\na,country: Finland\nb,bla\nc,blub\n")
    assert any("2 of 3 answers cannot be read" in w for w in e.warnings)


def test_predictions_of_this_package_are_taken_as_they_are(tmp_path):
    truth = pd.DataFrame(dict(id=["a", "b"], lat=[60.17, 48.86], lon=[24.94, 2.35]))
    rows = predictions(["country: Finland\ncity: Helsinki", "country: France"], truth.id)
    rows.loc[1, ["lat", "lon"]] = 48.86, 2.35  # not what the text says
    rows.to_csv(tmp_path / "p.csv", index=False)
    for given in (tmp_path / "p.csv", rows):
        e = score_files(given, truth)
        assert shares(e, "acc@1 km") == [1] and any("1 city, 1 country only" in n for n in e.notes)


def test_impossible_coordinates_are_refused_from_frames_as_from_files(scored):
    rows = pd.DataFrame(dict(id=["a.jpg", "b.jpg", "c.jpg"], lat=[60.17, 95, 35], lon=[24.94, 400, math.nan]))
    truth = pd.DataFrame(RECORDS)
    for e in (score(rows, truth), score_files(rows, truth), scored(rows.to_csv(index=False))):
        assert shares(e, "acc@25 km") == pytest.approx([1 / 3]) and e.rows.pred_lat.notna().sum() == 1
        assert any("out of range" in n for n in e.notes)


def test_mean_and_median_treat_unread_answers_alike(scored):
    e = scored("id,lat,lon\na,60.17,24.94\n")
    assert (
        shares(e, "median km", "mean km") == [math.inf, math.inf] and e.row()["mean km of placed answers"] < 1
    )


# the command


@pytest.fixture
def command(tmp_path, capsys):
    from globe.cli import main

    def run(predicted, *options, truth=TRUTH, name="p.csv"):
        (tmp_path / name).write_text(predicted, encoding="utf-8")
        (tmp_path / "truth.csv").write_text(truth, encoding="utf-8")
        code = main(["score", str(tmp_path / name), "--truth", str(tmp_path / "truth.csv"), *options])
        return code, *capsys.readouterr()

    return run


GOOD = "id,lat,lon,city,country\na,60.17,24.94,,\nb,,,Kyoto,Japan\n"


def test_groups_are_one_wide_table_in_percent(command):
    code, out, _ = command(GOOD, "--by", "continent", "--names", "fill", "--radii", "25,200")
    table = out[out.index("| continent") :].splitlines()
    assert code == 0 and table[0].startswith("| continent | n | acc@25 km (%) | acc@200 km (%)")
    assert len(table) == 5 and "100.0 [20.7, 100.0]" in table[3]
    code, out, _ = command(GOOD, "--by", "country", "--json", "--id", "id", "--truth-id", "IMG_ID")
    assert code == 0 and len(json.loads(out)["groups"]) == 3 * 7


def test_latex_and_warnings_that_nobody_overlooks(command):
    code, out, err = command(GOOD, "--latex", "--by", "country")
    assert code == 0 and out.count(r"\begin{tabular}") == 2 and r"acc@25 km (\%)" in out
    group = TRUTH.replace("\n", ",\x1b[31mred\u202e\n").replace(",\x1b[31mred\u202e", ",group", 1)
    code, out, err = command(GOOD, "--latex", "--by", "group", truth=group)
    assert code == 0 and "[31mred" in out and not {"\x1b", "\u202e"} & set(out)
    code, out, err = command("id,lat,lon\na,,\n")
    assert code == 0 and "warning: p.csv" in err and out.startswith("**Warning")
    code, out, err = command('id,lat,lon\na,"60\n')
    assert code == 1 and "quotation" in err and not out


@pytest.fixture
def nominatim():
    "A local server that answers as Nominatim does, and counts."

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            found = [dict(lat="35.02", lon="135.75", addresstype="city")] if "Kyoto" in self.path else []
            code = self.server.codes.pop(0) if self.server.codes else 200
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.codes = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_online_geocoder_by_option(command, nominatim, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOBE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("GLOBE_GEOCODER_KEY", "secret-key")
    url = f"http://127.0.0.1:{nominatim.server_port}/search"
    text = "id,city,country\na,Nowhere,Finland\nb,Kyoto,Japan\nc,Kyoto,Japan\n"
    nominatim.codes = [503]
    for _ in range(2):
        code, out, err = command(text, "--geocoder", url, "--json")
        found = json.loads(out)
        assert (
            code == 0
            and found["acc@25 km"] == pytest.approx(1 / 3)
            and found["not placed"] == pytest.approx(1 / 3)
        )
        assert any("not by the gazetteer" in n for n in found["notes"])
    assert len(nominatim.asked) == 4  # one was tried again, each place is asked about once
    assert all("key=secret-key" in path for path in nominatim.asked)
    nominatim.codes = [403]
    code, out, err = command("id,city\na,Oslo\n", "--geocoder", url)
    assert code == 1 and "GLOBE_GEOCODER_KEY" in err and "secret-key" not in err + out
    code, out, err = command(text, "--geocoder", "ftp://x/y")
    assert code == 1 and "http" in err


def test_no_network_is_used_unless_a_geocoder_is_given(command, monkeypatch):
    monkeypatch.setattr("globe.exchange._in_time", lambda *args: pytest.fail("asked the network"))
    assert command(GOOD, "--names", "fill")[0] == 0


# claims


@pytest.mark.parametrize(
    "low, high, word",
    [
        (0.01, 0.3, "supported"),
        (0.001, 0.01, "supported"),
        (-0.3, -0.01, "contradicted"),
        (-0.01, 0.015, "equivalent within the margin"),
        (-0.02, 0.01, "inconclusive"),
        (-0.1, 0.2, "inconclusive"),
        (0, 0.3, "inconclusive"),
        (0, 0, "inconclusive"),
    ],
)
def test_one_rule_gives_the_verdict(low, high, word):
    assert claim_verdict(low, high) == word


def test_committed_claims_follow_from_their_numbers():
    table = pd.read_csv(Path(__file__).parents[1] / "figures" / "claims.csv")
    assert [claim_verdict(low, high) for low, high in zip(table.low, table.high)] == table.verdict.tolist()
    notebook = (Path(__file__).parents[1] / "nbs" / "paper" / "09_claims.ipynb").read_text(encoding="utf-8")
    shown = "<td>supported</td>" in notebook  # after a change of its cells, until a run, it shows no verdict
    for word in set(table.verdict):
        assert notebook.count(f"<td>{word}</td>") == shown * (table.verdict == word).sum()


def test_half_of_a_surrogate_pair_stops_no_reader_of_answers(tmp_path):
    "A JSON escape of half a pair, in a text, in an id and in a heading; and answers of this process."
    torn = json.dumps(dict(id="b.jpg", text="Kyoto, Japan \ud83d", **{"x\ude00": ["\ud83d"]}))
    answers = '{"id": "a.jpg", "text": "city: Helsinki\\ncountry: Finland"}\n' + torn + "\n"
    (tmp_path / "truth.csv").write_text(TRUTH, encoding="utf-8")
    forms = dict(a=answers, b=f"[{','.join(answers.splitlines())}]")
    (tmp_path / "a.jsonl").write_text(forms["a"])
    (tmp_path / "b.json").write_text(forms["b"])
    for file in ("a.jsonl", "b.json"):
        e = score_files(tmp_path / file, tmp_path / "truth.csv", names="fill")
        assert e.rows.parsed.sum() == 2
    said = predictions(["city: Kyoto\ncountry: Japan \ud83d", None], ["a", "b\ude00"])
    assert said.parsed.tolist() == [True, False] and said.to_csv(index=False).encode()


def test_predictions_for_people_hold_no_formula_and_are_read_back(tmp_path):
    texts = [
        '=HYPERLINK("http://evil")\ncity: Kyoto\ncountry: Japan',
        "+cmd|x\r\ncity: Helsinki\ncountry: Finland",
    ]
    said = predictions(texts, ["=b.jpg", "a.jpg"], names="fill")
    path = write_csv(tmp_path / "predictions.csv", said)
    with path.open(newline="", encoding="utf-8") as f:
        rows = list(csv.reader(f))
    assert [row[0] for row in rows] == ["id", "'=b.jpg", "a.jpg"] and not [
        c for r in rows for c in r if c[:1] in "=+@" and c
    ]
    (tmp_path / "truth.csv").write_text(TRUTH.replace("b.jpg", "'=b.jpg"), encoding="utf-8")
    e = score_files(path, tmp_path / "truth.csv")
    assert e.rows.km.notna().sum() == 2 and e.rows.km.max() < 25
