"""Whether the Hugging Face hub can be reached: its own library tries for a minute before it says so."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

PATIENCE = 3.0  # s until the hub counts as out of reach


def hub_answers(patience: float = PATIENCE) -> bool:
    """Whether the hub says anything within some seconds; a slow name server counts too, so a thread is asked."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    answers: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
        try:
            urllib.request.urlopen(request, timeout=patience).close()
        except urllib.error.HTTPError:
            answers.append(True)  # a refusal is an answer
        except (OSError, ValueError):
            return
        else:
            answers.append(True)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(patience)
    return bool(answers)
