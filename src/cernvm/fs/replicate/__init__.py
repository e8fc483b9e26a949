"""Replicas (stratum 1): a repository's objects copied, each verified before it is visible, and kept.

Flow: upstream (stratum 0, other replicas, peers; by `net`) → verified manifest → catalogs, deepest last → objects, many
in flight → `store` → root documents, the manifest last. A replica signs nothing: manifest and whitelist are the
publisher's bytes.
"""
