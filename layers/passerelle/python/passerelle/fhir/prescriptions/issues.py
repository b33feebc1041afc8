"""What the clinical checks found, as DetectedIssue; and who answered for it, as mitigation and Provenance.

E-prescription contract, sections 4, 5 and 17. Codes of issues are of HL7 v3 ActCode (value set detectedissue-code), and
an issue is named by an identifier below the base that was called:

    sid/finding                         what an override names
    StructureDefinition/rx-finding      behaviour, level, candidates*, mechanism, source
    CodeSystem/rx-knowledge-base        in evidence: the base and its version; CodeSystem/rx-rule: the rule
    CodeSystem/rx-override-reason       in mitigation

What becomes part of the record is read by others than who prescribed: an issue there names lines of the prescription
and nothing else of the record.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from passerelle.access import Caller
from passerelle.fhir import json as fhir_json
from passerelle.fhir.dates import instant
from passerelle.fhir.index import entry_of
from passerelle.fhir.prescriptions.elements import AUTHOR, FHIR_JSON, JOSE, organisation
from passerelle.fhir.prescriptions.orders import RPPS
from passerelle.fhir.resource import stamped
from passerelle.identifiers import new_resource_id
from passerelle.journal import Change
from passerelle.medicines.model import Kind, NotCovered, Report, Source
from passerelle.prescriptions.checking import Checked, Concern, discreet, reasons
from passerelle.prescriptions.model import Group, Override
from passerelle.records.model import RecordVersion, ResourceKey

Json = Mapping[str, Any]

_ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
_CODES = {
    Kind.INTERACTION: ("DRG", "Interaction médicamenteuse"),
    Kind.ALLERGY: ("ALGY", "Allergie"),
    Kind.DUPLICATE: ("DUPTHPY", "Redondance"),
    Kind.AGE: ("AGE", "Âge"),
    Kind.PREGNANCY: ("PREG", "Grossesse"),
    Kind.ADVICE: ("TPROD", "Avis de la base sous licence"),
}
_CONCEALED = ("TPROD", "Traitement en cours")
_SEVERITIES = {4: "high", 3: "moderate", 2: "moderate", 1: "low", 0: "low"}


class FhirIssues:
    """`prescriptions.checking.Issues`."""

    def answer(
        self, base_url: str, patient: str, checked: Checked | None, answered: Sequence[Override], at: datetime
    ) -> str:
        """`issues` are the DetectedIssues, `parameters` what goes with them."""
        if checked is None:
            told: Json = {"issues": [], "parameters": [{"name": "notChecked", "valueCode": "clinical"}]}
            return fhir_json.dumps({**told, "overrides": [_override(each) for each in answered]}).decode()
        by_finding = {each.finding: each for each in answered}
        issues = [
            _issue(base_url, patient, checked, each, at, _mitigation(base_url, by_finding.get(each.id)))
            for each in checked.concerns
        ]
        return fhir_json.dumps(
            {
                "issues": issues,
                "parameters": [
                    {"name": "cdsDigest", "valueString": checked.digest},
                    _base(checked.report),
                    {"name": "checkedPairs", "valueInteger": checked.report.checked_pairs},
                    *(_not_covered(each) for each in checked.not_covered),
                    *({"name": "notConsidered", "valueCode": each} for each in checked.gaps),
                ],
                "overrides": [_override(each) for each in answered],
            }
        ).decode()

    def noted(self, dispense: str, references: Sequence[str]) -> str:
        issues = [{"reference": each} for each in references if each.startswith("DetectedIssue/")]
        if not issues:
            return dispense
        content = fhir_json.loads(dispense.encode())
        return fhir_json.dumps({**content, "detectedIssue": [*content.get("detectedIssue", []), *issues]}).decode()

    def versions(
        self, group: Group, caller: Caller, checked: Checked, answers: Sequence[Override], at: datetime
    ) -> tuple[Sequence[Change], Sequence[str]]:
        if not answers:
            return (), ()
        author = _author(caller)
        kept: list[tuple[str, Json]] = []
        for each in answers:
            mitigation = {**_mitigation(group.base_url, each), "date": instant(at), "author": author}
            concern = discreet(checked.concern(each.finding), group.id)
            issue = _issue(group.base_url, group.patient, checked, concern, at, mitigation)
            kept.append((new_resource_id(group.patient, at), issue))
        references = [f"DetectedIssue/{id}" for id, _ in kept]
        if group.jws is not None and caller.professional == group.prescriber:
            signed = _provenance(group, author, references, at)
            kept.append((new_resource_id(group.patient, at), signed))
            references.append(f"Provenance/{kept[-1][0]}")
        return [_version(group.patient, id, content, at) for id, content in kept], references


def check_parameters(checks: str) -> list[Json]:
    """What goes with the issues of an answer (`FhirIssues.answer`), as parameters."""
    told = fhir_json.loads(checks.encode())
    return [*told["parameters"], *told["overrides"]]


def issue_parameters(checks: str) -> list[Json]:
    return [{"name": "issue", "resource": each} for each in fhir_json.loads(checks.encode())["issues"]]


def issue_entries(checks: str) -> list[Json]:
    issues = fhir_json.loads(checks.encode())["issues"]
    return [{"fullUrl": uuid5(NAMESPACE_URL, each["identifier"][0]["value"]).urn, "resource": each} for each in issues]


def render(checks: str) -> Json:
    """The answer of `$check`."""
    head = {"resource": {"resourceType": "Parameters", "parameter": check_parameters(checks)}}
    return {"resourceType": "Bundle", "type": "collection", "entry": [head, *issue_entries(checks)]}


def _version(patient: str, id: str, content: Json, at: datetime) -> Change:
    stored = stamped(content, id, 1, at)
    return RecordVersion(
        key=ResourceKey(type=str(content["resourceType"]), id=id, patient=patient),
        version=1,
        at=at,
        body=fhir_json.dumps(stored),
        entry=entry_of(stored),
        is_managed=True,
    )


def _issue(base_url: str, patient: str, checked: Checked, concern: Concern, at: datetime, mitigation: Json) -> Json:
    finding = concern.finding
    code, label = _CONCEALED if concern.is_concealed else _CODES[finding.kind]
    issue: dict[str, Any] = {
        "resourceType": "DetectedIssue",
        "extension": [_details(base_url, concern)],
        "identifier": [{"system": f"{base_url}/sid/finding", "value": concern.id}],
        "status": "final",
        "code": {"coding": [{"system": _ACT_CODE, "code": code}], "text": f"{label} : {finding.title}"},
        "severity": _SEVERITIES[max((finding.level, *finding.candidates))],
        "patient": {"reference": f"Patient/{patient}"},
        "identifiedDateTime": instant(at),
        "implicated": [*_implicated(checked, concern)],
        "evidence": [{"code": [*_evidence(base_url, checked.report, concern)]}],
    }
    if finding.text:
        issue["detail"] = finding.text
    if mitigation:
        issue["mitigation"] = [mitigation]
    return {name: value for name, value in issue.items() if value}


def _implicated(checked: Checked, concern: Concern) -> Iterator[Json]:
    for key in concern.finding.about:
        known = checked.treatments.get(key) or checked.allergies.get(key)
        if known is not None:
            named = {"reference": known.reference, "display": known.text}
            yield {name: value for name, value in named.items() if value} or {"display": key}
    if concern.is_concealed:
        yield {"display": concern.finding.title.removeprefix("Risque avec ")}


def _details(base_url: str, concern: Concern) -> Json:
    finding = concern.finding
    parts: list[Json] = [
        {"url": "behaviour", "valueCode": str(finding.behaviour)},
        {"url": "level", "valueInteger": finding.level},
        *({"url": "candidate", "valueInteger": each} for each in finding.candidates),
    ]
    if finding.mechanism:
        parts.append({"url": "mechanism", "valueString": finding.mechanism})
    if finding.source is not None:
        parts.append({"url": "source", "valueString": _named(finding.source)})
    return {"extension": parts, "url": f"{base_url}/StructureDefinition/rx-finding"}


def _evidence(base_url: str, report: Report, concern: Concern) -> Iterator[Json]:
    base = {
        "system": f"{base_url}/CodeSystem/rx-knowledge-base",
        "version": report.base_version,
        "code": report.base_id,
    }
    source = concern.finding.source
    yield {"coding": [base], "text": _named(source) if source else f"{report.base_id}, {_day(report.base_date)}"}
    if concern.finding.rule:
        yield {"coding": [{"system": f"{base_url}/CodeSystem/rx-rule", "code": concern.finding.rule}]}


def _named(source: Source) -> str:
    return f"{source.name}, {_day(source.date)}"


def _day(day: date) -> str:
    return f"{day:%d/%m/%Y}"


def _base(report: Report) -> Json:
    """The base by name, with its oldest ground and the sources of what was found: not with all that it was made of."""
    named = [each.source for each in report.findings if each.source is not None]
    sources = [each for place, each in enumerate(report.sources) if place == 0 or each in named]
    return {
        "name": "base",
        "part": [
            {"name": "id", "valueString": report.base_id},
            {"name": "version", "valueString": report.base_version},
            {"name": "date", "valueDate": report.base_date.isoformat()},
            *({"name": "source", "valueString": _named(each)} for each in sources),
        ],
    }


def _not_covered(medicine: NotCovered) -> Json:
    parts = [{"name": "medication", "valueString": medicine.label or medicine.key}]
    return {"name": "notCovered", "part": [*parts, {"name": "reason", "valueCode": medicine.reason}]}


def _mitigation(base_url: str, answer: Override | None) -> Json:
    if answer is None:
        return {}
    coding = {"system": f"{base_url}/CodeSystem/rx-override-reason", "code": answer.reason}
    display = reasons()[answer.reason].display
    return {"action": {"coding": [{**coding, "display": display}], "text": answer.text or display}}


def _override(answer: Override) -> Json:
    parts: list[Json] = [
        {"name": "finding", "valueString": answer.finding},
        {"name": "reason", "valueCode": answer.reason},
    ]
    return {
        "name": "override",
        "part": [*parts, *([{"name": "text", "valueString": answer.text}] if answer.text else [])],
    }


def _author(caller: Caller) -> Json:
    if caller.professional:
        return {"identifier": {"system": RPPS, "value": caller.professional}}
    return organisation(caller.organisation)


def _provenance(group: Group, author: Json, issues: Sequence[str], at: datetime) -> Json:
    """The prescriber's signature, over bytes that say what is overridden and why."""
    return {
        "resourceType": "Provenance",
        "target": [{"reference": each} for each in (f"Patient/{group.patient}", *issues)],
        "recorded": instant(at),
        "agent": [{"who": author}],
        "signature": [
            {
                "type": [AUTHOR],
                "when": instant(at),
                "who": author,
                "targetFormat": FHIR_JSON,
                "sigFormat": JOSE,
                "data": base64.b64encode((group.jws or "").encode()).decode(),
            }
        ],
    }
