"""The one thread of the SQLite engine that writes, and the queue in front of it."""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

from service_kit.change import Change, Step
from service_kit.errors import StoreFull, StoreUnavailable
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.storage.contract import CommitMeasures
from service_kit.storage.sqlite_batch import Batch
from service_kit.storage.sqlite_recent import RecentWrites
from service_kit.waiting import new_waiter

#: Steps in one transaction, about; more would let the first callers wait for the last.
MAX_STEPS = 2_000

T = TypeVar("T")
Result: TypeAlias = Change | Exception | None

log = get_logger(__name__)

_BEGINNING = failpoint("store.beginning")
_COMMITTING = failpoint("store.committing")
_COMMITTED = failpoint("store.committed")


class _Job:
    """Work for the writer, and the wait of its caller until it is durable."""

    __slots__ = ("call", "error", "is_done", "result", "steps", "waiter")

    def __init__(self, steps: Sequence[Step] = (), call: Callable[[sqlite3.Connection], Any] | None = None) -> None:
        self.steps = steps
        self.call = call
        self.waiter = new_waiter()
        self.is_done = False
        self.error: Exception | None = None
        self.result: Any = None

    def finish(self, result: Any = None, error: Exception | None = None) -> None:
        self.result, self.error = result, error
        self.is_done = True
        self.waiter.wake()


