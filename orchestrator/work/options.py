"""The workflow's own options: from its signature to a description, and from command-line tokens to arguments."""

from __future__ import annotations

import enum
import inspect
import pathlib
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from orch.errors import UserError, WorkflowError
from orch.files import FileRef


class Parameter(msgspec.Struct, frozen=True, omit_defaults=True):
    """One parameter of a workflow function.

    `option`   "--name-with-dash"; a `flag` also has "--no-…"
    `type`     for people: "int", "path", "fast|slow"
    `default`  its repr; empty if `required`
    `many`     given several times, it makes a list
    `choices`  the values that it can have, if they are few
    `barred`   no text can become a value of its type: the command line cannot give it
    """

    name: str
    option: str
    type: str
    default: str = ""
    required: bool = False
    flag: bool = False
    many: bool = False
    choices: list[str] = []
    barred: bool = False


class Description(msgspec.Struct, frozen=True, omit_defaults=True):
    """A workflow function: its name, its docstring, its parameters."""

    function: str
    help: str = ""
    parameters: list[Parameter] = []


class _Kind(msgspec.Struct, frozen=True):
    """How a text becomes a value. `parse` raises ValueError."""

    text: str
    parse: Callable[[str], Any]
    flag: bool = False
    many: Callable[[list[Any]], Any] | None = None
    choices: tuple[str, ...] = ()


def describe(function: Callable[..., Any]) -> Description:
    """The workflow function's options, for `--help`. Raises `WorkflowError` for annotations that cannot be read."""
    kinds = _kinds(function)
    parameters = [
        Parameter(
            name=parameter.name,
            option=_option(parameter.name),
            type=kinds[parameter.name].text,
            default="" if parameter.default is parameter.empty else _shown(parameter.default),
            required=parameter.default is parameter.empty,
            flag=kinds[parameter.name].flag,
            many=kinds[parameter.name].many is not None,
            choices=list(kinds[parameter.name].choices),
            barred=kinds[parameter.name].parse is _refuse,
        )
        for parameter in _parameters(function)
    ]
    return Description(function.__name__, inspect.getdoc(function) or "", parameters)


def parse_argv(function: Callable[..., Any], argv: Sequence[str]) -> dict[str, Any]:
    """Keyword arguments from tokens like `--n 20 --name=x --no-fast`. Raises `WorkflowError`."""
    kinds = _kinds(function)
    given: dict[str, list[Any]] = {}
    tokens = list(reversed(argv))
    while tokens:
        name, value = _next_option(tokens, kinds)
        given.setdefault(name, []).append(value)
    arguments = {name: _last(kinds[name], values) for name, values in given.items()}
    for parameter in _parameters(function):
        if parameter.default is parameter.empty and parameter.name not in arguments:
            raise WorkflowError(_required(parameter.name, kinds[parameter.name]))
    return arguments


def _required(name: str, kind: _Kind) -> str:
    if kind.parse is not _refuse:
        return f"option {_option(name)} ({kind.text}) is required"
    return (
        f"parameter {name} is required, and a value of its type ({kind.text}) cannot be given on the command line: "
        f"start the run with orch.run(…, {name}=…), or give it a default"
    )


def _last(kind: _Kind, values: list[Any]) -> Any:
    return kind.many(values) if kind.many is not None else values[-1]


def _next_option(tokens: list[str], kinds: dict[str, _Kind]) -> tuple[str, Any]:
    token = tokens.pop()
    if not token.startswith("--") or token == "--":  # noqa: S105 - no secret
        raise WorkflowError(f"unexpected argument {token!r}: a workflow has options only; {_known(kinds)}")
    text, equals, value = token.partition("=")
    name = text[2:].replace("-", "_")
    if name in kinds and not kinds[name].flag:
        if not equals:
            if not tokens:
                raise WorkflowError(f"option {text} needs a value ({kinds[name].text})")
            value = tokens.pop()
        return name, _parsed(text, kinds[name], value)
    if name in kinds:
        return name, _parsed(text, kinds[name], value) if equals else True
    if name.startswith("no_") and name[3:] in kinds and kinds[name[3:]].flag and not equals:
        return name[3:], False
    raise WorkflowError(f"unknown option {text}{_close(text, kinds)}; {_known(kinds)}")


def _parsed(option: str, kind: _Kind, text: str) -> Any:
    try:
        return kind.parse(text)
    except UserError as error:
        raise WorkflowError(f"option {option}: {error}") from error
    except Exception as error:  # a user's type may raise anything
        raise WorkflowError(f"option {option}: {text!r} is not {_article(kind.text)}") from error


