"""What runs inside an instance: boot, sources, plan, apply."""