class Writer:
    """Commits what has queued up as one transaction; whoever waits hears back only after its fsync.

    A lone job is committed at once: the batch is what came in during the commit before it.
    """

    def __init__(self, connection: sqlite3.Connection, commits: CommitMeasures) -> None:
        self._connection = connection
        self._commits = commits
        self._recent = RecentWrites()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        #: Guards the moment in which the writer stops taking work: nothing is queued behind the end.
        self._gate = threading.Lock()
        self._is_open = True
        self._failure: str | None = None

    # ---- called from any thread

    def update_all(self, steps: Sequence[Step]) -> list[Result]:
        """Run the steps in the next transaction and wait for it."""
        results: list[Result] = self._submit(_Job(steps=steps))
        return results

    def call(self, call: Callable[[sqlite3.Connection], T]) -> T:
        """Run statements in a transaction of their own and wait for it."""
        result: T = self._submit(_Job(call=call))
        return result

    def _submit(self, job: _Job) -> Any:
        with self._gate:
            if not self._is_open:
                raise StoreUnavailable("The store is closed.", retry_after_s=1)
            self._jobs.put(job)
        job.waiter.wait()
        if job.error is not None:
            raise job.error
        return job.result

    @property
    def is_open(self) -> bool:
        """Whether work is taken."""
        return self._is_open

    @property
    def failure(self) -> str | None:
        """Why the last commit failed; None when it went well."""
        return self._failure

    def close(self) -> None:
        """Take no more work and end after what is queued. Safe to call twice."""
        with self._gate:
            if self._is_open:
                self._is_open = False
                self._jobs.put(None)

    # ---- the thread

    def run(self) -> None:
        """Serve until closed."""
        jobs: list[_Job] = []
        try:
            while jobs := self._next_jobs():
                self._commit_steps([job for job in jobs if job.call is None])
                for job in jobs:
                    if job.call is not None:
                        self._commit_call(job, job.call)
        finally:
            # Empty after an orderly end. After any other, nobody may be left waiting.
            self.close()
            while (left := self._jobs.get()) is not None:
                jobs.append(left)
            for job in jobs:
                if not job.is_done:
                    job.finish(error=StoreUnavailable("The store is closed.", retry_after_s=1))

    def _next_jobs(self) -> list[_Job]:
        """Wait for a job and take all that have queued up with it; none at the end."""
        jobs: list[_Job] = []
        size = 0
        while size < MAX_STEPS and (not jobs or not self._jobs.empty()):
            job = self._jobs.get()
            if job is None:
                self._jobs.put(None)  # for the next round, or for the end
                break
            jobs.append(job)
            size += len(job.steps) or 1
        return jobs

    def _commit_steps(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        try:
            outcomes = iter(self._decide([step for job in jobs for step in job.steps]))
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits must hear of it
            if _is_of_the_store(error):
                for job in jobs:
                    job.finish(error=public_error(error))
                return
            # What cannot even be stored (a number beyond 64 bits, a seq that is taken) harms no other step.
            outcomes = self._decide_one_by_one([step for job in jobs for step in job.steps])
        for job in jobs:
            job.finish([next(outcomes) for _ in job.steps])

    def _decide(self, steps: Sequence[Step]) -> list[Result]:
        batch = Batch(self._connection, self._recent)
        results: list[Result] = []
        with self._committing(len(steps)):
            # Nobody else writes, so what is read here is still so when it is written.
            batch.load(steps)
            results += [_decided(batch, step) for step in steps]
            _COMMITTING()
            batch.write()
            _COMMITTED()
        batch.committed()
        return results

    def _decide_one_by_one(self, steps: Sequence[Step]) -> Iterator[Result]:
        """The steps in commits of their own. Once the store fails, the rest fails too: nothing overtakes."""
        failure: StoreUnavailable | None = None
        for step in steps:
            result = failure or self._decide_alone(step)
            if isinstance(result, StoreUnavailable):
                failure = result
            yield result

    def _decide_alone(self, step: Step) -> Result:
        try:
            (result,) = self._decide([step])
        except Exception as error:  # noqa: BLE001 - the step's own result
            return public_error(error) if _is_of_the_store(error) else error
        return result

    def _commit_call(self, job: _Job, call: Callable[[sqlite3.Connection], Any]) -> None:
        try:
            with self._committing(1):
                self._connection.execute("BEGIN IMMEDIATE")
                result = call(self._connection)
                _COMMITTING()
                self._connection.execute("COMMIT")
                _COMMITTED()
            self._recent.doubt()
            job.finish(result)
        except Exception as error:  # noqa: BLE001 - raised where the caller waits
            job.finish(error=public_error(error) if _is_of_the_store(error) else error)

    @contextmanager
    def _committing(self, steps: int) -> Iterator[None]:
        """Surround one transaction. A failed one leaves nothing; the next tries anew, so the store heals."""
        began_s = time.perf_counter()
        try:
            _BEGINNING()
            yield
        except BaseException as error:
            with suppress(sqlite3.Error):
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
            self._recent.doubt()  # it may have been committed all the same
            if _is_of_the_store(error):
                self._note_failure(error)
            raise
        self._note_success(steps, time.perf_counter() - began_s)

    def _note_success(self, steps: int, seconds: float) -> None:
        if self._failure is not None:
            self._failure = None
            log.info("The store can be written again", action="store.healed")
        self._commits.note(steps, seconds)

    def _note_failure(self, error: BaseException) -> None:
        # Once per trouble, not once per commit: under load that would be thousands of lines.
        if self._failure is None:
            log.error("A commit failed", action="store.commit_failed", exc_info=error)
        self._failure = public_error(error).detail


def _decided(batch: Batch, step: Step) -> Result:
    try:
        return batch.decide(step)
    except Exception as error:  # noqa: BLE001 - raised where the caller waits
        return error


def _is_of_the_store(error: BaseException) -> bool:
    """Whether anything but the data of one step may be at fault: the file, its disk, or the engine."""
    of_one_step = (
        sqlite3.IntegrityError,
        sqlite3.DataError,
        sqlite3.ProgrammingError,
        sqlite3.InterfaceError,
        ValueError,
        TypeError,
        OverflowError,
    )
    return not isinstance(error, of_one_step)


def public_error(error: BaseException) -> StoreUnavailable:
    """What a caller may know of a failure; the log has the rest."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StoreFull("The store has no room left.", retry_after_s=5)
    return StoreUnavailable("The store could not do this.", retry_after_s=1)
