"""The malware scanner of the local stack: stands in for GuardDuty Malware Protection for S3.

It looks at every object below the prefixes of the template's plans, knows one piece of malware, the EICAR test file,
and reports each object on the default bus as GuardDuty does, so that rule, queue, function and quarantine are real.
A report bears the time of its object: one that is scanned again after a restart changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from local.intrinsics import TemplateError
from local.resources import Client, Properties
from passerelle.aws.quarantine import DETAIL_TYPE, SOURCE

# In two parts, so that no scanner takes this file for the test file (eicar.org, "Anti Malware Testfile").
EICAR: Final = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}" + "$EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*").encode()

_THREAT: Final = "EICAR-Test-File (not a virus)"
_ENTRIES: Final = 10  # of one PutEvents
_PAUSE_SECONDS: Final = 1.0
_SHARE: Final = 20  # listing takes a part of the time at most, however many objects there are


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanPlan:
    """A Malware Protection plan of the template: new objects of `bucket` below one of the prefixes."""

    bucket: str
    prefixes: tuple[str, ...]

    @classmethod
    def read(cls, given: Properties) -> ScanPlan:
        """Raises TemplateError for a property that the scanner does not implement."""
        given.take("Role")
        resource = given.part("ProtectedResource")
        bucket = resource.part("S3Bucket")
        plan = cls(bucket=bucket.take("BucketName"), prefixes=tuple(bucket.take("ObjectPrefixes", [""])))
        for each in (bucket, resource, given):
            each.finish()
        if not plan.bucket:
            raise TemplateError(f"{given.owner}: a plan protects a bucket")
        return plan


@dataclass(slots=True, kw_only=True)
class Scanner:
    """One poller for all plans; see `pump._Poller`."""

    plans: tuple[ScanPlan, ...]
    s3: Client
    events: Client
    _seen: set[tuple[str, str, str]] = field(default_factory=set)

    def poll(self, pause: Callable[[float], bool] | None) -> int:
        """Scan what is new, and report it; returns how many objects that was."""
        began = time.monotonic()
        new = [found for found in self._objects() if found[0] not in self._seen]
        for start in range(0, len(new), _ENTRIES):
            batch = new[start : start + _ENTRIES]
            self.events.put_events(Entries=[self._report(place, at) for place, at in batch])
            self._seen.update(place for place, _ in batch)
        if pause is not None:
            pause(max(_PAUSE_SECONDS, _SHARE * (time.monotonic() - began)))
        return len(new)

    def _objects(self) -> Iterator[tuple[tuple[str, str, str], Any]]:
        """Bucket, key and ETag of every object, and when it was stored."""
        for plan in self.plans:
            for prefix in plan.prefixes:
                for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=plan.bucket, Prefix=prefix):
                    for each in page.get("Contents", []):
                        yield (plan.bucket, each["Key"], each["ETag"]), each["LastModified"]

    def _report(self, place: tuple[str, str, str], at: Any) -> dict[str, Any]:
        bucket, key, etag = place
        content: bytes = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        is_infected = EICAR in content
        result = {
            "scanResultStatus": "THREATS_FOUND" if is_infected else "NO_THREATS_FOUND",
            "threats": [{"name": _THREAT}] if is_infected else None,
        }
        detail = {
            "schemaVersion": "1.0",
            "scanStatus": "COMPLETED",
            "resourceType": "S3_OBJECT",
            "s3ObjectDetails": {"bucketName": bucket, "objectKey": key, "eTag": etag.strip('"'), "s3Throttled": False},
            "scanResultDetails": result,
        }
        return {"Source": SOURCE, "DetailType": DETAIL_TYPE, "Detail": json.dumps(detail), "Time": at}
