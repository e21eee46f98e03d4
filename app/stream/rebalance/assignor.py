"""Who gets which partition: Faust's own answer, or no partition for anybody while the topics' partition counts differ.

A state lies in the partition of its device's records. When the input topic has more partitions than the changelog,
Faust would hand out both as if they had nothing to do with each other.
"""

from typing import Any

import faust
from faust.assignor.client_assignment import ClientAssignment
from faust.assignor.partition_assignor import PartitionAssignor


class EqualCountsAssignor(PartitionAssignor):
    """Compares the topics that the group reads; `hold` is for the topics that the group only writes."""

    def __init__(self, app: faust.App, replicas: int = 0) -> None:
        super().__init__(app, replicas)
        self.hold = False  # somebody has seen that topics differ

    def _perform_assignment(self, cluster: Any, member_metadata: Any) -> Any:
        read = {topic for metadata in member_metadata.values() for topic in metadata.subscription}
        counts = {len(cluster.partitions_for_topic(topic) or ()) for topic in read} - {0}
        if len(counts) <= 1 and not self.hold:
            return super()._perform_assignment(cluster, member_metadata)
        self._update_member_urls({member: self._get_client_metadata(meta) for member, meta in member_metadata.items()})
        nothing = {member: ClientAssignment(actives={}, standbys={}) for member in member_metadata}
        return self._protocol_assignments(
            nothing, self._get_changelog_distribution(nothing), self._get_external_topic_distribution(nothing), {}
        )
