"""Sharing the prompt changes the work, not the numbers.

Log-probabilities, entropies, gradients, greedy tokens and whole runs are those of TRL's trainer."""

import copy, gc, warnings, weakref

import numpy as np, pandas as pd
import pytest
import torch
from PIL import Image
from transformers import CompileConfig, GenerationConfig
from trl import GRPOConfig, GRPOTrainer

from globe.models import vlm
from globe.training import (
    group_batches,
    grpo,
    logged,
    prefix_attention,
    prefix_generation,
    prefix_logprobs,
    sampler_check,
    shared_prefix,
)
from globe.training.trainer import grpo_rows
from globe.world import postcards, student as student_module


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    "An untrained student of the smallest size."
    return student_module.student(0, hidden=96, layers=2, vision=80, depth=2).save(
        tmp_path_factory.mktemp("start")
    )


@pytest.fixture(scope="module")
def data():
    rows = postcards.postcards(8, seed=1, localizable_share=1.0)
    return rows.remove_columns(["entities"]).add_column("entities", [[] for _ in rows])


def variety(completions, **columns):
    return [len(set(c[0]["content"])) / 50 for c in completions]


def trainer(kind, start, data, out, model=None, tower=False, reward=variety, skip={}, **more):
    model = vlm.load(start) if model is None else vlm.VLM(model, vlm.load(start).processor)
    args = (
        dict(
            output_dir=str(out),
            per_device_train_batch_size=8,
            max_completion_length=8,
            num_generations=4,
            max_steps=2,
            report_to="none",
            save_strategy="no",
            learning_rate=1e-3,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            dataloader_pin_memory=False,
            disable_tqdm=True,
            logging_steps=1,
            seed=3,
            temperature=1.0,
            generation_kwargs=dict(suppress_tokens=vlm.picture_tokens(model.processor)),
        )
        | more
    )
    if hasattr(model.model.model, "visual") and not tower:
        vlm.freeze_vision(model.model)
    return kind(
        model.model,
        reward_funcs=[reward],
        args=GRPOConfig(**args),
        train_dataset=grpo_rows(data),
        processing_class=model.processor,
        **skip,
    ), model


def batch(model, rng, groups, size, pictures, length):
    """Ragged prompts with `pictures` pictures each and `size` completions to each prompt, rows shuffled.

    Completions have different lengths and are padded on the right."""
    prompts, images = [], []
    for _ in range(groups):
        content = [{"type": "image"}] * pictures + [
            {"type": "text", "text": " ".join(["where is this?"] * int(rng.integers(1, 6)))}
        ]
        prompts.append(
            model.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
            )
        )
        images.append(
            [
                Image.fromarray(
                    rng.integers(
                        0, 255, (int(rng.integers(56, 113)), int(rng.integers(56, 113)), 3), np.uint8
                    )
                )
                for _ in range(pictures)
            ]
        )
    order = rng.permutation(groups * size) % groups
    found = model.processor(
        text=[prompts[i] for i in order],
        images=[p for i in order for p in images[i]] or None,
        padding=True,
        return_tensors="pt",
    )
    answers = torch.from_numpy(rng.integers(300, 400, (len(order), length)))
    mask = torch.arange(length) < torch.from_numpy(rng.integers(1, length + 1, (len(order), 1)))
    ids, attention = (
        torch.cat([found["input_ids"], answers], 1),
        torch.cat([found["attention_mask"], mask.long()], 1),
    )
    vision = (
        dict(
            pixel_values=found["pixel_values"],
            image_grid_thw=found["image_grid_thw"],
            num_images=[pictures] * len(order),
            mm_token_type_ids=torch.cat([found["mm_token_type_ids"], torch.zeros_like(answers)], 1),
        )
        if pictures
        else {}
    )
    return ids, attention, length, mask, vision


def prompts_of(ids, attention, keep, vision):
    "What `generate` takes of a `batch`: the prompts and their pictures."
    return dict(
        input_ids=ids[:, :-keep],
        attention_mask=attention[:, :-keep],
        **{
            k: v[:, :-keep] if k == "mm_token_type_ids" else v for k, v in vision.items() if k != "num_images"
        },
    )


def scores(it, model, batch):
    "(log-probabilities, entropies, gradients by name), padded tokens zero."
    ids, attention, keep, mask, vision = batch
    if it.args.gradient_checkpointing:
        model.model.gradient_checkpointing_enable(dict(use_reentrant=False))
    model.model.train()
    logps, entropy, _ = it._get_per_token_logps_and_entropies(
        model.model, ids, attention, keep, compute_entropy=True, **vision
    )
    (logps * mask).sum().backward()
    return (
        (logps * mask).detach(),
        (entropy * mask).detach(),
        {n: p.grad for n, p in model.model.named_parameters() if p.grad is not None},
    )


def assert_same(found, ours, rtol=1e-5, grad=1e-4):
    (logps, entropy, grads), (our_logps, our_entropy, our_grads) = found, ours
    torch.testing.assert_close(our_logps, logps, rtol=rtol, atol=rtol)
    torch.testing.assert_close(our_entropy, entropy, rtol=10 * rtol, atol=rtol)
    assert grads.keys() == our_grads.keys()
    for name in grads:
        assert (grads[name] - our_grads[name]).norm() <= grad * grads[name].norm() + grad / 100, name


@pytest.mark.parametrize(
    "seed,groups,size,pictures,length",
    [(0, 1, 1, 1, 5), (1, 3, 4, 1, 7), (2, 2, 5, 2, 12), (3, 4, 2, 0, 6), (4, 5, 1, 1, 1)],
)
def test_log_probabilities_and_gradients_are_those_of_trl(
    start, data, tmp_path, seed, groups, size, pictures, length
):
    found = []
    for kind in (GRPOTrainer, shared_prefix.SharedPrefixGRPOTrainer):
        it, model = trainer(kind, start, data, tmp_path)
        found.append(
            scores(it, model, batch(model, np.random.default_rng(seed), groups, size, pictures, length))
        )
    assert not it.warned
    assert_same(*found)


