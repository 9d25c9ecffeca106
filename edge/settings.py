"""Loads a config: file, environment and systemd credentials into one frozen tree, or all that is wrong.

What comes later in this list wins: defaults, the TOML file, `$CREDENTIALS_DIRECTORY` (its file
`uplink_password` sets uplink.password), the environment (`TIDEWATT_UPLINK__PASSWORD`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError, create_model
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from edge.mistakes import (
    TABLE_KEYS,
    ConfigInvalid,
    Mistake,
    masked,
    meant_drivers,
    meant_options,
    secrets_in,
    slips,
    value_mistakes,
)
from edge.options import DISCRIMINATOR, field_types, is_model, nearest, value_at
from edge.tomllines import KeyPath, find_lines
from edge.tomlsyntax import read_toml

ENV_PREFIX: Final = "TIDEWATT_"
ENV_NESTING: Final = "__"
CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
CONFIG_BYTES_MAX: Final = 1_000_000
CREDENTIAL_BYTES_MAX: Final = 100_000
OTHERS_READ: Final = 0o004

Origins = dict[str, str]
"""Dotted key -> "FILE:LINE", "environment NAME", "credential NAME" or "default"."""

ModelT = TypeVar("ModelT", bound=BaseModel)


class CrossChecked(BaseModel):
    """A config tree that also judges what no single field can: doubled names, references."""

    @classmethod
    def cross_check(cls, values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:  # noqa: ARG003
        """What is wrong between the raw values, as (path, text); they may be of any type yet."""
        return iter(())

    @classmethod
    def advise(cls, values: Mapping[str, Any]) -> Iterator[tuple[KeyPath, str]]:  # noqa: ARG003
        """What works and could do harm all the same, as (path, text), in values that have passed every check."""
        return iter(())


def load(path: Path, model: type[ModelT]) -> tuple[ModelT, Origins]:
    """The config and where each value comes from.  Raises ConfigInvalid with every mistake at once."""
    config, locate, _ = _read(path, model)
    return config, _origins(config, locate)


def warnings(path: Path, model: type[ModelT]) -> list[Mistake]:
    """What a valid config advises against, in the file's order.  Raises ConfigInvalid for one that is not."""
    config, locate, values = _read(path, model)
    advised = [*model.advise(values)] if issubclass(model, CrossChecked) else []
    advised += _open_secrets(path, config, locate)
    secrets = secrets_in(model, values)
    return sorted(locate.mistake(at, masked(said, secrets)) for at, said in advised)


def _open_secrets(path: Path, config: BaseModel, locate: _Locator) -> Iterator[tuple[KeyPath, str]]:
    """Secrets that stand in a file which everybody may read."""
    try:
        if not path.stat().st_mode & OTHERS_READ:
            return
    except OSError:
        return  # gone meanwhile
    for at, value in effective(config):
        held = isinstance(value, SecretStr | SecretBytes) and value.get_secret_value()
        if held and locate.origin(at).startswith(f"{path}:"):
            yield at, f"every user of this machine can read it; sudo chmod o-r {path}"


def _read(path: Path, model: type[ModelT]) -> tuple[ModelT, _Locator, dict[str, Any]]:
    """The config, where its values stand, and the values as they were given."""
    where = str(path)
    text = _read_file(path)
    file_values, mistakes, judgeable = read_toml(text, where)
    if not judgeable:
        raise ConfigInvalid(mistakes)
    lines = find_lines(text) if not mistakes else {}
    overrides, sources, wrong = _overrides(model)
    values = _merged(file_values, overrides)
    locate = _Locator(where, lines or _lines_around(text, mistakes), sources, values)

    unread = {mistake.key for mistake in mistakes}
    config, errors = _validated(model, values)
    values, misspelt = meant_drivers(model, values, errors)
    if misspelt:
        config, errors = None, _validated(model, values)[1]
    crossed = dict(model.cross_check(values)) if issubclass(model, CrossChecked) else {}
    file_values |= {str(at[0]): values[str(at[0])] for at in misspelt if at[0] in file_values}
    found = misspelt | dict(slips(model, file_values)) | crossed
    secrets = secrets_in(model, values)
    for at, said in [*value_mistakes(model, values, errors), *_hidden(model, values, errors)]:
        if any(path[: len(at)] == at for path in crossed):
            continue  # said already, and at its own line
        # What stands in a line that was passed over for its syntax is not missing as well.
        missed = (*at, DISCRIMINATOR) if said.startswith("the driver is missing") else at
        if not ("is missing" in said and _plain(missed) in unread):
            found.setdefault(at, said)
    mistakes += [locate.mistake(at, masked(said, secrets)) for at, said in found.items()]
    mistakes += [Mistake(0, f"environment {name}", "", said) for name, said in wrong]
    if mistakes or config is None:
        raise ConfigInvalid(mistakes)
    return config, locate, values


