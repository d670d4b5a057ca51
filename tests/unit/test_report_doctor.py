"""The page of a check: complete, self-contained, escaped, the same every time, never too large."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from cosytune.data.doctor_results import (
    ClipCheck,
    CorpusFinding,
    DoctorResult,
    Exhibit,
    Finding,
    Histogram,
    SkippedCheck,
)
from cosytune.report.doctor import ABOUT, headline, summary, write_doctor_page
from cosytune.report.doctor_figures import draw_clip, draw_histogram
from tests.unit.doctor_examples import good
from tests.unit.test_report_page import Page

EVIL = '<script>alert("x")</script>'
SOURCES = Path(__file__).parents[2] / "src" / "cosytune" / "data" / "doctor"


def clip(name: str, decision: str, *findings: Finding, **changes: object) -> ClipCheck:
    values = {
        "id": name, "audio": f"/a/{name}.wav", "text": f"Read {EVIL} aloud.", "speaker": f"anna{EVIL}",
        "language": "en",
        "decision": decision, "reason": "" if decision == "kept" else "x: y", "start": None, "end": None, "began": 0.0,
        "seconds": 4.0, "measures": good(), "findings": findings, "heard": None,
        "characters_per_second": 12.0, "error_rate": 0.25, "likeness": 0.9,
    }  # fmt: skip
    return ClipCheck(**{**values, **changes})  # type: ignore[arg-type]


def exhibit(name: str, size: int = 200) -> Exhibit:
    envelope = tuple((-0.1 * (n % 4), 0.1 * (n % 3)) for n in range(40))
    return Exhibit(name, b"\xff" * size, "audio/mpeg", 4.0, envelope, (bytes(range(40)), bytes(40)), 8000.0)


@pytest.fixture
def result() -> DoctorResult:
    noise = Finding("noise", "drop", f"Noisy {EVIL}.", 3.0, 18.0, "dB", 3.0)
    silence = Finding("edge silence", "fix", "Silent.", 1.0, 0.6, "s", 1.6)
    figures = Finding("figures", "keep", "Figures.", before=f"It cost $5 {EVIL}", after="It cost five dollars")
    clips = (
        clip("fine", "kept"),
        clip(f"loud{EVIL}", "dropped", noise, figures),
        clip("late", "fixed", silence, start=0.8, seconds=3.2),
        clip("none", "dropped", Finding("unreadable", "drop", "Broken."), measures=None, text=None, seconds=0.0),
    )
    return DoctorResult(
        folder=f"/a/{EVIL}",
        layout="plain",
        clips=clips,
        corpus=(CorpusFinding("too little", "Too little.", serious=True), CorpusFinding("repeated text", "Again.")),
        skipped=(SkippedCheck("transcript", "no recogniser for zh: their transcripts are not checked"),),
        histograms=(Histogram("Length", "s", (0.0, 1.0, 2.0), (3, 0), (0.5, 9.0)),),
        settings={"snr": 18.0, "cut": -12.0},
        listeners=("ears",),
    )


def render(result: DoctorResult, exhibits: list[Exhibit], folder: Path, **options: int) -> tuple[str, Page]:
    path = write_doctor_page(result, exhibits, folder / "check.html", "check.json", **options)
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_page_is_whole_and_escaped(result: DoctorResult, tmp_path: Path) -> None:
    html, page = render(result, [exhibit(f"loud{EVIL}"), exhibit("late")], tmp_path)
    assert page.open == []
    assert "<script>alert" not in html and len(page.all("script")) == 1
    for words in (f"Noisy {EVIL}.", f"Read {EVIL} aloud.", f"anna{EVIL}", f"Check of /a/{EVIL}", f"loud{EVIL}"):
        assert words in page.text
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "poster", "action"):
            assert (attributes.get(name) or "#").startswith(
                ("#", "data:audio/mpeg;base64,", "data:image/jpeg;base64,")
            ), tag
    assert not page.all("link") and not re.search(r"@import|url\((?!#)", html)
    assert len(page.all("audio")) == 2


def test_page_says_what_can_be_used_and_what_to_do(result: DoctorResult, tmp_path: Path) -> None:
    _, page = render(result, [exhibit("late")], tmp_path)
    assert headline(result) == "7.2 s of 12.0 s can be used: 2 of 4 clips" in page.text
    for words in (
        "1 kept", "1 fixed", "2 dropped", "Too little.", "Again.", "no recogniser for zh", "--check check.json",
        "Compare figures and symbols", "0.80 to its end", "Judges: ears",
    ):  # fmt: skip
        assert words in page.text, words
    rows = [attributes["data-defects"] for attributes in page.all("tr") if "data-defects" in attributes]
    assert rows == ["noise|figures", "unreadable", "edge silence"]
    options = page.all("option")
    assert len(options) == 2 + 4 + 3


def test_a_change_of_the_normaliser_is_shown_word_by_word(result: DoctorResult, tmp_path: Path) -> None:
    html, _ = render(result, [], tmp_path)
    assert "It cost <del>$5 &lt;script" in html and "<ins>five dollars</ins>" in html


def test_what_is_said_of_the_corpus_is_not_explained_with_each_clip(result: DoctorResult, tmp_path: Path) -> None:
    kept = Finding("narrow band", "keep", "It ends at 4000 Hz.")
    dropped = replace(kept, action="drop")
    clips = tuple(replace(clip, findings=(own,)) for clip, own in zip(result.clips, (kept, dropped), strict=False))
    whole = (CorpusFinding("narrow band", "All sound like a telephone.", serious=True),)
    page = write_doctor_page(replace(result, clips=clips, corpus=whole), [], tmp_path / "c.html", "c.json").read_text()
    assert page.count("like much of the corpus") == 1 and page.count("It ends at 4000 Hz.") == 1


def test_same_result_same_bytes(result: DoctorResult, tmp_path: Path) -> None:
    assert render(result, [exhibit("late")], tmp_path)[0] == render(result, [exhibit("late")], tmp_path)[0]


def test_page_keeps_its_size(result: DoctorResult, tmp_path: Path) -> None:
    exhibits = [exhibit("late", 30_000), exhibit(f"loud{EVIL}", 30_000)]
    html, page = render(result, exhibits, tmp_path, page_bytes=60_000)
    assert len(html) < 110_000
    # The worse of the two has its player, and the other is still in the table.
    (player,) = page.all("audio")
    assert player["aria-label"] == f"loud{EVIL}"
    assert "late" in page.text


def test_many_clips_are_cut_off_in_words(result: DoctorResult, tmp_path: Path) -> None:
    many = tuple(replace(result.clips[1], id=str(number)) for number in range(1600))
    _, page = render(replace(result, clips=many), [], tmp_path)
    assert "100 clips with milder findings" in page.text


def test_a_fine_folder_and_one_without_use(result: DoctorResult, tmp_path: Path) -> None:
    fine = replace(result, clips=result.clips[:1], corpus=(), histograms=(), skipped=(), left_out=3)
    assert "not looked at: 3 clips (--limit)" in summary(fine)
    _, page = render(fine, [], tmp_path)
    assert "every clip is fine" in page.text and "3 clips were not looked at" in page.text
    useless = replace(result, clips=result.clips[3:])
    _, page = render(useless, [], tmp_path)
    assert "None of the 1 clip can be used" in page.text and "--check" not in page.text
    assert "Correct the commonest defect first (unreadable" in page.text


def test_summary_for_a_terminal(result: DoctorResult) -> None:
    lines = summary(result).splitlines()
    assert lines[0] == "7.2 s of 12.0 s can be used: 2 of 4 clips (1 kept, 1 fixed, 2 dropped)."
    assert any(line.startswith("  noise ") and "(drop 1)" in line for line in lines)
    assert lines[-1] == "  not checked: transcript: no recogniser for zh: their transcripts are not checked"


def test_every_defect_of_the_doctor_is_explained() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in SOURCES.glob("*.py"))
    named = set(re.findall(r'(?<!Corpus)Finding\(\s*f?"([a-z, ]+)"', code))
    assert len(named) > 20
    assert named <= set(ABOUT) and {"cut start", "cut end"} <= set(ABOUT)


def test_pictures(result: DoctorResult) -> None:
    drawn = draw_histogram(result.histograms[0])
    assert drawn.count("<rect") == 2 and drawn.count('class="limit"') == 1
    picture = draw_clip(exhibit("a"), (0.5, 3.0), (0.8, 4.0))
    assert picture.count('class="edge"') == 2 and picture.count('class="cut"') == 2
    silent = replace(exhibit("a"), envelope=((0.0, 0.0),) * 3)
    assert "nan" not in draw_clip(silent, None, None)
