"""Experiments in MLflow: one run per training, across restarts; the only home of mlflow in training.

Training must not die of its log: when the server is away, a warning is printed once and the run goes on.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from PIL import Image

from pipelines.shards import ShardDataset
from training.config import TrainConfig

REGISTERED_MODEL = "sfumato-base"
ALIAS = "champion"
_MAX_PARAM_LENGTH = 500
_METRICS_PER_CALL = 500  # the server takes a thousand

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracker:
    """One MLflow run, addressed by id: cheap to send to a worker."""

    tracking_uri: str
    run_id: str

    def _client(self) -> MlflowClient:
        return MlflowClient(self.tracking_uri)

    def log_metrics(self, step: int, metrics: Mapping[str, float], timestamp_ms: int) -> None:
        entries = [Metric(name, value, timestamp_ms, step) for name, value in metrics.items()]
        self._try(lambda client: client.log_batch(self.run_id, metrics=entries))

    def log_samples(self, step: int, image: UInt8[np.ndarray, "h w 3"]) -> None:
        """A grid of sample pictures."""
        picture = Image.fromarray(image)
        self._try(lambda client: client.log_image(self.run_id, picture, artifact_file=f"samples/step-{step:07d}.png"))

    def log_folder(self, folder: str, name: str) -> None:
        self._try(lambda client: client.log_artifacts(self.run_id, folder, name))

    def finish(self, status: str) -> None:
        """FINISHED, FAILED or KILLED."""
        self._try(lambda client: client.set_terminated(self.run_id, status))

    def _try(self, action: Callable[[MlflowClient], Any]) -> None:
        try:
            action(self._client())
        except (MlflowException, OSError) as error:
            logger.warning("MLflow did not take a record, training goes on: %s", type(error).__name__)


def start_run(
    tracking_uri: str,
    artifact_root: str | None,
    experiment: str,
    name: str,
    *,
    config: TrainConfig,
    dataset: ShardDataset,
    resume: str | None,
) -> Tracker:
    """Open a run, or take up the one called `resume`.

    Args:
        artifact_root: where a new experiment keeps its files; None leaves it to the server.
    """
    client = MlflowClient(tracking_uri)
    if resume is not None:
        client.update_run(resume, status="RUNNING")
        return Tracker(tracking_uri, resume)
    found = client.get_experiment_by_name(experiment)
    experiment_id = (
        found.experiment_id if found else client.create_experiment(experiment, artifact_location=artifact_root)
    )
    run = client.create_run(experiment_id, run_name=name)
    parameters = [Param(key, value[:_MAX_PARAM_LENGTH]) for key, value in _flatten(asdict(config)).items()]
    client.log_batch(run.info.run_id, params=parameters)
    client.set_tag(run.info.run_id, "dataset_digest", dataset.manifest.digest)
    _log_dataset(client, run.info.run_id, dataset)
    return Tracker(tracking_uri, run.info.run_id)


def _log_dataset(client: MlflowClient, run_id: str, dataset: ShardDataset) -> None:
    """Lineage: where the data lies and the digest of its manifest, cut to the 36 characters MLflow's table holds."""
    source = json.dumps({"uri": dataset.root})
    entity = Dataset(name="shards", digest=dataset.manifest.digest[:36], source_type="fsspec", source=source)
    client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", "training")])])


def register(tracking_uri: str, run_id: str, artifact: str) -> str:
    """Register a run's bundle as the newest version of the base model and give it the alias; returns `models:/…`."""
    client = MlflowClient(tracking_uri)
    try:
        client.create_registered_model(REGISTERED_MODEL)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{artifact}"
    version = client.create_model_version(REGISTERED_MODEL, source, run_id=run_id)
    client.set_registered_model_alias(REGISTERED_MODEL, ALIAS, version.version)
    return f"models:/{REGISTERED_MODEL}@{ALIAS}"


def log_evaluation(
    tracking_uri: str,
    run_id: str | None,
    experiment: str,
    *,
    artifact_root: str | None,
    metrics: Mapping[str, float],
    texts: Mapping[str, str],
) -> str:
    """Log an evaluation's means and its report into the run that trained the model; returns the run's id.

    Args:
        run_id: that run; where it is None or not on this server, a run of its own is made in `experiment`.
        artifact_root: where a new experiment keeps its files; None leaves it to the server.
        texts: the report's files by name, kept below `evaluation/`.

    Raises:
        ValueError: the server cannot be reached, or refuses; the report itself is written by then.
    """
    client = MlflowClient(tracking_uri)
    try:
        is_own = run_id is None or not _has_run(client, run_id)
        if run_id is None or is_own:
            found = client.get_experiment_by_name(experiment)
            experiment_id = found.experiment_id if found else client.create_experiment(experiment, artifact_root)
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
        raise ValueError(f"MLflow at {tracking_uri} did not take the evaluation: {reason}") from None
    return run_id


def _has_run(client: MlflowClient, run_id: str) -> bool:
    try:
        client.get_run(run_id)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise
    return True


def _flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = str(value)
    return flat
