"""A call runs while its caller uses the result of the one before."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from gliclass_rerank.engine.prefetch import prefetch_results


def test_results_come_in_order_and_the_next_call_runs_meanwhile() -> None:
    started = threading.Event()

    def second() -> int:
        started.set()
        return 2

    results = prefetch_results([lambda: 1, second, lambda: 3])
    assert next(results) == 1
    assert started.wait(timeout=60)
    assert list(results) == [2, 3]
    assert list(prefetch_results([])) == []


def test_an_error_comes_where_its_result_is_due() -> None:
    def fail() -> int:
        raise KeyError("second")

    results = prefetch_results([lambda: 1, fail])
    assert next(results) == 1
    with pytest.raises(KeyError, match="second"):
        next(results)


def test_calls_run_while_the_interpreter_ends() -> None:
    code = (
        "import threading, time\n"
        "from gliclass_rerank.engine.prefetch import prefetch_results\n"
        "def work():\n"
        "    threading.main_thread().join()\n"
        "    print(list(prefetch_results([lambda: 1, lambda: 2])))\n"
        "threading.Thread(target=work).start()\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[1, 2]", result.stderr
