"""`cosyvoice.yaml` of a released folder read as data: numbers are taken, nothing is constructed, called or imported."""

from __future__ import annotations

import re
from typing import Any

import yaml

from cosytune.errors import ModelError

__all__ = ["read_hyper_parameters"]

_KNOWN_TAGS = ("!new:", "!name:", "!apply:", "!ref")
_REFERENCE = re.compile(r"<([A-Za-z0-9_]+)>")
_PRODUCT = re.compile(r"\s*(<[A-Za-z0-9_]+>|\d+(?:\.\d+)?)(?:\s*\*\s*(<[A-Za-z0-9_]+>|\d+(?:\.\d+)?))?\s*$")
_LARGEST_FILE = 1_000_000


class _Reference(str):
    """The text after `!ref`, not yet looked up."""


class _DataLoader(yaml.SafeLoader):
    """A safe loader that sees HyperPyYAML's tags as plain mappings and refuses anchors and other tags."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise ModelError(
                f"line {line} of the model's yaml uses an alias (*name); released files have none, so it is refused"
            )
        return super().compose_node(parent, index)


def _construct(loader: _DataLoader, suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)


def _construct_reference(loader: _DataLoader, node: yaml.Node) -> Any:
    if not isinstance(node, yaml.ScalarNode):
        raise ModelError(f"line {node.start_mark.line + 1} of the model's yaml: !ref must be followed by <name>")
    return _Reference(loader.construct_scalar(node))


def _refuse(loader: _DataLoader, node: yaml.Node) -> Any:
    raise ModelError(
        f"line {node.start_mark.line + 1} of the model's yaml has the tag {node.tag!r}; "
        f"only {', '.join(_KNOWN_TAGS)} are known, and none of them is executed"
    )


for _tag in ("!new:", "!name:", "!apply:"):
    _DataLoader.add_multi_constructor(_tag, _construct)
_DataLoader.add_constructor("!ref", _construct_reference)
_DataLoader.add_constructor(None, _refuse)


def read_hyper_parameters(text: str) -> dict[str, Any]:
    """The yaml's values as nested plain dictionaries, `!ref <name>` and `!ref <name> * 2` looked up.

    A reference to something that is not a number or a string (a list of processing steps, say) stays its text.

    Raises:
        ModelError: not YAML, an unknown tag (with its line), an alias, a reference to a name that is not there, or
            more than 1 MB.
    """
    if len(text) > _LARGEST_FILE:
        raise ModelError(
            f"the model's yaml has {len(text)} characters; released ones have about 8,000, so it is refused"
        )
    try:
        value = yaml.load(text, Loader=_DataLoader)
    except yaml.YAMLError as error:
        raise ModelError(f"the model's yaml cannot be read: {error}") from error
    except RecursionError as error:
        raise ModelError("the model's yaml is nested too deeply to be a model's configuration") from error
    if not isinstance(value, dict):
        raise ModelError("the model's yaml does not hold names and values at its top")
    return {key: _resolve(entry, value) for key, entry in value.items()}


def _resolve(value: Any, top: dict[str, Any]) -> Any:
    if isinstance(value, _Reference):
        return _look_up(value, top)
    if isinstance(value, dict):
        return {key: _resolve(entry, top) for key, entry in value.items()}
    if isinstance(value, list):
        return [_resolve(entry, top) for entry in value]
    return value


def _look_up(reference: _Reference, top: dict[str, Any]) -> Any:
    match = _PRODUCT.match(reference)
    if match is None:
        raise ModelError(
            f"the model's yaml has the reference {str(reference)!r}; only <name> and products of two are read"
        )
    factors = [_factor(text, top) for text in match.groups() if text is not None]
    if len(factors) == 1:
        return factors[0]
    if not all(isinstance(factor, (int, float)) for factor in factors):
        raise ModelError(f"the model's yaml multiplies {str(reference)!r}, which are not numbers")
    return factors[0] * factors[1]


def _factor(text: str, top: dict[str, Any]) -> Any:
    name = _REFERENCE.fullmatch(text)
    if name is None:
        return float(text) if "." in text else int(text)
    if name[1] not in top:
        raise ModelError(f"the model's yaml refers to <{name[1]}>, which it does not define")
    value = top[name[1]]
    # References to references or to components are processing steps and factories, which nothing here needs.
    return value if isinstance(value, (int, float, str, list)) and not isinstance(value, _Reference) else str(text)
