"""What a file was made from: bytes, code, params, machine and runs, joined and proved by content alone.

Every executed stage leaves a record (`flows.records`) with the hashes of all that it read and wrote. A chain
(`chain`) joins the records, or dvc.lock's entry where a record is missing, from a model back to the published
sources; `checks` computes each of its hashes again wherever a copy is kept.
"""
