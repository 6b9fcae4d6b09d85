"""Where events go: never to standard output, and to the logger that is configured."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from catalyst_seen._logging import log

from ..support.scripts import Run

EVENT = "purge_failed location=/a/b.db error=\"it's\\nfull\" empty='' rows=3"


def log_one() -> None:
    """Log an event with data of several kinds."""
    log(
        "warning",
        "purge_failed",
        location="/a/b.db",
        error="it's\nfull",
        empty="",
        rows=3,
    )


def test_warning_without_configuration(run_script: Run) -> None:
    """A warning reaches standard error as one line, and structlog is not imported."""
    script = """
        import sys
        from catalyst_seen._logging import log
        log("warning", "file_gone", location="/a/b.db")
        log("info", "schema_upgraded", rows=3)
        assert "structlog" not in sys.modules
    """
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("", "file_gone location=/a/b.db\n")


def test_structlog_that_is_only_imported(run_script: Run) -> None:
    """A program that merely imports structlog did not choose it."""
    script = """
        import structlog
        from catalyst_seen._logging import log
        log("warning", "file_gone", location="/a/b.db")
    """
    done = run_script(script)
    assert (done.stdout, done.stderr) == ("", "file_gone location=/a/b.db\n")


def test_line_and_attributes(caplog: pytest.LogCaptureFixture) -> None:
    """A record is one readable line; its data are attributes under safe names."""
    log_one()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("catalyst_seen", logging.WARNING)
    assert record.getMessage() == EVENT
    assert record.funcName == "log_one"
    assert vars(record)["seen_event"] == "purge_failed"
    assert vars(record)["seen_rows"] == 3
    assert vars(record)["seen_error"] == "it's\nfull"


def test_names_that_a_record_has(caplog: pytest.LogCaptureFixture) -> None:
    """Data under the names of a record's own attributes are logged as well."""
    log("error", "failed", name="a", message="b", args="c")
    (record,) = caplog.records
    assert record.getMessage() == "failed name=a message=b args=c"


def test_configured_structlog(caplog: pytest.LogCaptureFixture) -> None:
    """A program that has configured structlog gets the events there, and only there."""
    structlog.configure()
    with capture_logs() as entries:
        log_one()
    assert entries == [
        {
            "event": "purge_failed", "log_level": "warning", "location": "/a/b.db",
            "error": "it's\nfull", "empty": "", "rows": 3,
        }
    ]  # fmt: skip
    assert not caplog.records


def test_level_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    """An event below the level of the logger is not even formatted."""

    class Value:
        def __str__(self) -> str:
            raise AssertionError

    caplog.set_level(logging.ERROR, "catalyst_seen")
    log("warning", "event", value=Value())
    assert not caplog.records


def test_logger_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logger that fails does not fail the call that it reports on."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("closed")

    monkeypatch.setattr(logging.getLogger("catalyst_seen"), "log", fail)
    log_one()
    structlog.configure(logger_factory=fail)
    log_one()
