"""What Google's launcher of templates starts."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tyro

from pipelines.commands.preprocess import Options
from pipelines.preprocess.beam.template import command_line

SPEC = Path(__file__).parents[4] / "infra" / "dataflow" / "flex-template.json"
PARAMETERS: list[dict[str, Any]] = json.loads(SPEC.read_text())["metadata"]["parameters"]
EXAMPLES = {
    "src": "gs://videos/vox2",
    "out": "gs://bucket/set",
    "layout": "voxceleb",
    "identity-from": "(?P<identity>[^/]+)/",
    "test-list": "gs://bucket/test.txt",
    "detector": "face-alignment",
    "detector-weights": "gs://bucket/weights",
    "device": "cuda",
    "accelerator": "type:nvidia-tesla-t4;count:1;install-nvidia-driver",
    "size": "224",
    "frames-per-clip": "24",
    "shard-mb": "64",
    "licence": "CC BY 4.0",
    "trial-clips": "8",
}


def test_the_spec_is_one_to_google_and_names_every_parameter_once() -> None:
    """Google's own message of a template's spec (google.dataflow.v1beta3.ContainerSpec): unknown fields are errors."""
    from google.cloud.dataflow import ContainerSpec
    from google.protobuf import json_format

    spec = json_format.Parse(SPEC.read_text(), ContainerSpec.pb(ContainerSpec()))
    assert spec.sdk_info.language == 2
    names = [parameter["name"] for parameter in PARAMETERS]
    assert len(set(names)) == len(names)
    assert names == list(EXAMPLES)


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda parameter: parameter["name"])
def test_a_parameter_takes_its_example_and_says_what_it_is(parameter: dict[str, Any]) -> None:
    for pattern in parameter.get("regexes", ()):
        assert re.fullmatch(pattern, EXAMPLES[parameter["name"]])
        assert not re.fullmatch(pattern, "no such value!")
    assert parameter["label"]
    assert parameter["helpText"]
    assert parameter["isOptional"] == (parameter["name"] not in ("src", "out"))


def test_the_parameters_are_flags_of_the_command_and_their_defaults_its_own() -> None:
    given = [f"--{name}={value}" for name, value in EXAMPLES.items()]
    program, verb, *arguments = command_line([*given, "--project=p", "--job_name=j", "--template_location=gs://b/t"])
    assert (program, verb) == ("sfumato", "preprocess")
    options, unknown = tyro.cli(Options, args=arguments, return_unknown_args=True)
    assert (options.src, options.out, options.size) == ("gs://videos/vox2", "gs://bucket/set", 224)
    assert (options.runner, options.detach, options.trial_clips) == ("DataflowRunner", True, 8)
    assert [flag.partition("=")[0] for flag in unknown] == [
        "--sdk_location",
        "--number_of_worker_harness_threads",
        "--project",
        "--job_name",
        "--template_location",
    ]
    for parameter in PARAMETERS:
        if "defaultValue" in parameter and parameter["name"] != "trial-clips":
            assert str(getattr(options.__class__, parameter["name"].replace("-", "_"))) == parameter["defaultValue"]


def test_a_template_without_source_or_output_is_refused() -> None:
    with pytest.raises(ValueError, match="the template wants the parameters src and out"):
        command_line(["--src=", "--size=224"])
