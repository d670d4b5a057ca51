"""The switches of the text front end: what is read aloud how, and which defects of the reference stay behind them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "REFERENCE", "FrontendOptions"]


@dataclass(frozen=True)
class FrontendOptions:
    """How a text becomes pieces to speak; the defaults are ours, `REFERENCE` repeats the published front end.

    Fields (T1 to T6 are the defects of section 10.4 of the specification that the default cures):
        read_numbers: run the number and date normaliser. Off leaves every other rule as it is; the reference preset
            still spells bare digit runs in its English path then, as it does where wetext is not installed.
        clean: drop control characters and mark-up, bring white space and full-width letters to one form.
        split_tagged: `<|...|>` tags do not switch normalisation and splitting off (T1); the pieces after a language tag
            repeat it, because each of them is spoken alone.
        hard_limit: no piece is longer than `SplitLimits.hard_maximum`; sentences that are too long are cut at commas,
            then at spaces, then anywhere; no mark is lost (T2, T3).
        keep_inner_stops: a full stop inside a decimal, a version or an address is no sentence end (T4).
        respect_language: only English gets English number words, only Chinese the Chinese rules (T5, T6); otherwise
            any Han character selects the Chinese path and everything else the English one.
        strip_pieces: no white space at the ends of a piece.
        refuse_silence: a text with nothing to pronounce is an `InputError`; otherwise it gives no pieces.
    """

    read_numbers: bool = True
    clean: bool = True
    split_tagged: bool = True
    hard_limit: bool = True
    keep_inner_stops: bool = True
    respect_language: bool = True
    strip_pieces: bool = True
    refuse_silence: bool = True


DEFAULT = FrontendOptions()
"""The front end we stand for."""

REFERENCE = FrontendOptions(
    clean=False,
    split_tagged=False,
    hard_limit=False,
    keep_inner_stops=False,
    respect_language=False,
    strip_pieces=False,
    refuse_silence=False,
)
"""What the published front end does, for parity; only its crashes are not repeated."""
