"""Emit OpenLineage events when a run starts, completes or fails, for collectors such as Marquez or DataHub.

Events are always appended to var/lineage/events.ndjson, and sent to OPENLINEAGE_URL where that is set. An event that
cannot be written or sent is logged; it never fails a training run.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from models.card import DatasetInfo
from training.progress import ProgressReporter
from training.tracking.mlflow_registry import git_commit

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

URL_VARIABLE = "OPENLINEAGE_URL"
NAMESPACE = "yuheng"
PRODUCER = "urn:yuheng:training"
REPOSITORY_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class LineageEmitter:
    """Emit the events of one run. run_id: its id in MLflow; job: the model's name."""

    var: Path
    reporter: ProgressReporter
    run_id: str
    job: str
    product: str

    def started(self) -> None:
        """Emit START."""
        self._emit("START", [], [])

    def completed(self, data: Sequence[DatasetInfo], bundle: Path, digest: str) -> None:
        """Emit COMPLETE. bundle: its folder, <model>/<version>; digest: SHA-256 of the bundle."""
        self._emit("COMPLETE", data, [_output_dataset(bundle, digest)])

    def failed(self, data: Sequence[DatasetInfo], reason: str) -> None:
        """Emit FAIL with the reason."""
        self._emit("FAIL", data, [], reason)

    def _emit(self, kind: str, data: Sequence[DatasetInfo], outputs: list[OutputDataset], reason: str = "") -> None:
        from openlineage.client.serde import Serde

        event = self._build_event(kind, data, outputs, reason)
        file = self.var / "lineage" / "events.ndjson"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as out:
                out.write(Serde.to_json(event) + "\n")
        except OSError as error:
            self.reporter.log(f"  {file}: the event could not be written ({error.strerror})", style="yellow")
        if url := os.environ.get(URL_VARIABLE):
            self._send(event, url)

    def _build_event(
        self, kind: str, data: Sequence[DatasetInfo], outputs: list[OutputDataset], reason: str
    ) -> RunEvent:
        from openlineage.client import event_v2, facet_v2
        from openlineage.client.facet_v2 import error_message_run, source_code_location_job

        facet_v2.set_producer(PRODUCER)
        job: dict[str, Any] = {}
        if version := git_commit():
            facet_type = source_code_location_job.SourceCodeLocationJobFacet
            job["sourceCodeLocation"] = facet_type(type="git", url=_repository_url(), version=version)
        failure: dict[str, facet_v2.RunFacet] = {}
        if reason:
            failure["errorMessage"] = error_message_run.ErrorMessageRunFacet(reason, "python")
        return event_v2.RunEvent(
            eventTime=datetime.now(UTC).isoformat(),
            eventType=event_v2.RunState(kind),
            producer=PRODUCER,
            run=event_v2.Run(str(UUID(self.run_id)), failure),
            job=event_v2.Job(NAMESPACE, f"{self.product}.{self.job}", job),
            inputs=[_input_dataset(source) for source in data],
            outputs=outputs,
        )

    def _send(self, event: RunEvent, url: str) -> None:
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.http import HttpConfig, HttpTransport

        retry = {"total": 1, "backoff_factor": 0.1, "allowed_methods": ["POST"]}
        try:
            OpenLineageClient(transport=HttpTransport(HttpConfig(url=url, timeout=3.0, retry=retry))).emit(event)
        except Exception as error:  # whatever a collector does, the run continues
            self.reporter.log(
                f"  {URL_VARIABLE}: the event was not accepted ({type(error).__name__}); it is in the file",
                style="yellow",
            )


def _input_dataset(source: DatasetInfo) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, input_statistics_input_dataset, tags_dataset

    facts = {
        "sha256": source.sha256,
        "source": source.source,
        "licence": source.licence,
        "split_sha256": source.split_sha256,
    }
    facts |= {"simulated": str(source.simulated).lower()}
    tags = [tags_dataset.TagsDatasetFacetFields(key, value, "card") for key, value in facts.items() if value]
    tags += [
        tags_dataset.TagsDatasetFacetFields("authorisation", authorisation, "card")
        for authorisation in source.authorisations
    ]
    facets = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(source.sha256),
        "tags": tags_dataset.TagsDatasetFacet(tags),
    }
    rows = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=source.rows)
    return InputDataset(NAMESPACE, source.name, {"inputStatistics": rows}, facets=facets)


def _output_dataset(bundle: Path, digest: str) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, tags_dataset

    facets = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(bundle.name),
        "tags": tags_dataset.TagsDatasetFacet([tags_dataset.TagsDatasetFacetFields("digest", digest, "signature")]),
    }
    return OutputDataset(NAMESPACE, f"bundles/{bundle.parent.name}", facets=facets)


def _repository_url() -> str:
    """The address of the code's repository without credentials, or the folder where there is none."""
    command = ["git", "-C", str(REPOSITORY_ROOT), "config", "--get", "remote.origin.url"]
    try:
        url = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        url = ""
    scheme, separator, remainder = url.partition("://")
    return f"{scheme}://{remainder.rpartition('@')[2]}" if separator else REPOSITORY_ROOT.as_uri()
