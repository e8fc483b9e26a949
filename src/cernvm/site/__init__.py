"""A site's own cloud: EC2-compatible API and metadata service over hypervisors.

Read the values first: `instance` (what an instance is, its states), `config` (what the site offers), `query` (what may
be asked), `xml` and `problems` (what is answered), `sigv4` (who asks). `state` remembers them in a database. Then the
flow of one instance: `api` takes the request, `actions` answers it from `state`, `lifecycle` brings what runs in line
with what is wanted through the port `hypervisor.port`, `metadata` tells an instance about itself. `serve` puts all of
it together.
"""
