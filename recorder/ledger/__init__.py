"""The ledger, the series and the logs, and how records reach them: spool and collector."""
