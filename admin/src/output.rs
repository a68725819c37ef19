//! Printing, repeating, asking.

use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, bail};

/// Writes to stdout. Error: it is closed, which also ends a repetition.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("stdout")
}

/// Does something once, or every so many seconds until the process is ended; then a failure is told and the next round comes.
pub async fn every(
    seconds: Option<u64>,
    round: impl AsyncFn() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    loop {
        let done = round().await;
        let Some(seconds) = seconds else {
            return done;
        };
        match done {
            Err(e) if e.is::<std::io::Error>() => return Err(e),
            Err(e) => eprintln!("mqadmin: {e:#}"),
            Ok(()) => {}
        }
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

/// Asks on the terminal, unless `yes` has answered already.
///
/// # Errors
/// The answer is not yes, or there is no terminal.
pub fn confirm(question: &str, yes: bool) -> anyhow::Result<()> {
    let stdin = std::io::stdin();
    let terminal = stdin.is_terminal();
    confirm_from(question, yes, terminal.then(|| stdin.lock()))
}

fn confirm_from(question: &str, yes: bool, terminal: Option<impl BufRead>) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    let Some(mut terminal) = terminal else {
        bail!("{question} There is no terminal to ask on: -y says yes");
    };
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    terminal.read_line(&mut answer).context("terminal")?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => bail!("nothing was changed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clear_yes_counts() {
        for (typed, goes_on) in [
            ("y\n", true),
            (" YES \n", true),
            ("\n", false),
            ("", false),
            ("yn\n", false),
        ] {
            let done = confirm_from("Sure?", false, Some(typed.as_bytes()));
            assert_eq!(done.is_ok(), goes_on, "{typed:?}");
        }
        assert!(confirm_from("Sure?", true, None::<&[u8]>).is_ok());
        let refused = confirm_from("Sure?", false, None::<&[u8]>).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "Sure? There is no terminal to ask on: -y says yes"
        );
    }

    #[tokio::test]
    async fn once_means_once() {
        let rounds = std::cell::Cell::new(0);
        let failed = every(None, async || {
            rounds.set(rounds.get() + 1);
            bail!("no")
        });
        assert_eq!(failed.await.unwrap_err().to_string(), "no");
        assert_eq!(rounds.get(), 1);
    }
}
