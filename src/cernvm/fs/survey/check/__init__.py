"""Whether a repository's store holds what it says, whole and right.

Flow: `checking.check` → `roots` (manifest, whitelist, certificate, tags, reflog) → `tree` (each catalog once, by
`catalog`'s rules, then parents against children) → `objects` (is everything there, by listings; what is in it, if
asked) → `locating` (which paths need what is missing). Each `finding` is told as soon as it is known.
"""

from cernvm.fs.survey.check.checking import CheckOptions, Summary, check
from cernvm.fs.survey.check.finding import Finding

__all__ = ["CheckOptions", "Finding", "Summary", "check"]
