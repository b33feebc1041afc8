"""Messages of hospital A for tests of ingestion, a small reader of them, and how they are sent.

The reader stands for the real conversions where tests are about what happens around them: it makes a Patient, a visit
and one Observation for each OBX of very little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

from local.gateway import Response
from passerelle.ingestion.model import Conversion, Reason, RefusedMessage, Source
from tests import examples
from tests.exchange import Exchange

_numbers = count(1)
LOINC = "http://loinc.org"


def control() -> str:
    return f"C{next(_numbers):06d}"


def segments(
    kind: str,
    *rest: str,
    id: str = "",
    at: str = "20260302093000",
    version: str = "2.5",
    modes: tuple[str, str] = ("", ""),
) -> bytes:
    header = ["MSH", "^~\\&", "LAB", "HOSP", "PASSERELLE", "REGION", at, "", kind, id or control(), "P", version]
    if any(modes):
        header += ["", "", *modes]
    return "".join(f"{each}\r" for each in ("|".join(header), *rest)).encode("latin-1")


def name_of(local: str) -> str:
    """A family name like nobody else's."""
    return "".join(chr(ord("A") + byte % 26) for byte in hashlib.sha256(local.encode()).digest()[:9])


def pid(local: str, family: str = "") -> str:
    digest = hashlib.sha256(local.encode()).digest()
    born = date(1930, 1, 1) + timedelta(days=int.from_bytes(digest[16:20], "big") % 30_000)
    return f"PID|||{local}^^^A||{family or name_of(local)}^{name_of(f'given {local}')}||{born:%Y%m%d}|F"


def adt(local: str, family: str = "", *, event: str = "A01", **more: Any) -> bytes:
    return segments(f"ADT^{event}^ADT_{event}", pid(local, family), f"PV1||I|||||||||||||||||V{local}", **more)


def oru(local: str, *values: str, **more: Any) -> bytes:
    results = (f"OBX|{n}|NM|718-7^Hb^LN||{value}|g/dL" for n, value in enumerate(values or ("13.1",), 1))
    return segments("ORU^R01^ORU_R01", pid(local), f"OBR|1||F{local}", *results, **more)


def merge(replaced: str, survivor: str, **more: Any) -> bytes:
    return segments("ADT^A40^ADT_A39", pid(survivor), f"MRG|{replaced}^^^A", **more)


# --- the small reader ------------------------------------------------------------------------------------------------


def convert(data: bytes, source: Source) -> Conversion:
    lines = [line.split("|") for line in data.decode("latin-1").split("\r") if line]
    message = {line[0]: line for line in lines}
    header = message["MSH"]
    kind, event = header[8].split("^")[:2]
    if kind not in ("ADT", "ORU"):
        raise RefusedMessage(Reason.UNSUPPORTED_MESSAGE_TYPE, "MSH-9")
    if "PID" not in message:
        raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, "PID-3")
    if "ZZZ" in message:
        raise ZeroDivisionError("a defect")
    local = message["PID"][3].split("^")[0]
    family, given = message["PID"][5].split("^")
    born = message["PID"][7]
    patient = {
        "resourceType": "Patient",
        "identifier": [{"system": source.domain, "value": local}],
        "name": [{"use": "official", "family": family, "given": [given]}],
        "gender": "female",
        "birthDate": f"{born[:4]}-{born[4:6]}-{born[6:]}",
    }
    made = [(f"Patient?identifier={source.domain}|{local}", patient)]
    if "PV1" in message:
        made.append(_visit(message["PV1"][19], family))
    made += [_result(line, message["OBR"][3]) for line in lines if line[0] == "OBX"]
    entries = [
        {"fullUrl": f"urn:uuid:00000000-0000-4000-8000-{n:012d}", "resource": each, "request": _put(url)}
        for n, (url, each) in enumerate(made)
    ]
    ordered = {
        str(each["fullUrl"]): url
        for each, (url, _) in zip(entries, made, strict=True)
        if url[:7] in ("Patient", "Encount")
    }
    return Conversion(
        kind=f"{kind}^{event}",
        control_id=header[9],
        sender=f"{header[2]}|{header[3]}",
        at=datetime.strptime(header[6], "%Y%m%d%H%M%S").replace(tzinfo=UTC),
        bundle={"resourceType": "Bundle", "type": "transaction", "entry": entries},
        merge=((source.domain, message["MRG"][1].split("^")[0]), (source.domain, local)) if "MRG" in message else None,
        lost=("PV1-2",) if "PV1" in message else (),
        ordered=ordered,
    )


