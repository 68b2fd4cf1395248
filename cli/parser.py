"""The command line, declared with typer, and what is our own on top of it.

- A usage error is our `UsageError`, with the option that was probably meant.
- Text becomes a value by the `parser` of its option, and by nothing else. The library would have pydantic do it, whose
  import takes longer than all the rest of a short command.
- An option may end the options: what comes after `orch run -m PKG.MOD` belongs to the workflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, ClassVar, NoReturn, TypeVar, get_type_hints

import typer
import typer.core
import typer.main
import typer.models

from orch.cli.usage import UsageError, did_you_mean
from orch.config import find_store

HELP = ("-h", "--help")
LEVELS = ("debug", "info", "warning", "error")

F = TypeVar("F", bound=Callable[..., int])


class Command(typer.core.TyperCommand):
    """A command whose usage line is its `options_metavar`, and whose values are converted by their parsers only."""

    ends_with: ClassVar[str] = ""
    """A one-letter option that, with its value, ends the options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options into the context. Raises `UsageError`."""
        if ctx.resilient_parsing:  # a shell asks how to complete them
            return super().parse_args(ctx, args)
        given, rest, _ = self.make_parser(ctx).parse_args(args=self.closed(self.without_further(ctx, args)))
        for param in sorted(self.get_params(ctx), key=lambda param: not param.is_eager):
            if getattr(param, "is_flag", False) and param.name in given:
                param.handle_parse_result(ctx, given, rest)
            elif param.expose_value:
                ctx.params[param.name] = self._value(ctx, param, given)
        if rest:
            self.refuse(ctx, f"{rest[0]!r} is one argument too many")
        ctx.args = rest
        return rest

    def without_further(self, ctx: Any, args: Sequence[str]) -> Sequence[str]:
        """The arguments without options that are not declared, and which it takes all the same: there are none."""
        return args

    def _value(self, ctx: Any, param: Any, given: Mapping[str, Any]) -> Any:
        value, _ = param.consume_value(ctx, given)
        if "--store" in param.opts and param.name not in given:
            return find_store()
        if param.required and not value:
            self.refuse(ctx, f"{param.metavar} is required")
        convert = self._parsers.get(param.name)
        if convert is None or value is param.default:
            return value
        try:
            return [convert(each) for each in value] if isinstance(value, list | tuple) else convert(value)
        except ValueError as error:
            self.refuse(ctx, f"{'/'.join(param.opts)}: {error}")

    @cached_property
    def _parsers(self) -> dict[str, Callable[[str], Any]]:
        found = {}
        for name, hint in get_type_hints(self.callback, include_extras=True).items():
            for extra in getattr(hint, "__metadata__", ()):
                if isinstance(extra, typer.models.ParameterInfo) and extra.parser is not None:
                    found[name] = extra.parser
        return found

    def refuse(self, ctx: Any, message: str) -> NoReturn:
        """Raise a `UsageError` in the name of this command."""
        raise UsageError(f"{ctx.command_path}: {message}; see: {ctx.command_path} --help")

    def knows(self, token: str) -> bool:
        """Is `token` one of the options (perhaps with "=value")?"""
        return token.partition("=")[0] in self.flags

    @property
    def flags(self) -> list[str]:
        """All options as they are written."""
        names = (name for param in self.params for name in (*param.opts, *param.secondary_opts))
        return [*HELP, *(name for name in names if name.startswith("-"))]

    # The option that ends them ------------------------------------------------------------------------------------

    def closed(self, args: Sequence[str]) -> list[str]:
        """The arguments with a "--" behind the option that ends the options, if that is among them."""
        position = 0
        while position < len(args):
            token = args[position]
            if not token.startswith("-") or token in ("-", "--"):
                break
            name, apart = self.takes(token)
            position += 2 if name and apart else 1
            if name and name == self.ends_with:
                return [*args[:position], *(["--", *args[position:]] if args[position:] else [])]
        return list(args)

    def further_flags(self) -> list[str]:
        """How the options are written that `without_further` takes out."""
        return []

    def takes(self, token: str) -> tuple[str, bool]:
        """The option in `token` that takes a value, if one does, and whether its value is the next token."""
        names = [token] if token.startswith("--") else [f"-{letter}" for letter in token[1:]]
        for place, name in enumerate(names, start=2):
            if name.partition("=")[0] in self._valued:
                return name, "=" not in name if token.startswith("--") else place > len(names)
        return "", False

    @cached_property
    def _valued(self) -> set[str]:
        return {name for param in self.params if not getattr(param, "is_flag", True) for name in param.opts}

    # Help ---------------------------------------------------------------------------------------------------------

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Options below the headings that they are declared with; those without one come first."""
        panels: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                panels.setdefault(getattr(param, "rich_help_panel", None) or "Options", []).append(record)
        for name, records in panels.items():
            with formatter.section(name):
                formatter.write_dl(records)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """As it is declared: the library would make one out of the parameters."""
        formatter.write_usage(ctx.command_path, self.options_metavar or "", prefix="usage: ")


