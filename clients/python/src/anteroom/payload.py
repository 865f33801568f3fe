"""Inputs and results: which Python value is which content type, and back.

| value                | is sent as                                       | and comes back as |
|----------------------|--------------------------------------------------|-------------------|
| `bytes` and its like | `application/octet-stream`                       | `bytes`           |
| `str`                | `text/plain; charset=utf-8`                      | `str`             |
| anything else        | `application/json` (`None` is `null`, no NaN)    | what JSON makes of it |
| `Payload`            | its own content type, byte for byte              | by its type: JSON is parsed, `text/…` is `str`, all else `bytes` |
"""

import json
from dataclasses import dataclass
from email.message import Message
from typing import Any

OCTETS = "application/octet-stream"
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Payload:
    """Bytes and their content type, as they are sent and stored."""

    data: bytes
    content_type: str = OCTETS

    @staticmethod
    def of(value: Any, content_type: str | None = None) -> "Payload":
        """Returns a value as it is sent.

        With a content type of its own a value of `bytes` or `str` is sent as it is, under that type;
        anything else can only be JSON of some sort.

        Raises `TypeError` or `ValueError` where a value is no JSON.
        """
        if isinstance(value, Payload):
            return value if content_type is None else Payload(value.data, content_type)
        if isinstance(value, bytes | bytearray | memoryview):
            return Payload(bytes(value), content_type or OCTETS)
        if isinstance(value, str):
            return Payload(value.encode(), content_type or TEXT)
        if content_type is not None and not _is_json(_media_type(content_type)[0]):
            raise TypeError(
                f"a {type(value).__name__} is sent as JSON, which {content_type} is not: "
                "give bytes or str"
            )
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return Payload(text.encode(), content_type or JSON)

    @property
    def value(self) -> Any:
        """The value: JSON is parsed, `text/…` is a `str`, everything else `bytes`.

        Raises `ValueError` where the bytes are not what their content type says.
        """
        media_type, charset = _media_type(self.content_type)
        if _is_json(media_type):
            return json.loads(self.data)
        if media_type.startswith("text/"):
            try:
                return self.data.decode(charset)
            except LookupError as error:
                raise ValueError(f"{self.content_type} names no known charset") from error
        return self.data


def _is_json(media_type: str) -> bool:
    return media_type == JSON or media_type.endswith("+json")


def _media_type(content_type: str) -> tuple[str, str]:
    """Returns the type without parameters in lower case, and the charset."""
    message = Message()
    message["Content-Type"] = content_type
    return message.get_content_type(), message.get_content_charset("utf-8")
