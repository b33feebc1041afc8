"""A signed prescription on paper, for who has no phone: A4, with its number and its access code as a QR code.

E-prescription contract, section 3; the sheet follows the French ordonnance: in two zones when a line is for a long-term
illness (cerfa "ordonnance bizone"), amounts in words where a line is on a secure prescription. All of it comes from the
signed bytes, but for lines that are closed since: they are struck out. The same prescription and code give the same
bytes. The standard fonts write French; what they lack is written with the nearest letter they have.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from passerelle.fhir import json as fhir_json
from passerelle.fhir.prescriptions.posology import day, instruction, quantity_in_words, written_plainly
from passerelle.fhir.prescriptions.requests import signed_lines
from passerelle.prescriptions.letters import in_letters
from passerelle.prescriptions.model import Group, Mention, Prescription
from passerelle.prescriptions.transitions import STATES

if TYPE_CHECKING:
    from fpdf import FPDF
    from fpdf.recorder import FPDFRecorder

    Sheet = FPDF | FPDFRecorder

Json = Mapping[str, Any]

_FONT: Final = "Helvetica"
_ENCODING: Final = "cp1252"
_LETTERS: Final = str.maketrans("łŁđĐıħ\u202f\u2212", "lLdDih -")
_QR_MILLIMETRES: Final = 42.0
_QUIET: Final = 4  # modules around the symbol, ISO/IEC 18004
_TEST_INS: Final = "urn:oid:1.2.250.1.213.1.4.10"
_GENDERS: Final[Mapping[str, str]] = {"male": "M", "female": "F"}
_LONG_TERM: Final = (
    "Prescriptions relatives au traitement de l’affection de longue durée reconnue (liste ou hors liste)",
    "AFFECTION EXONÉRANTE",
)
_OTHER: Final = ("Prescriptions SANS RAPPORT avec l’affection de longue durée", "MALADIES INTERCURRENTES")
_SECURE: Final = "secure-prescription"
_MENTIONS: Final[Mapping[str, str]] = {
    _SECURE: "Ordonnance sécurisée : quantités en toutes lettres",
    Mention.SINGLE_SUPPLY: "Délivrance en une seule fois",
    Mention.OVERLAP: "Chevauchement avec une prescription antérieure : voulu",
    Mention.EXCEPTION: "Médicament d’exception",
    Mention.ACCIDENT: "En rapport avec un accident du travail ou une maladie professionnelle",
    Mention.PREVENTION: "Prévention",
    Mention.OFF_LABEL: "Prescription hors autorisation de mise sur le marché",
    Mention.NOT_REIMBURSED: "Non remboursable (NR)",
}
_RULES: Final = (
    "La forme électronique de cette ordonnance fait seule foi. Ce document permet à la pharmacie de la retrouver : "
    "présentez-le avec votre carte Vitale. Toute personne qui a ce code peut présenter l’ordonnance : conservez-le "
    "comme un original. Le code change après une délivrance ; demandez alors une nouvelle impression."
)


def url_of(group: Group, code: str) -> str:
    """What the QR code holds; the access code is in the fragment, which no server is sent."""
    return f"{group.base_url}/r/{group.number}#{code}"


def grouped(number: str) -> str:
    """A prescription number as it is printed: 4-4-4-4-4."""
    return "-".join(number[start : start + 4] for start in range(0, len(number), 4))


def render_paper(prescription: Prescription, code: str) -> bytes:
    """The PDF; raises ValueError for a prescription that is not signed."""
    from fpdf import FPDF  # heavy, and of one operation

    group = prescription.group
    if group.signed is None or group.signed_at is None:
        raise ValueError("only what is signed is printed")
    signed = fhir_json.loads(group.signed.encode())

    class Ordonnance(FPDF):
        def footer(self) -> None:
            self.set_y(-12)
            self.set_font(_FONT, size=8)
            page = f"Ordonnance {grouped(group.number)} - page {self.page_no()}/{{nb}}"
            self.cell(0, 5, page, align="C")

    sheet = Ordonnance(format="A4")
    sheet.core_fonts_encoding = _ENCODING
    sheet.set_creation_date(datetime.fromisoformat(group.signed_at))
    sheet.set_title("Ordonnance")
    sheet.set_lang("fr-FR")
    sheet.set_margins(15, 15)
    sheet.set_auto_page_break(True, margin=18)
    sheet.add_page()
    _head(sheet, group, signed, code)
    closed = {line.request_id for line in prescription.lines if STATES[line.state].kind not in ("open", "claimed")}
    _lines(sheet, signed_lines(prescription), closed)
    _foot(sheet, group)
    return bytes(sheet.output())


def _head(sheet: FPDF, group: Group, signed: Json, code: str) -> None:
    top, left = sheet.get_y(), sheet.l_margin
    right = sheet.w - sheet.r_margin - _QR_MILLIMETRES
    _qr(sheet, url_of(group, code), right, top)
    sheet.set_right_margin(sheet.w - right + 5)
    _write(sheet, "ORDONNANCE", size=16, style="B")
    _write(sheet, _prescriber(signed["lines"][0]) or "Prescripteur", style="B")
    _write(sheet, f"RPPS {signed['requester']} - Structure {group.practice}")
    _write(sheet, f"Le {day(signed['authoredOn'])}, signée électroniquement")
    sheet.ln(2)
    _write(sheet, "Patient", size=8)
    patient = signed["patient"]
    names = " ".join([*patient["given"], *patient["family"][:1]])
    used = f" (nom utilisé : {patient['family'][1]})" if len(patient["family"]) > 1 else ""
    _write(sheet, names + used, style="B")
    born = f"Né(e) le {day(patient['birthDate'])}" if patient["birthDate"] else ""
    _write(sheet, " - ".join(filter(None, (born, f"Sexe {_GENDERS.get(patient['gender'], 'I')}"))))
    for identifier in patient["ins"]:
        system, _, value = identifier.partition("|")
        _write(sheet, f"INS {value[:13]} {value[13:]}" + (" (identité de test)" if system == _TEST_INS else ""))
    sheet.set_right_margin(sheet.l_margin)
    sheet.set_y(max(sheet.get_y(), top + _QR_MILLIMETRES))
    _write(sheet, f"Ordonnance n° {grouped(group.number)}", size=12, style="B", font="Courier", align="R")
    sheet.set_x(left)
    sheet.ln(3)


def _lines(sheet: FPDF, requests: Sequence[Json], closed: set[str]) -> None:
    long_term = [each for each in requests if _flag(each, Mention.ALD)]
    if not long_term:
        for number, each in enumerate(requests, 1):
            _line(sheet, number, each, is_closed=each["id"] in closed)
        return
    others = [each for each in requests if not _flag(each, Mention.ALD)]
    number = 0
    for (title, name), zone in ((_LONG_TERM, long_term), (_OTHER, others)):
        _write(sheet, title, size=9)
        _write(sheet, name, size=9, style="B", line_below=True)
        sheet.ln(2)
        for each in zone:
            number += 1
            _line(sheet, number, each, is_closed=each["id"] in closed)
        if not zone:
            _write(sheet, "(néant)")
        sheet.ln(4)


def _line(sheet: FPDF, number: int, request: Json, *, is_closed: bool) -> None:
    with sheet.unbreakable() as whole:
        end = " [ligne close : ne plus délivrer]" if is_closed else ""
        _write(whole, f"{number}. {_product(request)}{end}", size=11, style="BS" if is_closed else "B")
        for text in _told(request):
            _write(whole, text, indent=6)
        whole.ln(3)


def _told(request: Json) -> Iterator[str]:
    """What the sheet says of a line below its product."""
    is_spelt = _flag(request, _SECURE)

    def write(amount: Decimal) -> str:
        return in_letters(amount) if is_spelt else written_plainly(amount)

    yield instruction(request, write, is_spelt=is_spelt)
    supply = request.get("dispenseRequest", {})
    parts = []
    if "value" in supply.get("quantity", {}):
        parts.append(f"Quantité : {quantity_in_words(supply['quantity'], write)}")
    if "value" in supply.get("expectedSupplyDuration", {}):
        parts.append(f"Durée : {quantity_in_words(supply['expectedSupplyDuration'], write)}")
    repeats = supply.get("numberOfRepeatsAllowed", 0)
    parts.append(f"À renouveler {write(Decimal(repeats))} fois" if repeats else "Non renouvelable")
    yield " - ".join(parts)
    period = supply.get("validityPeriod", {})
    if "end" in period:
        yield f"Valable jusqu’au {day(period['end'])}"
    substitution = request.get("substitution", {})
    if substitution.get("allowedBoolean") is False:
        reason = next((each.get("code", "") for each in substitution.get("reason", {}).get("coding", [])), "")
        yield f"NON SUBSTITUABLE ({reason})" if reason else "NON SUBSTITUABLE"
    in_words = next((str(each["valueString"]) for each in _extensions(request, Mention.IN_WORDS)), "")
    if in_words:
        yield f"En toutes lettres : {in_words}"
    for name, text in _MENTIONS.items():
        if _flag(request, name):
            yield text
    for note in request.get("note", []):
        yield str(note["text"])


def _foot(sheet: FPDF, group: Group) -> None:
    with sheet.unbreakable() as whole:
        whole.ln(2)
        _write(whole, _RULES, size=8)


def _contained(request: Json, reference: Json) -> Json:
    """The resource in the request that a reference names, empty for any other."""
    named = reference.get("reference")
    return next((each for each in request.get("contained", []) if named == f"#{each.get('id')}"), {})


def _prescriber(request: Json) -> str:
    """The prescriber's name, and what the structure is called, as far as the signed request says it."""
    reference = request.get("requester", {})
    party = _contained(request, reference)
    person, organisation = (party.get(each, {}) for each in ("practitioner", "organization"))
    names = (_contained(request, person) or party).get("name", [])
    name = names[0] if isinstance(names, list) and names else {}
    made = " ".join([*name.get("prefix", []), *name.get("given", []), name.get("family", "")]).strip()
    shown = reference.get("display") or name.get("text") or made or person.get("display", "")
    return ", ".join(filter(None, (shown, organisation.get("display"))))


