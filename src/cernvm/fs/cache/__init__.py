"""The client's quota-managed cache of verified objects."""