# Declaring and calling -------------------------------------------------------------------------------------------


def application() -> typer.Typer:
    """Holds the commands of one module."""
    return typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def command(
    app: typer.Typer, name: str, usage: str, *, epilog: str = "", cls: type[Command] = Command, **settings: Any
) -> Callable[[F], F]:
    """Declare a function as the command `name`; its docstring is the help. `settings`: of the library's context."""
    settings = {"help_option_names": [*reversed(HELP)], "max_content_width": 110, **settings}
    return app.command(name, cls=cls, options_metavar=usage, epilog=epilog or None, context_settings=settings)


def call(app: typer.Typer, name: str, arguments: Sequence[str]) -> int:
    """Call the command `name` of `app`. Raises `UsageError`, and `SystemExit` once its help is printed.

    The two halves of the library's own `main` are called one by one: that would turn errors of pipes and Ctrl-C into
    exit codes of its own.
    """
    prog = f"orch {name}"
    chosen = typer.main.get_group(app).commands[name]
    assert isinstance(chosen, Command)
    try:
        context = chosen.make_context(prog, list(arguments))
    except typer.Exit as done:
        raise SystemExit(done.exit_code) from None
    except typer.TyperException as error:
        raise UsageError(_message(prog, chosen, error)) from None
    with context:
        code: int = chosen.invoke(context)
    return code


def _message(prog: str, chosen: Command, error: typer.TyperException) -> str:
    """What the library complains of, in our words."""
    name = getattr(error, "option_name", "")
    if name and not chosen.knows(name):
        near = did_you_mean(name, [*chosen.flags, *chosen.further_flags()])
        return f"{prog} has no option {name}{near}; see: {prog} --help"
    text = error.format_message().rstrip(".")
    return f"{prog}: {text[:1].lower()}{text[1:]}; see: {prog} --help"


# Values ----------------------------------------------------------------------------------------------------------


def natural(text: str) -> int:
    """A whole number from 1 on, for `parser=`."""
    return int(_number(text, int, lambda number: number >= 1, "a whole number from 1 on"))


def count(text: str) -> int:
    """A whole number from 0 on, for `parser=`."""
    return int(_number(text, int, lambda number: number >= 0, "a whole number from 0 on"))


def positive(text: str) -> float:
    """A number above 0, for `parser=`."""
    return _number(text, float, lambda number: 0 < number < float("inf"), "a number above 0")


def _number(text: str, kind: Callable[[str], float], fine: Callable[[float], bool], accepted: str) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = -1
    if not fine(number):
        raise ValueError(f"{text!r} is not {accepted}")
    return number


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """One of these words, for `parser=`."""

    def choice(text: str) -> str:
        if text not in names:
            raise ValueError(f"invalid choice: {text!r} (choose from {', '.join(names)})")
        return text

    return choice


def words(names: Sequence[str]) -> dict[str, Any]:
    """Keywords for `typer.Option`: only these words, offered when a shell completes."""
    return {"parser": one_of(names), "autocompletion": lambda: list(names)}


# What every command takes ----------------------------------------------------------------------------------------

STORE = ".orch"

Store = Annotated[
    str,
    typer.Option(
        "--store",
        metavar="LOCATOR",
        show_default=False,
        help="the store: a directory, or file:PATH (default: $ORCH_STORE, else that of a settings file, else ./.orch)",
    ),
]
LogLevel = Annotated[
    str,
    typer.Option(
        "--log-level",
        metavar="LEVEL",
        show_default=False,
        help="how much to say on stderr: debug, info, warning (default), error",
        **words(LEVELS),
    ),
]
RunId = Annotated[str | None, typer.Argument(metavar="RUN", hidden=True)]
AsJson = Annotated[bool, typer.Option("--json", help="one JSON object, see docs/commands.md")]
