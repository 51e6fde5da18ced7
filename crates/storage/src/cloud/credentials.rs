//! Sources of temporary credentials: a metadata service, a token service, another program.
//!
//! Invariant: asking one takes seconds at most, and its silence is an error that a person understands.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::CredentialProvider;

/// How long a source of temporary credentials may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);

/// A source with a deadline and an error of its own.
#[derive(Debug)]
pub(crate) struct Guarded<C> {
    inner: Arc<dyn CredentialProvider<Credential = C>>,
    store: &'static str,
    failure: String,
}

impl<C> Guarded<C> {
    /// `failure` says what is missing and how to give it.
    pub(crate) fn new(
        inner: Arc<dyn CredentialProvider<Credential = C>>,
        store: &'static str,
        failure: String,
    ) -> Self {
        Guarded { inner, store, failure }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoCredentials(String);

#[async_trait]
impl<C: std::fmt::Debug + Send + Sync + 'static> CredentialProvider for Guarded<C> {
    type Credential = C;

    async fn get_credential(&self) -> object_store::Result<Arc<C>> {
        let cause = match tokio::time::timeout(ANSWER_WITHIN, self.inner.get_credential()).await {
            Ok(Ok(credential)) => return Ok(credential),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        tracing::debug!(cause, "{}", self.failure);
        let source = Box::new(NoCredentials(self.failure.clone()));
        Err(object_store::Error::Generic { store: self.store, source })
    }
}
