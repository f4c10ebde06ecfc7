"""The checks look at what was said and seen, at nothing else, and every photo gets exactly one row in the ledger."""

import json, os, time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from datasets import Dataset, Image, load_dataset, load_from_disk
from hypothesis import given, settings, strategies as st
from PIL import Image as PIL

from globe.distillation.distill import distill
from globe.distillation.teachers import VLMTeacher, from_text, judgement
from globe.world.simulated import CoordinateTeacher, SimulatedTeacher
from globe.photos.collections import from_folder
from globe.photos.picture_columns import undecoded
from globe.answers.conversations import conversation
from globe.answers.vocabulary import CLASSES
from globe.world.postcards import postcards
from globe.answers.mentions import entities, highlighted, mentions, similar_words
from globe.models.segmenter import load_segmenter, tiny_segmenter, visible
from globe.models.sentences import SentenceEncoder
from globe.photos.official import from_official, image_id, _read_entities, _read_solution
from globe.photos.official_writer import to_official
from globe.validation.cards import export
from globe.settings import SettingsError
from globe.validation import checks
from globe.validation.checks import CHECKS, UNANSWERED, CheckSettings
from globe.validation.dataset import mp16_reason
from globe.validation.ledger import _by_photo, judge_again, validate
from globe.validation.parts import read_ledger, validate_in_parts
from globe.validation.quality import THRESHOLDS, bad_among, funnel, measure, sensitivities
from globe.validation.splits import ablation, judge_rows, place_parts, split
from globe.world.student import student

REAL = Path(
    os.environ.get("GLOBE_REAL") or Path(__file__).resolve().parents[2] / "shared" / "real"
)  # see tests/README.md


class Masks:
    "A segmenter that is never wrong: it knows the masks of some postcards."

    classes = CLASSES

    def __init__(self, photos):
        self.known = {i.tobytes(): np.asarray(m) for i, m in zip(photos["image"], photos["mask"])}

    def masks(self, images):
        return np.stack([self.known[i.tobytes()] for i in images])


@pytest.fixture(scope="module")
def photos():
    return postcards(120, seed=7)


@pytest.fixture(scope="module")
def teachers():
    return [SimulatedTeacher("simulated-a"), SimulatedTeacher("simulated-b", seed=1), CoordinateTeacher()]


@pytest.fixture(scope="module")
def answers(photos, teachers):
    return [a for t in teachers for a in t.judge(photos)]


@pytest.fixture(scope="module")
def encoder():
    return SentenceEncoder()


@pytest.fixture(scope="module")
def result(photos, answers, encoder):
    return validate(photos, answers, Masks(photos), encoder=encoder, watch=False)


# --- entities ---


@pytest.mark.parametrize(
    "text, named",
    [
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
        ("Hardly any palm trees.", []),
        ("Few if any palm trees; a flag.", ["flag"]),
        ("Palm trees: none. Flag: red.", ["flag"]),
        ("Palm trees do not appear.", []),
        ("If it were tropical, there would be palm trees.", []),
        ("Windmills would be expected.", []),
        ("No cars, trucks, palm trees, or signs.", []),
        ("No cars, trucks, vans or palm trees.", []),
        ("No cars, but trucks, palm trees and signs.", ["palm tree", "sign"]),
        ("", []),
    ],
)
def test_entities_are_those_that_are_named_and_not_denied(text, named):
    assert entities(text) == named


ADE = (
    "background",
    "building",
    "sky",
    "tree",
    "road",
    "sidewalk",
    "person",
    "earth",
    "plant",
    "field",
    "signboard",
    "base",
    "case",
    "palm",
    "light",
    "tower",
    "stage",
    "step",
    "hill",
    "plate",
    "minibike",
)


@pytest.mark.parametrize(
    "text, named",
    [
        ("Step by step, and in light of the field of view.", []),
        ("At this stage of the analysis; a stage in my reasoning.", []),
        ("The licence plate is yellow; a case in point, given the base rate.", []),
        (
            "Pine trees and a lighthouse, street signs, a cathedral and scooters.",
            ["tree", "tower", "signboard", "building", "minibike"],
        ),
        ("Palm trees beside a stage, a step and a light.", ["palm", "stage", "step", "light"]),
    ],
)
def test_the_names_of_ade20k_are_things_and_not_idioms(text, named):
    assert entities(text, ADE) == named


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_text_gives_known_classes_once(text):
    got = entities(text + " palm trees")
    assert set(got) <= set(CLASSES) and len(got) == len(set(got))


@pytest.mark.parametrize(
    "text",
    [
        "no " * 20_000,
        "palm tree " * 10_000,
        "is not " * 10_000,
        "a" * 100_000,
        "mountain" + " " * 100_000,
        "n't " * 20_000,
    ],
)
def test_hostile_text_costs_linear_time(text):
    start = time.process_time()
    entities(text)
    assert time.process_time() - start < 1


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_marks_lie_on_words_and_no_text_becomes_html(text):
    text += " <i>palm trees</i> İ <mark>"
    for start, end, c in mentions(text):
        assert text[start:end].strip() == text[start:end] and entities(text[start:end]) == [c]
    import html, re

    assert html.unescape(re.sub(r'<mark title="[^"]*">|</mark>', "", highlighted(text))) == text


# --- segmenter ---


def test_a_segmenter_survives_its_folder_and_takes_any_picture(tmp_path):
    s = tiny_segmenter()
    s.save(tmp_path)
    pictures = [
        PIL.new("RGB", (112, 112), "red"),
        PIL.new("L", (31, 200)),
        PIL.new("RGBA", (640, 5), (1, 2, 3, 4)),
        PIL.new("P", (50, 50)),
    ]
    again = load_segmenter(tmp_path)
    assert again.classes == list(CLASSES) and np.array_equal(s.masks(pictures), again.masks(pictures))
    for seen in visible(pictures, again):
        assert (
            "background" not in seen
            and sum(seen.values()) <= 1.001
            and list(seen.values()) == sorted(seen.values(), reverse=True)
        )


