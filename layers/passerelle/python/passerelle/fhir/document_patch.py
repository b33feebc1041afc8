"""What a patch of a document means: its status, its labels, whether it is archived, and nothing else.

ANS PDSm flux 03; DMP draft TD3.3a to d; contract D5 to D7, PDSM-6 to PDSM-13. JSON Patch and FHIRPath Patch say the
same. Operations on labels are read as intentions (`documents/labels.py`) and never applied at the place they name;
places only say which label the client means, in the document as the operations before have left it. The path of the
draft's examples for the archive extension is taken as it is written there; no other path outside the two standards is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from passerelle.consents.visibility import canonical_label, label_system
from passerelle.documents.changes import Act, Change, relabelling
from passerelle.documents.labels import (
    CONFIDENTIALITIES,
    CONFIDENTIALITY,
    NORMAL,
    Classify,
    Intention,
    Labels,
    Lift,
    Mask,
    Restore,
    State,
    revised,
)
from passerelle.errors import Invalid, Issue, Unprocessable, Unsupported
from passerelle.fhir import patch as standard
from passerelle.fhir.definitions import resource_definition
from passerelle.fhir.fhirpath import Step as Part
from passerelle.fhir.fhirpath import is_same, parse, select
from passerelle.fhir.patch import FHIRPATH_PATCH, Step

IS_ARCHIVED: Final = "https://interop.esante.gouv.fr/ig/fhir/pdsm/StructureDefinition/pdsm-ext-is-archived"
STATUSES: Final = ("current", "superseded", "entered-in-error")
WITHDRAWN: Final = "entered-in-error"
MAX_OPERATIONS: Final = 20  # three elements can be patched

_TYPE: Final = "DocumentReference"
_PATCHED: Final = ("status", "securityLabel", "extension")
_ARCHIVE_PATH: Final = f"/extension[url:'{IS_ARCHIVED}']/valueBoolean"  # as the DMP draft writes it (D7)
_ARCHIVE_PARTS: Final = (
    (Part("extension", IS_ARCHIVED), Part("child", "value")),
    (
        Part("child", "extension"),
        Part("where", (((Part("child", "url"),), IS_ARCHIVED),)),
        Part("child", "value"),
    ),
)
_NAME: Final = re.compile(r"[A-Za-z]{1,40}", re.ASCII)
_PLACE: Final = re.compile(r"0|[1-9][0-9]{0,5}", re.ASCII)
_ACCEPTED: Final = (
    "accepted are the JSON Pointers /status, /securityLabel, /securityLabel/<n> and the archive extension, as "
    f"{_ARCHIVE_PATH}, and the same elements in a FHIRPath Patch"
)


# --- labels of a resource ---------------------------------------------------------------------------------------------


def labels_of(content: Mapping[str, Any]) -> Labels:
    """The labels of a valid DocumentReference."""
    codings = [coding for label in content.get("securityLabel", ()) for coding in _codings(label)]
    masks = frozenset(_mask(coding) for coding in codings if coding.get("system") == label_system())
    codes = [str(coding.get("code")) for coding in codings if coding.get("system") == CONFIDENTIALITY]
    return Labels(masks=masks, confidentiality=codes[0] if codes else None)


def _codings(label: Any) -> list[Mapping[str, Any]]:
    listed = label.get("coding") if isinstance(label, Mapping) else None
    return [each for each in listed if isinstance(each, Mapping)] if isinstance(listed, list) else []


def _mask(coding: Mapping[str, Any]) -> str:
    code = str(coding.get("code"))
    return canonical_label(code) or code


def _masks(label: Any) -> frozenset[str]:
    return frozenset(_mask(coding) for coding in _codings(label) if coding.get("system") == label_system())


def _is_other(label: Any) -> bool:
    return all(coding.get("system") not in (label_system(), CONFIDENTIALITY) for coding in _codings(label))


def _meant(label: Any, place: str) -> Mask | Classify:
    """The one label that a CodeableConcept stands for; raises Unprocessable for what is no label of a document."""
    codings = _codings(label)
    if len(codings) != 1:
        raise Unprocessable("a label is a CodeableConcept with one coding", code="value", expression=place)
    system, code = codings[0].get("system"), codings[0].get("code")
    if system == label_system() and (known := canonical_label(str(code))):
        return Mask(label=known)
    if system == CONFIDENTIALITY and code in CONFIDENTIALITIES:
        return Classify(code=str(code))
    raise Unprocessable("the code is no label of a document", code="code-invalid", expression=place)


# --- what is asked for ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation on one of the elements that can be patched.

    `tokens` are those of a JSON Pointer, `parts` those of a FHIRPath without the name of the type.
    """

    step: Step
    element: str
    tokens: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    is_archive: bool = False

    @property
    def value_place(self) -> str:
        return f"{self.step.place}.value" if self.step.is_json else self.step.place


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentPatch:
    """A patch that was read and is about nothing but what can be patched."""

    operations: tuple[Operation, ...]

    @classmethod
    def read(cls, patch: Any, media_type: str) -> DocumentPatch:
        """Read a body that was parsed.

        Raises Unsupported (405) naming every other element that it would change, Invalid (`structure`) for what is no
        patch, Unprocessable for a path that is none.
        """
        steps = standard.steps(patch, media_type)
        if not steps:
            raise Invalid("a patch has operations", code="structure")
        if len(steps) > MAX_OPERATIONS:
            raise Invalid(f"a patch of a document has {MAX_OPERATIONS} operations at most", code="too-long")
        read = [_operation(step) for step in steps]
        others = [each for each in read if isinstance(each, Issue)]
        if others:
            raise Unsupported(issues=others, headers={"Allow": "GET, HEAD, PATCH"})
        return cls(operations=tuple(each for each in read if isinstance(each, Operation)))

    def transactions(self) -> Iterator[tuple[str, ...]]:
        """Of each operation that changes something: the transactions that such a change may be part of."""
        for operation in self.operations:
            if operation.step.kind == "test":
                continue
            if operation.element == "securityLabel":
                yield _label_transactions(operation)
            else:
                yield ("TD3.3d",) if operation.element == "extension" else ("TD3.3c",)

    def applied(self, stored: Mapping[str, Any]) -> Revised:
        """What it makes of a document; raises Unprocessable where that is not possible, or would expose it."""
        asked = {operation.element for operation in self.operations}
        work = _Work(view={name: stored[name] for name in ("resourceType", *asked) if name in stored})
        work.labels = labels_of(stored)
        for operation in self.operations:
            work.apply(operation)
        return Revised(
            content=_composed(stored, work, asked),
            before=labels_of(stored),
            after=work.labels,
            status_before=str(stored["status"]),
            status=str(work.view.get("status", stored["status"])),
            is_archive_changed="extension" in asked and not is_same(_archived(stored), _archived(work.view)),
            unnamed=frozenset(work.unnamed),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Revised:
    """A document before and after a patch; `unnamed` are the labels that the code N was taken to lift."""

    content: Mapping[str, Any]
    before: Labels
    after: Labels
    status_before: str
    status: str
    is_archive_changed: bool
    unnamed: frozenset[str]

    @property
    def changes(self) -> tuple[Change, ...]:
        """What is done to the document; nothing where it is already as asked."""
        acts = [Act.ARCHIVE] if self.is_archive_changed else []
        if self.status != self.status_before:
            acts.append(Act.WITHDRAW if self.status == WITHDRAWN else Act.REVISE)
        return (*relabelling(self.before, self.after), *(Change(act=act) for act in acts))


def _operation(step: Step) -> Operation | Issue:
    return _json_operation(step) if step.is_json else _fhirpath_operation(step)


def _json_operation(step: Step) -> Operation | Issue:
    if step.kind in ("move", "copy"):
        return _other(_known(step.path))
    if step.path == _ARCHIVE_PATH:
        if step.kind not in ("add", "replace"):
            raise _no_path(step)
        return Operation(step=step, element="extension", is_archive=True)
    tokens = tuple(token.replace("~1", "/").replace("~0", "~") for token in step.path.split("/")[1:])
    if step.path == "":
        return _other(None)
    if not step.path.startswith("/") or not _NAME.fullmatch(tokens[0]):
        raise _no_path(step)
    if tokens[0] not in _PATCHED:
        return _other(_known(step.path))
    return Operation(step=step, element=tokens[0], tokens=tokens)


def _fhirpath_operation(step: Step) -> Operation | Issue:
    parts = parse(step.path, step.path_place)
    if parts[0] == Part("child", _TYPE):
        parts = parts[1:]
    names = [step.name] if not parts else ["extension" if parts[0].kind == "extension" else parts[0].argument]
    element = str(names[0]) if isinstance(names[0], str) else ""
    if step.kind == "move" or element not in _PATCHED:
        return _other(_known(f"/{element}"))
    is_archive = step.kind == "replace" and parts in _ARCHIVE_PARTS
    return Operation(step=step, element=element, parts=parts, is_archive=is_archive)


def _other(element: str | None) -> Issue:
    return Issue(
        code="not-supported",
        diagnostics="of a document only status, securityLabel and the archive extension change",
        expression=f"{_TYPE}.{element}" if element else _TYPE,
    )


def _known(path: str) -> str | None:
    """The element that a path begins with, if there is one of that name: nothing else of a path is repeated."""
    name = path.split("/")[1] if "/" in path else ""
    found = resource_definition(_TYPE)
    return name if found is not None and name in found.elements else None


def _no_path(step: Step) -> Unprocessable:
    return Unprocessable(_ACCEPTED, code="value", expression=step.path_place)


def _label_transactions(operation: Operation) -> tuple[str, ...]:
    """Of the label that is named; of either kind where that depends on the document."""
    named = [known for text in _texts(operation.step.value) if (known := canonical_label(text))]
    own = {code for label in named for code in Change(act=Act.MASK, label=label).transactions}
    return tuple(sorted(own)) or ("TD3.3a", "TD3.3b")


# --- what it makes of a document --------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Work:
    """A document as a patch goes on.

    `view` has what the standards make of the patched elements, which places in later operations refer to; `labels` is
    what the document will have. `named` are the labels that tests and filters have shown, `sent` the labels as they
    came, by code.
    """

    view: dict[str, Any]
    labels: Labels = field(default_factory=lambda: Labels(masks=frozenset()))
    named: set[str] = field(default_factory=set)
    sent: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    unnamed: set[str] = field(default_factory=set)

    def apply(self, operation: Operation) -> None:
        if operation.is_archive:
            self._archive(operation)
        elif operation.element == "securityLabel" and operation.step.kind != "test":
            self._label(operation)
        else:
            before = self.view
            self.view = operation.step.applied(before)
            if operation.step.kind == "test":
                if operation.element == "securityLabel":
                    self.named |= {known for text in _texts(operation.step.value) if (known := canonical_label(text))}
            else:
                self._check(operation, before)

    def _check(self, operation: Operation, before: Mapping[str, Any]) -> None:
        """What the standards made of a status or an extension is nothing else."""
        if self.view.keys() - before.keys() - set(_PATCHED):
            raise Unsupported(issues=[_other(operation.element)])  # of a primitive its own extensions
        if operation.element == "status":
            status = self.view.get("status")
            if status not in STATUSES:
                is_text = isinstance(status, str)
                raise Unprocessable(
                    f"the status is one of {', '.join(STATUSES)}",
                    code="code-invalid" if is_text else "value",
                    expression=operation.value_place,
                )
        elif not is_same(_other_extensions(before), _other_extensions(self.view)):
            raise Unsupported(issues=[_other("extension")])
        elif [each for each in _archives(self.view) if not isinstance(each.get("valueBoolean"), bool)]:
            raise Unprocessable("it is archived, true or false", code="value", expression=operation.value_place)

    def _archive(self, operation: Operation) -> None:
        value = operation.step.value if operation.step.is_json else operation.step.value.get("valueBoolean")
        if not isinstance(value, bool):
            raise Unprocessable("it is archived, true or false", code="value", expression=operation.value_place)
        others = _other_extensions(self.view)
        self.view = {**self.view, "extension": [*others, {"url": IS_ARCHIVED, "valueBoolean": value}]}

    # --- labels ---------------------------------------------------------------------------------------------------

    def _label(self, operation: Operation) -> None:
        listed = list(self.view.get("securityLabel", ()))
        if operation.step.is_json:
            intentions = self._of_json(operation, listed)
        else:
            intentions = self._of_fhirpath(operation, listed)
        self.view = {**self.view, "securityLabel": listed}
        for intention in intentions:
            try:
                after = revised(self.labels, intention)
            except Unprocessable as refusal:
                raise Unprocessable(refusal.issues[0].diagnostics, expression=operation.step.place) from None
            if isinstance(intention, Restore):
                self.unnamed |= self.labels.masks - after.masks
            self.labels = after

    def _of_json(self, operation: Operation, listed: list[Any]) -> Sequence[Intention]:
        step, tokens = operation.step, operation.tokens
        if len(tokens) == 1:
            value = [] if step.kind == "remove" else step.value
            if not isinstance(value, list):
                raise Unprocessable("securityLabel is a list of labels", code="value", expression=operation.value_place)
            before, listed[:] = list(listed), value
            return [self._state(before, value, operation)]
        if len(tokens) > 2:
            raise _whole(step)
        place = self._place(operation, listed)
        if step.kind == "remove":
            return self._removed(listed.pop(place), operation)
        if step.kind == "add" or place == len(listed):
            listed.insert(place, step.value)
            return [self._added(step.value, operation)]
        before, listed[place] = listed[place], step.value
        return self._replaced(before, step.value, operation)

    def _place(self, operation: Operation, listed: Sequence[Any]) -> int:
        """Where in the list; the first place of an empty list may be replaced, as in the DMP draft."""
        place, kind = operation.tokens[1], operation.step.kind
        if place == "-" and kind == "add":
            return len(listed)
        last = len(listed) - (kind != "add" and not (kind == "replace" and not listed))
        if not _PLACE.fullmatch(place) or int(place) > last:
            raise Unprocessable("the path leads to nothing", code="value", expression=operation.step.path_place)
        return int(place)

    def _of_fhirpath(self, operation: Operation, listed: list[Any]) -> Sequence[Intention]:
        step, parts = operation.step, operation.parts
        if any(part.kind in ("child", "extension", "ofType") for part in parts[1:]) or (parts and step.kind == "add"):
            raise _whole(step)
        if step.kind in ("add", "insert"):
            label = _concept(step)
            listed.append(label)
            return [self._added(label, operation)]
        self.named |= _literals(parts)
        found = select({"resourceType": _TYPE, "securityLabel": listed}, parts, step.path_place)
        if len(found) > 1:
            raise Unprocessable("the path names more than one label", code="value", expression=step.path_place)
        if step.kind == "delete":
            return self._removed(listed.pop(found[0].index or 0), operation) if found else []
        label = _concept(step)
        if found:
            place = found[0].index or 0
            before, listed[place] = listed[place], label
            return self._replaced(before, label, operation)
        if listed:
            raise Unprocessable("the path names no label", code="value", expression=step.path_place)
        listed.append(label)
        return [self._added(label, operation)]

    def _added(self, label: Any, operation: Operation) -> Intention:
        meant = _meant(label, operation.value_place)
        self._keep(meant, label)
        return meant

    def _replaced(self, before: Any, label: Any, operation: Operation) -> Sequence[Intention]:
        """What the place held stays, unless it was named: the operation is about the label that it brings."""
        meant = self._added(label, operation)
        if meant != Classify(code=NORMAL):
            return [meant]
        named = _masks(before) & self.named
        return [Lift(label=each) for each in sorted(named)] or [Restore()]

    def _removed(self, label: Any, operation: Operation) -> Sequence[Intention]:
        masks = _masks(label)
        if not masks or not masks <= self.named:
            raise Unprocessable(
                "only a visibility label is removed, and it is named: by a test of its code before, "
                "or by where(coding.code='...') in the path",
                expression=operation.step.place,
            )
        return [Lift(label=each) for each in sorted(masks)]

    def _state(self, before: Sequence[Any], value: Sequence[Any], operation: Operation) -> State:
        """All that the list names; other labels that a document came with may stand in it, and stay in any case."""
        meant: list[Mask | Classify] = []
        for n, label in enumerate(value):
            if not (_is_other(label) and any(is_same(label, each) for each in before)):
                meant.append(_meant(label, f"{operation.value_place}[{n}]"))
                self._keep(meant[-1], label)
        codes = {each.code for each in meant if isinstance(each, Classify)}
        if len(codes) > 1:
            raise Unprocessable(
                "a document has one confidentiality code", code="value", expression=operation.value_place
            )
        masks = frozenset(each.label for each in meant if isinstance(each, Mask))
        return State(
            labels=Labels(masks=masks, confidentiality=codes.pop() if codes else None), named=frozenset(self.named)
        )

    def _keep(self, meant: Mask | Classify, label: Mapping[str, Any]) -> None:
        code = meant.label if isinstance(meant, Mask) else meant.code
        if _codings(label)[0].get("code") == code:
            self.sent[code] = label
        else:  # an alias, and perhaps a display of it
            self.sent[code] = {"coding": [{"system": _codings(label)[0]["system"], "code": code}]}


def _whole(step: Step) -> Unprocessable:
    return Unprocessable("a label is given whole", code="value", expression=step.path_place)


def _concept(step: Step) -> Any:
    """The label in a part of a FHIRPath Patch, whether as a value or in parts."""
    part = [
        {"name": "type", "valueCode": "add"},
        {"name": "path", "valueString": _TYPE},
        {"name": "name", "valueString": "securityLabel"},
        step.value,
    ]
    patch = {"resourceType": "Parameters", "parameter": [{"name": "operation", "part": part}]}
    try:
        made = standard.revised({"resourceType": _TYPE}, patch, FHIRPATH_PATCH[0])
    except Unprocessable as refusal:
        raise Unprocessable(refusal.issues[0].diagnostics, code="value", expression=step.place) from None
    return made["securityLabel"][0]


def _literals(parts: Sequence[Part]) -> set[str]:
    """The labels that the filters of a path name."""
    literals = [criterion[1] for part in parts if part.kind == "where" for criterion in part.argument]
    return {known for each in literals if isinstance(each, str) and (known := canonical_label(each))}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


# --- the document afterwards ------------------------------------------------------------------------------------------


def _extensions(content: Mapping[str, Any]) -> list[Any]:
    listed = content.get("extension", [])
    return listed if isinstance(listed, list) else [listed]


def _archives(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [each for each in _extensions(content) if isinstance(each, Mapping) and each.get("url") == IS_ARCHIVED]


def _other_extensions(content: Mapping[str, Any]) -> list[Any]:
    return [each for each in _extensions(content) if not (isinstance(each, Mapping) and each.get("url") == IS_ARCHIVED)]


def _archived(content: Mapping[str, Any]) -> Any:
    return next((each.get("valueBoolean") for each in _archives(content)), None)


def _composed(stored: Mapping[str, Any], work: _Work, asked: Collection[str]) -> dict[str, Any]:
    content = dict(stored)
    for name in asked:
        value = work.view.get(name)
        if name == "securityLabel":
            value = _relabelled(stored.get(name, ()), labels_of(stored), work.labels, work.sent)
        if value:
            content[name] = value
        else:
            content.pop(name, None)
    return content


def _relabelled(
    listed: Collection[Any], before: Labels, after: Labels, sent: Mapping[str, Mapping[str, Any]]
) -> list[Any]:
    """The list with what is lifted taken out and what is new at the end; all else where it was, as it was."""
    kept: list[Any] = []
    is_classified = False
    for label in listed:
        codings = []
        for coding in label.get("coding", ()):
            if coding.get("system") == label_system() and _mask(coding) not in after.masks:
                continue
            if coding.get("system") == CONFIDENTIALITY and before.confidentiality != after.confidentiality:
                if is_classified:
                    continue
                coding = _codings(_label_for(CONFIDENTIALITY, str(after.confidentiality), sent))[0]
                is_classified = True
            codings.append(coding)
        if codings or not label.get("coding"):
            kept.append({**label, "coding": codings} if codings else label)
    if before.confidentiality is None and after.confidentiality is not None:
        kept.insert(0, _label_for(CONFIDENTIALITY, after.confidentiality, sent))
    kept += [_label_for(label_system(), mask, sent) for mask in sorted(after.masks - before.masks)]
    return kept


def _label_for(system: str, code: str, sent: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    """As it was sent, or bare: the code N can restore what was never said."""
    return sent.get(code) or {"coding": [{"system": system, "code": code}]}
