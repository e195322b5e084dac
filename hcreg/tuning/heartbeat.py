"""The heartbeat of a worker: while it trains, a thread keeps extending its lease, on a connection of its own."""

import sys
import threading

from hcreg.tuning.store import TrialStore

HEARTBEAT_S = 30


class Heartbeat:
    """Extends the lease on a trial until it is stopped, or finds that the trial was taken over.

    Parameters
    ----------
    store : TrialStore
        Copied, so that the beats have a connection of their own.
    lease_s : float, s
        How long the lease then lasts.
    heartbeat_s : float, s
        Between beats; several fit into a lease, so that one may fail.

    Raises
    ------
    ValueError
        If two beats do not fit into a lease.
    """

    def __init__(self, store, lease_s=300, heartbeat_s=HEARTBEAT_S):
        if not 0 < heartbeat_s <= lease_s / 2:
            raise ValueError(
                "At least two heartbeats must fit into a lease. "
                f"Received: heartbeat_s={heartbeat_s}, lease_s={lease_s}."
            )
        self.lease_s, self.heartbeat_s = lease_s, heartbeat_s
        self._given = store
        self._store = self._thread = None
        self._lost = threading.Event()

    @property
    def lost(self):
        """Whether the trial is another worker's now."""
        return self._lost.is_set()

    def start(self, lease):
        """Begin to extend a lease.

        Parameters
        ----------
        lease : hcreg.tuning.records.Lease
        """
        self.stop()
        self._lost, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(
            target=self._run,
            args=(lease, self._stopped, self._lost),
            name=f"heartbeat of trial {lease.number}",
            daemon=True,
        )
        self._thread.start()

    def stop(self):
        """End the beats; the lease runs on for as long as it was last given."""
        if self._thread is not None:
            self._stopped.set()
            self._thread = None

    def _run(self, lease, stopped, lost):
        failures = 0
        while not stopped.wait(self.heartbeat_s):
            try:
                if self._store is None:
                    self._store = self._copy()
                if not self._store.beat(lease, self.lease_s):
                    lost.set()
                    return
                failures = 0
            except Exception as error:  # whatever it is, the training goes on, and the next beat may pass
                failures += 1
                if failures == 1:
                    print(f"heartbeat of trial {lease.number}: {error}", file=sys.stderr)

    def _copy(self):
        copied = TrialStore.__new__(TrialStore)  # without another look at the tables
        copied.database, copied.schema = self._given.database.__deepcopy__({}), self._given.schema
        return copied
