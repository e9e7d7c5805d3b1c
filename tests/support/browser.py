# SPDX-License-Identifier: Apache-2.0
"""A real browser without a screen, for pictures: opens a file, moves the mouse, types, and says what is seen.

Chromium's DevTools protocol over a pair of pipes (``--remote-debugging-pipe``):
JSON messages that end in a NUL on descriptors 3 and 4.  No port, no
WebSocket, no driver program, so nothing but the browser has to be installed.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

from patience import patient

COMMANDS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--disable-extensions", "--no-first-run", "--mute-audio", "--hide-scrollbars",
    "--remote-debugging-pipe",
]  # fmt: skip
_SECONDS = 60.0
_KEYS = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def command() -> str:
    """The browser's command; the test fails where there is none."""
    for name in COMMANDS:
        found = shutil.which(name)
        if found:
            return found
    raise AssertionError(f"a browser is needed: none of {', '.join(COMMANDS)} (Debian: chromium-headless-shell)")


class Browser:
    """One browser process; a context manager."""

    def __init__(self) -> None:
        self._home = tempfile.mkdtemp(prefix="osmia-browser-")
        read_theirs, write_ours = os.pipe()
        read_ours, write_theirs = os.pipe()
        # Above 3 and 4, so that neither is overwritten before it is copied.
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (read_theirs, write_theirs)]
        os.close(read_theirs)
        os.close(write_theirs)
        path = command()
        null = os.open(os.devnull, os.O_RDWR)
        self._pid = os.posix_spawn(
            path, [path, *_FLAGS, f"--user-data-dir={self._home}", "about:blank"], {**os.environ, "HOME": self._home},
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs[0], 3), (os.POSIX_SPAWN_DUP2, theirs[1], 4),
                          *[(os.POSIX_SPAWN_DUP2, null, fd) for fd in (0, 1, 2)]],
            setsid=True,
        )  # fmt: skip
        for fd in (*theirs, null):
            os.close(fd)
        self._write, self._read = write_ours, read_ours
        self._buffer = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._write)
        os.close(self._read)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)  # it and its own children
        os.waitpid(self._pid, 0)
        shutil.rmtree(self._home, ignore_errors=True)

    def call(self, method: str, session: str = "", /, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next(time.monotonic() + patient(_SECONDS))
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._read, 1 << 20)
            assert data, "the browser has ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def page(self, width: int = 1280, height: int = 800) -> Page:
        """A new page."""
        return Page(self, width, height)


class Page:
    """One page.  ``requests()`` and ``errors()`` tell what it asked for and what went wrong since it was opened."""

    def __init__(self, browser: Browser, width: int, height: int) -> None:
        self._browser = browser
        self._target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=self._target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def close(self) -> None:
        """The page is not needed any more."""
        self._browser.call("Target.closeTarget", targetId=self._target)

    def _events(self, method: str) -> list[dict[str, Any]]:
        """What the browser has told about this page."""
        return [event["params"] for event in self._browser.events
                if event.get("method") == method and event.get("sessionId") == self._session]  # fmt: skip

    def open(self, path: Path, *, scripts: bool = True) -> None:
        """Open a file and wait until it is loaded."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self._browser.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + patient(_SECONDS)
        while not self._events("Page.loadEventFired"):
            self._browser.events.append(self._browser._next(deadline))

    def eval(self, code: str) -> Any:
        """The value of the JavaScript expression ``code``."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def click(self, x: float, y: float) -> None:
        self.drag(x, y, x, y)

    def drag(self, x: float, y: float, to_x: float, to_y: float) -> None:
        """Press the button at one place and let it go at another."""
        self.hover(x, y)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=x, y=y, button="left", clickCount=1)
        if (x, y) != (to_x, to_y):
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=to_x, y=to_y, button="left", buttons=1)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=to_x, y=to_y, button="left", clickCount=1)

    def hover(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """A key: ``Enter``, ``ArrowUp``, or a character."""
        code: dict[str, Any] = {"windowsVirtualKeyCode": _KEYS[key]} if key in _KEYS else {"text": key}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def type(self, text: str) -> None:
        """Text into what has the focus."""
        self.call("Input.insertText", text=text)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def requests(self) -> list[str]:
        """The addresses that were asked for."""
        return [told["request"]["url"] for told in self._events("Network.requestWillBeSent")]

    def errors(self) -> list[str]:
        """Exceptions, and what the browser logged as errors (a script that the policy forbids is one)."""
        out = []
        for told in self._events("Runtime.exceptionThrown"):
            details = told["exceptionDetails"]
            out.append(f"{details['text']} {details.get('exception', {}).get('description', '')}")
        entries = [told["entry"] for told in self._events("Log.entryAdded")]
        return out + [entry["text"] for entry in entries if entry["level"] == "error"]
