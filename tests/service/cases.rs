//! Inputs that once went wrong, by the number of their row in the list of cases. Each is an example of its kind.

mod lockouts;
mod operators;
mod quotas;
