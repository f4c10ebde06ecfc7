"The profile of the paper, notebook by notebook, on stand-ins: `GLOBE_STANDINS=folder pytest tests/test_standins.py`."

import json, os

import pandas as pd
import pytest

import standins
from globe.files import checkout, figures_folder

WHERE = os.environ.get("GLOBE_STANDINS")  # folder where stand-ins are made, or already are


@pytest.mark.skipif(not WHERE, reason="17 minutes; GLOBE_STANDINS=folder runs it")
def test_one_command_walks_the_profile_of_the_paper():
    "No table is all zeros, and validation kept rows."
    assert standins.walk(WHERE) == 0
    kept = json.loads((checkout() / "data/paper/mp16-reason/manifest.json").read_text())["counts"]
    assert 0 < kept["rows"] < kept["photos"]
    tables = [pd.read_csv(file).select_dtypes("number") for file in figures_folder("paper").rglob("*.csv")]
    numbers = [t for t in tables if t.size]
    assert numbers and all((t.fillna(0) != 0).any().any() for t in numbers)
