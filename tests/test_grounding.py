"R_vis: what is named and denied is found, and what each mode pays."

import csv, hashlib, os, time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from globe.answers.completions import said_elsewhere
from globe.answers.mentions import mentions_of, things
from globe.answers.conversations import answer_text
from globe.answers.vocabulary import CLASSES, classes_of
from globe.training.configurations import weighted
from globe.answers.telling import said_of
from globe.training.visual_grounding import MODES, Grounding, lift, named_in, tags, thing_shares
from globe.training.visual_grounding import visual_grounding

HERE = Path(__file__).parent
CASES = Path(os.environ.get("GLOBE_CASES") or HERE.parents[1] / "shared" / "cases")
SHOWN = [dict(text=name, share=0.1) for name in ("sky", "sea", "dome", "flag")]


def rows(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def answer(reasoning):
    return answer_text("Finland", "Helsinki", [reasoning])


def pay(text, shown=SHOWN, **options):
    return visual_grounding([text], [shown], **options)[0]


def wrongly_paid(pairs):
    "Texts paid by Equation 2 that differ from the fair pay by more than 0.05."
    return [text for text, fair in pairs if abs(pay(text) - float(fair)) > 0.05]


@pytest.mark.parametrize("name", ("grounding_cases.csv", "grounding_kinds.csv", "grounding_more.csv"))
def test_equation_2_on_cases_of_our_own(name):
    cases = [(answer(row["reasoning"]), row["fair"]) for row in rows(HERE / name)]
    wrong = wrongly_paid(cases)
    assert len(wrong) <= 0.05 * len(cases), wrong


@pytest.mark.parametrize("half", (0, 1), ids=("looked at while building", "not looked at"))
def test_equation_2_on_half_of_the_development_set(half):
    wrong = []
    cases = rows(HERE / "grounding_dev.csv")[half::2]
    for row in cases:
        shown = [dict(text=name) for name in row["shown"].split("|")]
        if abs(pay(answer(row["reasoning"]), shown) - float(row["fair"])) > 0.05:
            wrong.append(row["reasoning"])
    assert len(wrong) <= (0.03, 0.08)[half] * len(cases), wrong


@pytest.mark.parametrize("half", (0, 1), ids=("looked at while building", "not looked at"))
def test_equation_2_on_half_of_the_cases_of_ade20k(half):
    wrong = []
    cases = rows(HERE / "grounding_ade20k.csv")[half::2]
    for row in cases:
        shown = [dict(text=name) for name in row["shown"].split("|")]
        if abs(pay(answer(row["reasoning"]), shown, classes="ade20k") - float(row["fair"])) > 0.05:
            wrong.append(row["reasoning"])
    assert len(wrong) <= (0.08, 0.15)[half] * len(cases), wrong


def test_equation_2_on_families_of_words_and_kinds_of_sentences():
    """161 in 30 languages, in two batches by the author of the rules, who looked at the mistakes on both.

    Like the next ones, their labels are older than sealed/labelling.md: 20 % were misread before it, 22 % since."""
    wrong, cases = [], rows(HERE / "grounding_families.csv")
    for row in cases:
        shown = [dict(text=name) for name in row["shown"].split("|")]
        if abs(pay(answer(row["reasoning"]), shown, classes="ade20k") - float(row["fair"])) > 0.05:
            wrong.append(row["reasoning"])
    assert len(cases) == 161 and len(wrong) <= 0.24 * len(cases), wrong


def named(text):
    "The classes of ADE20K and other things that a text names and does not deny."
    return {thing.name for thing in things(text, classes_of("ade20k")) if not thing.if_shown}


FOUND = {
    "Nomads' tents stand by a river.": {"tent", "river"},
    "A pole beside a pickup.": {"pole", "truck"},  # in Polish a field
    "Перед домом каштаны и лавки.": {"house", "tree", "bench"},
    "В комнате диван, на стене ковёр.": {"sofa", "rug"},
    "Kamenný most, na kopci kostel.": {"bridge", "hill", "building"},
    "Une cuisine avec un four et un plan de travail.": {"oven", "countertop"},
    "Kaksi koiraa, sohva ja kirjahylly.": {"animal", "sofa", "bookcase"},
    "Egy kutya a kanapén, mellette állólámpa.": {"animal", "sofa", "lamp"},
    "Un torrente, un fienile e dei cipressi.": {"river", "building", "tree"},
    "Een kraam met fruit en twee parasols.": {"booth", "food", "umbrella"},
    "一辆拖拉机停在谷仓旁。": {"tractor", "building"},
    "Yaks, a moped and a caravan.": {"animal", "minibike", "van"},
    "A guanaco, a hookah and a weather vane.": {"animal", "hookah", "windsock"},
    "A bartender is polishing a glass.": {"person", "glass"},
    "Edificios: Iglesia, Casas bajas. Vegetación: Palmeras.": {"building", "house", "palm"},
    "A woman hoses down the steps.": {"person"},
    "Рядом колодец-журавль и поленница.": {"well", "firewood"},
    "نرى حمارا يجر عربة، وأكياسا من البن.": {"animal", "cart", "bag"},
    "一列轻轨穿过大楼，楼顶上有水箱。": {"train", "building", "tank"},
}
NOT_FOUND = {
    "The text is Spanish, so Porto is wrong.": "sea",
    "Такой город не в горах.": "food",
    "Місто невелике, робота спокійна.": "bridge",
    "Im Zusammenhang mit dem Einfluss.": "river",
    "Niemand was er in oktober.": "basket",
    "What I took for a bridge is a jetty.": "bridge",
    "First I took the white patches for snow.": "snow",
    "The rocks look like sleeping elephants.": "animal",
    "Bridges? A: No. Buildings? A: Low ones.": "bridge",
    "The mural shows a whale and a lighthouse, in blue.": "tower",
    "Whatever it is, a person would see a wall.": "person",
    "I primo piano non è a fuoco.": "piano",
    "Stacks of containers fill the yard.": "mountain",
    "如果有公交车，那就是罗马。": "bus",
    "What I miss are the temples of Thailand.": "building",
    "What we don't have: yaks, tents.": "animal",
    "Vehículos: Camión blanco. Lugar: Mérida.": "vehicle",
}


@pytest.mark.parametrize("text", FOUND)
def test_things_of_many_families_are_found(text):
    assert named(text) >= FOUND[text]


@pytest.mark.parametrize("text", NOT_FOUND)
def test_words_that_only_look_like_things_are_not(text):
    assert NOT_FOUND[text] not in named(text)


@pytest.mark.parametrize(
    "text, shown, right",
    [
        ("A chapel and a shop.", "building", 1),
        ("A chapel and a shop.", "building|house", 2),
        ("Cars wait beside the pavement of a wide road.", "car|road|sidewalk", 3),
        ("Motorcyclists in helmets.", "person|minibike", 1),
        ("La piazza è circondata da portici.", "building|sidewalk", 2),  # an area, where it is shown
        ("La piazza è circondata da portici.", "building", 1),
        ("Casas con balcones alrededor de la plaza.", "building|road", 2),
    ],
)
def test_right_names_count_once_for_each_class_that_they_use(text, shown, right):
    named, seen = named_in(text, {*shown.split("|")}, classes_of("ade20k"))
    assert named == seen and len(seen) == right


def test_equation_2_on_long_reasonings_about_photographs():
    """240 dense reasonings in 17 languages, written in four batches; each was scored before it was looked at.

    27 % were misread before there was a rule for labelling, 31 % since."""
    wrong, cases = [], rows(HERE / "grounding_reasonings.csv")
    for row in cases:
        shown = [dict(text=name) for name in row["shown"].split("|")]
        if abs(pay(answer(row["reasoning"]), shown, classes="ade20k") - float(row["fair"])) > 0.05:
            wrong.append(row["reasoning"])
    assert len(wrong) <= 0.33 * len(cases), len(wrong)


def sealed_differences(name):
    "Pay minus fair pay of each reasoning of a sealed file."
    found = []
    for row in rows(HERE / "sealed" / name):
        shown = [dict(text=name) for name in row["shown"].split("|")]
        found.append(pay(answer(row["reasoning"]), shown, classes="ade20k") - float(row["fair"]))
    return found


def test_sealed_reasonings_with_classes_of_ade20k():
    """80 by somebody who built nothing: 36 % were paid wrongly at first sight, 33 % after work on other cases,
    and 9 % after their mistakes were looked at."""
    off = sealed_differences("visual_grounding.csv")
    over, under = sum(d > 0.05 for d in off), sum(d < -0.05 for d in off)
    assert len(off) == 80 and over <= 0.06 * 80 and over + under <= 0.12 * 80


def test_second_sealed_reasonings():
    """108, labelled by the author of the rules before they were changed: 24 % were paid wrongly by the rules
    before, 19 % at the first score, and 4 % after their mistakes were looked at."""
    off = sealed_differences("visual_grounding_second.csv")
    assert len(off) == 108 and sum(abs(d) > 0.05 for d in off) <= 0.06 * 108


def test_third_sealed_reasonings():
    """120 by another author who built nothing: 32 % were paid wrongly at the first score, 34 % by the rules
    before, 15 % after their mistakes were looked at, and 18 % since there is a rule for labelling, which its
    author did not have."""
    off = sealed_differences("visual_grounding_third.csv")
    assert len(off) == 120 and sum(abs(d) > 0.05 for d in off) <= 0.2 * 120


def test_fourth_sealed_reasonings():
    """120 by another author: 58 % were paid wrongly at the first score. Two people differ by 0.04 on average, and
    on a third of the texts by more than 0.05, so the bound is on the mean difference from each of them."""
    off = sealed_differences("visual_grounding_fourth.csv")
    assert len(off) == 120 and sum(map(abs, off)) <= 0.155 * 120
    both = [
        (float(r["fair"]), float(r["fair_second"] or "nan"))
        for r in rows(HERE / "sealed" / "visual_grounding_fourth.csv")
    ]
    second = [abs(d + a - b) for d, (a, b) in zip(off, both) if b == b]
    assert len(second) == 60 and sum(second) <= 0.09 * 60


def is_looked_at(text):
    "Half of the texts, by their hash: those whose mistakes were studied."
    return hashlib.sha256(text.encode()).digest()[-1] % 2 == 0


@pytest.mark.parametrize(
    "name, most", [("fourth_by_rule", 0.03), ("fifth", 0.03)], ids=("fourth by rule", "fifth")
)
def test_reasonings_labelled_by_the_rule(name, most):
    """Labels by sealed/labelling.md; at the first score the mean differences were 0.097 and 0.117.

    The other half was only scored: there they fell from 0.047 and 0.068 to 0.044 and 0.061 while the vocabulary
    grew by 4,300 names."""
    off, texts = (
        sealed_differences(f"visual_grounding_{name}.csv"),
        rows(HERE / "sealed" / f"visual_grounding_{name}.csv"),
    )
    halves = {True: [], False: []}
    for difference, row in zip(off, texts):
        halves[is_looked_at(row["reasoning"])].append(abs(difference))
    assert sum(halves[True]) <= most * len(halves[True])
    assert sum(halves[False]) <= 0.065 * len(halves[False])


def test_equation_2_on_shared_cases():
    if not (CASES / "visual_grounding.csv").exists():
        pytest.skip("no shared cases beside the checkout")
    cases = [(row["completion"], row["fair"]) for row in rows(CASES / "visual_grounding.csv")]
    wrong = wrongly_paid(cases)
    assert len(wrong) <= 0.08 * len(cases), wrong


def test_denials_have_a_known_precision_and_recall():
    right = wrong = missed = 0
    for row in rows(HERE / "denials.csv"):
        at = row["sentence"].find(row["thing"])
        found = [m for m in mentions_of(row["sentence"]) if m.start <= at < m.end]
        assert found, row
        is_denied, wanted = found[0].is_denied, row["is_denied"] == "1"
        right += is_denied and wanted
        wrong += is_denied and not wanted
        missed += wanted and not is_denied
    assert right / (right + wrong) > 0.95 and right / (right + missed) > 0.95


@pytest.mark.parametrize("mode", [m for m in MODES if m != "released"])
def test_what_is_said_elsewhere_is_named_and_earns_nothing(mode):
    inside = "<think>The flag, the sea and the dome.</think>"
    place = "<answer>\ncountry: [Finland]\ncity: [Little Rock]\n</answer>"
    assert pay(inside + place, mode=mode) == 1
    assert pay(f"{inside} A cactus tells me. {place}", mode=mode) == 0.75
    assert pay(f"{inside}<think>A cactus tells me.</think>{place}", mode=mode) == 0.75
    assert pay(f"<think>Hm.</think> The flag, the sea and the dome. {place}", mode=mode) == 0
    assert said_elsewhere(inside + place) == ""


def test_safe_words_earn_nothing_in_the_recommended_mode():
    for text in ("The sky.", "The sky over houses and a road.", "A sky, a sky and the ground."):
        assert pay(answer(text), mode="recommended") == 0
    assert pay(answer("A flag."), mode="recommended") < 0.3
    assert 0.3 < pay(answer("A flag by the sea."), mode="recommended") < 0.7  # two likely guesses
    assert pay(answer("A flag with a blue cross by the sea."), mode="recommended") > 0.9
    assert pay(answer("A flag by the sea, and a dome."), mode="recommended") == 1
    assert pay(answer("A flag by the sea, a dome and a cactus."), mode="recommended") == 0.75


NAMES = [c for c in CLASSES if c != "background"]
pictures = st.lists(st.sets(st.sampled_from(NAMES), min_size=1), min_size=1, max_size=12)


@given(pictures, st.sets(st.sampled_from(NAMES), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_on_average_over_the_data_no_constant_tells_anything(shown, named):
    "Whatever it names: the names' gains and losses cancel."
    shares, text = thing_shares(shown), ". ".join(f"A {name}" for name in sorted(named))
    said = said_of(text)
    told = [lift(Grounding(text, "", tags(seen)), shares) for seen in shown]
    assert set(said) == named and abs(sum(told)) < 1e-9


def test_the_same_said_of_every_picture_earns_little_and_what_differs_earns():
    "Also where it is described; one completion alone is taken at its word."
    flags = [[dict(text=t, share=0.1) for t in ("sky", "flag", "sign", thing)] for thing in NAMES[8:28]]
    colours = "red blue green white black golden orange violet brown grey pink striped starred".split()
    constant = [answer("A red flag, and a sign in Latin letters.")] * len(flags)
    honest = [answer(f"A {colours[i % 13]} flag near a {NAMES[8 + i]}.") for i in range(len(flags))]
    how = dict(mode="recommended", shares=thing_shares(flags))
    earned = [sum(visual_grounding(texts, flags, **how)) / len(flags) for texts in (constant, honest)]
    assert earned[0] < 0.3 and earned[1] > 0.9
    assert pay(answer("A red flag."), mode="recommended") > pay(answer("A flag."), mode="recommended")


def test_a_record_has_to_confirm_what_describes_a_thing():
    shown = [["sky", "flag", "sign", thing] for thing in NAMES[8:28]]
    records = ["The flag is red." if i % 2 else "The flag is blue." for i in range(len(shown))]
    said = {"true": "red blue", "false": "blue red"}
    paid = {}
    for kind, words in said.items():
        even, odd = words.split()[::-1]
        texts = [answer(f"The flag is {odd if i % 2 else even}.") for i in range(len(shown))]
        paid[kind] = visual_grounding(texts, shown, mode="recommended", reasoning=records)
    assert min(paid["true"]) > max(paid["false"]) == 0
    unknown = visual_grounding([answer("A red flag.")], shown[:1], mode="recommended", reasoning=[None])
    assert unknown == visual_grounding([answer("A red flag.")], shown[:1], mode="recommended")


def test_a_picture_that_shows_one_telling_thing_asks_for_no_more():
    assert pay(answer("A plate."), [dict(text="plate", share=0.9)], mode="recommended") == 1
    assert pay(answer("The sky."), [dict(text="sky", share=0.9)], mode="recommended") == 1


def test_classes_of_ade20k_by_name(monkeypatch):
    shown = [dict(text=name, share=0.1) for name in ("building", "tree", "signboard", "person")]
    text = answer("A church behind oaks, a billboard and a pedestrian, but no camel.")
    assert pay(text, shown, classes="ade20k") == 1
    monkeypatch.setenv("GLOBE_CLASSES", "ade20k")
    assert pay(text, shown) == 1 and pay(answer("A church and a camel."), shown) == 0.5
    assert len(classes_of("ade20k")) == 150


def test_configurations_reach_every_mode():
    text = [answer("The sky.")]
    paid = {}
    for name in ("all-readme", "all-recommended", "all-released"):
        functions, weights = weighted(name, judge=object())
        assert weights == [1.0, 0.5, 0.2, 1.0] and functions[1].__name__ == "visual_grounding"
        paid[name] = functions[1](text, entities=[SHOWN])[0]
    assert paid == {"all-readme": 1, "all-recommended": 0, "all-released": 0.25}


HOSTILE = {
    "denials": "no " * 16_667,
    "names": "palm tree " * 5_000,
    "one word": "a" * 50_000,
    "Chinese": "仙人掌没有" * 10_000,
    "Arabic": "ال" * 25_000,
    "accents": "\u0301a" * 25_000,
    "hyphens": "a-" * 25_000,
    "tags": "<b " * 16_000,
    "misspelt": "cactuss " * 6_000,
    "suppositions": "if there were " * 3_500,
    "denied things": "no flag, " * 5_500,
    "denials far from a thing": "no " * 8_000 + "flag",
    "things with things": "no flag with " * 3_800,
    "questions": "is it " * 8_000 + "?",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_long_texts_cost_linear_time(text):
    things("a flag")  # tables are read once
    start = time.process_time()
    pay(answer(text))
    assert time.process_time() - start < 0.02
    start = time.process_time()
    things(text)
    assert time.process_time() - start < 1


def test_a_usual_completion_costs_less_than_a_millisecond():
    text = answer("The flag has a blue cross. A dome stands over the harbour, with no palm trees. " * 3)
    pay(text)
    start = time.process_time()
    visual_grounding([text] * 50, [SHOWN] * 50, mode="recommended")
    assert time.process_time() - start < 0.05