def _hidden(
    model: type[BaseModel], values: Mapping[str, Any], errors: list[Any]
) -> Iterator[tuple[KeyPath, str]]:
    """What misspelt options hide, at keys that stand in the file."""
    if not errors:
        return
    meant = meant_options(model, values, errors)
    for at, said in value_mistakes(model, meant, _validated(model, meant)[1]):
        if len(at) > TABLE_KEYS and value_at(values, at) is not None:
            yield at, said


def digest_of(path: Path) -> str:
    """Tells one content of a config file from another; "" where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.sha256(file.read(CONFIG_BYTES_MAX + 1)).hexdigest()
    except OSError:
        return ""


def _read_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX + 1)
        if len(content) > CONFIG_BYTES_MAX:
            raise _unreadable(path, f"larger than {CONFIG_BYTES_MAX} bytes; that is no config file")
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise _unreadable(path, "no such file; name it with --config FILE or TIDEWATT_CONFIG") from None
    except IsADirectoryError:
        raise _unreadable(path, "is a directory; name the file in it") from None
    except PermissionError:
        raise _unreadable(path, "may not be read by this user; run it as root or as its owner") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        text = "not UTF-8; save the file as UTF-8 in the editor"
        raise ConfigInvalid([Mistake(line, f"{path}:{line}", "", text)]) from None
    except OSError as error:
        raise _unreadable(path, f"cannot be read ({error.strerror}); check the path and the disk") from error
    if "\0" in text:
        raise _unreadable(path, "no text in UTF-8 (it has NUL bytes); save the file as UTF-8 in the editor")
    return text


def _unreadable(path: Path, text: str) -> ConfigInvalid:
    return ConfigInvalid([Mistake(0, str(path), "", text)])


def _lines_around(text: str, mistakes: list[Mistake]) -> dict[KeyPath, int]:
    """Lines of the rest of a text whose wrong lines are named by `mistakes`."""
    lines = text.split("\n")
    for mistake in mistakes:
        lines[mistake.line - 1] = ""
    return find_lines("\n".join(lines))


def _plain(path: KeyPath) -> str:
    """The path as a heading and a key spell it, without places in lists."""
    return ".".join(part for part in path if isinstance(part, str))


def _validated(model: type[ModelT], values: Mapping[str, Any]) -> tuple[ModelT | None, list[Any]]:
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, list(error.errors(include_url=False))


# ---------------------------------------------------------------------- environment and credentials


class _Environment(EnvSettingsSource):
    """pydantic-settings reads the environment, without the variables named in `without`."""

    def __init__(self, model: type[BaseModel], without: Iterable[str]) -> None:
        tree = create_model("Tree", __base__=(model, _Deferred))
        super().__init__(cast("type[BaseSettings]", tree))
        dropped = {name.lower() for name in without}
        self.env_vars = {name: text for name, text in self.env_vars.items() if name.lower() not in dropped}


class _Deferred(BaseSettings):
    model_config = SettingsConfigDict(
        defer_build=True, env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_NESTING, case_sensitive=False
    )


def _overrides(
    model: type[BaseModel],
) -> tuple[dict[str, Any], dict[KeyPath, str], list[tuple[str, str]]]:
    """Values from outside the file, where each comes from, and variables that set nothing."""
    values, sources = _credentials(model)
    known = _option_paths(model)
    names = {path: name for path in known for name in os.environ if name.upper() == _variable(path)}
    no_json = [name for path, name in names.items() if len(path) == 1 and not _is_json(os.environ[name])]
    wrong = [(name, "must be JSON; write it so, or set the options in the file") for name in no_json]
    wrong += _unknown_variables(model, known)
    values = _merged(values, _Environment(model, [name for name, _ in wrong])())
    sources.update({path: f"environment {name}" for path, name in names.items()})
    return values, sources, wrong


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _variable(path: KeyPath) -> str:
    return ENV_PREFIX + ENV_NESTING.join(str(key) for key in path).upper()


def _option_paths(model: type[BaseModel]) -> list[KeyPath]:
    """Every section and every option in a section: what a variable or a credential may set."""
    paths: list[KeyPath] = []
    for section, field in model.model_fields.items():
        paths.append((section,))
        paths += [
            (section, name) for kind in field_types(field) if is_model(kind) for name in kind.model_fields
        ]
    return paths


def _unknown_variables(model: type[BaseModel], known: list[KeyPath]) -> Iterator[tuple[str, str]]:
    """Variables that look like options but are none: a password that silently is not used costs a day."""
    variables = {_variable(path) for path in known}
    unjudged = [name for name, field in model.model_fields.items() if Any in field_types(field)]
    others = tuple(_variable((name, "")) for name in unjudged)
    for name in sorted(os.environ):
        nested = name.upper().startswith(ENV_PREFIX) and ENV_NESTING in name
        if nested and name.upper() not in variables and not name.upper().startswith(others):
            near = nearest(name, [variable.lower() for variable in variables])
            guess = f"did you mean {near.upper()}?" if near else "remove it"
            yield name, f"sets no option; {guess}"


def _credentials(model: type[BaseModel]) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """What systemd's LoadCredential= hands over; files that name no option are someone else's."""
    directory = os.environ.get(CREDENTIALS)
    values: dict[str, Any] = {}
    sources: dict[KeyPath, str] = {}
    for path in _option_paths(model) if directory else ():
        name = "_".join(str(key) for key in path)
        file = Path(directory or "") / name
        if len(path) == 2 and file.is_file():
            text = _read_credential(file)
            values.setdefault(str(path[0]), {})[str(path[1])] = text
            sources[path] = f"credential {name}"
    return values, sources


def _read_credential(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return opened.read(CREDENTIAL_BYTES_MAX).decode("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        text = f"cannot be read ({error.__class__.__name__}); check the unit's LoadCredential= line"
        raise ConfigInvalid([Mistake(0, f"credential {file.name}", "", text)]) from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, table by table."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        both = isinstance(under, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(cast("Mapping[str, Any]", under), value) if both else value
    return merged


# ------------------------------------------------------------------------------------------ origins


class _Locator:
    """Where a path stands, and how it is written for people."""

    def __init__(
        self,
        where: str,
        lines: Mapping[KeyPath, int],
        sources: Mapping[KeyPath, str],
        values: Mapping[str, Any],
    ) -> None:
        self._where = where
        self._lines = lines
        self._sources = sources
        self._values = values

    def mistake(self, path: KeyPath, text: str) -> Mistake:
        """The mistake at the nearest place that exists: a missing key is shown at its table."""
        for length in range(len(path), -1, -1):
            near = path[:length]
            if near in self._sources:
                return Mistake(0, self._sources[near], self.key(path), text)
            if near in self._lines:
                return Mistake(self._lines[near], f"{self._where}:{self._lines[near]}", self.key(path), text)
        return Mistake(1, f"{self._where}:1", self.key(path), text)

    def origin(self, path: KeyPath) -> str:
        """Where a value comes from; what stands in a list comes with the list."""
        for length in range(len(path), 0, -1):
            near = path[:length]
            if near in self._sources:
                return self._sources[near] if value_at(self._values, path) is not None else "default"
            if near in self._lines:
                inside = length < len(path) and value_at(self._values, path) is None
                return "default" if inside else f"{self._where}:{self._lines[near]}"
        return "default"

    def key(self, path: KeyPath) -> str:
        """Dotted; an entry of a list by its name where it has one: devices.tank.interval_s."""
        return dotted(path, self._values)


def dotted(path: KeyPath, values: Mapping[str, Any]) -> str:
    """A path for people: devices.tank.interval_s, or devices[2] where the entry has no name of its own."""
    key = ""
    for index, part in enumerate(path):
        if isinstance(part, int):
            name = value_at(values, (*path[: index + 1], "name"))
            key += f".{name}" if isinstance(name, str) and name.isprintable() and name else f"[{part}]"
        else:
            key += f".{part}" if key else part
    return key


def effective(config: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """Every option of a loaded config with its value, sections taken apart, secrets as they are held."""
    if isinstance(config, BaseModel):
        for name in type(config).model_fields:
            yield from effective(getattr(config, name), (*path, name))
    elif isinstance(config, tuple | list) and config and all(isinstance(item, BaseModel) for item in config):
        for index, item in enumerate(config):
            yield from effective(item, (*path, index))
    elif (
        isinstance(config, Mapping)
        and config
        and all(isinstance(item, BaseModel) for item in config.values())
    ):
        for name, item in config.items():
            yield from effective(item, (*path, str(name)))
    else:
        yield path, config


def _origins(config: BaseModel, locate: _Locator) -> Origins:
    return {locate.key(path): locate.origin(path) for path, _ in effective(config)}


def keys_of(config: BaseModel) -> list[str]:
    """The dotted keys of a loaded config, in the order of `effective`; the keys of its origins."""
    values = config.model_dump()
    return [dotted(path, values) for path, _ in effective(config)]
