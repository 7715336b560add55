"""A private JupyterLab and a headless Chromium, for tests that go the way a person goes.

A test module that needs them begins so::

    import pytest
    from lab import Chromium, Lab, needs_browser

    pytestmark = needs_browser  # where Chromium or Playwright is missing, the tests are skipped and say so

    @pytest.fixture(scope="module")
    def lab(tmp_path_factory):
        with Lab(tmp_path_factory.mktemp("lab")) as lab:  # about 4 s
            yield lab

    @pytest.fixture(scope="module")
    def chromium():
        with Chromium() as chromium:  # one in a thread; open as many windows from it as are needed
            yield chromium

    def test_one_sees_it(lab, chromium):
        window = chromium.window()  # about 2 s: a browser of its own; window(wav=...) plays that file as the microphone
        lab.write("a.ipynb", ["from voiceclone import widgets", "widgets.table([('one', 2)])"])
        with Notebook(lab, window, "a.ipynb") as notebook:  # about 5 s: its kernel starts
            notebook.run(0)  # code cell 0, waits until it has ended
            notebook.run(1)
            assert "one" in notebook.output(1).inner_text()
            assert notebook.ask("1 + 1") == 2  # evaluated in the same kernel, over another connection
            notebook.page.locator(".vcr-record").click()  # everything of Playwright's page

A notebook file of the project is copied beside the others with `lab.copy("notebooks/01_record.ipynb", voice_path=...)`,
which sets its parameters as papermill would. `notebook.problems` lists what the page's scripts threw, and what was
fetched from other places than this server; assert that it is empty. Folders given to Lab hold the notebooks and all of
Jupyter's settings, so nothing of the user's is touched.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
QUIET = (
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--autoplay-policy=no-user-gesture-required",
)  # fmt: skip
MICROPHONES = {
    "granted": ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
    "refused": ("--use-fake-device-for-media-stream", "--deny-permission-prompts"),
    "none": ("--use-fake-ui-for-media-stream",),
}
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}

needs_browser = pytest.mark.skipif(
    CHROMIUM is None or find_spec("playwright") is None,
    reason="needs Chromium (Debian: apt-get install chromium) and the package playwright",
)
# Chromium's fake microphone loses sound on a machine that is short of time, which nobody's takes should be blamed for.
busy_machine = pytest.mark.flaky(reruns=2)


def wait_until(condition: Callable[[], object], what: str, *, seconds: float = 120, pause: Callable = time.sleep):
    """Ask until the answer is true, and return it."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        pause(0.05)
    return answer


class Lab:
    """A JupyterLab server of its own on a free port of this machine.

    Parameters
    ----------
    root
        Folder for notebooks, settings and logs.
    python
        The Python whose JupyterLab and kernel are used.
    environment
        Variables for the server and its kernels.
    theme
        "Light" or "Dark".
    arguments
        More of the server's options.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        python: str = sys.executable,
        environment: dict[str, str] | None = None,
        theme: str = "Light",
        arguments: Sequence[str] = (),
    ) -> None:
        self.root, self.python, self.arguments = Path(root), python, arguments
        self.notebooks, self.home = self.root / "notebooks", self.root / "home"
        self.port, self.token = _free_port(), secrets.token_hex(16)
        self._environment = environment or {}
        self.notebooks.mkdir(parents=True, exist_ok=True)
        settings = SETTINGS | {"apputils-extension/themes": {"theme": f"JupyterLab {theme}"}}
        for name, content in settings.items():
            file = self.home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(content))

    def __enter__(self) -> Lab:
        options = {
            "ServerApp.ip": "127.0.0.1",
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,
            "IdentityProvider.token": self.token,
            "ServerApp.root_dir": self.notebooks,
            "ServerApp.terminals_enabled": False,
            "LabApp.extension_manager": "readonly",
            "LabApp.news_url": "",
            "ServerApp.tornado_settings": {"page_config_data": {"buildCheck": False, "buildAvailable": False}},
        }
        self._log = (self.root / "server.log").open("wb")
        self._process = subprocess.Popen(
            [self.python, "-m", "jupyter", "lab", "--no-browser", "--allow-root",
             *(f"--{name}={value}" for name, value in options.items()), *self.arguments],
            env=self._variables(), stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            wait_until(self._answers, "JupyterLab", seconds=600)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for how in (signal.SIGTERM, signal.SIGKILL):  # the first lets the server end its kernels
            if self._process.poll() is None:
                self._process.send_signal(how)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
        self._log.close()

    def url(self, path: str, **query: object) -> str:
        """Address of a page of the server, with the token that lets one in."""
        query = {"token": self.token} | query
        return f"http://127.0.0.1:{self.port}/{path}?" + "&".join(f"{name}={value}" for name, value in query.items())

    def api(self, path: str, method: str = "GET") -> object:
        """An answer of the server's REST interface."""
        request = urllib.request.Request(self.url("api/" + path), method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read() or b"null")

    def add_kernel(self, name: str, **environment: str) -> None:
        """Offer another kernel: the same Python with more variables."""
        spec = {
            "argv": [self.python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": name, "language": "python", "env": environment,
        }  # fmt: skip
        folder = self.home / "data" / "kernels" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kernel.json").write_text(json.dumps(spec))

    def write(self, name: str, cells: Sequence[str], *, kernel: str = "python3") -> Path:
        """Write a notebook of code cells."""
        metadata = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
        book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)), metadata=metadata)
        nbformat.write(book, self.notebooks / name)
        return self.notebooks / name

    def copy(self, source: str | Path, **parameters: object) -> Path:
        """Copy a notebook of the project with some of its parameters set."""
        book = nbformat.read(ROOT / source, as_version=4)
        cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
        cell.source += "".join(f"\n{name} = {value!r}" for name, value in parameters.items())
        target = self.notebooks / Path(source).name
        nbformat.write(book, target)
        return target

    def kernel_of(self, name: str) -> dict | None:
        """What the server knows of a notebook's kernel; None before it has one."""
        return next((session["kernel"] for session in self.api("sessions") if session["path"] == name), None)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError((self.root / "server.log").read_text()[-2000:])
        try:
            return bool(self.api("status"))
        except OSError:
            return False

    def _variables(self) -> dict[str, str]:
        theirs = ("JUPYTER", "JPY_", "IPYTHON")
        ours = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        folders = {
            "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "runtime",
            "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces", "IPYTHONDIR": "ipython",
        }  # fmt: skip
        ours |= {name: str(self.home / folder) for name, folder in folders.items()}
        return ours | {"JUPYTER_PLATFORM_DIRS": "1"} | self._environment


