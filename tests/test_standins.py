"The profile of the paper, notebook by notebook, on stand-ins: `GLOBE_STANDINS=folder pytest tests/test_standins.py`."

import json, os, subprocess

import numpy as np
import pandas as pd
import pytest

import standins
from globe.folders import checkout, figures_folder
from globe.places.sphere import distance_km

WHERE = os.environ.get("GLOBE_STANDINS")  # folder where stand-ins are made, or already are


# how much was measured, not what
COUNTS = "n seeds k places answers pictures radius rows photos steps".split()
TEXT = "photos_left_out readings_confusions".split()  # tables without a number


def numbers(table):
    "The first number of each cell of the columns of results, of counts if there are no others; – is a missing one."
    text = table.astype("string").replace("–", pd.NA)
    first = text.apply(lambda c: c.str.extract(r"^([+−-]?\d[\d,]*\.?\d*(?:e[+-]?\d+)?)")[0])
    first = first.loc[:, (first.notna() | text.isna()).all() & first.notna().any()]
    results = first.drop(columns=COUNTS, errors="ignore")
    shown = results if results.size else first
    return shown.apply(lambda c: c.str.replace(",", "").str.replace("−", "-").astype(float))


def empty_tables(folder):
    "Tables whose numbers are all zero or missing, and tables without a number, unless they are known to be text."
    found = []
    for file in sorted(folder.rglob("*.csv")):
        shown = numbers(pd.read_csv(file))
        if not (shown.fillna(0) != 0).any().any() and file.stem not in TEXT:
            found.append(file.name)
    return found


def test_a_table_of_zeros_is_found(tmp_path):
    (tmp_path / "good.csv").write_text("name,a,b\nx,0,0.5\n")
    (tmp_path / "zeros.csv").write_text("name,a,b\nx,0,0.0\ny,,0\n")
    (tmp_path / "shares.csv").write_text('name,n,seeds,share\nx,24,1,"0.0 [0.0, 0.1]"\ny,24,1,0 [0; 0]\n')
    (tmp_path / "empty.csv").write_text("name,a\n")
    (tmp_path / "counts.csv").write_text("name,places,AUROC\nx,24,0\ny,24,–\n")
    (tmp_path / "words.csv").write_text("name,said\nx,y\n")
    (tmp_path / "photographs.csv").write_text("name,photos\nx,3\n")
    (tmp_path / "photos_left_out.csv").write_text("file,reason\n")
    assert empty_tables(tmp_path) == ["counts.csv", "empty.csv", "shares.csv", "words.csv", "zeros.csv"]


def test_committed_tables_have_numbers_and_are_found_without_them(tmp_path):
    tables = [file for file in (checkout() / "figures").glob("*.csv") if file.stem not in TEXT]
    assert len(tables) > 50 and not empty_tables(checkout() / "figures")
    for file in tables:
        table = pd.read_csv(file)
        table[numbers(table).columns] = 0
        table.to_csv(tmp_path / file.name, index=False)
    assert empty_tables(tmp_path) == sorted(file.name for file in tables)


@pytest.mark.skipif(not WHERE, reason="takes long; GLOBE_STANDINS=folder runs it")
def test_one_command_walks_the_profile_of_the_paper():
    "No table is all zeros, validation keeps rows, rewards differ, and the teachers know the user's photographs."
    assert standins.walk(WHERE) == 0
    figures = figures_folder("paper")
    kept = json.loads((checkout() / "data/paper/mp16-reason/manifest.json").read_text())["counts"]
    assert 0 < kept["rows"] < kept["photos"]
    logs = {log: pd.read_csv(log) for log in (checkout() / "data/paper/models").glob("grpo-*/log.csv")}
    assert logs and all(log.reward_std.max() > 0 for log in logs.values())
    assert empty_tables(figures) == []
    funnel = pd.read_csv(figures / "photos_funnel.csv").set_index("check")
    assert funnel.left["agrees_with_truth"] > 0
    files = (checkout() / "data/paper").glob("**/geoclip.jsonl")
    said = pd.read_json(max(files, key=lambda file: file.stat().st_size), lines=True).set_index("id")
    truth = pd.DataFrame(standins.training_photos().remove_columns(["image", "mask"])).set_index("id")
    km = distance_km(said.lat, said.lon, truth.lat[said.index], truth.lon[said.index])
    assert len(said) == len(truth) and np.median(km) < 100, (
        "the published GeoCLIP does not know the photographs"
    )


@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl"])
def test_a_checkpoint_in_the_layout_of_the_hub_is_loaded_trained_and_saved_whole(family, tmp_path):
    "The real vocabulary with the special tokens at their ids; what is saved has every file that it came with."
    try:
        standins._ranks()
    except subprocess.CalledProcessError:
        pytest.skip("the vocabulary cannot be downloaded here")
    from globe.models import vlm
    from globe.training.sft import sft
    from globe.world import postcards

    start = standins.checkpoint(tmp_path / "hub", (1, 1), family=family)
    found = vlm.load(start)
    tokenizer, ids = found.processor.tokenizer, dict(qwen2_5_vl=[151652, 151655], internvl=[151665, 151667])
    names = dict(qwen2_5_vl=["<|vision_start|>", "<|image_pad|>"], internvl=["<img>", "<IMG_CONTEXT>"])
    assert tokenizer.convert_tokens_to_ids(names[family]) == ids[family]
    assert tokenizer.decode(tokenizer("Zürich, 東京")["input_ids"]) == "Zürich, 東京"
    assert found.model.config.get_text_config().hidden_size // 2 == 64
    rows = postcards.postcards(4, seed=1, localizable_share=1.0)
    assert len(found.answer(rows["image"][:2], max_new_tokens=4)) == 2
    rows = rows.remove_columns("entities").add_column("reasoning", ["A flag."] * 4)
    out = sft(start, rows, tmp_path / "out", steps=1, examples_per_step=4, watch=False)
    there = {p.name for p in out.iterdir()}
    assert {"config.json", "video_preprocessor_config.json", "tokenizer.json"} <= there
    assert "preprocessor_config.json" in there or "processor_config.json" in there
    assert len(vlm.load(out).answer(rows["image"][:1], max_new_tokens=4)) == 1
