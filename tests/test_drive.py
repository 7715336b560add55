"""A run is kept on a drive that fails, fills up, is slow or goes away; training never waits for it nor loses by it."""

from __future__ import annotations

import errno
import io
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from voiceclone import drive
from voiceclone.drive import Keeper, working_folder
from voiceclone.errors import VoiceCloneError

SECONDS = 20  # more than any of this takes


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(drive, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(drive, "LONGEST_WAIT", 0.05)


@pytest.fixture
def run(tmp_path):
    """A run's folder in a voice folder on the drive."""
    folder = tmp_path / "drive" / "voice" / "runs" / "main"
    folder.parents[1].mkdir(parents=True)
    return folder


@pytest.fixture
def keeper(run, tmp_path):
    keeper = Keeper(run, tmp_path / "work", patience=SECONDS)
    yield keeper
    keeper.close()


def write(keeper, name, content="whole"):
    path = keeper.work / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    keeper.keep(path)
    return path


def until(condition):
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)


def content(folder):
    """Every file below a folder, hidden ones too."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file():
            with suppress(FileNotFoundError):  # it was being copied, and now has its name
                found[path.relative_to(folder).as_posix()] = path.read_text()
    return found


def failing(monkeypatch, error, *, times=None, name=""):
    """Copying to the drive raises; gives a list of the files that were tried."""
    tried, copy = [], drive._copy_whole

    def fails(source, target):
        if name in target.name and (times is None or len(tried) < times):
            tried.append(source.name)
            raise error
        copy(source, target)

    monkeypatch.setattr(drive, "_copy_whole", fails)
    return tried


# Where ------------------------------------------------------------------------------------------------------------


def test_a_run_on_google_drive_is_written_on_the_machine_and_others_where_they_are(tmp_path):
    on_drive = Path("/content/drive/MyDrive/voiceclone/voices/alice/runs/main")
    assert working_folder(on_drive) == Path("/content/voiceclone-work/MyDrive/voiceclone/voices/alice/runs/main")
    assert working_folder(tmp_path / "runs" / "main") == tmp_path / "runs" / "main"


def test_a_run_that_lies_on_the_machine_is_not_copied(run):
    keeper = Keeper(run)
    assert not keeper.apart
    paths = [write(keeper, f"checkpoints/step-{n}.pt") for n in (1, 2)]
    keeper.drop(paths[0])
    keeper.close()
    assert content(run) == {"checkpoints/step-2.pt": "whole"}


# Keeping ----------------------------------------------------------------------------------------------------------


def test_what_is_written_arrives_and_what_is_dropped_goes(keeper, run):
    paths = [write(keeper, f"checkpoints/step-{n:06d}.pt", f"step {n}") for n in range(1, 5)]
    write(keeper, "log.jsonl", "one line")
    keeper.drop(*paths[:2])
    write(keeper, "log.jsonl", "two lines")
    keeper.close()
    assert content(run) == content(keeper.work)
    assert content(run) == {
        "checkpoints/step-000003.pt": "step 3",
        "checkpoints/step-000004.pt": "step 4",
        "log.jsonl": "two lines",
    }
    assert keeper.notes() == ()


def test_nothing_is_dropped_before_what_is_newer_has_arrived(keeper, run, monkeypatch):
    first = write(keeper, "checkpoints/step-000001.pt")
    until(lambda: content(run))
    tried = failing(monkeypatch, OSError(errno.EIO, "Input/output error"))
    write(keeper, "checkpoints/step-000002.pt")
    keeper.drop(first)
    until(lambda: len(tried) > 3)
    assert content(run) == {"checkpoints/step-000001.pt": "whole"}
    monkeypatch.undo()
    until(lambda: content(run) == {"checkpoints/step-000002.pt": "whole"})


def test_a_failing_drive_is_said_once_and_is_tried_again(keeper, run, monkeypatch):
    tried = failing(monkeypatch, OSError(errno.EDQUOT, "Disk quota exceeded"), times=5)
    write(keeper, "checkpoints/best.pt")
    until(lambda: content(run) == {"checkpoints/best.pt": "whole"})
    assert len(tried) == 5
    until(lambda: not keeper._failing)
    broken, mended = keeper.notes()
    assert "Disk quota exceeded" in broken and "Training goes on" in broken and str(keeper.work) in broken
    assert "can be written again" in mended
    assert keeper.notes() == ()


def test_one_file_that_cannot_be_copied_holds_up_no_other(keeper, run, monkeypatch):
    failing(monkeypatch, OSError(errno.EIO, "Input/output error"), name="bad.wav")
    write(keeper, "previews/bad.wav")
    write(keeper, "checkpoints/best.pt")
    until(lambda: (run / "checkpoints" / "best.pt").exists())
    assert content(run) == {"checkpoints/best.pt": "whole"}
    monkeypatch.undo()


class Careless(io.FileIO):
    """A file of a drive that spoils what is written to it."""

    def write(self, data):
        return super().write(data[:-1] + b"?")


def test_a_drive_that_writes_wrong_bytes_is_found_out(keeper, run, monkeypatch):
    opened, spoiled = Path.open, []

    def careless(path, mode="r", *more, **options):
        if mode == "wb" and path.name.endswith(".part") and len(spoiled) < 2:
            spoiled.append(path.name)
            return Careless(path, mode)
        return opened(path, mode, *more, **options)

    monkeypatch.setattr(Path, "open", careless)
    write(keeper, "checkpoints/best.pt", "weights")
    until(lambda: content(run) == {"checkpoints/best.pt": "weights"})
    assert len(spoiled) == 2
    assert "read back otherwise" in keeper.notes()[0]


def test_a_full_drive_is_given_room_but_keeps_a_whole_checkpoint(keeper, run, monkeypatch):
    copy, found = drive._copy_whole, []

    def copy_while_there_is_room(source, target):
        there = [path.name for path in (run / "checkpoints").glob("step-*.pt")]
        if target.name not in there and len(there) >= 2:
            found.append(sorted(there))
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target)

    paths = [write(keeper, f"checkpoints/step-{n:06d}.pt") for n in (1, 2)]
    until(lambda: len(content(run)) == 2)
    monkeypatch.setattr(drive, "_copy_whole", copy_while_there_is_room)
    paths.append(write(keeper, "checkpoints/step-000003.pt"))
    until(lambda: found)
    keeper.drop(paths[0])  # two are kept
    until(lambda: sorted(content(run)) == ["checkpoints/step-000002.pt", "checkpoints/step-000003.pt"])
    assert "No space left" in keeper.notes()[0]


def test_the_last_checkpoint_on_a_full_drive_is_never_dropped(keeper, run, monkeypatch):
    first = write(keeper, "checkpoints/step-000001.pt")
    until(lambda: content(run))
    tuned = run / drive.VOCODER / "checkpoints" / "step-000900.pt"  # from which the run itself cannot go on
    tuned.parent.mkdir(parents=True)
    tuned.write_text("a vocoder's")
    tried = failing(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    write(keeper, "checkpoints/step-000002.pt")
    keeper.drop(first)
    until(lambda: len(tried) > 3)
    assert (run / "checkpoints" / "step-000001.pt").exists()
    monkeypatch.undo()


def test_a_drive_that_goes_away_is_not_written_over(keeper, run, tmp_path):
    voice, away = run.parents[1], tmp_path / "away"
    voice.rename(away)
    write(keeper, "checkpoints/best.pt")
    until(lambda: keeper._failing)
    assert not voice.exists()  # a folder there would hide the drive when it is mounted again
    away.rename(voice)
    until(lambda: content(run) == {"checkpoints/best.pt": "whole"})


def test_training_does_not_wait_for_a_slow_drive_and_the_end_waits_only_so_long(run, tmp_path, monkeypatch):
    keeper, go_on, copy = Keeper(run, tmp_path / "work", patience=0.1), threading.Event(), drive._copy_whole
    monkeypatch.setattr(drive, "_copy_whole", lambda *paths: go_on.wait(SECONDS) and copy(*paths))
    write(keeper, "checkpoints/step-000001.pt")
    write(keeper, "checkpoints/best.pt")
    assert content(run) == {}
    with pytest.warns(UserWarning, match=r"step-000001.pt, checkpoints/best.pt could not.*run the training again"):
        keeper.close()
    go_on.set()
    until(lambda: sorted(content(run)) == ["checkpoints/best.pt", "checkpoints/step-000001.pt"])


def test_a_session_that_follows_is_not_undone_by_what_the_last_one_had_still_to_do(run, tmp_path, monkeypatch):
    first, copy, away = Keeper(run, tmp_path / "work", patience=0.1), drive._copy_whole, [True]

    def unreliable(source, target):
        if away:
            raise OSError(errno.EIO, "Input/output error")
        copy(source, target)

    monkeypatch.setattr(drive, "_copy_whole", unreliable)
    outdated = write(first, "checkpoints/step-000001.pt", "of the first session")
    first.drop(outdated)
    write(first, "checkpoints/step-000002.pt", "of the first session")
    with pytest.warns(UserWarning, match="step-000002.pt could not be copied"):
        first.close()
    second = Keeper(run, tmp_path / "work", patience=SECONDS)
    away.clear()
    assert not first._thread.is_alive()
    write(second, "checkpoints/step-000001.pt", "of the second session")
    second.close()
    assert content(run) == {"checkpoints/step-000001.pt": "of the second session"}


def test_at_the_end_each_file_that_is_not_on_the_drive_is_named_once(run, tmp_path, monkeypatch):
    keeper = Keeper(run, tmp_path / "work", patience=0.1)
    keeper.first_wait = SECONDS
    failing(monkeypatch, OSError(errno.EROFS, "Read-only file system"))
    write(keeper, "waveglow.pt")
    until(lambda: keeper._failing)
    with pytest.warns(UserWarning, match=r"^waveglow\.pt could not be copied"):
        keeper.close()
    assert content(run) == {} and content(keeper.work) == {"waveglow.pt": "whole"}


# Another machine --------------------------------------------------------------------------------------------------


def test_a_new_machine_finds_what_the_last_one_kept(keeper, run, tmp_path):
    for name in ("checkpoints/step-000007.pt", "checkpoints/best.pt", "log.jsonl", "previews/step-000007.wav"):
        write(keeper, name, name)
    keeper.close()
    (run / "checkpoints" / ".step-000008.pt.part").write_text("half")  # the machine went while it was copied
    other = Keeper(run, tmp_path / "other machine")
    other.fetch()
    assert content(other.work) == content(keeper.work)


def test_the_newer_of_two_places_wins(keeper, run, tmp_path):
    write(keeper, "checkpoints/step-000005.pt")
    write(keeper, "log.jsonl", "five lines")
    keeper.close()
    other = Keeper(run, tmp_path / "other machine")
    other.fetch()
    write(other, "checkpoints/step-000009.pt")
    write(other, "log.jsonl", "nine lines")
    other.close()
    back = Keeper(run, keeper.work)  # the first machine again, with what it had
    back.fetch()
    assert content(back.work) == content(other.work)


def test_what_was_not_copied_before_a_session_ended_is_copied_by_the_next(run, tmp_path):
    left = tmp_path / "work" / "checkpoints" / "step-000003.pt"
    left.parent.mkdir(parents=True)
    left.write_text("newest")
    keeper = Keeper(run, tmp_path / "work")
    keeper.fetch()
    keeper.close()
    assert content(run) == {"checkpoints/step-000003.pt": "newest"}


def test_another_file_of_the_same_size_is_copied_by_the_next_session(keeper, run):
    write(keeper, "checkpoints/best.pt", "of step 3")
    keeper.close()
    (keeper.work / "checkpoints" / "best.pt").write_text("of step 5")
    again = Keeper(run, keeper.work)
    again.fetch()
    again.close()
    assert content(run) == {"checkpoints/best.pt": "of step 5"}


def test_what_was_spent_is_not_there_before_what_it_was_spent_on(keeper, run, monkeypatch):
    copy, full = drive._copy_whole, [True]

    def no_room_for_checkpoints(source, target):
        if target.suffix == ".pt" and full:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        copy(source, target)

    monkeypatch.setattr(drive, "_copy_whole", no_room_for_checkpoints)
    write(keeper, "checkpoints/step-000006.pt")
    write(keeper, "config.json", "six steps spent")
    write(keeper, "log.jsonl", "six lines")
    until(lambda: (run / "log.jsonl").exists() and keeper.notes())
    assert not (run / "config.json").exists()
    full.clear()
    until(lambda: (run / "config.json").exists())
    assert (run / "checkpoints" / "step-000006.pt").exists()


@pytest.mark.parametrize("vocoder", [drive.VOCODER, drive.WAVEGLOW])
def test_a_vocoder_that_was_tuned_to_a_run_is_not_brought_with_it(keeper, run, vocoder):
    write(keeper, "checkpoints/step-000006.pt")
    keeper.close()
    (run / vocoder / "checkpoints").mkdir(parents=True)
    (run / vocoder / "checkpoints" / "step-000900.pt").write_text("a gigabyte")
    (keeper.work / vocoder).mkdir()
    (keeper.work / vocoder / "generator.pt").write_text("an older one")
    again = Keeper(run, keeper.work)
    again.fetch()
    again.close()
    assert not (keeper.work / vocoder / "checkpoints").exists() and not (run / vocoder / "generator.pt").exists()


def test_a_run_that_cannot_be_read_is_not_begun_anew(keeper, run, monkeypatch):
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "step-000003.pt").write_text("hours of work")
    tried = failing(monkeypatch, OSError(errno.EIO, "Input/output error"))
    with pytest.raises(VoiceCloneError, match="Input/output error.*run the training again"):
        keeper.fetch()
    assert len(tried) > 1
    monkeypatch.undo()
    keeper.fetch()
    assert content(keeper.work) == {"checkpoints/step-000003.pt": "hours of work"}


def test_beginning_anew_clears_both_places(keeper, run, tmp_path):
    for name in ("checkpoints/step-000005.pt", "checkpoints/best.pt", "split.json"):
        write(keeper, name)
    keeper.close()
    other = Keeper(run, tmp_path / "other machine")
    other.forget("checkpoints/*.pt")
    other.close()
    assert content(run) == {"split.json": "whole"}