@pytest.mark.parametrize(
    "more,rtol,grad",
    [
        (dict(tower=True), 1e-5, 1e-4),
        (dict(gradient_checkpointing=True), 1e-5, 1e-4),
        (dict(tower=True, gradient_checkpointing=True), 1e-5, 1e-4),
        (dict(bf16=True), 0.1, 0.1),
    ],
)
def test_options_change_no_number(start, data, tmp_path, more, rtol, grad):
    "A trained vision tower, layers that are computed again, half precision (to its own rounding)."
    found = []
    for kind in (GRPOTrainer, shared_prefix.SharedPrefixGRPOTrainer):
        it, model = trainer(kind, start, data, tmp_path, **more)
        found.append(scores(it, model, batch(model, np.random.default_rng(7), 3, 3, 1, 9)))
    assert not it.warned
    assert_same(*found, rtol, grad)
    assert any("visual" in n for n in found[1][2]) == more.get("tower", False)


def test_half_precision_errs_no_more_than_trl(start, data, tmp_path):
    "Against full precision, the shared prefix in bf16 is as near as TRL in bf16."

    def of(kind, **more):
        it, model = trainer(kind, start, data, tmp_path, **more)
        return scores(it, model, batch(model, np.random.default_rng(8), 2, 4, 2, 12))[0]

    exact, stock, ours = (
        of(GRPOTrainer),
        of(GRPOTrainer, bf16=True),
        of(shared_prefix.SharedPrefixGRPOTrainer, bf16=True),
    )
    assert (stock - exact).abs().max() > 1e-4
    assert (ours - exact).norm() < 1.5 * (stock - exact).norm()


def test_layers_that_are_computed_again_keep_the_prompt_shared(start, data, tmp_path):
    "With gradient checkpointing a layer computes each prompt and each completion twice."
    it, model = trainer(
        shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path, gradient_checkpointing=True
    )
    seen, given = [], batch(model, np.random.default_rng(0), 2, 4, 1, 6)
    it.checked = True
    model.model.model.language_model.layers[0].mlp.register_forward_pre_hook(
        lambda m, args: seen.append(args[0].shape[:2].numel())
    )
    scores(it, model, given)
    prompt = given[0].shape[1] - 6 - 1
    assert sorted(seen) == sorted(2 * [2 * prompt, 8 * 7])
    assert all(
        m.gradient_checkpointing and "forward" not in vars(m) for m in model.model.model.language_model.layers
    )


def grouped(start):
    "A student whose four heads of queries share two of keys."
    config = vlm.load(start).model.config
    config.text_config.num_key_value_heads = 2
    torch.manual_seed(0)
    return type(vlm.load(start).model)(config)


def internvl(start):
    "InternVL of the smallest size: four tokens to a tile of 56 x 56."
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    tok = vlm.load(start).processor.tokenizer
    torch.manual_seed(0)
    vision = dict(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=[56, 56],
        patch_size=[14, 14],
    )
    text = dict(
        model_type="qwen2",
        vocab_size=len(tok),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tok.eos_token_id,
        initializer_range=0.2,
    )
    model = InternVLForConditionalGeneration(
        InternVLConfig(
            vision_config=vision,
            text_config=text,
            image_token_id=vlm.load(start).processor.image_token_id,
            image_seq_length=4,
        )
    )
    model.generation_config.suppress_tokens = [model.config.image_token_id]
    return model


def deepstack(start):
    "Qwen3-VL of the smallest size, whose decoder takes features from between the tower's layers."
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    own = vlm.load(start).model.config
    text = dict(
        vocab_size=own.text_config.vocab_size,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        initializer_range=0.2,
        rope_scaling=dict(rope_type="default", mrope_section=[4, 2, 2], mrope_interleaved=True),
        rope_theta=1e4,
    )
    tower = dict(
        depth=3,
        hidden_size=32,
        intermediate_size=64,
        num_heads=2,
        out_hidden_size=48,
        patch_size=14,
        spatial_merge_size=2,
        temporal_patch_size=2,
        deepstack_visual_indexes=[0, 1],
        num_position_embeddings=64,
    )
    torch.manual_seed(0)
    return Qwen3VLForConditionalGeneration(
        Qwen3VLConfig(
            text_config=text,
            vision_config=tower,
            **{
                k: getattr(own, k) for k in ("image_token_id", "vision_start_token_id", "vision_end_token_id")
            },
        )
    )


def tiled(model, rng, groups=3, size=3, length=6):
    "As `batch`, for InternVL: one to three tiles to a prompt."
    tiles, pixels = (
        rng.integers(1, 4, groups),
        torch.randn(groups, 3, 3, 56, 56, generator=torch.Generator().manual_seed(0)),
    )
    order = rng.permutation(groups * size) % groups
    words = [torch.from_numpy(rng.integers(300, 400, rng.integers(2, 6))) for _ in range(groups)]
    prompts = [torch.cat([torch.full([4 * n], model.config.image_token_id), w]) for n, w in zip(tiles, words)]
    prompts = [prompts[i] for i in order]
    ids = torch.nn.utils.rnn.pad_sequence(prompts, True, 0, "left")
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(p) for p in prompts], True, 0, "left")
    answers = torch.from_numpy(rng.integers(300, 400, (len(order), length)))
    vision = dict(
        pixel_values=torch.cat([pixels[i, : tiles[i]] for i in order]),
        num_images=[1] * len(order),
        num_tiles=[int(tiles[i]) for i in order],
    )
    return (
        torch.cat([ids, answers], 1),
        torch.cat([mask, torch.ones_like(answers)], 1),
        length,
        torch.ones_like(answers),
        vision,
    )


@pytest.mark.parametrize(
    "make,rows",
    [
        (grouped, lambda model, rng: batch(model, rng, 3, 3, 1, 6)),
        (deepstack, lambda model, rng: batch(model, rng, 3, 3, 1, 6)),
        (internvl, lambda model, rng: tiled(model.model, rng)),
    ],
)
def test_other_models_are_shared_too(start, data, tmp_path, make, rows):
    """Fewer key heads than query heads; Qwen3-VL, whose tower has several outputs; InternVL.

    InternVL has no mrope, and tiles in place of patches."""
    found = []
    for kind in (GRPOTrainer, shared_prefix.SharedPrefixGRPOTrainer):
        it, model = trainer(kind, start, data, tmp_path, model=make(start))
        found.append(scores(it, model, rows(model, np.random.default_rng(2))))
    assert not it.warned
    assert_same(*found)
    chunks, whole = (
        it._get_per_token_logps_and_entropies(model.model, *given[:3], batch_size=b, **given[4])[0].detach()
        for given in [rows(model, np.random.default_rng(2))]
        for b in (4, None)
    )
    torch.testing.assert_close(chunks, whole, rtol=1e-5, atol=1e-5)


