"""Callbacks: what the log owes receivers, sent until it is delivered or given up (contract 5)."""
