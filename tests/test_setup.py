"""What a fresh machine meets: the requirements, the pins, the make targets, the address, and a light import."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from voiceclone import colab
from voiceclone.errors import UnavailableError

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
# What Google's list of the Colab machine of August 2026 gives (Python 3.13); the project must not replace them.
COLAB = {"ipykernel": "6.17.1", "ipywidgets": "7.7.1", "anywidget": "0.9.21"}
HEAVY = (
    "torch",
    "transformers",
    "matplotlib",
    "librosa",
    "soundfile",
    "scipy",
    "faster_whisper",
    "numba",
    "IPython",
)


def read_requirements(name):
    lines = (
        line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()
    )
    return {canonicalize_name(found.name): found for line in lines if line for found in [Requirement(line)]}


def package_files():
    return sorted((ROOT / "voiceclone").rglob("*.py"))


# Packages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COLAB)
def test_colabs_own_packages_meet_the_requirements(name):
    assert read_requirements("requirements.txt")[name].specifier.contains(COLAB[name])


def test_requirements_are_lower_bounds_only():
    for requirement in read_requirements("requirements.txt").values():
        assert {part.operator for part in requirement.specifier} == {">="}, requirement


def test_constraints_pin_exact_versions_that_meet_the_requirements():
    pins = read_requirements("constraints.txt")
    for pin in pins.values():
        assert re.fullmatch(r"==[^+*]+", str(pin.specifier)), f"{pin} is not one exact public version"
    dev = {Requirement(line).name: Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]}
    for name, requirement in {**read_requirements("requirements.txt"), **dev}.items():
        version = str(pins[name].specifier).removeprefix("==")
        assert requirement.specifier.contains(version), (
            f"{requirement} and {pins[name]} contradict each other"
        )


def test_torch_is_pinned_to_the_tested_version():
    assert str(read_requirements("constraints.txt")["torch"].specifier) == "==2.13.0"


def test_weights_are_pinned_and_are_nobodys_dependency():
    weights = read_requirements("weights.txt")
    assert all(str(requirement.specifier).startswith("==") for requirement in weights.values())
    assert not set(weights) & set(read_requirements("requirements.txt"))


def imported_by_the_package():
    for path in package_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name.split(".")[0]) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                yield path, node.module.split(".")[0]


INSTALLED_WITH = {  # packages whose import name differs, and those that come with another of the list
    "IPython": "ipykernel", "jupyter_client": "papermill", "jupyter_core": "papermill", "nbclient": "papermill",
    "nbformat": "papermill",
    "huggingface_hub": "transformers",
    "traitlets": "ipywidgets", "taglib": "pytaglib",
}  # fmt: skip


def test_the_package_imports_nothing_that_it_does_not_require():
    required = {name.replace("-", "_") for name in read_requirements("requirements.txt")}
    required |= {"ray"}  # an extra of pyproject.toml, without which only `prepare --engine ray` says what to install
    for path, name in imported_by_the_package():
        if name not in sys.stdlib_module_names and name not in ("voiceclone", "google"):
            assert INSTALLED_WITH.get(name, name).lower() in required, f"{path.name} imports {name}"


def test_weight_packages_are_never_imported():
    weights = {name.replace("-", "_") for name in read_requirements("weights.txt")}
    assert not weights & {name for _, name in imported_by_the_package()}


# Importing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["import voiceclone", "from voiceclone import Voice", "import voiceclone.__main__"]
)
def test_importing_brings_in_no_heavy_package(code):
    check = f"import sys; {code}; print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == []


def test_nothing_but_notebooks_imports_widgets_and_colab():
    for path in package_files():
        if "widgets" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and (
                    node.level or (node.module or "").startswith("voiceclone")
                ):
                    names = {(node.module or "").split(".")[-1], *(alias.name for alias in node.names)}
                    assert not names & {"widgets", "colab"}, path


# The address ------------------------------------------------------------------------------------------------------


def test_every_address_of_the_repository_is_the_projects():
    owner_and_name = REPOSITORY.removeprefix("https://github.com/")
    listed = subprocess.run(
        ["git", "ls-files", "*.md", "*.ipynb", "*.py", "*.html", "Makefile"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    pattern = re.compile(r"(?:github\.com|colab\.research\.google\.com/github)/([\w.-]+/voiceclone)\b")
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists() and name != "tests/test_setup.py":
            found = set(pattern.findall((ROOT / name).read_text(encoding="utf-8")))
            assert found <= {owner_and_name}, f"{name} names another repository than pyproject.toml"


def test_the_package_itself_names_no_address():
    for path in package_files():
        assert REPOSITORY not in path.read_text(encoding="utf-8"), path


# Colab ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def drive(monkeypatch, tmp_path):
    """A stand-in for Colab: `google.colab.drive` that mounts a folder, and counts how often it is asked."""
    asked = []

    def mount(place):
        asked.append(place)
        (Path(place) / "MyDrive").mkdir(parents=True)

    module = types.ModuleType("google.colab")
    module.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release")
    monkeypatch.setitem(sys.modules, "google", types.ModuleType("google"))
    monkeypatch.setitem(sys.modules, "google.colab", module)
    monkeypatch.setattr(colab, "DRIVE", tmp_path / "drive")
    monkeypatch.setattr(colab, "VOICES_ON_DRIVE", tmp_path / "drive" / "MyDrive" / "voiceclone" / "voices")
    return types.SimpleNamespace(asked=asked, module=module.drive)


def test_on_colab_a_relative_voice_lies_in_the_drive_which_is_mounted_once(drive, tmp_path):
    voices = tmp_path / "drive" / "MyDrive" / "voiceclone" / "voices"
    assert colab.home("../voices/alice") == colab.home("alice") == voices / "alice"
    assert voices.is_dir() and len(drive.asked) == 1


def test_on_colab_an_absolute_path_needs_no_drive(drive):
    assert colab.home("/content/voices/alice") == Path("/content/voices/alice")
    assert drive.asked == []


def test_a_refused_drive_says_what_to_do(drive):
    def refuse(place):
        raise ValueError("mount failed")

    drive.module.mount = refuse
    with pytest.raises(UnavailableError, match="mount failed.*Run the cell again"):
        colab.home("alice")


def test_elsewhere_a_voice_lies_where_it_was_said(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert colab.home("../voices/alice") == Path("../voices/alice")
    with pytest.raises(UnavailableError, match="no Google Drive"):
        colab.mount_drive()


# Make -------------------------------------------------------------------------------------------------------------

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def checkout(tmp_path):
    """The files that make needs, in a folder with a space in its name."""
    folder = tmp_path / "a checkout"
    folder.mkdir()
    for name in ("Makefile", "requirements.txt", "constraints.txt", "weights.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True, env=environment)


@needs_make
def test_make_alone_lists_the_targets(checkout):
    done = make(checkout)
    assert done.returncode == 0
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["demo", "test", "lab", "app"]


@needs_make
@pytest.mark.parametrize("target", ["demo", "test", "lab"])
def test_without_a_supported_python_make_says_which_are(checkout, target):
    done = make(checkout, target, "PYTHON=")
    assert done.returncode != 0 and not (checkout / ".venv").exists()
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make")]
    assert len(said) == 1 and "3.11, 3.12 or 3.13" in said[0]


@needs_make
def test_without_venv_make_says_what_to_install(checkout):
    bare = checkout / "python"
    bare.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 1\nexit 99\n')
    bare.chmod(0o755)
    done = make(checkout, "test", "PYTHON=./python")
    assert done.returncode != 0
    said = [line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("make")]
    assert len(said) == 1 and "apt-get install python3-pip python3-venv" in said[0]


def test_continuous_integration_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK) or os.name == "nt"
    assert script.read_text().rstrip().endswith("make test")
