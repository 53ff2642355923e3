//! What the tool is doing right now, on the terminal; nothing where there is none.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output;

/// A line with a spinner on standard error, gone when the work is done. Silent when standard error is no terminal, but for
/// [`Progress::say`].
pub struct Progress(ProgressBar);

impl Progress {
    /// Begins with what is being done.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::default_spinner());
        bar.set_message(message.into());
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    /// What is to be known even where there is no terminal: there it is written to standard error, a line each time.
    pub fn say(&self, message: String) {
        if self.0.is_hidden() {
            output::note(message);
        } else {
            self.0.set_message(message);
        }
    }

    /// What is being done now.
    pub fn update(&self, message: impl Into<String>) {
        self.0.set_message(message.into());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
