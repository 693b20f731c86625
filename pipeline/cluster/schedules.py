"""Recurring runs on a KFP server: parse their times, list, find, pause and delete them."""

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from components.errors import UserError, find_one
from components.units import parse_duration
from pipeline.cluster.client import Server
from pipeline.cluster.submission import find_pipeline

if TYPE_CHECKING:
    from pydantic import JsonValue

_FIELD = re.compile(r"[0-9A-Za-z*/,?#-]+")


def cron_with_seconds(text: str) -> str:
    """Return a cron expression with the six fields that the server expects, seconds first. Raises UserError."""
    fields = text.split()
    if len(fields) not in (5, 6) or not all(_FIELD.fullmatch(field) for field in fields):
        raise UserError(
            f'--cron {text!r} must have five fields (minute, hour, day, month, weekday), such as "0 3 * * *" for 03:00 '
            "every day, or six with seconds first; times are UTC"
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def interval_seconds(text: str) -> int:
    """Parse a duration such as "12h" and return it in seconds. Raises UserError."""
    duration = parse_duration(text)
    if duration is None or duration < timedelta(minutes=1):
        raise UserError(f"--every {text!r} must be a duration such as 30m, 12h, 1d or 1w, and at least 1m")
    return int(duration.total_seconds())


@dataclass(frozen=True)
class Schedule:
    """A schedule of this pipeline on the server. It has a cron expression or an interval."""

    schedule_id: str
    name: str
    enabled: bool
    cron: str
    interval_seconds: int
    parameters: "dict[str, JsonValue]"


def list_schedules(server: Server) -> list[Schedule]:
    """Return all schedules of this pipeline, newest first."""
    pipeline_id, found, token = find_pipeline(server), list[Schedule](), ""
    while pipeline_id:
        page = server.call(
            server.client.list_recurring_runs,
            page_token=token,
            page_size=100,
            sort_by="created_at desc",
            namespace=server.namespace,
        )
        found += [_shown(one) for one in page.recurring_runs or [] if _is_of(one, pipeline_id)]
        token = page.next_page_token or ""
        if not token:
            break
    return found


def find_schedule(server: Server, given: str) -> Schedule:
    """Return the schedule with this name, id or unique id prefix. Raises UserError."""
    found = {one.schedule_id: one for one in list_schedules(server)}
    named = [one for one in found.values() if one.name == given]
    if len(named) == 1:
        return named[0]
    shown = {identity: f"{one.name!r} ({identity[:8]})" for identity, one in found.items()}
    return found[find_one(given, found, "schedule of this pipeline", shown.__getitem__)]


def set_enabled(server: Server, schedule_id: str, *, enabled: bool) -> None:
    client = server.client
    server.call(client.enable_recurring_run if enabled else client.disable_recurring_run, schedule_id)


def delete_schedule(server: Server, schedule_id: str) -> None:
    """Delete a schedule, but keep the runs that it started."""
    server.call(server.client.delete_recurring_run, schedule_id)


def _is_of(one: Any, pipeline_id: str) -> bool:
    reference = one.pipeline_version_reference
    return reference is not None and reference.pipeline_id == pipeline_id


def _shown(one: Any) -> Schedule:
    trigger = one.trigger
    cron = trigger.cron_schedule.cron if trigger and trigger.cron_schedule else ""
    every = trigger.periodic_schedule.interval_second if trigger and trigger.periodic_schedule else 0
    return Schedule(
        schedule_id=str(one.recurring_run_id),
        name=str(one.display_name or ""),
        enabled=one.status == "ENABLED" or (one.status is None and one.mode == "ENABLE"),
        cron=cron or "",
        interval_seconds=int(every or 0),
        parameters=dict(one.runtime_config.parameters or {}) if one.runtime_config else {},
    )
