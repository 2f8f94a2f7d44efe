//! One unambiguous byte string for a list of fields: input of MACs and of the code's PRF.

/// Collects fields, each with its length before it, so that no two lists of fields give the same bytes.
pub struct Canonical(Vec<u8>);

impl Canonical {
    /// Starts with what the bytes are for.
    pub fn new(purpose: &str) -> Self {
        // Most lists fit.
        Self(Vec::with_capacity(192)).bytes(purpose.as_bytes())
    }

    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        let length = u64::try_from(field.len()).unwrap_or(u64::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(field);
        self
    }

    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    #[must_use]
    pub fn number(self, field: u64) -> Self {
        self.bytes(&field.to_be_bytes())
    }

    /// Adds a field that may be absent: absent and empty differ.
    #[must_use]
    pub fn optional(self, field: Option<&[u8]>) -> Self {
        match field {
            Some(field) => self.number(1).bytes(field),
            None => self.number(0),
        }
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}
