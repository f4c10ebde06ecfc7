"MP16-Reason as published is trained on: a part of its pictures in the archive, the others in MP-16."

import shutil, warnings
from pathlib import Path

import pandas as pd
import pytest

import standins
from globe.cli import main
from globe.photos.official import published_pictures
from globe.pipeline.tasks import Run


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    from globe.world import postcards, student

    work = tmp_path_factory.mktemp("given")
    photos = postcards.postcards(16, seed=1, localizable_share=1.0)
    student.student(0, hidden=96, layers=1, depth=1).save(work / "start")
    return work, *standins.published(work, photos), photos


def test_missing_pictures_are_counted_and_joined_by_their_id(given):
    _, table, mp16, _ = given
    assert published_pictures(table) == (16, 4) and published_pictures(table, mp16) == (16, 16)


def test_globe_train_takes_the_published_files(given, tmp_path, capsys):
    work, table, mp16, _ = given
    where = ["--model", work / "start", "--data", table, "--out", tmp_path / "out"]
    settings = ["steps=1", "examples_per_step=4", f"photos.pictures={mp16}", "photos.limit=8"]
    command = ["train", "sft", *map(str, where), *(x for s in settings for x in ("--set", s))]
    assert main(command) == 0
    assert "16 rows, 16 with a picture, 8 used" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out" / "log.csv")) == 1


def test_published_rows_that_are_left_out_are_told_with_their_reasons(given, tmp_path, capsys, monkeypatch):
    work, table, mp16, _ = given
    copy, out = shutil.copytree(mp16, tmp_path / "mp16"), tmp_path / "out"
    first, second = (next(copy.rglob(f"{name}.jpg")) for name in (8010, 8011))  # not in the archive
    first.write_bytes(b"<html>")
    second.write_bytes(second.read_bytes()[:200])
    monkeypatch.setattr("globe.training.launch.train", lambda kind, model, rows, *rest, **more: len(rows))
    where = ["--model", work / "start", "--data", table, "--out", out]
    assert main(["train", "sft", *map(str, where), "--set", f"photos.pictures={copy}"]) == 0
    told = capsys.readouterr()
    left = pd.read_csv(out / "left_out.csv")
    assert len(left) == 2 and f"{len(left)} published rows are left out" in told.err
    assert told.out.split()[-1] == str(16 - len(left))
    assert "HTML" in told.err and str(out / "left_out.csv") in told.err


