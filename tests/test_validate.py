"""The checks look at what was said and seen, at nothing else, and every photo gets exactly one row in the ledger."""
import time

import numpy as np
import pandas as pd
import pytest
from datasets import load_from_disk
from hypothesis import given, settings, strategies as st
from PIL import Image as PIL

from globe.distill import CoordinateTeacher, SimulatedTeacher, distill, from_text
from globe.postcards import CLASSES, postcards
from globe.validate import (CHECKS, UNANSWERED, Meaning, Segmenter, by_photo, entities, funnel, judge_again, judge_rows, load_segmenter, measure, tiny_segmenter, validate,
                            visible)


class Masks:
    "A segmenter that is never wrong: it knows the masks of some postcards."
    classes = CLASSES
    def __init__(self, photos): self.known = {i.tobytes(): np.asarray(m) for i, m in zip(photos["image"], photos["mask"])}
    def masks(self, images): return np.stack([self.known[i.tobytes()] for i in images])


@pytest.fixture(scope="module")
def photos(): return postcards(120, seed=7)


@pytest.fixture(scope="module")
def teachers(): return [SimulatedTeacher("simulated-a"), SimulatedTeacher("simulated-b", seed=1), CoordinateTeacher()]


@pytest.fixture(scope="module")
def answers(photos, teachers): return [a for t in teachers for a in t.judge(photos)]


@pytest.fixture(scope="module")
def meaning(): return Meaning()


@pytest.fixture(scope="module")
def result(photos, answers, meaning): return validate(photos, answers, Masks(photos), meaning, progress=False)


# --- entities ---

@pytest.mark.parametrize("text, named", [
    ("A palm tree, two CARS and Cacti.", ["palm tree", "car", "cactus"]),
    ("There are no palm trees or cacti here, but a flag is.", ["flag"]),
    ("No clouds in the sky.", ["sky"]),
    ("Without any mountains the sea reaches far.", ["sea"]),
    ("I don't see a flag. The sign is red.", ["sign"]),
    ("Neither palms nor conifers; only rocks.", ["rock"]),
    ("Mountains are not visible and the lighthouse is absent.", []),
    ("Not only palm trees but also a dome.", ["palm tree", "dome"]),
    ("No doubt the windmill is old.", ["windmill"]),
    ("Signs of age; the town lies at sea level.", []),
    ("instead of a flag there is a sign", ["sign"]),
    ("scarce flagship carpets", []),
    ("", []),
])
def test_entities_are_those_that_are_named_and_not_denied(text, named): assert entities(text) == named


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_gives_known_classes_once(text):
    got = entities(text + " palm trees")
    assert set(got) <= set(CLASSES) and len(got) == len(set(got))


@pytest.mark.parametrize("text", ["no " * 20_000, "palm tree " * 10_000, "is not " * 10_000, "a" * 100_000, "mountain" + " " * 100_000, "n't " * 20_000])
def test_hostile_text_costs_linear_time(text):
    start = time.process_time()
    entities(text)
    assert time.process_time() - start < 1


# --- segmenter ---

def test_a_segmenter_survives_its_folder_and_takes_any_picture(tmp_path):
    s = tiny_segmenter()
    s.save(tmp_path)
    pictures = [PIL.new("RGB", (112, 112), "red"), PIL.new("L", (31, 200)), PIL.new("RGBA", (640, 5), (1, 2, 3, 4)), PIL.new("P", (50, 50))]
    again = load_segmenter(tmp_path)
    assert again.classes == list(CLASSES) and np.array_equal(s.masks(pictures), again.masks(pictures))
    for seen in visible(pictures, again): assert "background" not in seen and sum(seen.values()) <= 1.001 and list(seen.values()) == sorted(seen.values(), reverse=True)


def test_masks_are_read_as_they_are(photos):
    mask = np.asarray(photos[0]["mask"])
    assert visible([photos[0]["mask"]], None)[0] == {CLASSES[c]: round(float((mask == c).mean()), 5) for c in sorted(set(mask.ravel()) - {0}, key=lambda c: -(mask == c).sum())}


