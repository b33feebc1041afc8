"""What is believed of an OpenID provider, and how the exchange proves itself to one; activities by data."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from local.openid import OpenIdApp, OpenIdProvider
from local.server import Server
from passerelle.api.keysets import HttpKeySets
from passerelle.api.openid import HttpOpenIdProviders
from passerelle.api.outbound import Outbound
from passerelle.authorization.activities import insured_of, professional_of
from passerelle.authorization.keys import PublishedKeys
from passerelle.authorization.model import BadTokenError
from passerelle.authorization.openid import (
    Metadata,
    Provider,
    ProviderRefusedError,
    ProviderUnavailableError,
    country,
    parse_metadata,
    parse_providers,
)
from passerelle.directory.model import Role

AT = datetime(2026, 3, 1, tzinfo=UTC)
GOOD = {
    "issuer": "https://p.example",
    "authorization_endpoint": "https://elsewhere.example/auth",
    "token_endpoint": "https://p.example/token",
    "jwks_uri": "https://p.example/jwks",
}


def provider(issuer: str = "https://p.example", secret: str = "") -> Provider:
    return Provider(
        id="p", name="P", profile="professionals", issuer=issuer, client_id="passerelle", acr="eidas1", secret=secret
    )


def test_a_discovery_document_is_of_its_issuer() -> None:
    found = parse_metadata(json.dumps(GOOD).encode(), provider())
    assert found == Metadata(
        authorization_endpoint="https://elsewhere.example/auth",
        token_endpoint="https://p.example/token",
        jwks_uri="https://p.example/jwks",
        userinfo_endpoint=None,
        names_itself=False,
    )


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(GOOD | {"issuer": "https://p.example/"}),
        json.dumps(GOOD | {"issuer": "https://evil.example"}),
        json.dumps(GOOD | {"token_endpoint": "http://p.example/token"}),
        json.dumps(GOOD | {"authorization_endpoint": "javascript:alert(1)"}),
        json.dumps(GOOD | {"jwks_uri": 7}),
        json.dumps({name: value for name, value in GOOD.items() if name != "jwks_uri"}),
        json.dumps([GOOD]),
        "[" * 100_000,
        "no",
    ],
)
def test_any_other_document_is_none(content: str) -> None:
    with pytest.raises(ProviderUnavailableError):
        parse_metadata(content.encode(), provider())


def test_providers_are_settings() -> None:
    settings = {"id": "p", "name": "P", "profile": "people", "client_id": "x", "acr": "eidas2", "secret": ""}
    found = parse_providers(json.dumps([settings | {"issuer": "/openid/people"}]), "http://127.0.0.1:8000")
    assert found["p"].issuer == "http://127.0.0.1:8000/openid/people"
    with pytest.raises(ValueError, match="assurance"):
        parse_providers(json.dumps([settings | {"issuer": "https://p.example", "acr": "gold"}]), "")


class Noting(OpenIdProvider):
    """Notes the forms that its token endpoint gets, and how often it is asked for its own description."""

    forms: list[dict[str, str]]
    described: int

    def answer(self, method: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Any:
        self.described += path.startswith("/.well-known")
        if path == "/token":
            self.forms.append(dict(parse_qsl(body.decode())))
        return super().answer(method, path, query, headers, body)


@pytest.fixture(scope="module")
def noting() -> Iterator[Noting]:
    server = Server()
    made = Noting(f"{server.url}/p", "P", (), root="https://exchange.example")
    server.start(OpenIdApp({"/p": made}))
    yield made
    server.stop()


@pytest.fixture
def local(noting: Noting) -> Noting:
    noting.forms, noting.described = [], 0
    return noting


def client(**secrets: str) -> HttpOpenIdProviders:
    outbound = Outbound(allow_loopback=True)
    return HttpOpenIdProviders(outbound, PublishedKeys(lambda: HttpKeySets(outbound)), secrets.__getitem__)


def redeem(openid: HttpOpenIdProviders, asked: Provider) -> None:
    with pytest.raises(ProviderRefusedError):
        openid.redeem(asked, code="c", verifier="v", redirect_uri="https://exchange.example/oauth2/callback", at=AT)


def test_the_exchange_proves_itself_with_what_it_has(local: Noting) -> None:
    redeem(client(), provider(local.issuer))
    redeem(client(arn="hush"), provider(local.issuer, secret="arn"))
    key = ECKey.generate_key("P-256", {"kid": "k", "alg": "ES256"})
    redeem(client(arn=json.dumps(key.as_dict(private=True))), provider(local.issuer, secret="arn"))
    nothing, password, assertion = local.forms
    assert not {"client_secret", "client_assertion"} & nothing.keys()
    assert password["client_secret"] == "hush"
    assert "client_secret" not in assertion
    claims = jwt.decode(assertion["client_assertion"], key, algorithms=["ES256"]).claims
    assert claims["iss"] == claims["sub"] == "passerelle"
    assert claims["aud"] == local.issuer
    assert claims["exp"] - claims["iat"] <= 60


def test_a_provider_is_asked_once_an_hour_what_it_is(local: Noting) -> None:
    openid, asked = client(), provider(local.issuer)
    for minutes in (0, 30, 59):
        openid.metadata(asked, AT + timedelta(minutes=minutes))
    assert local.described == 1
    openid.metadata(asked, AT + timedelta(minutes=60))
    assert local.described == 2


def test_no_private_address_is_asked() -> None:
    outbound = Outbound(allow_loopback=False)
    openid = HttpOpenIdProviders(outbound, PublishedKeys(lambda: HttpKeySets(outbound)), str)
    for issuer in ("https://127.0.0.1", "https://169.254.169.254", "http://p.example", "https://[::1]"):
        with pytest.raises(ProviderUnavailableError):
            openid.metadata(provider(issuer), AT)


# --- who -------------------------------------------------------------------------------------------------------------

# As Pro Santé Connect tells of a podiatrist with a practice of their own: no FINESS, the structure under its older
# identifier, which is an IDNST already.
ALONE = {
    "codeModeExercice": "L",
    "codeSecteurDactivite": "SA07",
    "numeroFinessSite": "",
    "numeroFinessetablissementJuridique": "",
    "numeroSiretSite": "",
    "identifiantTechniqueDeLaStructure": "R99999",
    "ancienIdentifiantDeLaStructure": "499700999999007",
    "raisonSocialeSite": "CABINET D'ESSAI",
}


def told(*activities: Mapping[str, Any], profession: str = "80", **changes: Any) -> dict[str, Any]:
    exercise = {"codeProfession": profession, "codeCategorieProfessionnelle": "C", "activities": list(activities)}
    return {
        "SubjectNameID": "899700999999",
        "given_name": "Ida",
        "family_name": "ESSAI",
        "SubjectRefPro": {"exercices": [exercise | changes]},
    }


def names(profile: str = "professionals") -> Mapping[str, Any]:
    found: Mapping[str, Any] = country()["profiles"][profile]
    return found


def test_an_activity_without_finess_is_named_by_the_identifier_that_it_has() -> None:
    found = professional_of(told(ALONE), names())
    assert (found.identifier, found.name) == ("899700999999", "Ida ESSAI")
    (activity,) = found.activities
    assert (activity.organisation, activity.profession, activity.role) == ("499700999999007", "80", Role.PRACTICE)
    siret = professional_of(told(ALONE | {"numeroSiretSite": "12345678901234"}), names())
    assert siret.activities[0].organisation == "312345678901234"


def test_the_same_activity_twice_is_one() -> None:
    assert len(professional_of(told(ALONE, ALONE), names()).activities) == 1


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"SubjectNameID": "899700999999", "SubjectRefPro": "none"},
        {"SubjectNameID": "899700999999", "SubjectRefPro": {"exercices": [7, {"activities": 7}]}},
        told("none"),  # type: ignore[arg-type]
        told(ALONE, codeCategorieProfessionnelle="E"),
        told(ALONE | {"codeSecteurDactivite": "SA23"}),
    ],
)
def test_claims_of_another_shape_give_no_activity(claims: dict[str, Any]) -> None:
    if "SubjectNameID" not in claims:
        with pytest.raises(BadTokenError):
            professional_of(claims, names())
    else:
        assert professional_of(claims, names()).activities == ()


@pytest.mark.parametrize(
    ("value", "authority"),
    [
        ("155069900100158", "1.2.250.1.213.1.4.99"),
        ("15506990010015", "1.2.250.1.213.1.4.10"),
        ("15506990010015８", "1.2.250.1.213.1.4.10"),
        ("155069900100158 OR 1=1", "1.2.250.1.213.1.4.10"),
    ],
)
def test_a_patient_has_a_national_identifier(value: str, authority: str) -> None:
    good = {"ins": "155069900100158", "ins_oid": "1.2.250.1.213.1.4.10", "given_name": "A\u202eB", "family_name": "C"}
    found = insured_of(good, names("people"))
    assert (found.identifier, found.name) == ("urn:oid:1.2.250.1.213.1.4.10|155069900100158", "C")
    with pytest.raises(BadTokenError):
        insured_of(good | {"ins": value, "ins_oid": authority}, names("people"))


def test_every_role_of_the_data_is_one_and_has_a_purpose() -> None:
    roles = {rule["role"] for rule in country()["roles"] if rule["role"]}
    assert {Role(each) for each in roles | country()["purposes"].keys()}
    assert roles <= country()["purposes"].keys()
    assert set(Role) == {Role(each) for each in country()["purposes"]}
