"""The documentation: its commands parse, its make targets and its links exist, so that a renamed flag breaks a test."""

import re
import shlex
from pathlib import Path

import pytest

from gpuday import presets
from gpuday.cli import app

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(p for p in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")] if p.is_file())
TEXTS = {p.relative_to(ROOT).as_posix(): p.read_text(encoding="utf-8") for p in PAGES}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NOT_OURS = {"--extra-index-url", "--nproc-per-node"}  # pip's and torchrun's


def shell_lines(text: str) -> list[str]:
    """Lines of the ```bash blocks, continued lines joined, comments and environment variables before them off."""
    blocks = [body for language, body in FENCE.findall(text) if language == "bash"]
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [re.sub(r"^\s*(\$ )?([A-Z_]+=\S+ )*", "", line) for line in lines]


def commands(text: str) -> list[str]:
    return [line for line in shell_lines(text) if line.startswith("gpuday ")]


def code(text: str) -> list[str]:
    """What stands as code: blocks, and spans in running text."""
    spans = re.findall(r"`([^`\n]+)`", FENCE.sub("", text))
    return [*(body for _, body in FENCE.findall(text)), *spans]


def parse(command: str) -> None:
    """As the command line would, without running anything."""
    tokens = shlex.split(command, comments=True)
    assert tokens[0] == "gpuday"
    app.parse_args(tokens[1:], print_error=False, exit_on_error=False)


COMMANDS = [(name, command) for name, text in TEXTS.items() for command in commands(text)]


def test_there_is_something_to_check() -> None:
    """A page that moved, or a fence that is written otherwise, must not turn these tests off."""
    assert "README.md" in TEXTS and "CONTRIBUTING.md" in TEXTS
    assert len(commands(TEXTS["README.md"])) >= 3


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_of_the_documentation_parses(page: str, command: str) -> None:
    """Every line of a bash block that begins with `gpuday`: command, flags and the types of their values."""
    parse(command)


@pytest.mark.parametrize("preset", presets.names())
def test_the_command_in_a_presets_docstring_parses_and_names_it(preset: str) -> None:
    """The docstring is the preset's documentation."""
    found = re.search(r"command:\s+(gpuday .*)", presets.find(preset).__doc__ or "")
    assert found is not None
    parse(found[1])
    assert found[1].split()[2] == preset


@pytest.mark.parametrize("wrong", ["gpuday run --bugdet 10m", "gpuday rum", "gpuday run --vocab many", "gpuday export"])
def test_a_command_that_does_not_parse_is_noticed(wrong: str) -> None:
    """The check itself: a renamed flag, a renamed command, a value of another type, a missing argument."""
    with pytest.raises(Exception, match=r"Unknown|Invalid|requires|whole number"):
        parse(wrong)


@pytest.mark.parametrize("page", TEXTS)
def test_flags_named_in_running_text_exist(page: str) -> None:
    """Code spans that begin with a flag or with `gpuday`: each `--flag` belongs to some command."""
    known = set(NOT_OURS)
    for name in app:
        if not name.startswith("-"):
            known |= {n for argument in app[name].assemble_argument_collection() for n in argument.names}
    spans = [c for c in re.findall(r"`([^`\n]+)`", FENCE.sub("", TEXTS[page])) if c.startswith(("--", "gpuday "))]
    named = {flag for span in spans for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    assert sorted(named - known) == []


@pytest.mark.parametrize("page", TEXTS)
def test_make_targets_exist(page: str) -> None:
    """Every `make X` that stands as code is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, re.MULTILINE))
    named = {target for c in code(TEXTS[page]) for target in re.findall(r"(?:^|[\s;&])make ([a-z][a-z-]*)", c)}
    assert sorted(named - targets) == []


@pytest.mark.parametrize("page", TEXTS)
def test_relative_links_lead_somewhere(page: str) -> None:
    """Files, folders and pictures; addresses of the network are not asked for."""
    prose = FENCE.sub("", TEXTS[page])
    targets = [t for t in re.findall(r"\]\(([^)\s#]+)", prose) if not re.match(r"[a-z]+:", t)]
    assert [t for t in targets if not ((ROOT / page).parent / t).exists()] == []


@pytest.mark.parametrize("page", TEXTS)
def test_every_test_that_a_page_names_is_there(page: str) -> None:
    """`tests/...py::test_name`: what is said to be guarded is."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXTS[page])
    files = {path: (ROOT / path).read_text(encoding="utf-8") for path, _ in named}
    assert [test for path, test in named if f"def {test}(" not in files[path]] == []


@pytest.mark.parametrize("page", TEXTS)
def test_links_to_headings_lead_to_one(page: str) -> None:
    """`#a-heading`, as GitHub names them, in this page or in the one that is linked."""
    missing = []
    for path, anchor in re.findall(r"\]\(([^)\s#]*)#([^)\s]+)\)", FENCE.sub("", TEXTS[page])):
        target = (ROOT / page).parent / path if path else ROOT / page
        if re.match(r"[a-z]+:", path) or target.suffix != ".md":
            continue
        headings = re.findall(r"^#+ (.+)$", FENCE.sub("", target.read_text(encoding="utf-8")), re.MULTILINE)
        named = {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
        if anchor not in named:
            missing.append(f"{path}#{anchor}")
    assert missing == []


def test_a_block_is_read_as_a_shell_reads_it() -> None:
    """The extraction itself: prompts, continued lines, variables before a command; other blocks are left alone."""
    text = "```bash\n$ gpuday run \\\n  bert\nOMP=1 gpuday list  # all\nls\n```\n```toml\ngpuday = 1\n```\n"
    assert [shlex.split(c, comments=True) for c in commands(text)] == [["gpuday", "run", "bert"], ["gpuday", "list"]]