def test_internvl_answers_the_same(start):
    plain, shared = internvl(start), prefix_generation.share_prompt(internvl(start))
    ids, mask, keep, _, vision = tiled(plain, np.random.default_rng(4))
    a, b = (
        m.generate(
            input_ids=ids[:, :-keep],
            attention_mask=mask[:, :-keep],
            pixel_values=vision["pixel_values"],
            max_new_tokens=8,
            do_sample=False,
            pad_token_id=0,
        )
        for m in (plain, shared)
    )
    assert torch.equal(a, b) and len(set(a[:, ids.shape[1] - keep :].flatten().tolist())) > 2


def eager(model):
    model.set_attn_implementation("eager")
    return model


def dropping(model):
    model.config.text_config.attention_dropout = 0.1
    return model


def sliding(model):
    text = model.config.text_config
    text.layer_types, text.use_sliding_window, text.sliding_window = (
        ["full_attention", "sliding_attention"],
        True,
        64,
    )
    return type(model)(model.config)


@pytest.mark.parametrize(
    "change,reason", [(eager, "eager"), (dropping, "dropout"), (sliding, "sliding_attention")]
)
def test_a_model_that_cannot_share_says_so_once_and_goes_on(start, data, tmp_path, change, reason):
    with pytest.warns(UserWarning, match=reason):
        it, model = trainer(
            shared_prefix.SharedPrefixGRPOTrainer,
            start,
            data,
            tmp_path,
            model=change(vlm.load(start).model),
            max_steps=1,
        )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        it.train()
    assert not any("its own prompt" in str(w.message) for w in seen) and len(it.warned) == 1
    assert it.state.log_history


def test_inputs_that_cannot_be_shared_go_the_old_way(start, data, tmp_path):
    "Unknown inputs of other models, experts, videos: a warning, and TRL's numbers."
    it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    given = batch(model, np.random.default_rng(5), 2, 2, 0, 4)
    reason, ids = prefix_logprobs.unshareable_batch, given[0]
    assert "token_type_ids" in str(reason(ids, 4, False, dict(token_type_ids=ids)))
    assert "experts" in str(reason(ids, 4, True, {}))
    assert "one token" in str(reason(ids[:, -5:], 4, False, {}))
    tiles = dict(pixel_values=torch.zeros(3, 3, 8, 8), num_images=[1, 1, 0, 0])
    assert "pictures" in str(reason(ids, 4, False, tiles))
    asked = dict(
        input_ids=given[0][:, :-4],
        attention_mask=given[1][:, :-4],
        max_new_tokens=3,
        do_sample=False,
        pad_token_id=0,
    )
    with pytest.warns(UserWarning, match="beams"):
        model.model.generate(**asked, num_beams=2)
    with pytest.warns(UserWarning, match="inputs_embeds"):
        model.model.generate(
            inputs_embeds=model.model.get_input_embeddings()(asked["input_ids"]),
            **{k: v for k, v in asked.items() if k != "input_ids"},
        )
    with pytest.warns(UserWarning, match="max_new_tokens"):
        model.model.generate(
            **{k: v for k, v in asked.items() if k != "max_new_tokens"},
            max_length=asked["input_ids"].shape[1] + 3,
            cache_implementation="static",
        )
    plain = {k: v for k, v in asked.items() if k != "input_ids"}
    with pytest.warns(UserWarning, match="use_cache"):
        without = model.model.generate(
            asked["input_ids"],
            GenerationConfig(**{k: v for k, v in plain.items() if k != "attention_mask"}),
            attention_mask=asked["attention_mask"],
            use_cache=False,
        )
    assert torch.equal(without, vlm.load(start).model.generate(**asked))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.model.generate(**asked, num_beams=2)


def test_a_model_whose_numbers_differ_is_found_out(start, data, tmp_path, monkeypatch):
    it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    stock, plain = trainer(GRPOTrainer, start, data, tmp_path)
    for module in (prefix_attention, prefix_logprobs):
        monkeypatch.setattr(
            module, "token_positions", lambda mask: mask.cumsum(1)
        )  # wrong by one where there is no picture, as in a model that counts otherwise
    given = batch(model, np.random.default_rng(5), 2, 2, 1, 4)
    with pytest.warns(UserWarning, match="log-probabilities"):
        ours = it._get_per_token_logps_and_entropies(model.model, *given[:3], **given[4])[0]
    torch.testing.assert_close(
        ours, stock._get_per_token_logps_and_entropies(plain.model, *given[:3], **given[4])[0]
    )


@pytest.mark.parametrize("broken", [None, "positions", "picture of another row", "positions of another row"])
def test_half_precision_hides_no_wrong_numbers(start, data, tmp_path, monkeypatch, broken):
    "bfloat16 alone is no reason to go TRL's way; the wrong picture or position of a single row is."
    whole, caught = prefix_attention.prefill, []

    def prefill(model, ids, mask, counts=None, pixel_values=None, **more):
        if broken == "picture of another row":
            pixels = prefix_attention.split_pictures(pixel_values, counts, more["image_grid_thw"])[0]
            pixel_values = torch.cat([*pixels[:-1], 0 * pixels[-1]])
        cache, deltas = whole(model, ids, mask, counts, pixel_values, **more)
        if broken == "positions":
            deltas = 0 * deltas
        if broken == "positions of another row":
            deltas = torch.cat([deltas[:-1], 0 * deltas[-1:]])
        return cache, deltas

    for seed in range(3):
        it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path, bf16=True)
        monkeypatch.setattr(prefix_logprobs, "prefill", prefill)
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            ids, attention, keep, mask, vision = batch(model, np.random.default_rng(seed), 2, 2, 1, 12)
            it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, **vision)
        caught.append(bool(it.unshared))
    assert caught == [bool(broken)] * 3


def test_chunks_give_the_same(start, data, tmp_path):
    it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    ids, attention, keep, mask, vision = batch(model, np.random.default_rng(5), 3, 4, 1, 6)
    whole, parts = (
        it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, batch_size=b, **vision)[0]
        * mask
        for b in (None, 5)
    )
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_greedy_answers_are_the_same(start, data, pictures):
    plain, shared = vlm.load(start), vlm.load(start)
    prefix_generation.share_prompt(shared.model)
    ids, attention, keep, _, vision = batch(plain, np.random.default_rng(1), 3, 3, pictures, 4)
    asked = prompts_of(ids, attention, keep, vision)
    a, b = (
        m.model.generate(**asked, max_new_tokens=10, do_sample=False, pad_token_id=0) for m in (plain, shared)
    )
    assert torch.equal(a, b)


