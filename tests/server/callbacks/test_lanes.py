"""Lanes: who may start when, so that a bad receiver delays nobody else."""

import random
from collections import Counter

import pytest

from server.callbacks import lanes as subject
from server.callbacks.lanes import FAILING_INTERVAL_S, FAILURES_MAX, Lanes, Limits, Ready

SMALL = Limits(prompt=6, prompt_per_host=2, held=6, held_per_host=3, failing_rate=2 / FAILING_INTERVAL_S)


def ready(number, url="http://a/hook", host=None):
    return Ready(f"job-{number}", url, host or "/".join(url.split("/")[:3]), number, 0)


def offered(lanes, *callbacks):
    for each in callbacks:
        lanes.offer(each)
    return lanes


def ids(started):
    return [each.id for each in started]


def fail(lanes, url, times=1, now_s=0.0, first=1000):
    """Let a URL fail so many times in a row."""
    for number in range(first, first + times):
        lanes.offer(ready(number, url))
        assert ids(lanes.start(now_s + number)) == [f"job-{number}"]
        lanes.ended(f"job-{number}", False)


def test_what_is_offered_starts_in_its_order_up_to_the_places_of_its_host():
    lanes = offered(Lanes(SMALL), *(ready(number) for number in range(5)))
    assert ids(lanes.start(0)) == ["job-0", "job-1"]
    assert lanes.start(0) == []
    assert (lanes.ready, lanes.under_way) == (3, 2)


def test_each_end_makes_room_for_the_next_of_its_host():
    lanes = offered(Lanes(SMALL), *(ready(number) for number in range(5)))
    lanes.start(0)
    lanes.ended("job-1", True)
    assert ids(lanes.start(0)) == ["job-2"]


def test_hosts_take_turns_however_much_one_has():
    many = [ready(number) for number in range(50)]
    lanes = offered(Lanes(SMALL), *many, ready(100, "http://b/hook"), ready(101, "http://c/hook"))
    assert set(ids(lanes.start(0))) == {"job-0", "job-1", "job-100", "job-101"}


def test_urls_of_one_host_take_turns_too():
    lanes = offered(Lanes(SMALL), *(ready(number, "http://a/one") for number in range(9)), ready(9, "http://a/two"))
    assert ids(lanes.start(0)) == ["job-0", "job-9"]


def test_a_query_makes_no_lane_of_its_own():
    lanes = offered(Lanes(SMALL), *(ready(number, f"http://a/one?n={number}") for number in range(9)))
    lanes.offer(ready(9, "http://a/two"))
    assert ids(lanes.start(0)) == ["job-0", "job-9"]


def test_there_are_only_so_many_prompt_attempts_in_all():
    lanes = offered(Lanes(SMALL), *(ready(number, f"http://host{number}/") for number in range(20)))
    assert len(lanes.start(0)) == SMALL.prompt
    lanes.ended("job-0", True)
    assert ids(lanes.start(0)) == ["job-6"]


def test_a_slow_attempt_leaves_its_place_to_the_next():
    lanes = offered(Lanes(SMALL), *(ready(number, f"http://a/{number}") for number in range(9)))
    lanes.start(0)
    lanes.slow("job-0")
    assert ids(lanes.start(0)) == ["job-2"]


def test_a_host_that_is_slow_all_over_holds_no_more_places_than_are_its_own():
    lanes = offered(Lanes(SMALL), *(ready(number, f"http://a/{number}") for number in range(50)))
    for _ in range(9):
        for started in lanes.start(0):
            lanes.slow(started.id)
    assert lanes.under_way == SMALL.held_per_host + SMALL.prompt_per_host
    lanes.offer(ready(100, "http://b/hook"))
    assert ids(lanes.start(0)) == ["job-100"]


ROOMY = Limits(prompt_per_host=9, held_per_host=9, unproven_per_lane=3, failing_rate=1e9)


def test_a_url_that_has_not_delivered_yet_has_few_attempts_at_once():
    lanes = offered(Lanes(ROOMY), *(ready(number) for number in range(20)))
    assert len(lanes.start(0)) == 3
    lanes.ended("job-0", True)
    assert len(lanes.start(0)) == 7
    assert lanes.under_way == ROOMY.prompt_per_host


