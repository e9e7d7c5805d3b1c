# SPDX-License-Identifier: Apache-2.0
"""Pictures in a real browser; neither root nor a kernel is needed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from browser import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    page = browser.page()
    yield page
    page.close()
