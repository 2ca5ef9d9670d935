//! `fuzz TARGET [libFuzzer's options and corpus folders]`: one process, one target, guided by coverage. `cargo x fuzz` calls it.

use std::ffi::CString;
use std::process::ExitCode;

// For what it links.
extern crate libfuzzer_sys as _;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let program = arguments.next().unwrap_or_default();
    let Some(target) = arguments.next().and_then(|name| fuzz::find(&name)) else {
        let names: Vec<&str> = fuzz::TARGETS.iter().map(|target| target.name).collect();
        eprintln!("usage: fuzz TARGET [OPTIONS] [FOLDERS]; targets: {}", names.join(" "));
        return ExitCode::FAILURE;
    };
    abort_on_panic();
    let words = std::iter::once(program).chain(arguments).map(CString::new);
    match words.collect::<Result<Vec<_>, _>>() {
        Ok(words) => libfuzzer::run(*target, &words),
        Err(_) => ExitCode::FAILURE,
    }
}

/// Also a panic that the code under test would contain is one to hear of; libFuzzer keeps the input of a process that aborts.
fn abort_on_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
}

#[expect(unsafe_code, reason = "libFuzzer's driver has a C interface")]
mod libfuzzer {
    use std::ffi::{CString, c_char, c_int};
    use std::process::ExitCode;
    use std::sync::OnceLock;

    use fuzz::Target;

    static TARGET: OnceLock<Target> = OnceLock::new();

    unsafe extern "C" {
        fn LLVMFuzzerRunDriver(
            argc: *mut c_int,
            argv: *mut *mut *mut c_char,
            callback: extern "C" fn(*const u8, usize) -> c_int,
        ) -> c_int;
    }

    extern "C" fn run_input(bytes: *const u8, length: usize) -> c_int {
        // SAFETY: libFuzzer gives `length` bytes that live as long as the call; a null pointer comes with no bytes only.
        let input = if length == 0 { &[] } else { unsafe { std::slice::from_raw_parts(bytes, length) } };
        if let Some(target) = TARGET.get() {
            (target.run)(input);
        }
        0
    }

    /// What libFuzzer's own `LLVMFuzzerTestOneInput` calls, which nothing calls here.
    #[unsafe(no_mangle)]
    extern "Rust" fn rust_fuzzer_test_input(_: &[u8]) -> i32 {
        0
    }

    pub(super) fn run(target: Target, words: &[CString]) -> ExitCode {
        TARGET.get_or_init(|| target);
        let Ok(mut count) = c_int::try_from(words.len()) else { return ExitCode::FAILURE };
        let mut pointers: Vec<*mut c_char> = words.iter().map(|word| word.as_ptr().cast_mut()).collect();
        pointers.push(std::ptr::null_mut());
        let mut argv = pointers.as_mut_ptr();
        // SAFETY: `argv` has `count` strings and a null pointer behind them, all of which outlive the call; libFuzzer copies the strings and
        // writes to none. The callback does not unwind: a panic aborts.
        let code = unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut argv, run_input) };
        if code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
