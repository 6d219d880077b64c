from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.nodes.cause import cause

DIED = "actor_died_error_context"
DEAD = {"alive": False, "death_reason": 2}
PREEMPTED = {"alive": False, "death_reason": 3}
DRAINING = {"reason": "DRAIN_NODE_REASON_PREEMPTION", "deadline": "2026-11-21T08:00:00.000000Z"}
KILLED = {"exit_signal": "SIGKILL"}

CASES: list[tuple[dict[str, Any], str]] = [
    # Nothing is known, or nothing that says why.
    ({}, "unknown"),
    ({"exit_signal": None, "exit_code": None, "node": None, "actor": None, "exception": None}, "unknown"),
    ({"worker_exit_type": "SYSTEM_ERROR"}, "unknown"),
    ({"worker_exit_type": "INTENDED_SYSTEM_EXIT"}, "unknown"),
    ({"worker_exit_type": "INTENDED_USER_EXIT"}, "unknown"),
    ({"actor": {"death_cause": DIED, "reason": "WORKER_DIED"}, "worker_exit_type": "SYSTEM_ERROR"}, "unknown"),
    ({"actor": {"death_cause": DIED, "reason": "RAY_KILL"}}, "unknown"),
    ({"actor": {"death_cause": DIED, "reason": "OWNER_DIED"}}, "unknown"),
    ({"actor": {"death_cause": DIED, "reason": "OUT_OF_SCOPE"}}, "unknown"),
    ({"actor": {"death_cause": "runtime_env_failed_context"}}, "unknown"),
    ({"actor": {"death_cause": "actor_unschedulable_context"}}, "unknown"),
    ({"node": {"alive": True, "death_reason": 0}}, "unknown"),
    ({"node": {"death_reason": 3}}, "unknown"),
    ({"expelled": "slow"}, "unknown"),
    # How the process ended.
    (KILLED, "signal SIGKILL"),
    ({"exit_signal": "SIGSEGV"}, "signal SIGSEGV"),
    ({"exit_code": 3}, "exit code 3"),
    ({"exit_code": 0}, "exit code 0"),
    (KILLED | {"worker_exit_type": "SYSTEM_ERROR"}, "signal SIGKILL"),
    (KILLED | {"actor": {"death_cause": DIED, "reason": "RAY_KILL"}}, "signal SIGKILL"),
    (KILLED | {"node": {"alive": True}}, "signal SIGKILL"),
    # An exception, whatever the process did afterwards.
    ({"exception": {"type": "ValueError"}}, "exception"),
    ({"exception": {"type": "ValueError"}, "exit_code": 1}, "exception"),
    ({"exception": {"type": "ValueError"}} | KILLED, "exception"),
    ({"worker_exit_type": "USER_ERROR", "exit_code": 1}, "exception"),
    ({"actor": {"death_cause": "creation_task_failure_context"}, "exit_code": 1}, "exception"),
    # The node, which takes all its processes with it.
    ({"node": DEAD}, "node lost"),
    ({"node": {"alive": False}}, "node lost"),
    ({"node": {"alive": False, "death_reason": 0}}, "node lost"),
    ({"node": {"alive": False, "death_reason": 1}}, "node lost"),
    ({"node": {"alive": False, "death_reason": 4}}, "node lost"),
    ({"node": DEAD} | KILLED, "node lost"),
    ({"node": DEAD, "exit_code": 1}, "node lost"),
    ({"node": DEAD, "exception": {"type": "ConnectionError"}}, "node lost"),
    ({"node": DEAD, "worker_exit_type": "SYSTEM_ERROR"}, "node lost"),
    ({"actor": {"death_cause": DIED, "reason": "NODE_DIED"}}, "node lost"),
    ({"actor": {"death_cause": DIED, "reason": "NODE_DIED"}, "exit_code": 1}, "node lost"),
    # Preemption only in Ray's own word for it; announced is not carried out.
    ({"node": PREEMPTED}, "preempted"),
    ({"node": PREEMPTED, "draining": DRAINING} | KILLED, "preempted"),
    ({"actor": {"death_cause": DIED, "reason": "NODE_DIED"}, "node": PREEMPTED}, "preempted"),
    ({"draining": DRAINING}, "unknown"),
    ({"draining": DRAINING, "node": DEAD}, "node lost"),
    ({"draining": DRAINING, "node": {"alive": True}} | KILLED, "signal SIGKILL"),
    ({"draining": DRAINING, "exception": {"type": "ValueError"}}, "exception"),
    # Out of memory only by Ray's monitor, which kills with SIGKILL too.
    ({"worker_exit_type": "NODE_OUT_OF_MEMORY"} | KILLED, "out of memory"),
    ({"actor": {"death_cause": "oom_context"}} | KILLED, "out of memory"),
    ({"worker_exit_type": "NODE_OUT_OF_MEMORY", "node": DEAD}, "out of memory"),
    # Expelled: what came then was our doing.
    ({"expelled": "hung"} | KILLED, "expelled: hung"),
    ({"expelled": "silent", "node": DEAD}, "expelled: silent"),
    ({"expelled": "state differs", "exception": {"type": "ConnectionError"}}, "expelled: state differs"),
    ({"expelled": "sum differs", "worker_exit_type": "NODE_OUT_OF_MEMORY"}, "expelled: sum differs"),
    ({"expelled": "slow"} | KILLED, "signal SIGKILL"),
    # What is written by others may have any shape.
    ({"expelled": {"reason": "hung"}, "node": "dead", "actor": ["oom_context"]}, "unknown"),
]


@pytest.mark.parametrize(("evidence", "expected"), CASES)
def test_the_cause_is_what_the_evidence_says_and_no_more(evidence: dict[str, Any], expected: str) -> None:
    before = copy.deepcopy(evidence)
    assert cause(evidence) == expected
    assert evidence == before


def test_the_text_of_a_message_says_nothing() -> None:
    text = "missed too many heartbeats; out of memory (OOM); preempted; SIGKILL; exit code 3; exception"
    actor = {"death_cause": DIED, "reason": "WORKER_DIED", "error_message": text}
    node = {"alive": True, "death_reason_message": text}
    assert cause({"actor": actor, "node": node, "exit_detail": text, "worker_exit_type": "SYSTEM_ERROR"}) == "unknown"


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.text(), st.dictionaries(st.text(), st.integers()))
KEYS = ("expelled", "worker_exit_type", "actor", "node", "exception", "exit_signal", "exit_code", "draining")


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_it_never_fails(evidence: dict[str, Any]) -> None:
    assert cause(evidence)


def test_the_words_are_ray_s() -> None:
    common = pytest.importorskip("ray.core.generated.common_pb2")
    assert common.NodeDeathInfo.Reason.Value("AUTOSCALER_DRAIN_PREEMPTED") == 3
    assert {"NODE_OUT_OF_MEMORY", "USER_ERROR"} < set(common.WorkerExitType.keys())
    contexts = {field.name for field in common.ActorDeathCause.DESCRIPTOR.oneofs_by_name["context"].fields}
    assert {"oom_context", "creation_task_failure_context", DIED} < contexts
    assert "NODE_DIED" in common.ActorDiedErrorContext.Reason.keys()  # noqa: SIM118
