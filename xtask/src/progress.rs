//! What is being done right now, on stderr: one line that changes on a terminal, plain lines elsewhere.

use std::cell::RefCell;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::ProgressBar;

/// Shows steps while it lives; what [`Progress::done`] said stays on the screen.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    /// What was begun last: trying again is not worth another line.
    last: RefCell<String>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, last: RefCell::default() }
    }

    /// Says what begins now.
    pub(crate) fn step(&self, message: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(message.to_owned()),
            None if *self.last.borrow() == message => {}
            None => eprintln!("{message}"),
        }
        message.clone_into(&mut self.last.borrow_mut());
    }

    /// Says how far the current step is: only on a terminal, where it replaces the line before.
    pub(crate) fn detail(&self, message: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(message);
        }
    }

    /// Says what is finished, or what the user should know.
    pub(crate) fn done(&self, message: &str) {
        match &self.bar {
            // Not `println`, which is silent where the bar is hidden.
            Some(bar) => bar.suspend(|| eprintln!("{message}")),
            None => eprintln!("{message}"),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
