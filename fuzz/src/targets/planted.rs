//! A mistake on purpose, behind words that no one guesses: only a fuzzer that is told which branches it passes and what they compare finds it.
//! `cargo x fuzz planted` has to fail, and `cargo x fuzz` sees to it that it does.

/// Its name.
pub(super) const NAME: &str = "planted";

pub(super) fn run(input: &[u8]) {
    let Some((length, rest)) = input.split_first() else { return };
    let Some(rest) = rest.strip_prefix(b"planted:") else { return };
    let Some((number, rest)) = rest.split_first_chunk::<4>() else { return };
    let is_right = u32::from_be_bytes(*number) == 0x5eed_cafe && usize::from(*length) == rest.len();
    assert!(!(is_right && rest.len() > 2), "the planted mistake is found");
}
