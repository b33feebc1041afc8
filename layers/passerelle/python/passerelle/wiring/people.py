"""Who the people of the exchange are: identities, their resolution, registration and stewardship."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from passerelle.aws.dynamodb import in_parallel
from passerelle.wiring import process, stores

if TYPE_CHECKING:
    from passerelle.fhir.patient import FhirPatientStore
    from passerelle.patients.identity import IdentityScheme
    from passerelle.patients.insi import NationalIdentityService
    from passerelle.patients.reading import PatientReader
    from passerelle.patients.registration import Registrar
    from passerelle.patients.resolution import Resolver
    from passerelle.patients.service import PatientService
    from passerelle.patients.stewardship import StewardService


@cache
def identity_scheme() -> IdentityScheme:
    from passerelle.patients.identity import french_identity

    return french_identity(process.environment().stage)


@cache
def national_identities() -> NationalIdentityService:
    from passerelle.patients.insi import national_identity_service

    return national_identity_service(process.environment().stage)


@cache
def patient_store() -> FhirPatientStore:
    from passerelle.fhir.patient import FhirPatientStore

    return FhirPatientStore(stores.record_store(), identity_scheme(), in_parallel)


@cache
def patient_reader() -> PatientReader:
    from passerelle.patients.reading import PatientReader

    return PatientReader(index=stores.patient_index(), store=patient_store(), in_parallel=in_parallel)


@cache
def resolver() -> Resolver:
    from passerelle.matching.scoring import Model
    from passerelle.patients.resolution import Resolver

    return Resolver(index=stores.patient_index(), model=Model.load, in_parallel=in_parallel)


@cache
def registrar() -> Registrar:
    from passerelle.patients.registration import Registrar

    return Registrar(
        index=stores.patient_index(),
        reviews=stores.patient_index(),
        store=patient_store(),
        resolver=resolver(),
        in_parallel=in_parallel,
    )


@cache
def patient_service() -> PatientService:
    from passerelle.patients.service import PatientService

    return PatientService(
        index=stores.patient_index(),
        store=patient_store(),
        domains=stores.clients(),
        journal=stores.journal(),
        registrar=registrar(),
        resolver=resolver(),
        national_systems=identity_scheme().systems,
        national_identities=national_identities(),
        in_parallel=in_parallel,
        pause=process.dynamodb().back_off,
    )


@cache
def steward_service() -> StewardService:
    from passerelle.patients.stewardship import StewardService

    return StewardService(
        index=stores.patient_index(),
        reviews=stores.patient_index(),
        store=patient_store(),
        journal=stores.journal(),
        registrar=registrar(),
        resolver=resolver(),
        in_parallel=in_parallel,
        pause=process.dynamodb().back_off,
    )
