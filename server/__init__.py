"""Job Ledger's outside: the HTTP server and the command line."""
