"""The conformance kit: tests of any server of IHE MHD, ANS PDSm and the DMP on FHIR, over HTTP. See README.md."""
