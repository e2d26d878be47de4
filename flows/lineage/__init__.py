"""Which bytes, code, settings, machine and runs made a file, told and proved by content alone.

Every executed stage leaves a record (`record`) with the hashes of all that it read and wrote. A chain (`chain`) joins
the records, and where one is missing dvc.lock's entry, from a model back to the published sources; `verify` computes
each of its hashes again wherever a copy is kept.
"""
