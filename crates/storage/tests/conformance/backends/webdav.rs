//! WebDAV, on three servers: nginx, which knows the least of it, wsgidav, and rclone, which asks for a login.

use async_trait::async_trait;
use walstream_storage::{ReplicaConfig, Secret, WebDavConfig};
use walstream_test_support::WebDav;

use super::{Backend, PATH};

const NO_LOGIN: &str = "it asks for no login";
const TWO_STEPS: &str = "it looks for the name and then renames, so writers at the same moment may all win";
const NO_BUCKETS: &str = "a folder is made when it is first needed";

fn config(address: &str, path: &str, login: Option<(&str, &str)>) -> ReplicaConfig {
    ReplicaConfig::WebDav(WebDavConfig {
        url: Some(format!("http://{address}")),
        username: login.map(|(username, _)| username.to_owned()),
        password: login.map(|(_, password)| Secret::new(password)),
        path: Some(path.to_owned()),
    })
}

macro_rules! servers {
    ($($backend:ident: $start:ident, $name:literal, $not_shown:expr;)*) => {
        $(pub(crate) struct $backend(WebDav);

        #[async_trait]
        impl Backend for $backend {
            const NAME: &'static str = $name;
            const NOT_SHOWN: &'static [(&'static str, &'static str)] = $not_shown;

            async fn start() -> Self {
                $backend(WebDav::$start())
            }

            fn address(&self) -> String {
                self.0.address().to_owned()
            }

            fn config(&self, address: &str, path: &str) -> ReplicaConfig {
                config(address, path, self.0.login())
            }

            async fn plant(&self, name: &str, content: &[u8]) {
                self.0.put(&format!("{PATH}/{name}"), content);
            }

            fn with_wrong_credentials(&self) -> ReplicaConfig {
                config(self.0.address(), PATH, Some((WebDav::USERNAME, "wrong")))
            }

            async fn restart(&mut self) {
                self.0.restart();
            }
        })*
    };
}
servers! {
    DavNginx: nginx, "WebDAV (nginx)",
        &[("wrong_credentials_are_one_sentence", NO_LOGIN), ("a_missing_bucket_is_one_sentence", NO_BUCKETS)];
    DavWsgidav: wsgidav, "WebDAV (wsgidav)", &[
        ("of_eight_writers_at_once_one_wins", TWO_STEPS),
        ("wrong_credentials_are_one_sentence", NO_LOGIN),
        ("a_missing_bucket_is_one_sentence", NO_BUCKETS),
    ];
    DavRclone: rclone, "WebDAV (rclone)", &[("a_missing_bucket_is_one_sentence", NO_BUCKETS)];
}
