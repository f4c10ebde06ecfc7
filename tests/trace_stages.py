"""Runs one small stage of every kind and prints what code ran in it: `python tests/trace_stages.py FOLDER`.

Prints JSON: kind of stage -> dict(ran: names of functions, hashed: names in its manifest; asked: prompts
read, told: prompts in its manifest)."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from globe.answers import prompts


class Prompts(dict):
    "The prompts; notes which of them are read."

    note = staticmethod(lambda names: None)

    def __getitem__(self, name):
        self.note([name])
        return super().__getitem__(name)

    def get(self, name, other=None):
        return self[name] if name in self else other

    def values(self):
        self.note(self)
        return super().values()


prompts.PROMPTS, prompts.PROMPT_FILES = Prompts(prompts.PROMPTS), Prompts(prompts.PROMPT_FILES)

from globe.photos.collections import from_folder  # noqa: E402
from globe.pipeline import data, stages  # noqa: E402
from globe.pipeline.confidence import ConfidenceRun  # noqa: E402
from globe.pipeline.tasks import Run  # noqa: E402

SMALL = dict(
    photos=dict(train=60, test=8),
    student=dict(vision_pretrain_steps=1, name_pretrain_steps=1, answer_pretrain_steps=1),
    upper_bound=dict(vision_pretrain_steps=1, steps=1),
    segmenter=dict(photos=30, steps=20),
    judge=dict(steps=1),
    sft=dict(steps=1),
    grpo=dict(steps=1, completions_per_step=4, num_generations=2),
    answers=dict(max_new_tokens=4),
)
REPLY = "<think>A church.</think><answer>Country: France, City: Paris</answer>"


class Replies(BaseHTTPRequestHandler):
    "An endpoint that always gives the same answer."

    def log_message(self, *a):
        pass

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = dict(message=dict(content=REPLY), finish_reason="stop")
        body = json.dumps(dict(choices=[choice], usage=dict(prompt_tokens=9, completion_tokens=4))).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Trace:
    "Which functions of the package run while a stage is made."

    def __init__(self):
        self.ran, self.prompts, self.stack, self.kind = {}, {}, [], None
        self.seen = set()  # (id of the set of names, code object): already noted, or not ours

    def __call__(self, frame, event, arg):
        if event != "call" or not self.stack or self.stack[-1] is None:
            return
        found, code = self.stack[-1], frame.f_code
        if (id(found), code) in self.seen:
            return
        module = frame.f_globals.get("__name__") or ""
        is_function = code.co_flags & 1  # bodies of modules and classes are not optimized
        if module.startswith("globe.") and is_function:
            if self.importing(frame):
                return
            found.add(f"{module}:{code.co_qualname}")
        self.seen.add((id(found), code))

    def importing(self, frame):
        while frame := frame.f_back:
            if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__", "").startswith(
                "globe."
            ):
                return True
        return False

    def asked(self, names):
        "Note prompts that are read; one that is read while a module is imported would be seen only once."
        assert not self.importing(sys._getframe()), f"{names} must be read when they are used"
        if self.stack and self.stack[-1] is not None:
            self.prompts.setdefault(self.kind, set()).update(names)

    def around(self, function, found):  # a set, or None: nothing is noted
        def watched(*args, **named):
            self.stack.append(found)
            try:
                return function(*args, **named)
            finally:
                self.stack.pop()

        return watched

    def install(self):
        run, make, photos = stages._run, data.Stages.make, data.PhotoStages.photos

        def traced_run(folder, work, key, title, why):
            noted = self.ran.setdefault(self.kind, dict(ran=set(), hashed=set(), asked=set(), told=set()))
            noted["hashed"] |= set(key["code"])
            noted["told"] |= set(key["parameters"].get("prompts", ()))
            run(folder, self.around(work, noted["ran"]), key, title, why)
            noted["asked"] |= self.prompts.pop(self.kind, set())

        def traced_make(stages, at, work, settings, code, *more):
            before, self.kind = self.kind, code
            try:
                return make(stages, at, work, settings, code, *more)
            finally:
                self.kind = before

        stages._run, data.Stages.make = traced_run, traced_make
        data.PhotoStages.photos = self.around(photos, None)  # what it gives is an input
        Prompts.note = self.asked
        threading.settrace(self)  # of calls only, since it returns nothing
        sys.settrace(self)


def published(folder):
    "MP16-Reason as published, one row of it."
    folder.mkdir()
    Image.effect_noise((320, 240), 80).convert("RGB").save(folder / "noise.jpg")
    label, tags = "<country>France</country><city>Paris</city>", "[{'text': 'tree'}]"
    table = f'images,response,__#solution,entities\nnoise.jpg,A tree.,{label},"{tags}"\n'
    (folder / "mp16-reason-train.csv").write_text(table, encoding="utf-8")


def main(folder):
    data.run_folder = lambda name="smoke": folder / name
    trace = Trace()
    trace.install()
    run = ConfidenceRun("smoke", **SMALL)
    run.upper_bound(), run.rows_of("single")
    run.samples("sft", k=2)
    for model in ("sft", "grpo-all-readme"):
        run.answers(model, "test")
    run.error_scores("sft")
    for name in ("trip", "mp16-reason-test"):
        (folder / name).mkdir()
        Image.effect_noise((320, 240), 80).convert("RGB").save(folder / name / "noise.jpg")
    table = folder / "mp16-reason-test" / "mp16-reason-test.csv"
    table.write_text("IMG_ID,LAT,LON\nnoise.jpg,48.86,2.35\n", encoding="utf-8")
    data.run_folder = lambda name="smoke": folder / "real" / name
    Run("smoke", **SMALL | dict(photos=dict(source=str(folder)))).photos("test")
    published(folder / "mp16-reason-train")
    Run("smoke", **SMALL | dict(data="official", photos=dict(source=str(folder)))).rows_of("multi")
    run.own_judgements(from_folder(folder / "trip"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Replies)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = dict(urls=[f"http://127.0.0.1:{server.server_port}/v1"], model="a-model")
    data.run_folder = lambda name="smoke": folder / "asked" / name
    Run("smoke", **SMALL, teachers=dict(endpoints=[endpoint])).judgements()
    sys.settrace(None)
    return {kind: {k: sorted(v) for k, v in noted.items()} for kind, noted in trace.ran.items()}


if __name__ == "__main__":
    found = main(Path(sys.argv[1]))
    Path(sys.argv[1], "trace.json").write_text(json.dumps(found), encoding="utf-8")
