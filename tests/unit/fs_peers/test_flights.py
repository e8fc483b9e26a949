"""Waiting for what another is fetching, and never for each other."""

import threading

import pytest

from cernvm.fs.peers.flights import Flights


def landing_after(flights, path, act):
    timer = threading.Timer(0.05, act)
    timer.start()
    landed = flights.wait(path, 5.0, asked_first=True)
    timer.join()
    return landed


def test_what_lands_is_waited_for():
    flights = Flights()
    with flights.under_way(["a", "b"]) as was_under_way:
        assert not was_under_way
        assert landing_after(flights, "a", lambda: flights.land("a"))
        assert not flights.wait("a", 5.0, asked_first=True)
        assert not flights.wait("b", 0.01, asked_first=True)


def test_what_is_not_under_way_is_not_waited_for():
    assert not Flights().wait("a", 5.0, asked_first=True)


def test_whoever_we_ask_does_not_wait_for_us_until_we_have_turned_to_servers():
    flights = Flights()
    with flights.under_way(["a"]):
        assert not flights.wait("a", 5.0, asked_first=False)
        flights.turn_to_servers(["a", "c"])
        timer = threading.Timer(0.05, lambda: flights.land("a"))
        timer.start()
        assert flights.wait("a", 5.0, asked_first=False)
        timer.join()


def test_what_ends_without_landing_keeps_nobody_waiting():
    flights = Flights()
    with pytest.raises(ValueError), flights.under_way(["a"]):
        raise ValueError
    assert not flights.wait("a", 5.0, asked_first=True)


def test_the_second_of_two_leaves_the_first_under_way():
    flights = Flights()
    with flights.under_way(["a"]):
        with flights.under_way(["a"]) as was_under_way:
            assert was_under_way
        assert not flights.wait("a", 0.01, asked_first=True)
        assert landing_after(flights, "a", lambda: flights.land("a"))
