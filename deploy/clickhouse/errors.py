"""ClickHouse's errors: code, name, text, and the HTTP status that its interface gives them."""

from __future__ import annotations

import re

_ERROR = re.compile(r"Code: (\d+)\. ")
_ERROR_NAME = re.compile(r"\(([A-Z][A-Z0-9_]+)\)")

_NOT_FOUND = {
    "UNKNOWN_TABLE", "UNKNOWN_FUNCTION", "UNKNOWN_IDENTIFIER", "UNKNOWN_TYPE", "UNKNOWN_STORAGE", "UNKNOWN_DATABASE",
    "UNKNOWN_SETTING", "UNKNOWN_AGGREGATE_FUNCTION", "UNKNOWN_FORMAT", "UNKNOWN_DATABASE_ENGINE", "UNKNOWN_ROLE",
    "UNKNOWN_TYPE_OF_QUERY", "UNKNOWN_DIRECTION_OF_SORTING",
}  # fmt: skip
_BAD_REQUEST = {
    "SYNTAX_ERROR", "TYPE_MISMATCH", "INCORRECT_DATA", "BAD_ARGUMENTS", "ILLEGAL_TYPE_OF_ARGUMENT", "ILLEGAL_COLUMN",
    "NUMBER_OF_ARGUMENTS_DOESNT_MATCH", "NO_SUCH_COLUMN_IN_TABLE", "DUPLICATE_COLUMN", "UNKNOWN_QUERY_PARAMETER",
    "BAD_QUERY_PARAMETER", "NUMBER_OF_COLUMNS_DOESNT_MATCH", "NO_COMMON_TYPE", "TOO_LARGE_STRING_SIZE",
    "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", "ATTEMPT_TO_READ_AFTER_EOF", "UNEXPECTED_END_OF_FILE", "NOT_AN_AGGREGATE",
}  # fmt: skip
_REFUSED = {"AUTHENTICATION_FAILED", "REQUIRED_PASSWORD", "WRONG_PASSWORD", "UNKNOWN_USER", "ACCESS_DENIED"}


class EngineError(Exception):
    """The engine's refusal as ClickHouse words it: `Code: 60. DB::Exception: … (UNKNOWN_TABLE)`."""

    def __init__(self, code: int, name: str, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.name = name

    @classmethod
    def of(cls, code: int, name: str, message: str) -> EngineError:
        """An error of the door's own in the same form."""
        return cls(code, name, f"Code: {code}. DB::Exception: {message} ({name})")

    @classmethod
    def read(cls, exc: Exception) -> EngineError:
        """Reads code and name from an exception of chdb's."""
        text = str(exc)
        match = _ERROR.search(text)
        if match is None:
            return cls.of(1002, "UNKNOWN_EXCEPTION", text.strip() or type(exc).__name__)
        text = text[match.start() :].strip()
        names = _ERROR_NAME.findall(text)
        return cls(int(match.group(1)), names[-1] if names else "", text)


def http_status(error: EngineError) -> int:
    """The status that ClickHouse's HTTP interface gives for an error."""
    if error.name in _REFUSED:
        return 403
    if error.name in _NOT_FOUND:
        return 404
    if error.name in _BAD_REQUEST or error.name.startswith(("CANNOT_PARSE", "CANNOT_READ")):
        return 400
    return 500
