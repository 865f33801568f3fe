//! Runs a program for each job (to come).
