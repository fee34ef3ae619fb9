"""Job Ledger's views: folds of the log, kept in a disposable file, rebuilt at will."""
