"""The command line: its verbs, their defaults, and how it fails."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from voiceclone import suite, verbs
from voiceclone.__main__ import build_parser, main
from voiceclone.suite import Progress

VERBS = ("run", "train", "say", "evaluate", "pretrain", "prepare", "tune", "export", "fetch", "demo")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_its_defaults(verb, capsys):
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert left.value.code == 0
    assert getattr(verbs, verb).__doc__ in said
    assert "None" not in said
    for default in {"train": ("small", "main", "1234"), "say": ("best", "auto"), "run": ("00", "07")}.get(
        verb, ()
    ):
        assert f"(default: {default})" in said


def test_the_installed_command_is_this_one():
    done = subprocess.run([sys.executable, "-m", "voiceclone", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert all(re.search(rf"^\s+{verb}\s", done.stdout, re.MULTILINE) for verb in VERBS)


@pytest.mark.parametrize(
    "arguments",
    [[], ["sing"], ["train"], ["train", "v", "--preset", "huge"], ["demo", "--minutes", "0"], ["run", "v", "-p", "x"],
     ["export", "v", "--format", "rar"]],
)  # fmt: skip
def test_wrong_usage_exits_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert left.value.code == 2
    assert "usage: voiceclone" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run --from 03", "export"])
def test_a_voice_that_is_not_there_is_one_line_and_exit_1(verb, tmp_path, capsys):
    name, *rest = verb.split()
    assert main([name, str(tmp_path / "nobody"), *rest]) == 1
    said = capsys.readouterr().err
    assert said.startswith("voiceclone: There is no voice at") and said.count("\n") == 1


def test_ctrl_c_is_said_and_exits_with_130(monkeypatch, capsys, voice):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(suite, "run", interrupted)
    assert main(["run", str(voice.path)]) == 130
    assert capsys.readouterr().err.startswith("voiceclone: interrupted")


def test_a_warning_has_a_line_of_its_own_beside_a_bar(monkeypatch, capsys, voice):
    def busy(options):
        with verbs._bar(total=2) as bar:
            bar.refresh()
            warnings.warn("The drive is full.", stacklevel=1)

    monkeypatch.setattr(verbs, "tune", busy)
    busy.__name__, busy.__doc__ = "tune", "Busy."
    assert main(["tune", str(voice.path)]) == 0
    assert "voiceclone: The drive is full." in re.split(r"[\r\n]", capsys.readouterr().err)


def test_run_hands_over_parameters_as_the_values_they_are(monkeypatch, voice):
    given = {}

    def fake(path, **options):
        given.update(options, voice=path)
        yield Progress("05_train", 1, 1, 1, 1, path=Path("x"))

    monkeypatch.setattr(suite, "run", fake)
    parameters = [
        "-p",
        "minutes",
        "0.5",
        "-p",
        "preset",
        "small",
        "-p",
        "takes_from",
        "07 takes",
        "-p",
        "on",
        "true",
    ]
    assert main(["run", str(voice.path), "--from", "02", "--to", "05", *parameters]) == 0
    assert given["voice"] == voice.path and (given["first"], given["last"]) == ("02", "05")
    assert given["parameters"] == {"minutes": 0.5, "preset": "small", "takes_from": "07 takes", "on": True}


def test_demo_makes_the_sample_voice_with_consent_and_says_where_things_are(monkeypatch, tmp_path, capsys):
    measures = dict(
        word_error_rate=0.125, likeness=0.5, opinion_score=2.5, real_time_factor=0.25, failures=2, count=20
    )

    def fake(path, **options):
        assert (
            options["parameters"]["minutes"] == 2
            and Path(options["parameters"]["takes_from"]).name == "takes"
        )
        (path / "samples").mkdir(exist_ok=True)
        result = dict(voice=measures, natural=measures, rows=[], engine="whisper")
        (path / "samples" / "evaluation.json").write_text(json.dumps(result))
        yield Progress("00_start", 1, 8, 1, 1, path=path)

    monkeypatch.setattr(suite, "run", fake)
    for _ in range(2):
        assert main(["demo", "--root", str(tmp_path), "--minutes", "2"]) == 0
        said = capsys.readouterr().out
        assert (
            str(tmp_path / "sample" / "report.html") in said and str(tmp_path / "sample" / "samples") in said
        )
        assert re.search(r"words heard wrong, %\s+12.50\s+12.50", said)
        assert re.search(r"sentences that failed\s+2", said)
    assert "synthetic" in json.loads((tmp_path / "sample" / "voice.json").read_text())["consent"]["who"]


def test_say_writes_the_file_and_reports_problems(monkeypatch, voice, tmp_path, capsys):
    synthesize = pytest.importorskip("voiceclone.synthesize")
    wave = np.zeros(22050, np.float32)
    utterance = SimpleNamespace(
        wave=wave, sample_rate=22050, duration=1.0, seconds_spent=0.5, problems=("it never stopped",)
    )
    speaker = SimpleNamespace(say=lambda text, **how: utterance)
    monkeypatch.setattr(synthesize.Synthesizer, "open", lambda *_, **__: speaker)
    assert main(["say", str(voice.path), "Hello.", "-o", str(tmp_path / "hello.wav")]) == 0
    assert (tmp_path / "hello.wav").stat().st_size == 44 + 2 * 22050
    caught = capsys.readouterr()
    assert "1.0 s of speech" in caught.out and "it never stopped" in caught.err


def trained_with(monkeypatch, voice, *options):
    """The config that the command line trains with."""
    launch, given = pytest.importorskip("voiceclone.launch"), []
    monkeypatch.setattr(launch, "train_by", lambda voice, config, **how: given.append(config) or ())
    assert main(["train", str(voice.path), *options]) == 0
    return given[0]


def test_all_of_fakeyous_knobs_can_be_turned(monkeypatch, voice):
    from voiceclone.schedule import Exponential
    from voiceclone.train import TrainConfig

    assert trained_with(monkeypatch, voice) == TrainConfig()
    assert trained_with(monkeypatch, voice, "--schedule", "fakeyou") == TrainConfig(schedule="fakeyou")
    knobs = "--schedule fakeyou --A 5e-4 --B 9000 --C 1e-6 --decay-start 100 --min-learning-rate 2e-5 --no-stretch"
    others = "--attention-dropout 0.2 --decoder-dropout 0.3 --batch-size 5 --epochs 9 --previews 3"
    assert trained_with(monkeypatch, voice, *knobs.split(), *others.split()) == TrainConfig(
        schedule=Exponential(5e-4, 9000.0, 1e-6, 100, 2e-5, stretch=False),
        attention_dropout=0.2, decoder_dropout=0.3, batch_size=5, epochs=9, previews=3,
    )  # fmt: skip


@pytest.mark.parametrize("knob", ["--A", "--B", "--C", "--decay-start", "--min-learning-rate"])
def test_the_knobs_of_fakeyous_schedule_are_refused_with_another(knob, voice, capsys):
    assert main(["train", str(voice.path), knob, "1"]) == 1
    said = capsys.readouterr().err
    assert f"cosine has no {knob}:" in said and "--schedule fakeyou" in said and said.count("\n") == 1


def test_training_goes_on_unless_told_otherwise():
    parse = build_parser().parse_args
    assert parse(["train", "v"]).resume and not parse(["train", "v", "--no-resume"]).resume