class Chromium:
    """Opens browsers; each window is a Chromium of its own, with its own microphone and permissions."""

    def __enter__(self) -> Chromium:
        from playwright.sync_api import sync_playwright

        self._stack = contextlib.ExitStack()
        self._playwright = self._stack.enter_context(sync_playwright())
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def window(
        self,
        *,
        wav: str | Path | None = None,
        microphone: str = "granted",
        size: tuple[int, int] = (1280, 900),
        arguments: Sequence[str] = (),
    ):  # noqa: ANN201 - Playwright's BrowserContext
        """Open a browser.

        Parameters
        ----------
        wav
            What the microphone hears, over and over; 44,100 Hz and 16 bits come through unchanged. Without it, beeps.
        microphone
            "granted", "refused" (the user says no) or "none" (there is none).
        size
            Width and height in pixels.
        arguments
            More of Chromium's options.
        """
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True))
        sound = (f"--use-file-for-fake-audio-capture={wav}",) if wav else ()
        context = self._playwright.chromium.launch_persistent_context(
            folder, executable_path=CHROMIUM, headless=True, chromium_sandbox=False,
            args=[*QUIET, *MICROPHONES[microphone], *sound, *arguments],
            viewport={"width": size[0], "height": size[1]},
        )  # fmt: skip
        context.set_default_timeout(60_000)  # for a busy machine; nothing waits longer than it must
        self._stack.callback(context.close)
        return context


