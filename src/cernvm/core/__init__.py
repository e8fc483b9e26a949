"""What every room shares: errors, digests, units, clock, home, locks, log, processes.

Values come in and go out; nothing here knows a repository, a cloud or a job.
Read `errors` first, then `digest`, `clock`, `home`, `lock`, `log`, `linux`, `process`.
"""
