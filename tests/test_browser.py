"""What a person sees, in a real headless browser. Needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver) and `pip install selenium`; without them these tests are skipped.

GLOBE_LAB=1 also opens the notebooks in JupyterLab and runs them there, those of the paper in the profile smoke, and GLOBE_SCREENSHOTS=folder keeps pictures of what was seen."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

selenium = pytest.importorskip("selenium")
CHROMIUM, DRIVER = (
    next(filter(None, map(shutil.which, names)), None)
    for names in (("chromium", "chromium-browser", "google-chrome"), ("chromedriver",))
)
if not (CHROMIUM and DRIVER):
    pytest.skip("no chromium with chromedriver", allow_module_level=True)

from selenium.webdriver import Chrome, ChromeOptions, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from globe.distillation.teachers import from_text
from globe.app.demo import LOCAL, demo
from globe.app.locate import Geolocator
from globe.world.camera_roll import example_postcards

ROOT = Path(__file__).parent.parent
EVIL = "<script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"


@pytest.fixture(scope="module")
def browser():
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1400,1000",
    ):
        options.add_argument(flag)
    driver = Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def wait(browser, css, seconds=60):
    return WebDriverWait(browser, seconds).until(lambda b: b.find_elements(By.CSS_SELECTOR, css))


def seen(browser, name):
    if folder := os.environ.get("GLOBE_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- globe demo ---


class Painter:
    "Answers by the colour of the picture's first pixel; blue is a failure."

    name, note = "painter", "for a test"

    def ask(self, rows, temperature):
        for row in rows:
            red, green, blue = row["image"].getpixel((0, 0))
            if blue > max(red, green):
                raise ConnectionError("the model is down")
            sure = 0.9 if red > green else 0.2
            yield from_text(
                row["id"],
                self.name,
                f"<think>{EVIL} Palm trees grow, there is no snow.</think><answer>country: France\ncity: Paris\nlocalizability: {sure}</answer>",
            )


@pytest.fixture
def page(browser, tmp_path, monkeypatch):
    pytest.importorskip("gradio")
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    made = demo(Geolocator(Painter()), tmp_path, example_postcards(tmp_path), "postcards")
    _, url, _ = made.launch(**LOCAL, server_port=free_port(), prevent_thread_lock=True)
    browser.get(url)
    wait(browser, "#locate")
    yield browser
    made.close()


def put(page, path):
    "Drop a picture on the page, and wait until it is shown."
    for x in page.find_elements(
        By.CSS_SELECTOR, "#picture button[aria-label*='emove'], #picture button[aria-label*='lear']"
    ):
        x.click()
    wait(page, "#picture input[type=file]")[0].send_keys(str(path))
    wait(page, "#picture img")


def press(page):
    page.find_element(By.CSS_SELECTOR, "#locate").click()


def test_a_picture_gives_a_card_with_map_and_marked_cues(page, tmp_path):
    Image.new("RGB", (300, 200), "red").save(tmp_path / "red.png")
    put(page, tmp_path / "red.png")
    press(page)
    card = wait(page, "#card .globe-card")[0]
    assert (
        "Paris, France" in card.text
        and "100% of 8 answers" in card.text
        and "red.png" in card.text
        and str(tmp_path) not in card.text
    )
    assert [m.text for m in card.find_elements(By.TAG_NAME, "mark")][-1:] == ["Palm trees"]
    assert page.execute_script("return document.querySelector('#card img[alt=map]').naturalWidth") > 300
    assert "<script>" in card.text and page.title != "taken"
    seen(page, "demo_card")
    foreign = page.execute_script(
        "return performance.getEntriesByType('resource').map(r => r.name).filter(n => !n.includes('127.0.0.1') && !/^(data|blob):/.test(n))"
    )
    assert not foreign, f"the page loads {foreign}"
    assert not [l for l in page.get_log("browser") if l["level"] == "SEVERE"]


def test_a_picture_that_does_not_tell_gets_no_place(page, tmp_path):
    Image.new("RGB", (300, 200), "green").save(tmp_path / "green.png")
    put(page, tmp_path / "green.png")
    press(page)
    card = wait(page, "#card .globe-card")[0]
    assert "localizability 0.20" in card.text and not card.find_elements(By.CSS_SELECTOR, "img[alt=map]")
    seen(page, "demo_abstains")


def test_a_file_that_is_no_picture_is_named_so(page, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    put(page, tmp_path / "torn.jpg")
    press(page)
    assert "error: damaged or cut short" in wait(page, "#card .globe-card")[0].text
    seen(page, "demo_torn")


def test_no_picture_and_a_dead_model_are_said_and_the_page_goes_on(page, tmp_path):
    press(page)
    WebDriverWait(page, 30).until(
        lambda b: "Choose a picture" in b.find_element(By.CSS_SELECTOR, "#card").text
    )
    Image.new("RGB", (30, 20), "blue").save(tmp_path / "blue.png")
    put(page, tmp_path / "blue.png")
    press(page)
    WebDriverWait(page, 30).until(lambda b: "the model is down" in b.find_element(By.TAG_NAME, "body").text)
    seen(page, "demo_error")


def test_the_examples_are_postcards(page):
    pictures = page.find_elements(By.CSS_SELECTOR, ".gallery img, [class*=gallery] img")
    assert len(pictures) == 4
    pictures[0].click()
    wait(page, "#picture img")
    seen(page, "demo_example")


# --- JupyterLab ---

IN_LAB = sorted(
    p
    for p in (ROOT / "nbs").rglob("*.ipynb")
    if not any(part.startswith((".", "_")) for part in p.relative_to(ROOT).parts)
)
ERRORS = ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], .jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], .jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
in_lab = pytest.mark.skipif(
    not os.environ.get("GLOBE_LAB"),
    reason="GLOBE_LAB=1 opens the notebooks in JupyterLab and runs them, about half an hour",
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "A JupyterLab on a copy of the checkout, as `make lab` starts it. Notebooks of the paper are opened as they are committed and run in the profile smoke, whose stages are made first."
    subprocess.run(
        [sys.executable, "-m", "globe", "reproduce", "--profile", "smoke", "--only", "paper"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    copy, port = tmp_path_factory.mktemp("checkout"), free_port()
    for name in ("nbs", "figures"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    environment = os.environ | dict(
        PYTHONPATH=str(ROOT),
        JUPYTER_PREFER_ENV_PATH="1",
        PYTHONWARNINGS="ignore:IProgress not found",
        JUPYTER_CONFIG_DIR=str(copy / "config"),
        HF_HUB_OFFLINE="1",
    )
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyter",
            "lab",
            "--allow-root",
            "--no-browser",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=t",
            f"--ServerApp.root_dir={copy}",
            f"--LabApp.workspaces_dir={copy / 'workspaces'}",
            f"--LabApp.user_settings_dir={copy / 'settings'}",
        ],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(120):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token=t")
            break
        except OSError:
            assert server.poll() is None, "JupyterLab did not start"
            time.sleep(0.5)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


def in_copy(lab, notebook, old, new):
    "Replace `old` in the copy of a notebook that JupyterLab has."
    address = f"{lab}/api/contents/{notebook.relative_to(ROOT).as_posix()}?token=t"
    with urllib.request.urlopen(address) as answer:
        model = json.load(answer)
    for c in model["content"]["cells"]:
        c["source"] = "".join(c["source"]).replace(old, new)
    urllib.request.urlopen(
        urllib.request.Request(
            address,
            json.dumps(dict(type="notebook", format="json", content=model["content"])).encode(),
            {"Content-Type": "application/json"},
            method="PUT",
        )
    ).close()


def opened(browser, lab, notebook):
    "Open a notebook in a workspace of its own, and return when its first heading is shown. Kernels of notebooks before it are ended: some hold a model."
    browser.get("about:blank")
    with urllib.request.urlopen(f"{lab}/api/kernels?token=t") as answer:
        kernels = json.load(answer)
    for k in kernels:
        urllib.request.urlopen(
            urllib.request.Request(f"{lab}/api/kernels/{k['id']}?token=t", method="DELETE")
        ).close()
    browser.get(
        f"{lab}/lab/workspaces/{notebook.stem}/tree/{notebook.relative_to(ROOT).as_posix()}?token=t&reset"
    )
    title = (
        "".join(json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"])
        .splitlines()[0]
        .removeprefix("# ")
    )
    WebDriverWait(browser, 90).until(
        lambda b: any(
            title.replace("`", "") in h.text for h in b.find_elements(By.CSS_SELECTOR, ".jp-NotebookPanel h1")
        )
    )
    for button in browser.find_elements(By.CSS_SELECTOR, ".jp-toastContainer button, .Toastify button"):
        if re.match("no|dismiss|close", button.text, re.I):
            button.click()


def said(text):
    "What was written to standard error but progress bars."
    return "\n".join(
        line for line in re.split(r"[\r\n]+", text) if line.strip() and not re.search(r"\d%\||\dit \[", line)
    )


def problems(browser):
    "What a reader would trip over: errors, warnings, pictures that are not shown. JupyterLab draws cells as one scrolls, so this scrolls."
    found, area = (
        set(),
        browser.find_element(
            By.CSS_SELECTOR, ".jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer"
        ),
    )
    bottom = browser.execute_script("return arguments[0].scrollHeight", area)
    for top in range(0, bottom + 1, 700):
        browser.execute_script("arguments[0].scrollTop = arguments[1]", area, top)
        time.sleep(0.25)
        found |= {
            said(e.text)[:300]
            for e in browser.find_elements(
                By.CSS_SELECTOR, f".jp-NotebookPanel:not(.lm-mod-hidden) :is({ERRORS})"
            )
        } - {""}
        found |= set(
            browser.execute_script(
                "return [...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) img')].filter(i => i.complete && !i.naturalWidth).map(i => 'no picture: ' + (i.getAttribute('src') || '').slice(0, 100))"
            )
        )
    browser.execute_script("arguments[0].scrollTop = 0", area)
    return found


@in_lab
@pytest.mark.parametrize("notebook", IN_LAB, ids=lambda p: p.stem)
def test_every_notebook_opens_in_jupyterlab_without_errors_and_with_its_pictures(browser, lab, notebook):
    code = [c for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
    assert not code or any(c["outputs"] for c in code), f"{notebook.name} was committed without outputs"
    opened(browser, lab, notebook)
    time.sleep(2)
    seen(browser, f"lab_{notebook.stem}")
    assert not problems(browser)


@in_lab
@pytest.mark.parametrize("notebook", IN_LAB, ids=lambda p: p.stem)
def test_every_notebook_runs_in_jupyterlab(browser, lab, notebook):
    in_copy(lab, notebook, 'profile = "mini"', 'profile = "smoke"')
    opened(browser, lab, notebook)
    WebDriverWait(browser, 60).until(
        lambda b: b.find_elements(
            By.CSS_SELECTOR,
            ".jp-NotebookPanel [data-status='idle'], .jp-Notebook-ExecutionIndicator[data-status='idle']",
        )
    )
    browser.find_element(
        By.CSS_SELECTOR,
        ".jp-NotebookPanel [data-command='notebook:restart-run-all'], .jp-NotebookPanel [data-jp-item-name='restart-and-run']",
    ).click()
    wait(browser, ".jp-Dialog .jp-mod-accept, .jp-Dialog .jp-mod-warn")[-1].click()
    saved = _ran(browser, lab, notebook)
    outputs = [o for c in saved["cells"] for o in c.get("outputs", [])]
    assert outputs and not [
        o
        for o in outputs
        if o["output_type"] == "error" or o.get("name") == "stderr" and said("".join(o["text"]))
    ]
    assert not problems(browser)
    seen(browser, f"lab_ran_{notebook.stem}")


def _ran(browser, lab, notebook, seconds=240):
    "The notebook as the server has it, once every code cell has been run and it was saved."
    until = time.time() + seconds
    while time.time() < until:
        browser.find_element(By.TAG_NAME, "body").send_keys(Keys.CONTROL, "s")
        time.sleep(2)
        with urllib.request.urlopen(
            f"{lab}/api/contents/{notebook.relative_to(ROOT).as_posix()}?token=t"
        ) as answer:
            saved = json.load(answer)["content"]
        code = [c for c in saved["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]
        if all(c["execution_count"] for c in code) or any(
            o["output_type"] == "error" for c in code for o in c["outputs"]
        ):
            return saved
    raise AssertionError(
        f"not finished after {seconds} s: {sum(not c['execution_count'] for c in code)} cells to go"
    )
