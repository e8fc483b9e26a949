"""Several publishers of one repository: leases on paths, object packs, and commits that merge subtrees.

Values: lease, request, answer (the original's protocol). Flow: HTTP request → checked signature
→ lease book → payload into the store → commit: what changed below the lease is put into the current revision
(`publish`) → answer.
"""
