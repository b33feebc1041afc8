"""Data keys: made once, read once, gone for good; what they seal opens in its own place only."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from passerelle import wiring
from passerelle.aws.dynamodb import measure
from passerelle.aws.keys import KEPT_SECONDS, KeyRing, Lost, opened, sealed, unsealed
from passerelle.aws.sealing import Sealer
from passerelle.errors import Fault, Gone
from tests.registered import services

PATIENT = "7q2k9c4m1xw8z0ab"
STAGE = Sealer(b"s" * 32)


@pytest.fixture(scope="module")
def _exchange() -> Iterator[None]:
    with services():
        yield


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def ring(clock: Clock | None = None) -> KeyRing:
    return KeyRing(wiring.dynamodb(), "keys", lambda: STAGE, now=clock or Clock())


@pytest.mark.usefixtures("_exchange")
def test_a_key_is_made_once_and_read_once_a_minute() -> None:
    clock = Clock()
    first, second = ring(), ring(clock)
    assert first.find(PATIENT) is Lost.NEVER
    value = first.sealer(PATIENT).seal(b"text", "place")
    with measure() as spent:
        assert opened(second.find(PATIENT), value, "place") == b"text"
        assert second.beside(lambda: "read", PATIENT) == "read"
        assert spent.calls == ["GetItem"]
        clock.seconds = KEPT_SECONDS + 1
        second.find(PATIENT)
    assert spent.calls == ["GetItem"] * 2


@pytest.mark.usefixtures("_exchange")
def test_what_is_sealed_opens_in_its_own_place_only() -> None:
    item = {"PK": "a", "SK": "b", "text": "said", "n": 1}
    kept = sealed(item, {"text"}, PATIENT, ring())
    assert isinstance(kept["text"], bytes)
    assert unsealed(kept, {"text"}, PATIENT, ring()) == item
    for moved in ({**kept, "PK": "other"}, {**kept, "text": kept["text"][:-1] + b"\x00"}):
        with pytest.raises(Fault):
            unsealed(moved, {"text"}, PATIENT, ring())


@pytest.mark.usefixtures("_exchange")
def test_a_destroyed_key_never_comes_back() -> None:
    ours, other = ring(), ring()
    patient = PATIENT[::-1]
    value = ours.sealer(patient).seal(b"text", "place")
    for _ in range(2):
        ours.destroy(patient, wiring.now())
    assert opened(other.find(patient), value, "place") is None
    with pytest.raises(Gone):
        other.sealer(patient)
    with pytest.raises(Fault):  # no tombstone: what was sealed is lost, not erased
        opened(other.find("0" * 16), value, "place")
