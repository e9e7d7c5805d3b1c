# SPDX-License-Identifier: Apache-2.0
"""The build back end: setuptools', and the step that it lacks: into a wheel goes every tool's object, compiled now.

An editable install has none: there the tools are compiled when they run, so
that a change is seen.
"""

from __future__ import annotations

import os
import subprocess
import sys

from setuptools.build_meta import *  # noqa: F403  # the hooks of a build back end
from setuptools.command.build_py import build_py

HERE = os.path.dirname(os.path.abspath(__file__))


class BuildPy(build_py):
    """Copies the package, and compiles the tools of the copy."""

    def run(self) -> None:
        """As setuptools does it, and then the objects."""
        super().run()
        if self.editable_mode:
            return
        out = os.path.join(self.build_lib, "osmia", "data", "objects")
        # In a process of its own: it changes how osmia is imported.
        subprocess.run([sys.executable, os.path.join(HERE, "make_objects.py"), self.build_lib, out], check=True)
