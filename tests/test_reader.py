"Promises of the reader: every layout is read, a refusal is none, nothing raises, and hostile text costs no time."

import csv, gc, json, os, string, time
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from globe.answers.coordinates import coordinates
from globe.answers.conversations import answer_text
from globe.answers.reader import Answer, read_answer
from globe.answers.strict import read_strict
from globe.places.countries import country_code
from globe.places.match import same_city, same_country

CASES = [
    json.loads(line)
    for line in (Path(__file__).parent / "reader_cases.jsonl").read_text(encoding="utf-8").splitlines()
]
PUBLIC = Path(os.environ.get("GLOBE_CASES") or Path(__file__).resolve().parents[2] / "shared" / "cases")
N = 100_000


def wrong(found, country, city, lat, lon):
    "What of an answer is not as it should be."
    right_country = same_country(found.country, country) if country else not found.country
    right_city = same_city(found.city, city, country) if city else not found.city
    near = found.lat is not None and lat is not None and abs(found.lat - lat) + abs(found.lon - lon) < 0.01
    right_point = near if lat is not None else found.lat is None
    checks = dict(country=right_country, city=right_city, coordinate=right_point)
    return [what for what, right in checks.items() if not right]


@pytest.mark.parametrize("case", CASES, ids=[f"{c['kind']}-{i}" for i, c in enumerate(CASES)])
def test_answers_of_many_kinds(case):
    found = read_answer(case["text"])
    assert not wrong(found, *(case[key] for key in ("country", "city", "lat", "lon"))), found
    assert found.refused == case["refused"]
    assert found.parsed == bool(found.country or found.lat is not None)


@pytest.mark.skipif(not PUBLIC.is_dir(), reason="needs the folder of cases, see GLOBE_CASES")
def test_published_cases():
    "At least 95 % of them; a coordinate that stands beside names may be read or not."
    rows = list(csv.DictReader((PUBLIC / "answers.csv").open(encoding="utf-8")))
    missed = []
    for row in rows:
        point = [float(row[key]) if row[key] else None for key in ("lat", "lon")]
        found = wrong(read_answer(row["text"]), row["country"], row["city"], *point)
        if set(found) - ({"coordinate"} if row["country"] else set()):
            missed.append(row["id"])
    assert len(missed) <= 0.05 * len(rows), missed


# --- what an answer says about itself ---


def test_the_form_of_the_training_prompt_is_read_as_it_was():
    text = answer_text("Finland", "Oulu", ["Signs are in Latin letters.", "Conifers grow by the road."], 0.9)
    found = read_answer(text)
    assert (found.country, found.city, found.localizability) == ("Finland", "Oulu", 0.9)
    assert found.reasoning == "Signs are in Latin letters. Conifers grow by the road."
    assert found.parsed and not found.refused and not found.alternatives
    assert read_answer(answer_text("Finland", "Oulu")).city == "Oulu"


def test_it_says_which_rule_read_which_characters():
    text = 'I think {"country": "Italy", "city": "Rome"} is right.'
    rule, span = read_answer(text).read_as.split()
    start, end = map(int, span.split("-"))
    assert rule == "json" and text[start:end] == '{"country": "Italy", "city": "Rome"}'
    rules = {
        "<country>Italy</country>": "tags",
        "| Country | Italy |\n| City | Rome |": "table",
        "Country: Italy": "lines",
        "This is Rome, Italy.": "prose",
        "45.07, 7.69": "coordinate",
    }
    assert {text: read_answer(text).read_as.split()[0] for text in rules} == rules
    assert read_answer("Hello.").read_as == ""


