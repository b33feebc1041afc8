"""Temporary links: one document for somebody outside the network, for one purpose, a few times, for a few days at most.

Whoever has the token of a link opens it; the token is random and only its SHA-256 is kept. A link shows no more than
its issuer may see at that moment, and nothing that is masked from third parties. Every opening is counted and written
to the patient's access log in one commit, before the content leaves (laws 1 and 5; contract BALP-9).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Generic, Protocol, TypeVar

from passerelle.access import Caller, Permission, Request, Scopes, Touched, insufficient_scope
from passerelle.audit.commands import account_of, once
from passerelle.audit.model import audit_of
from passerelle.audit.ports import AuditTrail
from passerelle.authorization.model import Party, parties_of
from passerelle.authorization.ports import Known
from passerelle.consents.visibility import Restriction, View, Viewer
from passerelle.directory.model import CARE_ROLES, Role
from passerelle.documents.model import Document
from passerelle.errors import Busy, Conflict, Fault, Forbidden, NotFound, PasserelleError, Unprocessable
from passerelle.identifiers import new_ulid
from passerelle.journal import Change, Journal

TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")  # 256 bits in base64url
PURPOSES: Final = frozenset({"TREAT", "ETREAT", "COVERAGE", "PATRQT", "HLEGAL"})
"""Codes of the HL7 value set PurposeOfUse: care, emergency care, an insurer's decision, the patient's wish, justice."""

DEFAULT_LIFE: Final = timedelta(hours=24)
MAX_LIFE: Final = timedelta(days=7)
MAX_USES: Final = 20
MAX_TEXT: Final = 200  # characters of a reason, of a recipient
MAX_LINKS: Final = 50  # that a document has at a time, spent ones included until they are forgotten
KEPT: Final = timedelta(days=30)  # after the end of a link, for those who ask what became of it
THIRD_PARTY: Final = "third-party"  # the role in the audit records of openings

READS: Final = Permission(resource="DocumentReference", interaction="r", transactions=("ITI-67",))
RETRIEVES: Final = Permission(resource="Binary", interaction="r", transactions=("ITI-68",))

_NO_SCOPES: Final = Scopes(frozenset())

C = TypeVar("C")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a link is asked for: why, until when, how often; for whom, in the issuer's words."""

    purpose: str
    expires_at: datetime
    uses: int = 1
    reason: str = ""
    recipient: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """`id` is a ulid, `digest` the SHA-256 of the token in hexadecimal, `document` the id of a DocumentReference.

    The issuer is a client, with the organisation and the person it acted for: `role` and `profession` (TRE_G15) are
    that person's, where people log in.
    """

    id: str
    digest: str
    document: str
    patient: str
    client_id: str
    organisation: str
    terms: Terms
    issued_at: datetime
    professional: str | None = None
    role: str = ""
    profession: str | None = None
    opens: int = 0
    last_opened_at: datetime | None = None
    revoked_at: datetime | None = None

    def is_open(self, at: datetime) -> bool:
        return self.revoked_at is None and self.opens < self.terms.uses and at < self.terms.expires_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A link with its token, which nobody is told again."""

    link: Link
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkCreation(Change):
    link: Link


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRevocation(Change):
    link: Link
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkOpening(Change):
    """One more opening at `at`; LinkSpentError when the link is not open any more."""

    digest: str
    at: datetime


class LinkSpentError(Exception):
    """Expired, revoked, or opened as often as it may be."""


class Links(Protocol):
    """What links need from storage."""

    def find(self, digest: str) -> Link | None: ...

    def count(self, document: str) -> int:
        """How many links of a document there are."""

    def of_document(self, document: str) -> Sequence[Link]:
        """Oldest first; links that ended more than a month ago are not there."""


class Publications(Protocol):
    """What links need of the record."""

    def find(self, request: Request, id: str) -> tuple[Document, Restriction | None]:
        """A document that the caller may see, and from whom it is hidden; raises NotFound, Gone."""


class Clients(Protocol):
    def look_up(self, client_id: str, *, parties: Sequence[Party] = ()) -> Known: ...


class Seal(Protocol):
    """Encryption of what must not be read where it is kept."""

    def seal(self, plain: bytes, place: str) -> bytes: ...

    def open(self, sealed: bytes, place: str) -> bytes: ...


class LinkService:
    """What issuers and patients do with links.

    `new_token` gives 256 random bits in base64url; `in_parallel` runs independent reads at once and returns their
    results in order.
    """

    def __init__(
        self,
        *,
        links: Links,
        publications: Publications,
        journal: Journal,
        seal: Seal,
        new_token: Callable[[], str],
        in_parallel: Callable[..., tuple[Any, ...]],
    ) -> None:
        self._links = links
        self._publications = publications
        self._journal = journal
        self._seal = seal
        self._new_token = new_token
        self._in_parallel = in_parallel

    def share(self, request: Request, document: str, terms: Terms) -> Issued:
        """Make a link.

        Raises NotFound or Gone for a document that the caller does not see, Forbidden for a caller who may not share,
        Unprocessable for terms that are not offered, or a document that third parties must not see.
        """
        request = replace(request, purpose=terms.purpose)
        return once(
            self._journal,
            request,
            lambda: self._share(request, document, terms),
            lambda kept: self._shared_before(request, document, kept),
        )

    def _share(self, request: Request, document: str, terms: Terms) -> Issued:
        caller = request.caller
        (found, restriction), count = self._in_parallel(
            lambda: self._publications.find(request, document), lambda: self._links.count(document)
        )
        if caller.role not in CARE_ROLES and caller.role != Role.PATIENT:
            raise Forbidden("links are made by care professionals and by patients")
        if not caller.scopes.permits(RETRIEVES):
            raise insufficient_scope()
        if not is_for_third_parties(restriction):
            raise Unprocessable("the document is masked from third parties")
        check(terms, request.at)
        if count >= MAX_LINKS:
            raise Conflict("the document has as many links as it may have")
        token = self._new_token()
        link = Link(
            id=new_ulid(request.at),
            digest=digest_of(token),
            document=document,
            patient=found.patient,
            client_id=caller.client_id,
            organisation=caller.organisation,
            professional=caller.professional,
            role=caller.role,
            profession=caller.profession,
            terms=terms,
            issued_at=request.at,
        )
        touched = Touched.of([found.patient], [f"DocumentReference/{document}"])
        sealed = self._seal.seal(token.encode(), link.id).hex() if request.idempotency_key else ""
        kept = {"id": link.id, "sealed": sealed}
        self._journal.commit([LinkCreation(link=link), *account_of(request, touched, kept)])
        return Issued(link=link, token=token)

    def _shared_before(self, request: Request, document: str, kept: Mapping[str, Any]) -> Issued:
        """The same link again, for a caller whose first answer was lost, and who still sees the document."""
        self._publications.find(request, document)
        token = self._seal.open(bytes.fromhex(kept["sealed"]), kept["id"]).decode()
        link = self._links.find(digest_of(token))
        if link is None or link.document != document:
            raise NotFound()
        return Issued(link=link, token=token)

    def of_document(self, request: Request, document: str) -> Sequence[Link]:
        """The caller's own links on a document; a patient sees all of them. Raises NotFound, Gone."""
        self._publications.find(request, document)
        return [link for link in self._links.of_document(document) if _answers_for(request.caller, link)]

    def revoke(self, request: Request, document: str, id: str) -> Link:
        """End a link at once; one that was revoked before stays as it is. Raises NotFound, Gone."""
        return once(
            self._journal,
            request,
            lambda: self._revoke(request, document, id),
            lambda _: self._named(request, document, id),
        )

    def _revoke(self, request: Request, document: str, id: str) -> Link:
        link = self._named(request, document, id)
        touched = Touched.of([link.patient], [f"DocumentReference/{document}"])
        request = replace(request, purpose=link.terms.purpose)
        changes = [] if link.revoked_at else [LinkRevocation(link=link, at=request.at)]
        self._journal.commit([*changes, *account_of(request, touched, {"id": id})])
        return link if link.revoked_at else replace(link, revoked_at=request.at)

    def _named(self, request: Request, document: str, id: str) -> Link:
        for link in self.of_document(request, document):
            if link.id == id:
                return link
        raise NotFound()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened(Generic[C]):
    """What a link opened: the document, and its content as it is released."""

    document: Document
    content: C


