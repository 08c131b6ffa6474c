"""The `sfumato` command: a table of verbs, each imported only when it is called.

A verb is a module with a frozen dataclass `Options`, from which its flags are made, and `run(options) -> Outcome`.
This file owns what all verbs share: `--json`, one-line errors and exit codes.

    0    done                              1    nothing usable came out
    2    usage: unknown flag, missing      130  interrupted by Ctrl-C
         argument, path that does not exist
"""

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from pipelines.cli import CommandResult


class Verb(NamedTuple):
    """Where a verb lives, the extra that installs what it needs ("" for none), and its line of help."""

    module: str
    extra: str
    help: str


VERBS = {
    "assets": Verb("pipelines.commands.assets", "", "list, fetch and verify the pretrained files and demo clips"),
    "synthesize": Verb(
        "pipelines.commands.synthesize", "synthetic", "talking heads that nobody owns, with their truth"
    ),
    "preprocess": Verb("pipelines.commands.preprocess", "pipelines", "videos -> shards of face crops and landmarks"),
    "validate": Verb("pipelines.commands.validate", "", "reopen every file of a data set and check all it says"),
    "inspect": Verb("pipelines.commands.inspect", "", "one page to look at a data set: faces, rejects, coverage"),
    "retry": Verb("pipelines.commands.retry", "pipelines", "try again what failed for reasons outside the clips"),
    "forget": Verb("pipelines.commands.forget", "", "take a person out of a data set"),
    "meta-train": Verb("training.commands.meta_train", "training", "shards, or people drawn online -> base model"),
    "evaluate": Verb("training.commands.evaluate", "training", "a base model beside its baselines: tables and a page"),
    "export": Verb("training.commands.export", "training", "a base model to hand on: small, not to be trained further"),
    "fine-tune": Verb("training.commands.fine_tune", "training", "one or a few pictures of a person -> avatar"),
    "animate": Verb("serving.commands.animate", "serving", "avatars or pictures x driver videos -> videos"),
    "serve": Verb("serving.commands.serve", "serving", "the HTTP service: portraits in, avatars and videos out"),
    "demo": Verb("serving.commands.demo", "pipelines,serving", "the whole line on small data: an animated Mona Lisa"),
    "doctor": Verb("pipelines.commands.doctor", "", "check this installation and say how to mend it"),
    "bench preprocess": Verb("pipelines.benchmarks.preprocess", "pipelines", "CPU seconds a clip, beside its parts"),
    "bench loader": Verb("training.benchmarks.loader", "training", "episodes a second, beside pure JPEG decoding"),
    "bench train": Verb("training.benchmarks.train", "training", "a training step, beside its networks alone"),
    "bench landmarks": Verb("pipelines.benchmarks.landmarks", "", "error of the detectors on faces with known points"),
}

FLAGS_OF_EVERY_VERB = {
    "--json": "print one JSON object as the last line: what was made, where, counts, seconds",
    "--traceback": "show the traceback of an error (also: SFUMATO_TRACEBACK=1)",
}

_FIRST_PARTY = ("pipelines", "training", "serving")


class UsageError(Exception):
    """The command line itself is wrong: exit code 2."""