@pytest.mark.parametrize(
    "text, others",
    [
        ("Country: Spain or Portugal", {"Spain", "Portugal"}),
        ("Country: Spain\nCity: Girona or Figueres", {"Girona", "Figueres"}),
        ('{"country": "Spain", "alternatives": [{"country": "Italy", "city": "Pisa"}]}', {"Pisa, Italy"}),
        ("1. Porto, Portugal\n2. Vigo, Spain", {"Vigo, Spain"}),
        ("**Guess:** Porto, Portugal\n**Alternative:** Vigo, Spain", {"Vigo, Spain"}),
        ("country: France\ncountry: Spain", {"France", "Spain"}),
    ],
)
def test_what_is_offered_besides_is_kept(text, others):
    assert set(read_answer(text).alternatives) == others


def test_no_name_stands_for_another_country():
    "What one step cleans away the next may need."
    assert same_country(read_answer("country: [Congo, Dem. Rep.]").country, "CD")
    assert same_country(read_strict("country: [Congo, Dem. Rep.]").country, "CD")
    for name, code in {
        "Dominican Rep.": "DO",
        "Niger": "NE",
        "Korea, North": "KP",
        "Guinea-Bissau": "GW",
    }.items():
        assert same_country(read_answer(f"Country: {name}").country, code), name


def test_reasoning_is_what_stands_before_the_answer():
    assert read_answer('{"rationale": "Onion domes.", "country": "Russia"}').reasoning == "Onion domes."
    assert (
        read_answer("The flag has a cross.\n\nCountry: Finland\nCity: Oulu").reasoning
        == "The flag has a cross."
    )
    assert read_answer("<think>A flag.</think>Oulu, Finland").reasoning == "A flag."


def test_turns_count_from_the_last_and_hypotheses_from_the_most_confident():
    first, last = '{"country": "France"}', '{"country": "Italy"}'
    assert read_answer(f"{first}\nI look again.\n{last}").country == "Italy"
    listed = [dict(country="France", confidence=0.3), dict(country="Italy", confidence=0.6)]
    assert read_answer(json.dumps(listed)).country == "Italy"
    assert (
        read_answer("<answer>country: France</answer> No: <answer>country: Italy</answer>").country == "Italy"
    )


def test_a_sight_is_a_region_but_rewards_count_it_as_the_place():
    for text in ("Plitvice Lakes, Croatia", "Stonehenge, Wiltshire", "This is Torres del Paine in Chile."):
        found, paid = read_answer(text), read_strict(text)
        assert not found.city and found.region and paid.city == found.region, text
    assert read_strict("Tuscany, Italy").city == ""


# --- one answer only ---


@given(
    st.lists(
        st.sampled_from(["Finland", "Sweden", "Peru", "Japan", "Niger"]), min_size=2, max_size=4, unique=True
    ),
    st.sampled_from([" or ", ", ", "/", " and ", "\n", " (", "; ", ", if not ", "; alternatively "]),
    st.sampled_from(
        [
            "country: [%s]",
            '{"country": "%s"}',
            "<country>%s</country>",
            "| Country | %s |\n| City | |",
            "In %s.",
        ]
    ),
)
@settings(deadline=None)
def test_two_countries_are_never_one_answer(countries, between, layout):
    assert not read_strict(
        f"<think>A flag.</think><answer>{layout % between.join(countries)}</answer>"
    ).parsed


@pytest.mark.parametrize(
    "text",
    [
        '{"country": "Finland", "city": "Oulu"}',
        "<country>Finland</country> <city>Oulu</city>",
        "| Country | City |\n|---|---|\n| Finland | Oulu |",
        "**Country**: Finland\n**City**: Oulu",
        "## Country\nFinland\n## City\nOulu",
        "Oulu, Finland",
        "Страна: Finland\nГород: Oulu",
        "The country is most likely Finland, and the city is Oulu.",
    ],
)
def test_every_honest_layout_is_one_answer(text):
    found = read_strict(f"<think>Sweden? No.</think>\n<answer>\n{text}\n</answer>")
    assert (found.country, found.city) == ("Finland", "Oulu")


# --- whatever comes ---