def test_masks_are_read_as_they_are(photos):
    mask = np.asarray(photos[0]["mask"])
    assert visible([photos[0]["mask"]], None)[0] == {
        CLASSES[c]: round(float((mask == c).mean()), 5)
        for c in sorted(set(mask.ravel()) - {0}, key=lambda c: -(mask == c).sum())
    }


# --- sentence encoder ---


def test_alike_reasonings_are_nearer_than_strange_ones(encoder):
    v = encoder(
        [
            "The flag is blue with a white cross. Conifers grow by the road.",
            "I see fir trees along the street and a flag with a cross.",
            "A calm mood and soft colours.",
            "",
        ]
    )
    assert v[0] @ v[1] > 0.5 > v[0] @ v[2] and np.linalg.norm(v[3]) == 0 and np.isfinite(v).all()
    assert np.linalg.norm(v[:3], axis=1) == pytest.approx(1, abs=1e-5)


def test_a_sentence_is_embedded_once(encoder, monkeypatch):
    encoder(["Signs are written in Greek script."])
    monkeypatch.setattr(SentenceEncoder, "learn", lambda self, s: pytest.fail(str(s)) if s else None)
    assert encoder(["Signs are written in Greek script. " * 3]).shape[0] == 1


def test_words_that_no_list_knows_stand_for_the_class_that_they_mean(encoder):
    text = "A mountainscape and an automobile, no boatmen in this calm composition with a tower."
    more = similar_words([text], CLASSES, encoder)
    assert dict(more) == {"mountainscape": "mountain"}, "words of the lists need no encoder"
    assert (
        entities(text, CLASSES, more) == ["mountain", "car"]
        and entities("No mountainscape.", CLASSES, more) == []
    )
    ade = ("wall", "building", "tree", "grass", "boat", "sculpture", "hill")
    text = "A statue on the lawn and a sailboat; the lens is wide."
    assert similar_words([text], ade, encoder) == ()
    assert entities(text, ade) == ["sculpture", "grass", "boat"]
    assert (
        similar_words(["mountainscape"], CLASSES, encoder, 1.1) == similar_words([""], CLASSES, encoder) == ()
    )


# --- ledger ---


def test_every_photo_has_one_row_in_order(photos, result):
    dataset, ledger = result
    assert ledger.id.tolist() == photos["id"] and dataset["id"] == ledger.id[ledger.kept].tolist()
    assert (ledger.kept == (ledger.rejected_by == "")).all() and set(ledger.rejected_by) <= {
        "",
        *(c.__name__ for c in CHECKS),
    }
    f = funnel(ledger)
    assert f.rejected.sum() + len(dataset) == len(photos) and f.reached.iloc[0] == len(photos)


def test_kept_rows_are_right_grounded_and_ready_for_training(photos, result):
    dataset, ledger = result
    true = {r["id"]: r for r in photos}
    assert len(dataset) > 30
    for row in dataset:
        seen = {e["text"]: e["share"] for e in row["entities"]}
        assert (
            true[row["id"]]["localizable"]
            and set(entities(row["reasoning"])) <= set(seen)
            and min(seen.values()) >= 0.002
        )
        assert [p["type"] for p in row["prompt"][0]["content"]] == ["image", "text"] and row[
            "image"
        ].tobytes() == true[row["id"]]["image"].tobytes()


def test_nothing_but_measuring_reads_the_truth_about_errors(photos, answers, encoder, result):
    blind = [{k: v for k, v in a.items() if k != "injected"} for a in answers]
    _, ledger = validate(
        photos.remove_columns(["localizable", "sentences", "cues"]),
        blind,
        Masks(photos),
        encoder=encoder,
        watch=False,
    )
    assert ledger.rejected_by.tolist() == result[1].rejected_by.tolist()
    with pytest.raises(ValueError, match="only simulated teachers"):
        measure(ledger)


def test_batches_change_nothing(photos, answers, encoder, result):
    assert (
        validate(photos, answers, Masks(photos), encoder=encoder, batch_size=7, watch=False)[
            1
        ].rejected_by.tolist()
        == result[1].rejected_by.tolist()
    )


def test_one_broken_picture_costs_one_row(photos, answers, encoder):
    few, spoilt = photos.select(range(4)), postcards(4, seed=7).cast_column("image", Image(decode=False))
    bytes_of = [r["image"] for r in spoilt]
    bytes_of[1], bytes_of[2] = dict(bytes=b"\xff\xd8 not a picture", path=None), None
    spoilt = Dataset.from_list([r | dict(image=b) for r, b in zip(spoilt, bytes_of)], features=few.features)
    some = [
        a | dict(error="picture: broken") if a["id"] == few[1]["id"] and a["teacher"] == "simulated-a" else a
        for a in answers
    ]
    for said, why in ((answers, "picture: not a picture"), (some, "simulated-a (picture: broken)")):
        dataset, ledger = validate(spoilt, said, Masks(photos), encoder=encoder, watch=False)
        assert (
            ledger.rejected_by.tolist()[1:3] == [UNANSWERED] * 2
            and ledger.unanswered[1].startswith(why)
            and ledger.unanswered[2] == "picture: there is none"
        )
        whole = validate(few, answers, Masks(photos), encoder=encoder, watch=False)[1]
        assert ledger.rejected_by.tolist()[::3] == whole.rejected_by.tolist()[::3]


