"""The backend on Redis or Valkey, one server or a cluster.

==========================  =======================================================
``backend``                 the verbs, open and close
``inspection``              counts and lists, by scans
``layout``                  the move of names from the layout of earlier releases
``renames``                 the rename of a namespace
``moves``, ``scan``         values under other names; pages of ``SCAN``
``session``                 requests with retries and translated errors
``batch``                   operations as script calls, replies as results
``runs``                    division of a batch into script calls
``each``                    replies to operations on many keys as results
``administration``          the operations that only this backend sends
``script``                  the wire format of script calls
``rows.lua``                the script: reads and writes the values of keys
``script.lua``              the script: executes the state table
``keys``                    the names of Redis keys
``cluster``, ``pipeline``   servers and slots; commands over one connection
``client``, ``health``      clients of redis-py; requirements on a server
``errors``                  translation of errors
==========================  =======================================================
"""

from __future__ import annotations

from .backend import RedisBackend

__all__ = ["RedisBackend"]
