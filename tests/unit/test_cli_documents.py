"""Every command that a document shows is one that the command line takes."""

from __future__ import annotations

import re
import shlex

import pytest

from cosytune.cli import main as main_module
from tests.unit.test_cli import ROOT, VERBS


def documented_commands() -> list[tuple[str, str]]:
    documents = [ROOT / "README.md", *sorted(ROOT.glob("README.*.md")), *sorted((ROOT / "docs").glob("*.md"))]
    found = []
    for document in documents:
        text = document.read_text(encoding="utf-8") if document.is_file() else ""
        for block in re.findall(r"```(?:bash|sh|console)\n(.*?)```", text, flags=re.DOTALL):
            joined = re.sub(r"\\\n\s*", " ", block)
            found += [
                (document.name, line.strip().removeprefix("$ "))
                for line in joined.splitlines()
                if line.strip().removeprefix("$ ").startswith("cosytune ")
            ]
    return found


def test_documents_show_commands() -> None:
    if not (ROOT / "README.md").is_file():
        pytest.skip("there is no README.md beside these tests")
    assert documented_commands()


@pytest.mark.parametrize(("document", "line"), documented_commands())
def test_documented_commands_exist(document: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    words = words[: next((place for place, word in enumerate(words) if word in ("|", ">", "&&", ";")), len(words))]
    if words and words[0] in ("--help", "--version"):
        return
    verb = " ".join(words[:2]) if words[0] == "data" and len(words) > 1 else words[0]
    if verb == "VERB" or words[-1] == "--help":
        return
    assert verb in VERBS, f"{document}: there is no verb {verb!r}"
    given = words[len(verb.split()) :]
    try:
        VERBS[verb].make_context(verb, [*given])
    except main_module._CommandLineError as error:
        pytest.fail(f"{document}: {line}: {error.format_message()}")
