"""The recorder's kernel side: takes in what the page records, keeps it, judges it, and tells the page.

The page (``recorder.js``) sends each take in numbered pieces while it is being recorded. They are kept on disk as they
come (`arriving`), and the take is in the voice folder before the page says that it is kept. Messages:

========  =====================================================================================================
page      ``hello {page, holds, able}``, ``begin {take, page, index, rate}``, ``piece {take, number, sum}`` with the
          samples beside it (or as ``text`` in base64), ``end {take, pieces}``, ``drop {take}``, ``sound {index}``
kernel    ``got {take, pieces, again, known}``, ``kept {take, index, name}``, ``refused {take, why}``, ``said {text}``,
          ``sound {index, rate}`` with the samples beside it, ``release {}``
========  =====================================================================================================

Every message may come twice, and none is waited for: where a kernel hears only between cells (Colab), they come late.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import anywidget
import numpy as np
import traitlets

from ..audio import load, resample
from ..errors import VoiceCloneError
from ..record import add_take
from ..voice import Clip, Voice
from .arriving import FULL_SCALE, Arrival, left_behind
from .coverage import coverage_map
from .panel import VOICE_LOCK
from .players import PREVIEW_RATE
from .verify import Listener, Verdict, judge, judge_words

HERE = Path(__file__).parent
PARTS = ("_microphone", "_takes", "_pictures", "_view", "")  # of the page's script, in the order of their use
LIVE_SECONDS = 1.5  # a page that records sends a piece every half second: after this it has gone, or is slow
SHORTEST_SECONDS = 0.5  # of an interrupted take that is worth keeping


class Recorder(anywidget.AnyWidget):
    """Reads sentences in through the browser's microphone.

    Parameters
    ----------
    voice : Voice
        Where the takes go.
    prompts : sequence of str
        The first is clip 0001's.
    at : int
        Which sentence is in view, from 1.
    local : bool
        Whether this computer's Python has a microphone of its own, for pages that get none.
    engine : str
        Who listens to each take; see `load_transcriber`.
    """

    _esm = "\n".join((HERE / f"recorder{part}.js").read_text(encoding="utf-8") for part in PARTS)
    _css = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("views.css", "recorder.css"))

    place = traitlets.Unicode().tag(sync=True)  # which voice this is, for takes that wait in the page
    prompts = traitlets.List(traitlets.Unicode()).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)  # of the sentence in view, from 0
    sentences = traitlets.List(traitlets.Dict()).tag(sync=True)  # what is known of each
    coverage = traitlets.Unicode().tag(sync=True)  # HTML
    ears = traitlets.Unicode("opening").tag(sync=True)  # "opening", "" when they are open, else why they are not
    again = traitlets.Unicode(None, allow_none=True).tag(sync=True)  # a take to be read again, good as it may be
    local = traitlets.Bool(False).tag(sync=True)
    able = traitlets.Unicode().tag(sync=True)  # "yes", or why the page has no microphone: insecure, blocked, ...

    _newest: ClassVar[Recorder | None] = None

    def __init__(
        self, voice: Voice, prompts: Sequence[str], *, at: int = 1, local: bool = False, engine: str = "whisper"
    ) -> None:
        self._voice = voice
        self._arrivals: dict[str, Arrival] = {}
        self._kept: dict[str, dict[str, Any]] = {}  # answers, for a page that did not get them
        rows = {clip.number: clip for clip in voice.clips if clip.take}
        super().__init__(
            place=hashlib.sha256(str(voice.path.resolve()).encode()).hexdigest()[:16],
            prompts=list(prompts),
            index=at - 1,
            sentences=[_known(voice, rows.get(number)) for number in range(1, len(prompts) + 1)],
            local=local,
        )
        old, Recorder._newest = Recorder._newest, self
        if old is not None:
            old.release()
        self._listener = Listener(engine=engine, ready=self._ears_open)
        self._listener.do(self._draw_coverage)  # once a page is there
        self.on_msg(self._receive)

    def __repr__(self) -> str:
        done = sum(bool(sentence["take"]) for sentence in self.sentences)
        return f"{done} of {len(self.prompts)} sentences recorded"

    def refresh(self) -> None:
        """Look again at what is in the voice folder: takes came by another way."""
        with VOICE_LOCK:
            rows = {clip.number: clip for clip in self._voice.clips if clip.take}
            known = [_known(self._voice, rows.get(number)) for number in range(1, len(self.prompts) + 1)]
            pairs = zip(self.sentences, known, strict=True)
            self.sentences = [old if old["take"] == new["take"] else new for old, new in pairs]
        self._listener.do(self._draw_coverage)

    def release(self) -> None:
        """Let go of the microphone and end the listening: another recorder takes over."""
        self._listener.close()
        if self.comm is not None:
            self.send({"type": "release"})
            self.close()

    # Messages -----------------------------------------------------------------------------------------------------

    def _receive(self, _: object, message: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        answers = {
            "hello": self._hello, "begin": self._begin, "piece": self._piece, "end": self._end, "drop": self._drop,
            "sound": self._sound,
        }  # fmt: skip
        answer = answers.get(message.get("type", ""))
        if answer is None:
            return
        with VOICE_LOCK:  # messages may come on a thread of their own
            try:
                answer(message, buffers)
            except (VoiceCloneError, OSError) as error:
                self.send({"type": "refused", "take": message.get("take", ""), "why": str(error)})
            except Exception as error:  # noqa: BLE001 - the edge: else it would be lost in the kernel's log
                why = f"{type(error).__name__}: {error}"
                self.send({"type": "refused", "take": message.get("take", ""), "why": why})

    def _hello(self, message: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        self._listener.start()
        self.able = str(message.get("able", "yes"))
        self._rescue(message)

    def _begin(self, message: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        take, index = message["take"], message["index"]
        if take in self._kept:
            self.send(self._kept[take])
            return
        if take not in self._arrivals:
            self._rescue(message | {"holds": [take]})
            clip_id = f"{range(1, len(self.prompts) + 1)[index]:04d}"
            arrival = Arrival(self._voice.takes_dir, clip_id, int(message["rate"]), take, message.get("page", ""))
            arrival.begin()
            self._arrivals[take] = arrival
        self._got(take)

    def _piece(self, message: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        take = message["take"]
        data = bytes(buffers[0]) if buffers else base64.b64decode(message.get("text", ""))
        arrival = self._arrivals.get(take)
        fine = arrival is not None and arrival.add(int(message["number"]), data, message["sum"])
        self._got(take, again=not fine)

    def _got(self, take: str, *, again: bool = False) -> None:
        arrival = self._arrivals.get(take)
        pieces = arrival.pieces if arrival else 0
        self.send({"type": "got", "take": take, "pieces": pieces, "again": again, "known": arrival is not None})

    def _end(self, message: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        take = message["take"]
        if take in self._kept:
            self.send(self._kept[take])
        elif take not in self._arrivals or self._arrivals[take].pieces != message["pieces"]:
            self._got(take, again=True)
        else:
            arrival = self._arrivals[take]
            self._kept[take] = {"type": "kept", "take": take, **self._keep(arrival)}
            del self._arrivals[take]
            self.send(self._kept[take])

    def _drop(self, message: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        if arrival := self._arrivals.pop(message["take"], None):
            arrival.discard()

    def _sound(self, message: Mapping[str, Any], buffers: Sequence[memoryview]) -> None:
        """Send a take that was made earlier, small, to be seen and heard."""
        name = self.sentences[message["index"]]["take"]
        if not name:
            return
        wave, rate = load(self._voice.takes_dir / name, sample_rate=None)
        if rate > PREVIEW_RATE:
            wave, rate = resample(wave, rate, PREVIEW_RATE), PREVIEW_RATE
        pcm = np.clip(np.round(wave * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")
        self.send({"type": "sound", "index": message["index"], "rate": rate}, [pcm.tobytes()])

    # Takes --------------------------------------------------------------------------------------------------------

    def _keep(self, arrival: Arrival) -> dict[str, Any]:
        """Put what has come into the voice folder, and have it heard."""
        index, wave, rate = int(arrival.clip_id) - 1, arrival.wave(), arrival.rate
        prompt = self.prompts[index]
        report = add_take(self._voice, arrival.clip_id, wave, rate, prompt=prompt)
        name = self._voice.takes(arrival.clip_id)[-1].name
        arrival.discard()
        verdict = judge(report)
        self._show(index, name, verdict)

        def heard(text: str | None) -> None:
            if text is not None:
                words = judge_words(verdict, prompt, text, wave, rate)
                with VOICE_LOCK:
                    if self.sentences[index]["take"] == name:  # no other one was made meanwhile
                        self._show(index, name, words)
            self._draw_coverage()

        self._listener.hear(wave, rate, heard)
        return {"index": index, "name": name}

    def _rescue(self, message: Mapping[str, Any]) -> None:
        """Keep what has come of takes whose page is gone, except those that a page still holds."""
        holds, page = set(message.get("holds", ())), message.get("page", "")
        for found in left_behind(self._voice.takes_dir):
            known = self._arrivals.get(found.take)
            if found.take in holds or (known and known.page == page) or (known and _alive(known)):
                continue
            self._arrivals.pop(found.take, None)
            if found.seconds < SHORTEST_SECONDS or int(found.clip_id) > len(self.prompts):
                found.discard()
                continue
            number, kept = int(found.clip_id), self._keep(found)["name"]
            text = f"A recording of sentence {number} was interrupted: what had come of it is kept as {kept}."
            self.send({"type": "said", "text": text})

    def _show(self, index: int, name: str, verdict: Verdict) -> None:
        known = _sentence(name, len(self._voice.takes(f"{index + 1:04d}")), verdict)
        self.sentences = [*self.sentences[:index], known, *self.sentences[index + 1 :]]

    def _ears_open(self, why_not: str) -> None:
        self.ears = why_not

    def _draw_coverage(self) -> None:
        read = [p for p, s in zip(self.prompts, self.sentences, strict=True) if s["take"] and s["state"] != "bad"]
        self.coverage = coverage_map(read, self.prompts)._repr_html_()


def _alive(arrival: Arrival) -> bool:
    return time.monotonic() - arrival.touched < LIVE_SECONDS


def _known(voice: Voice, clip: Clip | None) -> dict[str, Any]:
    """What is known of a sentence when the recorder opens."""
    if clip is None:
        return _sentence("", 0, Verdict(""))
    findings = ((clip.checks, ""),) if clip.checks else ()
    state = "good" if clip.state == "accepted" else "bad" if clip.checks else "doubtful"
    return _sentence(clip.take, len(voice.takes(clip.id)), Verdict(state, findings))


def _sentence(name: str, takes: int, verdict: Verdict) -> dict[str, Any]:
    return {
        "take": name,
        "takes": takes,
        "state": verdict.state,
        "findings": [list(finding) for finding in verdict.findings],
        "words": [list(word) for word in verdict.words],
    }
