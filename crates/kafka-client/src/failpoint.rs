//! What a kill point does in tests of whole processes.

/// Ends this process by `SIGKILL`: no destructor runs, nothing is flushed.
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
