"""Jobs on Dataflow: find the one of a data set, ask for its state, wait for its end."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from pipelines.one_line import one_line
from pipelines.preprocess.run_record import DataflowJob

RUNNER = "DataflowRunner"
POLL_SECONDS = 10.0
_ENDED = {"JOB_STATE_DONE", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_UPDATED", "JOB_STATE_DRAINED"}
_DONE = "JOB_STATE_DONE"


class DataflowJobs:
    """Dataflow's jobs of one project and region.

    Args:
        options: Beam's PipelineOptions with `--project`, `--region` and, where wanted, credentials.

    Raises:
        ValueError: the options name no project or no region, or the extra `dataflow` is not installed.
    """

    def __init__(self, options: Any) -> None:
        from apache_beam.internal.gcp.auth import get_service_credentials
        from apache_beam.options.pipeline_options import GoogleCloudOptions

        try:
            from google.auth.credentials import AnonymousCredentials
            from google.cloud import dataflow
        except ImportError as error:
            needs = "pip install '.[dataflow]' in the checkout"
            raise ValueError(f"--runner {RUNNER} needs the extra dataflow: {needs} ({error})") from error
        named = options.view_as(GoogleCloudOptions)
        if not named.project or not named.region:
            raise ValueError("Dataflow wants --project and --region")
        self._api, self.project, self.region = dataflow, str(named.project), str(named.region)
        self._given_name = named.job_name
        self.is_template = bool(named.template_location)
        """Whether the options ask for the job's graph alone, as Google's launcher of templates does."""
        credentials = None if named.no_auth else get_service_credentials(options)
        credentials = credentials or AnonymousCredentials()  # type: ignore[no-untyped-call]
        self._jobs = dataflow.JobsV1Beta3Client(credentials=credentials)
        self._messages = dataflow.MessagesV1Beta3Client(credentials=credentials)

    def name_for(self, root: str) -> str:
        """Return the name of the job of a data set: the flag's, else one that is the same for each start.

        Dataflow runs one job of a name at a time.
        """
        return str(self._given_name or f"sfumato-preprocess-{hashlib.sha256(root.encode()).hexdigest()[:16]}")

    def active(self, name: str) -> DataflowJob | None:
        """Return the job of this name that has not ended, if there is one."""
        request = self._api.ListJobsRequest(
            project_id=self.project, location=self.region, filter=self._api.ListJobsRequest.Filter.ACTIVE
        )
        found = self._ask(lambda: [job for job in self._jobs.list_jobs(request) if job.name == name])
        going = [job for job in found if job.current_state.name not in _ENDED]
        return DataflowJob(self.project, self.region, name, going[0].id) if going else None

    def is_active(self, job: DataflowJob) -> bool:
        """Whether a job has not ended. One that Dataflow does not know any more has."""
        from google.api_core.exceptions import NotFound

        try:
            return self._state(job) not in _ENDED
        except NotFound:
            return False

    def wait(self, job: DataflowJob) -> str:
        """Wait until a job ends; return "" if it is done, else one line that says how it ended and its last error."""
        while (state := self._state(job)) not in _ENDED:
            time.sleep(POLL_SECONDS)
        if state == _DONE:
            return ""
        ended = state.removeprefix("JOB_STATE_").lower()
        return f"Dataflow job {job.id} {ended}: {self._last_error(job)}; see {job.console}"

    def _state(self, job: DataflowJob) -> str:
        request = self._api.GetJobRequest(project_id=job.project, location=job.region, job_id=job.id)
        return str(self._ask(lambda: self._jobs.get_job(request)).current_state.name)

    def _last_error(self, job: DataflowJob) -> str:
        request = self._api.ListJobMessagesRequest(
            project_id=job.project,
            location=job.region,
            job_id=job.id,
            minimum_importance=self._api.JobMessageImportance.JOB_MESSAGE_ERROR,
        )
        texts = [message.message_text for message in self._ask(lambda: [*self._messages.list_job_messages(request)])]
        return one_line(texts[-1].strip().splitlines()[-1]) if texts and texts[-1].strip() else "it gives no reason"

    def _ask(self, action: Any) -> Any:
        """Return `action()`. Raises OSError for what Dataflow refuses, except that there is no such job."""
        from google.api_core.exceptions import GoogleAPICallError, NotFound

        try:
            return action()
        except NotFound:
            raise
        except GoogleAPICallError as error:
            raise OSError(f"Dataflow in {self.project}, {self.region}: {one_line(error)}") from error
