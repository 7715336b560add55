"""The eight notebooks: their form, and that they run one after the other on a few sample takes."""

from __future__ import annotations

import ast
import json
import re
import shutil
import tomllib
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = ("00_start", "01_record", "02_transcribe", "03_clean", "04_tag", "05_train", "06_listen", "07_share")
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]["Repository"]
LOGIC = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.AsyncFor, ast.Try,
    ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp,
)  # fmt: skip

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    """A notebook, its code cells and its words."""
    book = nbformat.read(path, as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    return book, code, [cell for cell in book.cells if cell.cell_type == "markdown"]


def parse(cell):
    """A cell's syntax tree, with `!` and `%` lines made plain Python first."""
    from IPython.core.inputtransformer2 import TransformerManager

    return ast.parse(TransformerManager().transform_cell(cell.source))


# Form -----------------------------------------------------------------------------------------------------------------


def test_there_are_eight_notebooks_in_order():
    assert tuple(path.stem for path in NOTEBOOKS) == NAMES


@each
def test_notebook_is_valid_and_small_and_without_outputs(path):
    book, code, _ = read(path)
    nbformat.validate(book)
    assert path.stat().st_size < 60_000
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert len({cell.id for cell in book.cells}) == len(book.cells)
    assert "base64" not in path.read_text(encoding="utf-8")


@each
def test_first_code_cell_holds_at_most_twelve_commented_parameters(path):
    _, code, _ = read(path)
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert tagged == code[:1]
    lines = code[0].source.splitlines()
    assert 1 <= len(lines) <= 12
    assert all(re.fullmatch(r"\w+ = \S.*  # \S.*", line) for line in lines)


@each
def test_papermill_understands_every_parameter(path):
    import papermill

    _, code, _ = read(path)
    names = {line.split(" = ")[0] for line in code[0].source.splitlines()}
    assert set(papermill.inspect_notebook(str(path))) == names


@each
def test_code_cells_are_short_and_hold_no_logic(path):
    _, code, _ = read(path)
    for cell in code:
        assert len(cell.source.splitlines()) <= 12
        assert not [node for node in ast.walk(parse(cell)) if isinstance(node, LOGIC)], cell.source


@each
def test_commands_stand_in_the_set_up_only(path):
    _, code, _ = read(path)
    assert not any(re.search(r"^\s*[!%]", cell.source, re.MULTILINE) for cell in code[3:])


@each
def test_title_says_what_one_will_have_and_how_long_it_takes(path):
    _, _, words = read(path)
    title = words[0].source
    assert title.startswith(f"# {path.stem[:2]} · ")
    assert "At the end" in title
    assert "T4" in title and "CPU" in title


@each
def test_badge_and_installation_use_the_repositorys_address(path):
    book, code, _ = read(path)
    site, repository = "https://colab.research.google.com/github", REPOSITORY.removeprefix("https://github.com")
    assert f"]({site}{repository}/blob/main/notebooks/{path.name})" in book.cells[0].source
    assert REPOSITORY in code[1].source
    assert "COLAB_RELEASE_TAG" in code[1].source
    links = re.findall(r"https?://[^\s)\"]+", "\n".join(cell.source for cell in book.cells))
    allowed = (f"{site}{repository}/", REPOSITORY, "https://colab.research.google.com/assets/", "https://arxiv.org/")
    assert all(link.startswith(allowed) for link in links), links


@each
def test_last_cells_check_what_was_made_and_lead_on(path):
    book, code, _ = read(path)
    assert any(isinstance(node, ast.Assert) for node in ast.walk(parse(code[-1])))
    last = book.cells[-1]
    assert last.cell_type == "markdown"
    links = re.findall(r"\]\((\d\d_\w+)\.ipynb\)", last.source)
    assert links and all((ROOT / "notebooks" / f"{link}.ipynb").exists() for link in links)
    if path.stem != NAMES[-1]:
        assert links[0] == NAMES[NAMES.index(path.stem) + 1]


@each
def test_links_on_colab_lead_to_notebooks_that_exist(path):
    book, _, _ = read(path)
    for name in re.findall(r"blob/main/notebooks/([\w.]+)", "\n".join(cell.source for cell in book.cells)):
        assert (ROOT / "notebooks" / name).exists()


# Running --------------------------------------------------------------------------------------------------------------

SMALL = {
    "00_start": {"who_agrees": "the voiceclone project (synthetic voice)"},
    "01_record": {},
    "02_transcribe": {"engine": "whisper"},
    "03_clean": {},
    "04_tag": {},
    "05_train": {"minutes": 0, "steps": 6, "previews": 1},
    "06_listen": {"sentences": 1, "engine": "whisper", "text": "A short test.", "tune_minutes": 0.001},
    "07_share": {},
}


@pytest.fixture(scope="session")
def executed(tmp_path_factory, sample_takes):
    """The notebooks run in order on five takes: the voice folder, and the executed notebooks by name."""
    import papermill

    folder = tmp_path_factory.mktemp("notebooks")
    takes = folder / "takes"
    takes.mkdir()
    for number in range(1, 6):
        shutil.copy(sample_takes / f"{number:04d}-1.flac", takes)
    books = {}
    for name in NAMES:
        parameters = {"voice_path": str(folder / "voices" / "tiny")} | SMALL[name]
        parameters |= {"takes_from": str(takes)} if name == "01_record" else {}
        books[name] = papermill.execute_notebook(
            ROOT / "notebooks" / f"{name}.ipynb",
            folder / f"{name}.ipynb",
            parameters,
            cwd=ROOT / "notebooks",
            kernel_name="python3",
            progress_bar=False,
        )
    return folder / "voices" / "tiny", books


def test_every_notebook_runs_to_its_last_cell(executed):
    _, books = executed
    for name, book in books.items():
        code = [cell for cell in book.cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code), name
        assert any(output.output_type == "stream" for output in code[-1].outputs), name


def test_the_series_leaves_what_each_notebook_promises(executed):
    voice, _ = executed
    content = json.loads((voice / "voice.json").read_text(encoding="utf-8"))
    assert content["consent"]["who"] == SMALL["00_start"]["who_agrees"]
    assert len(list((voice / "takes").glob("000?-1.wav"))) == 5
    assert (voice / "clips.csv").exists()
    clips = list((voice / "clips").glob("*.wav"))
    assert len((voice / "metadata.csv").read_text(encoding="utf-8").splitlines()) == len(clips) > 0
    run = voice / "runs" / "main"
    assert (run / "config.json").exists() and (run / "log.jsonl").exists()
    assert (run / "checkpoints" / "best.pt").exists()
    assert (voice / "samples" / "evaluation.json").exists()
    assert list((voice / "samples").glob("*.wav")) and list((voice / "exports").iterdir())


def test_executed_notebooks_hold_sounds_and_figures_and_no_dead_widgets(executed):
    _, books = executed
    for name, book in books.items():
        shown = json.dumps(book)
        assert "widget-view+json" not in shown, name
        assert not re.search(r"<\w+(\.\w+)* (object )?at 0x", shown), name
    assert "<audio" in json.dumps(books["06_listen"])
    assert "image/png" in json.dumps(books["03_clean"])


def test_the_tuned_vocoder_is_heard_and_measured_beside_the_universal_one(executed):
    voice, books = executed
    assert (voice / "runs" / "main" / "vocoder" / "generator.pt").exists()
    (cell,) = [cell for cell in books["06_listen"].cells if cell.id == "before-after"]
    shown = cell.outputs[-1].data["text/html"]
    assert shown.count("<audio") == 2 and "before: the universal one" in shown and "after: tuned to the voice" in shown
    assert len(re.findall(r">\d\.\d{3}</td>", shown)) == 8  # four measures of each


def test_executed_notebooks_warn_of_nothing(executed):
    _, books = executed
    for name, book in books.items():
        errors = [
            output.text
            for cell in book.cells
            if cell.cell_type == "code"
            for output in cell.outputs
            if output.output_type == "stream" and output.name == "stderr"
        ]
        assert not errors, (name, errors)
