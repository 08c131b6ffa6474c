"""A training run in MLflow: find or create it, and deliver records to it.

Delivery is idempotent: points of a metric are identified by name and step, a registered version by the hash of its
bundle, all else by name.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LifecycleStage, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from pipelines import storage
from training.tracking.records import Files, Lineage, Metrics, Params, Picture, Record, Registration, Status, Tags, Text
from training.tracking.sender import Refused, Unreachable
from training.tracking.target import ALIAS, REGISTERED_MODEL, VERSION_TAG, Target, limit_waiting, without_password

KEY_TAG = "sfumato.key"
_MAX_PARAM_LENGTH = 500
_MAX_TAG_LENGTH = 5000
_MAX_DESCRIPTION_LENGTH = 5000
_PARAMS_AT_ONCE = 100
_METRICS_PER_CALL = 500  # the server's limit is 1000
_FINISHED_TAG = "finished_ms"


def connect(target: Target) -> "MlflowRun":
    """Find or create the run of a training. Raises training.tracking.sender.Unreachable."""
    try:
        run: MlflowRun = _attempt(lambda: MlflowRun(_client(target.uri), target))
    except Refused as error:
        raise Unreachable(str(error)) from error
    return run


class MlflowRun:
    """A run that exists on the server."""

    def __init__(self, client: MlflowClient, target: Target) -> None:
        self._client = client
        found = _find(client, target)
        self.id: str = found or _create(client, target)
        run = client.get_run(self.id)
        self._last_step = {metric.key: metric.step for metric in run.to_proto().data.metrics}
        self._params = dict(run.data.params)

    def deliver(self, records: Sequence[Record]) -> None:
        """Log one record, or several metrics; see training.tracking.sender.Destination."""
        first = records[0]
        if isinstance(first, Metrics):
            metrics = [record for record in records if isinstance(record, Metrics)]
            _attempt(lambda: self._log_metrics(metrics))
        else:
            _attempt(lambda: self._log_record(first))

    def _log_metrics(self, records: Sequence[Metrics]) -> None:
        # A restart repeats the steps since its checkpoint, which are logged already.
        points: dict[tuple[str, int], Metric] = {}
        for record in records:
            for name, value in record.values.items():
                if record.step > self._last_step.get(name, -1):
                    points.setdefault((name, record.step), Metric(name, value, record.timestamp_ms, record.step))
        if points:
            self._client.log_batch(self.id, metrics=list(points.values()))
        for name, step in points:
            self._last_step[name] = max(step, self._last_step.get(name, -1))

    def _log_record(self, record: Record) -> None:
        client = self._client
        match record:
            case Tags(values):
                tags = [RunTag(name, value[:_MAX_TAG_LENGTH]) for name, value in values.items()]
                client.log_batch(self.id, tags=tags)
            case Params(values):
                self._log_params(values)
            case Lineage(url, digest):
                # MLflow's column holds 36 characters of the digest; a tag has all of it.
                name = "online" if url.startswith("online:") else "shards"
                entity = Dataset(name, digest[:36], source_type="fsspec", source=json.dumps({"uri": url}))
                client.log_inputs(self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])
            case Text(file, text):
                client.log_text(self.id, text, file)
            case Picture(file):
                client.log_image(self.id, record.image(), artifact_file=file)
            case Files(folder, names, artifact):
                self._log_files(folder, names, artifact)
            case Registration():
                _register(client, self.id, record)
            case Status(status, timestamp_ms) if status != "RUNNING":
                client.set_terminated(self.id, status, timestamp_ms)
            case Status(status):
                client.update_run(self.id, status=status)

    def _log_params(self, values: Mapping[str, str]) -> None:
        # MLflow's params are immutable; a resumed run may have other values, which `starts/` records.
        new = [Param(k, v[:_MAX_PARAM_LENGTH]) for k, v in values.items() if k not in self._params]
        for start in range(0, len(new), _PARAMS_AT_ONCE):
            self._client.log_batch(self.id, params=new[start : start + _PARAMS_AT_ONCE])
        self._params |= {param.key: param.value for param in new}

    def _log_files(self, folder: str, names: Sequence[str], artifact: str) -> None:
        with storage.ScratchFolder() as scratch:
            for name in names:
                url, copy = storage.join(folder, name), Path(scratch) / name
                if not storage.exists(url):
                    raise Refused(f"{url} is gone")
                if storage.is_local(url):
                    self._client.log_artifact(self.id, str(storage.local_path(url)), artifact)
                    continue
                with storage.local_copy(url) as path:
                    shutil.move(path, copy)
                self._client.log_artifact(self.id, str(copy), artifact)
                copy.unlink()


def _find(client: MlflowClient, target: Target) -> str | None:
    """Find the run by its id, else by its key: if the response to its creation was lost, the id is unknown."""
    if target.run_id is not None:
        try:
            run = client.get_run(target.run_id)
            if run.info.lifecycle_stage == LifecycleStage.ACTIVE:
                return target.run_id
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
    experiment = client.get_experiment_by_name(target.experiment)
    if experiment is None:
        return None
    runs = client.search_runs([experiment.experiment_id], f"tags.`{KEY_TAG}` = '{target.key}'", max_results=1)
    return str(runs[0].info.run_id) if runs else None


def _create(client: MlflowClient, target: Target) -> str:
    experiment_id = _experiment(client, target.experiment, target.artifact_root)
    run = client.create_run(experiment_id, run_name=target.name, tags={KEY_TAG: target.key})
    return str(run.info.run_id)


def _client(uri: str) -> MlflowClient:
    limit_waiting()
    return MlflowClient(uri)


def _experiment(client: MlflowClient, name: str, artifact_root: str | None) -> str:
    """Return the id of an experiment, creating it if needed."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found else client.create_experiment(name, artifact_location=artifact_root))


