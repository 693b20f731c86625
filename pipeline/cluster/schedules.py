"""Runs that a KFP server starts by itself: when, and those that there are."""

import re
from datetime import timedelta
from typing import Any

from components.errors import UserError, find_one
from components.units import parse_duration
from pipeline.cluster.client import Server
from pipeline.cluster.submission import find_pipeline

_FIELD = re.compile(r"[0-9A-Za-z*/,?#-]+")


def cron_with_seconds(text: str) -> str:
    """A cron expression as the server reads it, with six fields of which the first is seconds. Raises UserError."""
    fields = text.split()
    if len(fields) not in (5, 6) or not all(_FIELD.fullmatch(field) for field in fields):
        raise UserError(
            f'--cron {text!r} must have five fields (minute, hour, day, month, weekday), such as "0 3 * * *" for three '
            "each night, or six with seconds first; times are UTC"
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def interval_seconds(text: str) -> int:
    """Return "12h" and the like in seconds. Raises UserError."""
    duration = parse_duration(text)
    if duration is None or duration < timedelta(minutes=1):
        raise UserError(f"--every {text!r} must be a time such as 30m, 12h, 1d or 1w")
    return int(duration.total_seconds())


def list_schedules(server: Server) -> list[dict[str, Any]]:
    """All of this pipeline, the newest first."""
    pipeline_id, found, token = find_pipeline(server), list[dict[str, Any]](), ""
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


def find_schedule(server: Server, given: str) -> dict[str, Any]:
    """The one of this name or id, or of an unambiguous beginning of an id. Raises UserError."""
    found = {one["schedule_id"]: one for one in list_schedules(server)}
    named = [one for one in found.values() if one["name"] == given]
    if len(named) == 1:
        return named[0]
    shown = {identity: f"{one['name']!r} ({identity[:8]})" for identity, one in found.items()}
    return found[find_one(given, found, "schedule of this pipeline", shown.__getitem__)]


def set_enabled(server: Server, schedule_id: str, *, enabled: bool) -> None:
    client = server.client
    server.call(client.enable_recurring_run if enabled else client.disable_recurring_run, schedule_id)


def delete_schedule(server: Server, schedule_id: str) -> None:
    """The runs that it started stay."""
    server.call(server.client.delete_recurring_run, schedule_id)


def _is_of(one: Any, pipeline_id: str) -> bool:
    reference = one.pipeline_version_reference
    return reference is not None and reference.pipeline_id == pipeline_id


def _shown(one: Any) -> dict[str, Any]:
    trigger = one.trigger
    cron = trigger.cron_schedule.cron if trigger and trigger.cron_schedule else ""
    every = trigger.periodic_schedule.interval_second if trigger and trigger.periodic_schedule else 0
    return {
        "schedule_id": str(one.recurring_run_id),
        "name": str(one.display_name or ""),
        "enabled": one.status == "ENABLED" or (one.status is None and one.mode == "ENABLE"),
        "cron": cron or "",
        "interval_seconds": int(every or 0),
        "parameters": dict(one.runtime_config.parameters or {}) if one.runtime_config else {},
    }
