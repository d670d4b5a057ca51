"""The one place that wires rooms together: corpus, training, synthesis, judges and verdict."""

from cosytune.comparison.compose.comparing import compare
from cosytune.comparison.compose.evaluating import evaluate
from cosytune.comparison.compose.starts import corpus_of, initial_start, keep_apart

__all__ = ["compare", "corpus_of", "evaluate", "initial_start", "keep_apart"]
