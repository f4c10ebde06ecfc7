"The sample of the soak that every test runs, and proof that the soak sees what it counts."

import json, re, subprocess, sys
from pathlib import Path

HERE = Path(__file__).parent


def test_a_sample_of_the_soak_loses_doubles_and_mistakes_nothing():
    command = [sys.executable, str(HERE / "soak.py"), "--share", "0.02", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "0 lost, 0 doubled, 0 wrong, 0 hung" in done.stdout and "hostile inputs: answer" in done.stdout


BAD_WORK = """
import json, random, sys, tempfile, time
from pathlib import Path

sys.path.insert(0, {tests!r})
import soak
from soak_kinds import KINDS

soak.HUNG, found = 3.0, {{}}
for name, kind in KINDS.items():
    with tempfile.TemporaryDirectory() as base:
        bench = soak.Bench(name, kind(Path(base) / name), random.Random(0))
        rows = [soak.kills(bench, 6), soak.two_at_once(bench, 1), soak.full_disks(bench, 1)]
        found[name] = {{c: sum(getattr(r, c) for r in rows) for c in soak.COUNTED}}
print(json.dumps(found))
"""


def test_the_soak_counts_what_bad_work_does():
    code = BAD_WORK.format(tests=str(HERE))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500)
    assert done.stdout, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["starts anew"]["doubled"] and found["starts anew"]["wrong"]
    assert found["forgets"]["lost"] and found["hangs"]["hung"]
    assert found["good"] == dict(lost=0, doubled=0, wrong=0, hung=0)


def test_the_last_soak_is_committed_and_what_it_found_is_mended():
    text = (HERE / "soak.md").read_text(encoding="utf-8")
    assert re.search(r"Commit [0-9a-f]{7,}, \d{4}-\d\d-\d\d, \d+\.\d\d hours", text)
    lost, doubled, wrong, hung = map(
        int, re.search(r"(\d+) lost, (\d+) doubled, (\d+) wrong, (\d+) hung", text).groups()
    )
    assert lost == doubled == hung == 0 and (not wrong or "mended in" in text)
    kills, inputs = (
        int(re.search(rf"([\d,]+) {of}", text)[1].replace(",", "")) for of in ("kills", "hostile")
    )
    assert kills >= 100 and inputs >= 19_000