def test_rows_that_have_ended_leave_and_the_samples_stay_the_same(start, data):
    "Also the random numbers after them. Every fourth token ends an answer."
    plain, shared = vlm.load(start), vlm.load(start)
    prefix_generation.share_prompt(shared.model)
    ids, attention, keep, _, vision = batch(plain, np.random.default_rng(1), 3, 4, 1, 4)
    how = dict(max_new_tokens=20, do_sample=True, top_k=0, pad_token_id=0, eos_token_id=[*range(0, 1700, 4)])
    found, sizes = [], []
    shared.model.lm_head.register_forward_pre_hook(lambda m, args: sizes.append(len(args[0])))
    for m in (plain, shared):
        torch.manual_seed(2)
        out = m.model.generate(**prompts_of(ids, attention, keep, vision), **how)
        found.append((out, torch.rand(1)))
    assert torch.equal(found[0][0], found[1][0]) and found[0][1] == found[1][1]
    assert min(sizes[1:]) < len(ids) // 2


def test_static_caches_are_compiled_once(start, data):
    "Greedy completions stay the same; prompts of different lengths run through one graph, the longest first."
    plain, shared = vlm.load(start), vlm.load(start)
    prefix_generation.share_prompt(shared.model)
    graphs = []

    def counted(graph, inputs):
        graphs.append(graph)
        return graph.forward

    compiled = CompileConfig(backend=counted, fullgraph=True, mode=None)
    compiled._compile_all_devices = True  # else transformers compiles on GPUs only
    batches = sorted(
        (batch(plain, np.random.default_rng(seed), 3, 3, 1, 4) for seed in range(3)),
        key=lambda b: -b[0].shape[1],
    )
    assert len({b[0].shape for b in batches}) == 3
    for ids, attention, keep, _, vision in batches:
        asked = prompts_of(ids, attention, keep, vision)
        how = dict(max_new_tokens=10, do_sample=False, pad_token_id=0)
        config = GenerationConfig(**how, cache_implementation="static", compile_config=compiled)
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            found = [
                shared.model.generate(**asked, generation_config=config),
                shared.model.generate(**asked, **how, cache_implementation="static"),
            ]
        for b in found:
            assert torch.equal(plain.model.generate(**asked, **how), b)
        assert config.cache_implementation == "static"
    assert len(graphs) == 1
    cache = prefix_attention.prefill(
        plain.model,
        asked["input_ids"],
        asked["attention_mask"],
        [1] * 9,
        asked["pixel_values"],
        asked["image_grid_thw"],
        asked["mm_token_type_ids"],
    )[0]
    kept = prefix_generation.expanded_cache(cache, None, 128)
    place = kept.layers[1].keys.data_ptr()
    assert (
        prefix_generation.expanded_cache(cache, kept, 128) is kept
        and place == kept.layers[1].keys.data_ptr()
        and prefix_generation.expanded_cache(cache, kept, 192) is not kept
    )  # a graph holds for one place in memory


@pytest.mark.parametrize("more", [{}, dict(bf16=True)])
def test_a_trainer_may_compile_its_static_cache(start, data, tmp_path, more):
    "TRL forbids it; here one graph serves all steps, also in mixed precision."
    graphs = []

    def counted(graph, inputs):
        graphs.append(graph)
        return graph.forward

    tokens = vlm.picture_tokens(vlm.load(start).processor)
    it, _ = trainer(
        shared_prefix.SharedPrefixGRPOTrainer,
        start,
        data,
        tmp_path,
        max_steps=3,
        generation_kwargs=dict(suppress_tokens=tokens, cache_implementation="static"),
        **more,
    )
    it.generation_config.compile_config = CompileConfig(backend=counted, fullgraph=True, mode=None)
    it.generation_config.compile_config._compile_all_devices = True
    it.train()
    assert len(graphs) == 1 and it.state.global_step == 3


@pytest.mark.parametrize(
    "more",
    [
        {},
        dict(beta=0.04),
        dict(num_iterations=2),
        dict(cache_implementation="static"),
        dict(gradient_accumulation_steps=2, steps_per_generation=2),
        dict(gradient_checkpointing=True, beta=0.04),
    ],
)
def test_a_run_ends_with_the_same_weights(start, data, tmp_path, more):
    "Two steps of each trainer from the same seed: same samples, same rewards, same weights within rounding."
    ends, logs = [], []
    for kind in (GRPOTrainer, shared_prefix.SharedPrefixGRPOTrainer):
        it, _ = trainer(kind, start, data, tmp_path, **more)
        it.train()
        ends.append({n: p.detach().clone() for n, p in it.model.named_parameters() if "visual" not in n})
        logs.append(
            [
                {k: r[k] for k in ("reward", "completions/mean_length", "entropy", "kl", "loss") if k in r}
                for r in it.state.log_history
                if "loss" in r
            ]
        )
    assert len(logs[0]) == len(logs[1]) == 2
    for a, b in zip(*logs):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    before = dict(vlm.load(start).model.named_parameters())
    moved = torch.cat([(ends[0][n] - before[n]).flatten() for n in ends[0]]).norm()
    apart = torch.cat([(ends[0][n] - ends[1][n]).flatten() for n in ends[0]]).norm()
    assert moved > 0 and apart < 0.02 * moved


def test_a_picture_is_processed_and_seen_once(start, data, tmp_path):
    """Two steps of two groups have four pictures: each goes through processor and tower once.

    That is for policy, reference model, sampling and log-probabilities together."""
    it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path, beta=0.04)
    processed, seen = [], []
    image_processor, tower = type(it.processing_class.image_processor).__mro__[2], it.model.model.visual
    it.model.model.visual.blocks[0].register_forward_pre_hook(lambda m, args: seen.append(len(args[0])))
    whole = image_processor._preprocess

    def counted(self, images, *args, **kwargs):
        processed.append(len(images))
        return whole(self, images, *args, **kwargs)

    image_processor._preprocess = counted
    try:
        it.train()
    finally:
        image_processor._preprocess = whole
    assert it.ref_model.model.visual is tower
    assert sum(processed) == 4 and len(seen) == 2  # both groups of a step go through the tower together
    it.processing_class.save_pretrained(tmp_path / "saved")
    assert (
        type(vlm.load(start).processor.image_processor).__name__
        == type(it.processing_class.image_processor).__name__
    )