def test_a_url_that_does_not_answer_leaves_places_to_others_of_its_host():
    lanes = Lanes(ROOMY)
    offered(lanes, *(ready(number, "http://a/stall") for number in range(50)))
    for now_s in range(9):
        for started in lanes.start(now_s):
            lanes.slow(started.id)
    assert lanes.under_way == ROOMY.unproven_per_lane
    offered(lanes, *(ready(100 + number, "http://a/good") for number in range(50)))
    assert ids(lanes.start(9)) == ["job-100", "job-101", "job-102"]


def test_a_url_that_delivers_is_prompt_though_all_others_of_its_host_fail():
    lanes = offered(Lanes(ROOMY), ready(0, "http://a/good"))
    lanes.start(0)
    lanes.ended("job-0", True)
    for number in range(FAILURES_MAX):
        fail(lanes, f"http://a/{number}", first=100 + number)
    offered(lanes, *(ready(200 + number, f"http://a/new/{number}") for number in range(50)))
    assert len(lanes.start(1e6)) == ROOMY.held_per_host
    offered(lanes, *(ready(number, "http://a/good") for number in range(1, 50)))
    assert ids(lanes.start(1e6)) == [f"job-{number}" for number in range(1, 10)]


def test_a_url_that_waits_with_failing_ones_when_it_delivers_goes_on_at_once():
    lanes = Lanes(SMALL)
    fail(lanes, "http://a/hook")
    offered(lanes, *(ready(number) for number in range(9)))
    assert ids(lanes.start(1e6)) == ["job-0", "job-1"]
    assert lanes.start(1e6) == []
    lanes.ended("job-0", True)
    assert ids(lanes.start(1e6)) == ["job-2", "job-3"]


def test_what_is_over_or_unknown_is_not_slow():
    lanes = offered(Lanes(SMALL), ready(1))
    lanes.start(0)
    lanes.ended("job-1", True)
    lanes.slow("job-1")
    lanes.slow("job-7")
    assert lanes.under_way == 0


def test_failing_lanes_start_at_a_bounded_rate_together_and_others_at_once():
    lanes = Lanes(SMALL)  # two in each interval
    for host in "abcde":
        fail(lanes, f"http://{host}/", first=ord(host) * 100)
    now_s = 2.0**20
    for host in "abcde":
        offered(lanes, *(ready(ord(host) * 10 + number, f"http://{host}/") for number in range(9)))
    lanes.offer(ready(1, "http://good/"))
    assert ids(lanes.start(now_s)) == ["job-1", "job-970", "job-980"]
    assert lanes.waits_for_rate
    assert lanes.rate_wait_s(now_s) == FAILING_INTERVAL_S
    assert lanes.start(now_s + FAILING_INTERVAL_S / 2) == []
    assert lanes.rate_wait_s(now_s + FAILING_INTERVAL_S) == 0.0
    assert [each.host for each in lanes.start(now_s + FAILING_INTERVAL_S)] == ["http://c", "http://d"]
    assert [each.host for each in lanes.start(now_s + 2 * FAILING_INTERVAL_S)] == ["http://e", "http://a"]


def test_a_rate_that_was_not_used_is_saved_for_one_interval_at_most():
    lanes = Lanes(Limits(failing_rate=48.0, unproven_per_lane=99))
    fail(lanes, "http://a/")
    lanes.start(1e6)
    offered(lanes, *(ready(50 + number, "http://a/") for number in range(30)))
    assert len(lanes.start(1e6 + 60)) == 48 * FAILING_INTERVAL_S


def test_a_rate_that_is_less_than_one_in_an_interval_adds_up():
    lanes = Lanes(Limits(failing_rate=0.5, unproven_per_lane=99))
    fail(lanes, "http://a/")
    offered(lanes, *(ready(50 + number, "http://a/") for number in range(30)))
    seconds = [second / 4 for second in range(4_000_000, 4_000_080) for _ in lanes.start(second / 4)]
    assert len(seconds) in (10, 11)  # twenty seconds


@pytest.mark.parametrize(
    ("outcomes", "told"),
    [
        pytest.param([True], [False], id="a good answer of one that was thought well of says nothing new"),
        pytest.param([False], [True], id="the first failure"),
        pytest.param([False, False], [True, False], id="a second failure"),
        pytest.param([False, True], [True, True], id="recovery"),
        pytest.param([None], [False], id="an interruption"),
        pytest.param([False, None, True], [True, False, True], id="an interruption between failure and recovery"),
    ],
)
def test_a_change_of_what_is_thought_of_a_lane_is_told_once(outcomes, told):
    lanes = Lanes(SMALL)
    found = []
    for number, is_good in enumerate(outcomes):
        lanes.offer(ready(number))
        lanes.start(number)
        found.append(lanes.ended(f"job-{number}", is_good))
    assert found == told


