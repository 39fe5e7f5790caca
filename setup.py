"""Installs ttp_nb as settings.ini describes it: `pip install -e ".[dev]" -c constraints.txt`."""
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]

TRAVEL = "models/*.safetensors", "models/*.json", "models/README.md", "experiments/*.yaml"


class Build(build_py):
    """Weights, their cards and recipes lie beside the package in a clone, and in it where it is installed."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for file in sorted(file for pattern in TRAVEL for file in here.glob(pattern)):
            to = Path(self.build_lib) / cfg["lib_path"] / file.relative_to(here)
            self.mkpath(str(to.parent))
            self.copy_file(str(file), str(to))


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    keywords=cfg["keywords"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    url=cfg["git_url"],
    author=cfg["author"],
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    # "" and not nothing: an editable install then puts the clone on the path, where the package is found even by a
    # script beside a clone of the same name
    package_dir={"": "."},
    packages=find_packages(include=["ttp_nb", "ttp_nb.*"]),
    python_requires=f">={cfg['min_python']}",
    install_requires=cfg["requirements"].split(),
    extras_require={extra: cfg[f"{extra}_requirements"].split() for extra in ("dev", "many", "site")},
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
    },
    cmdclass={"build_py": Build},
    zip_safe=False,
)
