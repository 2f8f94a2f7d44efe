//! How settings are read: values with their paths, and all mistakes kept for one report. Which settings there are is said by
//! `config`, and by each provider for its own.

pub mod mistake;
pub mod reader;
pub mod tree;
pub mod values;

pub use mistake::{Mistake, Mistakes};
pub use reader::{Ledger, Section};
