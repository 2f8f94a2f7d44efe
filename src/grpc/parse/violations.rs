//! What is wrong with a request, field by field.

/// Why a field is at fault, the gravest first: in another version of the protocol the other fields may mean other
/// things, and what is missing is found before what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FieldReason {
    /// The protocol's major version is not ours.
    InvalidApiVersion,
    /// Absent or empty.
    MissingRequiredField,
    /// Not allowed.
    InvalidFieldValue,
    /// Too far from the server's clock.
    RequestTimestampOutOfRange,
}

/// One field at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// The path, with the names of the proto file and indices from 0, such as `destinations[1].phone_number`.
    pub(crate) field: String,
    /// Why.
    pub(crate) reason: FieldReason,
    /// What it should be. Never what it is.
    pub(crate) description: String,
}

/// All fields at fault, in the order of the request. Kept short in words: a client may take no more than 8 KiB of
/// status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Violations(Vec<Violation>);

impl Violations {
    /// Notes a field.
    pub(crate) fn add(&mut self, field: impl Into<String>, reason: FieldReason, description: impl Into<String>) {
        self.0.push(Violation { field: field.into(), reason, description: description.into() });
    }

    /// Notes a required field that is absent or empty.
    pub(crate) fn missing(&mut self, field: impl Into<String>) {
        self.add(field, FieldReason::MissingRequiredField, "is required");
    }

    /// Notes a field whose value is not allowed.
    pub(crate) fn invalid(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.add(field, FieldReason::InvalidFieldValue, description);
    }

    /// The reason that stands for all of them.
    pub(crate) fn gravest(&self) -> FieldReason {
        self.0.iter().map(|violation| violation.reason).min().unwrap_or(FieldReason::InvalidFieldValue)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value, if nothing is at fault.
    pub(crate) fn or<T>(self, value: T) -> Result<T, Self> {
        if self.0.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl IntoIterator for Violations {
    type Item = Violation;
    type IntoIter = std::vec::IntoIter<Violation>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}