def test_no_path_of_a_row_is_opened_and_what_is_kept_holds_its_bytes(
    photos, answers, encoder, result, tmp_path
):
    kept = result[1].id[result[1].kept].tolist()
    named, foreign, *_ = kept
    rows = list(undecoded(photos))
    for row, image in zip(rows, photos["image"]):
        image.save(path := tmp_path / f"{row['id']}.ppm")
        at_path = dict(bytes=None, path=str(path))
        if row["id"] == named:
            row |= dict(image=at_path, mask=at_path)
        elif row["id"] == foreign:
            row |= dict(image=dict(bytes=path.read_bytes(), path=None))
    given = Dataset.from_list(rows, features=undecoded(photos).features)
    for column in ("image", "mask"):
        given = given.cast_column(column, Image())
    _, ledger = validate(given, answers, Masks(photos), encoder=encoder, watch=False)
    in_parts(given, answers, encoder, tmp_path / "parts", Masks(photos))
    for found in (ledger, read_ledger(tmp_path / "parts")):
        why = found.set_index("id").unanswered
        assert why[named] == "picture: the row only names a file, which is not opened"
        assert why[foreign].startswith("picture: not a picture in a format that is read")
        assert found.id[found.kept].tolist() == kept[2:]
    written = [r for f in (tmp_path / "parts" / "data").glob("*") for r in pd.read_parquet(f).image]
    assert len(written) == len(kept) - 2 and all(picture["bytes"] for picture in written)


def test_no_photos_give_an_empty_dataset_and_ledger(photos, answers, encoder, result, tmp_path):
    dataset, ledger = validate(photos.select([]), answers, Masks(photos), encoder=encoder, watch=False)
    assert (
        len(dataset) == len(ledger) == 0
        and dataset.features == result[0].features
        and funnel(ledger).reached.sum() == 0
    )
    assert len(in_parts(photos.select([]), answers, encoder, tmp_path, Masks(photos))) == 0


def test_a_teacher_that_said_nothing_is_named_and_a_single_one_is_no_agreement(photos, answers, encoder):
    one = [a for a in answers if a["teacher"] == "simulated-a"]
    with pytest.raises(ValueError, match="simulated-bb"):
        _by_photo(one, ["simulated-a", "simulated-bb"])
    with pytest.warns(UserWarning, match="one teacher"):
        _by_photo(one)


def test_rows_find_their_photos_by_id(photos, result):
    dataset, ledger = result
    turned = ledger[::-1].reset_index(drop=True)
    assert {r["id"]: r["image"].tobytes() for r in judge_rows(turned, photos)}.items() <= {
        r["id"]: r["image"].tobytes() for r in photos
    }.items()
    assert mp16_reason(photos, turned)["id"][:] == dataset["id"][:][::-1]
    with pytest.raises(ValueError, match="other photos"):
        mp16_reason(photos.select(range(3)), ledger)
    with pytest.raises(ValueError, match="twice"):
        mp16_reason(photos.select([0, 0]), ledger)


def test_what_a_loose_check_lets_through_is_stored(photos, answers, encoder, result):
    class Faint(Masks):
        "A thing that is named covers a thousandth of each picture."

        def masks(self, images):
            return (
                np.where(np.arange(10_000) < 10, CLASSES.index("flag"), 0)
                .reshape(1, 100, 100)
                .repeat(len(images), 0)
            )

    said = [a | dict(reasoning="A flag.") if a["text"] else a for a in answers]
    settings = CheckSettings(min_area_share=0.0005)
    loose, ledger = validate(photos, said, Faint(photos), settings, encoder, watch=False)
    assert (
        len(loose) > 30
        and all(e == [dict(text="flag", share=0.001)] for e in loose["entities"])
        and all(ablation(ledger, photos, settings)["multi"][0]["entities"])
    )


def test_the_folder_the_table_and_the_list_say_the_same(photos, teachers, answers, tmp_path):
    distill(photos, teachers, tmp_path, watch=False)
    names = [t.name for t in teachers]
    from_list, from_folder, from_table = (
        _by_photo(answers, names),
        _by_photo(tmp_path, names),
        _by_photo(pd.DataFrame(answers), names),
    )
    bare = {
        id: {t: {k: v for k, v in record.items() if k != "picture"} for t, record in of.items()}
        for id, of in from_folder[0].items()
    }
    assert from_list == (bare, from_folder[1]) and from_list[1] == from_table[1] == names
    a, b = from_list[0][photos[0]["id"]], from_table[0][photos[0]["id"]]
    assert all(a[t][k] == b[t][k] for t in names for k in ["city", "lat", "confidence", "text"])


def test_a_missing_answer_is_neither_kept_nor_held_against_the_photo(photos, answers, encoder):
    few = photos.select(range(4))
    some = [a for a in answers if not (a["id"] == few[0]["id"] and a["teacher"] == "simulated-b")]
    some = [
        a | dict(error="HTTP 500") if a["id"] == few[1]["id"] and a["teacher"] == "simulated-a" else a
        for a in some
    ]
    dataset, ledger = validate(few, some, Masks(photos), encoder=encoder, watch=False)
    assert ledger.rejected_by.tolist()[:2] == [UNANSWERED] * 2 and ledger.unanswered.tolist()[:2] == [
        "simulated-b",
        "simulated-a",
    ]
    assert not set(dataset["id"]) & set(few["id"][:2]) and funnel(ledger).rejected.iloc[0] == 2
    assert set(measure(ledger).reached) <= {0, 1, 2}


def test_no_answers_at_all_give_an_empty_dataset_with_its_columns(photos, answers, encoder, result):
    other = postcards(3, seed=99)
    dataset, ledger = validate(other, answers, Masks(other), encoder=encoder, watch=False)
    assert (
        len(dataset) == 0
        and dataset.column_names == result[0].column_names
        and (ledger.rejected_by == UNANSWERED).all()
    )


