"""What no schema can say about requests, said before they are sent."""

import re
import uuid
from datetime import UTC, datetime, timedelta

import schemathesis

KEY = re.compile(r'("([ !#-\[\]-~]|\\["\\]){1,255}"|[!#-~]([ -~]{0,253}[!-~])?)')


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
    for name in ("run_at", "start_before"):
        if is_instant(query.get(name)):
            ahead = datetime.now(UTC) + timedelta(hours=1 if name == "start_before" else 0)
            query[name] = ahead.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    # Either will do; both are refused, which the tests of the server look at.
    if is_instant(query.get("run_at")) and "delay" in query:
        del query["run_at"]
    # One key for two different requests is refused, which the tests of the server look at.
    headers = case.headers
    if headers is not None and KEY.fullmatch(str(headers.get("Idempotency-Key", ""))):
        headers["Idempotency-Key"] = f'"{uuid.uuid4()}"'
    # Waits are kept short: only what is over in milliseconds is waited for. A call waits for 30 s
    # where it does not say otherwise, or nothing that is understood.
    if headers is not None:
        is_call = case.operation.path.endswith("/call")
        if is_call or re.fullmatch("wait=[0-9]+", str(headers.get("Prefer", ""))):
            is_quick = case.method == "POST" and "delay" not in query
            is_quick = is_quick and (case.path_parameters or {}).get("task") != "later"
            headers["Prefer"] = "wait=1" if is_quick else "wait=0"
