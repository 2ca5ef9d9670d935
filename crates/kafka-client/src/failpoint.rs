//! Named places at which a test of whole processes kills the process or takes a guard away. Nothing, unless the feature
//! `failpoints` is on.

/// Kills the process by `SIGKILL` when the failure point `name` is set to `return`.
#[cfg(feature = "failpoints")]
pub fn kill_point(name: &'static str) {
    fail::fail_point!(name, |_| kill_now());
}

/// Nothing: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
pub fn kill_point(_: &'static str) {}

/// Whether a harness has taken the guard `name` away, to see that this is noticed.
#[cfg(feature = "failpoints")]
#[must_use]
pub fn is_sabotaged(name: &'static str) -> bool {
    fail::fail_point!(name, |_| true);
    false
}

/// Never: the feature `failpoints` is off.
#[cfg(not(feature = "failpoints"))]
#[must_use]
pub fn is_sabotaged(_: &'static str) -> bool {
    false
}

/// Ends this process by `SIGKILL`: no destructor runs, nothing is flushed.
#[cfg(feature = "failpoints")]
#[expect(
    unsafe_code,
    reason = "a signal to the own process touches no memory, and std has no safe call for it"
)]
pub fn kill_now() {
    // SAFETY: `kill` and `getpid` take and return plain integers.
    unsafe {
        libc::kill(libc::getpid(), libc::SIGKILL);
    }
    // The signal is delivered before `kill` returns or shortly after, when another thread is chosen to take it.
    loop {
        std::thread::park();
    }
}
