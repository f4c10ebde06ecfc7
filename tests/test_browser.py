"""What a person sees, in a real headless browser. Needs chromium and chromedriver (Debian: apt-get install
chromium chromium-driver) and `pip install selenium`; without them these tests are skipped.

GLOBE_LAB=1 also opens the notebooks in JupyterLab and runs them there, those of the paper in the profile smoke,
and GLOBE_SCREENSHOTS=folder keeps pictures of what was seen."""

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
from globe.app.demo import LOCAL, demo, example_photos
from globe.app.locate import Geolocator
from globe.app.prediction import concluded
from globe.pipeline.students import latest_student

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


def wait_for_server(address, process):
    until = time.time() + 240
    while time.time() < until:
        try:
            urllib.request.urlopen(address)
            return
        except OSError:
            assert process.poll() is None, f"nothing serves {address}"
            time.sleep(0.5)
    raise AssertionError(f"{address} does not answer after 240 s")


# --- globe demo ---


class Painter:
    "Answers by the colour of the picture's first pixel; blue is a failure."

    name, note = "painter", "for a test"

    def ask(self, rows, temperature):
        for row in rows:
            red, green, blue = row["image"].getpixel((0, 0))
            if blue > 2 * max(red, green):
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
    made = demo(Geolocator(Painter()), tmp_path, *example_photos(tmp_path))
    _, url, _ = made.launch(**LOCAL, server_port=free_port(), prevent_thread_lock=True)
    browser.get(url)
    wait(browser, "#locate")
    yield browser
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    made.close()


def put(page, *paths):
    "Drop pictures on the page, and wait until they are shown."
    for x in page.find_elements(By.CSS_SELECTOR, "#pictures button[aria-label='Clear']"):
        x.click()
    wait(page, "#pictures input[type=file]")[0].send_keys("\n".join(map(str, paths)))
    WebDriverWait(page, 30).until(
        lambda b: len(b.find_elements(By.CSS_SELECTOR, "#pictures .grid-container img")) == len(paths)
    )


def press(page):
    page.find_element(By.CSS_SELECTOR, "#locate").click()


def painted(folder, *colours):
    paths = [folder / f"{colour}.png" for colour in colours]
    for path in paths:
        Image.new("RGB", (300, 200), path.stem).save(path)
    return paths


def foreign(page):
    "What the page has asked other machines for."
    names = page.execute_script("return performance.getEntriesByType('resource').map(r => r.name)")
    return [n for n in names if "127.0.0.1" not in n and not n.startswith(("data:", "blob:"))]


def contrast(page, mark):
    "Of the text of an element to its background (WCAG; 4.5 can be read)."
    colours = [
        re.findall(r"[\d.]+", mark.value_of_css_property(what))[:3] for what in ("color", "background-color")
    ]
    linear = lambda c: c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
    shade = [sum(w * linear(float(x) / 255) for w, x in zip((0.2126, 0.7152, 0.0722), c)) for c in colours]
    return (max(shade) + 0.05) / (min(shade) + 0.05)


def test_the_page_invites(page):
    text = page.find_element(By.CSS_SELECTOR, "#card").text
    taken = page.find_element(By.CSS_SELECTOR, "#pictures").text
    assert "Drop pictures here" in taken and "Media" not in taken
    thumbnails = page.find_elements(By.CSS_SELECTOR, ".gallery-item img")
    assert [img.get_attribute("alt") for img in thumbnails] == ["china.jpg", "flower.jpg"]
    assert "Drop a picture" in text and "Do not locate" in page.find_element(By.TAG_NAME, "body").text
    seen(page, "demo_start")


def test_a_picture_gives_a_card_with_a_map_that_moves_and_marked_cues(page, tmp_path):
    put(page, *painted(tmp_path, "red"))
    press(page)
    card = wait(page, "#card .globe-card")[0]
    assert (
        "Paris, France" in card.text
        and "100% of 8 answers" in card.text
        and "red.png" in card.text
        and str(tmp_path) not in card.text
    )
    assert [m.text for m in card.find_elements(By.TAG_NAME, "mark")][-1:] == ["Palm trees"]
    assert "<script>" in card.text and page.title != "taken"
    address = card.find_element(By.CSS_SELECTOR, "a[href*='openstreetmap.org']").get_attribute("href")
    assert card.find_element(By.TAG_NAME, "code").text == "48.85341, 2.34880" and "mlat=48.85341" in address
    page.switch_to.frame(card.find_element(By.CSS_SELECTOR, "iframe[title=map]"))
    wait(page, ".pin")
    drawn = lambda: page.execute_script(
        "return [...document.querySelectorAll('path')].map(p => p.outerHTML).join()"
    )
    before = drawn()
    wait(page, ".leaflet-control-zoom-in")[0].click()
    WebDriverWait(page, 10).until(lambda b: drawn() != before)
    page.execute_script("document.querySelector('.leaflet-marker-icon .pin').parentNode.focus()")
    page.switch_to.active_element.send_keys(Keys.ENTER)
    popup = wait(page, ".leaflet-popup-content")[0]
    WebDriverWait(page, 10).until(lambda b: "8 of 8 answers" in popup.text)
    assert "<script>" in popup.text and not foreign(page)
    page.switch_to.default_content()
    seen(page, "demo_card")
    assert page.title != "taken" and not foreign(page)
    assert not [l for l in page.get_log("browser") if l["level"] == "SEVERE"]