def test_rows_whose_answer_is_masked_do_no_harm(start, data, tmp_path):
    "TRL masks whole answers that were cut off (`mask_truncated_completions`)."
    it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    ids, attention, keep, mask, vision = batch(model, np.random.default_rng(3), 2, 3, 1, 6)
    alone = it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, **vision)[0].detach()
    attention[1, -keep:] = 0
    logps = it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, **vision)[0]
    mask[1] = False
    (logps * mask).sum().backward()
    assert logps.isfinite().all() and all(
        p.grad.isfinite().all() for p in model.model.parameters() if p.grad is not None
    )
    torch.testing.assert_close(logps[mask].detach(), alone[mask])


def test_less_is_kept_for_the_backward_pass(start, data, tmp_path):
    """Bytes that autograd saves for 8 completions of one prompt are at most half of TRL's.

    Gradient checkpointing reduces them further, below those of TRL with gradient checkpointing."""

    def kept(kind, again):
        it, model = trainer(kind, start, data, tmp_path, gradient_checkpointing=again)
        ids, attention, keep, _, vision = batch(model, np.random.default_rng(0), 1, 8, 3, 8)
        if again:
            model.model.gradient_checkpointing_enable(dict(use_reentrant=False))
        model.model.train()
        if kind is shared_prefix.SharedPrefixGRPOTrainer:
            it.checked = True
        own, saved = {p.untyped_storage().data_ptr() for p in model.model.parameters()}, {}

        def pack(t):
            if t.untyped_storage().data_ptr() not in own:
                saved[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            logps = it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, **vision)[0]
        logps.sum().backward()
        return sum(saved.values())

    stock, ours, stock_again, ours_again = (
        kept(kind, again)
        for again in (False, True)
        for kind in (GRPOTrainer, shared_prefix.SharedPrefixGRPOTrainer)
    )
    assert ours < stock / 2 and ours_again < ours / 2 and ours_again < stock_again


@pytest.mark.parametrize("again", [False, True])
def test_other_devices_expand_the_prompt_to_the_same_numbers(start, data, tmp_path, monkeypatch, again):
    "What runs on a GPU, here on the CPU: torch's own attention over expanded keys."
    for module in (prefix_attention, prefix_generation):
        monkeypatch.setattr(module, "FUSED_DEVICES", set())
    monkeypatch.setattr(prefix_attention, "_SharedPrefixAttention", None)
    found = []
    for kind in (GRPOTrainer, shared_prefix.SharedPrefixGRPOTrainer):
        it, model = trainer(kind, start, data, tmp_path, gradient_checkpointing=again)
        found.append(scores(it, model, batch(model, np.random.default_rng(1), 3, 4, 1, 7)))
    assert not it.warned
    assert_same(*found)
    ids, attention, keep, _, vision = batch(model, np.random.default_rng(1), 2, 3, 1, 4)
    asked = prompts_of(ids, attention, keep, vision)
    a, b = (
        m.generate(**asked, max_new_tokens=8, do_sample=False, pad_token_id=0)
        for m in (vlm.load(start).model, prefix_generation.share_prompt(vlm.load(start).model))
    )
    assert torch.equal(a, b)


def _efficient(q, k, v, bias, compute_log_sumexp, dropout_p=0.0, is_causal=False, *, scale=None):
    "What the kernel of GPUs computes: log-sum-exps of whole blocks of 32 queries, those that are not there infinite."
    assert bias is None or bias.shape == (*q.shape[:3], k.shape[2]) and bias.storage_offset() == 0
    scores = _scores(q, k, bias, is_causal, scale)
    weight = scores.logsumexp(-1)
    out = ((scores - weight[..., None]).exp() @ v.float()).to(q.dtype)
    zero = torch.zeros((), dtype=torch.long)
    return out, torch.nn.functional.pad(weight, (0, -q.shape[2] % 32), value=torch.inf), zero, zero.clone()


def _scores(q, k, bias, causal, scale):
    scores = q.float() @ k.float().mT * scale + (0 if bias is None else bias.float())
    return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf) if causal else scores


def _efficient_backward(
    grad, q, k, v, bias, out, weight, seed, offset, p, wanted, is_causal=False, *, scale=None
):
    assert weight.shape[2] % 32 == 0 and wanted == [True, True, True, False]
    grad, out = grad.float(), out.float()
    share = (_scores(q, k, bias, is_causal, scale) - weight[..., : q.shape[2], None]).exp()
    inner = share * (grad @ v.float().mT - (grad * out).sum(-1, keepdim=True)) * scale
    found = inner @ k.float(), inner.mT @ q.float(), share.mT @ grad
    return *(x.to(q.dtype) for x in found), None


@pytest.fixture
def gpu(monkeypatch):
    "The path of a GPU on this machine: kernels with the interface of CUDA's, by plain arithmetic."
    names = ("_scaled_dot_product_efficient_attention", "_scaled_dot_product_efficient_attention_backward")
    for module in (prefix_attention, prefix_generation):
        monkeypatch.setattr(module, "FUSED_DEVICES", set())
    monkeypatch.setattr(prefix_attention, "_TESTED_DEVICES", {"cpu"})
    monkeypatch.setattr(prefix_attention, "_KERNELS", dict(cpu=prefix_attention._CUDAKernel))
    prefix_attention._passes_test.cache_clear()
    library = torch.library.Library("aten", "IMPL")
    for name, kernel in zip(names, (_efficient, _efficient_backward)):
        library.impl(name, kernel, "CPU")
    yield
    library._destroy()
    prefix_attention._passes_test.cache_clear()


@pytest.mark.parametrize("again", [False, True])
def test_a_gpu_reads_the_prompt_once_to_the_same_numbers(start, data, tmp_path, gpu, again):
    "Log-probabilities and gradients are TRL's; the prompt's keys are not expanded."
    found = []
    for kind in (GRPOTrainer, shared_prefix.SharedPrefixGRPOTrainer):
        it, model = trainer(kind, start, data, tmp_path, gradient_checkpointing=again)
        found.append(scores(it, model, batch(model, np.random.default_rng(1), 3, 4, 1, 7)))
    assert not it.warned and prefix_attention._passes_test.cache_info().misses == 1
    assert prefix_attention._passes_test.cache_info().hits > 0
    assert_same(*found)


