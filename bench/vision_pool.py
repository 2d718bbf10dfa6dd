"""Tasks for as many processes as there are cores, in plain JSON: drawing hours of street takes all of them.

A child is `python -m MODULE`: it reads one task a line from its standard input and answers each with one line. They run
at a lower priority than what is measured beside them.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bench.processes import ROOT, BenchFailed

Task = dict[str, Any]
NICENESS = 10
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
    "PYTHONUNBUFFERED": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}


def work_off(module: str, tasks: Sequence[Task], processes: int | None = None) -> Iterator[tuple[Task, Any]]:
    """(task, answer) of each task, as they come. Raises BenchFailed when a child fails."""
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    done: queue.SimpleQueue[tuple[Task, Any] | BenchFailed] = queue.SimpleQueue()
    count = min(processes or len(os.sched_getaffinity(0)), len(tasks))
    children = [_start(module) for _ in range(count)]
    for child in children:
        threading.Thread(target=_feed, args=(child, waiting, done), daemon=True).start()
    try:
        for number in range(len(tasks)):
            found = done.get()
            if isinstance(found, BenchFailed):
                raise found
            _progress(f"{module}: {number + 1} of {len(tasks)}")
            yield found
    finally:
        for child in children:
            child.kill()
            with contextlib.suppress(BrokenPipeError):  # an order that it did not read
                child.communicate()


def _progress(text: str) -> None:
    """Somebody who watches a terminal for ten minutes wants to see that it goes on."""
    if sys.stderr.isatty():
        print(f"\r{text} ", end="", file=sys.stderr, flush=True)


def _start(module: str) -> subprocess.Popen[str]:
    # Standard error is the benchmark's own: a child that fails says there why.
    return subprocess.Popen(
        ["nice", "-n", str(NICENESS), sys.executable, "-m", module],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **ENVIRONMENT},
    )


def _feed(
    child: subprocess.Popen[str],
    waiting: queue.SimpleQueue[Task],
    done: queue.SimpleQueue[tuple[Task, Any] | BenchFailed],
) -> None:
    while child.stdin is not None and child.stdout is not None:
        try:
            task = waiting.get_nowait()
        except queue.Empty:
            return
        try:
            child.stdin.write(json.dumps(task) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
        except (OSError, ValueError):  # it is gone, or was ended with the benchmark
            line = ""
        if not line:
            done.put(BenchFailed(f"a process gave up at {json.dumps(task)}"))
            return
        done.put((task, json.loads(line)))


def serve(work: Callable[[Task], Any]) -> None:
    """The child: answer each line of standard input."""
    # Whatever a library prints must not become an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        answers.write(json.dumps(work(json.loads(line))) + "\n")
        answers.flush()