PIECES = st.sampled_from(
    """country: | city: | Finland | Oulu | <answer> | </answer> | <think> | </think> | { | } | [ | ] | " | ' | : | , | \\ | 45.07 |
    -7.69 | ° | N | E | unknown | or | not | In | the city of | ```json | null | 国家 | 京都 | 日本 | Россия | في | भारत | 1. | - | # |
    I cannot determine | Georgia | , USA | % | 0.8 | confidence | \u200b | \ud800 | \x00""".split(" | ")
)


@given(
    st.one_of(st.text(max_size=300), st.lists(PIECES, max_size=40).map(" ".join), st.none(), st.integers())
)
@settings(max_examples=500, deadline=None)
def test_nothing_raises(text):
    found = read_answer(text)
    assert isinstance(found, Answer) and isinstance(read_strict(text), Answer)
    assert found.parsed == bool(found.country or found.lat is not None)
    assert (found.lat is None) == (found.lon is None) and not (found.parsed and found.refused)
    assert found.lat is None or abs(found.lat) <= 90 and abs(found.lon) <= 180


@given(st.floats(-89.99, 89.99), st.floats(-179.99, 179.99))
@settings(deadline=None)
def test_a_coordinate_is_read_back(lat, lon):
    if round(lat, 4) == round(lon, 4) == 0:
        return
    letters = f"{abs(lat):.4f}° {'N' if lat >= 0 else 'S'}, {abs(lon):.4f}° {'E' if lon >= 0 else 'W'}"
    for text in (
        f"{lat:.4f}, {lon:.4f}",
        letters,
        f"Latitude: {lat:.4f}\nLongitude: {lon:.4f}",
        f"({lat:.4f} {lon:.4f})",
    ):
        (found,) = coordinates(text)
        assert found[:2] == pytest.approx((lat, lon), abs=1e-4), text


