"`globe evaluate`: the released prompt, parts, endpoints; answers are kept by weights, prompt and sampling."

import json, os, shutil, subprocess, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

import standins
from globe.answers import released
from globe.cli import main
from globe.evaluation.answered import read_answers
from globe.locks import acquired

ROWS = "a,60.17,24.94,Helsinki,Finland\nb,48.86,2.35,Paris,France\nc,35.69,139.69,Tokyo,Japan\n"


class Server:
    "An OpenAI-compatible server that names Paris about every picture and keeps what it was sent."

    def __init__(self, fail=(), choice=None):
        self.asked, self.fail, self.choice, outer = [], list(fail), choice, self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *a):
                pass

            def reply(self, body, status=200):
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                self.reply(dict(data=[dict(id="GLOBE")]))

            def do_POST(self):
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                if outer.fail:
                    return self.reply(dict(error="out of memory"), outer.fail.pop())
                text = "<think>A tower.</think><answer>country: [France]\ncity: [Paris]"
                self.reply(
                    dict(choices=[outer.choice or dict(message=dict(content=text), finish_reason="length")])
                )

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *a):
        self.http.shutdown()


@pytest.fixture
def given(tmp_path, monkeypatch):
    "Three photographs of MP16-Reason-Test, and a checkout of the released code with a prompt of ours."
    folder = tmp_path / "data" / "mp16-reason-test"
    folder.mkdir(parents=True)
    for name, colour in zip("abc", ("red", "green", "blue")):
        Image.new("RGB", (80, 60), colour).save(folder / f"{name}.jpg")
    (folder / "mp16-reason-test-12k.csv").write_text(f"IMG_ID,LAT,LON,city,country\n{ROWS}")
    hashes = standins.released_code(tmp_path / "code")
    monkeypatch.setattr(released, "_HASHES", hashes)
    monkeypatch.setenv("GLOBE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def command(given, *more):
    where = ["--data", str(given / "data"), "--out", str(given / "answers")]
    return ["evaluate", "--benchmark", "mp16-reason-test", *where, *map(str, more)]


def answered(given):
    "Name of each folder -> id -> text of its answers."
    folders = sorted(f.parent for f in (given / "answers").rglob("run.json"))
    return {folder.name: read_answers(folder) for folder in folders}


@pytest.mark.parametrize(
    "ending, message, kept",
    [
        ("tool_calls", dict(content=None, tool_calls=[dict(id="1")]), 0),
        ("content_filter", dict(content="It is"), 0),
        ("stop", dict(content="Paris. " * 60_000), 0),
        ("stop", dict(content=None, refusal="I cannot help with that."), 3),
    ],
)
def test_only_a_refusal_of_the_model_itself_is_an_answer(given, capsys, ending, message, kept):
    "What something else withheld is a failure: it is said, nothing is kept, and it is asked about again."
    with Server(choice=dict(message=message, finish_reason=ending)) as server:
        asked = command(given, "--endpoint", f"{server.url} GLOBE")
        assert main(asked) == int(kept == 0)
        assert sum(map(len, answered(given).values())) == kept
        assert ("requests failed" in capsys.readouterr().err) == (kept == 0)
        server.choice, before = None, len(server.asked)
        assert main(asked) == 0 and len(server.asked) - before == 3 - kept


def test_half_a_surrogate_in_an_answer_costs_nothing(given):
    with Server(choice=dict(message=dict(content="Paris \ud83d"), finish_reason="stop")) as server:
        assert main(command(given, "--endpoint", f"{server.url} GLOBE")) == 0
    assert [set(texts.values()) for texts in answered(given).values()] == [{"Paris ?"}]


def test_two_runs_about_the_same_pictures_are_refused(given, capsys):
    with Server() as server:
        asked = command(given, "--endpoint", f"{server.url} GLOBE")
        assert main(asked) == 0
        (folder,) = (f.parent for f in (given / "answers").rglob("run.json"))
        with acquired(folder / "answers.shard-1-of-2.sqlite.lock"):
            assert main(asked) == 1
    assert "another run" in capsys.readouterr().err


def test_the_released_request_is_sent_and_its_cut_answers_count(given, capsys):
    with Server() as server:
        asked = command(given, "--endpoint", f"{server.url} GLOBE", "--prompt", f"released={given / 'code'}")
        assert main(asked) == 0
        assert len(server.asked) == 3
        assert main(asked) == 0 and len(server.asked) == 3, "answers are kept"
        assert "3 answers that GLOBE gave before are used" in capsys.readouterr().err
        main(asked)
    body = server.asked[0]
    assert {k: body[k] for k in released._SAMPLING} == released._SAMPLING
    system, user = body["messages"]
    assert system == dict(role="system", content=standins.RELEASED_SYSTEM)
    assert [part["type"] for part in user["content"]] == ["image_url", "text"]
    assert user["content"][1]["text"] == standins.RELEASED_PROMPT
    told = capsys.readouterr()
    assert "hash" not in told.err
    shown = [line for line in told.out.splitlines() if line.startswith("| ")]
    assert any("GLOBE" in line and "33.33" in line and "this run" in line for line in shown)
    assert any("62.85" in line for line in shown) and any(
        "60.95" in line and "re-run" in line for line in shown
    )


def test_a_changed_prompt_is_said(given, capsys):
    file = given / "code" / released.EVALUATION
    file.write_text(file.read_text().replace(standins.RELEASED_PROMPT, "Another question."))
    with Server() as server:
        main(command(given, "--endpoint", server.url, "--prompt", f"released={given / 'code'}"))
    assert "PROMPT_COT has the hash" in capsys.readouterr().err


SYSTEM = f'"content": "{standins.RELEASED_SYSTEM}"'
ROLE = f'{{"role": "system", {SYSTEM}}},'


def changed_question(given, old, new, head=""):
    "The released question of a checkout in which something was changed."
    file = given / "code" / released.EVALUATION
    code = head + file.read_text()
    assert code.count(old) == 1
    file.write_text(code.replace(old, new))
    return released.released(given / "code")


@pytest.mark.parametrize(
    "old, new, head, system, said",
    [
        (SYSTEM, '"content": "Guess."', "", "Guess.", "its system message has the hash"),
        (ROLE, "", "", "", "its system message has the hash"),
        (SYSTEM, '"content": SYSTEM', 'SYSTEM = "Guess."\n', "Guess.", "its system message has the hash"),
        ('"text": prompt', '"text": prompt + "!"', "", None, "its user message"),
        ("temperature=0.1", "temperature=0.7", "", None, "sampling has changed: {'temperature': 0.7"),
        ("temperature=0.1", "temperature=HOT", "HOT = 0.7\n", None, "sampling has changed"),
        ("timeout=60", "timeout=60, top_p=0.5", "", None, "top_p=0.5 is not sent"),
        ("presence_penalty=0.7,", "", "", None, "sampling has changed"),
    ],
)
def test_every_difference_of_the_released_request_is_said(given, old, new, head, system, said):
    found = changed_question(given, old, new, head)
    assert [said in note for note in found.notes] == [True]
    assert found.system == (standins.RELEASED_SYSTEM if system is None else system)


def test_constants_of_the_file_are_read_and_are_no_difference(given):
    text = f'SYSTEM, HOT = None, None\nSYSTEM = "{standins.RELEASED_SYSTEM}"\nHOT = 0.1\n'
    found = changed_question(given, SYSTEM, '"content": SYSTEM', text)
    found = changed_question(given, "temperature=0.1", "temperature=HOT")
    assert found.notes == () and found.system == standins.RELEASED_SYSTEM
    assert found.sampling == released._SAMPLING


@pytest.mark.parametrize(
    "old, new, what",
    [
        ("temperature=0.1", "temperature=TEMP", "temperature"),
        ("temperature=0.1,", "", "temperature"),
        ("max_tokens=512", "max_tokens=None", "max_tokens"),
        (SYSTEM, '"content": SYSTEM', "system message"),
        (SYSTEM, '"content": ask()', "system message"),
        (ROLE, "*before,", "message"),
        ("client.chat.completions.create(", "client.responses.create(", "list of messages"),
    ],
)
def test_what_cannot_be_read_from_the_released_code_is_refused_before_a_model_is_loaded(
    given, capsys, monkeypatch, old, new, what
):
    with pytest.raises(ValueError, match=f"{what} cannot be read"):
        changed_question(given, old, new)
    monkeypatch.setattr("globe.models.vlm.load", lambda *a, **k: pytest.fail("a model was loaded"))
    assert main(command(given, "--model", "nobody/nothing", "--prompt", f"released={given / 'code'}")) == 1
    assert f"{what} cannot be read" in capsys.readouterr().err


def test_shards_of_several_machines_are_measured_together(given, capsys):
    with Server() as one, Server() as two:
        both = command(given, "--endpoint", f"{one.url}|{two.url} GLOBE", "--concurrency", "2")
        assert main([*both, "--shard", "1/2"]) == 0
        first = len(one.asked + two.asked)  # a photo's id decides about its part
        assert f"{first} of 3 pictures are answered" in capsys.readouterr().out
        assert main([*both, "--shard", "2/2"]) == 0
        assert "acc@25 km" in capsys.readouterr().out, "the last shard measures all"
        assert main(both) == 0 and len(one.asked + two.asked) == 3


def test_a_server_that_answers_nothing_gets_no_table(given, capsys, monkeypatch):
    monkeypatch.setattr("globe.models.client._pause", lambda *a: 0)
    with Server(fail=[500] * 12) as server:
        asked = command(given, "--endpoint", f"{server.url} GLOBE", "--max-new-tokens", "7")
        assert main(asked) == 1
    told = capsys.readouterr()
    assert "0 of 3 pictures are answered" in told.out and "acc@" not in told.out
    assert "requests failed" in told.err


def test_every_kind_of_failure_is_told_with_its_count_and_an_example(given, capsys):
    with Server(fail=[413, 400, 413]) as server:
        asked = command(given, "--endpoint", f"{server.url} GLOBE", "--concurrency", "1")
        assert main(asked) == 1
    told = capsys.readouterr().err
    rows = [line.split()[1] for line in told.splitlines() if "HTTP 4" in line]
    assert "3 requests failed" in told and rows == ["2", "1"], told
    (often,) = [line for line in told.splitlines() if "HTTP 413" in line]
    assert often.split("|")[3].strip() == "a" and "give the server more memory" in often


def test_failures_before_a_run_ends_early_are_told_too(given, capsys, monkeypatch):
    with Server(fail=[401, 400]) as server:
        asked = command(given, "--endpoint", f"{server.url} GLOBE", "--concurrency", "1")
        assert main(asked) == 1
    told = capsys.readouterr().err
    assert "1 requests failed" in told and "HTTP 400" in told and "(401)" in told


def test_rows_of_a_benchmark_that_cannot_be_used_are_told_with_their_reasons(given, capsys):
    (given / "data" / "mp16-reason-test" / "a.jpg").write_bytes(b"<html>")
    (given / "data" / "mp16-reason-test" / "b.jpg").unlink()
    with Server() as server:
        main(command(given, "--endpoint", f"{server.url} GLOBE"))
    out, err = capsys.readouterr()
    assert "could not be used: 2" in out and "2 rows of the benchmark cannot be used" in err
    table = [[cell.strip() for cell in line.split("|")[1:-1]] for line in err.splitlines() if line[:1] == "|"]
    assert table[0] == ["photos", "reason", "for example"], err
    assert any("HTML" in why and (n, example) == ("1", "a") for n, why, example in table[2:]), err
    assert sum(int(n) for n, *_ in table[2:]) == 2 and "b" in [example for *_, example in table[2:]]


def test_an_empty_shard_is_said(given, capsys):
    with Server() as server:
        asked = command(given, "--endpoint", f"{server.url} GLOBE", "--shard", "4/9")
        assert main(asked) == 0 and not server.asked
    assert "shard 4/9 holds no picture" in capsys.readouterr().err


def test_a_failed_request_is_asked_again_by_the_same_command(given, capsys, monkeypatch):
    monkeypatch.setattr("globe.models.client._pause", lambda *a: 0)
    with Server(fail=[500] * 4) as server:
        asked = command(given, "--endpoint", f"{server.url} GLOBE", "--concurrency", "1")
        assert main(asked) == 1
        told = capsys.readouterr()
        assert "out of memory" in told.err and "1 of 3 pictures have no answer" in told.out
        assert main(asked) == 0 and len(server.asked) == 4 + 2 + 1


def test_answers_of_other_weights_or_another_length_are_other_answers(given, capsys):
    "Also where another model stands in the same folder."
    from globe.world import student

    model = student.student(0, hidden=96, layers=1, depth=1)
    model.save(given / "model")
    asked = command(given, "--model", given / "model", "--max-new-tokens", 4)
    assert main(asked) == 0
    student.student(1, hidden=96, layers=1, depth=1).save(given / "model")
    assert main(asked) == 0
    assert main([*asked[:-1], "6"]) == 0
    assert len(answered(given)) == 3
    assert main([*asked[:-1], "6"]) == 0 and len(answered(given)) == 3
    released_too = [*asked, "--prompt", f"released={given / 'code'}"]
    assert main(released_too) == 0 and len(answered(given)) == 4
    assert any(name.startswith("released-") for name in answered(given))


def test_a_model_of_the_hub_is_known_by_its_commit(given):
    "From a cache in the layout of the hub's, whose API does not answer; another commit has answers of its own."
    from globe.world import student

    cache, environment = given / "hub" / "models--owner--model", dict(os.environ, HF_HUB_OFFLINE="1")
    for n, commit in enumerate(("0" * 40, "1" * 40)):
        student.student(n, hidden=96, layers=1, depth=1).save(cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("1" * 40)
    environment |= dict(HF_HUB_CACHE=str(given / "hub"), PYTHONPATH=str(Path(__file__).parent.parent))
    models = ("owner/model", "owner/model@" + "0" * 40)
    asked = [command(given, "--model", m, "--max-new-tokens", 4) for m in models]
    code = f"from globe.cli import main\nassert [main(asked) for asked in {asked}] == [0, 0]"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    runs = [json.loads(f.read_text()) for f in (given / "answers").rglob("run.json")]
    assert sorted(r["weights"] for r in runs) == ["0" * 40, "1" * 40]


def test_two_processes_give_the_answers_of_one(given, capfd):
    from globe.world import student

    student.student(0, hidden=96, layers=1, depth=1).save(given / "model")
    asked = command(given, "--model", given / "model", "--max-new-tokens", 4, "--batch", 1)
    assert main([*asked, "--processes", "2"]) == 0
    (two,) = answered(given).values()
    assert len(two) == 3 and "acc@25 km" in capfd.readouterr().out
    shutil.rmtree(given / "answers")
    assert main(asked) == 0
    assert list(answered(given).values()) == [two]


def test_more_processes_than_gpus_are_refused(given, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert main(command(given, "--model", "owner/model", "--processes", 8)) == 2
    assert "--processes 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more,said",
    [
        (["--model", "{}/adapter"], "Merge it into its base"),
        (["--model", "{}/empty"], "config.json"),
        (["--model", "no-such-model"], "owner/name"),
        (["--model", "owner/model"], "hf download owner/model"),
        (["--endpoint", "http://127.0.0.1:9/v1"], "start the server"),
        (["--endpoint", "http://127.0.0.1:9/v1 m", "--prompt", "released=nowhere"], "git clone"),
        (["--endpoint", "http://127.0.0.1:9/v1 m", "--prompt", "mine"], "released=PATH"),
        (["--endpoint", "http://127.0.0.1:9/v1 m", "--benchmark", "yfcc4k"], "put the 4,536 images"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_loaded(given, more, said, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("globe.models.vlm.load", lambda *a, **k: pytest.fail("a model was loaded"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (given / "adapter").mkdir()
    (given / "adapter" / "adapter_config.json").write_text("{}")
    (given / "empty").mkdir()
    assert main(command(given, *(m.format(given) for m in more))) in (1, 2)
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x]
    assert said in line and not (given / "answers").exists()


@pytest.mark.parametrize("pixels", [1, 3135, 50_000_001])
def test_pixels_have_the_limits_of_a_profile(given, capsys, pixels):
    from globe.settings import SettingsError
    from globe.pipeline.profiles import PhotoSettings

    with pytest.raises(SettingsError):
        PhotoSettings(max_pixels=pixels)
    with pytest.raises(SystemExit, match="2"):
        main(command(given, "--endpoint", "http://127.0.0.1:9/v1 m", "--max-pixels", pixels))
    assert "--max-pixels: must be from 3136" in capsys.readouterr().err
