"""`sfumato verify FILE ...`: what the credentials of films and pictures say, in plain words."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, get_args

import tyro

from pipelines import storage
from pipelines.cli import CommandResult
from pipelines.dataset.manifest import read_manifest
from pipelines.provenance.reader import Reader
from pipelines.provenance.signing_key import load_signing_key
from pipelines.provenance.verdict import State, TrustedSigners, Verdict, judge, trusted_signers
from pipelines.provenance.watermark import model_digits
from training.checkpoints.model_lineage import is_shipped, shipped_version
from training.checkpoints.model_registry import TrainedBy, trained_by

_NOT_OURS = "{} of {} files are not whole films or pictures of ours: {}"
_MOST_NAMED = 3  # files that the error names


@dataclass(frozen=True)
class Options:
    """Say what the credentials (C2PA) of films and pictures say: ours and whole, altered since they were signed,
    another's, or none. Exit code 0 when all are ours and whole, else 1."""

    files: tyro.conf.Positional[tuple[str, ...]]
    """Films and pictures (paths or URLs)."""
    lineage: bool = False
    """Follow the model to its MLflow run, data set and clips, and print the command that makes the file again."""
    mlflow: str | None = None
    """MLflow server or database to ask with --lineage; default: MLFLOW_TRACKING_URI, else mlflow.db here."""
    trust: Annotated[tuple[str, ...], tyro.conf.arg(metavar="PEM")] = ()
    """Certificates (paths or URLs, PEM) of further signers that are ours, besides SFUMATO_C2PA_CERT or the development
    certificate: a signer's with that of its issuer, or an issuer's alone for all of its signers."""

    def __post_init__(self) -> None:
        if not self.files:
            raise FileNotFoundError("name at least one film or picture")


@dataclass(frozen=True)
class VerifyResult(CommandResult):
    """The verdicts, which `--json` prints as `files`."""

    files: tuple[Mapping[str, Any], ...] = ()
    lines: tuple[str, ...] = ()
    """For people."""

    def to_json(self) -> str:
        return json.dumps({**json.loads(super().to_json()), "files": list(self.files)}, ensure_ascii=False)

    def summary(self) -> str:
        return "\n".join((*self.lines, super().summary()))


def run(options: Options) -> VerifyResult:
    """Judge every file.

    Raises:
        FileNotFoundError: a file does not exist.
        ValueError: it is a folder, or --trust or the own certificate cannot be used.
    """
    started = time.monotonic()
    for url in (*options.files, *options.trust):
        storage.check_file(url)
    trusted = trusted_signers(load_signing_key(), [(url, storage.read_bytes(url)) for url in options.trust])
    files: list[Mapping[str, Any]] = []
    lines: list[str] = []
    with Reader(trusted.anchors) as reader:
        for url in options.files:
            verdict = _judge(url, trusted, reader)
            lineage = _lineage(verdict, options.mlflow) if options.lineage and verdict.facts else None
            files.append({"file": url, **asdict(verdict), **({} if lineage is None else {"lineage": lineage})})
            lines += _lines(url, verdict, lineage)
    found = Counter(str(file["state"]) for file in files)
    bad = len(files) - found["ours"]
    return VerifyResult(
        made=(),
        counts={state: found[state] for state in get_args(State)},
        seconds=time.monotonic() - started,
        ok=not bad,
        notes=(_not_ours(files),) if bad else (),
        files=tuple(files),
        lines=tuple(lines),
    )


def _not_ours(files: Sequence[Mapping[str, Any]]) -> str:
    """Return a line that names the first files that are not ours, each with the reason."""
    bad = [file for file in files if file["state"] != "ours"]
    named = "; ".join(f"{file['file']}: {file['why']}" for file in bad[:_MOST_NAMED])
    more = f"; and {len(bad) - _MOST_NAMED} more" if len(bad) > _MOST_NAMED else ""
    return _NOT_OURS.format(len(bad), len(files), named + more)


def _judge(url: str, trusted: TrustedSigners, reader: Reader) -> Verdict:
    with storage.local_copy(url) as path:
        verdict = judge(path, trusted, reader)
    beside = f"{url}.c2pa"
    if verdict.state == "none" and not storage.is_local(url) and storage.exists(beside):
        return replace(verdict, why=f"{verdict.why}; download {beside} beside it to judge it by that")
    return verdict


def _lines(url: str, verdict: Verdict, lineage: Mapping[str, Any] | None) -> Iterator[str]:
    yield f"{url}: {verdict.why}"
    facts = verdict.facts
    if verdict.signer:
        untrusted = ": untrusted, made on this machine, nobody else knows it" if verdict.is_development else ""
        kind = f", {verdict.source_type}" if verdict.source_type else ""
        yield f"  made by: {verdict.generator or 'unnamed software'}{kind}; signed by {verdict.signer}{untrusted}"
    if facts:
        yield f"  made at: {facts.get('made_at')}, by the clock of the machine that signed it"
        yield f"  model: {_model(facts)}"
        yield f"  trained by: MLflow run {facts.get('mlflow_run') or 'not recorded'}"
        yield f"  data set: digest {facts.get('dataset_digest') or 'not recorded'}"
    if facts.get("consent_sha256"):
        yield f"  consent statement: sha256 {facts['consent_sha256']}"
    if verdict.watermark is not None:
        bundled = " (the bundled base model)" if model_digits(shipped_version()) == verdict.watermark else ""
        yield f"  mark in the frames: made by Sfumato, model {verdict.watermark}...{bundled}"
    for ingredient in verdict.ingredients:
        yield f"  made from: {ingredient}"
    if lineage is not None:
        for name, value in lineage.items():
            yield f"  {name.replace('_', ' ')}: {value}"


def _model(facts: Mapping[str, Any]) -> str:
    version = str(facts.get("model"))
    return f"{version}{' (the bundled base model)' if is_shipped(version) else ''}"


def _lineage(verdict: Verdict, mlflow: str | None) -> dict[str, str]:
    """Return what is known beyond the credentials: of MLflow where it can be asked, and of the data set's folder."""
    facts = verdict.facts
    found = {"make_it_again": str(facts.get("command") or "not recorded")}
    version, run_id = str(facts.get("model")), facts.get("mlflow_run")
    if is_shipped(version) and run_id is None:
        return {**found, "model": "the bundled one; docs/experiments.md lists its rounds, `make base-model` trains one"}
    try:
        run = trained_by(None if run_id is None else str(run_id), version, mlflow)
    except ValueError as error:
        return {**found, "MLflow": f"not asked: {error}"}
    if run is None:
        return {**found, "MLflow": "it has no such run"}
    found["MLflow_run"] = f"{run.run_id} at {run.server}, experiment {run.experiment}, {run.status.lower()}"
    if run.registered:
        found["registered_as"] = ", ".join(run.registered)
    if run.command is not None:
        found["train_it_again"] = f"{run.command} (version {run.code_version})"
    if run.dataset is not None:
        found["data_set"] = _dataset(run)
    return found


def _dataset(run: TrainedBy) -> str:
    said = f"{run.dataset}, digest {run.dataset_digest}"
    try:
        manifest = read_manifest(str(run.dataset))
    except (OSError, ValueError):
        return f"{said}; it is not there now"
    if manifest.digest != run.dataset_digest:
        return f"{said}; what is there now is another"
    counts = manifest.counts
    return f"{said}; it is there: {counts.get('done', 0):,} clips (`sfumato inspect {run.dataset}` shows them)"
