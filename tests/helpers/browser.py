"""A headless Chromium that opens a page: what it shows, and what its console says."""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
_FLAGS = (
    "--headless", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", "--window-size=1400,850", "--remote-debugging-port=0",
    "--remote-allow-origins=*",
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """What a page came to.

    Attributes:
        screenshot: png.
        errors: of its console, and exceptions.
    """

    screenshot: bytes
    errors: tuple[str, ...]


def open_page(url: str, *, seconds: float, scripts: tuple[str, ...] = ()) -> list[Page]:
    """Open a page and wait; a picture then, and one more some seconds after each script.

    Args:
        url: of the page.
        seconds: to wait before each picture.
        scripts: run one after the other.
    """
    from websockets.sync.client import connect

    assert CHROMIUM is not None
    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen(
            (CHROMIUM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = _port(Path(profile))
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list") as answer:
                targets = json.load(answer)
            target = next(one for one in targets if one["type"] == "page")
            with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
                session = _Session(socket)
                for domain in ("Runtime", "Log", "Page"):
                    session.ask(f"{domain}.enable")
                session.ask("Page.navigate", url=url)
                pages = [session.look(seconds)]
                for script in scripts:
                    session.ask("Runtime.evaluate", expression=script)
                    pages.append(session.look(seconds))
                return pages
        finally:
            process.terminate()
            process.wait(20)


def _port(profile: Path) -> int:
    file = profile / "DevToolsActivePort"
    for _ in range(300):
        if file.is_file() and (text := file.read_text()):
            return int(text.splitlines()[0])
        time.sleep(0.2)
    raise TimeoutError("chromium did not start")


class _Session:
    """One connection of the DevTools protocol."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._number = socket, 0
        self._errors: list[str] = []

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            message = json.loads(self._socket.recv(120))
            self._hear(message)
            if message.get("id") == self._number:
                return dict(message.get("result", {}))

    def look(self, seconds: float) -> Page:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            try:
                self._hear(json.loads(self._socket.recv(left)))
            except TimeoutError:
                break
        data = self.ask("Page.captureScreenshot", format="png")["data"]
        return Page(base64.b64decode(data), tuple(self._errors))

    def _hear(self, message: dict[str, Any]) -> None:
        params = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self._errors.append(str(params["exceptionDetails"].get("text")))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] == "error":
            self._errors.append(str(params["entry"].get("text")))
        elif message.get("method") == "Runtime.consoleAPICalled" and params["type"] == "error":
            self._errors.append(" ".join(str(a.get("value")) for a in params["args"]))
