"""The student and its answers: any text survives its tokenizer, and answering a dataset can be killed without
losing or doubling an answer."""

import json, os, signal, subprocess, sys, time

import datasets, pytest
from PIL import Image
from hypothesis import given, settings, strategies as st
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.utils import is_torchvision_available

from globe.answers import conversations, reader
from globe.models import vlm
from globe.world import student, tiny_models


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    "An untrained student of the smallest size."
    return student.student(0, hidden=96, layers=1, vision=80, depth=1).save(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def tokenizer(start):
    return vlm.load(start).processor.tokenizer


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=60))
def test_any_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text or any(
        s in text for s in tiny_models.SPECIAL
    )


def test_phrases_and_names_are_one_token(tokenizer):
    for text in (" Palm trees grow by the road.", " [Helsinki]", " [United States]"):
        assert len(tokenizer(text)["input_ids"]) == 1, text
    assert (
        len(
            tokenizer(conversations.answer_text("Finland", "Helsinki", student.cue_sentences()[:5]))[
                "input_ids"
            ]
        )
        < 24
    )


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.none() | st.integers())
def test_the_reader_never_raises(text):
    answer = reader.read_answer(text)
    assert answer.parsed == bool(answer.country or answer.lat is not None)
    assert answer.country or not answer.city


@pytest.mark.parametrize(
    "text, country, city",
    [
        (
            "Considering all this, the image was most likely taken in Vedène, France, Europe.",
            "France",
            "Vedène",
        ),
        (
            "This scene is located in Europe, specifically in Sweden, near the city of Vilhelmina.",
            "Sweden",
            "Vilhelmina",
        ),
        (
            "Palm trees suggest Africa or Southeast Asia, so this is likely from Kampala, Uganda, Africa.",
            "Uganda",
            "Kampala",
        ),
        ("It looks like Southern Thailand, Asia.", "Thailand", ""),
        ("Most likely North Korea.", "North Korea", ""),
        ("Likely in North America, in the United States or Canada.", "", ""),
        ("It is a rural area in Asia.", "", ""),
        ("A Swedish road, a German car.", "", ""),
    ],
)
def test_plain_sentences(text, country, city):
    answer = reader.read_answer(text)
    assert (answer.country, answer.city) == (country, city)


ANSWER = """
import sys
from globe.models import vlm
from globe.world import postcards
vlm.answer_all(vlm.load({start!r}), postcards.postcards(12, seed=3), {out!r}, batch_size=2, max_new_tokens=6, watch=False)
"""


def test_answers_survive_a_kill(start, tmp_path):
    "Killed between two batches, with a torn last line: the same call makes exactly the missing answers."

    def run(out):
        return subprocess.Popen(
            [sys.executable, "-c", ANSWER.format(start=str(start), out=str(out))], stderr=subprocess.DEVNULL
        )

    assert run(tmp_path / "whole").wait() == 0
    killed, deadline = tmp_path / "killed", time.time() + 60
    with run(killed) as p:
        while not (killed.exists() and killed.read_bytes().count(b"\n") >= 2) and time.time() < deadline:
            time.sleep(0.005)
        os.kill(p.pid, signal.SIGKILL)
    before = killed.read_text()
    killed.write_text(before + '{"id": "postcard-su')
    assert run(killed).wait() == 0
    assert killed.read_text().startswith(before) and before, "what was there is kept"
    assert sorted(killed.read_text().splitlines()) == sorted((tmp_path / "whole").read_text().splitlines())
    assert len({json.loads(line)["id"] for line in killed.read_text().splitlines()}) == 12


def test_an_answer_file_is_read_wherever_it_was_cut(tmp_path):
    "Answers may hold what Python takes for the end of a line, and a cut may fall inside a letter."

    class Echo:
        def answer(self, images, *how, **more):
            return [f"Malmö\u2028Łódź\x85\u2029 {i}" for i in images]

    photos = datasets.Dataset.from_dict(dict(id=["a", "b"], image=[1, 2]))
    whole = tmp_path / "whole.jsonl"
    said = vlm.answer_all(Echo(), photos, whole, batch_size=1)
    content = whole.read_bytes()
    for cut in range(len(content) + 1):
        (tmp_path / "cut.jsonl").write_bytes(content[:cut])
        assert vlm.answer_all(Echo(), photos, tmp_path / "cut.jsonl", batch_size=1) == said
        assert (tmp_path / "cut.jsonl").read_bytes() == content