# --- meaning ---

def test_alike_reasonings_are_nearer_than_strange_ones(meaning):
    v = meaning(["The flag is blue with a white cross. Conifers grow by the road.", "I see fir trees along the street and a flag with a cross.", "A calm mood and soft colours.", ""])
    assert v[0] @ v[1] > .5 > v[0] @ v[2] and np.linalg.norm(v[3]) == 0 and np.isfinite(v).all()
    assert np.linalg.norm(v[:3], axis=1) == pytest.approx(1, abs=1e-5)


def test_a_sentence_is_embedded_once(meaning, monkeypatch):
    meaning(["Signs are written in Greek script."])
    monkeypatch.setattr(Meaning, "learn", lambda self, s: pytest.fail(str(s)) if s else None)
    assert meaning(["Signs are written in Greek script. " * 3]).shape[0] == 1


# --- ledger ---

def test_every_photo_has_one_row_in_order(photos, result):
    dataset, ledger = result
    assert ledger.id.tolist() == photos["id"] and dataset["id"] == ledger.id[ledger.kept].tolist()
    assert (ledger.kept == (ledger.rejected_by == "")).all() and set(ledger.rejected_by) <= {"", *(c.__name__ for c in CHECKS)}
    f = funnel(ledger)
    assert f.rejected.sum() + len(dataset) == len(photos) and f.reached.iloc[0] == len(photos)


def test_kept_rows_are_right_grounded_and_ready_for_training(photos, result):
    dataset, ledger = result
    true = {r["id"]: r for r in photos}
    assert len(dataset) > 30
    for row in dataset:
        seen = {e["text"]: e["share"] for e in row["entities"]}
        assert true[row["id"]]["localizable"] and set(entities(row["reasoning"])) <= set(seen) and min(seen.values()) >= .002
        assert [p["type"] for p in row["prompt"][0]["content"]] == ["image", "text"] and row["image"].tobytes() == true[row["id"]]["image"].tobytes()


def test_nothing_but_measuring_reads_the_truth_about_errors(photos, answers, meaning, result):
    blind = [{k: v for k, v in a.items() if k != "injected"} for a in answers]
    _, ledger = validate(photos.remove_columns(["localizable", "sentences", "cues"]), blind, Masks(photos), meaning, progress=False)
    assert ledger.rejected_by.tolist() == result[1].rejected_by.tolist()
    with pytest.raises(ValueError, match="only simulated teachers"): measure(ledger)


def test_batches_change_nothing(photos, answers, meaning, result):
    assert validate(photos, answers, Masks(photos), meaning, batch_size=7, progress=False)[1].rejected_by.tolist() == result[1].rejected_by.tolist()


def test_the_folder_the_table_and_the_list_say_the_same(photos, teachers, answers, tmp_path):
    distill(photos, teachers, tmp_path, progress=False)
    names = [t.name for t in teachers]
    from_list, from_folder, from_table = by_photo(answers, names), by_photo(tmp_path, names), by_photo(pd.DataFrame(answers), names)
    assert from_list == from_folder and from_list[1] == from_table[1] == names
    a, b = from_list[0][photos[0]["id"]], from_table[0][photos[0]["id"]]
    assert all(a[t][k] == b[t][k] for t in names for k in ["city", "lat", "confidence", "text"])


def test_a_missing_answer_is_neither_kept_nor_held_against_the_photo(photos, answers, meaning):
    few = photos.select(range(4))
    some = [a for a in answers if not (a["id"] == few[0]["id"] and a["teacher"] == "simulated-b")]
    some = [a | dict(error="HTTP 500") if a["id"] == few[1]["id"] and a["teacher"] == "simulated-a" else a for a in some]
    dataset, ledger = validate(few, some, Masks(photos), meaning, progress=False)
    assert ledger.rejected_by.tolist()[:2] == [UNANSWERED] * 2 and ledger.unanswered.tolist()[:2] == ["simulated-b", "simulated-a"]
    assert not set(dataset["id"]) & set(few["id"][:2]) and funnel(ledger).rejected.iloc[0] == 2
    assert set(measure(ledger).reached) <= {0, 1, 2}


