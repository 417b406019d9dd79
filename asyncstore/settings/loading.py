"""Reading settings from the file, the environment and the arguments, and naming all that is wrong."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import BaseModel, ValidationError

from asyncstore.errors import ConfigurationError
from asyncstore.settings.models import Settings
from asyncstore.settings.options import ENVIRONMENT_PREFIX, Option, list_options
from asyncstore.settings.showing import mask_password, printable, show, show_unknown

__all__ = ["TracedOption", "load_model", "load_settings", "trace_settings"]

_DEFAULT_FILE = "asyncstore.toml"
_CONFIG_VARIABLE = "ASYNCSTORE_CONFIG"

ModelT = TypeVar("ModelT", bound=BaseModel)


def load_settings(
    *,
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Read the settings of asyncstore from its file, the environment and the arguments.

    :param path: the TOML file. Left out, it is the one that `ASYNCSTORE_CONFIG` names, else `asyncstore.toml`
        of the working directory; only the last one may be missing.
    :param environ: the environment; left out, that of the process.
    :param overrides: values by `"section.option"`, already of the option's type; they win over all others.
    :return: the settings, valid as a whole.
    :raises ConfigurationError: for a file that cannot be read, an unknown section or option, or a value that
        is not allowed. One line for each problem. A value that another source overrides is not judged.
    """
    return load_model(Settings, path=path, environ=environ, overrides=overrides)


