"""People log in (contract: IUA-2, IUA-3, IUA-5, SMART-6, SMART-7), and what is tried in their place."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import boto3
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from local.openid import Claims, OpenIdProvider
from local.region import INS_TEST, ins_of
from passerelle import wiring
from passerelle.authorization.codes import CODE_LIFE, digest_of
from passerelle.authorization.login import LOGIN_LIFE
from passerelle.aws.codes import DynamoCodes
from passerelle.aws.logins import DynamoLogins
from tests.logging_in import (
    OPERATOR,
    OWN,
    PORTAL,
    REDIRECT_URI,
    Application,
    Browser,
    Providers,
    chosen,
    context_of,
    providers,
    said,
)
from tests.registered import ROOT, System, services

DOCTOR = "f:local:810000000011"  # of one hospital
AT_TWO = "f:local:810000000037"  # of a practice and a hospital
NURSE = "f:local:810000000078"
PHARMACIST = "f:local:810000000052"
BIOLOGIST = "f:local:810000000045"
MYSELF, CHILD = "local:01", f"{INS_TEST}|{ins_of(11)}"


@pytest.fixture(scope="module")
def openid() -> Iterator[Providers]:
    with services(), pytest.MonkeyPatch.context() as patch, providers(patch) as made:
        for client in (PORTAL, OWN, replace(PORTAL, id="another")):
            wiring.clients().register(client)
        yield made


@pytest.fixture
def browser(openid: Providers) -> Browser:
    return Browser()


@pytest.fixture
def app() -> Application:
    return Application()


def code_of(browser: Browser, app: Application, who: str = DOCTOR, **changes: str | None) -> str:
    return said(browser.log_in(app.asked(**changes), who))["code"]


def token_of(browser: Browser, app: Application, who: str = DOCTOR, **changes: str | None) -> str:
    status, body = app.redeem(code_of(browser, app, who, **changes))
    assert status == 200, body
    return str(body["access_token"])


def payload(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return found


def refused(answer: Mapping[str, Any], status: int) -> str:
    """The page that says no: it redirects nobody, and runs nothing."""
    assert answer["statusCode"] == status, answer["body"]
    assert "Location" not in answer["headers"]
    assert "script" not in answer["headers"]["Content-Security-Policy"]
    return str(answer["body"])


# --- the whole ------------------------------------------------------------------------------------------------------


def test_a_professional_logs_in(browser: Browser, app: Application) -> None:
    """IUA-2."""
    answer = browser.log_in(app.asked(), DOCTOR)
    assert answer["statusCode"] == 302
    told = said(answer)
    assert told == {"code": told["code"], "state": app.state, "iss": ROOT}
    assert not browser.cookies
    status, body = app.redeem(told["code"])
    assert status == 200
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert (body["token_type"].lower(), body["expires_in"], body["scope"]) == ("bearer", 300, "user/*.rs")
    assert timedelta(minutes=5) >= CODE_LIFE


def test_the_token_says_who_for_whom_and_why(browser: Browser, app: Application) -> None:
    """IUA-5, user token; and the functions see the same."""
    token = token_of(browser, app)
    claims = payload(token)
    assert claims["exp"] - claims["iat"] == 300
    assert {name: claims[name] for name in ("iss", "sub", "client_id", "aud", "scope")} == {
        "iss": ROOT,
        "sub": "810000000011",
        "client_id": "portal",
        "aud": f"{ROOT}/fhir",
        "scope": "user/*.rs",
    }
    assert claims["jti"]
    assert claims["extensions"]["ihe_iua"] == {
        "subject_name": "Claire MARCHAND",
        "subject_organization": "Centre hospitalier des Trois Rivières",
        "subject_organization_id": "urn:oid:1.2.250.1.71.4.2.2|1990000011",
        "subject_role": [
            {
                "system": "https://mos.esante.gouv.fr/NOS/TRE_G15-ProfessionSante/FHIR/TRE-G15-ProfessionSante",
                "code": "10",
            }
        ],
        "purpose_of_use": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "TREAT"}],
        "national_provider_identifier": "810000000011",
        "home_community_id": "urn:oid:2.999.1000",
    }
    effect, context = context_of(token)
    assert effect == "Allow"
    expected = {
        "role": "hospital",
        "organisation": "1990000011",
        "professional": "810000000011",
        "profession": "10",
        "name": "Claire MARCHAND",
        "purpose": "TREAT",
    }
    assert expected.items() <= context.items()
    assert "patient" not in context


def test_a_patient_logs_in(browser: Browser, openid: Providers) -> None:
    own = f"{INS_TEST}|{ins_of(1)}"
    token = token_of(browser, Application(client=OWN), MYSELF)
    told = payload(token)["extensions"]["ihe_iua"]
    assert told["person_id"] == f"{ins_of(1)}^^^&1.2.250.1.213.1.4.10&ISO"
    assert [each["code"] for each in told["subject_role"]] == ["PAT"]
    effect, context = context_of(token)
    assert effect == "Allow"
    assert {"role": "patient", "patient": own, "purpose": "PATRQT", "organisation": OPERATOR}.items() <= context.items()
    assert not {"person", "professional", "profession"} & context.keys()


def test_somebody_acts_for_another(browser: Browser, openid: Providers) -> None:
    """They may log in; whether they have a mandate is asked at every request. No INS is in an address."""
    app = Application(client=OWN)
    answer = browser.log_in(app.asked(person_id=CHILD, purpose_of_use="FAMRQT"), MYSELF, posted=True)
    _, body = app.redeem(said(answer)["code"])
    _, context = context_of(body["access_token"])
    expected = {"role": "representative", "patient": CHILD, "person": f"{INS_TEST}|{ins_of(1)}", "purpose": "FAMRQT"}
    assert expected.items() <= context.items()
    told = said(browser.ask("GET", "/oauth2/authorize", app.asked(person_id=CHILD)))
    assert told["error"] == "invalid_request"
    answer = browser.log_in(app.asked(person_id=f"{INS_TEST}|{ins_of(1)}"), MYSELF, posted=True)
    assert context_of(app.redeem(said(answer)["code"])[1]["access_token"])[1]["role"] == "patient"


@pytest.mark.parametrize(
    ("who", "role", "profession"),
    [(NURSE, "nurse", "60"), (PHARMACIST, "pharmacy", "21"), (BIOLOGIST, "laboratory", "21")],
)
def test_the_activity_gives_the_role(browser: Browser, app: Application, who: str, role: str, profession: str) -> None:
    """SMART-7: by data, from profession and sector."""
    _, context = context_of(token_of(browser, app, who))
    assert (context["role"], context["profession"]) == (role, profession)


@pytest.mark.parametrize(
    ("activity", "organisation", "role"),
    [("990000037", "1990000037", "practice"), ("1990000011", "1990000011", "hospital")],
)
def test_the_activity_asked_for_is_among_those_of_the_person(
    browser: Browser, app: Application, activity: str, organisation: str, role: str
) -> None:
    """SMART-7: sets role and organisation."""
    _, context = context_of(token_of(browser, app, AT_TWO, activity=activity))
    assert (context["organisation"], context["role"]) == (organisation, role)


@pytest.mark.parametrize("activity", ["990000045", "1990000029", "990000011|60"])
def test_a_foreign_activity_is_refused(browser: Browser, app: Application, activity: str) -> None:
    """SMART-7: 403, and the way back says so to the application."""
    page = refused(browser.log_in(app.asked(activity=activity), DOCTOR), 403)
    assert "error=access_denied" in page
    assert f"state={app.state}" in page
    assert "code=" not in page.replace("status_code", "")


def test_somebody_of_two_activities_chooses(browser: Browser, app: Application) -> None:
    """SMART-7: without a word of the application, the page leads to each."""
    answer = browser.log_in(app.asked(), AT_TWO)
    assert answer["statusCode"] == 200
    assert "Cabinet médical des Tilleuls" in answer["body"]
    links = [each.split('"')[0].replace("&amp;", "&") for each in answer["body"].split('href="')[1:]]
    assert len(links) == 2
    again = parse_qsl(urlsplit(links[1]).query)
    told = said(browser.log_in(again, AT_TWO))
    assert told["state"] == app.state
    _, body = app.redeem(told["code"])
    assert context_of(body["access_token"])[1]["organisation"] == "1990000011"


def test_who_has_no_activity_here_is_refused(browser: Browser, app: Application, openid: Providers) -> None:
    def told(changes: Mapping[str, Any]) -> Callable[[dict[str, Any]], bytes]:
        def tell(claims: dict[str, Any]) -> bytes:
            (exercise,) = claims["SubjectRefPro"]["exercices"]
            exercise |= {name: value for name, value in changes.items() if name in exercise}
            for each in exercise["activities"]:
                each |= {name: value for name, value in changes.items() if name in each}
            return json.dumps(claims).encode()

        return tell

    without: list[dict[str, Any]] = [
        {"activities": []},
        {"codeSecteurDactivite": "SA24"},  # social insurance
        {"codeSecteurDactivite": "SA66"},  # occupational health
        {"codeCategorieProfessionnelle": "E"},  # a student
        {"codeProfession": ""},
        {"numeroFinessSite": "99000001１", "ancienIdentifiantDeLaStructure": ""},  # a digit of another script
    ]
    for changes in without:
        with openid.forging(tell=told(changes)):
            refused(browser.log_in(app.asked(), DOCTOR), 403)


def test_the_purpose_is_one_that_the_role_and_the_application_may_have(browser: Browser, app: Application) -> None:
    _, context = context_of(token_of(browser, app, purpose_of_use="CAREMGT"))
    assert context["purpose"] == "CAREMGT"
    refused(browser.log_in(app.asked(purpose_of_use="HRESCH"), DOCTOR), 403)
    assert said(browser.ask("GET", "/oauth2/authorize", app.asked(purpose_of_use="FUN")))["error"] == "invalid_request"
    wiring.clients().register(replace(PORTAL, id="narrow", purposes=("COC",)))
    narrow = Application(client=replace(PORTAL, id="narrow"))
    assert context_of(token_of(browser, narrow))[1]["purpose"] == "COC"
    refused(browser.log_in(narrow.asked(purpose_of_use="TREAT"), DOCTOR), 403)


def test_an_application_with_a_key_proves_itself(browser: Browser, openid: Providers) -> None:
    """A confidential client authenticates when it redeems; a public one is never given anything without a person."""
    system = System(id="keyed", scope="user/*.rs system/*.rs")
    kept = replace(system.client, redirect_uris=(REDIRECT_URI,), providers=("professionals",))
    wiring.clients().register(kept)
    app = Application(client=kept)
    status, body = app.redeem(code_of(browser, app))
    assert (status, body["error"]) == (401, "invalid_client")
    code = code_of(browser, app)
    proof = {
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": system.assertion(),
    }
    assert app.redeem(code, **proof)[0] == 200
    public = Application()
    assert public.redeem("", grant_type="client_credentials", scope="user/*.rs")[0] == 401


# --- codes ----------------------------------------------------------------------------------------------------------


def test_a_code_gives_one_token_which_ends_when_it_comes_again(browser: Browser, app: Application) -> None:
    """IUA-3: reused."""
    code = code_of(browser, app)
    status, body = app.redeem(code)
    assert status == 200
    assert context_of(body["access_token"])[0] == "Allow"
    status, refusal = app.redeem(code)
    assert (status, refusal["error"]) == (400, "invalid_grant")
    assert context_of(body["access_token"])[0] == "Deny"


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"code_verifier": secrets.token_urlsafe(32)}, id="IUA-3-wrong-verifier"),
        pytest.param({"code_verifier": None}, id="IUA-3-no-verifier"),
        pytest.param({"code_verifier": "short"}, id="IUA-3-short-verifier"),
        pytest.param({"client_id": "another"}, id="IUA-3-other-client"),
        pytest.param({"redirect_uri": "https://app.example/other"}, id="other-address"),
        pytest.param({"redirect_uri": None}, id="no-address"),
    ],
)
def test_a_code_is_good_for_whom_it_was_made(
    browser: Browser, app: Application, changes: dict[str, str | None]
) -> None:
    code = code_of(browser, app)
    status, body = app.redeem(code, **changes)
    assert (status, body["error"]) == (400, "invalid_grant")
    status, body = app.redeem(code)  # whoever tried has used it up
    assert (status, body["error"]) == (400, "invalid_grant")


def test_a_code_is_good_for_a_minute(browser: Browser, app: Application) -> None:
    """IUA-3: too old. The store keeps it longer, to know who brings it again."""
    codes = DynamoCodes(wiring.dynamodb(), wiring.table_names())
    grant = codes.find(digest_of(code_of(browser, app)))
    assert grant is not None
    old = secrets.token_urlsafe(32)
    codes.keep(digest_of(old), replace(grant, expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    assert app.redeem(old)[1]["error"] == "invalid_grant"
    for unknown in (secrets.token_urlsafe(32), "", "é" * 43, "A" * 5000):
        assert app.redeem(unknown)[1]["error"] in ("invalid_grant", "invalid_request")


def test_neither_code_nor_state_is_stored(browser: Browser, app: Application) -> None:
    location = browser.to_provider(app.asked())
    (state,) = parse_qs(urlsplit(location).query)["state"]
    (cookie,) = browser.cookies.values()
    code = code_of(browser, app)
    stored = str(boto3.client("dynamodb").scan(TableName="operations")["Items"])
    assert digest_of(code) in stored
    assert not any(each in stored for each in (code, state, cookie))


# --- what the provider says -----------------------------------------------------------------------------------------

STRANGER = ECKey.generate_key("P-256", {"kid": "stranger"})


def signed(claims: Claims, by: OpenIdProvider, **header: Any) -> str:
    head = {"alg": "ES256", "kid": by.key.kid} | header
    return jwt.encode(head, dict(claims), by.key, algorithms=["ES256"])


def part(content: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def by_stranger(claims: Claims, by: OpenIdProvider) -> str:
    return jwt.encode({"alg": "ES256", "kid": by.key.kid}, dict(claims), STRANGER, algorithms=["ES256"])


def with_own_key(claims: Claims, by: OpenIdProvider) -> str:
    header = {"alg": "ES256", "kid": "stranger", "jwk": STRANGER.as_dict(private=False)}
    return jwt.encode(header, dict(claims), STRANGER, algorithms=["ES256"])


def unsigned(claims: Claims, by: OpenIdProvider) -> str:
    return f"{part({'alg': 'none', 'kid': by.key.kid})}.{part(claims)}."


def with_public_key_as_secret(claims: Claims, by: OpenIdProvider) -> str:
    message = f"{part({'alg': 'HS256', 'kid': by.key.kid})}.{part(claims)}"
    mac = hmac.new(by.key.as_pem(private=False), message.encode(), hashlib.sha256).digest()
    return f"{message}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def saying(**changes: Any) -> Callable[[Claims, OpenIdProvider], str]:
    def forge(claims: Claims, by: OpenIdProvider) -> str:
        return signed({name: value for name, value in (dict(claims) | changes).items() if value is not None}, by)

    return forge


def edited(claims: Claims, by: OpenIdProvider) -> str:
    header, _, signature = signed(claims, by).split(".")
    return f"{header}.{part({**claims, 'sub': 'f:local:810000000029'})}.{signature}"


NOW = int(datetime.now(UTC).timestamp())
ID_TOKENS: Mapping[str, Callable[[Claims, OpenIdProvider], str]] = {
    "SMART-6-signature": by_stranger,
    "SMART-6-edited": edited,
    "SMART-6-alg-none": unsigned,
    "SMART-6-hs256-with-the-public-key": with_public_key_as_secret,
    "SMART-6-key-in-the-header": with_own_key,
    "SMART-6-unknown-kid": lambda claims, by: signed(claims, by, kid="unknown"),
    "SMART-6-no-kid": lambda claims, by: jwt.encode({"alg": "ES256"}, dict(claims), by.key, algorithms=["ES256"]),
    "SMART-6-critical": lambda claims, by: (
        f"{part({'alg': 'ES256', 'kid': by.key.kid, 'crit': ['x'], 'x': 1})}.e30.e30"
    ),
    "SMART-6-not-a-token": lambda claims, by: "nothing",
    "SMART-6-oversized": saying(padding="x" * 20_000),
    "SMART-6-iss": saying(iss="https://elsewhere.example"),
    "SMART-6-iss-of-the-other-provider": lambda claims, by: signed(
        {**claims, "iss": str(claims["iss"]).replace("professionals", "people")}, by
    ),
    "SMART-6-iss-slash": lambda claims, by: signed({**claims, "iss": f"{claims['iss']}/"}, by),
    "SMART-6-no-iss": saying(iss=None),
    "SMART-6-aud": saying(aud="another"),
    "SMART-6-no-aud": saying(aud=None),
    "SMART-6-aud-of-two-without-azp": saying(aud=["passerelle", "another"], azp=None),
    "SMART-6-azp": saying(azp="another"),
    "SMART-6-exp": saying(exp=NOW - 1),
    "SMART-6-no-exp": saying(exp=None),
    "SMART-6-exp-no-number": saying(exp="tomorrow"),
    "SMART-6-iat-ahead": saying(iat=NOW + 3600),
    "SMART-6-iat-long-ago": saying(iat=NOW - 3600),
    "SMART-6-nonce": saying(nonce="another"),
    "SMART-6-no-nonce": saying(nonce=None),
    "SMART-6-nonce-no-text": saying(nonce=["x"]),
    "SMART-6-acr-too-low": saying(acr="eidas1"),
    "SMART-6-acr-unknown": saying(acr="eidas9"),
    "SMART-6-acr-confusable": saying(acr="еidas2"),  # a Cyrillic letter
    "SMART-6-no-acr": saying(acr=None),
    "SMART-6-no-sub": saying(sub=None),
    "SMART-6-sub-unicode": saying(sub="ſub"),
}


@pytest.mark.parametrize("forge", ID_TOKENS.values(), ids=ID_TOKENS)
def test_an_id_token_that_is_not_good_is_refused(
    browser: Browser, app: Application, openid: Providers, forge: Callable[[Claims, OpenIdProvider], str]
) -> None:
    with openid.forging(forge):
        page = refused(browser.log_in(app.asked(), DOCTOR), 401)
    assert "error=access_denied" in page
    assert "810000000011" not in page


def test_higher_assurance_and_two_audiences_are_good(browser: Browser, app: Application, openid: Providers) -> None:
    with openid.forging(saying(acr="eidas3", aud=["passerelle", "another"], azp="passerelle")):
        assert "code" in said(browser.log_in(app.asked(), DOCTOR))


def test_an_id_token_of_another_login_is_refused(browser: Browser, app: Application, openid: Providers) -> None:
    """SMART-6: a nonce that is replayed."""
    seen: list[str] = []

    def keep(claims: Claims, by: OpenIdProvider) -> str:
        seen.append(signed(claims, by))
        return seen[0]

    with openid.forging(keep):
        assert "code" in said(browser.log_in(app.asked(), DOCTOR))
        refused(browser.log_in(app.asked(), DOCTOR), 401)


def test_a_login_that_is_too_old_is_refused_where_age_matters(
    browser: Browser, app: Application, openid: Providers
) -> None:
    """SMART-6: `auth_time`."""
    with openid.forging(saying(auth_time=NOW - 600)):
        refused(browser.log_in(app.asked(max_age="60"), DOCTOR), 401)
        assert "code" in said(browser.log_in(app.asked(), DOCTOR))
    with openid.forging(saying(auth_time=None)):
        refused(browser.log_in(app.asked(max_age="60"), DOCTOR), 401)
    assert "max_age=60" in browser.to_provider(app.asked(max_age="60"))


@pytest.mark.parametrize(
    "tell",
    [
        pytest.param(lambda claims: json.dumps({**claims, "sub": NURSE}).encode(), id="of-somebody-else"),
        pytest.param(lambda claims: json.dumps({**claims, "SubjectNameID": "81000000001１"}).encode(), id="unicode"),
        pytest.param(lambda claims: json.dumps({**claims, "SubjectNameID": ["810000000011"]}).encode(), id="list"),
        pytest.param(
            lambda claims: json.dumps({**claims, "SubjectNameID": "ANS20231122132732"}).encode(), id="no-rpps"
        ),
        pytest.param(lambda claims: b"{", id="not-json"),
        pytest.param(lambda claims: f"{part({'alg': 'none'})}.{part(claims)}.".encode(), id="unsigned"),
    ],
)
def test_userinfo_is_of_the_person_of_the_id_token(
    browser: Browser, app: Application, openid: Providers, tell: Callable[[dict[str, Any]], bytes]
) -> None:
    with openid.forging(tell=tell):
        refused(browser.log_in(app.asked(), DOCTOR), 401)


def test_userinfo_may_be_signed(browser: Browser, app: Application, openid: Providers) -> None:
    provider = openid.professionals

    def tell(claims: dict[str, Any]) -> bytes:
        return signed({**claims, "iss": provider.issuer, "aud": "passerelle"}, provider).encode()

    with openid.forging(tell=tell):
        assert "code" in said(browser.log_in(app.asked(), DOCTOR))


def test_a_provider_that_fails_is_told_to_the_application(
    browser: Browser, app: Application, openid: Providers
) -> None:
    with openid.forging(tell=lambda claims: b"{" + b"x" * 100_000):
        told = said(browser.log_in(app.asked(), DOCTOR))
    assert told["error"] == "temporarily_unavailable"
    assert said(browser.log_in(app.asked(), ""))["error"] == "access_denied"  # the person says no


# --- what comes back ------------------------------------------------------------------------------------------------


def callback(location: str, **changes: str | None) -> str:
    query: dict[str, str | None] = {**dict(parse_qsl(urlsplit(location).query)), **changes}
    return f"{ROOT}/oauth2/callback?{urlencode({name: value for name, value in query.items() if value is not None})}"


def test_an_answer_counts_once_and_for_the_browser_that_began(browser: Browser, app: Application) -> None:
    location = chosen(browser.to_provider(app.asked()), DOCTOR)
    refused(Browser().back(location), 400)  # login forced upon somebody else
    cookies = dict(browser.cookies)
    assert "code" in said(browser.back(location))
    browser.cookies = cookies
    refused(browser.back(location), 400)  # replayed


def test_a_cookie_is_bound_to_this_host_and_this_login(browser: Browser, app: Application) -> None:
    answer = browser.ask("GET", "/oauth2/authorize", app.asked())
    cookie = answer["headers"]["Set-Cookie"]
    assert cookie.startswith("__Host-login-")
    assert {"Path=/", "Max-Age=600", "HttpOnly", "SameSite=Lax", "Secure"} == set(cookie.split("; ")[1:])
    first, second = (browser.to_provider(app.asked()) for _ in range(2))  # two tabs
    assert "code" in said(browser.back(chosen(second, DOCTOR)))
    assert "code" in said(browser.back(chosen(first, DOCTOR)))


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"iss": "https://elsewhere.example"}, id="mix-up"),
        pytest.param({"iss": None}, id="mix-up-without-iss"),
        pytest.param({"code": "stolen"}, id="unknown-code"),
        pytest.param({"code": None}, id="no-code"),
        pytest.param({"code": "x" * 5000}, id="huge-code"),
        pytest.param({"code": "é"}, id="unicode-code"),
    ],
)
def test_an_answer_of_another_is_refused(browser: Browser, app: Application, changes: dict[str, str | None]) -> None:
    refused(browser.back(callback(chosen(browser.to_provider(app.asked()), DOCTOR), **changes)), 401)


def test_the_code_of_another_login_is_refused(browser: Browser, app: Application) -> None:
    """Injection: what the provider gave in one login is brought into another; its verifier does not fit."""
    stolen = dict(parse_qsl(urlsplit(chosen(browser.to_provider(app.asked()), DOCTOR)).query))["code"]
    refused(browser.back(callback(chosen(browser.to_provider(app.asked()), NURSE), code=stolen)), 401)


@pytest.mark.parametrize("state", ["", "x", "é" * 43, "A" * 43, "x" * 20_000])
def test_an_answer_to_nothing_is_refused(browser: Browser, state: str) -> None:
    answer = browser.ask("GET", "/oauth2/callback", {"code": "x", "state": state})
    refused(answer, 413 if len(state) > 1000 else 400)


def test_a_login_is_over_after_ten_minutes(browser: Browser, app: Application) -> None:
    location = browser.to_provider(app.asked())
    (state,) = parse_qs(urlsplit(location).query)["state"]
    logins = DynamoLogins(wiring.dynamodb(), wiring.table_names())
    login = logins.find(digest_of(state))
    assert login is not None
    assert timedelta(minutes=10) >= LOGIN_LIFE
    assert logins.take(digest_of(state))
    assert not logins.take(digest_of(state))
    logins.keep(digest_of(state), replace(login, expires_at=datetime.now(UTC) - timedelta(seconds=1)))
    refused(browser.back(chosen(location, DOCTOR)), 400)


def test_an_application_that_is_gone_meanwhile_gets_nothing(browser: Browser, openid: Providers) -> None:
    client = replace(PORTAL, id="leaving")
    wiring.clients().register(client)
    app = Application(client=client)
    location = chosen(browser.to_provider(app.asked()), DOCTOR)
    code = code_of(browser, app)
    wiring.clients().deactivate("leaving")
    refused(browser.back(location), 403)
    assert app.redeem(code)[0] == 401
    refused(browser.ask("GET", "/oauth2/authorize", app.asked()), 400)


# --- what an application asks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        None,
        "https://evil.example/back?of=app",
        "https://app.example/back",
        "https://app.example/back?of=app&to=evil",
        "https://app.example/back/?of=app",
        "https://app.example/BACK?of=app",
        "https://app.example/x/../back?of=app",
        "https://app.example:443/back?of=app",
        "https://app.example.evil.example/back?of=app",
        "https://app.example@evil.example/back?of=app",
        "https://app.example/back?of=app#x",
        "http://app.example/back?of=app",
        "https://аpp.example/back?of=app",
        "javascript:alert(1)//app.example/back?of=app",
        "//app.example/back?of=app",
        " https://app.example/back?of=app",
        "https://app.example/back?of=app%00",
        "x" * 12_000,
    ],
)
def test_nobody_is_sent_where_no_application_is(browser: Browser, app: Application, uri: str | None) -> None:
    """Never an open redirect: not with an error, either."""
    page = refused(browser.ask("GET", "/oauth2/authorize", app.asked(redirect_uri=uri, response_type="token")), 400)
    assert "evil" not in page
    assert not browser.cookies


@pytest.mark.parametrize("client_id", [None, "nobody", "portаl", "x" * 5000, "portal portal"])
def test_an_unknown_application_is_told_on_a_page(browser: Browser, app: Application, client_id: str | None) -> None:
    refused(browser.ask("GET", "/oauth2/authorize", app.asked(client_id=client_id)), 400)


def test_two_addresses_are_none(browser: Browser, app: Application) -> None:
    for twice in ("redirect_uri", "client_id"):
        asked = [*app.asked().items(), (twice, app.asked()[twice])]
        refused(browser.ask("GET", "/oauth2/authorize", asked), 400)
    asked = [*app.asked().items(), ("scope", "user/*.rs")]
    assert said(browser.ask("GET", "/oauth2/authorize", asked))["error"] == "invalid_request"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"state": None}, "invalid_request"),
        ({"state": "x" * 600}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"scope": None}, "invalid_scope"),
        ({"scope": "user/*.cruds"}, "invalid_scope"),
        ({"scope": "system/*.rs"}, "invalid_scope"),
        ({"scope": "openid"}, "invalid_scope"),
        ({"scope": "user/*.rs " * 200}, "invalid_scope"),
        ({"aud": "https://elsewhere.example/fhir"}, "invalid_target"),
        ({"resource": "https://elsewhere.example/fhir"}, "invalid_target"),
        ({"provider": "people"}, "invalid_request"),
        ({"provider": "nobody"}, "invalid_request"),
        ({"activity": "<script>"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
    ],
)
def test_a_fault_of_the_application_is_told_to_it(
    browser: Browser, app: Application, changes: dict[str, str | None], error: str
) -> None:
    """RFC 6749 section 4.1.2.1."""
    answer = browser.ask("GET", "/oauth2/authorize", app.asked(**changes))
    assert answer["statusCode"] == 302
    told = said(answer)
    assert (told["error"], told["iss"]) == (error, ROOT)
    assert told.get("state") == app.asked(**changes).get("state")


def test_a_provider_of_people_is_not_one_of_professionals(browser: Browser, openid: Providers) -> None:
    client = replace(PORTAL, id="mixed", providers=("professionals", "people"))
    wiring.clients().register(client)
    app = Application(client=client)
    assert said(browser.ask("GET", "/oauth2/authorize", app.asked()))["error"] == "invalid_request"  # which one?
    told = said(browser.ask("GET", "/oauth2/authorize", app.asked(provider="people")))
    assert told["error"] == "unauthorized_client"
    assert "code" in said(browser.log_in(app.asked(provider="professionals"), DOCTOR))


def test_what_is_posted_is_a_form(browser: Browser, app: Application) -> None:
    answer = browser.ask("POST", "/oauth2/authorize", form=app.asked())
    assert answer["statusCode"] == 303
    assert answer["headers"]["Referrer-Policy"] == "no-referrer"
    assert answer["headers"]["Cache-Control"] == "no-store"


# --- what is kept of it ---------------------------------------------------------------------------------------------


def test_who_logged_in_and_who_was_refused_is_on_record(
    browser: Browser, app: Application, openid: Providers, capsys: pytest.CaptureFixture[str]
) -> None:
    def records() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = boto3.client("dynamodb").scan(TableName="audit")["Items"]
        return found

    before = len(records())
    code_of(browser, app)
    assert len(records()) == before + 1
    with openid.forging(by_stranger):
        refused(browser.log_in(app.asked(), DOCTOR), 401)
    assert len(records()) == before + 2
    printed = capsys.readouterr()
    assert "810000000011" not in printed.out + printed.err
    assert "MARCHAND" not in printed.out + printed.err


def test_nobody_is_let_on_whose_login_cannot_be_recorded(
    browser: Browser, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = chosen(browser.to_provider(app.asked()), DOCTOR)
    monkeypatch.setenv("AUDIT_TABLE", "none")
    wiring.reset()
    try:
        answer = browser.back(location)
    finally:
        monkeypatch.undo()
        wiring.reset()
    assert answer["statusCode"] >= 500
    assert "Location" not in answer["headers"]
