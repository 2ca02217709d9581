//! stub
/// stub
pub fn migrate_sqlite(_path: &std::path::Path) -> Result<(), super::StoreError> { todo!() }
