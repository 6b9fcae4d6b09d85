"""The backend on PostgreSQL.

=================  ============================================================
``backend``        ``PostgresBackend``: verbs become batches, retried by ``_retry``
``batch``          operations become parameters, records become results
``queries``        every statement on rows; the state machine and the TTL in SQL
``schema``         creation and version of the tables
``pool``           connections, their settings, cancellation
``maintenance``    purge, cleanup and counts
``health``         ``check()``
``errors``         translation of the driver's errors
``dsn``            identifiers, and URLs without passwords
=================  ============================================================
"""

from __future__ import annotations

from .backend import PostgresBackend

__all__ = ["PostgresBackend"]
