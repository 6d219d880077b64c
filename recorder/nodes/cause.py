"""Why a worker was lost, as a pure function of what is known: enums and exit statuses, never the text of a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OUT_OF_MEMORY = "out of memory"
NODE_LOST = "node lost"
PREEMPTED = "preempted"
EXCEPTION = "exception"
UNKNOWN = "unknown"

# Why the coordinator may have killed it.
_EXPELLED = ("hung", "silent", "state differs", "sum differs")
# NodeDeathInfo.Reason in Ray's common.proto: AUTOSCALER_DRAIN_PREEMPTED.
_DRAIN_PREEMPTED = 3


def cause(evidence: Mapping[str, Any]) -> str:
    """The cause of a worker's loss; `unknown` rather than a guess.

    `evidence` may hold, each absent or None where nothing is known of it:

    - `expelled`: why the coordinator killed it
    - `worker_exit_type`: the name of Ray's WorkerExitType
    - `actor`: `death_cause`, which context of Ray's ActorDeathCause is set, and `reason`, the name of an
      ActorDiedErrorContext.Reason
    - `node`: `alive`, and `death_reason`, the number of a NodeDeathInfo.Reason
    - `exception`: what it said of an exception that ended it
    - `exit_signal`, the name of a signal, or `exit_code`, a number
    - `draining`: `reason` and `deadline` of an announcement that its node will go

    The first that applies counts, for what comes before explains what comes after:

    1. Expelled: the kill that followed is ours. A reason that is none of the four known ones does not count.
    2. Ray's memory monitor killed it (`oom_context`, `NODE_OUT_OF_MEMORY`). A kill by the kernel for want of memory
       cannot be told from another SIGKILL and is one.
    3. Its node is dead, which ends every process there, in whatever way: `preempted` when Ray says so, else
       `node lost`. Ray says it of a node that was drained for preemption and then ended idle or died past its deadline.
       `draining` decides nothing by itself: a node may crash before its deadline, and a worker on a node that is to
       go may die of something else. A raylet that gets SIGTERM drains itself for preemption, so that an operator's
       stop of a node may count as one; Ray has no word to tell them apart.
    4. An exception that it reported, or with which its actor failed to start (`creation_task_failure_context`,
       `USER_ERROR`).
    5. The signal that killed it; else the code it returned.
    6. Unknown. `SYSTEM_ERROR` is there for every end that Ray did not see coming, and `INTENDED_SYSTEM_EXIT` and
       `RAY_KILL` do not say who wanted it: they are no causes.
    """
    actor, node = _part(evidence, "actor"), _part(evidence, "node")
    exit_type, death_cause = evidence.get("worker_exit_type"), actor.get("death_cause")
    if (reason := evidence.get("expelled")) in _EXPELLED:
        return f"expelled: {reason}"
    if exit_type == "NODE_OUT_OF_MEMORY" or death_cause == "oom_context":
        return OUT_OF_MEMORY
    if node.get("alive") is False:
        return PREEMPTED if node.get("death_reason") == _DRAIN_PREEMPTED else NODE_LOST
    if death_cause == "actor_died_error_context" and actor.get("reason") == "NODE_DIED":
        return NODE_LOST
    if evidence.get("exception") or exit_type == "USER_ERROR" or death_cause == "creation_task_failure_context":
        return EXCEPTION
    return _exit(evidence)


def _exit(evidence: Mapping[str, Any]) -> str:
    if name := evidence.get("exit_signal"):
        return f"signal {name}"
    if (code := evidence.get("exit_code")) is not None:
        return f"exit code {code}"
    return UNKNOWN


def _part(evidence: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = evidence.get(key)
    return part if isinstance(part, Mapping) else {}
