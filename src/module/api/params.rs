//! The parameters of a call.

use serde_json::{Map, Value};

use super::ApiError;

/// No more is read, in bytes.
pub(super) const MAX_LEN: usize = 64 * 1024;

/// A JSON object that has been read, though not what is in it.
pub(super) struct Params(Map<String, Value>);

impl Params {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        if bytes.is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) => Err(ApiError::NotAnObject),
            Err(error) => Err(ApiError::NotJson { line: error.line(), column: error.column() }),
        }
    }

    /// None if it is missing, or null.
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    pub(super) fn text(&self, name: &'static str, wanted: &'static str) -> Result<&str, ApiError> {
        let value = self.get(name).ok_or(ApiError::Missing { name, wanted })?;
        value.as_str().filter(|text| !text.is_empty()).ok_or(ApiError::Malformed { name, wanted })
    }
}
