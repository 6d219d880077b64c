"""Credentials and private names: known by rule, found wherever a bundle holds text, and masked."""
