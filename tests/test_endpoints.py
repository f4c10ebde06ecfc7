"How servers behave, one row each: what the client makes of it. A real server, no network beyond this machine."

import base64, gzip, json, socket, socketserver, subprocess, sys, threading, time, tracemalloc

import pytest
from PIL import Image

from globe.answers.replies import Reply, TransientError, chat_answer, retry_after
from globe.distillation.teachers import EndpointTeacher
from globe.evaluation.geocoder import Geocoder
from globe.exchange import _LARGEST
from globe.command_options import named_endpoint
from globe.pipeline.notebooks import Usage
from globe.models.client import chosen_model, endpoint_at, is_endpoint_address, served_models

KEY = "sk-live/0123456789+abcdefghij"
TEXT = "<think>A flag.</think>\n<answer>\ncountry: [Finland]\ncity: [Helsinki]\n</answer>"
ANSWER = TEXT.split("\n", 1)[1]


def chat(finish="stop", **message):
    "The body of a chat answer."
    return json.dumps(
        dict(choices=[dict(message=message or dict(content=TEXT), finish_reason=finish)])
    ).encode()


def http(body=None, status="200 OK", *headers, length=None):
    "A whole response."
    body = chat() if body is None else body
    size = len(body) if length is None else length
    head = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {size}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def failing(status, text):
    return http(json.dumps(dict(error=dict(message=text))).encode(), status)


def chunked(*parts):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(f"{len(p):x}\r\n".encode() + p + b"\r\n" for p in parts) + b"0\r\n\r\n"


BOMB = gzip.compress(b" " * (1 << 28))


class Server(socketserver.ThreadingTCPServer):
    "Answers each request with the next of `plan`: bytes, or a function of (socket, request); then all is well."

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, *plan):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.seen, self.connections, self.lock = list(plan), [], 0, threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.gets = http(b"{}", "404 Not Found")

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *a):
        self.shutdown()
        self.server_close()

    def handle_error(self, *a):
        pass


class Request:
    "One request, read from a socket."

    def __init__(self, sock):
        data = b""
        while b"\r\n\r\n" not in data:
            part = sock.recv(65536)
            if not part:
                raise EOFError
            data += part
        head, body = data.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split()
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        while len(body) < int(self.headers.get("content-length", 0)):
            body += sock.recv(65536)
        self.body = json.loads(body) if body else None


class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        s = self.server
        with s.lock:
            s.connections += 1
        try:
            while True:
                self.answer(s, Request(self.request))
        except (EOFError, OSError):
            pass

    def answer(self, s, request):
        with s.lock:
            s.seen.append(request)
            what = s.gets if request.method == "GET" else s.plan.pop(0) if s.plan else http()
        if callable(what):
            what(self.request, request)
        else:
            self.request.sendall(what)


def beside(**more):
    "An answer with more fields beside it."
    return http(json.dumps(json.loads(chat()) | more).encode())


def chosen(**more):
    "An answer with more fields in its choice."
    found = json.loads(chat())
    found["choices"][0] |= more
    return http(json.dumps(found).encode())


REFUSING = dict(type="refusal", refusal="I cannot.")


def drip(data):
    "Sends a byte now and then."

    def send(sock, request):
        for i in range(len(data)):
            sock.sendall(data[i : i + 1])
            time.sleep(0.1)

    return send


def silent(sock, request):
    time.sleep(3)


def reset(sock, request):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


def closing(data):
    "Sends and closes."

    def send(sock, request):
        sock.sendall(data)
        sock.close()

    return send


def refusing(name, text, code="400 Bad Request"):
    "Refuses a request with a parameter, answers one without."

    def send(sock, request):
        sock.sendall(failing(code, text) if name in request.body else http())

    return send


def headers_without_end(sock, request):
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    for i in range(100_000):
        sock.sendall(f"X-{i}: {'a' * 100}\r\n".encode())


def echo_number(sock, request):
    sock.sendall(http(None, "200 OK", f"X-Request-Id: {request.headers['x-request-id']}"))


def other_number(sock, request):
    sock.sendall(http(None, "200 OK", "X-Request-Id: globe-0"))


def picture(i):
    return dict(id=f"p{i}", image=Image.new("RGB", (32, 24), (i % 255, 99, 9)))


def ask(server, n=1, **how):
    "Judgements of `n` photos."
    settings = dict(backoff=0.001, timeout=0.4, concurrency=1, tries=2) | how
    return list(EndpointTeacher(server.url, "m", **settings).judge(picture(i) for i in range(n)))


