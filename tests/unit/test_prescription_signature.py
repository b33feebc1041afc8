"""The prescriber's signature: the right key over exactly the prepared bytes, and nothing else."""

from __future__ import annotations

import base64
import json
from datetime import date

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from passerelle.errors import Invalid
from passerelle.patients.model import Traits
from passerelle.prescriptions.signature import content, is_signature, protected_header
from tests.prescribing import GROUP, sign, signing_key

CONTENT = '{"lines":[{"dose":0.5}],"number":"7K3M9QX2V5T8R1HNB4J1","patient":{"family":["LEFÈVRE"]}}'
KEYS = [signing_key().as_dict(private=False)]


def test_a_detached_signature_verifies() -> None:
    assert is_signature(sign(CONTENT), CONTENT, KEYS)


def test_p384_signs_es384_only() -> None:
    key = ECKey.generate_key("P-384", {"kid": "p384"})
    keys = [*KEYS, key.as_dict(private=False)]
    assert is_signature(sign(CONTENT, key=key, header={"alg": "ES384"}), CONTENT, keys)
    assert not is_signature(sign(CONTENT, header={"kid": "p384"}), CONTENT, keys)


def test_every_changed_byte_of_the_content_breaks_it() -> None:
    signature = sign(CONTENT)
    for place in range(len(CONTENT)):
        changed = CONTENT[:place] + ("x" if CONTENT[place] != "x" else "y") + CONTENT[place + 1 :]
        assert not is_signature(signature, changed, KEYS), place


def test_every_changed_character_of_the_signature_breaks_it() -> None:
    signature = sign(CONTENT)
    for place, character in enumerate(signature):
        for other in "AQgw.":
            if other != character:
                assert not is_signature(signature[:place] + other + signature[place + 1 :], CONTENT, KEYS), place


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a..b", "....", "é..é", "eyJhbGciOiJub25lIn0..", "W10..AAAA", "bnVsbA..AAAA"]
)
def test_what_is_no_signature_is_refused(text: str) -> None:
    assert not is_signature(text, CONTENT, KEYS)


def test_the_key_must_be_bound_and_for_signing() -> None:
    signature = sign(CONTENT)
    assert not is_signature(signature, CONTENT, [])
    assert not is_signature(signature, CONTENT, [{**KEYS[0], "use": "enc"}])
    assert not is_signature(signature, CONTENT, [KEYS[0], KEYS[0]])
    stranger = ECKey.generate_key("P-256", {"kid": "es256-1"})
    assert not is_signature(sign(CONTENT, key=stranger), CONTENT, KEYS)


def test_keys_and_extensions_in_the_header_do_not_count() -> None:
    stranger = ECKey.generate_key("P-256", {"kid": "stranger"})
    forged = sign(CONTENT, key=stranger, header={"jwk": stranger.as_dict(private=False)})
    assert not is_signature(forged, CONTENT, KEYS)
    header = (
        base64.urlsafe_b64encode(b'{"alg":"ES256","kid":"es256-1","b64":false,"crit":["b64"]}').decode().rstrip("=")
    )
    assert not is_signature(f"{header}..{sign(CONTENT).partition('..')[2]}", CONTENT, KEYS)


def test_an_attached_signature_is_refused() -> None:
    attached = jws.serialize_compact({"alg": "ES256", "kid": "es256-1"}, CONTENT.encode(), signing_key())
    assert not is_signature(attached, CONTENT, KEYS)


def test_the_prepared_header_names_a_bound_key() -> None:
    assert protected_header(KEYS) == {"alg": "ES256", "kid": "es256-1"}
    assert protected_header([]) == {"alg": "ES256"}


def test_a_number_without_canonical_form_is_refused() -> None:
    for value in (float("inf"), 2**60):
        with pytest.raises(Invalid):
            content(GROUP, [{"value": value}], Traits(identifiers=()))


def test_the_content_names_patient_prescriber_and_the_checks_that_did_not_run() -> None:
    patient = Traits(
        identifiers=(("urn:oid:1.2.250.1.213.1.4.10", "255069900000101"), ("urn:oid:2.999.3", "local")),
        family_names=("DUPONT",),
        given_names=("Élise",),
        birth_date=date(1955, 6, 14),
        gender="female",
    )
    signed = json.loads(content(GROUP, [], patient))
    assert signed["patient"]["ins"] == ["urn:oid:1.2.250.1.213.1.4.10|255069900000101"]
    assert (signed["requester"], signed["authoredOn"], signed["version"]) == ("810000000011", "2026-03-02", 3)
    assert signed["cdsDigest"] == "not-checked"