def test_the_kernels_of_gpus_give_the_numbers_of_those_of_cpus(gpu):
    "Forward and backward, with groups of unequal size and a padded prompt; in bfloat16 too."
    for dtype, close in [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)]:
        torch.manual_seed(0)
        mask = torch.ones(3, 21, dtype=torch.long)
        mask[1, :4] = 0
        groups = prefix_attention._PromptGroups(torch.tensor([2, 0, 1, 0, 0]), mask)
        shapes = (5, 4, 33, 16), (3, 2, 21, 16), (3, 2, 21, 16), (5, 2, 33, 16), (5, 2, 33, 16)
        given, found = [torch.randn(s).to(dtype).requires_grad_() for s in shapes], []
        for kernel in (prefix_attention._CPUKernel, prefix_attention._CUDAKernel):
            prefix_attention._KERNELS["cpu"] = kernel
            out = prefix_attention._SharedPrefixAttention.apply(*given, groups, 0.25)
            found.append([out, *torch.autograd.grad(out.float().square().sum(), given)])
        for a, b in zip(*found):
            assert (a - b).abs().max() <= close * b.abs().max()


def test_a_kernel_that_is_wrong_or_fails_is_not_used(start, data, tmp_path, monkeypatch, gpu):
    "Then keys are expanded, to the right numbers."

    def wrong(*given):
        return [2 * x for x in right(*given)]

    def failing(*given):
        raise RuntimeError("no kernel image is available for execution on the device")

    right = prefix_attention._CUDAKernel.backward
    it, model = trainer(GRPOTrainer, start, data, tmp_path)
    expected = scores(it, model, batch(model, np.random.default_rng(1), 3, 4, 1, 7))
    for broken in (wrong, failing):
        monkeypatch.setattr(prefix_attention._CUDAKernel, "backward", broken)
        prefix_attention._passes_test.cache_clear()
        assert not prefix_attention._passes_test("cpu", torch.float32, 4, 2, 24)
        it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
        assert_same(expected, scores(it, model, batch(model, np.random.default_rng(1), 3, 4, 1, 7)))


def test_pictures_of_one_colour_but_different_shape_are_two(start, data, tmp_path):
    "Their tokens and pixels are equal, their positions are not."
    found, rng = [], np.random.default_rng(0)
    for kind in (GRPOTrainer, shared_prefix.SharedPrefixGRPOTrainer):
        it, model = trainer(kind, start, data, tmp_path)
        prompt = model.processor.apply_chat_template(
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "where is this?"}]}],
            add_generation_prompt=True,
            tokenize=False,
        )
        pictures = [Image.new("RGB", size, "teal") for size in [(168, 56), (56, 168)] * 2]
        given = model.processor(text=[prompt] * 4, images=pictures, return_tensors="pt")
        answers = torch.arange(300, 324).view(4, 6)
        ids, mask = torch.cat([given["input_ids"], answers], 1), torch.ones_like(answers)
        vision = dict(
            pixel_values=given["pixel_values"],
            image_grid_thw=given["image_grid_thw"],
            num_images=[1] * 4,
            mm_token_type_ids=torch.cat([given["mm_token_type_ids"], 0 * answers], 1),
        )
        found.append(scores(it, model, (ids, torch.ones_like(ids), 6, mask, vision)))
    assert (given["pixel_values"][:12] == given["pixel_values"][12:24]).all() and not it.warned
    assert_same(*found)


def test_a_model_may_be_given_by_name(start, data, tmp_path):
    "As in most scripts that use TRL; a saved student opens without torchvision."
    it = shared_prefix.SharedPrefixGRPOTrainer(
        str(start),
        reward_funcs=[variety],
        train_dataset=grpo_rows(data),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=8,
            max_steps=1,
            report_to="none",
            save_strategy="no",
            use_cpu=True,
            bf16=False,
            generation_kwargs=dict(suppress_tokens=vlm.picture_tokens(vlm.load(start).processor)),
        ),
    )
    it.train()
    assert (
        not it.warned
        and it.checked
        and it.model.generate.__func__.__module__ == "globe.training.prefix_generation"
    )


def test_a_copy_of_the_model_answers_for_itself(start, data):
    shared = prefix_generation.share_prompt(vlm.load(start).model)
    other = copy.deepcopy(shared)
    with torch.no_grad():
        other.lm_head.weight.copy_(other.lm_head.weight.flip(0))
        other.model.language_model.layers[0].mlp.down_proj.weight.mul_(3)
    plain = vlm.load(start)
    plain.model.load_state_dict(other.state_dict())
    ids, attention, keep, _, vision = batch(plain, np.random.default_rng(1), 2, 2, 1, 4)
    asked = prompts_of(ids, attention, keep, vision)
    a, b, before = (
        m.generate(**asked, max_new_tokens=8, do_sample=False, pad_token_id=0)
        for m in (plain.model, other, shared)
    )
    assert torch.equal(a, b) and not torch.equal(a, before)


def test_a_group_comes_into_one_pass(start, data, tmp_path, monkeypatch):
    "TRL's shuffle scatters groups; here a pass with as many rows as a group computes one prompt."
    it, _ = trainer(
        shared_prefix.SharedPrefixGRPOTrainer,
        start,
        data,
        tmp_path,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=3,
        max_steps=2,
    )
    computed, unique_prompts = [], prefix_attention.unique_prompts

    def counted(*given):
        found = unique_prompts(*given)
        if torch.is_grad_enabled():
            computed.append(len(found[0]))
        return found

    monkeypatch.setattr(prefix_attention, "unique_prompts", counted)
    it.checked = True
    it.train()
    assert computed == [1] * 6


def test_rows_that_are_masked_prove_nothing(start, data, tmp_path):
    it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    ids, attention, keep, mask, vision = batch(model, np.random.default_rng(3), 2, 2, 1, 6)
    hidden = attention.clone()
    hidden[:, -keep:] = 0
    it._get_per_token_logps_and_entropies(model.model, ids, hidden, keep, **vision)
    assert not it.checked
    it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, **vision)
    assert it.checked and not it.warned


def test_a_small_spread_is_a_spread(start, data, tmp_path):
    "Advantages need not be scaled; a middling answer keeps its KL."

    def faint(completions, **columns):
        return [0.001 * (i % 2) for i in range(len(completions))]

    it, model = trainer(
        shared_prefix.SharedPrefixGRPOTrainer,
        start,
        data,
        tmp_path,
        reward=faint,
        skip=dict(skip_zero_variance_groups=True),
        scale_rewards="none",
        beta=0.0,
        max_steps=1,
    )
    before = {n: p.detach().clone() for n, p in it.model.named_parameters()}
    it.train()
    assert not all(torch.equal(p, before[n]) for n, p in it.model.named_parameters())