def test_a_picture_that_does_not_tell_gets_no_place_but_the_reasons(page, tmp_path):
    put(page, *painted(tmp_path, "green"))
    press(page)
    card = wait(page, "#card .globe-card")[0]
    assert "localizability 0.20" in card.text
    assert "Palm trees grow" in card.text and not card.find_elements(By.TAG_NAME, "iframe")
    seen(page, "demo_abstains")


def test_a_file_that_is_no_picture_is_named_so(page, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    put(page, tmp_path / "torn.jpg")
    press(page)
    text = wait(page, "#card .globe-card")[0].text
    assert "damaged" in text and "answered by" not in text
    seen(page, "demo_torn")


def test_a_file_of_another_kind_is_refused_in_plain_words(page, tmp_path):
    (tmp_path / "notes.txt").write_text("a diary")
    wait(page, "#pictures input[type=file]")[0].send_keys(str(tmp_path / "notes.txt"))
    said = wait(page, "[data-testid=toast-text]")[0]
    WebDriverWait(page, 10).until(lambda b: "notes.txt. Only pictures can be located." in said.text)


def test_several_pictures_share_a_map_and_a_bad_one_costs_no_others(page, tmp_path):
    (tmp_path / "torn.jpg").write_bytes(b"\xff\xd8\xff\xe0 not really")
    put(page, *painted(tmp_path, "red", "green"), tmp_path / "torn.jpg")
    press(page)
    card = wait(page, "#card .globe-cards")[0]
    rows = [row.text for row in card.find_elements(By.TAG_NAME, "tr")]
    assert [r.partition("\n")[0][:21] for r in rows] == [
        "1. Paris, France",
        "2. This picture does ",
        "3. This picture could",
    ]
    page.switch_to.frame(card.find_element(By.CSS_SELECTOR, "iframe[title=map]"))
    assert [pin.text for pin in wait(page, ".pin")] == ["1"]
    page.switch_to.default_content()
    seen(page, "demo_several")


def test_no_picture_and_a_dead_model_are_said_and_the_page_goes_on(page, tmp_path):
    says = lambda text: WebDriverWait(page, 30).until(
        lambda b: text in b.find_element(By.CSS_SELECTOR, "#card").text
    )
    press(page)
    says("Choose a picture")
    put(page, *painted(tmp_path, "blue"))
    press(page)
    says("The model did not answer: the model is down")
    seen(page, "demo_error")
    put(page, *painted(tmp_path, "red"))
    press(page)
    says("Paris, France")


def test_cues_can_be_read_on_a_dark_page(page, tmp_path):
    page.get(page.current_url + "?__theme=dark")
    wait(page, "#locate")
    put(page, *painted(tmp_path, "red"))
    press(page)
    assert contrast(page, wait(page, "#card mark")[0]) > 7
    page.switch_to.frame(wait(page, "#card iframe")[0])
    wait(page, ".pin")
    page.switch_to.default_content()
    seen(page, "demo_dark")


def test_on_a_phone_the_result_stands_before_the_examples_and_nothing_is_cut_off(page, tmp_path):
    phone = dict(width=390, height=844, deviceScaleFactor=1, mobile=True)
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    put(page, *painted(tmp_path, "red"))
    press(page)
    card = wait(page, "#card .globe-card")[0]
    found = page.find_elements(By.XPATH, "//*[contains(text(), 'Examples:')]")
    (examples,) = [e for e in found if e.is_displayed()]
    assert page.find_element(By.CSS_SELECTOR, "#locate").location["y"] < card.location["y"]
    assert card.location["y"] + card.size["height"] <= examples.location["y"]
    assert page.execute_script("return document.documentElement.scrollWidth") <= 390
    seen(page, "demo_phone")


def test_an_example_and_the_keyboard_are_enough(page):
    for _ in range(30):
        page.switch_to.active_element.send_keys(Keys.TAB)
        here = page.switch_to.active_element
        if here.find_elements(By.CSS_SELECTOR, "img"):
            break
    here.send_keys(Keys.ENTER)
    wait(page, "#pictures img")
    assert "china.jpg" in wait(page, "#card .globe-card")[0].text
    seen(page, "demo_example")


def test_the_student_of_a_local_run_is_shown_on_a_drawn_example(browser):
    "GLOBE_SCREENSHOTS=figures writes figures/demo.png; for the README its margins of 90 pixels are cut off."
    pytest.importorskip("gradio")
    try:
        latest_student()
    except FileNotFoundError:
        pytest.skip("no student: globe reproduce trains one")
    port = free_port()
    command = [sys.executable, "-m", "globe", "demo", "--port", str(port)]
    server = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        wait_for_server(f"http://127.0.0.1:{port}/", server)
        size = dict(width=1180, height=650, deviceScaleFactor=1, mobile=False)
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.get(f"http://127.0.0.1:{port}/?__theme=light")
        third = lambda b: b.find_elements(By.CSS_SELECTOR, ".gallery img")[2:3]
        WebDriverWait(browser, 60).until(third)[0].click()
        card = wait(browser, "#card .globe-card", 120)[0]
        assert "synthetic images only" in card.text and "Drawn examples" in browser.page_source
        time.sleep(2)
        seen(browser, "demo")
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        server.terminate()
        server.wait(30)


def test_names_on_a_map_cover_neither_each_other_nor_pins(browser, tmp_path):
    pytest.importorskip("folium")
    cities = ["Suva"] * 4 + ["Nadi", "Lautoka", "Labasa"]
    texts = [f"<answer>country: Fiji\ncity: {city}</answer>" for city in cities]
    texts.append("<answer>country: Samoa\ncity: Apia</answer>")
    p = concluded("a.jpg", [from_text(i, "t", text) for i, text in enumerate(texts)])
    p.radius_km = 1500.0
    p.map().save(str(tmp_path / "map.html"))
    browser.get(f"file://{tmp_path / 'map.html'}")
    wait(browser, ".pin")
    time.sleep(1)
    shown = [e for e in browser.find_elements(By.CSS_SELECTOR, ".name, .town") if e.is_displayed()]
    assert {"Suva", "Apia"} <= {e.text for e in shown}
    names, pins = [e.rect for e in shown], [e.rect for e in browser.find_elements(By.CSS_SELECTOR, ".pin")]
    beside = lambda a, b: a["x"] + a["width"] <= b["x"] or a["y"] + a["height"] <= b["y"]
    for i, name in enumerate(names):
        assert all(beside(name, other) or beside(other, name) for other in names[:i] + pins), shown[i].text
    seen(browser, "map_names")


def test_a_map_in_a_file_moves_without_a_network(browser, tmp_path):
    pytest.importorskip("folium")
    text = f"<think>{EVIL}</think><answer>country: Fiji\ncity: Suva</answer>"
    p = concluded("a.jpg", [from_text(i, "t", text) for i in range(2)])
    p.map().save(str(tmp_path / "map.html"))
    browser.execute_cdp_cmd("Network.enable", {})
    offline = dict(offline=True, latency=0, downloadThroughput=0, uploadThroughput=0)
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    browser.get(f"file://{tmp_path / 'map.html'}")
    pin = wait(browser, ".pin")[0]
    assert abs(pin.rect["x"] - browser.execute_script("return innerWidth") / 2) < 60
    land = browser.find_elements(By.CSS_SELECTOR, "path.leaflet-interactive, svg path")
    assert len(land) > 20 and browser.title == "globe" and not foreign(browser)
    seen(browser, "map_file")
    browser.find_elements(By.CSS_SELECTOR, ".leaflet-control-layers-base input")[1].click()
    WebDriverWait(browser, 10).until(foreign)  # street tiles are asked for now, and only now
    browser.execute_cdp_cmd("Network.emulateNetworkConditions", offline | dict(offline=False))
    browser.execute_cdp_cmd("Network.disable", {})


# --- JupyterLab ---

IN_LAB = sorted(
    p
    for p in (ROOT / "nbs").rglob("*.ipynb")
    if not any(part.startswith((".", "_")) for part in p.relative_to(ROOT).parts)
)
ERRORS = (
    ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'], "
    ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr'], "
    ".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']"
)
IDLE = ".jp-NotebookPanel [data-status='idle'], .jp-Notebook-ExecutionIndicator[data-status='idle']"
in_lab = pytest.mark.skipif(
    not os.environ.get("GLOBE_LAB"),
    reason="GLOBE_LAB=1 opens the notebooks in JupyterLab and runs them, about half an hour",
)


@pytest.fixture(scope="module")
def checkout_in_lab(tmp_path_factory):
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("nbs", "figures", ".ci"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return copy


@pytest.fixture(scope="module")
def lab(checkout_in_lab):
    "A JupyterLab on a copy of the checkout, as `make lab` starts it."
    pytest.importorskip("jupyterlab")
    copy, port = checkout_in_lab, free_port()
    environment = os.environ | dict(
        PYTHONPATH=str(ROOT),
        JUPYTER_PREFER_ENV_PATH="1",
        JUPYTER_CONFIG_DIR=str(copy / "config"),
        HF_HUB_OFFLINE="1",
    )
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyter",
            "lab",
            "--config=.ci/lab.py",
            "--no-browser",
            f"--port={port}",
            "--ServerApp.port_retries=0",
            "--IdentityProvider.token=t",
            f"--LabApp.workspaces_dir={copy / 'workspaces'}",
            f"--LabApp.user_settings_dir={copy / 'settings'}",
        ],
        env=environment,
        cwd=copy,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_server(f"http://127.0.0.1:{port}/api/status?token=t", server)
    yield f"http://127.0.0.1:{port}"
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module")
def smoke_stages():
    "The stages of the profile smoke, in which the notebooks of the paper are run."
    command = [sys.executable, "-m", "globe", "reproduce", "--profile", "smoke", "--only", "paper"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)


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
    """Open a notebook in a workspace of its own, and return when its first heading is shown.

    Kernels of notebooks before it are ended: some hold a model."""
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


def problems(browser):
    """What a reader would trip over: errors, warnings, pictures that are not shown.

    JupyterLab draws cells as one scrolls, so this scrolls."""
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
            e.text.strip()[:300]
            for e in browser.find_elements(
                By.CSS_SELECTOR, f".jp-NotebookPanel:not(.lm-mod-hidden) :is({ERRORS})"
            )
        } - {""}
        found |= set(
            browser.execute_script(
                "return [...document.querySelectorAll('.jp-NotebookPanel:not(.lm-mod-hidden) img')]"
                ".filter(i => i.complete && !i.naturalWidth)"
                ".map(i => 'no picture: ' + (i.getAttribute('src') || '').slice(0, 100))"
            )
        )
    browser.execute_script("arguments[0].scrollTop = 0", area)
    return found


