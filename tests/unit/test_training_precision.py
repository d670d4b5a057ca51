from __future__ import annotations

import pytest
import torch

from cosytune.training.precision import fast_bfloat16


@pytest.mark.parametrize(
    ("known", "fast"),
    [({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_f": True, "avx512_bf16": False}, False)],
)
def test_a_processor_is_fast_if_it_multiplies_in_bfloat16(
    monkeypatch: pytest.MonkeyPatch, known: dict[str, bool], fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert fast_bfloat16() is fast
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fast_bfloat16() is False, "older torch does not tell"


@pytest.mark.parametrize("native", [True, False])
def test_a_gpu_is_asked_and_not_the_processor_beside_it(monkeypatch: pytest.MonkeyPatch, native: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": not native}, raising=False)
    assert fast_bfloat16() is native
