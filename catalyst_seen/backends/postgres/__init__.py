"""The backend on PostgreSQL.

=================  ============================================================
``backend``        ``PostgresBackend``: verbs become batches, retried by ``_retry``
``batch``          the statements of a batch
``results``        records become results
``encoding``       operations become parameters
``shapes``         the queries of the parameters
``queries``        the statements of a batch; the state machine and the TTL in SQL
``details``        the parts of statements that concern notes and errors
``locks``          the keys that other transactions have locked
``removals``       purge, cleanup, clear and rename, as requests
``maintenance``    the same, as pages
``inspection``     counts, lists and records
``scans``          the statements on whole namespaces
``listings``       the listings of sources, as requests
``observation``    one attempt to record a listing
``sources``        the statements on sources and on the keys that they list
``tables``         the tables, in SQL
``schema``         creation and version of the tables
``upgrade``        from the tables of earlier releases
``pool``           connections, their settings, cancellation
``health``         ``check()``
``errors``         translation of the driver's errors
``dsn``            identifiers, and URLs without passwords
=================  ============================================================
"""

from __future__ import annotations

from .backend import PostgresBackend

__all__ = ["PostgresBackend"]
