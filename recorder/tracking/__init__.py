"""Keeping bundles in DVC: closed files enter its cache with the digests that were taken while they were written."""
