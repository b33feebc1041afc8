"""Registered clients and seen assertions on DynamoDB."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import boto3
import pytest

from passerelle import wiring
from passerelle.authorization.model import ReplayedAssertionError
from passerelle.authorization.secrets import new_secret
from passerelle.aws.clients import DynamoClients
from passerelle.aws.dynamodb import in_parallel
from passerelle.errors import NotFound
from tests.registered import System, empty, services

AT = datetime(2026, 1, 14, 9, 30, tzinfo=UTC)


@pytest.fixture(scope="module", autouse=True)
def _services() -> Iterator[None]:
    with services():
        yield


@pytest.fixture
def clients() -> DynamoClients:
    empty(wiring.table_names().operations)
    return wiring.clients()


@pytest.mark.parametrize(
    "system",
    [
        System(),
        System(
            algorithm="RS384",
            registration={
                "domain": "urn:oid:2.999.1",
                "professional": "810003461033",
                "patient": "urn:oid:1.2.250.1.213.1.4.10|1",
                "jwks_url": "https://hospital-a.example/jwks",
                "active": False,
                "revoked": {"a-token": 5},
                "secrets": (new_secret()[1], replace(new_secret()[1], expires_at=7)),
                "certificates": frozenset({"x" * 43}),
                "purposes": ("TREAT", "HRESCH"),
                "names_professionals": True,
                "introspects": True,
            },
        ),
    ],
    ids=["least", "everything"],
)
def test_a_client_comes_back_as_it_was_registered(clients: DynamoClients, system: System) -> None:
    clients.register(system.client)
    assert clients.find(system.id) == system.client


def test_an_unknown_client_is_not_found(clients: DynamoClients) -> None:
    assert clients.find("nobody") is None
    with pytest.raises(NotFound):
        clients.deactivate("nobody")
    with pytest.raises(NotFound):
        clients.revoke("nobody", "token", expires_at=AT, at=AT)
    assert clients.find("nobody") is None


def test_deactivating_changes_nothing_else(clients: DynamoClients) -> None:
    clients.register(System().client)
    clients.deactivate("hospital-a")
    assert clients.find("hospital-a") == System(registration={"active": False}).client


def test_revoked_tokens_are_kept_until_they_would_have_expired(clients: DynamoClients) -> None:
    clients.register(System().client)
    soon, later = AT + timedelta(minutes=1), AT + timedelta(minutes=5)
    clients.revoke("hospital-a", "first", expires_at=soon, at=AT)
    clients.revoke("hospital-a", "second", expires_at=later, at=AT)
    found = clients.find("hospital-a")
    assert found is not None
    assert set(found.revoked) == {"first", "second"}
    clients.revoke("hospital-a", "third", expires_at=later, at=soon)
    found = clients.find("hospital-a")
    assert found is not None
    assert set(found.revoked) == {"second", "third"}


def test_an_assertion_is_remembered_once_and_per_client(clients: DynamoClients) -> None:
    clients.remember_assertion("hospital-a", "x", until=AT)
    clients.remember_assertion("hospital-a", "y", until=AT)
    clients.remember_assertion("hospital-b", "x", until=AT)
    with pytest.raises(ReplayedAssertionError):
        clients.remember_assertion("hospital-a", "x", until=AT)


def test_a_seen_assertion_is_a_hash_that_expires(clients: DynamoClients) -> None:
    clients.remember_assertion("hospital-a", "an id of the client's own making", until=AT)
    (item,) = boto3.client("dynamodb").scan(TableName=wiring.table_names().operations)["Items"]
    assert "making" not in str(item)
    assert int(item["ttl"]["N"]) == AT.timestamp()


def test_revocations_at_the_same_moment_are_all_kept(clients: DynamoClients) -> None:
    """None reads what another is about to replace, so none has to repeat."""
    clients.register(System().client)
    later = AT + timedelta(minutes=5)
    in_parallel(
        *(
            lambda number=number: clients.revoke("hospital-a", f"t{number}", expires_at=later, at=AT)
            for number in range(8)
        )
    )
    found = clients.find("hospital-a")
    assert found is not None
    assert set(found.revoked) == {f"t{number}" for number in range(8)}


def test_a_third_secret_ends_the_oldest(clients: DynamoClients) -> None:
    clients.register(System().client)
    made = [new_secret()[1] for _ in range(3)]
    for secret in made:
        clients.add_secret("hospital-a", secret, old_until=AT + timedelta(days=1), at=AT)
    found = clients.find("hospital-a")
    assert found is not None
    assert found.secrets == (made[2], replace(made[1], expires_at=int((AT + timedelta(days=1)).timestamp())))
    with pytest.raises(NotFound):
        clients.add_secret("nobody", made[0], old_until=AT, at=AT)
