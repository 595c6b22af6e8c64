"""Packages of the wheel, and the experiments of `configs/`, which pyproject.toml cannot put into the package."""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

CONFIGS = "configs"


class BuildWithConfigs(build_py):
    """Copy `configs/` into the package, unless it is installed editable and finds them beside itself.

    A mapping of folders would do the same, but an editable install then has a finder that comes after folders of the
    package's name: a script beside a clone would import the clone's folder as an empty package.
    """

    def run(self) -> None:
        """Build, and copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib, "segmnv2", CONFIGS)
            target.mkdir(parents=True, exist_ok=True)
            for file in Path(CONFIGS).glob("*.yaml"):
                shutil.copy(file, target)


setup(
    cmdclass={"build_py": BuildWithConfigs},
    packages=find_packages(include=["segmnv2*"]),
    package_dir={"": "."},  # with it an editable install is a line in a .pth file, and no finder
    package_data={"segmnv2": ["py.typed", "checks/page.html", "evaluation/html_report.html"]},
)
