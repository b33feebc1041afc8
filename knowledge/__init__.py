"""The compiler of the knowledge base on medicines: published sources in, one pinned artefact out.

E-prescription contract, section 20. It runs when the project is set up or released, never in a function: what the
functions read is `passerelle.medicines`. `docs/knowledge.md` says what comes from where, and what nobody has reviewed.
"""
