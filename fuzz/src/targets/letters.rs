//! Headers as `inbox.dead_letter` holds them: JSON that anybody with the database's password can change.

pub(super) fn run(input: &[u8]) {
    if let Ok(stored) = serde_json::from_slice(input) {
        inbox::fuzzing::check_stored_headers(&stored);
    }
}
