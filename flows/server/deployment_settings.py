"""The settings of a deployment that a person may edit in Prefect's UI, in the form in which prefect.yaml has them.

Read from the file and from the server they are equal where they mean the same.
"""

import json
from datetime import timedelta
from typing import Any

from prefect.client.schemas.objects import DeploymentSchedule
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from pydantic import TypeAdapter

Content = dict[str, Any]
QUEUE = "default"
RRULE_START = "DTSTART:20200101T000000\n"  # which the server puts in front of a rule without a start
KINDS = ("cron", "interval", "rrule")


def settings_in_file(entry: Content) -> Content:
    """The settings of an entry of prefect.yaml, with Prefect's defaults for what it leaves out.

    Raises:
        ValueError, TypeError, AttributeError: one of them is not what Prefect expects there.
    """
    pool = entry.get("work_pool") or {}
    described = {"description": entry["description"]} if entry.get("description") else {}  # else the flow's own
    return described | {
        "parameters": entry.get("parameters") or {},
        "tags": sorted(entry.get("tags") or []),
        "paused": bool(entry.get("paused")),
        "schedules": _sorted([_schedule_in_file(schedule) for schedule in entry.get("schedules") or []]),
        "concurrency_limit": _limit(entry.get("concurrency_limit")),
        "work_pool": {
            "name": pool.get("name"),
            "work_queue_name": pool.get("work_queue_name") or QUEUE,
            "job_variables": pool.get("job_variables") or {},
        },
    }


def settings_on_server(deployment: DeploymentResponse) -> Content:
    """The same of a deployment on the server."""
    options = deployment.concurrency_options
    limit = deployment.global_concurrency_limit
    return {
        "description": deployment.description,
        "parameters": deployment.parameters or {},
        "tags": sorted(deployment.tags or []),
        "paused": bool(deployment.paused),
        "schedules": _sorted([_schedule_on_server(schedule) for schedule in deployment.schedules or []]),
        "concurrency_limit": _limit({"limit": limit.limit, **_options(options)} if limit else None),
        "work_pool": {
            "name": deployment.work_pool_name,
            "work_queue_name": deployment.work_queue_name or QUEUE,
            "job_variables": deployment.job_variables or {},
        },
    }


def comparable(setting: Any) -> str:
    """A text that is the same for settings that mean the same: where an interval is anchored says little."""
    if isinstance(setting, list):
        setting = [
            {k: v for k, v in one.items() if k != "anchor_date"} if isinstance(one, dict) else one for one in setting
        ]
    return json.dumps(setting, sort_keys=True)


def _sorted(schedules: list[Content]) -> list[Content]:
    return sorted(schedules, key=comparable)


def _options(options: Any) -> Content:
    return options.model_dump(mode="json", exclude_none=True) if options else {}


def _limit(limit: Content | int | None) -> Content | None:
    if limit is None:
        return None
    content = {"limit": limit} if isinstance(limit, int) else dict(limit)
    if not content.get("limit"):
        raise ValueError("concurrency_limit must name a limit")
    return {"collision_strategy": "ENQUEUE", **{key: value for key, value in content.items() if value is not None}}


def _schedule_in_file(entry: Content) -> Content:
    kind = next((kind for kind in KINDS if entry.get(kind)), None)
    if kind is None:
        raise ValueError(f"a schedule must have one of {', '.join(KINDS)}")
    value = entry[kind]
    if kind == "interval":
        value = TypeAdapter(timedelta).validate_python(value).total_seconds()
    return _schedule(kind, value, entry)


def _schedule_on_server(found: DeploymentSchedule) -> Content:
    schedule = found.schedule
    more = {"active": found.active, "parameters": found.parameters, "slug": found.slug, "timezone": schedule.timezone}
    if isinstance(schedule, CronSchedule):
        return _schedule("cron", schedule.cron, {**more, "day_or": schedule.day_or})
    if isinstance(schedule, IntervalSchedule):
        anchored = {"anchor_date": schedule.anchor_date.isoformat()}
        return _schedule("interval", schedule.interval.total_seconds(), more) | anchored
    return _schedule("rrule", schedule.rrule.removeprefix(RRULE_START), more)


def _schedule(kind: str, value: Any, more: Content) -> Content:
    made = {kind: value, "timezone": more.get("timezone") or "UTC", "active": more.get("active", True) is not False}
    if kind == "cron" and more.get("day_or") is False:
        made["day_or"] = False
    return made | {key: more[key] for key in ("parameters", "slug") if more.get(key)}
