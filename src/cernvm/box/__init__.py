"""The computer centre in a box: the rooms composed on one machine."""