def _article(text: str) -> str:
    if "|" in text:
        return f"one of {text.replace('|', ', ')}"
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _close(text: str, kinds: dict[str, _Kind]) -> str:
    import difflib

    found = difflib.get_close_matches(text, [_option(name) for name in _givable(kinds)], n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _givable(kinds: dict[str, _Kind]) -> dict[str, _Kind]:
    return {name: kind for name, kind in kinds.items() if kind.parse is not _refuse}


def _known(kinds: dict[str, _Kind]) -> str:
    kinds = _givable(kinds)
    shown = [f"{_option(name)}" if kind.flag else f"{_option(name)} {kind.text}" for name, kind in kinds.items()]
    return f"its options: {', '.join(shown)}" if shown else "this workflow has no options"


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _shown(default: Any) -> str:
    if isinstance(default, enum.Enum):
        return default.name
    return str(default) if isinstance(default, pathlib.PurePath) else repr(default)


# Types ------------------------------------------------------------------------------------------------------------


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter]:
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = [one for one in inspect.signature(function).parameters.values() if one.kind not in variable]
    for one in found:
        if one.kind is inspect.Parameter.POSITIONAL_ONLY:
            raise WorkflowError(f"{function.__name__}: parameter {one.name!r} is positional-only: remove the '/'")
    return found


def _kinds(function: Callable[..., Any]) -> dict[str, _Kind]:
    try:
        hints = typing.get_type_hints(function)
    except Exception as error:  # annotations are user code
        raise WorkflowError(f"{function.__name__}: its annotations cannot be read: {error}") from error
    return {one.name: _kind_of(one, hints.get(one.name, one.empty)) for one in _parameters(function)}


def _kind_of(parameter: inspect.Parameter, annotation: Any) -> _Kind:
    if annotation in (parameter.empty, Any):
        default = parameter.default
        annotation = str if default is parameter.empty or default is None else type(default)
    return _kind(annotation)


def _kind(annotation: Any) -> _Kind:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is typing.Annotated:
        return _kind(args[0])
    if origin in (Union, types.UnionType):
        kinds = [_kind(arg) for arg in args if arg is not type(None)]
        return _any_of([kind for kind in kinds if kind.parse is not _refuse] or kinds[:1])
    if origin is Literal:
        return _one_of({str(arg): arg for arg in args})
    container = _CONTAINERS.get(origin or annotation)
    if container is not None:
        inner = _kind(args[0]) if args else _PLAIN[str]
        return _Kind(inner.text, inner.parse, many=container, choices=inner.choices)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _one_of(dict(annotation.__members__) | _by_value(annotation))
    if isinstance(annotation, type) and annotation in _PLAIN:
        return _PLAIN[annotation]
    return _Kind(getattr(annotation, "__name__", str(annotation)), _refuse)


def _any_of(kinds: list[_Kind]) -> _Kind:
    if len(kinds) == 1:
        return kinds[0]

    def parse(text: str) -> Any:
        for kind in sorted(kinds, key=lambda kind: kind is _PLAIN[str]):  # anything is a str: try that last
            try:
                return kind.parse(text)
            except ValueError:
                continue
        raise ValueError(text)

    return _Kind("|".join(kind.text for kind in kinds), parse)


def _one_of(values: dict[str, Any]) -> _Kind:
    def parse(text: str) -> Any:
        if text not in values:
            raise ValueError(text)
        return values[text]

    names: dict[int, str] = {}
    for name, value in values.items():
        names.setdefault(id(value), name)
    return _Kind("|".join(names.values()), parse, choices=tuple(names.values()))


def _by_value(kind: type[enum.Enum]) -> dict[str, Any]:
    return {str(member.value): member for member in kind if str(member.value) not in kind.__members__}


def _boolean(text: str) -> bool:
    try:
        return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _refuse(_text: str) -> Any:
    raise UserError("a value of this type cannot be given on the command line; start the run with orch.run instead")


def _file(text: str) -> FileRef:
    from orch.files import import_file

    return FileRef.parse(text) if text.startswith(FileRef.PREFIX) else import_file(text)


_PLAIN: dict[type, _Kind] = {
    str: _Kind("str", str),
    int: _Kind("int", int),
    float: _Kind("float", float),
    bool: _Kind("true|false", _boolean, flag=True),
    bytes: _Kind("str", str.encode),
    pathlib.Path: _Kind("path", pathlib.Path),
    pathlib.PurePath: _Kind("path", pathlib.PurePath),
    type(pathlib.Path()): _Kind("path", pathlib.Path),
    FileRef: _Kind("file", _file),
}

_CONTAINERS: dict[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    Sequence: list,
    Iterable: list,
}
