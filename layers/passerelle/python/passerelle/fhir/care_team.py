"""The care circle (cercle de soins): what its resources have beyond R4, and that a person has one at a time.

ANS, guide « Gestion du cercle de soins » 2.0.1 (CdS), which builds on IHE DCTM (PCC-45 to PCC-47); contract CDS-2 to
CDS-12. The rules are those of what declares a profile of the guide. Under a token that is for PCC-45 alone, and in a
transaction of the guide, everything it speaks of is meant so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from passerelle.access import Permission, Scopes
from passerelle.errors import Issue, Unprocessable
from passerelle.fhir.bundles import TransactionEntry, resolve_references
from passerelle.fhir.paths import is_to
from passerelle.records.search import Criterion, Query, TokenIs, UriIs

_GUIDE = "https://interop.esante.gouv.fr/ig/fhir/cds/StructureDefinition"
CIRCLE: Final = f"{_GUIDE}/cds-ihe-careteam"
CONTACT: Final = f"{_GUIDE}/cds-fr-related-person"
CREATION: Final = f"{_GUIDE}/cds-bundle-transaction-creation"
REVISION: Final = f"{_GUIDE}/cds-bundle-transaction-maj"
WRITES: Final = ("PCC-45",)

_ROLE_OF_CONTACT = "https://mos.esante.gouv.fr/NOS/TRE_R260-HL7RoleClass/FHIR/TRE-R260-HL7RoleClass"
_MEMBERS = ("PractitionerRole", "RelatedPerson", "Organization")
_ENDED = ("inactive", "entered-in-error")
_IN_USE = ("proposed", "active", "suspended")

Value = Mapping[str, Any]


def is_declared(resource: Value, profile: str) -> bool:
    """Whether a resource, validated or not, declares a profile, in whatever version."""
    meta = resource.get("meta")
    listed = meta.get("profile") if isinstance(meta, Mapping) else None
    each = listed if isinstance(listed, list) else []
    return any(isinstance(url, str) and url.partition("|")[0] == profile for url in each)


def declaring(resource: Value, profile: str) -> dict[str, Any]:
    """A copy that declares the profile; of what nobody can read, as it is."""
    meta = resource.get("meta", {})
    listed = meta.get("profile", []) if isinstance(meta, Mapping) else None
    if not isinstance(listed, list) or is_declared(resource, profile):
        return dict(resource)
    return {**resource, "meta": {**meta, "profile": [*listed, profile]}}


# --- profiles ---------------------------------------------------------------------------------------------------------


def profile_faults(resource: Value, path: str) -> list[Issue]:
    """What a resource that R4 takes breaks of the profiles of the guide that it declares."""
    declared = (faults for profile, faults in _PROFILES.items() if is_declared(resource, profile))
    return [fault for faults in declared for fault in faults(resource, path)]


def _circle_faults(circle: Value, path: str) -> Iterator[Issue]:
    yield from _missing(circle, path, "identifier", "status", "name", "subject", "period", "participant")
    yield from _single_identifier(circle, path)
    if "subject" in circle and is_to(circle, circle["subject"], "Group"):
        yield _invariant(f"{path}.subject", "the circle is of one patient")
    if "period" in circle:
        yield from _missing(circle["period"], f"{path}.period", "start")
    for number, member in enumerate(circle.get("participant", ())):
        place = f"{path}.participant[{number}]"
        yield from _missing(member, place, "member")
        if "member" in member and not _may_be_member(circle, member["member"]):
            yield _invariant(f"{place}.member", f"a member is one of {', '.join(_MEMBERS)}")
        if "start" not in member.get("period", {}):
            yield _required(f"{place}.period.start")


def _may_be_member(circle: Value, reference: Value) -> bool:
    text = str(reference.get("reference", ""))
    if "type" not in reference and not text.startswith("#") and "/" not in text:
        return True  # it tells no type: an identifier; or an entry of the transaction, asked again once that is known
    return any(is_to(circle, reference, kind) for kind in _MEMBERS)


def _contact_faults(contact: Value, path: str) -> Iterator[Issue]:
    yield from _missing(contact, path, "identifier", "name", "telecom")
    yield from _single_identifier(contact, path)
    names = contact.get("name", ())
    if len(names) > 1:
        yield _invariant(f"{path}.name", "there is one name")
    for name in names[:1]:
        yield from _missing(name, f"{path}.name[0]", "family")
        if len(name.get("given", ())) > 1:
            yield _invariant(f"{path}.name[0].given", "there is one given name")
    codings = (coding for each in contact.get("relationship", ()) for coding in each.get("coding", ()))
    if not any(each.get("system") == _ROLE_OF_CONTACT for each in codings):
        yield Issue(code="required", diagnostics="the role of the person is told", expression=f"{path}.relationship")


_PROFILES: Mapping[str, Callable[[Value, str], Iterator[Issue]]] = {CIRCLE: _circle_faults, CONTACT: _contact_faults}


def _single_identifier(resource: Value, path: str) -> Iterator[Issue]:
    identifiers = resource.get("identifier", ())
    if len(identifiers) > 1:
        yield _invariant(f"{path}.identifier", "there is one identifier")
    for each in identifiers[:1]:
        yield from _missing(each, f"{path}.identifier[0]", "value")


def _missing(value: Value, path: str, *names: str) -> Iterator[Issue]:
    yield from (_required(f"{path}.{name}") for name in names if name not in value)


def _required(place: str) -> Issue:
    return Issue(code="required", diagnostics="the element is mandatory", expression=place)


def _invariant(place: str, text: str) -> Issue:
    return Issue(code="invariant", diagnostics=text, expression=place)


# --- one circle -------------------------------------------------------------------------------------------------------


def circles_in_use() -> Query:
    """The circles of a person that are not over: one at most (CDS-5)."""
    status = tuple(TokenIs("", code) for code in _IN_USE)
    return Query(
        type="CareTeam",
        criteria=(
            Criterion(name="_profile", alternatives=(UriIs(CIRCLE),)),
            Criterion(name="status", alternatives=status),
        ),
    )


def is_circle_in_use(resource: Value) -> bool:
    return (
        resource["resourceType"] == "CareTeam"
        and resource.get("status") not in _ENDED
        and is_declared(resource, CIRCLE)
    )


# --- what is meant by the guide ---------------------------------------------------------------------------------------


def is_meant_as_circle(scopes: Scopes) -> bool:
    """Whether a CareTeam that comes with these scopes is a circle, whatever it declares: they are for PCC-45 alone."""
    return not any(scopes.permits(Permission(resource="CareTeam", interaction=right)) for right in ("c", "u"))


def circle_entries(bundle: Value, entries: Sequence[TransactionEntry], scopes: Scopes) -> list[TransactionEntry]:
    """The entries of a transaction, those of a care circle declaring what they are meant to be.

    A transaction of the guide (flows 1c and 4c) creates and replaces only, the circle among others. Raises
    Unprocessable, with all faults, for one that does not, and for circles whose members are of no allowed type.
    """
    is_creation, is_revision = is_declared(bundle, CREATION), is_declared(bundle, REVISION)
    is_meant = is_creation or is_revision
    if not is_meant and is_meant_as_circle(scopes):
        kinds = {"CareTeam": CIRCLE}
    else:
        kinds = {"CareTeam": CIRCLE, "RelatedPerson": CONTACT} if is_meant else {}
    faults: list[Issue] = []
    if is_meant:
        faults += [
            Issue(code="value", diagnostics="is POST or PUT", expression=f"{each.path}.request.method")
            for each in entries
            if each.method not in ("POST", "PUT")
        ]
        circles = sum(entry.type == "CareTeam" for entry in entries)
        if circles == 0:
            faults.append(Issue(code="required", diagnostics="there is no CareTeam", expression="Bundle.entry"))
        elif is_creation and circles > 1:
            faults.append(_invariant("Bundle.entry", "one circle is created at a time"))
    declared = [
        replace(each, resource=declaring(each.resource, kinds[each.type]))
        if each.type in kinds and each.method in ("POST", "PUT")
        else each
        for each in entries
    ]
    if faults := faults or list(_member_faults(declared)):
        raise Unprocessable(issues=faults)
    return declared


def _member_faults(entries: Sequence[TransactionEntry]) -> Iterator[Issue]:
    """Members that are entries of the same transaction, and of another type than a member has."""
    types = {entry.full_url: f"{entry.type}/-" for entry in entries if entry.full_url}
    for entry in entries:
        listed = entry.resource.get("participant")
        if entry.type != "CareTeam" or not is_declared(entry.resource, CIRCLE) or not isinstance(listed, list):
            continue
        for number, each in enumerate(listed):
            member = each.get("member") if isinstance(each, Mapping) else None
            if isinstance(member, Mapping) and not _may_be_member({}, resolve_references(member, types)):
                place = f"{entry.path}.resource.participant[{number}].member"
                yield _invariant(place, f"a member is one of {', '.join(_MEMBERS)}")
