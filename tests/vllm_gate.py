"""GRPO with a real vLLM in this process, on CPUs: `python tests/vllm_gate.py CHECKPOINT ROWS OUT`, in the environment
of `vllm_cpu.py`. First with picture placeholders as TRL hands them over, then collapsed; prints what became of each."""

import json, os, sys
from unittest import mock

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"

# what vLLM on CPUs wants beside the arguments of TRL: no compilation, and no room for videos
SMALL = dict(enforce_eager=True, limit_mm_per_prompt=dict(image=1, video=0), max_model_len=2048)


def main(start, rows, out):
    from datasets import load_from_disk
    from trl.generation import vllm_generation

    from globe.training import shared_prefix
    from globe.training.grpo import grpo
    from globe.training.sampler_check import SamplerMismatch

    make, engines = vllm_generation.LLM, []

    def engine(**asked):
        "One for both runs."
        engines[:] = engines or [make(**(asked | SMALL))]
        return engines[0]

    def outcome(name, collapse):
        how = dict(steps=1, completions_per_step=4, num_generations=2, max_new_tokens=16, watch=False)
        with mock.patch.object(shared_prefix, "collapse_placeholders", collapse):
            try:
                grpo(start, load_from_disk(rows), f"{out}/{name}", rollouts="colocate", **how)
            except SamplerMismatch as e:
                return str(e)
        return "passed"

    # vLLM on CPUs cannot load weights anew: both runs end with their first step
    unsynced = mock.patch.object(vllm_generation.VLLMGeneration, "sync_weights", lambda self: None)
    collapse = shared_prefix.collapse_placeholders
    with mock.patch.object(vllm_generation, "LLM", engine), unsynced:
        for name, how in dict(expanded=lambda *a: None, collapsed=collapse).items():
            print(json.dumps({name: outcome(name, how)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
