//! How settings are read: values with their paths, and all errors collected for one report. Which settings there are is
//! said in `config`, and by each provider for its own.

mod config_error;
mod diagnostics;
mod reader;
pub(crate) mod secret_file;
pub mod tree;
pub(crate) mod values;

pub use config_error::{ConfigError, ConfigErrors};
pub use diagnostics::Diagnostics;
pub use reader::Section;
