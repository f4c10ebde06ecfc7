"Figures and tables are the same bytes each time, survive odd data, and draw what they say."

import subprocess, sys

import matplotlib

matplotlib.use("Agg")
import cartopy.crs as ccrs
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from globe.figures import charts, dots, maps, style, tables
from globe.evaluation.compare import results
from globe.evaluation.metrics import score
from globe.places.sphere import great_circle


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def truth(n=40):
    r = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [str(i) for i in range(n)],
            "lat": r.uniform(-89, 89, n),
            "lon": r.uniform(-180, 180, n),
            "city": "Kyoto",
            "country": "Japan",
            "country_code": "JP",
        }
    )


def guess(n=40, seed=1):
    return truth(n).assign(lat=np.random.default_rng(seed).uniform(-89, 89, n))


BYTES = """
import sys, hashlib, tempfile, pathlib
sys.path.insert(0, sys.argv[1])
import matplotlib; matplotlib.use("Agg")
from test_figures import *
folder = pathlib.Path(tempfile.mkdtemp())
made = style.save(maps.error_map(guess(), truth()), folder/"map") + tables.write_table(results({"a": score(guess(), truth())}), folder/"table")
print([hashlib.sha256(p.read_bytes()).hexdigest() for p in made])
"""


def test_two_processes_write_the_same_bytes():
    from pathlib import Path

    run = lambda: (
        subprocess.run(
            [sys.executable, "-c", BYTES, str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    assert run() == run() != ""


def test_map_needs_no_network_and_counts_all_pictures(monkeypatch):
    import socket

    def refuse(*a, **k):
        raise AssertionError("a map reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    said = guess().assign(lat=lambda d: d.lat.where(d.index != 0), parsed=lambda d: d.index != 0)
    ax = maps.error_map(said, truth(), most=10)
    ax.figure.canvas.draw()
    labels = [t.get_text() for t in ax.get_legend().get_texts()]
    assert (
        sum(int(t.rsplit("(", 1)[1].rstrip(")")) for t in labels) == 40 and labels[-1] == "no coordinate (1)"
    )
    credit = ax.texts[0].get_text()
    assert "Natural Earth" in credit and "10 of 40 pictures drawn" in credit


@pytest.mark.parametrize(
    "a, b",
    [
        ((0, 179.9), (0, -179.9)),
        ((89, 10), (89, -170)),
        ((0, 0), (0, 180)),
        ((90, 0), (-90, 0)),
        ((10, 20), (10, 20)),
        ((-60, -175), (65, 178)),
    ],
)
def test_great_circles_survive_dateline_poles_and_antipodes(a, b):
    la, lo = great_circle(*a, *b)
    assert np.isfinite(la).all() and np.isfinite(lo).all()
    edge = abs(ccrs.Robinson().x_limits[1])
    for p in maps._robinson_pieces(la, lo):
        assert np.abs(np.diff(p[:, 0])).max() < edge / 2 or np.abs(la).max() > 85


def test_dateline_crossing_is_two_pieces():
    assert len(maps._robinson_pieces(*great_circle(10, 170, 10, -170))) == 2


def test_missing_coasts_name_the_remedy(monkeypatch, tmp_path):
    maps._land.cache_clear()
    monkeypatch.setattr(maps, "data_dir", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match="git checkout"):
        maps._land()
    maps._land.cache_clear()


def test_maps_of_nothing():
    maps.error_map(guess(0), truth(0))
    maps.place_map(truth(0))


def test_dots_carry_their_intervals():
    tidy = results({"a": score(guess(), truth()), "b": score(truth(), truth())}, [25, 2500])
    axes = dots.dot_table(tidy, oracle="b")
    drawn = [c for ax in axes for c in ax.containers if len(c.lines[0].get_xdata())]
    values = sorted(x for c in drawn for x in c.lines[0].get_xdata())
    assert values == pytest.approx(sorted(100 * tidy.value))
    widths = [end[1, 0] - end[0, 0] for c in drawn for end in c.lines[2][0].get_segments()]
    assert sorted(widths) == pytest.approx(sorted(100 * (tidy.high - tidy.low)))
    label = axes[0].figure.get_supxlabel()
    assert "%" in label and "n = 40" in label and "95 % intervals" in label


def test_the_committed_claims_fit_on_one_page():
    from pathlib import Path

    table = pd.read_csv(Path(__file__).parents[1] / "figures" / "claims.csv")
    half = np.arange(len(table)) < len(table) / 2
    sizes = table.pictures.str.rpartition("n = ")[2]
    table = table.assign(family=np.where(half, "GRPO", "data"), detail=table.measure, n=sizes)
    ax = dots.claims_page(table)
    width, height = ax.figure.get_size_inches()
    assert width <= 7 and height <= 9  # an A4 or letter page with margins
    assert sum(len(c.lines[0].get_xdata()) for c in ax.containers) == len(table)


def test_importing_and_drawing_leave_the_settings_of_matplotlib_alone(tmp_path):
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams);"
        "from globe.figures import charts, dots, maps, pictures, style, tables;"
        "import sys; sys.exit(before != dict(matplotlib.rcParams))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    before = dict(matplotlib.rcParams)
    style.save(dots.dot_table(results({"a": score(guess(), truth())}, [25]))[0], tmp_path / "dots")
    style.save(maps.place_map(truth()), tmp_path / "map")
    assert dict(matplotlib.rcParams) == before


def test_a_figure_that_is_shown_later_still_has_the_style():
    ax = charts.threshold_curve({"a": score(guess(), truth())})
    ax.figure.canvas.draw()
    assert {t.get_fontsize() for t in ax.get_yticklabels()} == {8.5}
    assert {line.get_color() for line in ax.get_ygridlines()} == {".92"}


def test_every_axis_has_a_label():
    log = pd.DataFrame(
        {"step": [0, 1, 0, 1], "seed": [0, 0, 1, 1], "config": "x", "reward": [0.0, 1, 0, 0.5]}
    )
    ax = charts.learning_curves(log, "reward")
    assert ax.get_xlabel() == "training step" and len(ax.collections) == 1  # a band for two seeds
    assert len(charts.learning_curves(log[:2], "reward").collections) == 0  # none for one
    ax = charts.threshold_curve({"a": score(guess(), truth())})
    assert "km" in ax.get_xlabel() and "%" in ax.get_ylabel()
    assert ax.lines[0].get_ydata()[-1] <= 100


def test_tables_escape_and_are_stable(tmp_path):
    df = pd.DataFrame(
        {"text": ["a|b", "50 % & <b>", None], "x": [1.23456789, np.nan, 12345.6], "n": [1, 2, 3]}
    )
    one, two = tables.write_table(df, tmp_path / "t.csv"), tables.write_table(df, tmp_path / "u")
    assert [p.name for p in one] == ["t.csv", "t.md", "t.tex"] and [p.read_bytes() for p in one] == [
        p.read_bytes() for p in two
    ]
    md, tex = one[1].read_text(), one[2].read_text()
    assert "a\\|b" in md and "&lt;b&gt;" in md and "12,346" in md and r"50 \% \& <b>" in tex
    assert pd.read_csv(one[0]).x.iloc[0] == pytest.approx(1.23456789)
