"""A headless Chromium that tests steer through the DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
    *(
        "--autoplay-policy=no-user-gesture-required",
        "--force-prefers-reduced-motion",
        "--window-size=1280,900",
        "--remote-debugging-port=0",
    ),
)
WAIT_S = 20.0


class Browser:
    """One tab. `complaints` are what its console and its policy (CSP) report."""

    def __init__(self, profile: Path, flags: Sequence[str] = ()) -> None:
        command = [CHROMIUM, *_FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        self._open = ExitStack()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._open.callback(process.wait)
        self._open.callback(process.terminate)
        port_file = profile / "DevToolsActivePort"
        deadline = time.monotonic() + WAIT_S
        while not (port_file.exists() and port_file.read_text().count("\n")):
            assert time.monotonic() < deadline, "Chromium does not start"
            time.sleep(0.02)
        port = port_file.read_text().split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
            tab = next(one for one in json.load(answer) if one["type"] == "page")
        address = tab["webSocketDebuggerUrl"]
        self._socket = self._open.enter_context(connect(address, max_size=None, open_timeout=WAIT_S))
        self._ids = itertools.count(1)
        self.complaints: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_error: object) -> None:
        self._open.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._ids)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=WAIT_S))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, event: dict[str, Any]) -> None:
        match event["method"]:
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(event["params"]["exceptionDetails"])[:500])
            case "Log.entryAdded" if event["params"]["entry"]["level"] == "error":
                entry = event["params"]["entry"]
                self.complaints.append(f"{entry['text']} {entry.get('url', '')}")

    def open(self, url: str) -> None:
        """Go to an address, also one that differs in its part after # only, and wait for the view."""
        self.call("Page.navigate", url=url)
        self.until("document.querySelector('main').dataset.ready")

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression, awaited."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str, seconds: float = WAIT_S) -> None:
        """Wait until an expression is true; it may raise before."""
        deadline = time.monotonic() + seconds
        while self.call("Runtime.evaluate", expression=f"Boolean({script})")["result"].get("value") is not True:
            assert time.monotonic() < deadline, f"{script}\n{self.evaluate('document.body.innerText')[:800]}"
            time.sleep(0.03)

    def click(self, text: str) -> None:
        """Wait for a shown button, link or tab with this text, and click it."""
        found = f"""[...document.querySelectorAll("button, a, label, summary")].findLast(
            (one) => one.textContent.trim().startsWith({json.dumps(text)}) && one.offsetParent && !one.disabled)"""
        self.until(found)
        self.evaluate(f"{found}.click()")

    def choose_files(self, selector: str, *files: Path) -> None:
        """Choose files in a file field."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file) for file in files])

    def screenshot(self, path: Path) -> None:
        """Write a PNG of what is shown."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