def flat(completions, **columns):
    return [1.0] * len(completions)


@pytest.mark.parametrize("skip", [False, True])
def test_groups_without_spread_can_be_skipped(start, data, tmp_path, skip):
    "Stock TRL pulls them towards the reference model, so the weights move; skipped groups leave them."
    it, model = trainer(
        shared_prefix.SharedPrefixGRPOTrainer,
        start,
        data,
        tmp_path,
        reward=flat,
        skip=dict(skip_zero_variance_groups=skip),
        beta=5.0,
        weight_decay=0.0,
    )
    with torch.no_grad():
        for p in it.model.parameters():
            if p.requires_grad:
                p += 0.02 * torch.randn(
                    p.shape, generator=torch.Generator().manual_seed(0)
                )  # away from the reference
    before = {n: p.detach().clone() for n, p in it.model.named_parameters()}
    it.train()
    assert all(torch.equal(p, before[n]) for n, p in it.model.named_parameters()) == skip


@pytest.mark.parametrize("rows_per_pass", [8, 2])
def test_groups_without_spread_can_be_sampled_again(start, data, tmp_path, monkeypatch, rows_per_pass):
    """The first group earns nothing twice, so it is sampled twice more; the other group stays.

    Every number of the batch belongs to the completion beside it."""
    calls = []

    def late(completions, **columns):
        calls.append(len(completions))
        return [0.0 if i < 4 and len(calls) < 3 else v for i, v in enumerate(variety(completions))]

    it, model = trainer(
        shared_prefix.SharedPrefixGRPOTrainer,
        start,
        data,
        tmp_path,
        reward=late,
        skip=dict(dynamic_sampling=5),
        beta=0.04,
        per_device_train_batch_size=rows_per_pass,
        gradient_accumulation_steps=8 // rows_per_pass,
        num_iterations=2,
        max_completion_length=12,
    )
    it.model.train()
    it.current_gradient_accumulation_steps = 8 // rows_per_pass
    rows = [r for i in range(2) for r in [dict(grpo_rows(data)[i])] * 4]
    drawn, sample = [], GRPOTrainer._generate_and_score_completions

    def kept(self, inputs):
        drawn.append(sample(self, inputs))
        return drawn[-1]

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", kept)
    out = it._generate_and_score_completions(rows)
    assert calls == [8, 4, 4] and it._metrics["train"]["resampled"] == it._metrics["train"][
        "frac_reward_zero_std"
    ] == [0.5]
    text = lambda b: [i[m.bool()].tolist() for i, m in zip(b["completion_ids"], b["completion_mask"])]
    assert text(out) == text(drawn[2]) + text(drawn[0])[4:] != text(drawn[0])
    assert (
        out["num_items_in_batch"] == out["completion_mask"].sum()
        and (out["advantages"].view(2, 4).std(1) > 0).all()
    )
    whole, mask = (torch.cat([out[f"prompt_{k}"], out[f"completion_{k}"]], 1) for k in ("ids", "mask"))
    vision = {k: out[k] for k in ("pixel_values", "image_grid_thw", "mm_token_type_ids", "num_images")}
    for which, m in (("old_", it.model), ("ref_", it.ref_model)):
        with torch.no_grad():
            again = it._get_per_token_logps_and_entropies(
                m, whole, mask, out["completion_ids"].shape[1], **vision
            )[0]
        torch.testing.assert_close(
            out[which + "per_token_logps"] * out["completion_mask"],
            again * out["completion_mask"],
            rtol=1e-5,
            atol=1e-5,
        )


