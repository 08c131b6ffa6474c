"""The program that Google's launcher of Flex Templates runs: its parameters as a command line of `sfumato preprocess`.

The launcher passes each parameter of infra/dataflow/flex-template.json, and its own flags for Beam, as --NAME=VALUE
(https://cloud.google.com/dataflow/docs/guides/templates/configuring-flex-templates). The command leaves the job to
itself, as a template's program has to.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

_PLACES = ("src", "out")
_DEFAULTS = (
    "--runner=DataflowRunner",
    "--detach",
    "--trial-clips=0",
    "--sdk_location=container",
    "--number_of_worker_harness_threads=1",
)


def command_line(parameters: Sequence[str]) -> list[str]:
    """Return the command for a launcher's parameters, which win over the defaults: of a flag given twice, the last.

    Raises:
        ValueError: source or output is missing.
    """
    places: dict[str, str] = {}
    others = []
    for parameter in parameters:
        name, mark, value = parameter.removeprefix("--").partition("=")
        if mark and name in _PLACES:
            places[name] = value
        else:
            others.append(parameter)
    missing = [name for name in _PLACES if not places.get(name)]
    if missing:
        raise ValueError(f"the template wants the parameters {' and '.join(missing)}")
    return ["sfumato", "preprocess", places["src"], places["out"], *_DEFAULTS, *others]


if __name__ == "__main__":
    command = command_line(sys.argv[1:])
    os.execvp(command[0], command)
