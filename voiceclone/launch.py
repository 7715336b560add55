"""Training by several processes, one a GPU, from a notebook: the same steps come, whoever takes them.

Accelerate's ``notebook_launcher`` forks them from a process that has done nothing else: the notebook's kernel may have
used the GPU already, which no fork survives, and would be handed nothing back before their end. The first of them
writes each step as a line of JSON; previews are read from where it has written them.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import notebook_launcher

from .audio import load
from .device import choose_device
from .drive import working_folder
from .errors import TrainingError
from .learn import LearnConfig
from .listen import Preview
from .processes import is_main
from .schedule import Exponential
from .tacotron2 import LossConfig
from .train import Step, train
from .train_config import TrainConfig
from .voice import Voice

STOP_SECONDS = 600.0  # in which the processes must have ended after they were told to
NUMBERS = ("loss", "mel_loss", "gate_loss", "attention_loss", "pitch_loss", "grad_norm")  # JSON's null where not finite
PROGRAM = ("-m", "voiceclone.launch")  # what Python runs to start the processes
LAST_LINES = 300  # of what the processes said before they failed, among which their errors are


def train_by(voice: Voice, config: TrainConfig = TrainConfig(), *, processes: int = 1) -> Iterator[Step]:
    """`train`, by several processes of this machine that share each batch; by one it is `train` itself.

    Parameters
    ----------
    voice : Voice
    config : TrainConfig
        ``batch_size`` is that of all processes together.
    processes : int
        As many as there are GPUs. With ``device="cpu"`` they share the processor, which is only good for tests.

    Yields
    ------
    Step
        Those of the main process. Stopping here stops them all, after the checkpoint was written.

    Raises
    ------
    TrainingError
        If the processes failed, with what they said last; or if this is Windows, which forks no processes.
    """
    if processes == 1:
        yield from train(voice, config)
        return
    if sys.platform == "win32":
        raise TrainingError(
            f"A notebook cannot start {processes} processes that train together on Windows. Train with one, or in a "
            "terminal: accelerate launch -m voiceclone train VOICE."
        )
    with tempfile.TemporaryDirectory(prefix="voiceclone-") as folder:
        order, stop = Path(folder, "order.json"), Path(folder, "stop")
        order.write_text(json.dumps({"voice": str(voice.path.absolute()), "config": asdict(config)}), encoding="utf-8")
        command = [sys.executable, *PROGRAM, str(order), str(stop), str(processes)]
        # This package may be where only this kernel looks for it, as it is on Colab.
        places = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
        if choose_device(config.device) == "cpu":
            environment["ACCELERATE_USE_CPU"] = "true"
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8",
            errors="replace", start_new_session=True,
        ) as started:  # fmt: skip
            said: deque[str] = deque(maxlen=LAST_LINES)
            try:
                yield from _received(started, working_folder(voice.run_dir(config.run)), said)
            finally:
                if started.poll() is None:
                    stop.touch()
                    _wait(started)
        if started.returncode:
            errors = [line for line in said if re.match(r"(\[\w+\]:\s*)?[\w.]*Error: ", line)] or list(said)[-15:]
            told = " / ".join(dict.fromkeys(errors)) or "they said nothing"
            raise TrainingError(f"The {processes} processes failed: {told}")


def _received(started: subprocess.Popen, run: Path, said: deque[str]) -> Iterator[Step]:
    """The steps among the lines of the processes; other lines are kept in case that they fail."""
    for line in started.stdout:
        if not line.startswith('{"step":'):
            said.append(line.strip())
            continue
        content = json.loads(line)
        content |= {name: float("nan") for name in NUMBERS if content[name] is None}
        preview = _preview(run / "previews", content["step"]) if content["checkpoint"] else None
        yield Step(**content | {"notes": tuple(content["notes"]), "preview": preview})


def _preview(folder: Path, step: int) -> Preview:
    wave, sample_rate = load(folder / f"step-{step:06d}.wav", sample_rate=None)
    with np.load(folder / f"step-{step:06d}.npz") as file:
        return Preview(
            step=step,
            text=str(file["text"]),
            wave=wave,
            sample_rate=sample_rate,
            mel_predicted=file["mel_predicted"].astype(np.float32),
            mel_true=file["mel_true"].astype(np.float32),
            alignment=file["alignment"].astype(np.float32),
            symbols=tuple(map(str, file["symbols"])),
            heard=str(file["heard"]),
            problems=(),
        )


def _wait(started: subprocess.Popen) -> None:
    try:
        started.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        started.kill()


def main(order: Path, stop: Path, processes: int) -> None:
    """Start the processes, and wait for their end."""
    # Port 0: the system chooses one that is free.
    rendezvous = {"rdzv_backend": "c10d", "rdzv_endpoint": "127.0.0.1:0", "rdzv_id": order.parent.name}
    notebook_launcher(work, (order, stop), processes, **rendezvous)


# In the processes -------------------------------------------------------------------------------------------------


@contextmanager
def stopping(device: str) -> Iterator[Callable[[], bool]]:
    """Tells whether this process was asked to end, by Ctrl-C or by who started it; the second time it ends at once.

    Of several processes only the main one listens: it tells the others after the step that all of them are taking.
    """
    asked: list[int] = []

    def listen(number: int, frame: object) -> None:
        asked.append(number)
        if len(asked) > 1:
            raise KeyboardInterrupt

    handler = listen if is_main(device) else signal.SIG_IGN
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, known in before.items():
            signal.signal(number, known)


def work(order: Path, stop: Path) -> None:
    """Carry out one process's part of what `train_by` has ordered."""
    content = json.loads(order.read_text(encoding="utf-8"))
    config = config_from(content["config"])
    with stopping(choose_device(config.device)) as asked:
        steps = train(Voice.open(content["voice"]), config)
        for step in steps:
            sys.stdout.write(json.dumps(step.as_dict()) + "\n")
            sys.stdout.flush()
            if asked() or stop.exists():
                steps.close()


def config_from(content: dict[str, Any]) -> TrainConfig:
    """What ``asdict`` made of a `TrainConfig`, as ``config.json`` has it, made one again."""
    content = dict(content)
    if isinstance(content["schedule"], dict):
        content["schedule"] = Exponential(**content["schedule"])
    if learn := content["learn"]:
        schedule = learn["schedule"] and Exponential(**learn["schedule"])
        content["learn"] = LearnConfig(
            **learn | {"loss": LossConfig(**learn["loss"]), "schedule": schedule, "betas": tuple(learn["betas"])}
        )
    return TrainConfig(**content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
