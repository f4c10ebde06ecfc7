"Sharing the prompt changes the work, not the numbers: log-probabilities, entropies, gradients, greedy tokens and whole runs as with TRL's trainer."
import numpy as np
import pytest
import torch
from PIL import Image
from trl import GRPOConfig, GRPOTrainer

from globe import postcards, prefix, train, vlm


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    "An untrained student of the smallest size."
    return vlm.student(0, hidden=96, layers=2, vision=80, depth=2).save(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def data():
    rows = postcards.postcards(8, seed=1, localizable_share=1.)
    return rows.remove_columns(["entities"]).add_column("entities", [[] for _ in rows])


def variety(completions, **columns): return [len(set(c[0]["content"])) / 50 for c in completions]


def trainer(kind, start, data, out, **more):
    model = vlm.load(start)
    args = GRPOConfig(output_dir=str(out), per_device_train_batch_size=8, max_completion_length=8, num_generations=4, max_steps=2, report_to="none", save_strategy="no", learning_rate=1e-3,
                      use_cpu=True, bf16=False, gradient_checkpointing=False, dataloader_pin_memory=False, disable_tqdm=True, logging_steps=1, seed=3, temperature=1.,
                      generation_kwargs=dict(suppress_tokens=[model.processor.image_token_id, model.processor.video_token_id]), **more)
    return kind(vlm.freeze_vision(model.model), reward_funcs=[variety], args=args, train_dataset=train.grpo_rows(data), processing_class=model.processor), model


def batch(model, rng, groups, size, pictures, length):
    "Ragged prompts with `pictures` pictures each, `size` answers to each prompt, rows shuffled, answers of different lengths padded on the right."
    prompts, images = [], []
    for _ in range(groups):
        content = [{"type": "image"}] * pictures + [{"type": "text", "text": " ".join(["where is this?"] * int(rng.integers(1, 6)))}]
        prompts.append(model.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False))
        images.append([Image.fromarray(rng.integers(0, 255, (int(rng.integers(56, 113)), int(rng.integers(56, 113)), 3), np.uint8)) for _ in range(pictures)])
    order = rng.permutation(groups * size) % groups
    found = model.processor(text=[prompts[i] for i in order], images=[p for i in order for p in images[i]] or None, padding=True, return_tensors="pt")
    answers = torch.from_numpy(rng.integers(300, 400, (len(order), length)))
    mask = torch.arange(length) < torch.from_numpy(rng.integers(1, length + 1, (len(order), 1)))
    ids, attention = torch.cat([found["input_ids"], answers], 1), torch.cat([found["attention_mask"], mask.long()], 1)
    vision = dict(pixel_values=found["pixel_values"], image_grid_thw=found["image_grid_thw"], num_images=[pictures] * len(order),
                  mm_token_type_ids=torch.cat([found["mm_token_type_ids"], torch.zeros_like(answers)], 1)) if pictures else {}
    return ids, attention, length, mask, vision


@pytest.mark.parametrize("seed,groups,size,pictures,length", [(0, 1, 1, 1, 5), (1, 3, 4, 1, 7), (2, 2, 5, 2, 12), (3, 4, 2, 0, 6), (4, 5, 1, 1, 1)])
def test_log_probabilities_and_gradients_are_those_of_trl(start, data, tmp_path, seed, groups, size, pictures, length):
    found = []
    for kind in (GRPOTrainer, prefix.SharedPrefixGRPOTrainer):
        it, model = trainer(kind, start, data, tmp_path)
        ids, attention, keep, mask, vision = batch(model, np.random.default_rng(seed), groups, size, pictures, length)
        logps, entropy, _ = it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, compute_entropy=True, **vision)
        (logps * mask).sum().backward()
        found.append(((logps * mask).detach(), (entropy * mask).detach(), {n: p.grad for n, p in model.model.named_parameters() if p.grad is not None}))
    (logps, entropy, grads), (ours, our_entropy, our_grads) = found
    torch.testing.assert_close(ours, logps, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_entropy, entropy, rtol=1e-4, atol=1e-5)
    assert grads.keys() == our_grads.keys()
    for name in grads: assert (grads[name] - our_grads[name]).norm() <= 1e-4 * grads[name].norm() + 1e-6, name


def test_chunks_give_the_same(start, data, tmp_path):
    it, model = trainer(prefix.SharedPrefixGRPOTrainer, start, data, tmp_path)
    ids, attention, keep, mask, vision = batch(model, np.random.default_rng(5), 3, 4, 1, 6)
    whole, parts = (it._get_per_token_logps_and_entropies(model.model, ids, attention, keep, batch_size=b, **vision)[0] * mask for b in (None, 5))
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_greedy_answers_are_the_same(start, data, pictures):
    plain, shared = vlm.load(start), vlm.load(start)
    prefix.share_prompt(shared.model)
    ids, attention, keep, _, vision = batch(plain, np.random.default_rng(1), 3, 3, pictures, 4)
    asked = dict(input_ids=ids[:, :-keep], attention_mask=attention[:, :-keep], **{k: v[:, :-keep] if k == "mm_token_type_ids" else v for k, v in vision.items() if k != "num_images"})
    a, b = (m.model.generate(**asked, max_new_tokens=10, do_sample=False, pad_token_id=0) for m in (plain, shared))
    assert torch.equal(a, b)


@pytest.mark.parametrize("more", [{}, dict(beta=.04), dict(num_iterations=2), dict(gradient_accumulation_steps=2, steps_per_generation=2)])
def test_a_run_ends_with_the_same_weights(start, data, tmp_path, more):
    "Two steps of each trainer from the same seed: same samples, same rewards, same weights within rounding."
    ends, logs = [], []
    for kind in (GRPOTrainer, prefix.SharedPrefixGRPOTrainer):
        it, _ = trainer(kind, start, data, tmp_path, **more)
        it.train()
        ends.append({n: p.detach().clone() for n, p in it.model.named_parameters() if "visual" not in n})
        logs.append([{k: r[k] for k in ("reward", "completions/mean_length", "entropy", "kl", "loss") if k in r} for r in it.state.log_history if "loss" in r])
    assert len(logs[0]) == len(logs[1]) == 2
    for a, b in zip(*logs): assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    before = dict(vlm.load(start).model.named_parameters())
    moved = torch.cat([(ends[0][n] - before[n]).flatten() for n in ends[0]]).norm()
    apart = torch.cat([(ends[0][n] - ends[1][n]).flatten() for n in ends[0]]).norm()
    assert moved > 0 and apart < .02 * moved
