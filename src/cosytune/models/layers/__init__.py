"""Bricks that more than one part uses."""
