"""What the models say, option by option: spellings, bounds, defaults, descriptions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from asyncstore.settings.models import Settings

__all__ = ["ENVIRONMENT_PREFIX", "Option", "list_options"]

ENVIRONMENT_PREFIX = "ASYNCSTORE__"


@dataclass(frozen=True, slots=True)
class Option:
    """Describe one option; `str()` of it is its spelling in the file, `[section] name`."""

    section: str
    """The dotted name of its section."""
    name: str
    kind: str
    """The JSON type: `string`, `number`, `integer` or `boolean`."""
    allowed: str
    """The values it takes, in words that follow "allowed is"."""
    default: object
    description: str
    """Unit and effect."""

    def __str__(self) -> str:
        return f"[{self.section}] {self.name}"

    @property
    def argument(self) -> str:
        """Return the key of the option among the arguments."""
        return f"{self.section}.{self.name}"

    @property
    def environment_variable(self) -> str:
        """Return the environment variable that sets the option."""
        return f"{ENVIRONMENT_PREFIX}{self.section.replace('.', '_')}__{self.name}".upper()


def list_options(model: type[BaseModel] = Settings, section: str = "") -> tuple[Option, ...]:
    """List the options of a settings model in the order of its fields.

    :param model: a model whose fields are sections, that is models, at any depth.
    :param section: the dotted name of the section that `model` itself is.
    :return: one description per option.
    """
    found: list[Option] = []
    properties = model.model_json_schema().get("properties", {})
    for name, field in model.model_fields.items():
        if inspect.isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            found += list_options(field.annotation, f"{section}.{name}" if section else name)
            continue
        schema: dict[str, Any] = properties[name]
        branches: list[dict[str, Any]] = schema.get("anyOf", [schema])
        kind = next(branch for branch in branches if branch.get("type") != "null")
        allowed: str = schema.get("allowed") or _describe(kind)
        default: object = field.get_default(call_default_factory=True)
        found.append(Option(section, name, kind["type"], allowed, default, field.description or ""))
    return tuple(found)


def _describe(schema: Mapping[str, Any]) -> str:
    """Put what a JSON schema allows into words."""
    if choices := schema.get("enum"):
        return " or ".join(repr(choice) for choice in choices)
    kinds = {
        "boolean": "true or false",
        "integer": "a whole number",
        "number": "a finite number",
        "string": "a text",
    }
    text = kinds[schema["type"]]
    names = {"minimum": "of at least", "exclusiveMinimum": "greater than", "maximum": "of at most"}
    limits = {name: f"{schema[name]}".removesuffix(".0") for name in names if name in schema}
    if "minimum" in limits and "maximum" in limits:
        return f"{text} from {limits['minimum']} to {limits['maximum']}"
    return " ".join([text, *(f"{names[name]} {limit}" for name, limit in limits.items())])