def packed_without_end(sock, request):
    sock.sendall(b"HTTP/1.0 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(chat()))
    for _ in range(2000):
        sock.sendall(bytes(65536))


COUNTED = dict(completion_tokens=10**400, prompt_tokens=-1)
REDIRECT = "307 Temporary Redirect"
GOOD = {  # behaviour -> what the server does; the answer is read at the first request
    "plain": http(),
    "chunked": chunked(chat()[:20], chat()[20:]),
    "HTTP/1.0, closed at the end": closing(b"HTTP/1.0 200 OK\r\n\r\n" + chat()),
    "a byte order mark": http(b"\xef\xbb\xbf" + chat()),
    "gzip although not asked for": http(gzip.compress(chat()), "200 OK", "Content-Encoding: gzip"),
    "no finish_reason": http(chat(None)),
    "an unknown charset": http(chat()).replace(b"application/json", b"text/html; charset=hex"),
    "finish_reason eos_token": http(chat("eos_token")),
    "finish_reason STOP": http(chat("STOP")),
    "finish_reason done": http(chat("done")),
    "finish_reason as an object": http(chat(dict(type="stop", matched=151645))),
    "reasoning_content": http(chat(content=ANSWER, reasoning_content="A flag.")),
    "reasoning": http(chat(content=ANSWER, reasoning="A flag.")),
    "all in reasoning_content": http(chat(content=None, reasoning_content=TEXT)),
    "all in reasoning": http(chat(content="", reasoning=TEXT)),
    "a list of parts": http(chat(content=[dict(type="text", text=TEXT)])),
    "parts with thinking": http(
        chat(content=[dict(type="thinking", thinking="A flag."), dict(type="text", text=ANSWER)])
    ),
    "an empty tool_calls": http(chat(content=TEXT, tool_calls=[])),
    "a null refusal": http(chat(content=TEXT, refusal=None)),
    "an empty refusal": http(chat(content=[dict(type="text", text=TEXT, refusal="")], refusal="")),
    "a part that is no list": http(chat(content=dict(type="text", text=TEXT))),
    "a null error": http(json.dumps(json.loads(chat()) | dict(error=None)).encode()),
    "half of a surrogate pair": http(chat(content=TEXT + " \ud83d")),
    "two responses at once": http() + http(chat(content="country: [Peru]")),
    "its number sent back": echo_number,
    "usage beyond all numbers": http(json.dumps(json.loads(chat()) | dict(usage=COUNTED)).encode()),
    "a packed answer that goes on without end": packed_without_end,
    "usage is nonsense": http(json.dumps(json.loads(chat()) | dict(usage="much")).encode()),
    "a trailer": chunked(chat())[:-2] + b"X-Request-Id: globe-0\r\n\r\n",
    "thirty early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 30 + http(),
    "UTF-16": http(chat().decode().encode("utf-16")),
    "NaN beside the answer": http(chat()[:-1] + b', "created": NaN, "usage": {"completion_tokens": NaN}}'),
    "keys twice": http(b'{"choices": [], ' + chat()[1:]),
    "a part with a picture": http(chat(content=[dict(type="image_url"), dict(type="text", text=TEXT)])),
    "HTTP 201": http(None, "201 Created"),
    "HTTP 206": http(None, "206 Partial Content", "Content-Range: bytes 0-10/200"),
    "interim 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + http(),
}


@pytest.mark.parametrize("behaviour", GOOD)
def test_answers_are_read(behaviour):
    with Server(GOOD[behaviour]) as s:
        (r,) = ask(s)
    assert (r["error"], r["city"], len(s.seen)) == ("", "Helsinki", 1)
    assert r["reasoning"] == "A flag." and r["tokens"] is r["prompt_tokens"] is None


PASSING = {  # behaviour -> (what the server does, what the error says if it lasts)
    "HTTP 500": (failing("500 Internal Server Error", "CUDA out of memory"), "HTTP 500: CUDA out of memory"),
    "HTTP 503": (http(b"loading", "503 Service Unavailable"), "HTTP 503: loading"),
    "HTTP 408": (http(b"", "408 Request Timeout"), "HTTP 408"),
    "HTTP 429": (http(b"slow down", "429 Too Many Requests", "Retry-After: 0"), "HTTP 429: slow down"),
    "HTTP 429 until no date": (
        http(
            b"slow down", "429 Too Many Requests", "Retry-After: Fri, 99999999999999999999 Dec 2030 00:00 GMT"
        ),
        "HTTP 429: slow down",
    ),
    "HTTP 429 until a date that has passed": (
        http(b"slow down", "429 Too Many Requests", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT"),
        "HTTP 429: slow down",
    ),
    "server-sent events": (
        http(b'data: {"choices": [{"delta": {"content": "country: Peru"}}]}\n\ndata: [DONE]\n\n'),
        "not a chat answer: data:",
    ),
    "two codings": (http(gzip.compress(chat()), "200 OK", "Content-Encoding: gzip, br"), "'gzip, br'"),
    "two lengths": (http(chat(), "200 OK", "Content-Length: 5"), "conflicting Content-Length"),
    "an error with status 200": (failing("200 OK", "worker died"), "states an error: worker died"),
    "an error beside the answer": (beside(error=dict(message="worker died")), "an error: worker died"),
    "an error as a text beside the answer": (beside(error="worker died"), "an error: worker died"),
    "an error with a code beside the answer": (beside(error=dict(code=503, message="x")), "HTTP 503: x"),
    "an error in the choice": (chosen(error=dict(message="worker died")), "an error: worker died"),
    "an error in the message": (http(chat(content=TEXT, error="worker died")), "an error: worker died"),
    "finish_reason abort": (http(chat("abort")), "'abort'"),
    "finish_reason error": (http(chat("error")), "'error'"),
    "finish_reason 0": (http(chat(0)), "'0'"),
    "finish_reason false": (http(chat(False)), "'false'"),
    "finish_reason abort as an object": (http(chat(dict(reason="abort"))), "'abort'"),
    "an ending nobody knows": (http(chat("solar_flare")), "'solar_flare'"),
    "half a body": (http(chat()[:30]), "not a chat answer"),
    "a body cut by a closed connection": (closing(http(chat()[:30], length=900)), "RemoteProtocolError"),
    "closed without a byte": (closing(b""), "RemoteProtocolError"),
    "reset": (reset, "Error"),
    "a first line of 60,000 characters": (closing(b"HTTPX" + b"a" * 60_000 + b"\r\n\r\n"), "RemoteProtocol"),
    "no HTTP": (closing(b"220 smtp ready\r\n"), "RemoteProtocolError"),
    "a page": (http(b"<html><h1>Log in</h1></html>"), "not a chat answer: Log in"),
    "HTTP 204": (b"HTTP/1.1 204 No Content\r\n\r\n", "not a chat answer"),
    "no choices": (http(b'{"choices": []}'), "not a chat answer"),
    "a list": (http(b"[1, 2]"), "not a chat answer"),
    "null content": (http(chat(content=None)), "an empty answer"),
    "white space": (http(chat(content=" \n ")), "an empty answer"),
    "content is a number": (http(chat(content=7)), "an empty answer"),
    "nested too deeply": (http(b"[" * 100_000), ""),
    "no UTF-8": (http(b'{"choices": "\xff\xfe"}'), "not a chat answer"),
    "more than the limit": (http(b" " * (_LARGEST + 1)), "more than"),
    "endless": (
        lambda sock, r: [
            sock.sendall(b"HTTP/1.0 200 OK\r\n\r\n"),
            [sock.sendall(b" " * 65536) for _ in range(2000)],
        ],
        "more than",
    ),
    "a gzip bomb": (http(BOMB, "200 OK", "Content-Encoding: gzip"), "more than"),
    "gzip that is none": (http(chat(), "200 OK", "Content-Encoding: gzip"), "incorrect header"),
    "gzip that is cut": (http(gzip.compress(chat())[:-9], "200 OK", "Content-Encoding: gzip"), "is cut"),
    "brotli": (http(chat(), "200 OK", "Content-Encoding: br"), "'br'"),
    "headers without end": (headers_without_end, "RemoteProtocolError"),
    "silence": (silent, "timeout"),
    "headers drop by drop": (drip(http()), "timeout"),
    "a body drop by drop": (
        lambda sock, r: [sock.sendall(http()[:-60]), drip(http()[-60:])(sock, r)],
        "timeout",
    ),
    "chunks drop by drop": (
        lambda sock, r: [sock.sendall(chunked()[:-5]), drip(b"1\r\n \r\n" * 99)(sock, r)],
        "timeout",
    ),
    "another request's number": (other_number, "another request"),
}


@pytest.mark.parametrize("behaviour", PASSING)
def test_passing_trouble_is_asked_again_and_lasting_trouble_is_named(behaviour):
    what, why = PASSING[behaviour]
    with Server(what) as s:
        (r,) = ask(s)
        assert (r["error"], r["city"], len(s.seen)) == ("", "Helsinki", 2)
    start = time.monotonic()
    with Server(what) as s:
        (r,) = ask(s, tries=1)
    assert why in r["error"] and r["error"] and not r["city"] and len(r["error"]) < 400
    assert time.monotonic() - start < 1.5


TOO_MANY = json.dumps(dict(choices=[], ids=[{}] * 200_000)).encode()
LASTING = {  # behaviour -> (what the server does, what the error says, finish_reason): asked once
    "length": (http(chat("length", content="<thi")), "refused: the answer was cut at `max_tokens`", "length"),
    "MAX_TOKENS": (http(chat("MAX_TOKENS", content="<thi")), "cut at `max_tokens`", "max_tokens"),
    "a reply of too many parts": (http(TOO_MANY), "over 100,000 parts", ""),
    "content_filter": (http(chat("content_filter", content="")), "content filter", "content_filter"),
    "a refusal": (http(chat(content=None, refusal="I cannot.")), "the model refused: I cannot.", "stop"),
    "a refusal as a part": (http(chat(content=[REFUSING])), "the model refused: I cannot.", "stop"),
    "a refusal as the only part": (http(chat(content=REFUSING)), "the model refused: I cannot.", "stop"),
    "a refusal after half an answer": (
        http(chat(content=[dict(type="text", text=TEXT), REFUSING])),
        "the model refused: I cannot.",
        "stop",
    ),
    "a refusal in other names": (
        http(chat(content=[dict(type="output_refusal", text="I cannot.")])),
        "the model refused: I cannot.",
        "stop",
    ),
    "a refusal without words": (http(chat(content=[dict(type="refusal")])), "the model refused", "stop"),
    "a refusal that is an object": (
        http(chat(content=None, refusal=dict(why="no"))),
        "the model refused",
        "stop",
    ),
    "HTTP 400 in an answer": (beside(error=dict(code="400", message="bad")), "refused: HTTP 400: bad", ""),
    "tool calls": (
        http(chat("tool_calls", content=None, tool_calls=[dict(id="1")])),
        "called a tool",
        "tool_calls",
    ),
    "tool calls that stop": (
        http(chat("stop", content=None, tool_calls=[dict(id="1")])),
        "called a tool",
        "stop",
    ),
    "a function call that stops": (
        http(chat("stop", content=None, function_call=dict(name="x"))),
        "called a tool",
        "stop",
    ),
    "HTTP 600": (http(None, "600 Weird"), "refused: HTTP 600", ""),
    "a length that is refused": (
        failing("400 Bad Request", "'max_tokens' or 'max_completion_tokens' is too large: 1024."),
        "too large: 1024",
        "",
    ),
    "HTTP 400": (failing("400 Bad Request", "invalid image"), "refused: HTTP 400: invalid image", ""),
    "HTTP 413": (http(b"<h1>413 Too Large</h1>", "413 Payload Too Large"), "HTTP 413: 413 Too Large", ""),
    "HTTP 422": (http(b'{"detail": "bad"}', "422 Unprocessable Entity"), "HTTP 422: bad", ""),
    "finish_reason refusal": (http(chat("refusal", content="I")), "refused: the model refused", "refusal"),
    "finish_reason recitation": (http(chat("RECITATION", content="x")), "content filter", "recitation"),
    "model_length": (http(chat("model_length", content="<thi")), "cut at `max_tokens`", "model_length"),
    "an answer of 500,000 characters": (http(chat(content="a" * 500_000)), "at most 400,000", "stop"),
}


@pytest.mark.parametrize("behaviour", LASTING)
def test_what_no_other_request_mends_is_asked_once(behaviour):
    what, why, finish = LASTING[behaviour]
    with Server(what) as s:
        (r,) = ask(s)
    assert why in r["error"] and (r["finish_reason"], len(s.seen)) == (finish, 1)


REFUSALS = ("a refusal", "a refusal as a part", "a refusal without words")


@pytest.mark.parametrize("behaviour", REFUSALS)
def test_a_refusal_is_told_with_advice(behaviour):
    from globe.distillation.summary import advice

    with Server(LASTING[behaviour][0]) as s:
        (r,) = ask(s)
    assert advice(r["error"]) == "ask another model about these photos"


ENDING = {  # behaviour -> (what the server does, what the exception says): the run ends
    "HTTP 401": (failing("401 Unauthorized", f"wrong key {KEY}"), r"refused \(401\): wrong key \*\*\*"),
    "HTTP 401 in an answer": (beside(error=dict(code=401, message="no key")), r"refused \(401\): no key"),
    "HTTP 403": (http(b"", "403 Forbidden"), r"refused \(403\)"),
    "HTTP 404": (failing("404 Not Found", "no model m"), r"refused \(404\): no model m"),
    "HTTP 402": (failing("402 Payment Required", "no credit"), r"refused \(402\): no credit"),
    "HTTP 405": (http(b"nginx", "405 Not Allowed"), r"refused \(405\): nginx"),
    "HTTP 302": (http(b"", "302 Found", "Location: /login"), "redirects to http://127.0.0.1:.*/login: give"),
    "301 to https": (
        http(b"", "301 Moved Permanently", "Location: https://127.0.0.1/v1/chat/completions"),
        "redirects to https://127.0.0.1/v1/chat/completions: give",
    ),
    "307 to another server": (
        http(b"", REDIRECT, "Location: http://example.com/v1"),
        "another server .example.com",
    ),
    "307 to another port": (http(b"", REDIRECT, "Location: http://127.0.0.1:9/v1"), "another server"),
}


@pytest.mark.parametrize("behaviour", ENDING)
def test_what_concerns_every_photo_ends_the_run(behaviour, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    what, why = ENDING[behaviour]
    with Server(what) as s, pytest.raises(PermissionError, match=why) as caught:
        ask(s, 5)
    assert len(s.seen) == 1 and "live" not in str(caught.value)


def test_307_is_followed_on_the_same_host_and_not_in_circles():
    with Server(http(b"", REDIRECT, "Location: /v1/chat/completions/")) as s:
        (r,) = ask(s)
    assert r["city"] == "Helsinki" and [q.path for q in s.seen] == [
        "/v1/chat/completions",
        "/v1/chat/completions/",
    ]
    assert s.seen[0].body == s.seen[1].body
    with Server(*[http(b"", REDIRECT, "Location: /v1/chat/completions")] * 9) as s:
        with pytest.raises(PermissionError, match="circle"):
            ask(s)


def test_a_server_that_answers_twice_moves_no_answer_to_another_photo():
    "Every response is followed by one about another place on the same connection."

    def twice(sock, request):
        raw = base64.b64decode(request.body["messages"][0]["content"][0]["image_url"]["url"].split(",")[1])
        sock.sendall(http(chat(content=f"city: [Town {len(raw)}]")) + http(chat(content="city: [Wrong]")))

    with Server(*[twice] * 8) as s:
        found = ask(s, 8, concurrency=2, timeout=5)
    assert s.connections == 8 and not any("Wrong" in r["text"] for r in found)


SLOW_NAMES = """
import socket, sys, time
from globe.distillation.teachers import EndpointTeacher
from PIL import Image

known, start = socket.getaddrinfo, time.monotonic()
socket.getaddrinfo = lambda host, *a, **k: time.sleep({seconds}) if host == "slow" else known(host, *a, **k)
teacher = EndpointTeacher("http://slow:{port}/v1", "m", timeout=0.4, tries=1)
(r,) = teacher.judge([dict(id="a", image=Image.new("RGB", (32, 24)))])
print(round(time.monotonic() - start, 1), r["error"])
"""


def test_a_name_that_is_not_found_in_time_outlasts_no_deadline():
    "Neither the request nor the end of the program waits for the resolver."
    with Server() as s:
        code, start = SLOW_NAMES.format(seconds=60, port=s.server_address[1]), time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    seconds, _, error = done.stdout.partition(" ")
    assert "timeout" in error and float(seconds) < 25 and time.monotonic() - start < 45, done.stderr
    assert not done.stderr


def test_a_name_that_is_found_late_or_not_at_all_is_no_trouble(monkeypatch, capfd):
    known = socket.getaddrinfo

    def late(host, *given, **how):
        time.sleep(0.8 if host == "late" else 0)
        if host == "nowhere":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return known("127.0.0.1" if host in ("late", "here") else host, *given, **how)

    monkeypatch.setattr(socket, "getaddrinfo", late)
    with Server() as s:
        s.url = s.url.replace("127.0.0.1", "here")
        (r,) = ask(s, timeout=20)
        assert (r["city"], r["error"]) == ("Helsinki", "")
        s.url = s.url.replace("here", "late")
        assert "timeout" in ask(s, tries=1)[0]["error"]
        s.url = s.url.replace("late", "nowhere")
        assert "ConnectError" in ask(s, tries=1, timeout=20)[0]["error"]
        time.sleep(0.8)
    assert not capfd.readouterr().err


@pytest.mark.parametrize("value", ["inf", "1e400", "Fri, 31 Dec 9999 23:59:59 -2359", "nan", "-5", "", "٥"])
def test_any_pause_that_is_asked_for_has_an_end_and_a_long_one_is_reported_once(value, capsys):
    wait = retry_after(value)
    assert wait is None or wait >= 0
    teacher = EndpointTeacher("http://me:secret@localhost", "m")
    (endpoint,) = teacher.endpoints
    for _ in range(3):
        teacher._give_back(endpoint, TransientError("HTTP 429", wait))
    assert endpoint.wait - time.monotonic() <= 600
    said = "globe: http://localhost/v1 asks for a pause of 600 s\n" * ((wait or 0) > 600)
    assert capsys.readouterr().err == said


def test_parts_within_parts_are_no_end_of_the_run():
    class Deep(Reply):
        "What a newer parser of JSON reads, which goes deeper than functions do."

        def json(self):
            content = "x"
            for _ in range(5000):
                content = [dict(type="thinking", thinking=content)]
            return dict(choices=[dict(message=dict(content=content), finish_reason="stop")])

    with pytest.raises(TransientError, match="not a chat answer"):
        chat_answer(Deep(200, b"{}"))


def test_a_pause_is_kept():
    with Server(http(b"", "429 Too Many Requests", "Retry-After: 0.5")) as s:
        start = time.monotonic()
        assert ask(s)[0]["city"] == "Helsinki" and time.monotonic() - start >= 0.5


@pytest.mark.parametrize(
    "name, text, sent",
    [
        (
            "max_tokens",
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            "max_completion_tokens",
        ),
        ("temperature", "Unsupported value: 'temperature' does not support 0 with this model.", ""),
    ],
)
def test_a_parameter_that_a_server_refuses_is_sent_as_it_likes(name, text, sent):
    with Server(*[refusing(name, text)] * 9) as s:
        found = ask(s, 3, tries=1)
    assert [r["city"] for r in found] == ["Helsinki"] * 3 and len(s.seen) == 4
    assert name not in s.seen[-1].body and (not sent or s.seen[-1].body[sent] == 1024)


def test_a_parameter_is_left_out_for_good_only_if_that_helped(capsys):
    "An error about one photo that mentions a parameter changes no request about another."
    text = "the temperature in the picture is too high to read"
    refused = failing("400 Bad Request", text)
    with Server(refused, refused) as s:
        found = ask(s, 3, tries=1, concurrency=1)
    assert [bool(r["error"]) for r in found] == [True, False, False] and len(s.seen) == 4
    assert ["temperature" in asked.body for asked in s.seen] == [True, False, True, True]
    assert "temperature" not in capsys.readouterr().err
    with Server(*[refusing("temperature", "Unsupported value: 'temperature'")] * 9) as s:
        ask(s, 3, tries=1)
    assert capsys.readouterr().err.count("does not take the parameter temperature: it is left out") == 1


def test_each_endpoint_gets_the_parameters_that_it_likes():
    old, new = "use max_tokens: max_completion_tokens is unknown", "use max_completion_tokens"
    with Server(*[refusing("max_tokens", new)] * 30) as a, Server(*[refusing("completion", old)] * 30) as b:
        teacher = EndpointTeacher([a.url, b.url], "m", tries=1, concurrency=3)
        found = list(teacher.judge(picture(i) for i in range(12)))
    assert not any(r["error"] for r in found)
    assert len(a.seen) > 1 and len(b.seen) > 1


def test_a_long_answer_with_its_alternatives_is_read():
    tops = dict(content=[dict(top_logprobs=[dict(token="a", logprob=-1.0, bytes=[97])] * 20)] * 1024)
    message = dict(content=TEXT + ', "[{' * 60_000)  # what stands in a text is no part
    body = dict(choices=[dict(message=message, finish_reason="stop", logprobs=tops)])
    with Server(http(json.dumps(body).encode())) as s:
        assert ask(s)[0]["city"] == "Helsinki"


def test_a_limit_of_ones_own_is_sent_under_the_name_that_the_server_likes():
    text = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    with Server(*[refusing("max_tokens", text)] * 9) as s:
        found = ask(s, 2, tries=1, params=dict(max_tokens=500))
    assert [r["city"] for r in found] == ["Helsinki"] * 2 and len(s.seen) == 3
    assert s.seen[-1].body["max_completion_tokens"] == 500 and "max_tokens" not in s.seen[-1].body


def test_parameters_are_added_and_left_out():
    with Server() as s:
        ask(s, params=dict(top_p=0.5, temperature=None))
    assert s.seen[0].body["top_p"] == 0.5 and "temperature" not in s.seen[0].body


@pytest.mark.parametrize(
    "form", ["127.0.0.1:{}", "http://127.0.0.1:{}", "http://127.0.0.1:{}/", "127.0.0.1:{}/v1/"]
)
def test_an_address_may_be_written_in_many_ways(form):
    with Server() as s:
        teacher = EndpointTeacher(form.format(s.server_address[1]), "m", timeout=5)
        assert [r["city"] for r in teacher.judge([picture(0)])] == ["Helsinki"]
    assert s.seen[0].path == "/v1/chat/completions"


# --- keys ---

SPELT = {
    "plain": KEY,
    "a line break inside": KEY[:12] + "\n" + KEY[12:],
    "percent-encoded": KEY.replace("/", "%2F").replace("+", "%2b"),
    "JSON in JSON": json.dumps(KEY).replace("/", r"\/"),
    "escaped line break": KEY[:12] + r"\n" + KEY[12:],
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of more than the key": base64.b64encode(b"user:" + KEY.encode() + b":x").decode(),
    "base64 for addresses": base64.urlsafe_b64encode(b"Bearer " + KEY.encode()).decode(),
    "percent-encoded twice": KEY.replace("/", "%252F").replace("+", "%252B"),
    "JSON in JSON in JSON": json.dumps(json.dumps(KEY.replace("/", r"\/"))),
    "hexadecimal": KEY.encode().hex(),
    "capitals": KEY.upper(),
    "HTML": "".join(f"&#{ord(c)};" for c in KEY),
    "invisible characters inside": "\u200b".join(KEY),
    "its end": "sk-" + KEY[9:],
    "cut": KEY[:-6],
    "at the limit of what is shown": "x" * 180 + KEY,
}


@pytest.mark.parametrize("spelling", SPELT)
def test_a_key_is_never_told(spelling, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(*[failing("500 Internal Server Error", f"no, {SPELT[spelling]} is wrong")] * 2) as s:
        (r,) = ask(s)
    assert s.seen[0].headers["authorization"] == f"Bearer {KEY}"
    told = "".join(c for c in r["error"].lower() if c.isprintable())
    pieces = ("live", "c2stbgl2", "stbgl2z", "0123", "m2nzg5", "3031323334", "#48;&#49", "ghij")
    assert "***" in told and not [p for p in pieces if p in told] and len(told) < 250


def test_a_key_in_the_name_of_a_compression_is_not_told(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(*[http(None, "200 OK", f"Content-Encoding: {KEY}")] * 4) as s:
        (r,) = ask(s, tries=1)
    assert "compressed as" in r["error"] and "live" not in r["error"] and "0123" not in r["error"]


@pytest.mark.parametrize("proxy", ["http://me:hush#x@127.0.0.1:9", "http://me:hush?x@127.0.0.1:9"])
def test_a_password_of_a_proxy_is_not_told(proxy, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "")
    (r,) = EndpointTeacher("http://192.0.2.1/v1", "m", tries=1, timeout=2).judge([picture(0)])
    assert r["error"] and "hush" not in r["error"]


def test_a_refusal_that_is_long_and_holds_the_key_is_a_short_line_without_it(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(http(chat(content=None, refusal=f"I cannot use\n{KEY} " + "x" * 100_000))) as s:
        (r,) = ask(s)
    assert r["error"].startswith("refused: the model refused: I cannot use *** xx") and len(r["error"]) < 250


def test_a_key_in_an_answer_is_not_stored(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server(http(chat(content=f"{TEXT} {KEY}"))) as s:
        (r,) = ask(s)
    assert r["city"] == "Helsinki" and "***" in r["text"] and "live" not in json.dumps(r)


def test_a_password_in_an_address_is_sent_and_never_told():
    sent = base64.b64encode(b"me:hush word").decode()
    with Server(*[failing("401 Unauthorized", f"no: {sent} me:hush%20word")] * 2) as s:
        teacher = EndpointTeacher(s.url.replace("//", "//me:hush%20word@"), "m")
        with pytest.raises(PermissionError) as caught:
            list(teacher.judge([picture(0)]))
    assert s.seen[0].headers["authorization"] == f"Basic {sent}"
    for told in (str(caught.value), repr(teacher), repr(vars(teacher))):
        assert "hush" not in told and sent[:8] not in told


def test_a_key_with_a_line_break_is_refused_before_it_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY[:9] + "\n" + KEY[9:])
    with Server() as s, pytest.raises(PermissionError, match="OPENAI_API_KEY .*line break") as caught:
        ask(s)
    assert not s.seen and "live" not in str(caught.value)


# --- which model ---


def listing(*names):
    return http(json.dumps(dict(data=[dict(id=name) for name in names])).encode())


@pytest.mark.parametrize(
    "names, chosen",
    [
        (["qwen"], "qwen"),
        (["bge-m3", "text-embedding-3-small", "qwen"], "qwen"),
        (["a", "b"], "several models"),
        (["text-embedding-3-small"], "lists no model that answers"),
    ],
)
def test_a_model_is_chosen_only_where_one_may_be_meant(names, chosen):
    with Server() as s:
        s.gets = listing(*names)
        served = served_models(s.url)
    if chosen == "qwen":
        assert chosen_model(served) == "qwen"
    else:
        with pytest.raises(ValueError, match=chosen):
            chosen_model(served)


def test_what_only_embeds_or_draws_is_no_chat_model():
    others = ["sentence-transformers/all-mpnet-base-v2", "stable-diffusion-xl", "colbertv2", "jina-clip-v2"]
    assert chosen_model([*others, "qwen"]) == "qwen"


@pytest.mark.parametrize(
    "names", [b"[" * 100_000, b'{"data": [{"id": "\\u001b[2J"}, {"id": "%s"}]}' % (b"m" * 999)]
)
def test_a_list_of_models_may_be_rubbish(names):
    with Server() as s:
        s.gets = http(names)
        assert served_models(s.url) == []


def test_a_name_that_contains_the_key_is_no_model(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server() as s:
        s.gets = listing("qwen", KEY, f"models/{KEY}")
        assert served_models(s.url) == ["qwen"]


def test_the_list_of_the_next_address_is_taken_where_one_is_down():
    with Server() as s:
        s.gets = listing("qwen")
        addresses = f"http://127.0.0.1:9|{s.url}"
        assert named_endpoint(addresses) == (addresses, "qwen")


def test_a_list_of_models_that_is_refused_names_the_key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with Server() as s:
        for status, cure in (
            ("401 Unauthorized", "correct the key in OPENAI"),
            ("403 Forbidden", "allow the key"),
        ):
            s.gets = http(b"no", status)
            with pytest.raises(PermissionError, match=cure):
                served_models(s.url)
            assert named_endpoint(f"{s.url} m") == (s.url, "m")  # the list may be refused alone


@pytest.mark.parametrize(
    "address", ["localhost:99999", "http://ho\nst/v1", "http://a b/v1", "ftp://x", "", "http://me:1#2@h/v1"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="is not a valid endpoint"):
        endpoint_at(address)


def test_an_address_is_told_from_a_folder_and_from_the_id_of_a_model():
    for text in ("http://gpu1", "localhost:8000", "gpu1:8000/v1 qwen", "HTTPS://x/v1", "[::1]:8000/v1"):
        assert is_endpoint_address(text)
    for text in ("Qwen/Qwen2.5-VL-7B", "models/sft", "a/b@0123", "/models/gpu:1", "default"):
        assert not is_endpoint_address(text)


def test_a_server_without_a_list_is_believed_and_one_that_is_down_named():
    with Server() as s:
        assert served_models(s.url) == [] and named_endpoint(f"{s.url} c") == (s.url, "c")
        assert not posted(s)
    with pytest.raises(ConnectionError, match="Connection refused"):
        served_models("http://127.0.0.1:9")


def posted(server):
    return [request.body for request in server.seen if request.method == "POST"]


@pytest.mark.parametrize("name", ["qwen:nitro", "my-deployment", "openai/gpt-4o", "Qwen2.5-VL-7B"])
def test_a_name_that_is_not_listed_is_tried_with_one_token_of_text(name, capsys):
    "Routers take variants, deployments and patterns that they do not list."
    with Server() as s:
        s.gets = listing("qwen", "openai/*", "Qwen/Qwen2.5-VL-7B")
        assert named_endpoint(f"{s.url} {name}") == (s.url, name)
        (body,) = posted(s)
    assert body == dict(model=name, messages=[dict(role="user", content="Say yes.")], max_tokens=1)
    assert f"does not list '{name}'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "status, said",
    [
        ("404 Not Found", "The model `Qwen2.5-VL-7B` does not exist."),
        ("404 Not Found", "DeploymentNotFound"),
        ("400 Bad Request", "Qwen2.5-VL-7B is not a valid model ID"),
        ("400 Bad Request", "Invalid model name passed in model=Qwen2.5-VL-7B"),
        ("422 Unprocessable Entity", "model 'Qwen2.5-VL-7B' not found, try pulling it first"),
    ],
)
def test_a_name_that_the_server_refuses_is_told_before_a_photo_is_sent(status, said):
    with Server(failing(status, said)) as s:
        s.gets = listing("Qwen/Qwen2.5-VL-7B")
        with pytest.raises(Usage, match="no model 'Qwen2.5-VL-7B'; it serves Qwen/Qwen2.5-VL-7B"):
            named_endpoint(f"{s.url} Qwen2.5-VL-7B")


@pytest.mark.parametrize(
    "status, said",
    [
        ("400 Bad Request", "Unsupported parameter: 'max_tokens' is not supported with this model."),
        ("500 Server Error", "CUDA out of memory"),
        ("401 Unauthorized", "no key"),
        ("429 Too Many Requests", "slow down"),
    ],
)
def test_another_refusal_says_nothing_about_the_name(status, said, capsys):
    with Server(failing(status, said)) as s:
        s.gets = listing("qwen")
        assert named_endpoint(f"{s.url} qwen-vl") == (s.url, "qwen-vl")
    assert "asked all the same" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["qwen", "llava"])
def test_a_listed_name_costs_no_request(name):
    with Server() as s:
        s.gets = listing("qwen", "llava:latest")
        assert named_endpoint(f"{s.url} {name}") == (s.url, name) and not posted(s)


def test_a_bomb_at_concurrency_eight_costs_little_memory():
    bomb = http(BOMB, "200 OK", "Content-Encoding: gzip")
    with Server(*[bomb] * 8) as s:
        tracemalloc.start()
        try:
            ask(s, 8, concurrency=8, tries=1, timeout=20)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 8 * 3 * _LARGEST


# --- the geocoder ---

GEOCODERS = {  # behaviour -> (what the server does, what the error says)
    "silence": (silent, "timeout"),
    "headers drop by drop": (drip(http(b"[]")), "timeout"),
    "a body drop by drop": (
        lambda sock, r: [sock.sendall(http(b"[" + b" " * 99)[:-60]), drip(b" " * 60)(sock, r)],
        "timeout",
    ),
    "a gzip bomb": (http(BOMB, "200 OK", "Content-Encoding: gzip"), "more than"),
    "more than the limit": (http(b"[" + b" " * _LARGEST), "more than"),
    "headers without end": (headers_without_end, "RemoteProtocolError"),
    "reset": (reset, "Error"),
    "a page": (http(b"<h1>Log in</h1>"), "not JSON: Log in"),
    "nested too deeply": (http(b"[" * 100_000), "not JSON"),
    "HTTP 500 with the key": (
        failing("500 Internal Server Error", f"no {KEY} token-0123 pass-word"),
        r"no \*\*\*",
    ),
    "HTTP 403": (failing("403 Forbidden", f"key {KEY}"), "Correct GLOBE_GEOCODER_KEY"),
    "another server": (http(b"", "302 Found", "Location: http://evil.example/?token-0123"), "another server"),
    "no coordinate": (http(b'[{"lat": "91", "lon": "nan"}]'), "did not answer as Nominatim"),
    "no list": (http(b'{"results": 7}'), "did not answer as Nominatim"),
}


@pytest.mark.parametrize("behaviour", GEOCODERS)
def test_a_geocoder_may_be_as_odd_as_any_server(behaviour, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOBE_GEOCODER_KEY", KEY)
    what, why = GEOCODERS[behaviour]
    with Server() as s:
        s.gets, address = what, s.url.replace("//", "//me:pass-word@")
        ask = Geocoder(f"{address}/search?token=token-0123", tmp_path, timeout=1.0, tries=2)
        start = time.monotonic()
        with pytest.raises((ConnectionError, ValueError), match=why) as caught:
            ask("Kyoto", "Japan")
        assert time.monotonic() - start < 20
    told = str(caught.value)
    assert "live" not in told and "token-0" not in told and "pass-w" not in told and len(told) < 500
    assert "token=token-0123" in s.seen[0].path and s.seen[0].headers["authorization"].startswith("Basic ")


def test_a_geocoder_that_asks_for_a_pause_gets_it_and_what_is_kept_may_be_torn(tmp_path):
    found = http(b'[{"lat": "35.02", "lon": "135.75", "addresstype": "city"}]')
    plan = [http(b"", "429 Too Many Requests", "Retry-After: 1"), found]
    with Server() as s:
        s.gets, start = lambda sock, r: sock.sendall(plan.pop(0) if plan else found), time.monotonic()
        ask = Geocoder(s.url, tmp_path)
        assert ask("Kyoto", "Japan") == (35.02, 135.75, "city") and time.monotonic() - start > 0.9
        content = ask.file.read_bytes()
        ask.file.write_bytes(content + '["Zürich"'.encode()[:4])  # half of a character
        assert Geocoder(s.url, tmp_path)("Kyoto", "Japan") == (35.02, 135.75, "city") and len(s.seen) == 2
        Geocoder(s.url, tmp_path)("Nara", "Japan")
        assert set(Geocoder(s.url, tmp_path).known) == {"Kyoto, Japan", "Nara, Japan"}


def test_a_geocoder_at_no_address_is_refused_without_its_password():
    for url in (
        "ftp://me:pass-word@h/?key=token-0123",
        "h/search?key=token-0123",
        "http://",
        "file:///etc/passwd",
    ):
        with pytest.raises(ValueError, match="http") as caught:
            Geocoder(url)
        assert "pass-word" not in str(caught.value) and "token-0" not in str(caught.value)


def test_there_are_enough_rows():
    assert len(GOOD) + len(PASSING) + len(LASTING) + len(ENDING) >= 40
