"""Command-line arguments -> the `Options` of a verb, with every usage error as one line.

tyro parses the arguments and prints `--help`. For an error it would print a box of several lines; the hook
`tyro._errors.on_parse_error` hands over the error as an object instead. The hook is private to tyro: requirements.lock
pins the version that the tests cover, and an error that `_message` does not know is printed in tyro's box.

This module imports tyro only when it parses, so that importing it takes no time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pipelines import log_lines

if TYPE_CHECKING:
    from tyro._errors import ParseErrorEvent

AcceptUnknown = Callable[[Any, list[str]], Any]


class UsageError(Exception):
    """The command line itself is wrong: exit code 2."""


def parse(
    verb: str,
    options_type: type,
    arguments: Sequence[str],
    shared_flags: Iterable[str],
    accept_unknown: AcceptUnknown | None = None,
) -> Any:
    """Return the verb's `Options`. `--help` prints a page and exits.

    Args:
        verb: name of the verb, for the usage line of `--help`.
        options_type: dataclass whose fields define the flags.
        shared_flags: flags of every verb: suggested for a misspelt flag, but not accepted here.
        accept_unknown: takes the options and the arguments that the verb does not define; returns new options, or
            raises ValueError. Without it, such arguments are errors.

    Raises:
        UsageError: an unknown flag, a missing argument or a wrong value.
    """
    import tyro
    from tyro._errors import on_parse_error

    own = arguments[: arguments.index("--")] if "--" in arguments else arguments

    def refuse_misspelt_flag() -> None:
        """A misspelt flag often leaves an argument missing as well; the flag is what the user has to correct."""
        known = _known_flags(options_type, shared_flags)
        for argument in own:
            flag = argument.partition("=")[0]
            if flag.startswith("--") and len(flag) > 2 and flag.replace("_", "-") not in known:
                raise UsageError(_unknown_flag(flag, known))

    def fail(event: ParseErrorEvent) -> None:
        refuse_misspelt_flag()
        if message := _message(event):
            raise UsageError(message)

    try:
        with on_parse_error(fail):
            parsed: tuple[Any, list[str]] = tyro.cli(
                options_type, prog=f"sfumato {verb}", args=arguments, config=_config(), return_unknown_args=True
            )
    except UsageError:  # of the options themselves, which may have taken the flag for a value
        if accept_unknown is None:
            refuse_misspelt_flag()
        raise
    options, unknown = parsed
    if not unknown:
        return options
    flag = next((argument for argument in unknown if argument.startswith("-")), None)
    known = _known_flags(options_type, shared_flags)
    if accept_unknown is not None:
        try:
            return accept_unknown(options, unknown)
        except ValueError as error:
            raise UsageError(f"{error}{did_you_mean(flag, known) if flag else ''}") from error
    raise UsageError(_unknown_flag(flag, known) if flag else f"unexpected argument {unknown[0]!r}")


def _config() -> tuple[Any, ...]:
    import tyro

    return (tyro.conf.PositionalMetavarFromFieldName,)  # "missing OUT" says more than "missing STR"


def _message(event: ParseErrorEvent) -> str | None:
    """Describe a parse error in one line; None for errors of mutex groups and subcommands, which no verb has."""
    from tyro._errors import BadValue, InstantiationFailure, InvalidChoice, MissingArgs

    if isinstance(event, MissingArgs):
        names = (missing.arg.get_invocation_text()[1].as_str_no_ansi() for missing in event.missing_arguments)
        return f"missing {', '.join(names)}"
    if isinstance(event, BadValue):
        argument = event.argument
        return f"Missing value for argument '{argument.display_name()}'. Expected {argument.lowered.nargs} values."
    if isinstance(event, InvalidChoice):
        argument = event.argument
        options = f"Expected one of {argument.lowered.choices}."
        return f"invalid choice '{event.value}' for argument '{argument.display_name()}'. {options}"
    if isinstance(event, InstantiationFailure):
        reason = " ".join(str(event.message).split())
        # Without an argument, the options' own check has failed; its message says which value is wrong.
        return reason if event.argument is None else f"Error parsing {event.argument.display_name()}: {reason}"
    return None


def _known_flags(options_type: type, shared_flags: Iterable[str]) -> list[str]:
    """Return every flag of a verb, sorted: those of its options, `--help` and the shared ones."""
    import tyro

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # tyro names no successor of get_parser
        parser = tyro.extras.get_parser(options_type, config=_config())
    own = (flag for action in parser._actions for flag in action.option_strings)
    return sorted({*own, *shared_flags})


def _unknown_flag(flag: str, known: Iterable[str]) -> str:
    flag = flag.partition("=")[0]
    return f"unknown flag {flag}{did_you_mean(flag, known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "; did you mean WORD?" for the known word nearest to `word`, or "" when none is near."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def replace_renamed_flags(verb: str, arguments: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Replace former spellings of flags by the present ones, with a note on standard error for each.

    Args:
        verb: name of the verb, for the note.
        renamed: former spelling -> present one. A former one may include a value (`--form warp`), and a present one may
            be empty, where the flag has no effect.
    """
    words: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*words, word, *rest]
        flag, equals, value = word.partition("=")
        flag = "--" + flag[2:].replace("_", "-") if flag.startswith("--") else flag
        choice = value if equals else rest[0] if rest else ""
        if f"{flag} {choice}" in renamed:
            old, new = f"{flag} {choice}", renamed[f"{flag} {choice}"]
            rest = rest if equals else rest[1:]
            words += [new] if new else []
        elif flag in renamed:
            old, new = flag, renamed[flag]
            words.append(f"{new}{equals}{value}")
        else:
            words.append(word)
            continue
        message = f"{old} is deprecated{f', use {new}' if new else ''}"
        log_lines.write("WARNING", message, f"sfumato {verb}: note: {message}")
    return words