def test_a_lane_that_delivers_again_is_prompt_again():
    lanes = Lanes(SMALL)
    fail(lanes, "http://a/hook")
    lanes.offer(ready(1))
    lanes.start(1e6)
    lanes.ended("job-1", True)
    offered(lanes, *(ready(number) for number in range(2, 9)))
    assert len(lanes.start(1e6)) == SMALL.prompt_per_host


def test_a_host_that_fails_under_ever_new_urls_is_held_until_it_delivers():
    lanes = Lanes(Limits(prompt_per_host=99))
    for number in range(FAILURES_MAX):
        fail(lanes, f"http://a/{number}", first=number)
    offered(lanes, *(ready(100 + number, f"http://a/new/{number}") for number in range(99)))
    started = lanes.start(1e6)
    assert len(started) == int(Limits().failing_rate * FAILING_INTERVAL_S)
    assert lanes.waits_for_rate
    for each in started:
        lanes.ended(each.id, True)
    assert len(lanes.start(1e6)) == 99 - len(started)


def test_what_is_dropped_is_not_started():
    lanes = offered(Lanes(SMALL), *(ready(number) for number in range(5)))
    lanes.start(0)
    assert sorted(ids(lanes.drop())) == ["job-2", "job-3", "job-4"]
    lanes.ended("job-0", True)
    assert lanes.start(0) == []
    assert lanes.ready == 0


def test_hosts_that_nothing_waits_for_are_forgotten_when_they_are_too_many(monkeypatch):
    monkeypatch.setattr(subject, "HOSTS_MAX", 50)
    lanes = Lanes(Limits(failing_rate=1e9))
    for number in range(500):
        fail(lanes, f"http://host{number}/", first=number)
    assert len(lanes._hosts) <= 51
    assert len(lanes._lanes) <= 51


def test_lanes_that_nothing_waits_for_are_forgotten_when_they_are_too_many(monkeypatch):
    monkeypatch.setattr(subject, "LANES_MAX", 50)
    lanes = Lanes(Limits(failing_rate=1e9))
    offered(lanes, *(ready(number, f"http://b/{number}") for number in range(20)))
    lanes.start(0)
    for number in range(500):
        fail(lanes, f"http://a/{number}", first=1000 + number)
    assert len(lanes._lanes) <= 51
    assert lanes.ready + lanes.under_way == 20


@pytest.mark.parametrize("seed", range(20))
def test_at_random_no_limit_is_ever_passed_and_everything_gets_its_turn(seed):
    chance = random.Random(seed)
    lanes = Lanes(SMALL)
    waiting, under_way, slow, done, number, now_s = set(), {}, set(), [], 0, 0.0
    for step in range(3000):
        now_s += chance.random() / 10
        if step < 1500 and chance.random() < 0.6:
            number += 1
            host = chance.choice("abc")
            lanes.offer(ready(number, f"http://{host}/{chance.randrange(3)}"))
            waiting.add(f"job-{number}")
        for each in lanes.start(now_s):
            waiting.remove(each.id)
            under_way[each.id] = each.host
        counts = Counter(under_way.values())
        assert len(under_way) <= SMALL.prompt + SMALL.held
        assert all(count <= SMALL.prompt_per_host + SMALL.held_per_host for count in counts.values())
        if under_way and chance.random() < 0.3:
            slow.add(id := chance.choice(sorted(under_way)))
            lanes.slow(id)
        if under_way and chance.random() < 0.7:
            id = chance.choice(sorted(under_way))
            done.append(id)
            lanes.ended(id, chance.choice([True, False, None]) if under_way.pop(id) != "http://c" else False)
    while waiting or under_way:
        now_s += 1
        for each in lanes.start(now_s):
            waiting.remove(each.id)
            under_way[each.id] = each.host
        assert under_way, "what waits must get its turn when nothing else is under way"
        for id in list(under_way):
            done.append(id)
            lanes.ended(id, False)
            del under_way[id]
    assert len(done) == len(set(done)) == number
    assert (lanes.ready, lanes.under_way) == (0, 0)
