//! The providers that there are. To add one: a file, and a line here.

pub mod console;
