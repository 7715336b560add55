"""Photograph what the notebooks show, in light and in dark: ``python docs/make_screens.py [view ...]``.

Each view is a line of `VIEWS`: its name, the cell that shows it, what a person does before the picture is taken, and
which part of the page is on it. The pictures go to ``docs/screens``.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from lab import Chromium, Lab, Notebook  # noqa: E402 - a module of the tests

SIZE = (1024, 1100)  # pixels: the narrowest page that everything is made for
RATE = 44_100  # Hz, of Chromium's fake microphone
SENTENCE = 7  # is read into the recorder; those before it are there already
SILENCE = 7.0  # s, before it: the check of the room, and time to press Record
TAKES = ROOT / "data" / "sample_voice" / "takes"
SET_UP = f"""from voiceclone import Voice, widgets
from voiceclone.record import import_takes
voice = Voice.create("Ada", root="{{name}}", consent="the voiceclone project (synthetic voice)")
_ = import_takes(voice, [f"{TAKES}/{{{{number:04d}}}}-1.flac" for number in range(1, {SENTENCE})])"""


HEARD = """from dataclasses import replace
known = dict(heard_by="whisper:tiny.en", source="prompt", state="accepted")
voice.update(*(replace(clip, heard=clip.prompt, confidence="0.9", **known) for clip in voice.clips if clip.take))
heard = "She usually takes the late train and read a good book."
misheard = replace(voice.clip("0003"), heard=heard, transcript=heard, source="whisper")
voice.update(replace(misheard, confidence="0.58", state="review"))
widgets.TranscriptTable(voice)"""
TRAINED = """from voiceclone.clean import clean
from voiceclone.train import TrainConfig
clean(voice)
training = widgets.TrainingView(voice, TrainConfig(steps=60, previews=3))
training.train()"""
SPOKEN = """import torch
from voiceclone.audio import load
from voiceclone.evaluate import SENTENCES
from voiceclone.speaker import embed
from voiceclone.synthesize import Synthesizer
from voiceclone.tacotron2.checkpoint import Checkpoint, load_base, save_checkpoint
from voiceclone.train_config import BASE
speaker = torch.from_numpy(embed(*load(voice.take_path(voice.clip("0001")))))
for step, name in ((100, "best"), (200, "step-000200")):
    save_checkpoint(voice.run_dir("base") / "checkpoints" / f"{name}.pt", Checkpoint(load_base(BASE), step, speaker))