def _register(client: MlflowClient, run_id: str, record: Registration) -> None:
    try:
        client.create_registered_model(REGISTERED_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    versions = client.search_model_versions(f"name = '{REGISTERED_MODEL}'")
    made = next((v for v in versions if v.run_id == run_id and v.tags.get(VERSION_TAG) == record.version), None)
    if made is None:
        source = f"{client.get_run(run_id).info.artifact_uri}/{record.artifact}"
        tags = {**record.tags, VERSION_TAG: record.version, _FINISHED_TAG: str(record.timestamp_ms)}
        text = record.description[:_MAX_DESCRIPTION_LENGTH]
        made = client.create_model_version(REGISTERED_MODEL, source, run_id=run_id, tags=tags, description=text)
    # A record delivered after a long outage must not move the alias from a newer model.
    newest = max((int(version.tags.get(_FINISHED_TAG, 0)) for version in versions), default=0)
    if record.timestamp_ms >= newest:
        client.set_registered_model_alias(REGISTERED_MODEL, ALIAS, made.version)


def _attempt(action: Callable[[], Any]) -> Any:
    """Call `action`, and classify MLflow's errors: Refused for an invalid record, else Unreachable."""
    try:
        return action()
    except Refused:
        raise
    except MlflowException as error:
        reason = str(error).partition("\n")[0].partition(" with exception ")[0][:200]
        if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST"):
            raise Refused(reason) from error
        raise Unreachable(reason) from error
    except Exception as error:  # artifact stores raise many types, and none may end the sender's thread
        raise Unreachable(f"{type(error).__name__}: {error}".partition("\n")[0][:200]) from error


def log_evaluation(
    tracking_uri: str,
    run_id: str | None,
    experiment: str,
    *,
    artifact_root: str | None,
    metrics: Mapping[str, float],
    texts: Mapping[str, str],
) -> str:
    """Log an evaluation's means and report into the run that trained the model; return the run's id.

    Args:
        run_id: that run; if it is None or not on this server, a new run is created in `experiment`.
        artifact_root: artifact location of a new experiment; None: the server's choice.
        texts: the report's files by name, logged below `evaluation/`.

    Raises:
        ValueError: the server cannot be reached or rejects the evaluation.
    """
    client = _client(tracking_uri)
    try:
        is_own = run_id is None or not _has_run(client, run_id)
        if run_id is None or is_own:
            experiment_id = _experiment(client, experiment, artifact_root)
            run_id = str(client.create_run(experiment_id, run_name="evaluation").info.run_id)
        now = int(time.time() * 1000)
        entries = [Metric(name, value, now, 0) for name, value in metrics.items()]
        for first in range(0, len(entries), _METRICS_PER_CALL):
            client.log_batch(run_id, metrics=entries[first : first + _METRICS_PER_CALL])
        for name, text in texts.items():
            client.log_text(run_id, text, f"evaluation/{name}")
        if is_own:
            client.set_terminated(run_id, "FINISHED")
    except (MlflowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"MLflow at {without_password(tracking_uri)} did not take the evaluation: {reason}") from None
    return run_id


def _has_run(client: MlflowClient, run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True
