"""A site's own cloud: EC2-compatible API and metadata service over hypervisors."""