class Notebook:
    """A notebook that is open in a browser, and a second connection to its kernel.

    Parameters
    ----------
    lab, window, name
        The server, a window of `Chromium`, and the notebook's file name.
    kind
        "lab" for JupyterLab's single document, "notebook" for Notebook 7.
    host
        The name by which the page is asked for; browsers trust 127.0.0.1 more than others.
    """

    def __init__(self, lab: Lab, window, name: str, *, kind: str = "lab", host: str = "127.0.0.1") -> None:  # noqa: ANN001
        self.lab, self.window, self.name, self.host = lab, window, name, host
        self.path = {"lab": "doc/tree", "notebook": "notebooks"}[kind]
        self.problems: list[str] = []
        self._client = None

    def __enter__(self) -> Notebook:
        self.page = self.window.new_page()
        self.page.on("pageerror", self._note)
        self.page.on("request", self._note_request)
        address = self.lab.url(f"{self.path}/{self.name}", reset=1).replace("127.0.0.1", self.host, 1)
        self.page.goto(address, timeout=120_000)
        self.wait_for_kernel()
        return self

    def __exit__(self, *exception: object) -> None:
        self._disconnect()
        self.page.close(run_before_unload=False)
        if kernel := self.lab.kernel_of(self.name):
            self.lab.api(f"kernels/{kernel['id']}", "DELETE")

    def wait_for_kernel(self) -> None:
        """Wait until cells that are run now will be run: the page's own marks say "idle" before there is a kernel."""
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for(timeout=120_000)
        wait_until(self._idle, "an idle kernel", pause=self._pause)

    def cell(self, number: int):  # noqa: ANN201 - Playwright's Locator
        """A code cell, from 0."""
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(number)

    def output(self, number: int):  # noqa: ANN201
        """What a code cell shows."""
        return self.cell(number).locator(".jp-OutputArea").first

    def run(self, number: int, *, wait: bool = True, seconds: float = 120) -> None:
        """Run a code cell as a person does, by Shift and Enter."""
        prompt = self.cell(number).locator(".jp-InputPrompt")
        prompt.evaluate("element => { element.textContent = ''; }")  # after a restart the same number comes again
        self.cell(number).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

        def ended() -> bool:
            return bool(re.search(r"\d", prompt.inner_text()))

        if wait:
            wait_until(ended, f"cell {number}", seconds=seconds, pause=self._pause)

    def run_all(self, *, seconds: float = 120) -> None:
        """Run every code cell."""
        for number in range(self.page.locator(".jp-Notebook .jp-CodeCell").count()):
            self.run(number, seconds=seconds)

    def save(self) -> None:
        """Save the notebook, with its outputs."""
        file = self.lab.notebooks / self.name
        before = file.stat().st_mtime_ns
        self.page.locator(".jp-Notebook").click(position={"x": 2, "y": 2})
        self.page.keyboard.press("Control+s")
        wait_until(lambda: file.stat().st_mtime_ns != before, "the notebook's file", pause=self._pause)

    def reload(self) -> None:
        """Load the page again."""
        self.page.reload(timeout=120_000)
        self.wait_for_kernel()

    def restart(self) -> None:
        """Restart the kernel by the toolbar: its variables are gone, the page stays.

        Not through the server's API: JupyterLab would not notice, and go on sending to subshells that are gone.
        """
        self._disconnect()
        button = self.page.locator('[data-jp-item-name="restart"]')
        button.locator("button, jp-button").first.click()
        self.page.locator(".jp-Dialog .jp-mod-accept").click()
        self.page.locator(".jp-Dialog").wait_for(state="detached")
        self.wait_for_kernel()

    def ask(self, expression: str) -> object:
        """Evaluate an expression in the kernel; it must be of Python's plain types."""
        ((status, said),) = [self.execute(f"print(repr(({expression})))")]
        assert status == "ok", said
        return ast.literal_eval(said.strip().splitlines()[-1])

    def execute(self, code: str, *, seconds: float = 120) -> tuple[str, str]:
        """Run code in the kernel beside the page: "ok" or "error", and what was printed."""
        said: list[str] = []

        def listen(message: dict) -> None:
            content = message["content"]
            said.append(content.get("text", "") or "\n".join(content.get("traceback", ())))

        client = self._client or self._connect()
        # A connection that cannot be asked for input is what tells a kernel that nobody is watching it.
        reply = client.execute_interactive(code, timeout=seconds, output_hook=listen, allow_stdin=True)
        return reply["content"]["status"], "".join(said)

    def _note(self, error) -> None:  # noqa: ANN001 - Playwright's Error
        if self.path == "notebooks" and "blob:" not in (error.stack or ""):
            return  # Notebook 7 misses some of JupyterLab's parts, and says so; widgets' scripts are blobs
        self.problems.append(str(error))

    def _note_request(self, request) -> None:  # noqa: ANN001 - Playwright's Request
        badge = request.resource_type == "image"  # of the notebooks' own words
        if request.url.startswith("http") and f":{self.lab.port}/" not in request.url and not badge:
            self.problems.append(f"fetched from elsewhere: {request.url}")

    def _pause(self, seconds: float) -> None:
        self.page.wait_for_timeout(1000 * seconds)  # time.sleep would stop Playwright too

    def _idle(self) -> bool:
        kernel = self.lab.kernel_of(self.name)
        if not kernel or kernel["connections"] < 1 or kernel["execution_state"] != "idle":
            return False
        if self.path == "notebooks":
            return self.page.locator(".jp-NotebookKernelStatus, .jp-Notebook-ExecutionIndicator").count() > 0
        return self.page.locator("#jp-main-statusbar").get_by_text(re.compile(r"\| Idle")).count() > 0

    def _connect(self):  # noqa: ANN202
        from jupyter_client import BlockingKernelClient

        file = self.lab.home / "runtime" / f"kernel-{self.lab.kernel_of(self.name)['id']}.json"
        self._client = BlockingKernelClient(connection_file=str(file))
        self._client.load_connection_file()
        self._client.start_channels(hb=False)  # on a busy machine a late heartbeat would pass for a dead kernel
        self._client.wait_for_ready(timeout=120)
        return self._client

    def _disconnect(self) -> None:
        if self._client is not None:
            self._client.stop_channels()
            self._client = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
