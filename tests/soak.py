"""What a run must withstand: kills, full disks, two processes at once, odd servers, hostile inputs.

`make soak` runs all of it and writes `tests/soak.md`; `tests/test_soak.py` runs a sample. Every result is
compared, byte for byte, with that of a run that nothing disturbed. Nothing may be lost (a unit of work or an
answer that was there is gone), doubled (a unit that was on disk is done again), wrong (another result, an
exception of a kind that nobody expects) or hung. Work runs in forks of this process, which has imported
everything and computed nothing.

It has found an EXIF coordinate beyond the poles that was given as it stood, an encrypted workbook that raised
`NotImplementedError`, a training that was done anew when it was killed after its last step, and a store that
could not be read when a kill had left SQLite's journal. All are mended, with tests.
"""

import argparse, base64, contextlib, datetime, io, json, mmap, os, random, resource, shutil, signal
import subprocess, sys, tempfile, threading, time, traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

os.environ |= dict(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", TQDM_DISABLE="1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import torch
import trl
from datasets import load_from_disk
from peft import get_peft_model
from transformers import AutoModelForImageTextToText, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from trl import GRPOConfig, SFTConfig, SFTTrainer

import soak_inputs
import test_distill
import test_endpoints
import test_train
from globe.distillation.distill import distill
from globe.distillation.store import records
from globe.distillation.teachers import EndpointTeacher
from globe.evaluation.metrics import predictions
from globe.csv_files import write_csv
from globe.locks import Busy
from globe.models import checkpoints, vlm
from globe.places.gazetteer import gazetteer
from globe.training import grpo, shared_prefix, sft
from globe.training.judge import train_judge
from globe.validation.checks import CheckSettings
from globe.validation.parts import validate_in_parts
from globe.world import student
from globe.world.simulated import SimulatedTeacher

LOADED = (
    trl,
    get_peft_model,
    AutoModelForImageTextToText,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
)
LOADED += GRPOConfig, SFTConfig, SFTTrainer, shared_prefix
HUNG = 240.0  # seconds after which a run or an input counts as hung
BUSY = 3  # exit code
COUNTED = ("lost", "doubled", "wrong", "hung")


@dataclass
class Counts:
    "A row of the table."

    what: str
    of: str = ""  # what `n` counts
    n: int = 0
    hit: int = 0  # so many met what they were to meet
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    hung: int = 0
    seconds: float = 0.0
    peak_mb: int = 0
    notes: list = field(default_factory=list)

    def bad(self, kind, note, n=1):
        setattr(self, kind, getattr(self, kind) + n)
        self.notes.append(f"{self.what}: {kind}: {note}"[:2000])


# --- work in a fork ---


def forked(work, *given, log="/dev/null", file_limit=None):
    "Start a function in a fork; its exit code is 0, 3 where it found another run, else 1."
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1), os.dup2(out, 2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        if file_limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
        work(*given)
        code = 0
    except Busy:
        code = BUSY
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def ended(pid, counts, within=None, enough=None):
    """Exit code of a fork, negative for a signal; "killed" after so many seconds or when `enough` says so,
    "hung" after `HUNG` seconds."""
    start = time.monotonic()
    while True:
        found, status, used = os.wait4(pid, os.WNOHANG)
        if found:
            counts.peak_mb = max(counts.peak_mb, used.ru_maxrss // 1024)
            return os.waitstatus_to_exitcode(status)
        passed = time.monotonic() - start
        if passed > min(within or HUNG, HUNG) or (enough and enough()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _, _, used = os.wait4(pid, 0)
            counts.peak_mb = max(counts.peak_mb, used.ru_maxrss // 1024)
            return "hung" if passed > HUNG else "killed"
        time.sleep(0.002)


def tail(log):
    "The end of a log."
    return "…" + Path(log).read_text(errors="replace")[-600:] if Path(log).exists() else ""


# --- the work that is disturbed ---


class Kind:
    "A kind of work below a folder `base` with what it needs."

    paid = False  # does a second run at the same time find what the first has done?

    def __init__(self, base):
        self.base = base

    def log(self, out, unit):
        "Note that a unit begins."
        handle = os.open(out.with_suffix(".begun"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{unit}\n".encode())
        os.close(handle)

    def begun(self, out):
        "The units in the order in which they began."
        path = out.with_suffix(".begun")
        return path.read_text().split() if path.exists() else []

    def progress(self, out):
        "Grows with the work."
        return self.begun(out)

    def prepare(self):
        "What all runs need."

    def result(self, out):
        "What a run leaves: name -> bytes."
        return {p.name: p.read_bytes() for pattern in self.files for p in sorted(out.glob(pattern))}


class Distillation(Kind):
    files, photos, paid = ("*.jsonl",), 120, True

    def prepare(self):
        test_distill.photos(self.photos).save_to_disk(self.base / "photos")

    def work(self, out):
        kind = self

        class Slow(SimulatedTeacher):
            def answer(self, row):
                kind.log(out, row["id"])
                time.sleep(0.004)
                return super().answer(row)

        distill(load_from_disk(self.base / "photos"), [Slow("simulated-a")], out, watch=False)

    def units(self, out):
        try:
            return {r["id"] for r in records(out)}
        except FileNotFoundError:
            return set()


class Painted:
    "A segmenter that finds the same things in every picture."

    classes = ["background", "flag", "dome"]

    def masks(self, images):
        time.sleep(0.01 * len(images))
        return [np.arange(im.size[0] * im.size[1]).reshape(im.size[::-1]) % 3 for im in images]


def encoded(texts):
    "Unit vectors of texts."
    found = np.array([np.random.default_rng([*t.encode()][:64]).normal(size=16) for t in texts]).reshape(
        -1, 16
    )
    return found / np.linalg.norm(found, axis=1, keepdims=True)


class Validation(Kind):
    files = ("data/*.parquet", "ledger/*.parquet")

    def prepare(self):
        rows = test_distill.photos(80)
        rows.save_to_disk(self.base / "photos")
        teachers = [SimulatedTeacher(f"simulated-{n}") for n in "ab"]
        distill(rows, teachers, self.base / "answers", watch=False)

    def work(self, out):
        settings = CheckSettings(
            min_area_share=0.0, word_similarity=None, min_mentions=0, min_similarity=-1.0
        )
        given = load_from_disk(self.base / "photos"), self.base / "answers", Painted(), out
        validate_in_parts(*given, settings, encoded, ["simulated-a", "simulated-b"], part=8, watch=False)

    def progress(self, out):
        return self.units(out)

    def units(self, out):
        return {f"{p.stem}:{p.stat().st_ino}:{p.stat().st_mtime_ns}" for p in out.glob("ledger/*.parquet")}

    def result(self, out):
        return {f"{p.parent.name}/{p.name}": p.read_bytes() for f in self.files for p in sorted(out.glob(f))}


class Training(Kind):
    files, steps = ("*.safetensors", "log.csv", "judge.json"), 5
    small = dict(hidden=96, layers=1, vision=80, depth=1)

    def __init__(self, base, how):
        super().__init__(base)
        self.how = how

    def prepare(self):
        student.student(0, **self.small).save(self.base / "start")
        rows = test_train.postcards.postcards(16, seed=1, localizable_share=1.0)
        things = [[dict(text=e, share=0.1) for e in row] for row in rows["entities"]]
        rows = rows.remove_columns(["entities"]).add_column("entities", things)
        rows.add_column("reasoning", [" ".join(s) for s in rows["sentences"]]).save_to_disk(
            self.base / "rows"
        )

    def work(self, out):
        rows, watch = load_from_disk(self.base / "rows"), lambda done, total, numbers: self.log(out, done)
        start, given = (
            str(self.base / "start"),
            dict(steps=self.steps, save_steps=1, lr=1e-3, seed=1, watch=watch),
        )
        if self.how == "sft":
            sft.sft(start, rows, out, examples_per_step=4, warmup=0.0, **given)
        elif self.how == "grpo":
            grpo.weighted = lambda name, *more: ([test_train.variety], [1.0])
            sizes = dict(completions_per_step=4, num_generations=2, max_new_tokens=6)
            grpo.grpo(start, rows, out, warmup=0.0, **sizes, **given)
        else:
            pairs = rows.select_columns(["id", "image", "reasoning"]).add_column("label", [0, 1] * 8)
            train_judge(start, pairs, out, batch_size=4, hard_negatives=False, **given)

    def units(self, out):
        if (out / checkpoints.FINISHED).exists():
            return {str(n + 1) for n in range(self.steps)}
        good = [c for c in checkpoints.checkpoints(out) if not checkpoints.flaw(c)]
        return {str(n + 1) for n in range(checkpoints.step_of(good[-1]))} if good else set()


class Evaluation(Kind):
    files, paid = ("answers.jsonl", "predictions.csv"), True

    def prepare(self):
        test_distill.photos(24).save_to_disk(self.base / "photos")
        student.student(0, **Training.small).save(self.base / "start")

    def work(self, out):
        out.mkdir(exist_ok=True)
        rows, model = load_from_disk(self.base / "photos"), vlm.load(self.base / "start")
        texts = vlm.answer_all(
            model, rows, out / "answers.jsonl", max_new_tokens=5, batch_size=2, watch=False
        )
        write_csv(out / "predictions.csv", predictions(texts, rows["id"]))

    def units(self, out):
        path = out / "answers.jsonl"
        whole = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        return {json.loads(line)["id"] for line in whole}

    def begun(self, out):
        "An answer that is given twice stands twice in the file."
        path = out / "answers.jsonl"
        return (
            [json.loads(line)["id"] for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []
        )


class Bench:
    "One kind of work with the folder, the result and the seconds of a run that nothing disturbed."

    def __init__(self, name, kind, rng):
        self.name, self.kind, self.rng, self.number = name, kind, rng, 0
        self.base = kind.base
        self.base.mkdir(parents=True)
        self.setup = Counts(f"{name}: undisturbed")
        self.run_through(kind.prepare)
        start = time.monotonic()
        self.whole_at = self.base / "whole"
        self.run_through(kind.work, self.whole_at)
        self.seconds, self.whole = time.monotonic() - start, kind.result(self.whole_at)
        assert self.whole, "the undisturbed run left nothing"

    def run_through(self, work, *given):
        log = self.base / "setup.log"
        if ended(forked(work, *given, log=log), self.setup) != 0:
            raise RuntimeError(f"{self.name} cannot run: {tail(log)}")

    def folder(self):
        self.number += 1
        return self.base / f"run{self.number}"

    def compare(self, out, counts, log):
        found = self.kind.result(out)
        for name in self.whole.keys() - found.keys():
            counts.bad("lost", f"{out}: {name} {tail(log)}")
        for name in found.keys() - self.whole.keys():
            counts.bad("wrong", f"{out}: {name} should not be there")
        for name in self.whole.keys() & found.keys():
            if found[name] != self.whole[name]:
                counts.bad("wrong", f"{out}: {name} differs {tail(log)}")
        if not counts.notes:
            for path in self.base.glob(f"{out.name}*"):
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def attempt(self, out, counts, within=None, enough=None, **how):
        "One run, and what was lost or done again by it; its exit code, as `ended` gives it."
        before, logged = self.kind.units(out), self.kind.begun(out)
        log = out.with_suffix(".log")
        code = ended(forked(self.kind.work, out, log=log, **how), counts, within, enough)
        after = self.kind.begun(out)
        new = after[len(logged) :] if after[: len(logged)] == logged else after
        if again := [u for u in new if u in before]:
            counts.bad("doubled", f"{out}: {again[:5]}", len(again))
        if gone := before - self.kind.units(out):
            counts.bad("lost", f"{out}: {sorted(gone)[:5]} {tail(log)}", len(gone))
        return code

    def moment(self, out):
        "When to kill the next run: after a random time, or a moment after a random unit has begun."
        if self.rng.random() < 0.4:
            return dict(within=self.rng.uniform(0.01, 0.9) * self.seconds)
        new, later = len(self.kind.progress(out)) + self.rng.randint(1, 3), self.rng.uniform(0, 0.4)
        reached = []

        def enough():
            if not reached and len(self.kind.progress(out)) >= new:
                reached.append(time.monotonic())
            return reached and time.monotonic() > reached[0] + later

        return dict(enough=enough)

    def finish(self, out, counts):
        "The last run on a folder, which nothing disturbs."
        log = out.with_suffix(".log")
        code = self.attempt(out, counts)
        if code == "hung":
            counts.bad("hung", f"{out} {tail(log)}")
        elif code:
            counts.bad("wrong", f"{out}: exit code {code} {tail(log)}")
        self.compare(out, counts, log)


# --- kills, full disks, two at once ---


def kills(bench, n, in_a_row=6):
    "So many kills, each at a random time; after some in a row the run may end."
    counts = Counts(f"{bench.name}: kill -9", "kills")
    while counts.n < n:
        out, killed = bench.folder(), 0
        while killed < in_a_row and counts.n < n:
            code = bench.attempt(out, counts, **bench.moment(out))
            if code == "hung":
                counts.bad("hung", f"{out} {tail(out.with_suffix('.log'))}")
            if code != "killed":
                if code not in (0, "hung"):
                    counts.bad("wrong", f"{out}: exit code {code} {tail(out.with_suffix('.log'))}")
                break
            killed, counts.n = killed + 1, counts.n + 1
            counts.hit += bool(bench.kind.units(out))
        else:
            bench.finish(out, counts)
            continue
        bench.compare(out, counts, out.with_suffix(".log"))
    return counts


@contextlib.contextmanager
def small_disk(folder, size):
    "A file system of so many bytes at `folder`, None where it cannot be mounted."
    folder.mkdir()
    how = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = shutil.which("mount") and subprocess.run(how, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def on_small_disk(bench, out, counts, size):
    "A run on a small file system, whose files are copied to `out`; its exit code."
    with small_disk(disk := bench.base / f"disk{bench.number}", size) as mounted:
        inside = disk / out.name
        if not mounted:
            return bench.attempt(out, counts, file_limit=size // 2)
        code = bench.attempt(inside, counts)
        for path in disk.glob(f"{out.name}*"):
            to = bench.base / path.name
            shutil.copytree(path, to) if path.is_dir() else shutil.copy(path, to)
    return code


def full_disks(bench, n):
    "Runs with too little space, then one with enough on what they left."
    counts = Counts(f"{bench.name}: full disk", "runs")
    files = [p for p in bench.whole_at.rglob("*") if p.is_file()]
    largest, total = max(p.stat().st_size for p in files), sum(p.stat().st_size for p in files)
    for i in range(n):
        out = bench.folder()
        if i % 2 == 0:  # the file system is full
            code = on_small_disk(bench, out, counts, int(total * bench.rng.uniform(0.3, 1.5)) + 4096)
        else:  # a file cannot grow further
            code = bench.attempt(out, counts, file_limit=int(largest * bench.rng.uniform(0.1, 1.0)) + 512)
        counts.n, counts.hit = counts.n + 1, counts.hit + (code != 0)
        if code == "hung":
            counts.bad("hung", f"{out} {tail(out.with_suffix('.log'))}")
        elif code < 0:
            counts.bad("wrong", f"{out}: signal {-code}")
        out.with_suffix(".begun").unlink(missing_ok=True)
        bench.finish(out, counts)
    return counts


def two_at_once(bench, n):
    "Two runs on one folder: both end, the second finds the first or what it has done."
    counts = Counts(f"{bench.name}: two at once", "pairs")
    for _ in range(n):
        out = bench.folder()
        logs = [out.with_suffix(".log"), out.with_suffix(".log2")]
        first = forked(bench.kind.work, out, log=logs[0])
        time.sleep(bench.rng.uniform(0, 0.5) * bench.seconds)
        second = forked(bench.kind.work, out, log=logs[1])
        codes = [ended(second, counts), ended(first, counts)]
        counts.n, counts.hit = counts.n + 1, counts.hit + (BUSY in codes)
        if "hung" in codes:
            counts.bad("hung", f"{out}: {codes}")
        elif 0 not in codes or set(codes) - {0, BUSY}:
            counts.bad("wrong", f"{out}: exit codes {codes} {tail(logs[0])} {tail(logs[1])}")
        begun = bench.kind.begun(out)
        if bench.kind.paid and len(set(begun)) < len(begun):
            counts.bad("doubled", f"{out}: {len(begun)} for {len(set(begun))}", len(begun) - len(set(begun)))
        bench.compare(out, counts, logs[0])
    return counts


# --- servers ---


def one_server(behaviour, kind, what, told):
    "(kind of failure, note) of three photos and a server of one behaviour, None where all is well."
    how = dict(backoff=0.001, timeout=20 if kind in ("good", "lasting", "ending") else 1.5, tries=5)
    start = time.monotonic()
    with test_endpoints.Server(*[what] * (9 if kind != "passing" else 2)) as s:
        try:
            found = test_endpoints.ask(s, 3, **how)
        except PermissionError as e:
            return None if kind == "ending" else ("wrong", f"{behaviour}: {e}")
        except Exception as e:
            return "wrong", f"{behaviour}: {type(e).__name__}: {e}"
    if time.monotonic() - start > 60:
        return "hung", behaviour
    if len(found) != 3:
        return "lost", f"{behaviour}: {len(found)} of 3"
    right = [r["city"] == "Helsinki" and not r["error"] for r in found]
    if kind in ("good", "passing") and not all(right):
        return "lost", f"{behaviour}: {[r['error'] for r in found]}"
    if kind == "good" and len(s.seen) != 3:
        return "doubled", f"{behaviour}: {len(s.seen)} requests"
    if kind == "ending" or (kind == "lasting" and any(right)):
        return "wrong", f"{behaviour}: {found[0]['error']}"
    if kind == "lasting" and not all(told in r["error"] for r in found):
        return "wrong", f"{behaviour}: {found[0]['error']}"


def all_servers(n, seed):
    "Every behaviour of `test_endpoints` n times, at once; the failures as JSON."
    tables = dict(
        good={k: (v,) for k, v in test_endpoints.GOOD.items()},
        passing=test_endpoints.PASSING,
        lasting=test_endpoints.LASTING,
        ending=test_endpoints.ENDING,
    )
    os.environ["OPENAI_API_KEY"] = test_endpoints.KEY
    each = [(name, kind, *(*v, "")[:2]) for kind, t in tables.items() for name, v in t.items()]
    rows = each * n
    random.Random(seed).shuffle(rows)
    with ThreadPoolExecutor(6) as pool:
        return len(rows), [bad for bad in pool.map(lambda row: one_server(*row), rows) if bad]


def mixed_server(out, n, seed):
    "Photos asked about at a server that fails, is slow, answers twice: whose answer is whose?"
    rng, lock = random.Random(seed), threading.Lock()
    troubles = [v[0] for k, v in test_endpoints.PASSING.items() if "endless" not in k and "drop" not in k]

    def some(sock, request):
        url = request.body["messages"][0]["content"][0]["image_url"]["url"]
        with lock:
            chance, trouble = rng.random(), rng.choice(troubles)
        if chance < 0.25:
            return trouble(sock, request) if callable(trouble) else sock.sendall(trouble)
        with test_endpoints.Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as im:
            town = f"Town {im.size[0]}"
        reply = test_endpoints.http(test_endpoints.chat(content=f"city: [{town}]"))
        more = test_endpoints.http(test_endpoints.chat(content="city: [Wrong]")) if chance > 0.6 else b""
        sock.sendall(reply + more)

    picture = lambda i: test_endpoints.Image.new("RGB", (100 + i, 90), (i % 255, 99, 9))
    kinds = test_distill.Features(id=test_distill.Value("string"), image=test_distill.Image())
    towns = {f"p{i}": f"Town {100 + i}]" for i in range(n)}
    rows = [dict(id=id, image=picture(i)) for i, id in enumerate(towns)]
    data = test_distill.Dataset.from_list(rows, features=kinds)
    with test_endpoints.Server(*[some] * 100_000) as s:
        for _ in range(6):
            how = dict(backoff=0.001, timeout=3, tries=3, concurrency=8, give_up=1000)
            distill(data, [EndpointTeacher(s.url, "m", **how)], out, watch=False)
        asked = len(s.seen)
    found = {r["id"]: r["text"] for r in records(out) if not r["error"]}
    bad = [("lost", f"no answer about {id}") for id in towns.keys() - found.keys()]
    return asked, bad + [("wrong", f"{id}: {said}") for id, said in found.items() if towns[id] not in said]


def servers(base, n, seed):
    "Rows of the table about servers."
    for title, of, work in [
        ("servers: each behaviour", "servers", lambda: all_servers(n, seed)),
        (
            "servers: behaviours mixed, answers paired",
            "requests",
            lambda: mixed_server(base / "mixed", 40 * n, seed),
        ),
    ]:
        counts, start, told = Counts(title, of), time.monotonic(), base / f"{of}.json"
        pid = forked(lambda: told.write_text(json.dumps(work())), log=base / "servers.log")
        code = ended(pid, counts)
        if code == "hung":
            counts.bad("hung", tail(base / "servers.log"))
        elif code:
            counts.bad("wrong", tail(base / "servers.log"))
        else:
            counts.n, bad = json.loads(told.read_text())
            for kind, note in bad:
                counts.bad(kind, note)
        counts.seconds = time.monotonic() - start
        yield counts


# --- hostile inputs ---


def opened(door, seed, numbers, at, bad, folder):
    "Open inputs one after the other; the number of the one in hand stands in shared memory."
    doors = soak_inputs.Doors(folder)
    for number in numbers:
        at[:8] = number.to_bytes(8, "little")
        try:
            soak_inputs.tried(doors, door, seed, number)
        except BaseException as e:
            with open(bad, "a", encoding="utf-8", errors="replace") as f:
                f.write(json.dumps([number, f"{type(e).__name__}: {e}"[:300]]) + "\n")


def inputs(base, door, n, seed, patience=40.0):
    "So many inputs at one door."
    counts, begin, next_one = Counts(f"hostile inputs: {door}", "inputs", n), time.monotonic(), 0
    folder, at, bad = base / door, mmap.mmap(-1, 8), base / f"{door}.bad"
    folder.mkdir(parents=True)
    while next_one < n:
        pid = forked(opened, door, seed, range(next_one, n), at, bad, folder, log=base / f"{door}.log")
        seen, since, code = None, time.monotonic(), None
        while time.monotonic() - since < patience:
            if (now := bytes(at)) != seen:
                seen, since = now, time.monotonic()
            code = ended(pid, counts, 0.2) if not alive(pid) else None
            if code is not None or not alive(pid):
                break
            time.sleep(0.05)
        next_one = int.from_bytes(at, "little") + 1
        if code is None:
            os.kill(pid, signal.SIGKILL)
            ended(pid, counts)
            counts.bad("hung", f"seed {seed}, number {next_one - 1}")
        elif code:
            counts.bad(
                "lost", f"seed {seed}, number {next_one - 1}: exit code {code} {tail(base / f'{door}.log')}"
            )
    for number, why in map(json.loads, bad.read_text().splitlines() if bad.exists() else []):
        counts.bad("wrong", f"seed {seed}, number {number}: {why}")
    counts.seconds = time.monotonic() - begin
    return counts


def alive(pid):
    "Does a child of this process still run? It is not waited for."
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


# --- all of it ---


def benches(base, seed, only=None):
    "The kinds of work, each prepared."
    kinds = dict(
        distillation=Distillation,
        validation=Validation,
        SFT=lambda folder: Training(folder, "sft"),
        GRPO=lambda folder: Training(folder, "grpo"),
        judge=lambda folder: Training(folder, "judge"),
        evaluation=Evaluation,
    )
    for name, kind in kinds.items():
        if only is None or name in only:
            yield Bench(name, kind(base / name), random.Random(f"{name} {seed}"))


def soak(base, kills_of, disks=4, pairs=4, server_rounds=3, hostile=20_000, seed=0, watch=print):
    "Rows of the table; `kills_of`: how many kills each kind of work gets."
    gazetteer()  # read once, for all forks
    rows = []

    def told(row):
        rows.append(row)
        watch(line(row))
        for note in row.notes[:3]:
            watch(f"    {note}")

    for bench in benches(base, seed, kills_of):
        for what, n in [(kills, kills_of[bench.name]), (full_disks, disks), (two_at_once, pairs)]:
            if n:
                start = time.monotonic()
                row = what(bench, n)
                row.seconds = time.monotonic() - start
                told(row)
    if server_rounds:
        for row in servers(base, server_rounds, seed):
            told(row)
    for door, share in soak_inputs.SHARES.items():
        if hostile:
            told(inputs(base / "inputs", door, round(share * hostile), seed))
    return rows


HEAD = ["what", "how many", *COUNTED, "s", "peak MB"]


def line(row):
    return " | ".join(map(str, cells(row)))


def cells(row):
    counted = [getattr(row, name) for name in COUNTED]
    hits = {"kills": "with work done", "runs": "stopped", "pairs": "refused one"}.get(row.of)
    many = f"{row.n:,} {row.of}" + (f", {row.hit} {hits}" if hits else "")
    return [row.what, many, *counted, round(row.seconds), row.peak_mb]


def table(rows):
    "The rows as Markdown."
    shown = [HEAD, ["---"] * len(HEAD), *map(cells, rows)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in shown)


def commit():
    "Which code is tried."
    git = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"]
    return subprocess.run(git, capture_output=True, text=True).stdout.strip()


def written(rows, code, seed, hours):
    "The page of the last run."
    total = {name: sum(getattr(r, name) for r in rows) for name in COUNTED}
    counts = ", ".join(f"{n} {name}" for name, n in total.items())
    n = lambda of: f"{sum(r.n for r in rows if r.of == of):,}"
    peak, cores = max(r.peak_mb for r in rows), os.cpu_count()
    return (
        f"# The last soak\n\nCommit {code}, {datetime.date.today()}, {hours:.2f} hours on {cores} cores, "
        f"seed {seed}:\n{n('kills')} kills, {n('runs')} runs on a full disk, {n('pairs')} pairs of runs, "
        f"{n('servers')} servers, {n('inputs')} hostile inputs:\n**{counts}**; peak memory of a process "
        f"{peak:,} MB. `make soak` makes this table again;\n`tests/soak.py` says what is counted.\n\n"
        f"{table(rows)}\n"
    )


FULL = dict(distillation=25, validation=20, SFT=15, GRPO=10, judge=10, evaluation=20)


def main():
    "The command: exit code 1 unless every count is 0."
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the counts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write tests/soak.md")
    a = parser.parse_args()
    part = lambda n: max(1, round(n * a.share))
    begin, code = time.monotonic(), commit()
    with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as base:
        kills_of = {name: part(n) for name, n in FULL.items()}
        sizes = dict(disks=part(4), pairs=part(3), server_rounds=part(3), hostile=part(20_000))
        print(" | ".join(HEAD), flush=True)
        say = lambda text: print(text, flush=True)
        rows = soak(Path(base), kills_of, **sizes, seed=a.seed, watch=say)
    text = written(rows, code, a.seed, (time.monotonic() - begin) / 3600)
    print("\n" + text)
    if a.write:
        (Path(__file__).parent / "soak.md").write_text(text, encoding="utf-8")
    return int(any(getattr(r, name) for r in rows for name in COUNTED))


if __name__ == "__main__":
    sys.exit(main())
