"""The page of a comparison: complete, self-contained, escaped, the same every time, and never stopped by a gap."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cosytune.comparison.plan import Arm, ComparisonResult
from cosytune.report.comparison import MARKS, write_report
from cosytune.report.tables import means_of, number, p_words
from tests.unit.report_examples import EVIL, make_result

SECTIONS = ("verdict", "scores", "pairs", "players", "curves", "differed", "failures", "limits", "environment")


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    VOID = frozenset({"meta", "br", "hr", "img", "line", "circle", "path", "use", "rect", "input", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def render(result: ComparisonResult, folder: Path, **options: int) -> tuple[str, Page]:
    html = write_report(result, folder / "report.html", **options).read_text(encoding="utf-8")
    return html, Page(html)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def result(folder: Path) -> ComparisonResult:
    return make_result(folder, starts=("base", f"sft{EVIL.replace('/', '')}"))


@pytest.fixture(scope="module")
def plain(result: ComparisonResult) -> ComparisonResult:
    """The same without curves, for tests of everything else: drawing takes most of the time."""
    arms = [
        replace(arm, result=replace(arm.result, parts=[replace(part, start={}, end={}) for part in arm.result.parts]))
        for arm in result.arms
    ]
    return replace(result, arms=arms)


@pytest.fixture(scope="module")
def rendered(result: ComparisonResult, folder: Path) -> tuple[str, Page]:
    return render(result, folder)


def test_sections_stand_in_the_promised_order_and_tags_are_closed(rendered: tuple[str, Page]) -> None:
    _, page = rendered
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.tags if attributes.get("id")]
    assert [name for name in ids if name in SECTIONS] == list(SECTIONS)
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in page.all("a") if a["href"] is not None}
    assert targets <= set(ids)


def test_page_needs_nothing_from_outside(rendered: tuple[str, Page]) -> None:
    html, page = rendered
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "data", "poster", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:audio/flac;base64,")), (tag, name)
    assert not page.all("link") and not page.all("img")
    assert not re.search(r"@import|url\((?!#)", html)


def test_what_users_wrote_is_escaped(rendered: tuple[str, Page], result: ComparisonResult) -> None:
    html, page = rendered
    assert "<script>alert" not in html
    assert len(page.all("script")) == 1
    assert f"Never read {EVIL} aloud." in page.text
    assert f"anna{EVIL}-03" in page.text
    assert result.arms[1].start in page.text


def test_headline_is_the_verdict_and_says_how_sure(rendered: tuple[str, Page], result: ComparisonResult) -> None:
    _, page = rendered
    assert result.verdict.words[0] == "base tuned did best."
    for words in result.verdict.words:
        assert " ".join(words.split()) in page.text
    assert "It rests on 3 runs of each start, 6 held-out sentences and 95 % intervals" in page.text


def test_votes_are_told_with_their_reasons(rendered: tuple[str, Page]) -> None:
    _, page = rendered
    assert "wer : pocketsphinx gets 44% wrong on the recordings themselves; above 40% it measures itself" in page.text
    assert "cer : characters misheard, of all characters of the text (judge: pocketsphinx); it votes" in page.text


def test_tables_hold_means_differences_and_what_could_be_seen(
    rendered: tuple[str, Page], result: ComparisonResult
) -> None:
    _, page = rendered
    means = means_of(result.evaluation)
    assert f"base tuned tuned, seeds 0, 1, 2 {number(means['base tuned', 'cer'].value)} " in page.text
    (pair,) = result.verdict.candidates
    for metric in pair.metrics:
        if metric.votes and metric.smallest_effect is not None and metric.interval is not None:
            bounds = f"{number(metric.interval.low)} to {number(metric.interval.high)}".replace("-", "−")
            row = f"{bounds} n = 6 × 3 runs {p_words(metric.corrected)} {number(metric.smallest_effect)} "
            assert row + f"{MARKS[metric.outcome]} {metric.outcome}" in page.text


def test_players_hold_the_bytes_of_the_files(rendered: tuple[str, Page], result: ComparisonResult) -> None:
    _, page = rendered
    players = page.all("audio")
    assert len(players) == 6 * 7
    assert {player["preload"] for player in players} == {"none"}
    assert all("controls" in player for player in players)
    held = {base64.b64decode((player["src"] or "").split(",")[1]) for player in players}
    assert held == {Path(sample.path).read_bytes() for sample in result.samples if sample.seed == 0}


def test_pictures_have_words_units_and_the_page_s_ink(rendered: tuple[str, Page]) -> None:
    html, page = rendered
    pictures = [svg for svg in page.all("svg") if svg.get("role") == "img"]
    assert len(pictures) == 4
    assert all((picture["aria-label"] or "").startswith(("lm, ", "flow, ")) for picture in pictures)
    for words in ("nats per speech token", "share of speech tokens", "mean squared error", "updates"):
        assert words in page.text
    assert "var(--ink)" in html and "#010203" not in html


def test_same_result_gives_the_same_bytes(rendered: tuple[str, Page], result: ComparisonResult, folder: Path) -> None:
    assert render(result, folder)[0] == rendered[0]
    assert [path.name for path in folder.iterdir() if "partial" in path.name] == []


def test_equal_arms_differ_in_nothing_but_the_start(rendered: tuple[str, Page]) -> None:
    _, page = rendered
    assert "Nothing but the start and, between repetitions, the seed." in page.text
    assert "6 held-out sentences to speak" in page.text


def test_a_differing_setting_is_listed_with_its_arms(plain: ComparisonResult, folder: Path) -> None:
    first = plain.arms[0]
    part = first.result.parts[0]
    changed = replace(part, settings={**part.settings, "learning_rate": 3e-4}, skipped=[(17, ["anna-99"])])
    arms = [Arm(first.start, first.seed, first.model, replace(first.result, parts=[changed, *first.result.parts[1:]]))]
    _, page = render(replace(plain, arms=arms + plain.arms[1:]), folder)
    assert "arms differ in 1 thing" in page.text
    assert "lm: learning_rate 0.0003 base, seed 0" in page.text
    assert "base, seed 0, lm: 1 update left out" in page.text and "first at step 17 with anna-99" in page.text


def test_who_chose_the_checkpoints_and_which(plain: ComparisonResult, folder: Path) -> None:
    assert "Which checkpoint of each part was kept" not in render(plain, folder)[1].text
    arms = []
    for arm in plain.arms:
        first, *rest = arm.result.parts
        stop = "none of 4 hearings after update 450 scored above its 0.6, up to update 600" if arm.seed == 0 else ""
        heard = replace(first, heard=[(0, 0.41), (450, 0.6), (600, 0.5)], chosen_step=450, stop=stop)
        result = replace(arm.result, parts=[heard, *rest], listener="6 validation sentences")
        arms.append(replace(arm, result=result))
    _, page = render(replace(plain, arms=arms), folder)
    assert "base, seed 1, lm: update 450 of 600, score 0.600, the untouched start had 0.410" in page.text
    assert "had 0.410; recorded, not obeyed: none of 4 hearings" in page.text
    assert "the choice of checkpoints, by 6 validation sentences" in page.text
    last = replace(arms[-1], result=replace(arms[-1].result, listener=""))
    _, page = render(replace(plain, arms=[*arms[:-1], last]), folder)
    assert "who chose the checkpoints 6 validation sentences" in page.text
    assert "nobody: the last is kept" in page.text


def test_equal_starts_are_warned_of(plain: ComparisonResult, folder: Path) -> None:
    arms = [Arm(a.start, a.seed, a.model, replace(a.result, start_hash="same")) for a in plain.arms]
    _, page = render(replace(plain, arms=arms), folder)
    assert "are the same model (equal hash)" in page.text


def test_sound_beyond_the_limit_stays_out_and_the_page_says_so(plain: ComparisonResult, folder: Path) -> None:
    first = {sample.sentence: None for sample in plain.samples}
    two = list(first)[:2]
    sizes = [Path(s.path).stat().st_size for s in plain.samples if s.seed == 0 and s.sentence in two]
    limit = sum(-(-size // 3) * 4 for size in sizes)
    _, page = render(plain, folder, audio_bytes=limit)
    assert len(page.all("audio")) == 2 * 7
    assert "The first 2 of 6 sentences" in page.text
    _, smaller = render(plain, folder, audio_bytes=limit - 1)
    assert "The first 1 of 6 sentences" in smaller.text
    assert str(folder / "systems") in smaller.text


def test_missing_clips_and_curves_are_named(tmp_path: Path) -> None:
    result = make_result(tmp_path, seeds=(0,), clips=False, curves=False)
    _, page = render(replace(result, samples=result.samples[1:]), tmp_path)
    assert page.all("audio") == []
    assert f"No clip: the file {result.samples[1].path} is missing." in page.text
    assert "There are no curves to show." in page.text
    assert f"base, seed 0, lm: there are no curves in {tmp_path}/arms/base-seed0.run/lm/metrics.jsonl" in page.text
    assert "One run of each" in page.text
    assert "It was too small to find any difference, however large" in page.text
    assert "zero is outside the interval, but not after correction" in page.text


def test_damaged_curves_are_named(tmp_path: Path) -> None:
    result = make_result(tmp_path, seeds=(0,), clips=False)
    path = tmp_path / "arms" / "base-seed0.run" / "lm" / "metrics.jsonl"
    path.write_text("not a metric\n" + path.read_text(encoding="utf-8"), encoding="utf-8")
    _, page = render(result, tmp_path)
    assert "base, seed 0, lm: the curves in" in page.text
    assert len([svg for svg in page.all("svg") if svg.get("role") == "img"]) == 4


def test_a_sentence_that_one_system_could_not_speak(plain: ComparisonResult, folder: Path) -> None:
    lost = next(s for s in plain.samples if s.system == "base tuned" and s.seed == 0)
    _, page = render(replace(plain, samples=[s for s in plain.samples if s is not lost]), folder)
    assert "No clip: nothing was spoken with seed 0." in page.text
    assert len(page.all("audio")) == 6 * 7 - 1


def test_nothing_to_play_and_no_votes(plain: ComparisonResult, folder: Path) -> None:
    silent = replace(plain.evaluation, votes=())
    _, page = render(replace(plain, samples=[], failures=[], evaluation=silent), folder)
    assert "There are no clips to play." in page.text
    assert "No metric had a vote, so nothing is decided here." in page.text
    assert "None: every system spoke every sentence, and no update was left out." in page.text
