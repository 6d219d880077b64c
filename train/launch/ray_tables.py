"""What Ray's own tables say of an actor: whether it runs, and what became of it."""

from __future__ import annotations

from typing import Any


def is_running(handle: Any) -> bool:
    """Whether Ray's tables know a process of the actor."""
    import ray._private.state

    return bool(ray._private.state.state.actor_table(handle._actor_id.hex()).get("State") == "ALIVE")


def evidence_of(handle: Any) -> dict[str, Any]:
    """What Ray's tables say of the end of an actor and of its node: enums by name, messages beside them."""
    import ray._private.state
    from ray.core.generated import common_pb2, gcs_pb2

    common: Any = common_pb2
    gcs: Any = gcs_pb2
    state = ray._private.state.state
    table = state.actor_table(handle._actor_id.hex())
    evidence: dict[str, Any] = {}
    cause = table.get("DeathCause")
    if cause is not None and cause.WhichOneof("context"):
        kind = cause.WhichOneof("context")
        context = getattr(cause, kind)
        evidence["actor"] = {"death_cause": kind, "message": getattr(context, "error_message", "")[:500]}
        if kind == "actor_died_error_context":
            evidence["actor"]["reason"] = type(context).Reason.Name(context.reason)
    for data in state._connect_and_get_accessor().get_worker_table():
        row = gcs.WorkerTableData.FromString(data)
        is_it = row.pid == table.get("Pid") and row.worker_address.ip_address == table["Address"]["IPAddress"]
        if is_it and not row.is_alive:
            evidence["worker_exit_type"] = common.WorkerExitType.Name(row.exit_type)
            evidence["worker_exit_detail"] = row.exit_detail[:500]
    for node in ray.nodes():
        if node["NodeID"] == table["Address"]["NodeID"]:
            evidence["node"] = {
                "id": node["NodeID"],
                "alive": node["Alive"],
                "death_reason": node.get("DeathReason"),
                "death_message": node.get("DeathReasonMessage"),
            }
    return evidence
