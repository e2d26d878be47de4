"""Who vouches for a record: keys, DSSE envelopes of in-toto statements, the policy of signers, the log of records.

`flows.tracking` signs what it writes, `flows.lineage` and `flows.promotion` verify. All cryptography is that of
securesystemslib and cryptography.
"""
