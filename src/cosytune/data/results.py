"""The ledger: the account of a corpus, in which what came in equals what was kept, fixed or dropped."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from cosytune.errors import DataError
from cosytune.files import write_json_lines

__all__ = ["Decision", "Ledger", "LedgerLine", "write_ledger"]

Decision = Literal["kept", "fixed", "dropped"]
_DECISIONS: tuple[Decision, ...] = ("kept", "fixed", "dropped")


@dataclass(frozen=True)
class LedgerLine:
    """What became of one clip.

    Attributes:
        id: the clip's id, or the name of the file when it never got one.
        audio: path of the recording, or of the transcript that has none.
        decision: "kept" as it is, "fixed" (kept after a change) or "dropped".
        reason: in words, "kind" or "kind: detail"; empty for a clip kept as it is.
        seconds: length of the clip, as kept or as dropped; None where nobody could tell.
    """

    id: str
    audio: str
    decision: Decision
    reason: str = ""
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.decision not in _DECISIONS:
            raise ValueError(f"a ledger decision is one of {', '.join(_DECISIONS)}, not {self.decision!r}")
        if self.decision != "kept" and not self.reason:
            raise ValueError(f"clip {self.id!r} was {self.decision} without a reason")


@dataclass(frozen=True)
class Ledger:
    """The counts of an account, and a way to go through its lines; few lines are ever in memory.

    `seen`, counted where the clips were found, is the sum of the three others, which have no clip in common.

    Attributes:
        seen: clips that came in.
        kept: clips that are in the corpus as they are.
        fixed: clips that are in the corpus after a change.
        dropped: clips that are not in the corpus.
        kinds: for "fixed" and "dropped", how many clips had each kind of reason.
        seconds: length in all of the clips "kept", "fixed" and "dropped", and "between" them: sound of the recordings
            that belongs to no clip (pauses between cuts, trimmed silence). Clips of unknown length are left out.
        notes: what a person should know besides.
        lines: can be gone through many times; those of a ledger on disk are read anew each time.

    Raises:
        ValueError: `seen` is not the sum: a clip was lost silently, which is a fault of the program.
    """

    seen: int
    kept: int
    fixed: int
    dropped: int
    kinds: Mapping[Decision, Mapping[str, int]]
    seconds: Mapping[str, float]
    notes: tuple[str, ...] = ()
    lines: Iterable[LedgerLine] = field(default=(), compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.seen != self.kept + self.fixed + self.dropped:
            raise ValueError(
                f"{self.seen} clips came in, but {self.kept} were kept, {self.fixed} fixed and {self.dropped} dropped"
            )

    @classmethod
    def of(cls, lines: Iterable[LedgerLine], seen: int, notes: tuple[str, ...] = (), *, between: float = 0.0) -> Ledger:
        """The account of lines that fit in memory (`write_ledger` is for those that do not).

        Args:
            lines: one for each clip.
            seen: clips that came in.
            notes: what a person should know besides.
            between: seconds of recordings that belong to no clip.
        """
        lines = tuple(lines)
        count = _Count()
        for line in lines:
            count.add(line)
        return count.ledger(seen, notes, between, lines)

    @property
    def usable(self) -> int:
        """Clips that are in the corpus, changed or not."""
        return self.kept + self.fixed

    def reasons(self, decision: Decision) -> dict[str, int]:
        """How often each kind of reason led to `decision`, the most frequent first."""
        return dict(sorted(self.kinds.get(decision, {}).items(), key=lambda pair: (-pair[1], pair[0])))

    def summary(self) -> str:
        """The account in one paragraph."""
        counts = {"kept": self.kept, "fixed": self.fixed, "dropped": self.dropped}
        total = _in_brackets(sum(self.seconds.values()))
        parts = [
            f"{self.seen} clips came in{total}: "
            + ", ".join(f"{count} {name}{_in_brackets(self.seconds[name])}" for name, count in counts.items())
        ]
        if self.seconds["between"]:
            parts.append(f"{_length(self.seconds['between'])} lie between the clips")
        for decision in _DECISIONS[1:]:
            if kinds := self.reasons(decision):
                parts.append(f"{decision}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
        return "; ".join(parts) + "." + "".join(f" {note[0].upper()}{note[1:]}." for note in self.notes)

    def as_json(self) -> dict[str, Any]:
        """The account without its lines."""
        return {
            "in": self.seen,
            "kept": self.kept,
            "fixed": self.fixed,
            "dropped": self.dropped,
            "reasons": {decision: self.reasons(decision) for decision in _DECISIONS[1:]},
            "seconds": dict(self.seconds),
            "notes": list(self.notes),
        }

    def write(self, path: Path) -> None:
        """Write the ledger as JSON lines, the account in the last one."""
        write_ledger(path, self.lines, self.seen, self.notes, between=self.seconds["between"])

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read the account that `write` wrote; its lines are read when somebody goes through them.

        Raises:
            DataError: the file is missing or damaged; going through `lines` raises it too where they do not add up.
        """
        try:
            account = json.loads(_last_line(path))
            return cls(
                account["in"],
                account["kept"],
                account["fixed"],
                account["dropped"],
                account["reasons"],
                account["seconds"],
                tuple(account["notes"]),
                _StoredLines(path, account["in"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise _damaged(path, error) from error


def write_ledger(
    path: Path, lines: Iterable[LedgerLine], seen: int, notes: tuple[str, ...] = (), *, between: float = 0.0
) -> Ledger:
    """Write lines as they come, and the account as the last line; nothing is written if it does not add up.

    Args:
        path: file to write.
        lines: one for each clip.
        seen: clips that came in.
        notes: what a person should know besides.
        between: seconds of recordings that belong to no clip.

    Raises:
        ValueError: `seen` is not the number of lines.
    """
    count = _Count()

    def rows() -> Iterator[dict[str, Any]]:
        for line in lines:
            count.add(line)
            yield {name: value for name, value in asdict(line).items() if value not in (None, "")}
        yield count.ledger(seen, notes, between, ()).as_json()

    write_json_lines(path, rows())
    return Ledger.read(path)


class _Count:
    """The running account."""

    def __init__(self) -> None:
        self.clips: Counter[Decision] = Counter()
        self.kinds: dict[Decision, Counter[str]] = {decision: Counter() for decision in _DECISIONS[1:]}
        # Whole microseconds: their sum is the same in any order.
        self.microseconds: Counter[Decision] = Counter()

    def add(self, line: LedgerLine) -> None:
        self.clips[line.decision] += 1
        if line.decision != "kept":
            self.kinds[line.decision][line.reason.split(":")[0]] += 1
        if line.seconds is not None:
            self.microseconds[line.decision] += round(line.seconds * 1_000_000)

    def ledger(self, seen: int, notes: tuple[str, ...], between: float, lines: Iterable[LedgerLine]) -> Ledger:
        seconds: dict[str, float] = {name: round(self.microseconds[name] / 1_000_000, 3) for name in _DECISIONS}
        kinds = {decision: dict(counter) for decision, counter in self.kinds.items()}
        kept, fixed, dropped = (self.clips[decision] for decision in _DECISIONS)
        return Ledger(seen, kept, fixed, dropped, kinds, {**seconds, "between": round(between, 3)}, notes, lines)


class _StoredLines:
    """The lines of a ledger on disk, read anew each time they are gone through."""

    def __init__(self, path: Path, seen: int) -> None:
        self.path, self.seen = path, seen

    def __iter__(self) -> Iterator[LedgerLine]:
        try:
            with self.path.open(encoding="utf-8") as rows:
                for number, row in enumerate(rows):
                    if number < self.seen:
                        yield LedgerLine(**json.loads(row))
                if number != self.seen:
                    raise ValueError(f"{number} lines where the account says {self.seen}")
        except (OSError, ValueError, TypeError) as error:
            raise _damaged(self.path, error) from error


def _damaged(path: Path, error: Exception) -> DataError:
    return DataError(f"the ledger {path} cannot be read ({error}); prepare the corpus again")


def _last_line(path: Path) -> bytes:
    with path.open("rb") as source:
        end = source.seek(0, os.SEEK_END)
        tail = b""
        while end and tail.strip().count(b"\n") == 0:
            size = min(end, 1 << 16)
            end -= size
            source.seek(end)
            tail = source.read(size) + tail
    return tail.strip().rsplit(b"\n", 1)[-1]


def _in_brackets(seconds: float) -> str:
    return f" ({_length(seconds)})" if seconds else ""


def _length(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 36000 else f"{seconds / 60:.1f} min"