def _product(request: Json) -> str:
    reference = request.get("medicationReference", {})
    medication = _contained(request, reference)
    if medication:
        parts = [_named(part.get("itemCodeableConcept", {})) for part in medication.get("ingredient", [])]
        return _named(medication.get("code", {})) or " + ".join(filter(None, parts))
    return _named(request.get("medicationCodeableConcept", {})) or str(reference.get("display", ""))


def _named(concept: Json) -> str:
    codings = concept.get("coding", [])
    displays = [str(each["display"]) for each in codings if "display" in each]
    codes = [str(each["code"]) for each in codings if "code" in each]
    return str(concept.get("text") or next(iter([*displays, *codes]), ""))


def _extensions(request: Json, name: str) -> list[Json]:
    found = request.get("extension", [])
    return [each for each in found if each.get("url", "").endswith(f"/StructureDefinition/rx-{name}")]


def _flag(request: Json, name: str) -> bool:
    return any(each.get("valueBoolean") is True for each in _extensions(request, name))


def _qr(sheet: FPDF, text: str, left: float, top: float) -> None:
    """The symbol as filled rectangles: as sharp as the printer."""
    import segno

    rows = [list(row) for row in segno.make(text, error="m", micro=False).matrix]
    size = _QR_MILLIMETRES / (len(rows) + 2 * _QUIET)
    for y, row in enumerate(rows):
        for start, length in _runs(row):
            sheet.rect(left + (start + _QUIET) * size, top + (y + _QUIET) * size, length * size, size, style="F")


def _runs(row: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Where dark modules begin, and how many follow each other."""
    start = 0
    while start < len(row):
        length = 0
        while start + length < len(row) and row[start + length]:
            length += 1
        if length:
            yield start, length
        start += max(length, 1)


def _write(
    sheet: Sheet,
    text: str,
    *,
    size: float = 10,
    style: str = "",
    font: str = _FONT,
    align: str = "L",
    indent: float = 0,
    line_below: bool = False,
) -> None:
    sheet.set_font(font, style=style, size=size)
    sheet.set_x(sheet.l_margin + indent)
    border = "B" if line_below else ""
    sheet.multi_cell(0, size * 0.5, written(text), align=align, border=border or 0, new_x="LMARGIN", new_y="NEXT")


def written(text: str) -> str:
    """The text in the letters of the standard fonts (Windows-1252)."""
    return "".join(map(_letter, text.translate(_LETTERS)))


def _letter(letter: str) -> str:
    plain = "".join(each for each in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(each))
    for form in (letter, plain):
        try:
            form.encode(_ENCODING)
        except UnicodeEncodeError:
            continue
        return form
    return "?"
