"""The people of the synthetic region as those who log in: the claims that the real providers give of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from local.openid import Somebody
from local.region import INS_TEST, PARTICIPANTS, Participant, insured

_ACR: Final = "eidas2"
# Given and family name, TRE_G15-ProfessionSante, TRE_R02-SecteurActivite, and what the page says.
_PROFESSIONALS: Final = {
    "hospital-a": ("Claire", "MARCHAND", "10", "SA01", "Médecin"),
    "hospital-b": ("Yann", "LE BIHAN", "10", "SA04", "Médecin"),
    "practice": ("Nadia", "BERRADA", "10", "SA08", "Médecin généraliste"),
    "laboratory": ("Hélène", "ROCHE", "21", "SA25", "Pharmacienne biologiste"),
    "pharmacy-a": ("Olivier", "PAGÈS", "21", "SA33", "Pharmacien"),
    "pharmacy-b": ("Lucie", "AUBERT", "21", "SA33", "Pharmacienne"),
    "nurse": ("Malik", "TRAORÉ", "60", "SA07", "Infirmier"),
}
_AT_TWO: Final = {"practice": "hospital-a"}  # who also works elsewhere


def professionals() -> Sequence[Somebody]:
    by_id = {each.id: each for each in PARTICIPANTS}
    return [_professional(by_id[id], [by_id[each] for each in (id, _AT_TWO.get(id)) if each]) for id in _PROFESSIONALS]


def _professional(participant: Participant, places: Sequence[Participant]) -> Somebody:
    given, family, profession, _, does = _PROFESSIONALS[participant.id]
    exercise = {
        "codeProfession": profession,
        "codeCategorieProfessionnelle": "C",
        "nomDexercice": family,
        "prenomDexercice": given,
        "activities": [_activity(each) for each in places],
    }
    identifier = str(participant.professional)
    return Somebody(
        subject=f"f:local:{identifier}",
        name=f"{given} {family}",
        does=f"{does}, {' et '.join(each.name for each in places)}",
        acr=_ACR,
        claims={
            "SubjectNameID": identifier,
            "preferred_username": identifier,
            "given_name": given,
            "family_name": family,
            "SubjectRefPro": {"codeCivilite": "M", "exercices": [exercise]},
            "otherIds": [{"identifiant": identifier, "origine": "RPPS", "qualite": 1}],
        },
    )


def _activity(place: Participant) -> dict[str, Any]:
    return {
        "codeModeExercice": "S",
        "codeSecteurDactivite": _PROFESSIONALS[place.id][3],
        "numeroFinessSite": place.finess,
        "numeroFinessetablissementJuridique": "",
        "numeroSiretSite": "",
        "identifiantTechniqueDeLaStructure": f"F{place.finess}",
        "ancienIdentifiantDeLaStructure": place.organisation,
        "raisonSocialeSite": place.name,
    }


def patients() -> Sequence[Somebody]:
    return [
        Somebody(
            subject=f"local:{number:02d}",
            name=f"{given} {family}",
            does=f"né(e) le {born[8:]}/{born[5:7]}/{born[:4]}",
            acr=_ACR,
            claims={
                "given_name": given,
                "family_name": family,
                "birthdate": born,
                "ins": ins,
                "ins_oid": INS_TEST.removeprefix("urn:oid:"),
            },
        )
        for number, (given, family, born, ins) in enumerate(insured(), 1)
    ]