def test_a_repetition_penalty_of_the_checkpoint_changes_no_answer(tmp_path):
    "Qwen2.5-VL brings 1.05 in generation_config.json; the tables are of greedy answers."
    small = student.student(0, hidden=96, layers=1, depth=1)
    images = [Image.new("RGB", (112, 112), (90, 120, 30))]
    said = small.answer(images, "direct", max_new_tokens=24)
    small.model.generation_config.repetition_penalty = 5.0
    assert small.answer(images, "direct", max_new_tokens=24) == said
    kept = vlm.load(small.save(tmp_path), device="cpu")
    assert kept.answer(images, "direct", max_new_tokens=24) == said


def _without_video(folder):
    (folder / "video_preprocessor_config.json").unlink()


def _without_class(folder):
    for name in ("processor_config.json", "tokenizer_config.json"):
        config = json.loads((folder / name).read_text())
        config.pop("processor_class")
        (folder / name).write_text(json.dumps(config))


def _older(folder):
    "The image processor in a file of its own, the slow one, and no video processor."
    images = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    images |= dict(use_fast=False, processor_class="Qwen2_5_VLProcessor")
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    (folder / "processor_config.json").unlink()
    _without_video(folder)


@pytest.mark.skipif(is_torchvision_available(), reason="for environments without torchvision")
@pytest.mark.parametrize("changed", [None, _without_video, _without_class, _older])
def test_without_torchvision_a_student_opens_by_load_processor_alone(tmp_path, changed):
    "If AutoProcessor learns to open one of these, save it so, and take the caveat out of the documentation."
    student.student(0, hidden=96, layers=1, vision=80, depth=1).save(tmp_path)
    if changed:
        changed(tmp_path)
    with pytest.raises((ImportError, OSError, ValueError), match="(?i)torchvision|video processor"):
        AutoProcessor.from_pretrained(str(tmp_path))
    processor = vlm.load_processor(tmp_path)
    assert "pixel_values" in processor(text=["<|image_pad|>"], images=[Image.new("RGB", (56, 56))])


@pytest.mark.skipif(not is_torchvision_available(), reason="torchvision is not installed")
@pytest.mark.parametrize("family", ["qwen2_5_vl", "internvl"])
def test_with_torchvision_a_student_opens_by_the_classes_of_transformers(tmp_path, family):
    "And it answers as by `load`."
    student.student(0, family, hidden=96, layers=1, depth=1).save(tmp_path)
    model, processor = (
        c.from_pretrained(str(tmp_path)) for c in (AutoModelForImageTextToText, AutoProcessor)
    )
    image, asked = Image.new("RGB", (112, 112), "red"), dict(type="text", text="Where?")
    messages = [dict(role="user", content=[dict(type="image", image=image), asked])]
    how = dict(add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt")
    inputs = processor.apply_chat_template(messages, **how)
    new = model.generate(**inputs, max_new_tokens=8, do_sample=False)[:, inputs["input_ids"].shape[1] :]
    ours = [[dict(role="user", content=[dict(type="image"), asked])]]
    assert processor.batch_decode(new, skip_special_tokens=True) == vlm.load(tmp_path).answer(
        [image], ours, 8
    )


def test_a_saved_processor_is_complete(tmp_path):
    "vLLM opens no checkpoint without the configuration of the video processor."
    small = student.student(0, hidden=96, layers=1, depth=1)
    small.save(tmp_path)
    video = json.loads((tmp_path / "video_preprocessor_config.json").read_text())
    assert video["video_processor_type"] == "Qwen2VLVideoProcessor"
    assert video["patch_size"] == small.processor.image_processor.patch_size
