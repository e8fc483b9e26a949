"""CernVM in Python: one small image, any cloud, software just in time.

The rooms, in reading order (imports go down `ARCHITECTURE.md`'s list, never up):

- `core`       errors, digests, units, clock, config, retry, log, processes
- `net`        fetching over HTTP through chains of proxies and mirrors
- `fs`         CernVM-FS: format, store, cache, reader, vfs, fuse, mount, publish
- `messaging`  the bus: XMPP, queued delivery
- `context`    templates and user-data
- `storage`    where outputs go
- `cloud`      one port, one driver per cloud API
- `guest`      what runs inside an instance
- `site`       a site's own cloud: EC2 API and metadata service over hypervisors
- `pilot`      Co-Pilot: job manager, agents
- `box`        the computer centre in a box: composes the rooms on one machine
- `cli`        the command `cvm`
"""
