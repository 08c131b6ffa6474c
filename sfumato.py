"""The `sfumato` command: a table of verbs, each imported only when it is called.

A verb is a module with a frozen dataclass `Options`, from which its flags are made, and `run(options)`, which returns a
`pipelines.cli.CommandResult`. This file owns what all verbs share: `--json`, one-line errors and exit codes. It imports
the standard library alone, so that `sfumato --help` answers in milliseconds.

    0    done                              1    no usable result
    2    usage: unknown flag, missing      130  interrupted by Ctrl-C
         argument, path that does not exist
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from pipelines.cli import CommandResult


class Verb(NamedTuple):
    """A verb's module, the extra that installs its dependencies ("" for none), and its line of help."""

    module: str
    extra: str
    help: str


VERBS = {
    "assets": Verb("pipelines.commands.assets", "", "list, fetch and verify the pretrained files and demo clips"),
    "synthesize": Verb(
        "pipelines.commands.synthesize", "synthetic", "render talking-head clips of synthetic people, with ground truth"
    ),
    "preprocess": Verb("pipelines.commands.preprocess", "pipelines", "videos -> shards of face crops and landmarks"),
    "status": Verb("pipelines.commands.status", "", "say how far a run of preprocess is, and which clips gave no row"),
    "validate": Verb("pipelines.commands.validate", "", "read every file of a data set and check its contents"),
    "inspect": Verb("pipelines.commands.inspect", "", "write an HTML preview of a data set: faces, rejects, counts"),
    "retry": Verb("pipelines.commands.retry", "pipelines", "process again the clips that failed for outside reasons"),
    "forget": Verb("pipelines.commands.forget", "", "remove a person from a data set"),
    "meta-train": Verb("training.commands.meta_train", "training", "shards or synthetic people -> base model"),
    "evaluate": Verb("training.commands.evaluate", "training", "compare a base model with baselines: tables, a page"),
    "export": Verb("training.commands.export", "training", "base model -> a small bundle for inference"),
    "fine-tune": Verb("training.commands.fine_tune", "training", "one or a few pictures of a person -> avatar"),
    "pose": Verb("training.commands.pose", "training", "one picture of a portrait, with sliders for face and head"),
    "motion": Verb("training.commands.motion", "training", "the motion of a film as a file that drives like the film"),
    "verify": Verb("training.commands.verify", "training", "say what the credentials of films and pictures say"),
    "animate": Verb("serving.commands.animate", "serving", "avatars or pictures x driver videos -> videos"),
    "serve": Verb("serving.commands.serve", "serving", "run the HTTP service: portraits in, avatars and videos out"),
    "serve keys": Verb("serving.commands.serve_keys", "serving", "make, list and revoke API keys of the service"),
    "demo": Verb("serving.commands.demo", "pipelines,serving", "run every stage on small data: an animated Mona Lisa"),
    "doctor": Verb("pipelines.commands.doctor", "", "check this installation and suggest fixes"),
    "bench preprocess": Verb("pipelines.benchmarks.preprocess", "pipelines", "CPU seconds per clip, by stage"),
    "bench loader": Verb("training.benchmarks.loader", "training", "episodes per second, against JPEG decoding alone"),
    "bench train": Verb("training.benchmarks.train", "training", "time of a training step, against its networks alone"),
    "bench render": Verb("training.benchmarks.render", "training", "time of a rendered frame, against its parts alone"),
    "bench landmarks": Verb(
        "pipelines.benchmarks.landmarks", "", "error of landmark detectors against known landmarks"
    ),
    "bench serve": Verb("serving.benchmarks.serve", "serving", "start, overhead, latency and idle cost of the service"),
    "bench cluster": Verb("serving.benchmarks.cluster", "pipelines,serving", "what a second machine brings"),
    "bench small-faces": Verb("pipelines.benchmarks.small_faces", "pipelines", "full-HD clips kept, by size of face"),
}

FLAGS_OF_EVERY_VERB = {
    "--log-format": "text, or json: messages as one JSON object a line (also: SFUMATO_LOG_FORMAT=json)",
    "--json": "print one JSON object as the last line: results, where they are, counts, seconds",
    "--traceback": "show the traceback of an error (also: SFUMATO_TRACEBACK=1)",
}

_FIRST_PARTY = ("pipelines", "training", "serving")


def command() -> NoReturn:
    """Run `main` as the console script, and exit before the libraries' C++ destructors run.

    Arrow, gRPC and MediaPipe leave threads behind whose destructors abort some processes at exit ("terminate called
    without an active exception", exit code 134) after all work is done. So the process ends directly after the last of
    Python's own exit handlers.
    """
    import atexit

    code = 1

    def leave() -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # the reader has closed the pipe
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
    # OpenMP threads that wait must sleep: two that spin on one free core take ten times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a file name can hold bytes that the encoding cannot represent
            stream.reconfigure(errors="backslashreplace")
    try:
        if arguments and arguments[0] in ("-h", "--help", "-V", "--version"):
            return _without_verb(arguments[0])
        return _with_messages(arguments)
    except BrokenPipeError:
        # The reader has closed the pipe (`sfumato assets list | head -1`): not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _without_verb(flag: str) -> int:
    if flag in ("-h", "--help"):
        _say(_help())
    else:
        from importlib.metadata import version

        _say(f"sfumato {version('sfumato')}")
    return 0


