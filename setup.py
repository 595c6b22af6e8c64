"""Packages of the wheel: pyproject.toml cannot say that `configs/` is also `segmnv2.configs`."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["segmnv2*"]), "segmnv2.configs"],
    package_dir={"segmnv2.configs": "configs"},
    package_data={"segmnv2": ["py.typed", "doctor/page.html"], "segmnv2.configs": ["*.yaml"]},
)