def test_answers_that_cannot_be_read_are_rejected(photos, encoder):
    few = photos.select(range(2))
    odd = [
        from_text(i, "m", t)
        for i, t in zip(few["id"], ["I would rather not say.", "\ud83d" * 10 + "<think>\ude00</think>"])
    ]
    _, ledger = validate(few, odd, Masks(photos), encoder=encoder, watch=False)
    assert ledger.rejected_by.tolist() == funnel(ledger).check.tolist()[:1] * 2 == ["unreadable"] * 2
    assert (
        ledger.localizability.isna().all()
        and not len(judge_rows(ledger, few))
        and set(measure(ledger.assign(injected=[[], []])).reached) == {0}
    )


def test_coordinates_alone_cannot_be_validated(photos):
    with pytest.raises(ValueError, match="at least one language model"):
        validate(photos, list(CoordinateTeacher().judge(photos)), Masks(photos), watch=False)


def test_thresholds_are_drawn_again_without_looking(result):
    _, ledger = result
    assert judge_again(ledger).equals(ledger)
    strict = judge_again(ledger, CheckSettings(min_area_share=0.9))
    assert strict.kept.sum() == 0 and not strict[strict.rejected_by == "grounded"].empty
    loose = judge_again(ledger, CheckSettings(min_localizability=0.0))
    assert "localizable_enough" not in set(loose.rejected_by)


