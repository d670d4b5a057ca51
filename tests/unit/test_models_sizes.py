"""The named sizes: they can be built, and the large one has the released number of parameters."""

from __future__ import annotations

import functools

import pytest

from cosytune.errors import InputError
from cosytune.models.agreement import check_agreement
from cosytune.models.folder import Model, TokenizerFile
from cosytune.models.loading import _outline, network_of
from cosytune.models.sizes import SIZES, family_size


@functools.cache
def outline(size: str) -> Model:
    family = family_size(size)
    vocabulary = family.text_vocabulary or family.small_vocabulary
    parts = {name: _outline(network_of, config) for name, config in family.parts(vocabulary).items()}
    return Model(size, "initial", family.clock, family.mel, parts, TokenizerFile("small"))


@pytest.mark.parametrize("size", sorted(SIZES))
def test_every_size_can_be_built_and_fits_together(size: str) -> None:
    model = outline(size)
    assert set(model.parts) == {"speech_tokenizer", "speaker_encoder", "lm", "flow", "vocoder"}
    check_agreement(model)
    strides = model.part("speech_tokenizer").config.strides
    assert model.clock.token_rate * strides[0] * strides[1] == 100


def test_the_large_size_is_the_released_one() -> None:
    counts = outline("300m").parameters()
    assert (counts["lm"], counts["flow"], counts["vocoder"]) == (310_718_465, 104_874_752, 20_460_591)


def test_the_small_size_is_small() -> None:
    assert sum(outline("nano").parameters().values()) < 12_000_000


def test_unknown_size() -> None:
    with pytest.raises(InputError, match="no size '7b'; sizes are nano, 300m"):
        family_size("7b")
