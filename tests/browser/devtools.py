"""A headless Chromium over its debugging pipe: what a page asked for, said, opened and broke is all on record.

The pipe (`--remote-debugging-pipe`) carries JSON messages that end in a zero byte, on the file descriptors 3 and 4 of
the browser; no socket and no library is needed. Protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-extensions --disable-dev-shm-usage --hide-scrollbars"
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One browser with one page. `events` holds every message that the page caused since the last `open`."""

    def __init__(self, profile: Path) -> None:
        path = next((found for name in NAMES if (found := shutil.which(name))), None)
        if path is None:
            raise FileNotFoundError("there is no Chromium on PATH: apt-get install chromium")
        browser_reads, self._out = os.pipe()
        self._in, browser_writes = os.pipe()
        # The numbers 3 and 4 are fixed by the browser; a shell puts the pipes there.
        shell = f'exec "$0" "$@" 3<&{browser_reads} 4>&{browser_writes}'
        arguments = [path, *FLAGS.split(), f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            ["bash", "-c", shell, *arguments],
            pass_fds=(browser_reads, browser_writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(browser_reads)
        os.close(browser_writes)
        self._buffer, self._number, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        """End the browser and every process that it started."""
        os.close(self._out)
        os.close(self._in)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session, so that its children end too
        self._process.wait()

    def open(self, page: Path) -> None:
        """Load a file, forget what was before it, and return when its load event has passed."""
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self._wait(lambda m: m.get("method") == "Page.loadEventFired")
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))")

    def evaluate(self, expression: str) -> Any:
        """The JSON value of a JavaScript expression in the page; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        answer = self._wait(lambda m: m.get("id") == number)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def screenshot(self, path: Path, *, width: int, height: int, dark: bool = False, whole: bool = True) -> None:
        """Save what the page looks like at a width, from its top or whole."""
        self.resize(width, height, dark=dark)
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def resize(self, width: int, height: int, *, dark: bool = False) -> None:
        """Give the page another window and colour scheme."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.evaluate("new Promise(done => setTimeout(done, 300))")

    def requests(self) -> list[str]:
        """Addresses the page asked for, itself and data in the page excepted."""
        urls = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        own = self.evaluate("location.href.split('#')[0]")
        return [u for u in urls if u.split("#")[0] != own and not u.startswith(("data:", "blob:"))]

    def complaints(self) -> list[str]:
        """Console messages of any level, exceptions, the browser's own log entries, and dialogs."""
        kinds = (
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
            "Page.javascriptDialogOpening",
        )
        return [json.dumps(e)[:400] for e in self.events if e.get("method") in kinds]

    def _wait(self, wanted: Any, *, seconds: float = 60.0) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while True:
            message = self._receive(deadline)
            if message.get("method") == "Page.javascriptDialogOpening":  # else the page stands still behind it
                self._number += 1
                close = {"id": self._number, "method": "Page.handleJavaScriptDialog", "params": {"accept": False}}
                os.write(self._out, json.dumps({**close, "sessionId": self._session}).encode() + b"\0")
            if "method" in message:
                self.events.append(message)
            if wanted(message):
                return message

    def _receive(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            chunk = os.read(self._in, 1 << 20) if ready else b""
            if not chunk:
                raise TimeoutError("the browser does not answer" if not ready else "the browser ended")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message