"""
SPEAKING = """synthesizer = Synthesizer.open(voice, run="base")
widgets.SpeakingBox(synthesizer, text="You hear a voice that has never said this sentence.")"""


@dataclass(frozen=True)
class View:
    """One picture."""

    name: str
    cell: str  # code that shows it, after `SET_UP`
    act: Callable[[Notebook], None] = lambda notebook: None  # what is done before the picture
    part: str = ".vc-view"  # of the page


def begin(notebook: Notebook) -> None:
    """Look at the recorder as it opens."""
    notebook.page.wait_for_timeout(2000)


def record(notebook: Notebook) -> None:
    """Record half of the sentence."""
    notebook.page.locator(".vcr-main").click()
    notebook.page.locator(".vcr[data-phase=ready]").wait_for()
    notebook.page.wait_for_timeout(3500)
    notebook.page.keyboard.press("Space")
    notebook.page.wait_for_timeout(4500)


def take(notebook: Notebook) -> None:
    """Record the sentence and wait for the verdict."""
    record(notebook)
    notebook.page.wait_for_timeout(2500)
    notebook.page.keyboard.press("Space")
    notebook.page.locator(".vcr:is([data-state=good], [data-state=bad])").wait_for()
    notebook.page.mouse.move(0, 0)
    notebook.page.wait_for_timeout(500)


def review(notebook: Notebook) -> None:
    """Go to the clip that was misheard, with the keys."""
    notebook.page.locator("[data-clip='0001']").focus()
    notebook.page.keyboard.press("ArrowDown")
    notebook.page.keyboard.press("ArrowDown")


def drawn(notebook: Notebook) -> None:
    """Wait for the figure."""
    notebook.page.locator(".vc-picture:not([hidden])").first.wait_for()
    notebook.page.wait_for_timeout(500)


def whole(notebook: Notebook) -> None:
    """Make the page as high as what is shown, which else would be cut off at its lower end."""
    height = notebook.page.locator(".vc-view").first.evaluate("(view) => view.scrollHeight")
    notebook.page.set_viewport_size({"width": SIZE[0], "height": height + 300})
    higher = "(height) => document.querySelector('.jp-WindowedPanel-outer').clientHeight > height"
    notebook.page.wait_for_function(higher, arg=height)
    notebook.page.wait_for_timeout(500)


def trained(notebook: Notebook) -> None:
    """Wait for the end of the training."""
    notebook.page.locator("[data-condition=done]").wait_for(timeout=900_000)
    notebook.page.wait_for_timeout(1000)
    whole(notebook)


def speak(notebook: Notebook) -> None:
    """Let the voice say what stands there."""
    notebook.page.get_by_role("button", name="Speak").click()
    notebook.page.locator(".vc-said li").wait_for(timeout=120_000)
    drawn(notebook)
    whole(notebook)


def compare(notebook: Notebook) -> None:
    """Hear a pair and judge it, twice."""
    for verdict in ("The first is better", "No difference"):
        notebook.page.get_by_role("button", name="Play a pair").click()
        notebook.page.get_by_role("button", name=verdict).click(timeout=120_000)  # when both have been heard
        notebook.page.get_by_text("The first was").wait_for()


VIEWS = (
    View("recorder", "widgets.TakePanel(voice)", take, ".vcr"),
    View("recorder-begin", "widgets.TakePanel(voice)", begin, ".vcr"),
    View("recorder-recording", "widgets.TakePanel(voice)", record, ".vcr"),
    View("review", HEARD, review),
    View("cleaning", "widgets.CleanPreview(voice)", drawn),
    View("training", TRAINED, trained),
    View("speaking", SPOKEN + SPEAKING, speak),
    View("comparing", SPOKEN + 'widgets.BlindTest(voice, SENTENCES, run="base")', compare),
)


def main(*names: str) -> None:
    """Photograph these views, or all."""
    unknown = set(names) - {view.name for view in VIEWS}
    if unknown:
        raise SystemExit(f"There is no view {', '.join(unknown)}; there are {', '.join(view.name for view in VIEWS)}.")
    views = [view for view in VIEWS if view.name in names or not names]
    with tempfile.TemporaryDirectory() as folder, Chromium() as chromium:
        sound = microphone(Path(folder))
        for theme in ("Light", "Dark"):
            with Lab(Path(folder, theme), theme=theme) as lab:
                for view in views:
                    file = Path(__file__).parent / "screens" / f"{view.name}-{theme.lower()}.png"
                    photograph(view, lab, chromium.window(wav=sound, size=SIZE), file)
                    print(f"{file.relative_to(ROOT)}  {file.stat().st_size // 1024} KB")


def photograph(view: View, lab: Lab, window: object, file: Path) -> None:
    """Show a view, do what is done, and keep the picture in 256 colours."""
    lab.write(f"{view.name}.ipynb", [SET_UP.format(name=view.name), view.cell])
    with Notebook(lab, window, f"{view.name}.ipynb") as notebook:
        notebook.run_all()
        part = notebook.page.locator(view.part).first
        part.wait_for()
        view.act(notebook)
        picture = Image.open(io.BytesIO(part.screenshot()))
    file.parent.mkdir(exist_ok=True)
    picture.convert("RGB").quantize(256, kmeans=2).save(file, optimize=True)
    window.close()


def microphone(folder: Path) -> Path:
    """What the fake microphone plays: a quiet room, then the sentence."""
    wave, rate = soundfile.read(TAKES / f"{SENTENCE:04d}-1.flac")
    heard = np.concatenate([np.zeros(round(SILENCE * RATE)), soxr.resample(wave, rate, RATE), np.zeros(30 * RATE)])
    heard += np.random.default_rng(0).normal(size=len(heard)) * 10 ** (-62 / 20)
    soundfile.write(folder / "microphone.wav", heard, RATE, subtype="PCM_16")
    return folder / "microphone.wav"


if __name__ == "__main__":
    main(*sys.argv[1:])
