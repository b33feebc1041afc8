"""How well the patient index recognises people, beside Splink and recordlinkage on the same data (docs/matching.md)."""
