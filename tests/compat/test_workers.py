"""Families that are fed by hand in several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_llm.prometheus import multiprocess
from otel_llm.prometheus.multiprocess.arithmetic import add_states
from otel_llm.prometheus.multiprocess.snapshot import Families, Snapshot, decode, encode
from otel_llm.state import State, place

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not multiprocess.SUPPORTED, reason="processes share nothing here")
def test_children(tmp_path: Path) -> None:
    """A page has what all processes were told, once each: children do not count what their parent was told."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environ |= {"OTEL_TRACES_EXPORTER": "none", "OTEL_LLM_MULTIPROC_DIR": str(tmp_path / "shared")}
    line = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-m", "tests.compat.program"]
    done = subprocess.run(line, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)

    assert (0, "otel_llm: the metrics of TinyLLM's functions are reset\n") == (done.returncode, done.stderr)
    # Counters and histograms add up, as do active requests and queues of processes that live; a state is the newest,
    # also of a process that is gone.
    assert done.stdout.splitlines() == [
        "before 5 5 5 5 15 1 5 1 5",
        "forked 5 5 5 5 15 1 5 1 5",
        "fed 8 8 8 8 24 3 8 2 8",
        "gone 7 8 6 6 18 0 5 2 6",
    ]


TELL = """
import os
import sys

import otel_llm
from otel_llm.compat import aegis, local_llm

otel_llm.instrument(serve=False)


def tell(number):
    local_llm.get_metrics_collector(enable_metrics=True).set_model_info("theirs", f"v{number}", "u")
    otel_llm.set_model_info("ours", version=f"v{number}", size=str(number))
    otel_llm.family("llm_model_info", dialect="ollama_exporter").labels(model="z").info(
        {"container": "c", "size": str(number), "modified": "x", "family": "f"}
    )
    aegis.update_budget_metrics("openai", number, 100)
    otel_llm.set_memory_usage("m", number)
    otel_llm.family("llm_backend_budget_usd").labels("b", "current").set_function(lambda: number)


def show(when):
    pages = b"".join(map(otel_llm.generate_latest, ("local_llm", "aegis", "llmbackend", "ollama_exporter"))).decode()
    shown = ("llm_model_info{", "monthly_", "llm_memory_usage", "llm_backend_budget_usd{")
    print(when, *sorted(line for line in pages.splitlines() if line.startswith(shown)), sep="\\n")


for number in (1, 2, 3):
    if number == 3:
        tell(3)
        continue
    pid = os.fork()
    if not pid:
        tell(number)
        sys.exit()
    assert os.waitpid(pid, 0)[1] == 0
    show(f"after {number}")
show("after 3")
"""


@pytest.mark.skipif(not multiprocess.SUPPORTED, reason="processes share nothing here")
def test_what_is_newest(tmp_path: Path) -> None:
    """Of gauges and infos the page has what was told last, and it alone, be it of a worker that is gone."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    environ |= {"OTEL_TRACES_EXPORTER": "none", "OTEL_LLM_MULTIPROC_DIR": str(tmp_path / "shared")}
    line = [sys.executable, "-W", "ignore:This process:DeprecationWarning", "-c", TELL]
    done = subprocess.run(line, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    told = """
        llm_memory_usage_bytes{container="unknown",memory_type="unknown",model="m"} N.0
        llm_model_info{base_url="u",model="theirs",version="vN"} 1.0
        llm_model_info{container="c",family="f",model="z",modified="x",size="N"} 1.0
        llm_model_info{container="unknown",family="unknown",model="ours",modified="unknown",size="N"} 1.0
        monthly_budget_remaining_usd{provider="openai"} 9M.0
        monthly_spend_usd{provider="openai"} N.0
    """
    # A function is called by the process that has it, and by no other.
    computed = """
        llm_backend_budget_usd{backend="b",limit_type="current"} N.0
    """
    expected = [
        line.strip().replace("N", f"{number}").replace("M", f"{10 - number}")
        for number in (1, 2, 3)
        for line in [
            f"after {number}",
            *(computed if number == 3 else "").strip().splitlines(),
            *told.strip().splitlines(),
        ]
    ]
    assert expected == done.stdout.splitlines()


def test_imported_in_one_worker() -> None:
    """Where one living worker has imported the module, functions feed its families, and calls of no worker do."""
    mine = State({"duration": ()}, [], [], {}, "")
    theirs = mine._replace(uncounted=frozenset({place("aegis", "llm_requests_total")}))
    read = decode(encode(Snapshot(theirs, Families([], {}))))

    assert theirs.uncounted == read.state.uncounted == add_states([mine, read.state], mine).uncounted
    assert frozenset() == read.remains().state.uncounted


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_forked_while_others_feed() -> None:
    """A child can feed and be scraped though, at the fork, another thread was in the middle of it."""
    program = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import otel_llm
from otel_llm.compat import local_llm
stop = threading.Event()
def feed():
    number = 0
    while not stop.is_set():
        number += 1
        local_llm.record_error(f"e{number % 30}")
        with local_llm.track_inference("m"):
            pass
threads = [threading.Thread(target=feed) for _ in range(3)]
for thread in threads:
    thread.start()
sys.setswitchinterval(1e-5)
for _ in range(40):
    pid = os.fork()
    if not pid:
        local_llm.record_error("mine")
        local_llm.record_error(str(os.getpid()))
        local_llm.record_rate_limit("c")
        page = otel_llm.generate_latest("local_llm")
        os._exit(0 if b'error_type="mine"' in page or b"_overflow" in page else 1)
    assert os.waitpid(pid, 0)[1] == 0
stop.set()
for thread in threads:
    thread.join()
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )

    assert ("done\n", "") == (done.stdout, done.stderr)
