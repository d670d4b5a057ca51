"""The base of every network's configuration."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = ["PartConfig"]


class PartConfig(BaseModel):
    """Sizes of one network as data: frozen, no unknown keys, written to and read from JSON by pydantic.

    Wrong values raise `pydantic.ValidationError`, which names the field, the value given and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, under the name by which peft asks a network's `config` for them."""
        return self.model_dump(mode="json")