def test_too_few_pictures_are_refused_in_a_line(given, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("globe.models.vlm.load", lambda *a, **k: pytest.fail("a model was loaded"))
    work, table, _, _ = given
    where = ["--model", work / "start", "--data", table, "--out", tmp_path / "out"]
    assert main(["train", "sft", *map(str, where)]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "4 of 16 rows" in line and "photos.pictures" in line and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "how,more,said",
    [
        ("sft", ["--model", "nobody/no-such-model"], "nobody/no-such-model is not in the cache"),
        ("grpo", ["--set", "rewards=all-readme"], "--judge"),
        ("sft", ["--set", "launch.gpu_gib=0.0001"], "GiB are needed"),
    ],
)
def test_what_cannot_be_trained_is_said_before_a_picture_is_read(
    how, more, said, given, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("globe.photos.official.from_official", lambda *a, **k: pytest.fail("rows were read"))
    work, table, _, _ = given
    asked = ["train", how, "--model", work / "start", "--data", table, "--out", tmp_path / "out", *more]
    assert main(list(map(str, asked))) in (1, 2)
    assert said in capsys.readouterr().err.strip().splitlines()[-1] and not (tmp_path / "out").exists()


def test_a_run_trains_on_the_published_rows(given, tmp_path, monkeypatch):
    _, table, mp16, photos = given
    settings = dict(source=str(table), pictures=str(mp16), max_pixels=6000)
    run = Run("smoke", data="official", photos=settings)
    run.folder = tmp_path
    data, at = run.rows_of("multi")
    assert at == tmp_path / "mp16-official" and data["city"][:] == photos["city"][:]
    assert data["entities"][0] == [dict(text=e, share=None) for e in photos["entities"][0]]
    assert {(w * h <= 6000) for w, h in (im.size for im in data["image"])} == {True}
    assert run._classes("multi") == "ade20k" and run._classes("single") is None
    few = Run("smoke", data="official", photos=dict(source=str(table)))
    few.folder = tmp_path / "few"
    with pytest.raises(ValueError, match="4 of 16 rows"):
        few.rows_of("multi")


def test_the_published_dataset_comes_from_the_hub_at_a_commit(given, tmp_path, monkeypatch):
    "The hub is a stand-in that hands out the table and the archive of pictures as they were published."
    import huggingface_hub

    from globe.photos.official import from_official, is_published
    from globe.answers.conversations import conversation

    _, table, mp16, photos = given
    monkeypatch.setenv("GLOBE_CACHE", str(tmp_path))

    def snapshot_download(dataset, repo_type, revision, allow_patterns, local_dir):
        shutil.copytree(table, local_dir, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*images"))
        archive = Path(local_dir) / "mp16-reason-train-images"
        shutil.make_archive(str(archive), "zip", table / "mp16-reason-train-images")
        return str(local_dir)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    source = "globe-project/MP16-Reason@" + "0123456789" * 4
    assert is_published(source) and published_pictures(source) == (16, 4)
    with pytest.warns(UserWarning, match="16 of 16 photos have no coordinate"):
        rows = from_official(source, conversation("train"), [], mp16, 0.9)
    assert rows["city"][:] == photos["city"][:] and rows["lat"][:] != photos["lat"][:]


def test_coordinates_of_published_rows_come_from_the_table_of_mp16(given, tmp_path, monkeypatch):
    "Also from one with a byte order mark."
    from globe.photos.official import from_official
    from globe.answers.conversations import conversation

    _, table, mp16, photos = given
    monkeypatch.setenv("GLOBE_CACHE", str(tmp_path))
    copy = shutil.copytree(mp16, tmp_path / "mp16")
    names = ["_".join(p.relative_to(copy).parts) for p in copy.rglob("*.jpg")]
    order = {f"{i % 7:02x}_{i % 5:02x}_{8000 + i}.jpg": i for i in range(len(photos))}
    lines = [f"{n},{photos[order[n]]['lat']},{photos[order[n]]['lon']}" for n in names]
    (copy / "mp16.csv").write_text("\n".join(["IMG_ID,LAT,LON", *lines]), encoding="utf-8-sig")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = from_official(table, conversation("train"), [], copy, 0.9)
    assert rows["lat"][:] == photos["lat"][:]


def test_a_hub_that_does_not_answer_is_a_line(monkeypatch, capsys, tmp_path):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def silent(*a, **k):
        raise LocalEntryNotFoundError("cannot reach the hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", silent)
    monkeypatch.setenv("GLOBE_CACHE", str(tmp_path))
    source = "globe-project/MP16-Reason@" + "0123456789" * 4
    who = ["--endpoint", "http://127.0.0.1:9/v1 m"]
    assert main(["evaluate", *who, "--benchmark", "mp16-reason-test", "--data", source]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "hf download globe-project/MP16-Reason --repo-type dataset" in line


def test_a_run_on_the_published_rows_asks_no_teachers(given, tmp_path):
    "They are its training photographs too; what pays for localizability, and Table 5, are left out."
    from globe.pipeline.comparisons import pays_for
    from globe.pipeline.doctor import needs, trainings

    _, table, mp16, photos = given
    run = Run("one-gpu", photos=dict(source=str(table), pictures=str(mp16)))
    run.folder = tmp_path
    assert run.photos("train")["city"][:] == photos["city"][:]
    assert run.photos_at("train") == run.rows_of("multi")[1]
    trained = [*run.models, *run.backbones]
    assert run.variants == ["sft"] and not any(pays_for(m, "localizability") for m in trained)
    with pytest.raises(ValueError, match="teachers.endpoints"):
        run.trained("grpo-all-readme")
    asked = {row["what"] for row in needs("one-gpu")}
    assert asked == {"student", "segmenter", "answering", "training"} | {
        f"photographs: {split}" for split in ("train", "test", "shifted")
    }
    assert list(trainings(run.profile)[0])[1:] == ["sft", "grpo"]
    several = Run("one-gpu", teachers=dict(endpoints=[dict(urls=["http://localhost:8000/v1"], model="m")]))
    assert "grpo-all-readme" in several.models and several.best == "grpo-all-readme"


def published_rows(table, **changes):
    "A copy of the published table with other cells: column -> function of (row number, cell)."
    file = table / "mp16-reason-train.csv"
    rows = pd.read_csv(file, keep_default_na=False)
    for column, change in changes.items():
        rows[column] = [change(i, cell) for i, cell in enumerate(rows[column])]
    return file, rows


def test_rows_that_occur_twice_lack_no_picture(given, tmp_path):
    from globe.photos.official import from_official
    from globe.answers.conversations import conversation

    _, table, mp16, _ = given
    file, rows = published_rows(shutil.copytree(table, tmp_path / "table"))
    pd.concat([rows, rows[:3]]).to_csv(file, index=False)
    copy = shutil.copytree(mp16, tmp_path / "mp16")
    for name in (8010, 8011):  # not in the archive
        next(copy.rglob(f"{name}.jpg")).unlink()
    assert published_pictures(file.parent, copy) == (19, 17)
    with pytest.raises(ValueError, match="17 of 19 rows"):
        from_official(file.parent, conversation("train"), [], copy, min_share=0.9)
    made = from_official(file.parent, conversation("train"), left := [], copy, min_share=0.89)
    assert len(made) == 14 and sum("listed twice" in row["reason"] for row in left) == 3


def test_rows_without_a_reasoning_or_a_known_place_are_left_out_and_cut_entities_are_counted(given, tmp_path):
    from globe.photos.official import from_official
    from globe.answers.conversations import conversation

    _, table, mp16, photos = given
    labels = {3: ("Nowhere", "Atlantis"), 4: ("", "France")}
    solution = lambda city, country: f"<country>{country}</country><city>{city}</city>"
    changes = {
        "response": lambda i, cell: ("", "  \n")[i] if i < 2 else cell,
        "__#solution": lambda i, cell: solution(*labels[i]) if i in labels else cell,
        "entities": lambda i, cell: cell[:-4] + "…" if i in (5, 6) else cell,
    }
    file, rows = published_rows(shutil.copytree(table, tmp_path / "table"), **changes)
    rows.to_csv(file, index=False)
    with pytest.warns(UserWarning, match="the entities of 2 of 12 rows are no list"):
        made = from_official(file.parent, conversation("train"), left := [], mp16)
    assert [sum(why in row["reason"] for row in left) for why in ("no reasoning", "no place")] == [2, 2]
    assert len(left) == 4 and all(text.strip() for text in made["reasoning"])
    assert made["city"][:] == [photos["city"][i] for i in (2, *range(5, 16))]
    assert [len(found) > 0 for found in made["entities"]][1:3] == [False, False]


def test_a_response_that_holds_an_answer_already_gives_its_thoughts_alone(given, tmp_path):
    "Else a student would learn two answers, which may differ."
    from globe.photos.official import from_official
    from globe.answers.conversations import conversation

    _, table, mp16, _ = given
    layouts = [
        "<think>{}</think><answer>country: Peru</answer>",
        "<think>\n{}\n</think>\ncountry: Peru",
        "{}<answer>Peru</answer>",
        "<think>{}",
        "<think></think><answer>Peru</answer>",
    ]
    whole = published_rows(table)[1]["response"]
    wrapped = lambda i, cell: layouts[i].format(cell) if i < len(layouts) else cell
    file, rows = published_rows(shutil.copytree(table, tmp_path / "table"), response=wrapped)
    rows.to_csv(file, index=False)
    with pytest.warns(UserWarning, match="4 of 15 responses hold tags or an answer"):
        made = from_official(file.parent, conversation("train"), left := [], mp16)
    assert made["reasoning"][:] == [*whole[:4], *whole[5:]]
    assert [row["reason"] for row in left] == ["its column response holds no reasoning"]
