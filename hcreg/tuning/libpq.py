"""psycopg2, imported so that TLS works beside TensorFlow.

TensorFlow's library exports functions of the names of OpenSSL's. Where it was loaded first, the client library of
PostgreSQL would call those, and the process crash or hang at the first encrypted connection. Bound deeply, it finds its
own. Everything of hcreg that speaks to PostgreSQL imports psycopg2 from here.
"""

import os
import sys

_flags = sys.getdlopenflags() if hasattr(sys, "getdlopenflags") else None
if _flags is not None:
    sys.setdlopenflags(_flags | getattr(os, "RTLD_DEEPBIND", 0))
try:
    import psycopg2
    from psycopg2 import errors, extensions
    from psycopg2.extras import Json
finally:
    if _flags is not None:
        sys.setdlopenflags(_flags)

__all__ = ["Json", "errors", "extensions", "psycopg2"]