_SUBJECT = {"reference": "urn:uuid:00000000-0000-4000-8000-000000000000"}


def _put(url: str) -> dict[str, str]:
    return {"method": "PUT", "url": url}


def _visit(number: str, ward: str) -> tuple[str, dict[str, Any]]:
    system = "urn:oid:2.999.1.7"
    visit = {
        "resourceType": "Encounter",
        "identifier": [{"system": system, "value": number}],
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "type": [{"text": ward}],
        "subject": _SUBJECT,
    }
    return f"Encounter?identifier={system}|{number}", visit


def _result(line: Sequence[str], order: str) -> tuple[str, dict[str, Any]]:
    system, name = "urn:oid:2.999.1.8", f"{order}.{line[1]}"
    result: dict[str, Any] = {
        "resourceType": "Observation",
        "identifier": [{"system": system, "value": name}],
        "status": "final",
        "code": {"coding": [{"system": LOINC, "code": line[3].split("^")[0]}]},
        "subject": _SUBJECT,
    }
    if line[5] == "?":
        result["status"] = "no such status"
    else:
        result["valueQuantity"] = {"value": float(line[5]), "unit": line[6]}
    return f"Observation?identifier={system}|{name}", result


# --- sending ---------------------------------------------------------------------------------------------------------


def send(
    exchange: Exchange,
    data: bytes,
    *,
    path: str = "/hl7v2",
    client: str = "hospital-a",
    scope: str | None = None,
    content_type: str = "application/hl7-v2",
) -> Response:
    return call(exchange, "POST", path, data, client=client, scope=scope, content_type=content_type)


def call(
    exchange: Exchange,
    method: str,
    path: str,
    data: bytes = b"",
    *,
    client: str = "hospital-a",
    scope: str | None = None,
    content_type: str = "application/fhir+json",
) -> Response:
    headers = {"Authorization": f"Bearer {exchange.client(client, scope).token()}"}
    if data:
        headers["Content-Type"] = content_type
    return exchange.gateway.request(method, path, headers, data)


def acked(answer: Response) -> Mapping[str, Sequence[str]]:
    """The segments of an ACK by name, the first of each: field n at place n, but for MSH, which is one behind."""
    assert answer.status == 200, answer.body
    found: dict[str, Sequence[str]] = {}
    for line in answer.body.decode("latin-1").split("\r"):
        if line:
            found.setdefault(line[:3], line.split("|"))
    return found


def code(answer: Response) -> str:
    return acked(answer)["MSA"][1]


def held(exchange: Exchange, local: str, kind: str = "Patient") -> list[dict[str, Any]]:
    """What the record of a local identifier has of a type."""
    name = "identifier" if kind == "Patient" else "patient.identifier"
    answer = exchange.client("hospital-a").get(f"{kind}?{name}={examples.DOMAIN}|{local}")
    assert answer.status == 200, answer.body
    return [each["resource"] for each in answer.json.get("entry", ())]


def waiting(exchange: Exchange, status: str = "dead", client: str = "hospital-a") -> list[dict[str, list[Any]]]:
    """The messages that are not applied: the values of their parts by name."""
    answer = call(exchange, "GET", f"/ingestion?status={status}", client=client)
    assert answer.status == 200, answer.body
    return [parts(each) for each in answer.json.get("parameter", ()) if each["name"] == "message"]


def parts(message: Mapping[str, Any]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for part in message["part"]:
        ((_, value),) = ((name, value) for name, value in part.items() if name != "name")
        found.setdefault(part["name"], []).append(value)
    return found
