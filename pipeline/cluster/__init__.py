"""Runs on a KFP server: submitting, scheduling and following them."""
