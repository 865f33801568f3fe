"""What no schema can say about requests, said before they are sent."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import schemathesis

KEY = re.compile(r'("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]([ -~]{0,253}[!-~])?)')


WHOLE = (
    "priority", "max_attempts", "max_depth", "max_concurrency", "group_concurrency", "limit",
)


def is_instant(text):
    """Tell whether a text is an instant. What is none stays as it is."""
    try:
        return datetime.fromisoformat(text) is not None
    except (TypeError, ValueError):
        return False


@schemathesis.hook
def before_call(context, case, kwargs):
    """Move times to where they are allowed, and keep requests from excluding each other."""
    query = case.query or {}
    bodies = case.body if isinstance(case.body, list) else [case.body]
    for options in [query, *(body for body in bodies if isinstance(body, dict))]:
        for name in ("run_at", "start_before"):
            if is_instant(options.get(name)):
                ahead = datetime.now(UTC) + timedelta(hours=1 if name == "start_before" else 0)
                options[name] = ahead.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        # To a schema 7.0 is a whole number; the API wants it written as one.
        rate = options.get("rate_limit")
        for part in (options, rate if isinstance(rate, dict) else {}):
            for name in WHOLE:
                if isinstance(part.get(name), float) and part[name].is_integer():
                    part[name] = int(part[name])
        # Either will do; both are refused, which the tests of the server look at.
        if is_instant(options.get("run_at")) and "delay" in options:
            del options["run_at"]
        # When to try again, and never: both are refused, which the tests of the server look at.
        if options.get("retry") is False:
            options.pop("retry_after", None)
    # One key for two different requests is refused, which the tests of the server look at.
    headers = case.headers
    if headers is not None and KEY.fullmatch(str(headers.get("Idempotency-Key", ""))):
        headers["Idempotency-Key"] = f'"{uuid.uuid4()}"'
    # A key is of a single envelope: with an array or a stream it is refused.
    is_many = case.operation.path == "/v1/jobs" and not isinstance(case.body, dict)
    if is_many and case.method == "POST" and headers is not None:
        headers.pop("Idempotency-Key", None)
    # Waits are kept short: only what is over in milliseconds is waited for. A call waits for 30 s
    # where it does not say otherwise, or nothing that is understood.
    if headers is not None:
        is_call = case.operation.path.endswith("/call")
        if is_call or re.fullmatch("wait=[0-9]+", str(headers.get("Prefer", ""))):
            is_quick = case.method == "POST" and "delay" not in query
            is_quick = is_quick and (case.path_parameters or {}).get("task") != "later"
            headers["Prefer"] = "wait=1" if is_quick else "wait=0"
