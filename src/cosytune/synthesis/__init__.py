"""From a request to a wave."""

from cosytune.synthesis.requests import Request, Speech
from cosytune.synthesis.synthesiser import Synthesiser

__all__ = ["Request", "Speech", "Synthesiser"]