def command() -> NoReturn:
    """The console script: `main`, and an end that no library can spoil.

    Arrow, gRPC and MediaPipe leave threads behind whose C++ destructors abort some processes at exit ("terminate called
    without an active exception", exit code 134) after all work is done. So the process ends right behind the last of
    Python's own exit handlers, before those destructors.
    """
    import atexit

    code = 1

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # whoever read it has left
                stream.flush()
        os._exit(code)

    atexit.register(leave)  # the first to be registered is the last to run
    try:
        code = main()
    except SystemExit as error:  # `--help`
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` when not given) and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # Threads that wait for each other must sleep: spinning, two of them on one free core cost ten times the work.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name can hold bytes that no encoding knows
            stream.reconfigure(errors="backslashreplace")
    try:
        if not arguments or arguments[0].startswith("-"):
            return _without_verb(arguments)
        name = " ".join(arguments[:2])  # such as `bench loader`
        words = 2 if name in VERBS else 1
        return _with_verb(" ".join(arguments[:words]), arguments[words:])
    except BrokenPipeError:
        # Whoever read our output has left (`sfumato assets list | head -1`): that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _without_verb(arguments: Sequence[str]) -> int:
    if not arguments:
        return _fail("", "no verb; sfumato --help lists them", 2)
    if arguments[0] in ("-h", "--help"):
        _say(_help())
    elif arguments[0] in ("-V", "--version"):
        from importlib.metadata import version

        _say(f"sfumato {version('sfumato')}")
    else:
        return _fail("", f"unknown flag {arguments[0]}{_did_you_mean(arguments[0], ['--help', '--version'])}", 2)
    return 0


def _help() -> str:
    verbs = "\n".join(f"  {name:<18}{verb.help}" for name, verb in VERBS.items())
    flags = "\n".join(f"  {name:<12}{text}" for name, text in FLAGS_OF_EVERY_VERB.items())
    return (
        "usage: sfumato VERB ...\n\n"
        "Brings portraits to life: from raw videos to a base model, to avatars, to a rendering service.\n\n"
        f"verbs (sfumato VERB --help explains each):\n{verbs}\n\n"
        f"flags of every verb:\n{flags}\n\n"
        "  -h, --help  show this\n  --version   show the version"
    )


def _with_verb(name: str, arguments: list[str]) -> int:
    if name not in VERBS:
        if family := [verb for verb in VERBS if verb.startswith(f"{name} ")]:
            return _fail("", f"{name} what? one of: {', '.join(family)}", 2)
        return _fail("", f"unknown verb {name!r}{_did_you_mean(name, VERBS)}", 2)
    arguments, switches = _take_switches(arguments)
    show_traceback = "--traceback" in switches or os.environ.get("SFUMATO_TRACEBACK", "0") not in ("", "0")
    try:
        outcome = _run(name, arguments)
    except UsageError as error:
        return _fail(name, str(error), 2)
    except KeyboardInterrupt:
        return _fail(name, "interrupted: run the same command again to resume", 130)
    except Exception as error:  # noqa: BLE001 - here an exception becomes a line and an exit code
        if show_traceback:
            import traceback

            traceback.print_exc()
        return _fail(name, *_explain(name, error))
    _say(outcome.to_json() if "--json" in switches else outcome.summary())
    return 0 if outcome.ok else _fail(name, (outcome.notes or ("nothing usable came out",))[-1], 1)


def _take_switches(arguments: Sequence[str]) -> tuple[list[str], set[str]]:
    """Take the flags of every verb out of `arguments`, wherever they stand before a `--`."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    switches = {argument for argument in arguments[:end] if argument in FLAGS_OF_EVERY_VERB}
    rest = [argument for argument in arguments[:end] if argument not in FLAGS_OF_EVERY_VERB]
    return [*rest, *arguments[end:]], switches


def _run(name: str, arguments: list[str]) -> "CommandResult":
    module = importlib.import_module(VERBS[name].module)
    arguments = _with_present_flags(name, arguments, getattr(module, "RENAMED_FLAGS", {}))
    options, unknown = _parse(name, module.Options, arguments)
    if unknown:
        flag = next((argument for argument in unknown if argument.startswith("-")), None)
        known = _known_flags(name, module.Options)
        if hasattr(module, "accept_unknown"):  # flags meant for an engine under the verb, such as Beam
            try:
                options = module.accept_unknown(options, unknown)
            except ValueError as error:
                raise UsageError(f"{error}{_did_you_mean(flag, known) if flag else ''}") from error
        elif flag:
            _raise_unknown_flag(flag, known)
        else:
            raise UsageError(f"unexpected argument {unknown[0]!r}")
    run: Callable[[Any], CommandResult] = module.run
    return run(options)


def _with_present_flags(name: str, arguments: Sequence[str], renamed: Mapping[str, str]) -> list[str]:
    """Replace the old spellings of flags by the present ones, with a note on standard error for each.

    Args:
        renamed: present spelling by old one. An old one may include a value (`--form warp`), and a present one may be
            empty, where the flag had no effect.
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
        sys.stderr.write(f"sfumato {name}: note: {old} is deprecated{f', use {new}' if new else ''}\n")
    return words


def _parse(name: str, options_type: type, arguments: list[str]) -> tuple[Any, list[str]]:
    """Make the verb's `Options`; also returns what no flag or argument of the verb took.

    Raises UsageError with one line where tyro would print a box. `--help` prints and exits.
    """
    import tyro

    parsed, printed = _quietly(name, options_type, arguments)
    if parsed is not None:
        return parsed
    if {"-h", "--help"} & set(arguments[: arguments.index("--") if "--" in arguments else None]):
        try:
            tyro.cli(options_type, prog=f"sfumato {name}", args=arguments, config=_tyro_config())
        finally:
            flags = "\n".join(f"  {flag:<12}{text}" for flag, text in FLAGS_OF_EVERY_VERB.items())
            _say(f"flags of every verb:\n{flags}")
    known = _known_flags(name, options_type)
    for argument in arguments[: arguments.index("--") if "--" in arguments else None]:
        # A misspelt flag often leaves an argument missing as well; the flag is what the user has to correct.
        flag = argument.partition("=")[0]
        if flag.startswith("--") and len(flag) > 2 and flag.replace("_", "-") not in known:
            _raise_unknown_flag(flag, known)
    raise UsageError(_unbox(printed))


def _quietly(name: str, options_type: type, arguments: list[str]) -> tuple[tuple[Any, list[str]] | None, str]:
    """Parse without printing: the options with the unknown arguments, or None and what tyro had to say."""
    import io

    import tyro

    # tyro asks standard output whether it may draw boxes and colours.
    page = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    with contextlib.redirect_stdout(page), contextlib.redirect_stderr(page):
        try:
            prog, config = f"sfumato {name}", _tyro_config()
            return tyro.cli(options_type, prog=prog, args=arguments, config=config, return_unknown_args=True), ""
        except SystemExit:
            page.seek(0)
            return None, re.sub(r"\x1b\[[0-9;]*m", "", page.read())


def _tyro_config() -> tuple[Any, ...]:
    import tyro

    return (tyro.conf.PositionalMetavarFromFieldName,)  # "missing OUT" says more than "missing STR"


def _known_flags(name: str, options_type: type) -> list[str]:
    """Every flag of the verb, read from its help page."""
    _, page = _quietly(name, options_type, ["--help"])
    return sorted({*re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", page), *FLAGS_OF_EVERY_VERB})


def _raise_unknown_flag(flag: str, known: Sequence[str]) -> NoReturn:
    flag = flag.partition("=")[0]
    raise UsageError(f"unknown flag {flag}{_did_you_mean(flag, known)}")


def _did_you_mean(word: str, known: Sequence[str] | dict[str, Verb]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _unbox(printed: str) -> str:
    """The message in the box that tyro draws around an error, as one line.

    A box is a title, then rows; a rule ends the message, and what follows only points to --help.
    """
    rows = [line.strip("│").rstrip() for line in printed.splitlines() if line.startswith("│") and line.strip("│ ")]
    rule = next((i for i, row in enumerate(rows) if not row.strip("─ ")), len(rows))
    rows = rows[:rule]
    if not rows:
        return " ".join(printed.split()) or "cannot read the command line"
    if rows[0].strip().startswith("Missing from"):
        indent = min(len(row) - len(row.lstrip()) for row in rows[1:])
        return "missing " + ", ".join(row.strip() for row in rows[1:] if len(row) - len(row.lstrip()) == indent)
    return " ".join(" ".join(rows).split())


def _explain(name: str, error: Exception) -> tuple[str, int]:
    """The one line and the exit code for an exception that a verb let through."""
    if isinstance(error, ModuleNotFoundError) and VERBS[name].extra and not _is_first_party(error.name):
        install = f"pip install '.[{VERBS[name].extra}]' in the checkout"
        return f'this needs the "{VERBS[name].extra}" extra: {install} (no module named {error.name!r})', 1
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}", 2 if isinstance(error, FileNotFoundError) else 1
    if isinstance(error, ValueError | OSError):
        return _headline(str(error)) or type(error).__name__, 2 if isinstance(error, FileNotFoundError) else 1
    message = _headline(str(error)).partition("\n")[0] or "no message"
    return f"{type(error).__name__}: {message} (unexpected; --traceback shows where)", 1


def _headline(message: str) -> str:
    """What an exception says; where an engine pasted a worker's traceback into the message, its last line."""
    message = message.strip()
    return message.splitlines()[-1].strip() if '\n  File "' in message else message


def _is_first_party(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _FIRST_PARTY


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _fail(verb: str, message: str, code: int) -> int:
    """Print one line on stderr, whatever the message holds, and return `code`."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
    command = f"sfumato {verb}" if verb else "sfumato"
    sys.stderr.write(f"{command}: error: {line}\n" if code != 130 else f"{command}: {line}\n")
    return code


if __name__ == "__main__":
    command()
