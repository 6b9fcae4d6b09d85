"""When a source is polled next, and at which address: functions of numbers."""

from __future__ import annotations

import pytest

from catalyst_seen.feeds._redirects import Address, Hop, follow
from catalyst_seen.feeds._schedule import after_failure, after_hold, after_success
from catalyst_seen.feeds._wishes import max_age

from ..support.clock import DAY

NOW = 1e9
EVERY = 900.0


def success(age: float | None, ttl: float | None, chance: float = 0.0) -> float:
    """Return the interval after a good poll."""
    return after_success(NOW, EVERY, max_age=age, ttl=ttl, chance=chance) - NOW


def failure(failures: int, *, every: float = EVERY, chance: float = 0.0) -> float:
    """Return the interval after a failed poll."""
    due = after_failure(NOW, every, failures, not_before=None, chance=chance)
    return due - NOW


class TestAfterSuccess:
    """The wishes of a server lengthen the interval."""

    @pytest.mark.parametrize(
        ("age", "ttl", "interval"),
        [
            (None, None, EVERY),
            (3_600, None, 3_600),
            (None, 7_200, 7_200),
            (3_600, 7_200, 3_600),
            (0, 7_200, EVERY),
            (60, None, EVERY),
            (None, 60, EVERY),
            (365 * DAY, None, DAY),
            (None, 365 * DAY, DAY),
        ],
    )
    def test_wishes(
        self, age: float | None, ttl: float | None, interval: float
    ) -> None:
        """``max-age`` comes before ``ttl``; both only lengthen, up to a day."""
        assert success(age, ttl) == interval

    def test_longer_than_a_day(self) -> None:
        """The interval of the user is never shortened."""
        due = after_success(NOW, 7 * DAY, max_age=60, ttl=None, chance=0)
        assert due == NOW + 7 * DAY

    def test_jitter(self) -> None:
        """Sources that were polled together do not come together for ever."""
        assert EVERY < success(None, None, 0.5) < success(None, None, 0.9) < 1.1 * EVERY


class TestAfterFailure:
    """The longer a source fails, the rarer it is polled; it always is."""

    def test_doubles_up_to_a_day(self) -> None:
        """The interval doubles with each failure, up to a day."""
        assert [failure(n) for n in range(1, 10)] == [
            900, 1_800, 3_600, 7_200, 14_400, 28_800, 57_600, DAY, DAY,
        ]  # fmt: skip
        assert failure(10**9) == DAY

    def test_longer_than_a_day(self) -> None:
        """A source that is polled once a week is not polled more often by failing."""
        assert failure(1, every=7 * DAY) == failure(9, every=7 * DAY) == 7 * DAY

    def test_jitter(self) -> None:
        """Sources that failed together are not retried together."""
        assert 0.9 * EVERY <= failure(1, chance=0.9) < failure(1, chance=0.1) < EVERY

    def test_pause_of_the_server(self) -> None:
        """The server's pause is kept to, if it is longer."""
        due = after_failure(NOW, EVERY, 1, not_before=NOW + 5_000, chance=0.5)
        assert NOW + 5_000 < due < NOW + 5_100
        assert after_failure(NOW, EVERY, 1, not_before=NOW + 5, chance=0) == NOW + 900

    def test_end_of_a_pause(self) -> None:
        """Sources of one host do not come all together at the end of its pause."""
        assert NOW < after_hold(NOW, EVERY, 0.1) < after_hold(NOW, EVERY, 0.9)


@pytest.mark.parametrize(
    ("headers", "age"),
    [
        ({}, None),
        ({"Cache-Control": "max-age=300"}, 300),
        ({"Cache-Control": "public, MAX-AGE = 300"}, 300),
        ({"Cache-Control": 'max-age="300"'}, 300),
        ({"Cache-Control": "max-age=300", "Age": "100"}, 200),
        ({"Cache-Control": "max-age=300", "Age": "999"}, 0),
        ({"Cache-Control": "max-age=300", "Age": "x"}, 300),
        ({"Cache-Control": "no-cache, max-age=300"}, None),
        ({"Cache-Control": "max-age=300, no-store"}, None),
        ({"Cache-Control": "s-maxage=300"}, None),
        ({"Cache-Control": "x-max-age=300"}, None),
        ({"Cache-Control": "max-age=soon"}, None),
        ({"Cache-Control": "max-age=-1"}, None),
    ],
)
def test_max_age(headers: dict[str, str], age: float | None) -> None:
    """``Cache-Control`` says how long an answer stays fresh."""
    assert max_age(headers) == age


class TestUpgrade:
    """The step from ``http`` to ``https``."""

    GIVEN = "http://h.example/f?a=1"
    SECURE = "https://h.example/f?a=1"

    def asked(
        self, *hops: Hop, given: str = GIVEN, address: Address | None = None
    ) -> str:
        """Return the address of the poll after these redirects."""
        return follow(address or Address(), hops, NOW, 7 * DAY).of(given)

    @pytest.mark.parametrize("status", [301, 308])
    def test_at_once(self, status: int) -> None:
        """It is taken at once, if nothing else changes."""
        assert self.asked(Hop(status, self.GIVEN, self.SECURE)) == self.SECURE

    def test_address_with_a_secret(self) -> None:
        """It is taken without storing the address, so secrets do not hinder it."""
        given, secure = (f"{url}&key=s3cret" for url in (self.GIVEN, self.SECURE))
        address = follow(Address(), [Hop(301, given, secure)], NOW, 7 * DAY)
        assert "s3cret" not in repr(address)
        assert address.of(given) == secure

    def test_of_an_adopted_address(self) -> None:
        """An adopted address takes it as well."""
        hop = Hop(301, "http://n.example/", "https://n.example/")
        adopted = Address("http://n.example/")
        assert self.asked(hop, address=adopted) == "https://n.example/"

    @pytest.mark.parametrize(
        "hop",
        [
            Hop(302, GIVEN, SECURE),
            Hop(301, GIVEN, "https://h.example/f?a=2"),
            Hop(301, GIVEN, "https://h.example:8443/f?a=1"),
            Hop(301, GIVEN, "https://www.h.example/f?a=1"),
            Hop(301, SECURE, GIVEN),
        ],
    )
    def test_not_at_once(self, hop: Hop) -> None:
        """Any other change waits, or never comes."""
        assert self.asked(hop, given=hop.source) == hop.source

    def test_first_of_two_steps(self) -> None:
        """Another redirect behind it is a step of its own."""
        www = "https://www.h.example/f?a=1"
        hops = Hop(301, self.GIVEN, self.SECURE), Hop(301, self.SECURE, www)
        assert self.asked(*hops) == self.SECURE

    def test_stays(self) -> None:
        """It stays taken while the server redirects no more."""
        address = follow(Address(is_secure=True), [], NOW, 7 * DAY)
        assert address.of(self.GIVEN) == self.SECURE


def test_permanent_only_to_the_first_temporary_one() -> None:
    """Behind a temporary redirect nothing is permanent."""
    hops = Hop(301, "http://a/", "http://b/"), Hop(302, "http://b/", "http://c/")
    address = follow(Address(), hops, NOW, 7 * DAY)
    assert address.moving_to == "http://b/"
    assert follow(address, hops, NOW + 7 * DAY, 7 * DAY).of("http://a/") == "http://b/"
    assert follow(address, hops[1:], NOW + 7 * DAY, 7 * DAY) == Address()
