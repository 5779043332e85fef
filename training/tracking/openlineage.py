"""A run told as OpenLineage events: it began, it was done, or it failed; for those who run Marquez or DataHub.

    var/lineage/events.ndjson     one event a line, always        OPENLINEAGE_URL     and there, where that is set

What cannot be told is said and passed over: no training fails for it.
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

from models.card import Data
from training.progress import Watch
from training.tracking.mlflow_registry import commit

if TYPE_CHECKING:
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

URL = "OPENLINEAGE_URL"
NAMESPACE = "yuheng"
PRODUCER = "urn:yuheng:training"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Events:
    """Of one run, `run` being its id in MLflow. job: the recipe's name; what: the product."""

    var: Path
    watch: Watch
    run: str
    job: str
    product: str

    def began(self) -> None:
        self._tell("START", [], [])

    def done(self, data: Sequence[Data], bundle: Path, digest: str) -> None:
        """bundle: <model>/<version>; digest: of the whole."""
        self._tell("COMPLETE", data, [_bundle(bundle, digest)])

    def failed(self, data: Sequence[Data], why: str) -> None:
        self._tell("FAIL", data, [], why)

    def _tell(self, kind: str, data: Sequence[Data], made: list[OutputDataset], why: str = "") -> None:
        from openlineage.client.serde import Serde

        event = self._event(kind, data, made, why)
        file = self.var / "lineage" / "events.ndjson"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as out:
                out.write(Serde.to_json(event) + "\n")
        except OSError as error:
            self.watch.say(f"  {file}: the event is not kept ({error.strerror})", style="yellow")
        if url := os.environ.get(URL):
            self._send(event, url)

    def _event(self, kind: str, data: Sequence[Data], made: list[OutputDataset], why: str) -> RunEvent:
        from openlineage.client import event_v2, facet_v2
        from openlineage.client.facet_v2 import error_message_run, source_code_location_job

        facet_v2.set_producer(PRODUCER)
        job: dict[str, Any] = {}
        if version := commit():
            location = source_code_location_job.SourceCodeLocationJobFacet
            job["sourceCodeLocation"] = location(type="git", url=_origin(), version=version)
        failure: dict[str, facet_v2.RunFacet] = {}
        if why:
            failure["errorMessage"] = error_message_run.ErrorMessageRunFacet(why, "python")
        return event_v2.RunEvent(
            eventTime=datetime.now(UTC).isoformat(),
            eventType=event_v2.RunState(kind),
            producer=PRODUCER,
            run=event_v2.Run(str(UUID(self.run)), failure),
            job=event_v2.Job(NAMESPACE, f"{self.product}.{self.job}", job),
            inputs=[_data(one) for one in data],
            outputs=made,
        )

    def _send(self, event: RunEvent, url: str) -> None:
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.http import HttpConfig, HttpTransport

        patience = {"total": 1, "backoff_factor": 0.1, "allowed_methods": ["POST"]}
        try:
            OpenLineageClient(transport=HttpTransport(HttpConfig(url=url, timeout=3.0, retry=patience))).emit(event)
        except Exception as error:  # whatever a collector does, the run goes on
            self.watch.say(
                f"  {URL}: the event was not taken ({type(error).__name__}); it is in the file", style="yellow"
            )


def _data(one: Data) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, input_statistics_input_dataset, tags_dataset

    told = {"sha256": one.sha256, "source": one.source, "licence": one.licence, "split_sha256": one.split_sha256}
    told |= {"simulated": str(one.simulated).lower()}
    tags = [tags_dataset.TagsDatasetFacetFields(key, value, "card") for key, value in told.items() if value]
    tags += [tags_dataset.TagsDatasetFacetFields("authorisation", given, "card") for given in one.authorisations]
    facets = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(one.sha256),
        "tags": tags_dataset.TagsDatasetFacet(tags),
    }
    rows = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=one.rows)
    return InputDataset(NAMESPACE, one.name, {"inputStatistics": rows}, facets=facets)


def _bundle(bundle: Path, digest: str) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, tags_dataset

    facets = {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(bundle.name),
        "tags": tags_dataset.TagsDatasetFacet([tags_dataset.TagsDatasetFacetFields("digest", digest, "signature")]),
    }
    return OutputDataset(NAMESPACE, f"bundles/{bundle.parent.name}", facets=facets)


def _origin() -> str:
    """Where the code comes from: the repository's own address without what signs in to it, else the folder."""
    command = ["git", "-C", str(ROOT), "config", "--get", "remote.origin.url"]
    try:
        found = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        found = ""
    scheme, mark, rest = found.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if mark else ROOT.as_uri()