def test_opening_and_saving_a_notebook_in_jupyterlab_changes_nothing(browser, lab, checkout_in_lab):
    notebook = ROOT / "nbs" / "paper" / "04_table3.ipynb"
    opened(browser, lab, notebook)
    wait(browser, IDLE)
    time.sleep(3)  # the kernel tells its language after it is idle
    assert not browser.find_elements(By.CSS_SELECTOR, ".jp-mod-dirty")
    copy = checkout_in_lab / notebook.relative_to(ROOT)
    before = copy.stat().st_mtime_ns
    browser.find_element(By.TAG_NAME, "body").send_keys(Keys.CONTROL, "s")
    WebDriverWait(browser, 30).until(lambda _: copy.stat().st_mtime_ns != before)
    assert copy.read_bytes() == notebook.read_bytes()


@in_lab
@pytest.mark.parametrize("notebook", IN_LAB, ids=lambda p: p.stem)
def test_every_notebook_opens_in_jupyterlab_without_errors_and_with_its_pictures(browser, lab, notebook):
    opened(browser, lab, notebook)
    time.sleep(2)
    seen(browser, f"lab_{notebook.stem}")
    assert not problems(browser)


@in_lab
@pytest.mark.parametrize("notebook", IN_LAB, ids=lambda p: p.stem)
def test_every_notebook_runs_in_jupyterlab(browser, lab, smoke_stages, notebook):
    in_copy(lab, notebook, 'profile = "mini"', 'profile = "smoke"')
    opened(browser, lab, notebook)
    wait(browser, IDLE)
    browser.find_element(
        By.CSS_SELECTOR,
        ".jp-NotebookPanel [data-command='notebook:restart-run-all'], .jp-NotebookPanel [data-jp-item-name='restart-and-run']",
    ).click()
    wait(browser, ".jp-Dialog .jp-mod-accept, .jp-Dialog .jp-mod-warn")[-1].click()
    saved = _ran(browser, lab, notebook)
    outputs = [o for c in saved["cells"] for o in c.get("outputs", [])]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
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