@pytest.mark.parametrize(
    "wrong", [dict(min_localisability=0.5), dict(min_localizability=2.0), dict(min_mentions=0.5)]
)
def test_a_threshold_that_cannot_be_is_an_error(wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        CheckSettings(**wrong)


def test_dataset_and_ledger_survive_the_disk(result, tmp_path):
    dataset, ledger = result
    dataset.save_to_disk(tmp_path / "d")
    again = load_from_disk(tmp_path / "d")
    assert again.features == dataset.features and again[0]["entities"] == dataset[0]["entities"]
    ledger.to_parquet(tmp_path / "l.parquet")
    back = pd.read_parquet(tmp_path / "l.parquet")
    assert judge_again(back).rejected_by.tolist() == ledger.rejected_by.tolist() and measure(back).equals(
        measure(ledger)
    )


# --- in parts ---


class Counted(Masks):
    "Counts the pictures that it looks at, and dies after `most`."

    def __init__(self, photos, most=10**9):
        super().__init__(photos)
        self.seen, self.most = 0, most

    def masks(self, images):
        self.seen += len(images)
        if self.seen > self.most:
            raise KeyboardInterrupt
        return super().masks(images)


def in_parts(photos, answers, encoder, folder, segmenter, **how):
    return validate_in_parts(photos, answers, segmenter, folder, encoder=encoder, part=50, watch=False, **how)


def test_parts_make_what_one_piece_makes(photos, answers, encoder, result, tmp_path):
    dataset, ledger = result
    kept, again = in_parts(photos, answers, encoder, tmp_path, Masks(photos)), read_ledger(tmp_path)
    assert kept.features == dataset.features and list(kept) == list(dataset)
    assert (
        funnel(again).equals(funnel(ledger))
        and measure(again).equals(measure(ledger))
        and judge_again(again).rejected_by.tolist() == ledger.rejected_by.tolist()
    )
    assert again.id.tolist() == ledger.id.tolist() and again.reasoning.tolist() == ledger.reasoning.tolist()


def test_a_validation_that_is_interrupted_continues_with_its_next_part(photos, answers, encoder, tmp_path):
    first = Counted(photos, most=70)
    with pytest.raises(KeyboardInterrupt):
        in_parts(photos, answers, encoder, tmp_path, first)
    assert [p.name for p in (tmp_path / "ledger").iterdir()] == ["000000000.parquet"]
    second, third = Counted(photos), Counted(photos)
    kept = in_parts(photos, answers, encoder, tmp_path, second)
    again = in_parts(photos, answers, encoder, tmp_path, third)
    assert (second.seen, third.seen) == (70, 0) and list(kept) == list(again) == list(
        in_parts(photos, answers, encoder, tmp_path / "whole", Masks(photos))
    )


def test_a_part_in_which_answers_were_missing_is_looked_at_again(photos, answers, encoder, result, tmp_path):
    late = photos[110]["id"]
    in_parts(photos, [a for a in answers if a["id"] != late], encoder, tmp_path, Masks(photos))
    assert (read_ledger(tmp_path).rejected_by == UNANSWERED).sum() == 1
    segmenter = Counted(photos)
    kept = in_parts(photos, answers, encoder, tmp_path, segmenter)
    assert segmenter.seen == 20 and kept["id"][:] == result[0]["id"][:]
    in_parts(photos.select(range(60)), answers, encoder, tmp_path / "few", Masks(photos))
    segmenter = Counted(photos)
    in_parts(photos, answers, encoder, tmp_path / "few", segmenter)
    assert segmenter.seen == 70, "photos were added"


def test_a_part_with_a_broken_picture_is_looked_at_once(photos, answers, encoder, tmp_path):
    broken = [
        judgement(a["id"], a["teacher"], error="picture: cannot be read") if a["id"] == photos[3]["id"] else a
        for a in answers
    ]
    segmenter = Counted(photos)
    for n in (119, 119):
        in_parts(photos, broken, encoder, tmp_path, segmenter)
        assert segmenter.seen == n


def test_parts_know_the_labels_that_they_were_checked_against(photos, answers, encoder, tmp_path):
    assert len(in_parts(photos, answers, encoder, tmp_path, Masks(photos)))
    wrong = (
        photos.remove_columns(["city", "country"])
        .add_column("city", ["Tokyo"] * len(photos))
        .add_column("country", ["Japan"] * len(photos))
    )
    assert not any(
        c != "Japan" for c in in_parts(wrong, answers, encoder, tmp_path, Masks(photos))["country"]
    )


def test_an_export_needs_the_ledger_of_its_rows(result, teachers, tmp_path):
    dataset, ledger = result
    with pytest.raises(ValueError, match="other photos"):
        export(dataset, ledger[ledger.id != dataset[0]["id"]], tmp_path, [t.name for t in teachers])


def test_one_city_in_two_spellings_is_in_one_part():
    for one, other in [("Québec", "Quebec"), ("Málaga", "Malaga"), ("SÃO PAULO".title(), "Sao Paulo")]:
        assert len(set(place_parts(["XX"] * 2, [one, other], unseen=0))) == 1
    assert len(place_parts(["FR", "DE", "IT", None], ["Paris", None, "Rome", ""])) == 4


@pytest.mark.parametrize(
    "text, named",
    [
        ("The sea isn't visible.", []),
        ("Palm trees aren't present.", []),
        ("Palm trees cannot be seen.", []),
        ("A flag could not be found.", []),
        ("Flags are entirely absent.", []),
        ("No snow-capped mountains.", []),
        ("There is no mountain road.", []),
        ("Zero palm trees.", []),
        ("Without people, the palm trees dominate.", ["palm tree"]),
        ("The sea is visible; palm trees are present.", ["sea", "palm tree"]),
    ],
)
def test_what_is_denied_in_other_words(text, named):
    assert entities(text) == named


def test_talk_of_steps_and_daylight_names_no_thing():
    ade = ("wall", "sky", "step", "light")
    for text in (
        "Step 1: Look at the sky.",
        "First step: the sky.",
        "In the next step I weigh the sky.",
        "The light blue sky.",
        "Natural light fills the sky.",
    ):
        assert entities(text, ade) == ["sky"]
    assert entities("A light hangs over the steps.", ade) == ["light", "step"]


def test_a_part_without_any_answered_photo_is_a_part_of_the_ledger(photos, answers, encoder, tmp_path):
    few, last = photos.select(range(11)), photos[10]["id"]
    said = [a | (dict(error="refused: filtered", text="") if a["id"] == last else {}) for a in answers]
    how = dict(encoder=encoder, part=10, watch=False)
    validate_in_parts(few, said, Masks(photos), tmp_path, **how)
    assert read_ledger(tmp_path).id.tolist() == few["id"][:]


def test_a_folder_is_for_one_way_of_making_its_parts(photos, answers, encoder, tmp_path):
    few, see = photos.select(range(30)), Masks(photos)
    how = dict(encoder=encoder, part=10, watch=False)
    kept = validate_in_parts(few, answers, see, tmp_path, **how)
    for other, what in (
        (dict(part=7), "part"),
        (dict(settings=CheckSettings(word_similarity=0.8)), "word_similarity"),
        (dict(teachers=["simulated-b", "simulated-a"]), "teachers"),
        (dict(settings=CheckSettings(min_localizability=0.9)), "min_localizability"),
    ):
        with pytest.raises(ValueError, match=f"other {what}; use another folder"):
            validate_in_parts(few, answers, see, tmp_path, **how | other)
    with pytest.raises(ValueError, match="segmenter"):
        validate_in_parts(few, answers, tiny_segmenter(), tmp_path, **how)
    less = validate_in_parts(few.select(range(15)), answers, see, tmp_path, **how)
    assert read_ledger(tmp_path).id.tolist() == few["id"][:15] and less["id"][:] == [
        i for i in kept["id"] if i in few["id"][:15]
    ]


def test_parts_of_which_nothing_is_kept_are_no_rows(photos, answers, encoder, result, tmp_path):
    strict = CheckSettings(min_mentions=99)
    kept = in_parts(photos, answers, encoder, tmp_path, Masks(photos), settings=strict)
    assert (
        len(kept) == 0 and kept.features == result[0].features and len(read_ledger(tmp_path)) == len(photos)
    )


def test_parts_are_exported_as_one_piece_is(photos, answers, encoder, result, teachers, tmp_path):
    names = [t.name for t in teachers]
    kept = in_parts(photos, answers, encoder, tmp_path / "parts", Masks(photos))
    one, many = (
        export(*result, tmp_path / "one", names),
        export(kept, tmp_path / "parts", tmp_path / "many", names),
    )
    assert (tmp_path / "one" / "README.md").read_text() == (tmp_path / "many" / "README.md").read_text()
    assert all(list(one[p]) == list(many[p]) for p in one) and len(
        pd.read_parquet(tmp_path / "many" / "ledger.parquet")
    ) == len(photos)


# --- measuring ---


def test_the_checks_find_what_was_injected(photos, encoder):
    liar = [
        SimulatedTeacher("simulated-a", wrong_country=0.3, invented=0.3, misjudged=0.0),
        SimulatedTeacher("simulated-b", seed=1, misjudged=0.0),
    ]
    answers = [a for t in liar for a in t.judge(photos)]
    _, ledger = validate(photos, answers, Masks(photos), encoder=encoder, watch=False)
    marks = measure(ledger).set_index("check")
    assert (
        marks.recall["localizable_enough"].startswith("1.00")
        and marks.recall["agrees_with_truth"].startswith("1.00")
        and marks.recall["grounded"].startswith("1.00")
    )
    kept = ledger[ledger.kept]
    assert len(kept) > 5
    assert not kept.injected.map(
        lambda e: any("simulated-a: wrong" in x or "simulated-a: invented" in x for x in e)
    ).any()


def test_the_judges_rows_are_balanced_and_no_photo_is_on_both_sides(photos, result):
    rows = judge_rows(result[1], photos)
    assert len(rows) > 20 and sum(rows["label"]) * 2 == len(rows) and len(set(rows["id"])) == len(rows)
    why = dict(zip(rows["id"], rows["why"]))
    ledger = result[1].set_index("id")
    assert all((w == "kept") == ledger.kept[i] for i, w in why.items()) and set(why.values()) <= {
        "kept",
        "not localizable",
        "wrong place",
        "ungrounded",
    }
    other = judge_rows(result[1], photos, seed=5)
    parts = dict(zip(rows["id"], rows["part"]))
    assert all(parts.get(i, p) == p for i, p in zip(other["id"], other["part"])) and set(parts.values()) == {
        "train",
        "test",
    }


def test_each_threshold_is_swept_with_the_others_as_they_are(result):
    _, ledger = result
    used = CheckSettings(min_similarity=0.7, min_area_share=0.01)
    swept = sensitivities(ledger, used)
    now = judge_again(ledger, used)
    assert swept[swept.value == swept.used].kept.unique().tolist() == [now.kept.sum()] and len(
        swept[swept.value == swept.used]
    ) == len(THRESHOLDS)
    for (_, name), rows in swept.groupby(["check", "threshold"]):
        grows = name in ("max_error_km", "min_confidence", "max_disagreement_km")  # looser as the value grows
        assert rows.kept.is_monotonic_increasing if grows else rows.kept.is_monotonic_decreasing, name
    known = swept[swept.kept > 0]
    assert ((known.low <= known.bad_share + 1e-9) & (known.bad_share <= known.high + 1e-9)).all()


def test_the_ablation_sets_are_of_equal_size_and_each_is_cleaner_than_the_one_before(photos, encoder):
    liar = [
        SimulatedTeacher("simulated-a", invented=0.3, wrong_city=0.3),
        SimulatedTeacher("simulated-b", seed=1),
    ]
    _, ledger = validate(
        photos, [a for t in liar for a in t.judge(photos)], Masks(photos), encoder=encoder, watch=False
    )
    sets = ablation(ledger, photos)
    assert list(sets) == ["random", "single", "multi"] and {len(d) for d, _ in sets.values()} == {
        ledger.kept.sum()
    }
    shares = [bad_among(rows)["bad_share"] for _, rows in sets.values()]
    assert shares[0] > shares[1] > shares[2] == 0
    for name, (data, rows) in sets.items():
        assert (
            data["id"] == rows.id.tolist()
            and data["reasoning"] == rows.reasoning.tolist()
            and len(set(data["id"])) == len(data)
        )
        assert {r["id"]: r["city"] for r in data}.items() <= {r["id"]: r["city"] for r in photos}.items(), (
            "labels are the truth"
        )
    assert set(sets["multi"][1].id) <= set(ledger.id[ledger.kept])
    again, other, few = (
        ablation(ledger, photos),
        ablation(ledger, photos, seed=1),
        ablation(ledger, photos, size=5),
    )
    assert again["random"][1].id.tolist() == sets["random"][1].id.tolist() != other["random"][
        1
    ].id.tolist() and {len(d) for d, _ in few.values()} == {5}


def test_where_errors_are_not_known_no_share_is_claimed(photos, answers, encoder):
    blind = [{k: v for k, v in a.items() if k != "injected"} for a in answers]
    _, ledger = validate(photos, blind, Masks(photos), encoder=encoder, watch=False)
    assert bad_among(ledger)["bad"] is None and ablation(ledger, photos)["multi"][1].kept.all()


# --- the dataset as people expect it ---


def places(d):
    return set(zip(d["country_code"], d["city"]))


def test_no_city_is_in_two_parts_and_the_test_part_has_countries_of_its_own(result):
    dataset, _ = result
    parts = split(dataset, unseen=0.2)
    assert sum(map(len, parts.values())) == len(dataset) and len(parts["train"]) > len(dataset) / 3
    assert not (
        places(parts["train"]) & places(parts["validation"])
        | places(parts["train"]) & places(parts["test"])
        | places(parts["validation"]) & places(parts["test"])
    )
    unseen = (
        set(parts["test"]["country_code"])
        - set(parts["train"]["country_code"])
        - set(parts["validation"]["country_code"])
    )
    assert len(unseen) >= round(0.2 * len(set(dataset["country_code"])))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["FR", "DE", "NA", ""]), st.text(max_size=5)), max_size=40),
    st.randoms(),
)
def test_a_place_keeps_its_part_whatever_else_is_there(rows, rng):
    before = dict(zip(rows, place_parts(*zip(*rows), unseen=0.0))) if rows else {}
    more = rows + [(c, city + "x") for c, city in rows]
    rng.shuffle(more)
    after = dict(zip(more, place_parts(*zip(*more), unseen=0.0))) if more else {}
    assert before.items() <= after.items() and set(after.values()) <= {"train", "validation", "test"}


