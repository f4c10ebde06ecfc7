"""Reads settings.ini, the one place for name, version and requirements, and puts data/ into the wheel as globe/data."""

from configparser import ConfigParser
from pathlib import Path
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

config = ConfigParser(delimiters=["="], inline_comment_prefixes=None)
config.read("settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
extras = {
    name.removesuffix("_requirements"): wanted.split()
    for name, wanted in cfg.items()
    if name.endswith("_requirements")
}


class BuildWithData(build_py):
    """A wheel carries the committed part of data/; an editable install finds it in the checkout."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        committed = [p for p in Path("data").glob("*.[cj]s*") if not p.name.startswith("bench_")]
        for file in [*committed, *Path("data/naturalearth").iterdir()]:
            target = Path(self.build_lib) / "globe" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            if file.is_file():
                shutil.copyfile(file, target)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8") if Path("README.md").exists() else "",
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    url=cfg["git_url"],
    license="Apache-2.0",
    keywords=cfg["keywords"],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["globe", "globe.*"]),
    package_data={"globe": ["leaflet/*", "prompts/*.txt", "recipes/*.yaml", "templates/*.md"]},
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={"console_scripts": cfg["console_scripts"].split("\n")},
    cmdclass={"build_py": BuildWithData},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    zip_safe=False,
)
