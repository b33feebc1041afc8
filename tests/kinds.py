"""Small synthetic contents of each kind: PDF, CDA, FHIR documents, HL7 v2 messages."""

from __future__ import annotations

import base64
import zlib
from typing import Any

NIR_SYSTEM = "1.2.250.1.213.1.4.10"


def pdf(inner: bytes = b"", *, end: bytes = b"%%EOF\n") -> bytes:
    """A PDF of one empty page, with more objects in it if some are given."""
    return (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n3 0 obj<</Type/Page/Parent 2 0 R>>endobj\n"
        + inner
        + b"trailer<</Root 1 0 R>>\nstartxref\n0\n"
        + end
    )


def object_stream(content: bytes) -> bytes:
    packed = zlib.compress(content)
    return b"9 0 obj<</Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length %d>>stream\n%b\nendstream endobj\n" % (
        len(packed),
        packed,
    )


def cda(
    *, ins: str = "279035121518989", body: str = "<component><structuredBody/></component>", more: str = ""
) -> bytes:
    """A CDA document with the header of the French volet structuration minimale."""
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3">
  <typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
  <templateId root="1.2.250.1.213.1.1.1.29" extension="2020.01"/>
  <id root="2.999.10.1" extension="LDL-7"/>
  <code code="11490-0" codeSystem="2.16.840.1.113883.6.1" displayName="Lettre de liaison"/>
  <title>Lettre de liaison à la sortie</title>
  <effectiveTime value="20260314093000+0100"/>
  <confidentialityCode code="N" codeSystem="2.16.840.1.113883.5.25"/>
  <languageCode code="fr-FR"/>
  <setId root="2.999.10.2" extension="S-1"/>
  <versionNumber value="2"/>
  <recordTarget><patientRole>
    <id root="{NIR_SYSTEM}" extension="{ins}"/>
    <id root="2.999.1.1" extension="IPP-42"/>
  </patientRole></recordTarget>
  <author>
    <time value="20260314093000+0100"/>
    <assignedAuthor>
      <id root="1.2.250.1.71.4.2.1" extension="810000000011"/>
      <code code="G15_10/SM26" codeSystem="1.2.250.1.213.1.1.4.5" displayName="Médecine générale"/>
      <assignedPerson><name>
        <family qualifier="BR">NÉE</family><family qualifier="SP">MARTIN</family><given>Léa</given>
      </name></assignedPerson>
      <representedOrganization>
        <id root="1.2.250.1.71.4.2.2" extension="1750000001"/><name>Cabinet</name>
      </representedOrganization>
    </assignedAuthor>
  </author>
  <custodian><assignedCustodian><representedCustodianOrganization>
    <id root="1.2.250.1.71.4.2.2" extension="1750000002"/><name>Hôpital</name>
  </representedCustodianOrganization></assignedCustodian></custodian>
  <legalAuthenticator>
    <time value="20260314094500+0100"/>
    <assignedEntity><id root="1.2.250.1.71.4.2.1" extension="810000000012"/></assignedEntity>
  </legalAuthenticator>
  <documentationOf><serviceEvent>
    <code code="IMP" codeSystem="2.16.840.1.113883.5.4"/>
    <effectiveTime><low value="20260310"/><high value="202603140900+0100"/></effectiveTime>
    <performer typeCode="PRF"><assignedEntity><representedOrganization>
      <standardIndustryClassCode code="ETABLISSEMENT" codeSystem="1.2.250.1.213.1.1.4.9"/>
    </representedOrganization></assignedEntity></performer>
  </serviceEvent></documentationOf>
  <relatedDocument typeCode="RPLC">
    <parentDocument><id root="2.999.10.1" extension="LDL-6"/></parentDocument>
  </relatedDocument>
  <componentOf><encompassingEncounter><location><healthCareFacility>
    <code code="SA01" codeSystem="1.2.250.1.71.4.2.4"/>
  </healthCareFacility></location></encompassingEncounter></componentOf>
  {more}{body}
</ClinicalDocument>""".encode()


def level_1(media_type: str, body: bytes) -> str:
    """The body of a CDA of level 1."""
    packed = base64.b64encode(body).decode()
    text = f'<text mediaType="{media_type}" representation="B64">{packed}</text>'
    return f"<component><nonXMLBody>{text}</nonXMLBody></component>"


def fhir_document(**changed: Any) -> dict[str, Any]:
    patient, author = "urn:uuid:cccccccc-0000-4000-8000-000000000001", "urn:uuid:cccccccc-0000-4000-8000-000000000002"
    composition = {
        "resourceType": "Composition",
        "language": "fr-FR",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.999.11.2"},
        "status": "final",
        "type": {"coding": [{"system": "http://loinc.org", "code": "60591-5", "display": "Synthèse"}]},
        "subject": {"reference": patient},
        "date": "2026-03-14T09:30:00+01:00",
        "author": [{"reference": author}],
        "title": "Synthèse médicale",
        "confidentiality": "N",
        "event": [{"period": {"start": "2026-03-10", "end": "2026-03-14"}}],
    }
    people = [
        {
            "fullUrl": patient,
            "resource": {
                "resourceType": "Patient",
                "identifier": [{"system": f"urn:oid:{NIR_SYSTEM}", "value": "279035121518989"}],
            },
        },
        {
            "fullUrl": author,
            "resource": {
                "resourceType": "Practitioner",
                "identifier": [{"system": "urn:oid:1.2.250.1.71.4.2.1", "value": "810000000011"}],
                "name": [{"family": "MARTIN", "given": ["Léa"]}],
            },
        },
    ]
    return {
        "resourceType": "Bundle",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:2.999.11.1"},
        "type": "document",
        "timestamp": "2026-03-14T09:30:00+01:00",
        "entry": [
            {"fullUrl": "urn:uuid:cccccccc-0000-4000-8000-000000000003", "resource": composition},
            *people,
        ],
    } | changed


def oru(*observations: str, encoding: str = "^~\\&", ins: str = "279035121518989") -> bytes:
    """An ORU^R01 with one patient, one order and these OBX."""
    segments = [
        f"MSH|{encoding}|SIL|LABO|PFI|HOPITAL|20260314093000+0100||ORU^R01^ORU_R01|7|P|2.5|||||FRA|UNICODE UTF-8",
        f"PID|||{ins}^^^INS&{NIR_SYSTEM}&ISO^INS~IPP-42^^^HOPITAL||MARTIN^JEAN",
        "OBR|1|O-1^LABO|F-1^LABO|11502-2^CR d'examens biologiques^LN|||20260313|20260314",
        *observations,
        "PRT||UC||SB^^participation|801234567866^DIAZ^Thierry^^^^^^PS&1.2.250.1.71.4.2.1&ISO",
    ]
    return "\r".join(segments).encode()


def ed(data: bytes, kind: str = "PDF", code: str = "11502-2^CR^LN", status: str = "F") -> str:
    return f"OBX|1|ED|{code}||^APPLICATION^{kind}^Base64^{base64.b64encode(data).decode()}||||||{status}"
