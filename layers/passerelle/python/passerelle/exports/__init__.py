"""The whole record of a person, handed out to the person (GDPR, articles 15 and 20)."""
