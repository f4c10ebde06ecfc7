"""What names of things may be called by a segmenter of ADE20K: `python data/make_ade20k.py WORDNET`.

WORDNET is the folder of WordNet 3.0, see make_things.py. Written is ade20k.csv: a name and the classes that a
picture of it may be given, the best first; none for a thing that no class covers, `=` and a name for another
name of such a thing, and `-` for a view or a vague word, which names nothing. `?` is before what counts only
where the picture shows it: parts, materials, and words that more often mean something else. The names are those
of ade20k_by_hand.csv, and those of things.csv that WordNet has below `TOPS` and nothing else gives a class.
Written too is nouns.csv: words that are used as a noun more than otherwise, which make the name of a thing before
them an attribute ("railway platform").
"""

import csv, sys

from make_things import HERE, WordNet, classes, write

TOPS = {  # what a picture shows of what is below a word.sense of WordNet 3.0
    "animal.1": "animal",
    "garment.1": "apparel|person",
    "headdress.1": "apparel|person",
    "footwear.2": "apparel|person",
    "vine.1": "plant|tree",
    "shrub.1": "plant|tree",
    "succulent.1": "plant|tree",
    "flower.1": "flower|plant",
    "tree.1": "tree|plant",
    "building.1": "building",
    "bottle.1": "bottle|glass",
    "bag.1": "bag|basket",
}
MORE_TOPS = {  # the same for words that are in no other table and mean nothing else
    "traveler.1": "person",
    "performer.1": "person",
    "athlete.1": "person",
    "laborer.1": "person",
    "person.1": "?person",
    "food.1": "food",
    "food.2": "food",
    "produce.1": "food",
    "instrumentality.3": "",
    "fuel.1": "",
}
CONCRETE = {5, 6, 13, 18, 20}  # lexicographer files: animals, artefacts, food, persons, plants
VAGUE = set(  # kinds that a text names without seeing them
    """system equipment device means medium media network grid line lines hardware software utility component
    concept model design bitmap byte channel amplifier circuit weapon weaponry engine motor computer server
    router modem filter sensor lens battery detector expert author photographer observer viewer european asian
    reader critic founder native someone anybody somebody anyone everyone hindu muslim catholic christian buddhist
    citizen immigrant colonist expatriate speaker lover enthusiast fan leader ruler king queen
    terracotta bumper hairpin brick bricks buffer lever hook screw nail champ local""".split()
)
NO_HEADS = set("point hint match fit line border face front back top base way lot day".split())  # also verbs


def rows(name):
    return list(csv.DictReader((HERE / name).open(encoding="utf-8")))


def by_hand():
    "Name -> classes, parted by `|`; what is said first holds."
    found = {}
    for row in rows("ade20k_by_hand.csv"):
        for name in row["names"].split(","):
            found.setdefault(name.strip(), row["classes"].replace(", ", "|"))
    for name, kinds in found.items():
        if kinds.startswith("building"):  # a picture taken inside a building shows its ceiling and floor
            found[name] = f"{kinds}{'' if 'house' in kinds else '|house'}|ceiling|floor"
    return found


def by_wordnet(net, known):
    "Name -> classes, for the names of things.csv that lead to no name of `known`."
    kinds = {row["name"]: [k.strip("=!* ") for k in row["kind"].split("|")] for row in rows("things.csv")}
    below = {s: found for top, found in reversed(TOPS.items()) for s in net.under(net.synset(top))}

    def is_known(name, seen=()):
        if name in known or name in seen:
            return True
        return any(is_known(kind, (*seen, name)) for kind in kinds.get(name, ()))

    first = {name: net.senses.get(name.replace(" ", "_"), [""])[0] for name in kinds if not is_known(name)}
    return {name: below[synset] for name, synset in first.items() if synset in below}


def by_meaning(net, known):
    "Name -> classes, for further words below `MORE_TOPS` that name only concrete things of a narrow kind."
    found, joined = {}, {name.replace(" ", "") for name in known}
    for top, kind in MORE_TOPS.items():
        for synset in net.under(net.synset(top)):
            names = {w.lower().replace("_", " ") for w in net.names[synset] if w == w.lower()}
            for name in names - known - VAGUE - found.keys():
                if name.replace(" ", "") in VAGUE:
                    continue
                has_known_head = " " in name and name.split()[-1] in known or name.replace(" ", "") in joined
                if not has_known_head and is_concrete(net, name.replace(" ", "_"), synset):
                    found[name] = kind
    return found


def is_concrete(net, word, synset):
    "Does the word name only persons, food, artefacts, plants and animals, and first of all this one?"
    senses = net.senses.get(word, [""])
    is_person = net.file[synset] == 18
    is_narrow = len(net.under(synset)) < 10 and synset not in net.parts
    is_word = (
        word.replace("_", "").isalpha()
        and len(word) > 3
        and (net.uses[word, "1"] or len(word) > 5 and not is_person)
    )
    files = {net.file[s] for s in senses if s}
    return senses[0] == synset and files <= CONCRETE and is_narrow and is_word and net.is_noun_first(word)


def nouns(net):
    """Words of the tagged texts that are nouns at least three times of four, and plurals that are no verbs.

    Without those that are first of all a name, such as *italy*."""
    found, verbs = set(), {fields[0] for fields in net.rows("index.verb")}
    for (word, part), uses in [*net.uses.items()]:
        others = sum(net.uses[word, other] for other in "234")
        is_noun = (
            part == "1" and word.isalpha() and len(word) > 2 and uses >= 3 * others and word in net.senses
        )
        if is_noun and word in net.names[net.senses[word][0]]:
            is_verb = {word, word[:-1]} & verbs  # "crosses" is no plural of "crosse"
            found |= {word} - NO_HEADS if is_verb else {word, word + "s"}
    return sorted(found)


if __name__ == "__main__":
    net, hand = WordNet(sys.argv[1]), by_hand()
    found = by_wordnet(net, {*hand, *classes()}) | hand
    found |= by_meaning(net, {*found, *classes(), *(row["name"] for row in rows("things.csv"))})
    write("ade20k.csv", ["name", "classes"], sorted(found.items()))
    write("nouns.csv", ["word"], [[word] for word in nouns(net)])
