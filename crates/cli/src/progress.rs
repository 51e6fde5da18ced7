//! A line on the terminal that shows how far a restore is.