def test_no_answers_at_all_give_an_empty_dataset_with_its_columns(photos, answers, meaning, result):
    other = postcards(3, seed=99)
    dataset, ledger = validate(other, answers, Masks(other), meaning, progress=False)
    assert len(dataset) == 0 and dataset.column_names == result[0].column_names and (ledger.rejected_by == UNANSWERED).all()


def test_answers_that_cannot_be_read_are_rejected(photos, meaning):
    few = photos.select(range(2))
    odd = [from_text(i, "m", t) for i, t in zip(few["id"], ["I would rather not say.", "\ud83d" * 10 + "<think>\ude00</think>"])]
    _, ledger = validate(few, odd, Masks(photos), meaning, progress=False)
    assert ledger.rejected_by.tolist() == ["localizable_enough"] * 2


def test_coordinates_alone_cannot_be_validated(photos):
    with pytest.raises(ValueError, match="at least one language model"): validate(photos, list(CoordinateTeacher().judge(photos)), Masks(photos), progress=False)


def test_thresholds_are_drawn_again_without_looking(result):
    _, ledger = result
    assert judge_again(ledger).equals(ledger)
    strict = judge_again(ledger, grounded=dict(share=.9))
    assert strict.kept.sum() == 0 and not strict[strict.rejected_by == "grounded"].empty
    loose = judge_again(ledger, localizable_enough=dict(score=0.))
    assert "localizable_enough" not in set(loose.rejected_by)


def test_an_unknown_check_is_an_error(photos, answers):
    with pytest.raises(ValueError, match="no such check: localisable"): validate(photos, answers, Masks(photos), localisable=dict(score=1.))


def test_dataset_and_ledger_survive_the_disk(result, tmp_path):
    dataset, ledger = result
    dataset.save_to_disk(tmp_path/"d")
    again = load_from_disk(tmp_path/"d")
    assert again.features == dataset.features and again[0]["entities"] == dataset[0]["entities"]
    ledger.to_parquet(tmp_path/"l.parquet")
    back = pd.read_parquet(tmp_path/"l.parquet")
    assert judge_again(back).rejected_by.tolist() == ledger.rejected_by.tolist() and measure(back).equals(measure(ledger))


# --- measuring ---

def test_the_checks_find_what_was_injected(photos, meaning):
    liar = [SimulatedTeacher("simulated-a", wrong_country=.3, invented=.3, misjudged=0.), SimulatedTeacher("simulated-b", seed=1, misjudged=0.)]
    answers = [a for t in liar for a in t.judge(photos)]
    _, ledger = validate(photos, answers, Masks(photos), meaning, progress=False)
    marks = measure(ledger).set_index("check")
    assert marks.recall["localizable_enough"].startswith("1.00") and marks.recall["agrees_with_truth"].startswith("1.00") and marks.recall["grounded"].startswith("1.00")
    kept = ledger[ledger.kept]
    assert not kept.injected.map(lambda e: any("simulated-a: wrong" in x or "simulated-a: invented" in x for x in e)).any()


def test_the_judges_rows_are_balanced_and_no_photo_is_on_both_sides(photos, result):
    rows = judge_rows(result[1], photos)
    assert len(rows) > 20 and sum(rows["label"]) * 2 == len(rows) and len(set(rows["id"])) == len(rows)
    why = dict(zip(rows["id"], rows["why"]))
    ledger = result[1].set_index("id")
    assert all((w == "kept") == ledger.kept[i] for i, w in why.items()) and set(why.values()) <= {"kept", "not localizable", "wrong place", "ungrounded"}
    other = judge_rows(result[1], photos, seed=5)
    parts = dict(zip(rows["id"], rows["part"]))
    assert all(parts.get(i, p) == p for i, p in zip(other["id"], other["part"])) and set(parts.values()) == {"train", "test"}
