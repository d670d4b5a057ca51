"""The one place that wires rooms together: corpus, training, synthesis, judges and verdict."""

from cosytune.comparison.compose.comparing import compare, corpus_of, evaluate

__all__ = ["compare", "corpus_of", "evaluate"]
