"R_geo on labelled answers: what an honest person would pay, by hand, over layouts, languages, names and districts."

import csv
from pathlib import Path

import pytest

from globe.places.match import same_city
from globe.training.rewards import geo_accuracy

with open(Path(__file__).with_name("geo_cases.csv"), encoding="utf-8") as f:
    CASES = list(csv.DictReader(f))


def paid(text, country, city):  # what stands in the answer, or a whole completion
    text = text.replace("\\n", "\n")
    whole = text if "<think>" in text else f"<think>A street with signs.</think>\n<answer>\n{text}\n</answer>"
    return geo_accuracy([whole], country=[country], city=[city])[0]


@pytest.mark.parametrize("kind", sorted({case["kind"] for case in CASES}))
def test_answers_are_paid_as_an_honest_person_would(kind):
    wrong = []
    for case in CASES:
        if case["kind"] == kind:
            got, fair = paid(case["text"], case["country"], case["city"]), float(case["fair"])
            wrong += [(case["text"], got, fair)] if abs(got - fair) > 0.05 else []
    assert not wrong


DISTRICTS = [
    ("Camden", "London", "United Kingdom"),
    ("Gangnam", "Seoul", "South Korea"),
    ("Kadıköy", "Istanbul", "Turkey"),
    ("Shinjuku", "Tokyo", "Japan"),
    ("Bronx", "New York City", "United States"),
    ("Georgetown", "Washington", "United States"),
]


@pytest.mark.parametrize("district,city,country", DISTRICTS)
def test_evaluation_and_reward_share_one_rule_for_districts(district, city, country):
    assert same_city(district, city, country) and same_city(city, district, country)
    assert paid(f"country: {country}\ncity: {district}", country, city) == 1


@pytest.mark.parametrize(
    "town,city,country",
    [
        ("Santa Monica", "Los Angeles", "United States"),
        ("Hollywood, Florida", "Los Angeles", "United States"),
        ("Pasadena", "Los Angeles", "United States"),
        ("San Juan", "San José", "Costa Rica"),
        ("Versailles", "Paris", "France"),
        ("Manila", "Quezon City", "Philippines"),
        ("Yokosuka", "Yokohama", "Japan"),
    ],
)
def test_a_town_of_its_own_is_no_district(town, city, country):
    assert not same_city(town, city, country) and not same_city(city, town, country)


LABELS = {
    "de": ("Land", "Stadt"),
    "cs": ("Země", "Město"),
    "hr": ("Država", "Grad"),
    "bg": ("Държава", "Град"),
    "uk": ("Країна", "Місто"),
    "ro": ("Țară", "Oraș"),
    "hu": ("Ország", "Város"),
    "da": ("Land", "By"),
    "et": ("Riik", "Linn"),
    "lt": ("Šalis", "Miestas"),
    "ms": ("Negara", "Bandar"),
    "sw": ("Nchi", "Jiji"),
    "fa": ("کشور", "شهر"),
    "he": ("מדינה", "עיר"),
    "bn": ("দেশ", "শহর"),
    "ta": ("நாடு", "நகரம்"),
    "th": ("ประเทศ", "เมือง"),
    "ka": ("ქვეყანა", "ქალაქი"),
    "zh": ("国家", "城市"),
}
LAYOUTS = {
    "lines": "{a}: {country}\n{b}: {city}",
    "bold bullets": "- **{a}:** {country}\n- **{b}:** {city}",
    "table": "| {a} | {b} |\n|---|---|\n| {country} | {city} |",
    "JSON": '{{"{a}": "{country}", "{b}": "{city}"}}',
    "headings": "## {a}\n{country}\n## {b}\n{city}",
    "one line": "{a} = {country}; {b} = {city}",
}
CITIES = [("JP", "Tokyo"), ("DE", "Munich"), ("BR", "São Paulo"), ("EG", "Cairo")]


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_language_in_every_layout_is_paid(layout):
    from babel import Locale

    unpaid = []
    for language, (a, b) in LABELS.items():
        for code, city in CITIES:
            country = Locale.parse(language).territories[code]
            text = layout.format(a=a, b=b, country=country, city=city)
            unpaid += [text] if paid(text, code, city) < 1 else []
    assert not unpaid


def test_sealed_answers_are_paid_fairly():
    "160 answers by somebody who built nothing; 1 was over- and 1 underpaid at first sight."
    with open(Path(__file__).parent / "sealed" / "geo_accuracy.csv", encoding="utf-8", newline="") as f:
        cases = list(csv.DictReader(f))
    truth = {name: [c[name] for c in cases] for name in ("country", "city")}
    off = [
        min((p - float(fair) for fair in (c["fair"], c["also"]) if fair), key=abs)
        for c, p in zip(cases, geo_accuracy([c["completion"] for c in cases], **truth))
    ]
    over, under = sum(d > 0.05 for d in off), sum(d < -0.05 for d in off)
    assert len(cases) == 160 and over <= 0.01 * 160 and over + under <= 0.03 * 160