def test_an_export_loads_without_a_script_and_its_card_tells_all(result, teachers, tmp_path):
    dataset, ledger = result
    names = [t.name for t in teachers]
    parts = export(
        dataset,
        ledger,
        tmp_path / "out",
        names,
        CheckSettings(min_area_share=0.01),
        rows=16,
        title='Postcards: "a test"',
    )
    assert (
        len(list((tmp_path / "out" / "data").glob("train-*-of-*.parquet")))
        == -(-len(parts["train"]) // 16)
        > 1
    )
    again = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    for name, d in parts.items():
        assert (
            again[name].features == d.features
            and again[name]["id"] == d["id"]
            and set(d["teacher"]) <= {"simulated-a"}
        )
        if len(d):
            assert again[name][0]["image"].tobytes() == d[0]["image"].tobytes()
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    _, front, text = card.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["pretty_name"] == 'Postcards: "a test"' and {
        f["split"] for f in about["configs"][0]["data_files"]
    } == {n for n, d in parts.items() if len(d)}
    for said in (
        "simulated-a, simulated-b, simulated-coordinates: simulations",
        "| grounded | min_area_share | 0.01 |",
        "teacher-1",
        "Responsible use",
        "globe distill",
        dataset[0]["licence"],
        "| train |",
    ):
        assert said in text, said
    assert all(f"| {c} |" in text for c in parts["train"].column_names) and "{" not in text.split("```")[0]
    assert pd.read_parquet(tmp_path / "out" / "ledger.parquet").id.tolist() == ledger.id.tolist()
    export(dataset, ledger, tmp_path / "out", names)
    assert len(list((tmp_path / "out" / "data").glob("train-*.parquet"))) == 1, (
        "files of an earlier export are gone"
    )
    assert "teacher" not in dataset.column_names


@pytest.mark.parametrize("n", [0, 1])
def test_parts_without_rows_are_exported(result, n, tmp_path):
    dataset, ledger = result
    parts = export(dataset.select(range(n)), ledger, tmp_path, ["simulated-a"])
    assert (
        sum(map(len, parts.values())) == n
        and all(d.features == parts["train"].features for d in parts.values())
        and len(list((tmp_path / "data").iterdir())) == n
    )


def test_nothing_leaves_the_machine_unless_a_repository_is_named(result, tmp_path, monkeypatch):
    import huggingface_hub

    calls = []

    class Api:
        def create_repo(self, name, **k):
            calls.append((name, k["private"], k["repo_type"]))

        def upload_folder(self, **k):
            calls.append((k["repo_id"], sorted(p.name for p in k["folder_path"].iterdir())))

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    export(*result, tmp_path / "out", ["simulated-a"])
    assert not calls
    export(*result, tmp_path / "out", ["simulated-a"], push_to="me/mp16-reason")
    assert calls == [
        ("me/mp16-reason", True, "dataset"),
        ("me/mp16-reason", ["README.md", "data", "ledger.parquet"]),
    ]


def test_the_official_files_go_there_and_back(result, tmp_path):
    from globe.photos.benchmarks import load_benchmark

    dataset, _ = result
    few = dataset.select(range(12))
    back = from_official(to_official(few, tmp_path / "train").parent, conversation("train"), ledger=[])
    told = lambda d: [
        (
            r["id"],
            r["lat"],
            r["lon"],
            r["city"],
            r["country"],
            r["country_code"],
            r["reasoning"],
            [e["text"] for e in r["entities"]],
            r["prompt"],
            r["image"].size,
            r["licence"],
        )
        for r in d
    ]
    assert told(back) == told(few)
    known = {"state", "label_source", "km", "on_land"}  # which a postcard does not say
    assert set(back.column_names) == set(few.column_names) | known
    test = load_benchmark("mp16-reason-test", to_official(few, tmp_path / "test", "test").parent)
    assert [(r["id"], r["city"], r["country"], r["lat"]) for r in test] == [
        (r["id"], r["city"], r["country"], r["lat"]) for r in few
    ]
    import pyarrow.parquet as pq

    row = pq.read_table(tmp_path / "train" / "mp16-reason-train.parquet").to_pylist()[0]
    assert (
        row["images"][0]["bytes"].startswith(b"\xff\xd8")
        and row["__#solution"] == f"<country>{few[0]['country']}</country><city>{few[0]['city']}</city>"
    )


def test_an_official_csv_with_pictures_beside_it_is_read(result, tmp_path):
    dataset, _ = result
    few = dataset.select(range(3))
    to_official(few, tmp_path, "test")
    pd.DataFrame(
        [
            dict(
                IMG_ID=image_id(r["id"]),
                LAT=r["lat"],
                LON=r["lon"],
                response=r["reasoning"],
                entities=str([dict(text=e["text"]) for e in r["entities"]]),
                **{"__#solution": f"<country>{r['country']}</country> <city>{r['city']}</city>"},
            )
            for r in few
        ]
    ).to_csv(tmp_path / "mp16-reason-train.csv", index=False)
    back = from_official(tmp_path, conversation("train"), ledger=[])
    assert [(r["reasoning"], r["city"], r["country"], len(r["entities"])) for r in back] == [
        (r["reasoning"], r["city"], r["country"], len(r["entities"])) for r in few
    ]
    pd.DataFrame([dict(IMG_ID="a", LAT=1, LON=1)]).to_csv(tmp_path / "mp16-reason-train.csv", index=False)
    with pytest.raises(ValueError, match="lacks .*response"):
        from_official(tmp_path, conversation("train"), ledger=[])


@pytest.mark.parametrize("prompt", [(), [], None, "Where is this?", [{"role": "user"}]])
def test_official_files_need_a_conversation(tmp_path, prompt):
    with pytest.raises(ValueError, match="conversation"):
        from_official(tmp_path, prompt)


@pytest.mark.parametrize(
    "id, name", [("7e/c3/8163912402.jpg", "7e_c3_8163912402"), ("a.b.JPEG", "a.b"), ("p1", "p1")]
)
def test_ids_become_those_of_the_official_files(id, name):
    assert image_id(id) == name


def test_two_photos_do_not_share_an_official_id(result, tmp_path):
    rows = [dict(r, id=i) for r, i in zip(result[0].select(range(2)), ["a/b.jpg", "a_b.png"])]
    with pytest.raises(ValueError, match="same IMG_ID"):
        to_official(Dataset.from_list(rows, features=result[0].features), tmp_path)


@pytest.mark.parametrize(
    "value, texts",
    [
        ("[{'text': 'tree'}, {'text': 'sea'}]", ["tree", "sea"]),
        ('[{"text": "tree"}]', ["tree"]),
        (np.array([dict(text="a")], dtype=object), ["a"]),
        ("", []),
        ("nan", []),
        (None, []),
        (3.0, []),
        ("[" * 5000, []),
        ("__import__('os')", []),
        ("['tree']", ["tree"]),
        ([dict(name="x")], []),
    ],
)
def test_entities_of_any_file_are_read_or_empty(value, texts):
    assert [e["text"] for e in _read_entities(value)] == texts


def test_solutions_are_read_in_any_order():
    assert (
        _read_solution("<city> Köln </city>\n<country>Germany</country>") == ("Köln", "Germany")
        and _read_solution("Köln") == ("", "")
        and _read_solution(float("nan")) == ("", "")
    )


# --- real photographs ---


def test_real_photographs_go_the_whole_road(encoder, tmp_path):
    if not (REAL / "photos_manifest.csv").exists():
        pytest.skip("real photographs not at hand (GLOBE_REAL)")
    pictures = from_folder(REAL, [])
    teachers = [
        VLMTeacher(student(0, hidden=48, layers=1, vision=32, depth=1), "student", max_new_tokens=8),
        SimulatedTeacher("simulated-a"),
        CoordinateTeacher(),
    ]
    counts = distill(pictures, teachers, tmp_path / "answers", watch=False)
    assert (
        counts.asked.tolist() == [113] * 3
        and counts.failed.sum() == 0
        and distill(pictures, teachers, tmp_path / "answers", watch=False).asked.sum() == 0
    )
    segmenter, names = tiny_segmenter(), [t.name for t in teachers]
    _, strict = validate(
        pictures, tmp_path / "answers", segmenter, encoder=encoder, teachers=names, watch=False
    )
    assert strict.kept.sum() == 0 and (strict.lead == "student").all() and len(strict) == 113, (
        "an untrained student leads nowhere"
    )
    loose = CheckSettings(min_mentions=0)  # the simulation knows labels, no picture: it names nothing
    kept = validate_in_parts(
        pictures,
        tmp_path / "answers",
        segmenter,
        tmp_path / "parts",
        loose,
        encoder,
        names[1:],
        part=40,
        watch=False,
    )
    ledger = read_ledger(tmp_path / "parts")
    assert (
        ledger.id.tolist() == pictures["id"][:]
        and len(kept) == ledger.kept.sum() > 50
        and ledger.shows_place.isna().all()
    )
    written = export(kept, tmp_path / "parts", tmp_path / "out", names[1:], loose)
    card, again = (
        (tmp_path / "out" / "README.md").read_text(),
        load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache")),
    )
    assert "**simulated-a, simulated-coordinates: simulations" in card and all(
        licence in card for licence in set(kept["licence"]) - {None, ""}
    )
    assert sum(d.num_rows for d in again.values()) == len(kept) and all(
        not r["image"].getexif() for r in again["train"]
    )
    empty = export(
        validate(pictures, tmp_path / "answers", segmenter, encoder=encoder, teachers=names, watch=False)[0],
        strict,
        tmp_path / "none",
        names,
    )
    assert (
        not sum(map(len, empty.values())) and "| grounded |" in (tmp_path / "none" / "README.md").read_text()
    )


def _speaker(teacher, city, country="Germany", **stated):
    "A judgement of a language model."
    told = json.dumps(dict(city=city, country=country) | stated)
    return from_text("p", teacher, f"<think>A street.</think> {told}") | dict(localizability=0.9)


def _numbers(photo, lead, other, coordinate=None):
    "Ledger numbers of place and agreement."
    coordinates = [judgement("p", "c", **coordinate)] if coordinate else []
    return checks.place_numbers(lead, photo) | checks.agreement_numbers(lead, [other], coordinates)


def test_a_language_model_that_states_a_coordinate_stays_a_language_model(photos, encoder):
    photo = photos[0]
    where = dict(latitude=photo["lat"], longitude=photo["lon"])
    said = [
        _speaker(t, photo["city"], photo["country"], **where) | dict(id=photo["id"]) for t in ("a", "b")
    ] + [judgement(photo["id"], "c", lat=photo["lat"], lon=photo["lon"], confidence=0.9)]
    one = photos.select([0])
    _, ledger = validate(one, said, Masks(one), encoder=encoder, watch=False)
    row = ledger.iloc[0]
    assert row.lead == "a" and row.same_place == 1 and row.coordinate_sure == 0.9
    assert row.km < 1 and row.kind == "coordinate" and row.radius_km == 0


def test_a_region_is_no_town_in_any_check():
    s = CheckSettings()
    photo = dict(city="Ingolstadt", country="Germany", lat=48.763, lon=11.425)
    town, region = _speaker("a", "Ingolstadt"), _speaker("a", "Bavaria")
    assert checks.agrees_with_truth(_numbers(photo, town, town), s)
    numbers = _numbers(photo, region, region, dict(lat=47.6, lon=10.7, confidence=0.9))
    assert numbers["km"] < 25 and not checks.agrees_with_truth(numbers, s)
    assert (numbers["kind"], numbers["same_place"]) == ("region", 1.0)
    assert _numbers(photo, town, region)["same_place"] == 0
    near = dict(lat=50.6, lon=12.0, confidence=0.9)  # 190 km from the middle: within Bavaria or beside it
    agreed = dict(similarity=0.9) | _numbers(photo, region, region, near)
    assert checks.teachers_agree(agreed, s)
    assert checks.teachers_agree(agreed, s.changed(max_disagreement_km=25.0)) == (
        agreed["coordinate_km"] <= agreed["radius_km"]
    )


def test_a_photo_within_an_island_is_on_it():
    s = CheckSettings()
    port = dict(city="Puerto del Rosario", country="Spain", lat=28.5, lon=-13.86)
    numbers = _numbers(port, _speaker("a", "Fuerteventura", "Spain"), _speaker("b", port["city"], "Spain"))
    assert 0 < numbers["km"] < numbers["radius_km"] and numbers["kind"] == "island"
    assert numbers["same_place"] == 1 and not numbers["city_right"]
    assert checks.agrees_with_truth(numbers, s.changed(max_error_km=1.0))
    assert not checks.agrees_with_truth(numbers | dict(km=60.0), s), "beyond the island"
    assert checks.agrees_with_truth(dict(country_right=True, city_right=False, km=20.0), s), "an old ledger"