def load_model(
    model: type[ModelT],
    *,
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> ModelT:
    """Read the settings that a model of sections describes, as `load_settings` does.

    :param model: the model; its fields are sections.
    :param path: see `load_settings`.
    :param environ: see `load_settings`.
    :param overrides: see `load_settings`.
    :return: an instance of `model`.
    :raises ConfigurationError: see `load_settings`.
    """
    return _read(model, path, environ, overrides)[0]


def _read(
    model: type[ModelT],
    path: Path | None,
    environ: Mapping[str, str] | None,
    overrides: Mapping[str, object] | None,
) -> tuple[ModelT, _Reader]:
    environ = os.environ if environ is None else environ
    reader = _Reader(list_options(model))
    reader.read_file(path, environ)
    reader.read_environment(environ)
    reader.read_arguments(overrides or {})
    settings = reader.validate(model)
    if settings is None or reader.problems:
        raise ConfigurationError("\n".join(reader.problems))
    return settings, reader


@dataclass(frozen=True, slots=True)
class TracedOption:
    """Tell the value of an option and where it came from.

    :ivar option: the option.
    :ivar value: its value, passwords masked.
    :ivar source: "default", "file", "environment" or "argument".
    :ivar origin: the path of the file, or the name of the environment variable; None for the others.
    """

    option: Option
    value: object
    source: str
    origin: str | None


def trace_settings(
    *,
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> tuple[TracedOption, ...]:
    """Read the settings as `load_settings` does, and tell of each option where its value came from.

    :param path: see `load_settings`, and so for the rest.
    :raises ConfigurationError: see `load_settings`.
    """
    settings, reader = _read(Settings, path, environ, overrides)
    return tuple(reader.trace(option, settings) for option in list_options())


@dataclass(frozen=True, slots=True)
class _Given:
    value: object
    shown: str
    origin: str


class _Reader:
    """Gather what the sources give, each overriding the one before, and every problem on the way."""

    def __init__(self, options: tuple[Option, ...]) -> None:
        self.problems: list[str] = []
        self._options = options
        self._given: dict[Option, _Given] = {}
        self._by_name = {(option.section, option.name): option for option in options}
        self._by_variable = {option.environment_variable: option for option in options}
        self._file_failed = False
        if len(self._by_variable) < len(options):
            raise TypeError("two options have the same environment variable")

    def read_file(self, path: Path | None, environ: Mapping[str, str]) -> None:
        named = environ.get(_CONFIG_VARIABLE) if path is None else None
        if named is not None and (not named or "://" in named):
            origin = f"environment variable {_CONFIG_VARIABLE} = {show(named)}"
            self._fail(origin, "allowed is the path of a TOML file")
            return
        where = Path(named or _DEFAULT_FILE) if path is None else path
        origin = f"file {printable(mask_password(str(_absolute(where))))}"
        if named:
            origin += f", named by {_CONFIG_VARIABLE}"
        try:
            content = where.read_bytes()
        except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
            if path is not None or named or not isinstance(error, FileNotFoundError):
                self._fail(origin, f"cannot be read: {getattr(error, 'strerror', None) or error}")
        else:
            self._read_toml(content, origin)

    def _read_toml(self, content: bytes, origin: str) -> None:
        try:
            table = tomllib.loads(content.decode("utf-8-sig"))
        # Besides its own error: text that is not UTF-8, integers of thousands of digits, deep nesting.
        except (ValueError, RecursionError) as error:
            self._fail(origin, f"is not valid TOML: {error}")
        else:
            self._read_table("", table, origin)

    def _fail(self, origin: str, message: str) -> None:
        self._file_failed = True
        self.problems.append(f"{origin}: {printable(message)}")

    def _read_table(self, section: str, table: Mapping[str, object], origin: str) -> None:
        for name, value in table.items():
            inner = f"{section}.{name}" if section else name
            if option := self._by_name.get((section, name)):
                shown = str(value).lower() if isinstance(value, bool) else show(value)
                self._given[option] = _Given(value, shown, origin)
            elif not any(f"{option.section}.".startswith(f"{inner}.") for option in self._options):
                self._refuse_name(section, name, value, origin)
            elif isinstance(value, dict):
                self._read_table(inner, cast("dict[str, object]", value), origin)
            else:
                self.problems.append(f"[{inner}] = {show(value)} ({origin}): allowed is a table of options")

    def _refuse_name(self, section: str, name: str, value: object, origin: str) -> None:
        label = f"[{section}] {name}" if section else name
        label = f"{label} = {show_unknown(name, value)}"
        if isinstance(value, dict) and not self._options_in(section):
            inner = f"{section}.{name}" if section else name
            label, hint = f"[{inner}]", self._hint(inner, None, str)
        else:
            hint = self._hint(section, name, str)
        self.problems.append(f"{printable(label)} ({origin}): {hint}")

    def read_environment(self, environ: Mapping[str, str]) -> None:
        for variable in sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIX)):
            text, origin = environ[variable], f"environment variable {printable(variable)}"
            if option := self._by_variable.get(variable):
                self._given[option] = _Given(_parse(text, option.kind), show(text), origin)
                continue
            section, _, name = variable.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
            dotted = (o.section for o in self._options if o.section.replace(".", "_") == section)
            hint = self._hint(next(dotted, section), name, lambda option: option.environment_variable)
            self.problems.append(f"{origin} = {show_unknown(variable, text)}: {hint}")

    def read_arguments(self, overrides: Mapping[str, object]) -> None:
        for key, value in overrides.items():
            section, _, name = key.rpartition(".")
            if option := self._by_name.get((section, name)):
                self._given[option] = _Given(value, show(value), "argument")
                continue
            hint = self._hint(section, name, lambda option: option.argument)
            self.problems.append(f"argument {printable(key)} = {show_unknown(key, value)}: {hint}")

    def validate(self, model: type[ModelT]) -> ModelT | None:
        values: dict[str, Any] = {}
        for option, given in self._given.items():
            table = values
            for part in option.section.split("."):
                table = table.setdefault(part, {})
            table[option.name] = given.value
        try:
            return model.model_validate(values)
        except ValidationError as failure:
            for error in failure.errors(include_url=False, include_input=False):
                self._explain(error["loc"], error["msg"], error.get("ctx", {}))
        return None

    def _explain(self, location: tuple[int | str, ...], message: str, context: Mapping[str, Any]) -> None:
        parts = [str(part) for part in location]
        option = next((o for o in self._options if [*o.section.split("."), o.name] == parts), None)
        if option is None:
            self.problems.append(f"[{'.'.join(parts)}]: {message}")
            return
        allowed = option.allowed
        if "other" in context:
            if self._file_failed:  # what the file says of the other option is not known
                return
            other = self._by_name[option.section, context["other"]]
            relation = context.get("relation", "at least")
            allowed = "{} {}, which is {} ({})".format(relation, other, *self._trace(other))
        self.problems.append("{} = {} ({}): allowed is {}".format(option, *self._trace(option), allowed))

    def _trace(self, option: Option) -> tuple[str, str]:
        """Give the value of an option as shown, and where it came from."""
        given = self._given.get(option)
        return (given.shown, given.origin) if given else (show(option.default), "default")

    def trace(self, option: Option, settings: BaseModel) -> TracedOption:
        """Give the value of an option in valid settings, and where it came from."""
        value: object = settings
        for name in (*option.section.split("."), option.name):
            value = getattr(value, name)
        if isinstance(value, str):
            value = mask_password(value)
        given = self._given.get(option)
        kind, _, origin = ("default" if given is None else given.origin).partition(" ")
        if kind == "environment":
            origin = origin.removeprefix("variable ")
        return TracedOption(option, value, kind, origin or None)

    def _options_in(self, section: str) -> dict[str, Option]:
        return {option.name: option for option in self._options if option.section == section}

    def _hint(self, section: str, name: str | None, spell: Callable[[Option], str]) -> str:
        """Say that a name (none: a section) is unknown, what was probably meant, and what is allowed."""
        sections = list(dict.fromkeys(option.section for option in self._options))
        here = self._options_in(section)
        meant = ""
        if name is None:
            if close := difflib.get_close_matches(section.lower(), sections, 1):
                meant = f" (did you mean [{close[0]}]?)"
        elif option := self._guess(section, name):
            meant = f" (did you mean {spell(option)}?)"
        what = "option" if name is not None and section in ("", *sections) else "section"
        if here:
            return f"unknown {what}{meant}; allowed in [{section}]: {', '.join(here)}"
        return f"unknown {what}{meant}; the sections are {', '.join(f'[{known}]' for known in sections)}"

    def _guess(self, section: str, name: str) -> Option | None:
        here = self._options_in(section)
        if close := difflib.get_close_matches(name.lower(), here, 1):
            return here[close[0]]
        if same := {option.section: option for option in self._options if option.name == name.lower()}:
            return same[difflib.get_close_matches(section, same, 1, cutoff=0)[0]]
        flat = {re.sub(r"\W", "_", option.argument): option for option in self._options}
        close = difflib.get_close_matches(re.sub(r"\W|__+", "_", f"{section}.{name}".lower()), flat, 1, 0.8)
        return flat[close[0]] if close else None


def _parse(text: str, kind: str) -> object:
    """Give the value that an environment variable stands for; the text itself if it stands for none."""
    if kind == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
    # Python would take Unicode digits, underscores and spaces too, and refuses thousands of digits.
    if kind in ("integer", "number") and re.fullmatch(r"[+-]?[0-9]{1,400}", text):
        return int(text)
    if kind == "number" and re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
        return float(text)
    return text


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError:  # the working directory was deleted
        return path
