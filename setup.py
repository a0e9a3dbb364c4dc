"""What pyproject.toml cannot say: workflow, config and profiles, which lie beside the package, are installed inside it."""

from setuptools import find_packages, setup

FOLDERS = ("workflow", "config", "profiles")

setup(
    packages=[*find_packages(include=["invp", "invp.*"]), *(f"invp.{name}" for name in FOLDERS)],
    package_dir={f"invp.{name}": name for name in FOLDERS},
    package_data={
        "invp": ["pages/templates/*", "tools/golden.*", "tools/own_folder/**"],
        **{f"invp.{name}": ["**"] for name in FOLDERS},
    },
    exclude_package_data={"": ["**/__pycache__/*"]},
)