def _help() -> str:
    verbs = "\n".join(f"  {name:<18}{verb.help}" for name, verb in VERBS.items())
    return (
        "usage: sfumato VERB ...\n\n"
        "Brings portraits to life: from raw videos to a base model, to avatars, to a rendering service.\n\n"
        f"verbs (sfumato VERB --help explains each):\n{verbs}\n\n"
        f"{_help_of_shared_flags()}\n\n"
        "  -h, --help  show this\n  --version   show the version"
    )


def _help_of_shared_flags() -> str:
    flags = "\n".join(f"  {name:<14}{text}" for name, text in FLAGS_OF_EVERY_VERB.items())
    return f"flags of every verb:\n{flags}"


def _with_messages(arguments: list[str]) -> int:
    """Run a command line with its messages in the format of `--log-format`, or else of SFUMATO_LOG_FORMAT."""
    from pipelines.log_lines import messages_as, take_log_format

    try:
        chosen, rest = take_log_format(arguments)
    except ValueError as error:
        name, _ = _split_verb(arguments)
        return _fail(name if name in VERBS else "", str(error), 2)
    name, others = _split_verb(rest)
    with messages_as(chosen, name if name in VERBS else ""):
        if not rest:
            return _fail("", "no verb; sfumato --help lists them", 2)
        if name.startswith("-"):
            return _fail("", f"unknown flag {name}{_did_you_mean(name, ['--help', '--version'])}", 2)
        return _with_verb(name, others)


def _split_verb(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the first word, or the first two of a verb such as `bench loader`, and the arguments after it."""
    words = 2 if " ".join(arguments[:2]) in VERBS else 1
    return " ".join(arguments[:words]), arguments[words:]


def _with_verb(name: str, arguments: list[str]) -> int:
    if name not in VERBS:
        if family := [verb for verb in VERBS if verb.startswith(f"{name} ")]:
            return _fail("", f"{name} what? one of: {', '.join(family)}", 2)
        return _fail("", f"unknown verb {name!r}{_did_you_mean(name, VERBS)}", 2)
    from pipelines.argument_parser import UsageError
    from pipelines.log_lines import traceback_of
    from pipelines.one_line import hide_credentials

    arguments, switches = _take_switches(arguments)
    show_traceback = "--traceback" in switches or os.environ.get("SFUMATO_TRACEBACK", "0") not in ("", "0")
    try:
        result = _run(name, arguments)
    except UsageError as error:
        return _fail(name, str(error), 2)
    except KeyboardInterrupt:
        return _fail(name, "interrupted: run the same command again to resume", 130)
    except Exception as error:  # noqa: BLE001 - here an exception becomes a line and an exit code
        if show_traceback:
            traceback_of(error)
        return _fail(name, *_explain(name, error))
    _say(hide_credentials(result.to_json() if "--json" in switches else result.summary()))
    return 0 if result.ok else _fail(name, (result.notes or ("nothing usable came out",))[-1], 1)


def _take_switches(arguments: Sequence[str]) -> tuple[list[str], set[str]]:
    """Split `arguments` into the rest and the flags of every verb, which may stand anywhere before a `--`."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    switches = {argument for argument in arguments[:end] if argument in FLAGS_OF_EVERY_VERB}
    rest = [argument for argument in arguments[:end] if argument not in FLAGS_OF_EVERY_VERB]
    return [*rest, *arguments[end:]], switches


def _run(name: str, arguments: Sequence[str]) -> "CommandResult":
    """Import the verb, make its `Options` of the arguments and run it. `--help` prints a page and exits."""
    module = importlib.import_module(VERBS[name].module)
    from pipelines import argument_parser

    arguments = argument_parser.replace_renamed_flags(name, arguments, getattr(module, "RENAMED_FLAGS", {}))
    # Flags that the verb passes on to an engine below it, such as Beam.
    accept_unknown: Callable[[Any, list[str]], Any] | None = getattr(module, "accept_unknown", None)
    try:
        options = argument_parser.parse(name, module.Options, arguments, FLAGS_OF_EVERY_VERB, accept_unknown)
    except SystemExit as stop:
        if not stop.code:  # after --help
            _say(_help_of_shared_flags())
        raise
    run: Callable[[Any], CommandResult] = module.run
    return run(options)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    from pipelines.argument_parser import did_you_mean

    return did_you_mean(word, known)


def _explain(name: str, error: Exception) -> tuple[str, int]:
    """Return the one line and the exit code for an exception that a verb raised."""
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
    """Return the message; of one that holds a worker's traceback (Ray, Beam), its last line."""
    message = message.strip()
    return message.splitlines()[-1].strip() if '\n  File "' in message else message


def _is_first_party(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _FIRST_PARTY


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _fail(verb: str, message: str, code: int) -> int:
    """Print `message` as one line on stderr, without credentials and unprintable characters; return `code`."""
    from pipelines.log_lines import write
    from pipelines.one_line import hide_credentials

    shown = hide_credentials(message)
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    command, is_interrupt = f"sfumato {verb}" if verb else "sfumato", code == 130
    text = f"{command}: {line}" if is_interrupt else f"{command}: error: {line}"
    write("NOTICE" if is_interrupt else "ERROR", line, text, {"exit_code": code})
    return code


if __name__ == "__main__":
    command()