HOSTILE = {
    repr(piece[:16]): (piece * (N // len(piece) + 1))[:N]
    for piece in (
        *string.punctuation,
        *"\n 1aA中서мम\u200b\x00",
        "country:",
        "country: Finland\n",
        "city: Oulu and ",
        '{"a":',
        '[{"a":',
        '{"a',
        '{"a\\',
        "{'a",
        "<country>",
        "<think>",
        "<answer>",
        "<|",
        "Finland ",
        "Finland, ",
        "Finland or ",
        "It is in Finland. ",
        "Is it Oulu? ",
        "in Oulu ",
        "A, ",
        "Ab of ",
        "Ab-",
        "St. ",
        "D.C.",
        "1° ",
        "45.07, 7.69 ",
        "lat: 4 ",
        "1. ",
        "- a\n",
        "|a|b|\n",
        "1. Finland\n",
        "cannot ",
        "not enough ",
        "there are no ",
        "中国上海",
        "ローマ",
        "भारत ",
        "Казани ",
        "e\u0301",
        "&amp;",
        "\\boxed{",
        "𝐅",
    )
}
HOSTILE["one long value"] = '{"reasoning": "' + "x " * (N // 2) + '", "country": "Italy"}'
HOSTILE["a long answer"] = "<answer>country: " + "Finland " * (N // 8)


@pytest.fixture(scope="module")
def warm():
    "The tables of the gazetteer and of names are read once, before the clock runs."
    for text in (
        "It is near Oulu in Finland, 45.07, 7.69.",
        "中国上海",
        "в Казани",
        "Times Square, New York City",
    ):
        read_answer(text)


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_takes_no_time(warm, text):
    "100,000 characters within 50 ms; the limit here is wider, for machines that do other work as well."

    def seconds():
        start = time.process_time()
        read_answer(text)
        return time.process_time() - start

    gc.freeze()  # else the collector also walks what all other tests have left in this process
    try:
        assert any(seconds() < 0.25 for _ in range(10))  # the processor may be taken away for a while
    finally:
        gc.unfreeze()


@pytest.mark.parametrize(
    "text, country, region",
    [
        ("This looks like Tuscany in Italy.", "Italy", "Tuscany"),
        ("I would say Bavaria in Germany.", "Germany", "Bavaria"),
        ("The signs are in Spanish, so Peru.", "Peru", ""),
        ("Red soil and eucalyptus, probably Australia.", "Australia", ""),
        ("Cyrillic letters and Ladas, I think Kazakhstan.", "Kazakhstan", ""),
        ("일본어 간판이 보이지만 이곳은 한국 서울입니다.", "South Korea", ""),
        ("일본어 간판이 있지만 대만 타이베이로 보입니다.", "Taiwan", ""),
        ("영어 표지판, 태국 방콕", "Thailand", ""),
    ],
)
def test_regions_in_a_country_verdicts_after_a_comma_and_languages_before_a_country(text, country, region):
    a = read_answer(text)
    assert same_country(a.country, country) and a.region == region


# --- names of countries that tables turn around or shorten ---

TURNED = {
    (
        "CD",
        "Goma",
    ): "Congo, Dem. Rep.|Congo, Democratic Republic of the|Congo (Kinshasa)|Congo, DR|Congo (DRC)"
    "|Congo (Democratic Republic)|Dem. Rep. Congo|Dem. Rep. of the Congo|Congo, República Democrática del",
    ("CG", "Brazzaville"): "Congo, Rep.|Congo, Republic of the|Congo (Brazzaville)|Rep. of Congo",
    ("KP", "Pyongyang"): "Korea, Dem. People's Rep.|Korea, North|Korea (North)|Korea (DPRK)|Corea (del Norte)"
    "|Korea, Democratic People's Republic of",
    ("KR", "Seoul"): "Korea, Rep.|Korea, Republic of|Korea, South|Korea (South)|Rep. of Korea",
    ("IR", "Tehran"): "Iran, Islamic Rep.|Iran (Islamic Republic of)",
    ("FM", "Palikir"): "Micronesia, Fed. Sts.|Micronesia, Federated States of",
    ("SS", "Juba"): "Sudan, South|S. Sudan",
    ("GQ", "Malabo"): "Guinea, Equatorial|Eq. Guinea",
    ("TZ", "Dodoma"): "Tanzania, United Republic of",
    ("VG", "Road Town"): "Virgin Islands, British|British Virgin Is.",
    ("BS", "Nassau"): "Bahamas, The|Bahamas (The)",
    ("DO", "Santo Domingo"): "Dominican Rep.",
    ("HK", "Hong Kong"): "Hong Kong, China|Hong Kong SAR, China",
    ("GE", "Tbilisi"): "Georgia, Republic of",
}
LAYOUTS = "{c}|{t}, {c}|Answer: {t}, {c}|{c}, {t}|Country: {c}\nCity: {t}|1. {t}, {c}\n2. Lima, Peru".split(
    "|"
)
NAMES = [(code, town, name) for (code, town), names in TURNED.items() for name in names.split("|")]


@pytest.mark.parametrize("code,town,name", NAMES, ids=[name for *_, name in NAMES])
def test_a_name_that_is_turned_around_is_its_own_country_in_every_layout(code, town, name):
    for layout in (*LAYOUTS, "It was taken in {c}.", '{{"country": "{c}", "city": "{t}"}}'):
        text = layout.format(c=name, t=town)
        found = read_answer(text)
        assert country_code(found.country) == code, (text, found)
        assert not found.city or found.city.split(",")[0] == town, (text, found)
        assert found.city or "{t}" not in layout, text
    for layout in LAYOUTS[:-1]:
        text = f"<think>Trees.</think><answer>{layout.format(c=name, t=town)}</answer>"
        assert country_code(read_strict(text).country) == code, text


def test_what_only_looks_turned_around_stays():
    for text, country, city in [
        ("Atlanta, Georgia, United States", "US", "Atlanta"),
        ("Finland, United States", "", ""),
        ("Kinshasa, Congo", "CD", "Kinshasa"),
        ("Pyongyang, Korea", "KP", "Pyongyang"),
        ("Seoul, Korea", "KR", "Seoul"),
        ("country: Korea (South), Korea (North)", "", ""),
        ("Korea (North) or Korea (South)", "", ""),
        ("Congo, Dem. Rep. or Congo, Rep.", "", ""),
        ("It could be Dem. Rep. Congo, Nicaragua or Kyrgyzstan.", "", ""),
        ("Continent: North America, United States", "US", ""),
        ("country: It's likely Congo, Dem. Rep.", "CD", ""),
        ("I would guess Goma in Congo, Dem. Rep. because of the lake.", "CD", "Goma"),
        ("country: Congo, Dem. Rep. (formerly Zaire)", "CD", ""),
        ("Dundalk, Republic of Ireland", "IE", "Dundalk"),
        ("दक्षिण कोरिया", "KR", ""),
        ("جنوب أفريقيا", "ZA", ""),
        ("country: RAE de Hong Kong (China)", "HK", ""),
        ("Seoul, Korea [South]", "KR", "Seoul"),
        ("Busan, Korea, North side of the harbour", "KR", "Busan"),
        ("Wonsan, People's Republic of Korea", "KP", "Wonsan"),
        ("I think this is Harbin in the People's Republic of China.", "CN", "Harbin"),
        ("Atlanta, Georgia, USA", "US", "Atlanta"),
        ("The image shows a market in Goma, Democratic Republic of Congo.", "CD", "Goma"),
        ("It is most likely the Democratic Republic of Congo because of the signs.", "CD", ""),
        ("République démocratique du Congo", "CD", ""),
        ("I think it is Wonsan in the Democratic People's Republic of Korea.", "KP", "Wonsan"),
        ("Barcelona, Republic of Venezuela", "VE", "Barcelona"),
        ("Toledo, Kingdom of Spain", "ES", "Toledo"),
        ("Ce n'est pas le Maroc, c'est la Tunisie.", "TN", ""),
        ("No es Marruecos, es Perú.", "PE", ""),
        ("Não é o Brasil, é Angola.", "AO", ""),
        ("Det er ikke Norge, det er Sverige.", "SE", ""),
        ("1. Aix-en-Provence, France (70%)\n2. Lisbon, Portugal (20%)", "FR", "Aix-en-Provence"),
        ("1. Nek’emtē, Ethiopia (70%)\n2. Lisbon, Portugal (20%)", "ET", "Nek’emtē"),
        ("Paramaribo in the Netherlands' former colony Suriname", "SR", "Paramaribo"),
        ("It was once part of Yugoslavia, now Slovenia: Ljubljana.", "SI", "Ljubljana"),
    ]:
        found = read_answer(text)
        assert (country_code(found.country), found.city) == (country, city), (text, found)
        assert "  " not in found.country
        assert country_code(read_strict(f"<answer>{text}</answer>").country) in (country, ""), text
    assert read_strict("<answer>Atlanta, Georgia, USA</answer>").city == "Atlanta"
    assert not read_strict("<answer>Either Lagos or Accra.</answer>").parsed


OFFICIAL = {
    ("VE", "Barcelona"): "República Bolivariana de Venezuela|Bolivarische Republik Venezuela",
    ("CR", "San José"): "República de Costa Rica|République du Costa Rica",
    ("MX", "León"): "United Mexican States|Estados Unidos Mexicanos|États-Unis mexicains",
    ("CA", "London"): "Dominion of Canada",
    ("FR", "Lyon"): "French Republic|République française|Französische Republik",
    ("AR", "Córdoba"): "Argentine Republic|República Argentina",
    ("KP", "Wonsan"): "Demokratische Volksrepublik Korea|República Popular Democrática de Corea",
    ("CD", "Goma"): "République démocratique du Congo|Demokratische Republik Kongo|Congo DR",
    ("CG", "Brazzaville"): "République du Congo|Republik Kongo",
    ("DE", "Hamburg"): "Bundesrepublik Deutschland|République fédérale d'Allemagne",
    ("ES", "Toledo"): "Königreich Spanien|Royaume d'Espagne|Reino de España",
    ("CN", "Shanghai"): "Volksrepublik China|República Popular China",
    ("US", "Chicago"): "Vereinigte Staaten von Amerika|Stati Uniti d'America",
}


@pytest.mark.parametrize(
    "code,town,name", [(*at, n) for at, names in OFFICIAL.items() for n in names.split("|")]
)
def test_an_official_name_is_its_country_in_every_layout(code, town, name):
    for layout in (
        '{{"country": "{0}", "city": "{1}"}}',
        "<answer>{1}, {0}</answer>",
        "Final answer: {1}, {0}",
        "country: {0}\ncity: {1}",
        "The image shows a market in {1}, {0}.",
    ):
        text = layout.format(name, town)
        found = read_answer(text)
        assert (country_code(found.country), found.city) == (code, town), (text, found)
    strict = read_strict(f"<answer>{town}, {name}</answer>")
    assert (country_code(strict.country), strict.city) == (code, town)


@pytest.mark.parametrize("one", ["United States", "Dominican Republic", "Czech Republic", "United Kingdom"])
@pytest.mark.parametrize("other", ["Canada", "Haiti", "Ireland"])
def test_two_countries_of_which_one_has_an_official_word_are_two(one, other):
    for link in ("and", "y", "et", "und", "/", ","):
        text = f"country: {one} {link} {other}\ncity: Toronto"
        assert not read_strict(f"<answer>{text}</answer>").parsed, text
        assert country_code(f"{one} {link} {other}") == ""
    assert (
        country_code(read_answer(f"The {one} and {other} are alike. I think this is Kazan.").country) == "RU"
    )


@pytest.mark.parametrize("name", ["Kingdom of Spain", "Socialist Republic of Vietnam", "Argentine Republic"])
@pytest.mark.parametrize("other", ["United States", "United Kingdom", "Canada"])
def test_an_official_name_and_another_country_are_two(name, other):
    for pair in (f"{name} and {other}", f"{other} and {name}"):
        assert country_code(pair) == ""
        assert not read_strict(f"<answer>Hanoi, {pair}</answer>").parsed
        assert not read_strict(f"<answer>country: {pair}\ncity: Hanoi</answer>").parsed


@pytest.mark.parametrize(
    "text,code,city",
    [
        ("The photo shows the United States and is taken in Denver.", "US", "Denver"),
        ("It is the Czech Republic and in Prague there are trams.", "CZ", "Prague"),
        ("Creo que Estados Unidos es la respuesta.", "US", ""),
        ("Staten Island, New York", "US", "Staten Island"),
        ("Unión de Guadalupe, México", "MX", "Unión de Guadalupe"),
        ("Toluca, Estado de México", "MX", "Toluca"),
        ("Hakha, Estado Chin, Birmania", "MM", "Hakha"),
        ("Via della Repubblica Italiana, Tripoli, Libya", "LY", "Tripoli"),
        ("Embassy of the French Republic, Cairo, Egypt", "EG", "Cairo"),
        ("Portuguese Republic Square, Luanda, Angola", "AO", "Luanda"),
        ("Port of Spain, Trinidad and Tobago", "TT", "Port of Spain"),
        ("Banja Luka, República Sérvia, Bósnia e Herzegovina", "BA", "Banja Luka"),
        ("The embassy of the French Republic in Cairo, Egypt.", "EG", "Cairo"),
        ("12 Republic of Korea Street, Boston, United States", "US", "Boston"),
        ("Questa è Aix-en-Provence, France.", "FR", "Aix-en-Provence"),
        ("C'est Lyon, France.", "FR", "Lyon"),
        ("C'est Lomé, Togolese Republic.", "TG", "Lomé"),
        ("1. Asia\n2. Japan\n3. Osaka\n4. Kita-ku", "JP", "Osaka"),
    ],
)
def test_official_words_in_other_names_and_sentences_change_nothing(text, code, city):
    found = read_answer(text)
    assert (country_code(found.country), found.city) == (code, city)
    assert country_code(read_strict(f"<answer>{text}</answer>").country) == code


def test_official_words_alone_name_no_country():
    for text in ("Minna, Niger State, Nigeria", "Kogi State Nigeria"):
        assert country_code(read_answer(text).country) == "NG"
    assert country_code(read_answer("St. Thomas, United States Virgin Islands").country) == "VI"
    assert country_code("State of Georgia") in ("GE", "US") and not country_code("French Federation")


def test_a_latitude_beyond_the_pole_is_no_coordinate():
    found = read_answer('{"latitude": 95, "longitude": 2, "city": "Paris", "country": "France"}')
    assert found.lat is None and (found.city, found.country) == ("Paris", "France")


@pytest.mark.parametrize(
    "text, code, city",
    [
        ("Fargo, Dakota, North", "US", "Fargo"),  # was Nord in France
        ("Hobart, South", "AU", "Hobart"),
        ("Kingstown, St. Vincent", "VC", "Kingstown"),  # was Cabo Verde
        ("Kingstown, Saint Vincent and Grenadines", "VC", "Kingstown"),
        ("Saint-Vincent, Italy", "IT", "Saint-Vincent"),
        ("Mindelo, Saint Vincent", "CV", "Mindelo"),
        ("Lille, Nord", "FR", "Lille"),
        ("Central, Hong Kong", "HK", "Central"),
        ("Центр, Охрид, Македония", "MK", "Охрид"),
    ],
)
def test_sides_and_short_names_of_islands(text, code, city):
    found = read_answer(text)
    assert (country_code(found.country), found.city) == (code, city)


def test_a_side_alone_is_no_place():
    assert not any(read_answer(text).country for text in ("Central", "North", "Eastern Province"))


def test_two_towns_after_either_are_two_answers():
    for text in ("Either Lagos or Accra", "It's either Lagos or Accra.", "Entweder Lagos oder Accra."):
        found = read_answer(text)
        assert (found.country, found.city) == ("", "") and set(found.alternatives) == {"Lagos", "Accra"}


@pytest.mark.parametrize(
    "layout",
    [
        '{{"country": "Congo", "city": "{}"}}',
        "Country: Congo\nCity: {}",
        "<country>Congo</country><city>{}</city>",
        "| Country | City |\n| --- | --- |\n| Congo | {} |",
    ],
)
def test_a_town_tells_which_congo_in_every_layout(layout):
    assert country_code(read_answer(layout.format("Kinshasa")).country) == "CD"
    for town in ("Pointe-Noire", "Brazzaville"):
        assert read_answer(layout.format(town)).country == "Congo"


@pytest.mark.parametrize(
    "text", ["Not France, Belgium.", "Nicht Frankreich, Belgien.", "Not France; Belgium."]
)
def test_a_country_that_a_chain_denies_is_no_town(text):
    found = read_answer(text)
    assert (country_code(found.country), found.city) == ("BE", "")


def test_the_country_behind_a_claimed_town_counts_where_another_is_named_besides():
    found = read_answer("My best guess is San José, Costa Rica, with Portugal as a second possibility.")
    assert (found.country, found.city) == ("Costa Rica", "San José")  # was San José in California


def test_labels_of_coordinates_are_no_towns():
    for text in ("Breite: -33,8688, Länge: 151,2093", "Latitud: -33,8688, Longitud: 151,2093"):
        found = read_answer(text)
        assert (found.lat, found.lon, found.country, found.city) == (-33.8688, 151.2093, "", "")
