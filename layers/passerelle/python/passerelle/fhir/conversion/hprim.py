"""HPRIM santé messages (H' 2.x) as FHIR: results of laboratories (ORU) and requests to them (ORM).

ORU: one DiagnosticReport for each OBR, one Observation for each OBX under it, a comment (C) with what it follows. ORM:
one ServiceRequest for each code that an OBR asks for. The message itself is kept as a document of the patient.

The patient is who the sender's own number means: P-3 of results (given by who performs), P-2 of requests (by who asks).
The number of the other house means somebody else in this one's, and is not taken instead.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from passerelle.documents.contents.header import Code, Header
from passerelle.documents.contents.times import read_time
from passerelle.fhir.conversion.draft import Draft, Reference
from passerelle.fhir.conversion.embedded import published
from passerelle.fhir.conversion.made import identifier_element, made_identifier, present
from passerelle.fhir.conversion.values import (
    clock,
    concept,
    date_of,
    instant_of,
    quantity,
    reference_range,
    structured,
    time_of,
    unit,
    written_time,
)
from passerelle.fhir.generated_metadata import CodedDocument
from passerelle.hl7v2.hprim import HprimMessage
from passerelle.hl7v2.message import RefusedMessageError, Segment, Value
from passerelle.ingestion.model import Conversion, Reason, RefusedMessage, Source

_REPORT_TYPE: Final = Code(system="http://loinc.org", code="11502-2", display="CR d'examens biologiques")
_REQUEST_TYPE: Final = Code(system="http://loinc.org", code="57833-6", display="Prescription")
_HL7: Final = "http://terminology.hl7.org/CodeSystem"
_LABORATORY: Final = {"coding": [{"system": f"{_HL7}/v2-0074", "code": "LAB"}]}
_CATEGORY: Final = {"coding": [{"system": f"{_HL7}/observation-category", "code": "laboratory"}]}
_UNKNOWN: Final = {"coding": [{"system": f"{_HL7}/data-absent-reason", "code": "unknown"}]}
_TYPES: Final = ("ORU", "ORM")


def convert(data: bytes, source: Source) -> Conversion:
    """`ingestion.model.Converter` of HPRIM; raises RefusedMessage."""
    try:
        message = HprimMessage(data)
    except RefusedMessageError:
        raise RefusedMessage(Reason.UNSUPPORTED_MESSAGE_TYPE) from None
    kind = message.type
    if kind not in _TYPES:
        raise RefusedMessage(Reason.UNSUPPORTED_MESSAGE_TYPE, "H-6")
    if not message.is_known_version:
        raise RefusedMessage(Reason.UNSUPPORTED_VERSION, "H-12")
    people = message.all("P")
    if len(people) != 1:  # a file of several would be one message about several people
        raise RefusedMessage(Reason.SEGMENT_SEQUENCE, "P")
    return _Conversion(message, source, data).whole(people[0])


@cache
def _table(name: str) -> Any:
    return json.loads((Path(__file__).parent / "data" / "hprim.json").read_text("utf-8"))[name]


class _Conversion:
    def __init__(self, message: HprimMessage, source: Source, data: bytes) -> None:
        self._message = message
        self._source = source
        self._data = data
        self._seen: Counter[tuple[str, ...]] = Counter()
        self._draft = Draft(message, source, kind=f"HPRIM {message.type}", event="", feeds=False)
        header = message.first("H")
        self._draft.sender, self._draft.control_id = message.sender, message.control_id
        self._draft.at = read_time(header[13][1])
        header.keep(1, 2, 4, 6, 9, 11, 12, 13)  # from whom and to whom it was sent: it came here

    def whole(self, person: Segment) -> Conversion:
        self._register(person)
        orders = self._orders()
        if not orders:
            raise RefusedMessage(Reason.SEGMENT_SEQUENCE, "OBR")
        for order, observed in orders:
            if self._message.type == "ORU":
                self._report(order, observed)
            else:
                self._requests(order, observed)
        copy = self._document()
        for end in self._message.all("L"):
            end.keep(*range(1, 10))
        return Conversion(
            kind=self._draft.kind,
            control_id=self._draft.control_id,
            sender=self._draft.sender,
            at=self._draft.at,
            bundle=self._draft.bundle,
            lost=(*self._draft.lost, *self._message.unread),
            ordered=self._draft.ordered,
            copies=frozenset((copy,)),
        )

    # --- whom it is about ---------------------------------------------------------------------------------------------

    def _register(self, person: Segment) -> None:
        field = 3 if self._message.type == "ORU" else 2
        number = person[field][1]
        if not number:
            raise RefusedMessage(Reason.REQUIRED_FIELD_MISSING, f"P-{field}")
        identifier = (self._source.domain, number)
        person.keep(1)
        name, birth = person[5], person[6][1]
        titles = _table("name_title")
        prefix = [each for each in (name[5],) if each.upper().rstrip(".") in titles]
        official = {"use": "official", "family": birth or name[1], "given": [x for x in (name[2], name[3]) if x]}
        usual = {"use": "usual", "family": name[1], "prefix": prefix} if birth and birth != name[1] else {}
        address = person[10]
        patient = {
            "resourceType": "Patient",
            **present(
                {
                    "identifier": [identifier_element(identifier)],
                    "name": [present(each) for each in (official, usual) if each.get("family")],
                    "gender": _table("sex").get(person[8][1].upper()),
                    "birthDate": date_of(person, 7),
                    "address": [found] if (found := _address(address)) else None,
                    "telecom": [{"system": "phone", "value": each[1]} for each in person.all(12) if each[1]],
                }
            ),
        }
        self._draft.register(identifier, patient)

    def _document(self) -> str:
        """Keep the message as it came, with what is lost of it; the full URL of its metadata."""
        draft = self._draft
        is_result = self._message.type == "ORU"
        header = Header(
            type=_REPORT_TYPE if is_result else _REQUEST_TYPE,
            title="Résultats de laboratoire (HPRIM)" if is_result else "Demande d'examens (HPRIM)",
            created=draft.at,
            language="fr",
        )
        encoding = "utf-8" if _is_utf8(self._data) else "windows-1252"
        document = CodedDocument(header=header, content_type=f"text/plain; charset={encoding}", data=self._data)
        name = made_identifier(self._source, "message", draft.sender, draft.control_id)
        entries, url = published(document, name, str(draft.subject["reference"]), self._source)
        draft.add(entries)
        return url

    # --- results ------------------------------------------------------------------------------------------------------

    def _orders(self) -> list[tuple[Segment, list[Segment]]]:
        """Each OBR with the OBX and comments that follow it."""
        orders: list[tuple[Segment, list[Segment]]] = []
        for segment in self._message.segments:
            if segment.name == "OBR":
                orders.append((segment, []))
            elif segment.name in ("OBX", "C") and orders:
                orders[-1][1].append(segment)
        return orders

    def _report(self, order: Segment, observed: Sequence[Segment]) -> None:
        names = self._names(order)
        taken = [written_time(each.part(1, 1)) for each in order.all(7)]
        start = next((each for each in taken if each), None)
        asker = _person(order[16])
        interpreter = _person(order[32])
        results: list[Reference] = []
        notes: list[str] = []
        last: Reference | None = None
        for segment in observed:
            if segment.name == "C":
                self._comment(segment, last, notes)
                continue
            last = self._observation(segment, names, start)
            if last is not None:
                results.append(last)
        order.keep(1, 2, 3)
        panels = [found for each in order.all(4) if (found := concept(each, self._source)) is not None]
        report = {
            "resourceType": "DiagnosticReport",
            "status": _status(order, 25, "report_status"),
            "category": [_LABORATORY],
            "code": _united(panels) or {"text": "Examens de laboratoire"},
            "resultsInterpreter": [interpreter] if interpreter is not None else None,
            "result": results,
            "conclusion": "\n".join(notes),
            **_effective(start),
            "issued": instant_of(order, 22),
            "identifier": [*_numbers(order)],
        }
        report = present(report)
        if asker is not None:  # a report has no place for who asked, but its request
            request: dict[str, Any] = {
                "resourceType": "ServiceRequest",
                "id": "request",
                "status": "unknown",
                "intent": "order",
            }
            request |= {"subject": self._draft.subject, "requester": asker}
            report |= {"contained": [request], "basedOn": [{"reference": "#request"}]}
        self._draft.put(self._draft.about(report), "report", *names, within=names)

    def _observation(self, segment: Segment, names: Sequence[str], start: str | None) -> Reference | None:
        code = concept(segment[3], self._source)
        if code is None:
            segment.forget()
            return None
        segment.keep(1)
        value = self._value(segment)
        if value is None:
            segment.forget()  # a file beside the message, or a type that nothing is known of
            return None
        units = segment[6]
        limits = segment.text(7).strip()
        flag = segment[8][1].upper()
        interpretation = _table("interpretation").get(flag)
        if flag and interpretation is None:
            segment.lose(8)
        found = {
            "resourceType": "Observation",
            "status": _status(segment, 11, "result_status"),
            "category": [_CATEGORY],
            "code": code,
            **_effective(start),
            "issued": instant_of(segment, 14),
            **value,
            "dataAbsentReason": None if value else _UNKNOWN,
            "interpretation": [_interpretation(interpretation)] if interpretation else None,
            "referenceRange": [reference_range(limits, units)] if limits else None,
        }
        result = self._draft.about(present(found))
        named = self._again("result", *names, segment[3][1], segment[4][1])
        return self._draft.put(result, *named, within=names)

    def _value(self, segment: Segment) -> dict[str, Any] | None:
        """`value[x]`; empty for a result that is not there yet, None for what is no value here."""
        kind = segment[2][1].upper()
        first, units = segment[5], segment[6]
        if kind in _table("text"):
            text = segment.text(5).strip()
            return {"valueString": text} if text else {}
        if not first:
            return {}
        if kind in _table("numeric"):
            if kind == "SN" and (found := structured(first, units)) is not None:
                return found
            amount = quantity(first[1], units)
            # what a laboratory writes in place of a number stands as it is, with its unit
            written = " ".join(filter(None, (first[1], unit(units).get("unit"))))
            return {"valueQuantity": amount} if amount is not None else {"valueString": written}
        if kind in _table("coded"):
            coded = concept(first, self._source)
            return {"valueCodeableConcept": coded} if coded else {}
        if kind in ("TS", "DT"):
            at = written_time(first[1])
            return {"valueDateTime": at} if at else {"valueString": first[1]}
        if kind == "TM":
            time = clock(first[1])
            return {"valueTime": time} if time else {"valueString": first[1]}
        return None

    def _comment(self, segment: Segment, last: Reference | None, notes: list[str]) -> None:
        segment.keep(1, 2)
        text = segment.text(3).strip()
        if not text:
            return
        if last is None:
            notes.append(text)
            return
        made = self._draft.made(last)
        self._draft.revise(last, note=[*made.get("note", ()), {"text": text}])

    # --- requests -----------------------------------------------------------------------------------------------------

    def _requests(self, order: Segment, observed: Sequence[Segment]) -> None:
        names = self._names(order)
        order.keep(1, 2, 3)
        asker = _person(order[16])
        asked = time_of(order, 6)
        notes = [text for each in observed if each.name == "C" and (text := each.text(3).strip())]
        for each in observed:
            if each.name == "C":
                each.keep(1, 2)
        information = order.text(13).strip()
        for place, code in enumerate(order.all(4), 1):
            request = present(
                {
                    "resourceType": "ServiceRequest",
                    "status": "active",
                    "intent": "order",
                    "category": [_LABORATORY],
                    "priority": _table("priority").get(order[5][1].upper()),
                    "code": concept(code, self._source),
                    "authoredOn": asked,
                    "requester": asker,
                    "reasonCode": [{"text": information}] if information else None,
                    "note": [{"text": each} for each in notes],
                    "identifier": [*_numbers(order)],
                }
            )
            self._draft.put(self._draft.about(request), "request", *names, str(place), code[1])

    def _names(self, order: Segment) -> tuple[str, ...]:
        """What an order goes by: its number at who performs, and at who asks; without either, in this message alone."""
        performer, asker = order[3][1], order[2][1]
        if performer or asker:
            return self._again("order", performer, asker)
        return self._again("order", self._draft.sender, self._draft.control_id)

    def _again(self, *names: str) -> tuple[str, ...]:
        """The names, and how many went by them before in this message."""
        self._seen[names] += 1
        return (*names, str(self._seen[names]))


def _numbers(order: Segment) -> list[dict[str, Any]]:
    kinds = ((2, "PLAC"), (3, "FILL"))
    return [
        {"type": {"coding": [{"system": f"{_HL7}/v2-0203", "code": kind}]}, "value": order[field][1]}
        for field, kind in kinds
        if order[field][1]
    ]


def _status(segment: Segment, field: int, table: str) -> str:
    said = segment[field][1].upper()
    found: str | None = _table(table).get(said)
    if found is None:
        segment.lose(field)
    return found or "unknown"


def _effective(start: str | None) -> dict[str, str]:
    return {"effectiveDateTime": start} if start else {}


def _united(panels: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Several panels were asked for by one order: their names, and the code where it is one."""
    if len(panels) == 1:
        return dict(panels[0])
    text = ", ".join(str(each.get("text")) for each in panels if each.get("text"))
    return {"text": text} if text else None


def _person(value: Value) -> dict[str, Any] | None:
    """A physician as HPRIM names one: a local number, and the name in one text or in parts."""
    parts = [value[2], value[3]] if value[2] else [value[1]]
    name = " ".join(each for each in parts if each and each != "L")
    return {"type": "Practitioner", "display": name} if name else None


def _address(value: Value) -> dict[str, Any]:
    """Street twice, city, department, postal code, country."""
    return present(
        {
            "line": [each for each in (value[1], value[2]) if each],
            "city": value[3],
            "postalCode": value[5],
            "country": value[6],
        }
    )


def _interpretation(code: str) -> dict[str, Any]:
    return {"coding": [{"system": f"{_HL7}/v3-ObservationInterpretation", "code": code}]}


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