def test_answers_that_nobody_judged_are_no_spread(start, data, tmp_path):
    "TRL gives them the advantage 0, and the others of a group that earn the same a hair's breadth beside it."
    it, _ = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    rows = torch.tensor([0.0, 6e-4, 6e-4, 6e-4, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    spread = group_batches.advantage_spread(it, rows) > group_batches.NO_SPREAD
    assert spread.tolist() == [False] * 4 + [True] * 4 + [False] * 4


def test_groups_that_stay_without_spread_are_left_in_the_end(start, data, tmp_path):
    it, _ = trainer(
        shared_prefix.SharedPrefixGRPOTrainer,
        start,
        data,
        tmp_path,
        reward=flat,
        skip=dict(dynamic_sampling=2, skip_zero_variance_groups=True),
        beta=5.0,
        weight_decay=0.0,
    )
    before = {n: p.detach().clone() for n, p in it.model.named_parameters()}
    it.train()
    assert all(torch.equal(p, before[n]) for n, p in it.model.named_parameters()) and [
        r["resampled"] for r in it.state.log_history if "loss" in r
    ] == [1.0, 1.0]
    with pytest.raises(ValueError, match="sum_then_normalize"):
        trainer(
            shared_prefix.SharedPrefixGRPOTrainer,
            start,
            data,
            tmp_path,
            skip=dict(dynamic_sampling=1),
            multi_objective_aggregation="normalize_then_sum",
        )
    with pytest.raises(ValueError, match="scale_rewards"):
        trainer(
            shared_prefix.SharedPrefixGRPOTrainer,
            start,
            data,
            tmp_path,
            skip=dict(dynamic_sampling=1),
            scale_rewards="batch",
        )


class StandIn:
    """A stand-in for vLLM: samples with a model of its own and gives log-probabilities after top-p.

    It sees the pictures, or only white ones, or no flat colours, or the tokens of a picture twice."""

    def __init__(self, vlm_, sees, top_p=0.9, mode="server", **more):
        self.mode = mode
        self.vlm, self.sees, self.top_p, self.generation_kwargs, self.asked = (
            vlm_,
            sees,
            top_p,
            dict(top_p=0.5),
            [],
        )

    def sync_weights(self):
        pass

    def expanded(self, prompt, pictures):
        "As vLLM does: as many tokens as each picture has features in place of its one placeholder."
        token, left = self.vlm.processor.image_token_id, iter(pictures)
        assert prompt.count(token) == len(pictures)
        whole = [[i] if i != token else [i] * len(vlm.look(self.vlm, [next(left)])[0]) for i in prompt]
        return sum(whole, [])

    def generate(self, prompts, images, num_generations, profiler=None):
        if self.mode == "colocate":
            prompts = [self.expanded(p, pictures) for p, pictures in zip(prompts, images)]
        ids, logprobs, self.asked = [], [], [*self.asked, (self.top_p, len(prompts), *self.generation_kwargs)]
        for prompt, pictures in zip(prompts, images):
            shown = [
                Image.new("RGB", p.size, "white")
                if self.sees == "white" or self.sees == "no flat colours" and p.getcolors(1)
                else p
                for p in pictures
            ]
            given = {
                k: v
                for k, v in self.vlm.processor.image_processor(images=shown, return_tensors="pt").items()
                if k in ("pixel_values", "image_grid_thw")
            }
            given |= dict(
                input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long)
            )
            if "image_grid_thw" in given:
                given["mm_token_type_ids"] = (given["input_ids"] == self.vlm.processor.image_token_id).long()
            out = self.vlm.model.generate(
                **given,
                max_new_tokens=8,
                do_sample=True,
                top_k=0,
                top_p=self.top_p,
                output_scores=True,
                return_dict_in_generate=True,
                pad_token_id=0,
                suppress_tokens=[],
            )
            said = out.sequences[0, len(prompt) :]
            ids.append(said.tolist())
            logprobs.append([[l[0].log_softmax(-1)[t].item()] for l, t in zip(out.scores, said)])
        logprobs[0][0] = [None]  # one that vLLM could not score
        return [p + p[-3:] if self.sees == "twice" else p for p in prompts], ids, logprobs, None


@pytest.mark.parametrize(
    "sees,says",
    [
        ("all", None),
        ("white", "first prompt"),
        ("no flat colours", "black"),
        ("twice", "another prompt"),
    ],
)
def test_samples_of_a_blind_model_are_refused(start, data, tmp_path, sees, says):
    "A simulated vLLM that sees the pictures may sample; one that does not is refused before the first step."
    it, _ = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    it.use_vllm, it._last_loaded_step, it.vllm_generation = True, -1, StandIn(vlm.load(start), sees)
    it.evaluate(grpo_rows(data.select(range(2))))  # in evaluation nothing is compared, and nothing disarmed
    assert not it.sampled
    if says is None:
        it.train()
        assert it.state.global_step == 2 and it.vllm_generation.asked[1:] == [
            (1.0, 24),
            (0.9, 8, "top_p"),
            (0.9, 8, "top_p"),
        ]
    else:
        with pytest.raises(sampler_check.SamplerMismatch, match=says):
            it.train()
        assert it.state.global_step == 0


@pytest.mark.parametrize("model", ["qwen2_5_vl", "internvl"])
def test_grpo_samples_with_vllm(data, tmp_path, monkeypatch, model):
    "Training with a simulated vLLM, for patches and for tiles; it gets only options that vLLM knows."
    student, told = student_module.student(0, model, hidden=96, layers=2, vision=80, depth=2), []
    torch.manual_seed(0)
    with torch.no_grad():
        for p in student.model.parameters():
            p += 0.05 * torch.randn_like(p)  # now pictures matter to what it says
    start = student.save(tmp_path / "start")

    def engine(**how):
        told.append(how)
        return StandIn(vlm.load(start), "all", **how)

    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", engine)
    monkeypatch.setattr(grpo, "weighted", lambda name, *more: ([variety], [1.0]))
    out = grpo.grpo(
        start,
        data,
        tmp_path / "out",
        steps=2,
        completions_per_step=8,
        num_generations=4,
        max_new_tokens=8,
        seed=1,
        rollouts="colocate",
        watch=False,
    )
    assert told[0]["mode"] == "colocate" and set(told[0]["generation_kwargs"]["logit_bias"]) == set(
        vlm.picture_tokens(vlm.load(start).processor)
    )
    log = pd.read_csv(out / "log.csv")
    assert (
        len(log) == 2
        and all(logged.meaning_of(c) for c in log)
        and (log["sampling/importance_sampling_ratio/mean"] > 0.7).all()
    ), "eight tokens cut at top-p .9 would leave .43"
    assert log["num_tokens"].is_monotonic_increasing and log["num_tokens"][0] < 8 * 100, (
        "the gate's prompts do not count"
    )


@pytest.mark.parametrize("size,parameters", [("3b", 3_754_622_976), ("7b", 8_292_166_656)])
def test_the_benchmark_builds_the_published_sizes(start, size, parameters):
    "Without memory for their weights; the numbers are those of Qwen's checkpoints."
    from bench_grpo import published

    model = vlm.load(start).model
    with torch.device("meta"):
        big = type(model)._from_config(published(size, model.config))
    assert sum(p.numel() for p in big.parameters()) == parameters


def test_what_is_done_leaves_memory_at_once(start, data, tmp_path, monkeypatch):
    "Caches of sampling, reference and policy, without waiting for the garbage collector."
    layers, made = [], prefix_attention._CompletionLayer.__init__

    def kept(self, *args):
        made(self, *args)
        layers.extend(weakref.ref(x) for x in (self, args[0]))

    monkeypatch.setattr(prefix_attention._CompletionLayer, "__init__", kept)
    it, model = trainer(shared_prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    ids, attention, keep, mask, vision = batch(model, np.random.default_rng(0), 2, 3, 1, 6)
    gc.collect()
    gc.disable()
    try:
        model.model.generate(**prompts_of(ids, attention, keep, vision), max_new_tokens=4, pad_token_id=0)
        with torch.no_grad():
            it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, **vision)
        scores(it, model, (ids, attention, keep, mask, vision))
        assert len(layers) >= 12 and not any(r() is not None for r in layers)
    finally:
        gc.enable()


def test_a_reward_without_value_for_one_answer_counts_for_none_of_its_group(monkeypatch):
    "TRL adds a missing value as 0, which would punish one answer for a silent judge."
    from types import SimpleNamespace
    from trl import GRPOTrainer
    from globe.training.shared_prefix import SharedPrefixGRPOTrainer

    nan = float("nan")
    paid = torch.tensor([[1.0, 0.5], [0.0, nan], [1.0, 0.5], [0.0, 0.7]])
    monkeypatch.setattr(GRPOTrainer, "_calculate_rewards", lambda self, *args: paid)
    trainer = SharedPrefixGRPOTrainer.__new__(SharedPrefixGRPOTrainer)
    trainer.num_generations = trainer.num_generations_eval = 2
    trainer.model = SimpleNamespace(training=True)
    trainer.since, trainer.seconds = None, dict(reward=0.0)
    found = trainer._calculate_rewards()
    assert found.isnan().tolist() == [[False, True], [False, True], [False, False], [False, False]]
    assert found[2:].equal(paid[2:])
