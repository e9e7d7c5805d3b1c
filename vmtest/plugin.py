# SPDX-License-Identifier: Apache-2.0
"""pytest plugin: one JSON line per test, written as it ends, so that a guest that dies loses one test at most.

``record_property("row", "hook:kprobe")`` puts a test into the support
matrix, and a following ``record_property("how", "perf link")`` says what is
shown there; a test may be in several rows.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest


class Writer:
    """Collects the three phases of each test and writes their sum."""

    def __init__(self, path: str) -> None:
        self.done = _done(path)
        self.file = open(path, "a", buffering=1, encoding="utf-8")  # noqa: SIM115  # for the whole session
        self.now: dict[str, Any] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out what has ended already: a guest that died is booted again for the others."""
        ended = [item for item in items if item.nodeid in self.done]
        if ended:
            items[:] = [item for item in items if item.nodeid not in self.done]
            config.hook.pytest_deselected(items=ended)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._write({"event": "began", "test": nodeid})

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._write({"event": "collected", "tests": len(session.items)})

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._write({"id": report.nodeid, "outcome": "failed", "why": str(report.longrepr)[-4000:], "seconds": 0})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "setup":
            self.now = {"id": report.nodeid, "outcome": "passed", "why": "", "seconds": 0.0, "properties": []}
        self.now["seconds"] += report.duration
        if report.failed:
            self.now["outcome"] = "failed"
            self.now["why"] += f"[{report.when}] {report.longreprtext}"[-6000:]
        elif report.skipped:
            self.now["outcome"] = "xfailed" if hasattr(report, "wasxfail") else "skipped"
            reason = report.longrepr
            self.now["why"] = reason[2].removeprefix("Skipped: ") if isinstance(reason, tuple) else str(reason)
        if report.when == "teardown":
            self.now["properties"] = report.user_properties
            self.now["seconds"] = round(self.now["seconds"], 2)
            self._write(self.now)

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self._write({"event": "finished", "status": int(exitstatus)})

    def _write(self, record: dict[str, Any]) -> None:
        self.file.write(json.dumps(record) + "\n")


def _done(path: str) -> set[str]:
    """The tests of which results are there."""
    from vmtest.boot import read

    return {record["id"] for record in read(Path(path)) if "id" in record}


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("OSMIA_VM_RESULTS")
    if path:
        config.pluginmanager.register(Writer(path), "osmia-vm-results")
