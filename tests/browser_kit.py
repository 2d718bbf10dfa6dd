"""A real browser before the real demo: Debian's chromium, driven by Playwright, on pages of real processes."""

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebError, sync_playwright
from servers import ServerMissing

from hardware_sim import demo

ROOT = Path(__file__).resolve().parents[1]
PHONE, PC = (390, 844), (1440, 900)
LOCALES = {"en": "en-GB", "zh": "zh-CN"}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's browser, without a window."""
    found = shutil.which("chromium")
    if found is None:
        raise ServerMissing("chromium is not installed; run: apt-get install -y --no-install-recommends chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


class Demo:
    """`make demo` in a folder of its own, on ports of its own. tokens: by the words that it prints them under."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.tokens: dict[str, str] = {}
        self._log = folder / "demo.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "hardware_sim", "demo", "--folder", str(self.folder / "demo")]
        with ExitStack() as held:
            # Another demo may start at this moment and believe the same ports to be free: held, they are not.
            for port in demo.PORTS:
                with suppress(OSError):
                    held.enter_context(socket.create_server(("127.0.0.1", int(port))))
            with self._log.open("wb") as words:
                self._process = subprocess.Popen(command, cwd=ROOT, stdout=words, stderr=subprocess.STDOUT)
            deadline_s = time.monotonic() + 60
            while len(self.tokens) < 3:
                assert self._process.poll() is None, self.words()
                assert time.monotonic() < deadline_s, self.words()
                time.sleep(0.2)
                self.tokens = dict(re.findall(r"^\s+([A-Z]+)=(wn_\S+)", self.words(), re.MULTILINE))
        match = re.search(r"hub\s+(http://[\d.:]+)/docs", self.words())
        assert match is not None, self.words()
        self.url = match[1]
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(30)

    def words(self) -> str:
        """What it has said."""
        return self._log.read_text(encoding="utf-8")

    def fault(self, kind: str, device: str, seconds: float) -> None:
        """Break a device of the simulator."""
        socket = str(self.folder / "demo" / "sim.sock")
        command = [sys.executable, "-m", "hardware_sim", "fault", socket, kind, device, "--seconds", str(seconds)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=20)


class Witness:
    """Writes down what a page should never do: complain, fail, or ask anybody but its own server."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.wrongs: list[str] = []
        self._url = url
        context.on("console", self._said)
        context.on("weberror", self._failed)
        context.on("request", self._asked)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.wrongs.append(message.text)

    def _failed(self, error: WebError) -> None:
        self.wrongs.append(str(error.error))

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self._url, "data:", "blob:")):
            self.wrongs.append(f"asked {request.url}")


def open_page(browser: Browser, url: str, size: tuple[int, int], language: str = "en") -> tuple[Page, Witness]:
    """A page of a new visitor, and who watches it."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, locale=LOCALES[language])
    context.set_default_timeout(20_000)
    return context.new_page(), Witness(context, url)


def log_in(page: Page, url: str, token: str) -> None:
    """Through the door, as people do."""
    page.goto(f"{url}/login")
    page.fill("#token", token)
    page.click("button[type=submit]")
    page.wait_for_url(f"{url}/")
    page.wait_for_selector(".figures .value")
    page.wait_for_load_state("networkidle")
