"""The ledger: the account of a corpus, in which what came in equals what was kept plus what was dropped."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from cosytune.errors import DataError
from cosytune.files import write_json_lines

__all__ = ["Decision", "Ledger", "LedgerLine"]

Decision = Literal["kept", "dropped", "fixed"]
_DECISIONS: tuple[Decision, ...] = ("kept", "dropped", "fixed")


@dataclass(frozen=True)
class LedgerLine:
    """What became of one clip.

    Attributes:
        id: the clip's id, or the name of the file when it never got one.
        audio: path of the recording, or of the transcript that has none.
        decision: "kept" as it is, "fixed" (kept after a change) or "dropped".
        reason: in words, "kind" or "kind: detail"; empty for a clip kept as it is.
    """

    id: str
    audio: str
    decision: Decision
    reason: str = ""

    def __post_init__(self) -> None:
        if self.decision not in _DECISIONS:
            raise ValueError(f"a ledger decision is one of {', '.join(_DECISIONS)}, not {self.decision!r}")
        if self.decision != "kept" and not self.reason:
            raise ValueError(f"clip {self.id!r} was {self.decision} without a reason")


@dataclass(frozen=True)
class Ledger:
    """All lines of an account, with the number of clips that came in, counted where they were found.

    Raises:
        ValueError: `seen` is not kept + dropped: a clip was lost silently, which is a fault of the program.
    """

    lines: tuple[LedgerLine, ...]
    seen: int
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.seen != self.kept + self.dropped:
            raise ValueError(f"{self.seen} clips came in, but {self.kept} were kept and {self.dropped} dropped")

    @property
    def kept(self) -> int:
        """Clips that are in the corpus, changed or not."""
        return sum(line.decision != "dropped" for line in self.lines)

    @property
    def fixed(self) -> int:
        """Clips that were kept after a change."""
        return sum(line.decision == "fixed" for line in self.lines)

    @property
    def dropped(self) -> int:
        """Clips that are not in the corpus."""
        return sum(line.decision == "dropped" for line in self.lines)

    def reasons(self, decision: Decision) -> dict[str, int]:
        """How often each kind of reason led to `decision`, the most frequent first."""
        kinds = Counter(line.reason.split(":")[0] for line in self.lines if line.decision == decision)
        return dict(sorted(kinds.items(), key=lambda pair: (-pair[1], pair[0])))

    def summary(self) -> str:
        """The account in one paragraph."""
        parts = [f"{self.seen} clips came in: {self.kept} kept, {self.dropped} dropped"]
        changes: tuple[Decision, ...] = ("fixed", "dropped")
        for decision in changes:
            kinds = self.reasons(decision)
            if kinds:
                parts.append(f"{decision}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items()))
        return "; ".join(parts) + "." + "".join(f" {note[0].upper()}{note[1:]}." for note in self.notes)

    def write(self, path: Path) -> None:
        """Write the ledger as JSON lines, the counts first."""
        head = {"in": self.seen, "kept": self.kept, "dropped": self.dropped, "notes": list(self.notes)}
        write_json_lines(path, [head, *(asdict(line) for line in self.lines)])

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read what `write` wrote.

        Raises:
            DataError: the file is missing, damaged, or its counts do not agree with its lines.
        """
        try:
            head, *rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            return cls(tuple(LedgerLine(**row) for row in rows), head["in"], tuple(head["notes"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"the ledger {path} cannot be read ({error}); prepare the corpus again") from error
