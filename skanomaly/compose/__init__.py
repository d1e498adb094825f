"""Estimators around estimators; a public one stands in the file named after it."""
