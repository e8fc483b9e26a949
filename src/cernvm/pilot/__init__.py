"""Co-Pilot: jobs, job manager, pilot agents."""
