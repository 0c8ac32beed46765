"""What pyproject.toml cannot say: data and notebooks become files of the package `sim` in a wheel (`sim.shipped` finds them)."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithFiles(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            skipped = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__")
            for name in ("data", "notebooks"):
                target = Path(self.build_lib, "sim", "files", name)
                shutil.rmtree(target, ignore_errors=True)
                shutil.copytree(name, target, ignore=skipped)


setup(cmdclass={"build_py": BuildWithFiles})
