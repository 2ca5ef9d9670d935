//! What is seen while the demo runs, on stderr: bars on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Lines of a bar without a terminal: one for each tenth.
const PLAIN_STEPS: u64 = 10;

/// The terminal, or what takes its place.
#[derive(Debug, Clone)]
pub(super) struct Screen {
    bars: Option<MultiProgress>,
}

impl Screen {
    pub(super) fn new() -> Self {
        Self { bars: stderr().is_terminal().then(MultiProgress::new) }
    }

    /// Prints a line that stays.
    pub(super) fn line(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// Shows how far something with `total` parts is.
    pub(super) fn bar(&self, label: &'static str, total: u64) -> Bar {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new(total));
            let style =
                ProgressStyle::with_template("{msg:10} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.set_message(label);
            bar
        });
        Bar { bar, label, total, said: Mutex::new(0) }
    }

    /// Shows that something is waited for.
    pub(super) fn spinner(&self, label: &'static str) -> Bar {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let bar = Bar { bar, label, total: 0, said: Mutex::new(0) };
        bar.note("");
        bar
    }
}

/// One bar; gone from a terminal when dropped.
#[derive(Debug)]
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    label: &'static str,
    total: u64,
    /// Tenths said so far where there is no terminal.
    said: Mutex<u64>,
}

impl Bar {
    pub(super) fn set(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
            return;
        }
        let tenth = (position * PLAIN_STEPS).checked_div(self.total).unwrap_or(0);
        let mut said = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if tenth > *said {
            *said = tenth;
            eprintln!("{}: {position} of {}", self.label, self.total);
        }
    }

    /// What is waited for now; only on a terminal.
    pub(super) fn note(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{} {text}", self.label));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
