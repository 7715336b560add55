"""The engine that papermill runs the suite's notebooks with: it tells of each cell, and can be stopped."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from jupyter_core.utils import ensure_event_loop
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from .errors import VoiceCloneError

if TYPE_CHECKING:
    from .suite import _Execution

ENGINE = "voiceclone"
SHOWN = ("stream", "display_data", "update_display_data", "execute_result")


class SuiteClient(PapermillNotebookClient):
    """Papermill's client, which tells an execution what happens and heeds its wish to stop."""

    def __init__(self, notebook_manager: Any, *, execution: _Execution, **options: Any) -> None:
        super().__init__(notebook_manager, **options)
        self.execution = execution
        self.loop = ensure_event_loop()  # of this thread: where the kernel's manager lives
        execution.client = self

    def execute_cell(self, cell: Any, cell_index: int, **options: Any) -> Any:
        """Execute a cell, unless the series is to stop."""
        if self.execution.stopping.is_set():
            raise VoiceCloneError("The run was interrupted.")
        if cell.cell_type == "code":
            self.execution.begin_cell(sum(each.cell_type == "code" for each in self.nb.cells))
        return super().execute_cell(cell, cell_index, **options)

    def process_message(self, message: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Pass on the last line of what a cell shows."""
        if message["msg_type"] in SHOWN:
            content = message["content"]
            text = content.get("text") or content.get("data", {}).get("text/plain", "")
            if lines := text.strip().splitlines():
                self.execution.show(lines[-1])
        return super().process_message(message, cell, cell_index)

    def interrupt(self) -> None:
        """Send the kernel what Ctrl-C sends; may be called from any thread."""
        asyncio.run_coroutine_threadsafe(self.km.interrupt_kernel(), self.loop)

    def kill(self) -> None:
        """End the kernel; may be called from any thread."""
        asyncio.run_coroutine_threadsafe(self.km.shutdown_kernel(now=True), self.loop)


class SuiteEngine(NBClientEngine):
    """Makes a `SuiteClient` where papermill would make its own client."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, execution: _Execution, start_timeout: int = 60, **_: Any
    ) -> Any:
        """Execute the notebook in a kernel that knows that nobody watches, so that nothing waits for a button."""
        client = SuiteClient(
            nb_man, execution=execution, kernel_name=kernel_name, startup_timeout=start_timeout, timeout=None,
            # Not ERROR: a kernel that is interrupted on its way out, as each is, calls that one. What fails in a cell
            # comes as a message.
            extra_arguments=["--log-level=CRITICAL"],
        )  # fmt: skip
        return client.execute(
            env={**os.environ, "VOICECLONE_HEADLESS": "1"}, cwd=str(execution.source.parent)
        )


def register() -> None:
    """Make the engine known to papermill."""
    papermill_engines.register(ENGINE, SuiteEngine)
