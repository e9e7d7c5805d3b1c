# SPDX-License-Identifier: Apache-2.0
"""What the tests themselves say is missing."""

from __future__ import annotations

import builtins
import gzip
import io
from typing import Any

import pytest
from needs import built, skip_unbuilt


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Files of a kernel that is made up, by the beginning of their paths."""
    files: dict[str, str] = {}

    def opened(path: Any, *_: Any, **__: Any) -> io.StringIO:
        for start, text in files.items():
            if str(path).startswith(start):
                return io.StringIO(text)
        raise FileNotFoundError(path)

    monkeypatch.setattr(gzip, "open", opened)
    monkeypatch.setattr(builtins, "open", opened)
    return files


@pytest.mark.parametrize(
    ("files", "there"),
    [
        ({"/proc/config": "CONFIG_X_FS=y\n"}, True),
        ({"/boot/config": "CONFIG_X_FS=y\n"}, True),
        ({"/proc/config": "# CONFIG_X_FS is not set\n"}, False),
        ({"/proc/config": "CONFIG_X_FS=m\n"}, False),
        ({"/proc/config": "CONFIG_X_FS=m\n", "/lib/modules": "kernel/fs/x/x.ko.xz: kernel/y.ko\n"}, True),
        ({"/lib/modules": "kernel/fs/xx.ko: \n"}, False),
        ({}, False),
    ],
)
def test_built_into_the_kernel_or_as_a_module_that_is_there(
    files: dict[str, str], there: bool, kernel: dict[str, str]
) -> None:
    kernel.update(files)
    found = built("X_FS", "x")
    with pytest.raises(pytest.fail.Exception if there else pytest.skip.Exception, match="no x"):
        skip_unbuilt("X_FS", "x", "no x")
    kernel.clear()
    assert found is there
