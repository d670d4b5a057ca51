"""`cosyvoice.yaml` of a released folder read as data: numbers are taken, nothing is constructed, called or imported."""

from __future__ import annotations

import re
from typing import Any

import yaml

from cosytune.errors import ModelError

__all__ = ["LARGEST_FILE", "read_hyper_parameters"]

_KNOWN_TAGS = ("!new:", "!name:", "!apply:", "!ref")
_OPERAND = r"(<[A-Za-z0-9_]+>|\d+(?:\.\d+)?)"
_REFERENCE = re.compile(rf"\s*{_OPERAND}(?:\s*\*\s*{_OPERAND})?\s*")
_EXPONENT = re.compile(r"[-+]?\d+(?:\.\d*)?[eE][-+]?\d+")
LARGEST_FILE = 100_000
"""Characters, and bytes of the file: PyYAML reads about 50,000 a second, and released files have 8,000."""

_LARGEST_NUMBER = 1e15
_MALFORMED = (yaml.YAMLError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What PyYAML raises on text that is no YAML and on scalars that are not what their tag says."""


class _Reference(str):
    """The text after `!ref`, not yet looked up."""


class _RefusedError(Exception):
    """Something in the text that is not read, in words; `read_hyper_parameters` adds which file it is."""


class _DataLoader(yaml.SafeLoader):
    """A safe loader that sees HyperPyYAML's tags as plain values and refuses aliases and other tags."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise _RefusedError(f"line {line} uses an alias (*name); released files have none, so it is refused")
        return super().compose_node(parent, index)


def _construct(loader: _DataLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.ScalarNode)
    return loader.construct_scalar(node)


def _construct_reference(loader: _DataLoader, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise _RefusedError(f"line {node.start_mark.line + 1}: !ref must be followed by <name>")
    return _Reference(loader.construct_scalar(node))


def _refuse(loader: _DataLoader, node: yaml.Node) -> Any:
    raise _RefusedError(
        f"line {node.start_mark.line + 1} has the tag {node.tag!r}; "
        f"only {', '.join(_KNOWN_TAGS)} are known, and none of them is executed"
    )


for _tag in ("!new:", "!name:", "!apply:"):
    _DataLoader.add_multi_constructor(_tag, _construct)
_DataLoader.add_constructor("!ref", _construct_reference)
_DataLoader.add_constructor(None, _refuse)
# YAML 1.2 and the released files write 1e-06; PyYAML knows YAML 1.1, where that is a word.
_DataLoader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(rf"{_EXPONENT.pattern}$"), list("-+0123456789"))


def read_hyper_parameters(text: str, source: str = "the model's yaml") -> dict[str, Any]:
    """The yaml's values as nested plain dictionaries, `!ref <name>` and `!ref <name> * 2` looked up.

    A reference to something that is not a number or a string (a component, a list of processing steps) stays its text.

    Args:
        text: of the file.
        source: its name, for messages.

    Raises:
        ModelError: not YAML, an unknown tag (with its line), an alias, a reference to a name that is not there or to
            itself, or more than a hundred thousand characters.
    """
    if len(text) > LARGEST_FILE:
        raise ModelError(f"{source} has {len(text):,} characters; released ones have about 8,000, so it is refused")
    try:
        value = yaml.load(text, Loader=_DataLoader)
        if not isinstance(value, dict):
            raise _RefusedError("it does not hold names and values at its top")
        references = _References(value)
        return {key: references.resolve(entry) for key, entry in value.items()}
    except _RefusedError as error:
        raise ModelError(f"{source}: {error}; get the released file again") from error
    except RecursionError as error:
        raise ModelError(f"{source} is nested too deeply to be a model's configuration") from error
    except _MALFORMED as error:
        raise ModelError(f"{source} cannot be read as YAML: {error}") from error


class _References:
    """Looks references up, each name once, so that no chain of them can take long."""

    def __init__(self, top: dict[Any, Any]) -> None:
        self._top = top
        self._done: dict[str, Any] = {}
        self._open: list[str] = []

    def resolve(self, value: Any) -> Any:
        """`value` with all references in it looked up."""
        if isinstance(value, _Reference):
            return self._look_up(value)
        if isinstance(value, dict):
            return {key: self.resolve(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self.resolve(entry) for entry in value]
        return value

    def _look_up(self, reference: _Reference) -> Any:
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise _RefusedError(f"it has the reference {str(reference)!r}; only <name> and products of two are read")
        factors = [self._operand(text) for text in match.groups() if text is not None]
        if len(factors) == 1:
            return factors[0]
        if not all(isinstance(factor, (int, float)) for factor in factors):
            raise _RefusedError(f"it multiplies {str(reference)!r}, which are not numbers")
        product = factors[0] * factors[1]
        if not abs(product) < _LARGEST_NUMBER:
            raise _RefusedError(f"{str(reference)!r} is too large a number to be a size")
        return product

    def _operand(self, text: str) -> Any:
        if not text.startswith("<"):
            return float(text) if "." in text else int(text)
        name = text[1:-1]
        if name not in self._top:
            raise _RefusedError(f"it refers to {text}, which it does not define")
        if name in self._open:
            raise _RefusedError(f"it refers to {text} while defining it")
        if name not in self._done:
            self._open.append(name)
            value = self._top[name]
            value = self._look_up(value) if isinstance(value, _Reference) else value
            # Components, factories and lists of steps are what nothing here needs.
            self._done[name] = value if isinstance(value, (int, float, str)) else text
            self._open.pop()
        return self._done[name]
