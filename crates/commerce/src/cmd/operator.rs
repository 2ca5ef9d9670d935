//! Who changes something, and why: what every audited change asks for on the command line.

use anyhow::Context;

/// Who and why; a dry run changes nothing and needs neither.
#[derive(Debug, clap::Args)]
pub(crate) struct OperatorArguments {
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    /// Who, for the audit
    #[arg(long, value_name = "NAME", env = "USER")]
    by: Option<String>,
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl OperatorArguments {
    /// Who acts and why, for the audit of a change that is made.
    ///
    /// # Errors
    /// Nobody is named; no name is made up.
    pub(crate) fn who_and_why(&self) -> anyhow::Result<(&str, &str)> {
        let by = self.by.as_deref().context("nobody is named: --by NAME")?;
        Ok((by, self.reason.as_deref().unwrap_or_default()))
    }
}
