"""map_in_threads: order, whose cores, and what is left behind when it ends before its time."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from skspace._encoding.thread_pool import map_in_threads


@pytest.fixture(autouse=True)
def four_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def in_new_thread(function):
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


def cores_and_thread(_=None):
    torch.ones(64, 64) @ torch.ones(64, 64)
    return torch.get_num_threads(), threading.get_ident()


def test_order_of_the_items():
    gate = threading.Event()

    def slow_at_first(item):
        if item:
            gate.set()
        else:
            gate.wait(10)
        return item * 2

    assert list(map_in_threads(slow_at_first, range(50), 50, 4)) == [2 * i for i in range(50)]


@pytest.mark.parametrize(
    ("n_items", "n_threads", "n_workers", "cores"), [(20, 4, 4, 1), (2, 4, 2, 2), (3, 4, 3, 1), (20, 2, 2, 1)]
)
def test_cores_are_shared_out(n_items, n_threads, n_workers, cores):
    together = threading.Barrier(n_workers)  # none goes on before all are there

    def work(i):
        if i < n_workers:
            together.wait(10)
        return cores_and_thread()

    found = list(map_in_threads(work, range(n_items), n_items, n_threads))
    assert {n for n, _ in found} == {cores}
    assert len({thread for _, thread in found[:n_workers]}) == n_workers
    assert threading.get_ident() not in {thread for _, thread in found}


@pytest.mark.parametrize(("n_items", "n_threads"), [(1, 4), (20, 1), (1, 1)])
def test_nothing_to_share_out(n_items, n_threads):
    assert (
        list(map_in_threads(cores_and_thread, range(n_items), n_items, n_threads))
        == [(4, threading.get_ident())] * n_items
    )
    assert list(map_in_threads(cores_and_thread, [], 0, n_threads)) == []


def test_other_threads_keep_their_cores():
    running = map_in_threads(cores_and_thread, range(100), 100, 4)
    next(running)
    assert torch.get_num_threads() == 4
    assert in_new_thread(cores_and_thread)[0] == 4
    list(running)
    assert torch.get_num_threads() == 4
    assert in_new_thread(cores_and_thread)[0] == 4


def test_error_comes_out_and_ends_the_work():
    done = []

    def fails_at_five(item):
        if item == 5:
            raise ValueError("the fifth")
        done.append(item)
        return item

    running = map_in_threads(fails_at_five, range(10_000), 10_000, 4)
    assert [next(running) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="the fifth"):
        next(running)
    assert len(done) < 100
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("skspace")]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError("can't start new thread")])
def test_interrupted_while_threads_start(monkeypatch, error):
    submitted, submit = [], ThreadPoolExecutor.submit

    def fails_at_the_third(self, function, *args):
        submitted.append(function)
        if len(submitted) == 3:
            raise error
        return submit(self, function, *args)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fails_at_the_third)
    with pytest.raises(error if isinstance(error, type) else type(error)):
        list(map_in_threads(cores_and_thread, range(20), 20, 4))  # and does not wait for good
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("skspace")]
    assert torch.get_num_threads() == 4
    assert in_new_thread(cores_and_thread)[0] == 4


def test_only_a_few_items_ahead_and_closing_ends_it():
    done = []
    running = map_in_threads(done.append, range(10_000), 10_000, 2)
    next(running)
    running.close()
    assert len(done) < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("skspace")]
