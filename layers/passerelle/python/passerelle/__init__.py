"""Passerelle: a health information exchange. Capabilities inside, FHIR, HTTP and AWS at the edge."""
