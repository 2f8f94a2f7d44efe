//! Compiles the contract.

fn main() {}
