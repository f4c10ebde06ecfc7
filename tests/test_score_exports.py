"What programs and harnesses export is scored: the assistant's answer, the best hypothesis, the right ids."

import json
import unicodedata

import pandas as pd
import pytest

from globe.cli import main
from globe.evaluation.score import score_each, score_files

PLACES = [("0001", "Lima", "Peru", -12.04, -77.03), ("0002", "Oslo", "Norway", 59.91, 10.75)]
QUESTION = "Where is it? Answer: Country: [country], City: [city]. For example Paris, France."


@pytest.fixture(scope="module")
def truth():
    return pd.DataFrame(PLACES, columns=["id", "city", "country", "lat", "lon"])


def scored(tmp_path, truth, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return score_files(tmp_path / name, truth)


def answer(city, country):
    return f"Country: {country}\nCity: {city}"


def chats(city, country):
    "Exports of one conversation, by their origin."
    said, asked = answer(city, country), {"role": "user", "content": QUESTION}
    message = {"role": "assistant", "content": said}
    parts = [{"type": "thinking", "thinking": "Italy?"}, {"type": "text", "text": said}]
    return {
        "messages": {"messages": [asked, message]},
        "two rounds": {"messages": [asked, {"role": "assistant", "content": "Rome, Italy"}, asked, message]},
        "anthropic": {"prompt": QUESTION, "message": {"role": "assistant", "content": parts}},
        "responses": {"input": [asked], "output": [{"type": "reasoning", "summary": []}, message]},
        "gemini": {
            "contents": [{"role": "user", "parts": [{"text": QUESTION}]}],
            "candidates": [{"content": {"role": "model", "parts": [{"text": said}]}, "index": 0}],
        },
        "sharegpt": {
            "conversations": [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": said}],
        },
        "chat completion": {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
        "completion": {"prompt": QUESTION, "choices": [{"index": 0, "text": said}]},
        "tool": {"messages": [asked, message, {"role": "tool", "content": "ok"}, message]},
    }


@pytest.mark.parametrize("origin", chats("", ""))
def test_the_assistants_turn_is_the_answer(tmp_path, truth, origin):
    rows = [{"id": id} | chats(city, country)[origin] for id, city, country, *_ in PLACES]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    assert scored(tmp_path, truth, "chats.jsonl", lines).row()["acc@25 km"] == 1
    assert scored(tmp_path, truth, "chats.json", json.dumps(rows)).row()["acc@25 km"] == 1


def test_rows_of_a_batch_are_known_by_the_id_that_the_asker_gave(tmp_path, truth):
    rows = [
        {
            "id": f"batch_req_{i}",
            "custom_id": id,
            "response": {"status_code": 200, "body": chats(city, country)["chat completion"]},
        }
        for i, (id, city, country, *_) in enumerate(PLACES)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    assert scored(tmp_path, truth, "batch.jsonl", lines).row()["acc@25 km"] == 1


@pytest.mark.parametrize("radii", ["inf", "1e400", "nan", "25,x"])
def test_a_radius_that_is_no_distance_is_refused(radii, capsys):
    with pytest.raises(SystemExit):
        main(["score", "a.csv", "--truth", "b.csv", "--radii", radii])
    assert "give radii in km" in capsys.readouterr().err


def test_a_folder_without_predictions_is_a_failure(tmp_path, truth):
    with pytest.raises(ValueError, match="folder without tables"):
        score_each(tmp_path, truth)


def test_chats_in_cells_of_csv_parquet_and_frames(tmp_path, truth):
    rows = [dict(id=id, messages=chats(*names)["messages"]["messages"]) for id, *names, _, _ in PLACES]
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "chats.parquet")
    frame.to_csv(tmp_path / "chats.csv", index=False)
    frame.assign(messages=frame.messages.map(json.dumps)).to_csv(tmp_path / "text.csv", index=False)
    for source in (tmp_path / "chats.parquet", tmp_path / "chats.csv", tmp_path / "text.csv", frame):
        assert score_files(source, truth).row()["acc@25 km"] == 1


def test_a_prompt_without_an_answer_is_no_answer(tmp_path, truth):
    shots = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": "Lima, Peru"}]
    rows = [dict(id=id, messages=[*shots, shots[0]]) for id, *_ in PLACES]
    with pytest.raises(ValueError, match="no prediction"):
        scored(tmp_path, truth, "prompts.json", json.dumps(rows))


def test_a_column_of_refusals_is_a_warning(tmp_path, truth):
    e = scored(tmp_path, truth, "p.csv", f'id,text\n0001,"{QUESTION[14:52]}"\n0002,I cannot tell.\n')
    assert e.row()["refused"] == 1 and any("refusals" in line for line in e.warnings)


HARNESSES = {
    "llava": "question_id,prompt,text,answer_id,model_id\n{id},Where?,{said},x,llava-7b\n",
    "vlmeval": "index,question,answer,prediction\n{id},Where?,Italy,{said}\n",
    "factory": "id,prompt,predict,label\n{id},Where?,{said},Rome Italy\n",
    "model column": "model_name,model_path,photo_id,answer\nm,/models/m,{id},{said}\n",
    "lm": "doc_id,target,filtered_resps\n{id},Rome,{said}\n",
    "geoclip": "image,top1_lat,top1_lon,top1_prob,top2_lat,top2_lon\n{id}.jpg,{lat},{lon},0.9,0,0\n",
    "numbered": "image,lat_1,lon_1,lat_2,lon_2\n{id}.jpg,{lat},{lon},0,0\n",
    "german": "Bild;Breitengrad;Längengrad\n{id};{lat};{lon}\n",
    "spanish": "archivo;Latitud;Longitud\n{id};{lat};{lon}\n",
    "french": "fichier;ville;pays\n{id};{city};{country}\n",
    "ewkt": "id,wkt\n{id},SRID=4326;POINT Z ({lon} {lat} 12)\n",
    "address": "image_url,lat,lon\nhttps://example.org/a/{id}.jpg?w=640#top,{lat},{lon}\n",
}


@pytest.mark.parametrize("harness", HARNESSES)
def test_outputs_of_harnesses(tmp_path, truth, harness):
    header, line = HARNESSES[harness].splitlines()
    lines = [
        line.format(id=id, city=city, country=country, lat=lat, lon=lon, said=f"{city} in {country}")
        for id, city, country, lat, lon in PLACES
    ]
    e = scored(tmp_path, truth, "out.csv", "\n".join([header, *lines]) + "\n")
    assert e.row()["acc@25 km"] == 1


@pytest.mark.parametrize(
    "value",
    [
        lambda city, country, lat, lon: [lat, lon],
        lambda city, country, lat, lon: f"{city}, {country}",
        lambda city, country, lat, lon: [f"{city}, {country}"],
        lambda city, country, lat, lon: {"type": "Point", "coordinates": [lon, lat]},
        lambda city, country, lat, lon: [
            {"lat": 0, "lon": 0, "score": 0.2},
            {"lat": lat, "lon": lon, "score": 0.7},
        ],
    ],
)
def test_ids_as_keys(tmp_path, truth, value):
    rows = {id: value(*place) for id, *place in PLACES}
    assert scored(tmp_path, truth, "keys.json", json.dumps(rows)).row()["acc@25 km"] == 1


@pytest.mark.parametrize("key,best,other", [("confidence", 0.8, 0.1), ("rank", 1, 2), ("logprob", -0.1, -3)])
def test_the_best_hypothesis_counts_and_that_is_said(tmp_path, truth, key, best, other):
    rows = [
        dict(id=id, guesses=[{"lat": 0, "lon": 0, key: other}, {"lat": lat, "lon": lon, key: best}])
        for id, _, _, lat, lon in PLACES
    ]
    e = scored(tmp_path, truth, "p.json", json.dumps(rows))
    assert e.row()["acc@25 km"] == 1 and any("highest score" in line for line in e.notes)
    rows[0]["guesses"] = rows[0]["guesses"][::-1]
    rows[1]["guesses"] = rows[1]["guesses"][::-1]
    e = scored(tmp_path, truth, "p.json", json.dumps(rows))
    assert e.row()["acc@25 km"] == 1 and not any("highest score" in line for line in e.notes)


@pytest.mark.parametrize("text,option", [("lat,lon\n1,2\n", "--id"), ("id,x,y\n0001,1,2\n", "--lat")])
def test_the_error_names_the_option_that_helps(tmp_path, truth, text, option):
    with pytest.raises(ValueError, match=option):
        scored(tmp_path, truth, "p.csv", text)


def test_missing_is_neither_unread_nor_refused(truth):
    e = score_files(pd.DataFrame(dict(id=["0001"], text=["Lima, Peru"])), truth)
    row = e.row()
    assert [row[what] for what in ("missing", "unread", "refused", "not placed")] == [0.5, 0, 0, 0]
    assert any("1 missing" in line for line in e.notes)


def test_what_locate_abstains_from_is_refused(tmp_path, truth):
    below = dict(
        photo="0001.jpg", city="", lat=None, lon=None, localizability=0.2, abstains=True, placed_by=""
    )
    unread = below | dict(photo="0002.jpg", localizability=None)
    rows = [r | {"answers": [{"city": "Lima", "refused": False}]} for r in (below, unread)]
    e = scored(tmp_path, truth, "p.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
    assert e.row()["refused"] == 0.5 and e.row()["unread"] == 0.5


def test_a_coordinate_without_a_name_contradicts_nothing(truth):
    far = pd.DataFrame(dict(id=["0001", "0002"], lat=[0.0, -48.9], lon=[0.0, -123.4]))
    assert not any("named with" in line for line in score_files(far, truth).notes)
    named = far.assign(city=["Lima", "Oslo"], country=["Peru", "Norway"])
    assert any("2 stated coordinates are far" in line for line in score_files(named, truth).notes)


def test_one_file_per_picture(tmp_path, truth):
    for kind, write in (("json", json.dumps), ("txt", lambda record: record["answer"])):
        folder = tmp_path / kind
        folder.mkdir()
        for id, city, country, *_ in PLACES:
            (folder / f"{id}.{kind}").write_text(write({"answer": answer(city, country), "model": "m"}))
        assert score_files(folder, truth).row()["acc@25 km"] == 1


def test_tables_without_predictions_are_passed_over(tmp_path, truth):
    (tmp_path / "left_out.csv").write_text("file,reason\n0009.jpg,broken\n")
    rows = [dict(id=id, text=answer(city, country)) for id, city, country, *_ in PLACES]
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = score_each(tmp_path, truth)
    (e,) = found.values()
    assert list(found) == ["m"] and e.row()["acc@25 km"] == 1
    assert any("left_out.csv" in line for line in e.notes)


FRAMES = {
    "columns": lambda frame: frame.to_json(),
    "ids as labels": lambda frame: frame.set_index("id").to_json(),
    "split": lambda frame: frame.to_json(orient="split"),
    "table": lambda frame: frame.to_json(orient="table"),
    "index": lambda frame: frame.set_index("id").to_json(orient="index"),
}


@pytest.mark.parametrize("layout", FRAMES)
def test_what_pandas_writes_as_json(tmp_path, truth, layout):
    text = FRAMES[layout](truth[["id", "lat", "lon"]])
    assert scored(tmp_path, truth, "p.json", text).row()["acc@25 km"] == 1


@pytest.mark.parametrize("name", ["p.csv.gz", "p.jsonl.gz"])
def test_packed_files_are_unpacked(tmp_path, truth, name):
    frame, path = truth[["id", "lat", "lon"]], tmp_path / name
    if "csv" in name:
        frame.to_csv(path, index=False)
    else:
        frame.to_json(path, orient="records", lines=True)
    assert score_files(path, truth).row()["acc@25 km"] == 1
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="cannot be unpacked"):
        score_files(path, truth)


@pytest.mark.parametrize(
    "title", ["# run 7, temperature 0\n", "Results of run 7\n\n", "Results of run 7;;\n;;\n# by us\n"]
)
def test_titles_and_comments_above_the_header_are_left_out_and_that_is_said(tmp_path, truth, title):
    text = title + truth.to_csv(index=False, sep=";")
    e = scored(tmp_path, truth, "p.csv", text)
    assert e.row()["acc@25 km"] == 1 and any("above the header" in note for note in e.notes)


@pytest.mark.parametrize("quote", ["'{}", "'{}'", '"{}"'])
def test_ids_in_quotation_marks(tmp_path, truth, quote):
    rows = truth.assign(id=truth.id.map(quote.format))
    e = scored(tmp_path, truth, "p.csv", rows.to_csv(index=False))
    assert e.row()["acc@25 km"] == 1 and any("quotation marks" in note for note in e.notes)


def test_a_column_of_models_parts_a_file_only_if_they_answered_the_same_pictures(tmp_path, truth):
    two = pd.concat([truth.assign(model="a"), truth.assign(model="b", lat=0, lon=0)])
    two.to_csv(tmp_path / "two.csv", index=False)
    found = score_each(tmp_path / "two.csv", truth)
    assert {name: e.row()["acc@25 km"] for name, e in found.items()} == {"a": 1, "b": 0}
    truth.assign(model=["a", "b"]).to_csv(tmp_path / "one.csv", index=False)
    (e,) = score_each(tmp_path / "one.csv", truth).values()
    assert (e.row()["n"], e.row()["acc@25 km"]) == (2, 1)


@pytest.mark.parametrize("written", ["9007199254740992.0", "9.007199254741e+15"])
def test_ids_that_lost_digits_as_numbers_are_an_error(tmp_path, truth, written):
    true = truth.assign(id=["9007199254740992", "9007199254740995"])
    text = f"id,lat,lon\n{written},-12,-77\n"
    with pytest.raises(ValueError, match="lost digits"):
        scored(tmp_path, true, "p.csv", text)
    own = true.assign(id=["9007199254740992.0", "9007199254740995"])
    assert scored(tmp_path, own, "p.csv", own.to_csv(index=False)).row()["acc@25 km"] == 1


def test_letters_that_were_encoded_twice_are_mended_and_that_is_said(tmp_path):
    truth = pd.DataFrame(
        [("1", "São Paulo", "Brazil", -23.55, -46.63)], columns=["id", "city", "country", "lat", "lon"]
    )
    twice = "id,city,country\n1,São Paulo,Brazil\n".encode().decode("cp1252")
    e = scored(tmp_path, truth, "twice.csv", twice)
    assert e.row()["acc@25 km"] == 1 and any("encoded twice" in w for w in e.warnings)


def test_coordinates_in_radians_are_suspected(tmp_path, truth):
    lines = "".join(f"{id},{lat / 57.29578},{lon / 57.29578}\n" for id, _, _, lat, lon in PLACES)
    assert any("radians" in w for w in scored(tmp_path, truth, "p.csv", "id,lat,lon\n" + lines).warnings)


def test_a_table_without_a_header_says_so(tmp_path, truth):
    with pytest.raises(ValueError, match="first line seems to hold data"):
        scored(tmp_path, truth, "p.csv", "0001,-12.04,-77.03\n0002,59.91,10.75\n")


def test_headings_in_chinese(tmp_path, truth):
    text = "编号,纬度,经度\n0001,-12.04,-77.03\n0002,59.91,10.75\n"
    assert scored(tmp_path, truth, "p.csv", text).row()["acc@25 km"] == 1


STEERING = "\x1b]0;owned\x07\x9b2J\x7f"  # of a terminal


@pytest.mark.parametrize("more", [[], ["--latex"], ["--json"], ["--by", "kind"], ["--by", "kind", "--json"]])
def test_nothing_that_is_printed_of_names_and_cells_steers_a_terminal(tmp_path, truth, more, capsys):
    (tmp_path / "all").mkdir()
    rows = [dict(id=id, lat=lat, lon=lon, country=f"{STEERING}x") for id, *_, lat, lon in PLACES]
    rows += [dict(id="0003" + STEERING, lat=f"1{STEERING}", lon="x", country="")]
    for i in range(2):
        pd.DataFrame(rows).to_csv(tmp_path / "all" / f"{i}{STEERING}.csv", index=False)
    (tmp_path / "all" / f"lost{STEERING}.csv").write_text("id,x\n1,2\n")
    truth.assign(kind=STEERING).to_csv(tmp_path / f"t{STEERING}.csv", index=False)
    assert main(["score", str(tmp_path / "all"), "--truth", str(tmp_path / f"t{STEERING}.csv"), *more]) == 0
    one = str(tmp_path / "all" / f"0{STEERING}.csv")
    assert main(["score", one, "--truth", str(tmp_path / f"t{STEERING}.csv"), *more]) == 0
    for wrong in ("", f'id,"{STEERING}\n', f"id,{STEERING}\na,b\n"):
        (tmp_path / f"w{STEERING}.csv").write_text(wrong)
        assert main(["score", one, "--truth", str(tmp_path / f"w{STEERING}.csv"), *more]) == 1
    printed = "".join(capsys.readouterr())
    assert "owned" in printed
    assert {c for c in printed if unicodedata.category(c) == "Cc"} == {"\n"}


HALVES = {
    "other headings": ("id,lat,lon\n0001,-12.04,-77.03\n", "id,latitude,longitude\n0002,59.91,10.75\n"),
    "another heading of ids": ("id,lat,lon\n0001,-12.04,-77.03\n", "image,lat,lng\n0002,59.91,10.75\n"),
    "other answers": ('id,response\n0001,"Lima, Peru"\n', 'id,answer\n0002,"Oslo, Norway"\n'),
    "pairs": ("id,lat,lon\n0001,-12.04,-77.03\n", 'id,coordinates\n0002,"59.91, 10.75"\n'),
    "answers and columns": ('id,text\n0001,"Lima, Peru"\n', "id,lat,lon\n0002,59.91,10.75\n"),
}


@pytest.mark.parametrize("first,second", HALVES.values(), ids=HALVES)
def test_parts_with_other_headings_are_read_whole(tmp_path, truth, first, second):
    (tmp_path / "a.csv").write_text(first)
    (tmp_path / "b.csv").write_text(second)
    e = score_files(tmp_path, truth)
    assert e.row()["acc@25 km"] == 1 and not e.warnings
    rows = [dict(id="0001", lat=-12.04, lon=-77.03), dict(image="0002", latitude=59.91, lng=10.75)]
    assert scored(tmp_path, truth, "lines.jsonl", "\n".join(map(json.dumps, rows))).row()["acc@25 km"] == 1


def test_a_part_without_anything_readable_is_said(tmp_path, truth):
    (tmp_path / "a.csv").write_text("id,lat,lon\n0001,-12.04,-77.03\n")
    (tmp_path / "b.csv").write_text("id,lat,lon\n0002,,\n")
    assert any("b.csv: none of its 1 rows" in line for line in score_files(tmp_path, truth).warnings)


def test_a_place_in_a_row_that_abstains_is_no_answer(tmp_path, truth):
    for mark in ("abstained", "refused", "abstention", "is_refusal", "no_answer"):
        e = scored(
            tmp_path, truth, "p.csv", f"id,lat,lon,{mark}\n0001,-12.04,-77.03,true\n0002,59.91,10.75,false\n"
        )
        assert (e.row()["acc@25 km"], e.row()["refused"]) == (0.5, 0.5)
        assert any("1 rows are marked as refused" in line for line in e.warnings)
        raw = f'id,text,{mark}\n0001,Lima Peru,yes\n0002,"Oslo, Norway",no\n'
        assert scored(tmp_path, truth, "raw.csv", raw).row()["refused"] == 0.5


def test_a_heading_that_stands_twice_is_said(tmp_path, truth):
    e = scored(tmp_path, truth, "p.csv", "id,lat,lon,lat,lon\n0001,-12.04,-77.03,1,2\n0002,59.91,10.75,3,4\n")
    assert any("lat, lon stands twice in the header" in line for line in e.warnings)
    same = scored(
        tmp_path, truth, "q.csv", "id,lat,lon,lat\n0001,-12.04,-77.03,-12.04\n0002,59.91,10.75,59.91\n"
    )
    assert not any("stands twice" in line for line in same.warnings)


def test_one_refusal_among_several_answers_of_locate_is_none_of_the_row(tmp_path, truth):
    answers = [dict(city="", refused=True), dict(city="Lima", country="Peru", refused=False)]
    row = dict(photo="0001.jpg", city="Lima", country="Peru", lat=-12.04, lon=-77.03, localizability=0.9)
    row |= dict(abstains=False, placed_by="city", answers=answers)
    e = scored(tmp_path, truth, "p.jsonl", json.dumps(row))
    assert (e.row()["acc@25 km"], e.row()["refused"]) == (0.5, 0)


@pytest.mark.parametrize(
    "mark", [dict(abstains=True), dict(refused=True), dict(refused=False, declined=True)]
)
def test_the_mark_of_a_row_counts_whatever_else_it_says(tmp_path, truth, mark):
    row = dict(photo="0001.jpg", city="Lima", country="Peru", lat=-12.04, lon=-77.03, placed_by="city")
    answers = [dict(city="Lima", refused=False), dict(city="Oslo", refused=False)]
    for more in ({}, dict(answers=answers), dict(localizability=0.1)):
        e = scored(tmp_path, truth, "p.jsonl", json.dumps(row | mark | more))
        assert (e.row()["acc@25 km"], e.row()["refused"]) == (0, 0.5)
        assert any("1 rows are marked as refused" in line for line in e.warnings)


@pytest.mark.parametrize("mark", ["parsed,refused", "parsed,pred_refused", "x,model_refused", "x,unanswered"])
def test_a_mark_counts_beside_other_columns(tmp_path, truth, mark):
    rows = "0001,-12.04,-77.03,True,True\n0002,59.91,10.75,True,False\n"
    e = scored(tmp_path, truth, "p.csv", f"id,lat,lon,{mark}\n{rows}")
    assert (e.row()["acc@25 km"], e.row()["refused"]) == (0.5, 0.5)
    assert any("1 rows are marked as refused" in line for line in e.warnings)


def test_an_object_within_a_row_may_repeat_a_name_of_the_row(tmp_path, truth):
    rows = [dict(id="0001", lat=-12.04, lon=-77.03), dict(id="0002", lat=59.91, lon=10.75)]
    for inner in ("result", "response"):
        nested = "".join(json.dumps({"id": r["id"], "error": None, inner: r}) + "\n" for r in rows)
        assert scored(tmp_path, truth, "p.jsonl", nested).row()["acc@25 km"] == 1


def test_headings_in_another_order_midway_are_an_error(tmp_path, truth):
    with pytest.raises(ValueError, match="row 2 holds the headings in another order"):
        scored(tmp_path, truth, "p.csv", "id,lat,lon\n0001,-12.04,-77.03\nid,lon,lat\n0002,10.75,59.91\n")
    with pytest.raises(ValueError, match="a row holds the headings in another order"):
        other = "id,lat,lon\n0001,-12.04,-77.03\nimage,longitude,latitude\n0002,10.75,59.91\n"
        scored(tmp_path, truth, "p.csv", other)
