//! Checks on `metadata` that serde_json does not make.