class LinkOpener(Generic[C]):
    """What whoever has a token does with it. `release` is the one way out of the vault."""

    def __init__(
        self,
        *,
        links: Links,
        publications: Publications,
        clients: Clients,
        trail: AuditTrail,
        journal: Journal,
        release: Callable[[Request, Document], C],
        digests: Callable[[C], str],
    ) -> None:
        self._links = links
        self._publications = publications
        self._clients = clients
        self._trail = trail
        self._journal = journal
        self._release = release
        self._digests = digests

    def leads_somewhere(self, token: str, *, at: datetime) -> bool:
        """Whether a token could be used now; nothing is counted."""
        link = self._found(token)
        return link is not None and link.is_open(at)

    def open(self, token: str, *, at: datetime, request_id: str, base_url: str, address: str = "") -> Opened[C]:
        """Use a link once; `address` is where from, in the network.

        Raises NotFound for whatever refuses it; Busy, Fault and Unavailable use nothing up. A refusal of a link that
        exists is in the patient's access log, with its cause.
        """
        link = self._found(token)
        if link is None:
            raise NotFound()
        request = Request(
            caller=Caller(
                client_id=link.client_id,
                organisation=link.organisation,
                professional=link.professional,
                role=THIRD_PARTY,
                scopes=_NO_SCOPES,
                token_id=link.id,
            ),
            name="$open-link",
            action="R",
            request_id=request_id,
            at=at,
            base_url=base_url,
            purpose=link.terms.purpose,
            address=address,
            recipient=link.terms.recipient or THIRD_PARTY,
        )
        try:
            return self._open(request, link)
        except PasserelleError as refusal:
            if isinstance(refusal, Busy) or refusal.status >= Fault.status:
                raise
            touched = Touched.of([link.patient], [f"DocumentReference/{link.document}"])
            self._trail.append(audit_of(request, touched, refusal=refusal))
            raise NotFound() from refusal

    def _open(self, request: Request, link: Link) -> Opened[C]:
        if not link.is_open(request.at):
            raise NotFound()
        as_issuer = replace(request, caller=self._issuer(link), name="read")
        document, restriction = self._publications.find(as_issuer, link.document)
        if not is_for_third_parties(restriction):
            raise NotFound()
        content = self._release(as_issuer, document)
        binary = f"Binary/{document.id}"
        touched = Touched.of(
            [document.patient],
            [f"DocumentReference/{document.id}", binary],
            [(binary, self._digests(content))],
        )
        try:
            self._journal.commit([LinkOpening(digest=link.digest, at=request.at), *audit_of(request, touched)])
        except LinkSpentError:
            raise NotFound() from None
        return Opened(document=document, content=content)

    def _issuer(self, link: Link) -> Caller:
        """The issuer as registered now; raises NotFound if it could not read the document any more."""
        known = self._clients.look_up(link.client_id, parties=parties_of(link.organisation, link.professional))
        client = None if known.barred else known.client
        if client is None or not client.active:
            raise NotFound()
        if client.organisation != link.organisation and not (client.providers and link.professional):
            raise NotFound()  # people log in for whichever structure they work for
        if not (client.scopes.permits(READS) and client.scopes.permits(RETRIEVES)):
            raise NotFound()
        return Caller(
            client_id=client.id,
            organisation=link.organisation,
            role=link.role if client.providers and link.professional else client.role,
            scopes=client.scopes,
            token_id=link.id,
            professional=link.professional,
            profession=link.profession,
            patient=client.patient,
        )

    def _found(self, token: str) -> Link | None:
        return self._links.find(digest_of(token)) if TOKEN.fullmatch(token) else None


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def is_for_third_parties(restriction: Restriction | None) -> bool:
    return View(viewer=Viewer.THIRD_PARTY, organisation="").shows(restriction)


def check(terms: Terms, at: datetime) -> None:
    """Raise Unprocessable for terms that are not offered."""
    if terms.purpose not in PURPOSES:
        raise _refused("the purpose is not one that links are made for", "purpose", "code-invalid")
    if not timedelta() < terms.expires_at - at <= MAX_LIFE:
        raise _refused("a link ends within seven days", "expires")
    if not 0 < terms.uses <= MAX_USES:
        raise _refused(f"a link is opened {MAX_USES} times at most", "uses")
    if len(terms.reason) > MAX_TEXT or len(terms.recipient) > MAX_TEXT:
        raise _refused(f"a text has {MAX_TEXT} characters at most", "reason")


def _refused(diagnostics: str, parameter: str, code: str = "value") -> Unprocessable:
    return Unprocessable(diagnostics, code=code, expression=f"Parameters.parameter.where(name='{parameter}')")


def _answers_for(caller: Caller, link: Link) -> bool:
    return caller.role == Role.PATIENT or caller.client_id == link.client_id
