"""How long a fetched key set is used, and how often its address is asked; which keys are good enough."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from passerelle.authorization.keys import Jwk, KeySetUnavailableError, PublishedKeys, check_public_key
from tests.registered import key_of

AT = datetime(2026, 1, 14, 9, 30, tzinfo=UTC)
URL = "https://hospital-a.example/jwks"
EC, RSA = (key_of(kind).as_dict(private=False) for kind in ("ES384", "RS384"))


class Site:
    """`authorization.keys.KeySets` of one site, that may be down."""

    def __init__(self, *keys: Jwk) -> None:
        self.keys: Sequence[Jwk] | None = keys
        self.calls = 0

    def fetch(self, url: str) -> Sequence[Jwk]:
        self.calls += 1
        if self.keys is None:
            raise KeySetUnavailableError("timeout")
        return self.keys


def after(**time: int) -> datetime:
    return AT + timedelta(**time)


def test_a_set_is_fetched_once_in_five_minutes() -> None:
    site = Site(EC)
    published = PublishedKeys(lambda: site)
    for seconds in range(0, 299, 20):
        assert published.named(URL, EC["kid"], after(seconds=seconds)) == [EC]
    assert site.calls == 1
    published.named(URL, EC["kid"], after(minutes=5))
    assert site.calls == 2


def test_a_new_key_is_found_within_a_minute_and_unknown_ones_ask_no_more_often() -> None:
    site = Site(EC)
    published = PublishedKeys(lambda: site)
    published.named(URL, EC["kid"], AT)
    site.keys = (EC, RSA)
    for seconds in range(1, 60):
        assert published.named(URL, RSA["kid"], after(seconds=seconds)) == []
    assert site.calls == 1
    assert published.named(URL, RSA["kid"], after(seconds=60)) == [RSA]
    assert site.calls == 2


def test_a_key_that_is_withdrawn_works_five_minutes_more_at_most() -> None:
    site = Site(EC)
    published = PublishedKeys(lambda: site)
    published.named(URL, EC["kid"], AT)
    site.keys = (RSA,)
    assert published.named(URL, EC["kid"], after(seconds=299)) == [EC]
    assert published.named(URL, EC["kid"], after(seconds=300)) == []


def test_while_the_site_is_down_its_last_set_is_good_for_an_hour_and_asked_for_once_a_minute() -> None:
    site = Site(EC)
    published = PublishedKeys(lambda: site)
    published.named(URL, EC["kid"], AT)
    site.keys = None
    for minutes in (5, 20, 59):
        assert published.named(URL, EC["kid"], after(minutes=minutes)) == [EC]
        assert published.named(URL, EC["kid"], after(minutes=minutes, seconds=30)) == [EC]
    assert site.calls == 4
    assert published.named(URL, EC["kid"], after(hours=1)) == ()
    site.keys = (EC,)
    assert published.named(URL, EC["kid"], after(hours=1, minutes=1)) == [EC]


def test_a_site_that_was_never_up_gives_nothing_and_is_not_hammered() -> None:
    site = Site()
    site.keys = None
    published = PublishedKeys(lambda: site)
    for seconds in range(60):
        assert published.named(URL, EC["kid"], after(seconds=seconds)) == ()
    assert site.calls == 1


def test_a_process_holds_so_many_sets() -> None:
    site = Site(EC)
    published = PublishedKeys(lambda: site)
    for number in range(201):
        published.named(f"{URL}/{number}", EC["kid"], AT)
    published.named(f"{URL}/200", EC["kid"], AT)
    assert site.calls == 201
    published.named(f"{URL}/0", EC["kid"], AT)
    assert site.calls == 202


@pytest.mark.parametrize(
    "jwk",
    [
        pytest.param({**RSA, "n": "A" * 1366}, id="RSA-of-8192-bits"),
        pytest.param({**RSA, "e": "A" * 400}, id="RSA-with-a-huge-exponent"),
        pytest.param({**RSA, "n": 5}, id="RSA-with-a-number"),
        pytest.param({**RSA, "use": "enc"}, id="for-encryption"),
        pytest.param({**EC, "crv": "secp256k1"}, id="another-curve"),
        pytest.param({**EC, "crv": "P-256"}, id="a-point-of-another-curve"),
        pytest.param({**EC, "kid": ["a"]}, id="kid-is-a-list"),
        pytest.param({"kid": "1", "kty": "OKP", "crv": "Ed25519", "x": "A" * 43}, id="another-kind"),
        pytest.param({"kid": "1", "kty": "oct", "k": "A" * 43}, id="shared-key"),
        pytest.param({"kid": "1"}, id="nothing"),
    ],
)
def test_a_key_that_is_not_good_enough_is_named_as_such(jwk: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="a registered"):
        check_public_key(jwk)


@pytest.mark.parametrize("kind", ["ES256", "ES384", "RS384"])
def test_keys_of_the_kinds_in_use_are_good_enough(kind: str) -> None:
    check_public_key(key_of(kind).as_dict(private=False))
