//! What the program says when it cannot go on: one sentence, and at most one line of advice.

use std::fmt;

use walstream_engine::EngineError;
use walstream_storage::StorageError;

use crate::config::ConfigError;

/// Ends a command. `main` prints it on stderr and exits with 1.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CliError {
    message: String,
    advice: Option<Advice>,
}

/// The second line of an error.
#[derive(Debug)]
enum Advice {
    /// A command to type instead.
    Try(String),
    /// What to look at or change.
    Hint(String),
}

impl CliError {
    /// An error of one sentence.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        CliError { message: message.into(), advice: None }
    }

    /// Adds a command that would work.
    pub(crate) fn with_try(mut self, command: impl Into<String>) -> Self {
        self.advice = Some(Advice::Try(command.into()));
        self
    }

    /// Adds a hint.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.advice = Some(Advice::Hint(hint.into()));
        self
    }

    /// Adds "did you mean", if there is something near.
    pub(crate) fn with_suggestion(self, nearest: Option<impl fmt::Display>) -> Self {
        match nearest {
            Some(nearest) => self.with_hint(format!("did you mean {nearest}?")),
            None => self,
        }
    }

    /// The lines for stderr.
    pub(crate) fn report(&self) -> String {
        match &self.advice {
            None => format!("Error: {}", self.message),
            Some(Advice::Try(command)) => format!("Error: {}\nTry: {command}", self.message),
            Some(Advice::Hint(hint)) => format!("Error: {}\nHint: {hint}", self.message),
        }
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string();
        CliError { message, advice: error.hint.map(Advice::Hint) }
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        CliError::new(error.to_string())
    }
}

impl From<StorageError> for CliError {
    fn from(error: StorageError) -> Self {
        CliError::new(error.to_string())
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        CliError::new(format!("cannot write to stdout: {error}"))
    }
}

/// The known name that is nearest to what was typed, if it is near enough to be meant.
pub(crate) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = typed.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&typed, name), name))
        .filter(|(distance, name)| *distance <= name.len().max(typed.len()) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_sentence_and_one_line_of_advice() {
        let error = CliError::new("-o is required").with_try("walstream restore -o out.db URL");
        assert_eq!(error.report(), "Error: -o is required\nTry: walstream restore -o out.db URL");
    }

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = ["replicate", "restore", "databases", "ltx"];
        assert_eq!(nearest("restroe", known), Some("restore"));
        assert_eq!(nearest("Database", known), Some("databases"));
        assert_eq!(nearest("frobnicate-all", known), None);
        assert_eq!(nearest("x", known), None);
    }
}
